//! Finding marks and the fence in a stream that a program, which knows nothing of them, wrote into before.

use super::fence::{FENCE_HEAD_LEN, Fence, Stream};
use super::mark::{MARK_LEN, SECRET_LEN, Secret, TAG_LEN};
use super::{NONCE_LEN, Nonce, WireError};

/// Finds the marks and the fence of one stream, in chunks of any size, without losing or reordering a byte of output.
///
/// Marks and fence begin with the same bytes, the tag. The search for it is Horspool's: it looks at about every 16th byte.
/// What follows a tag decides whether it is one of those that are still awaited; if it is none, all of it is output, and the
/// search goes on at the tag's second byte. So whoever has seen a mark, and with it the tag, can make nothing of it but
/// output.
///
/// Only bytes that might be the beginning of a mark or of the fence are held back: at most 31, or a fence of which a part is
/// still to come.
///
/// Where stdout and stderr are one pipe, the fence of stdout comes first: what [`Scan::rest`] gives after it goes to
/// a second finder, for stderr. The marks of stderr are output there.
#[derive(Debug)]
pub struct FenceFinder {
    nonce: Nonce,
    stream: Stream,
    /// The secrets of the marks that are awaited, with the step that each one begins; in their order.
    marks: Vec<(Secret, u32)>,
    /// For each byte, how far the search may move on when that byte stands under the end of the tag.
    skip: Box<[u8; 256]>,
    /// What might be a beginning, and is not yet output.
    held: Vec<u8>,
    /// What was held and is output after all: what the last scan points to.
    released: Vec<u8>,
    over: bool,
}

/// What one chunk came to, up to the first thing that was found in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan<'f, 'c> {
    /// The output that is now certain, in this order. The second is always a part of the pushed chunk, the first is
    /// what was held back before (at most 31 bytes, mostly none).
    pub output: [&'f [u8]; 2],
    /// What came after that output, if something was found.
    pub found: Option<Found>,
    /// What came after what was found. After a mark it has to be pushed again; once the fence was found it is the whole
    /// chunk each time.
    pub rest: &'c [u8],
}

/// What is found in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// What follows was written after this step, counted from 0, had begun, and everything before it earlier.
    Mark(u32),
    /// The end. An error means that the nonce was followed by something that is no fence: the init speaks another version,
    /// or the wrong stream was given.
    Fence(Result<Fence, WireError>),
}

/// What a stream ended with when it ended without a fence.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The bytes that were held back.
    pub bytes: Vec<u8>,
    /// Whether they begin with the whole nonce: then they are a fence that was cut off, rather than output.
    pub cut_fence: bool,
}

impl FenceFinder {
    /// A finder for the fence with this nonce on this stream, where no marks are written.
    pub fn new(nonce: Nonce, stream: Stream) -> FenceFinder {
        FenceFinder::with_marks(nonce, stream, &[])
    }

    /// A finder for the fence with this nonce on this stream, and for the marks with these secrets before it: the first
    /// begins step 1, as step 0 has none.
    pub fn with_marks(nonce: Nonce, stream: Stream, marks: &[[Secret; 2]]) -> FenceFinder {
        let mut skip = Box::new([TAG_LEN as u8; 256]);
        for (at, byte) in nonce[..TAG_LEN - 1].iter().enumerate() {
            skip[usize::from(*byte)] = (TAG_LEN - 1 - at) as u8;
        }
        let marks = marks.iter().zip(1..).map(|(pair, step)| (pair[stream.index()], step)).collect();
        FenceFinder { nonce, stream, marks, skip, held: Vec::new(), released: Vec::new(), over: false }
    }

    /// Whether the fence was found, or was broken.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes the next bytes of the stream.
    pub fn push<'f, 'c: 'f>(&'f mut self, chunk: &'c [u8]) -> Scan<'f, 'c> {
        if self.over {
            return Scan { output: [&[], &[]], found: None, rest: chunk };
        }
        let held = std::mem::take(&mut self.held);
        let joint;
        let bytes = if held.is_empty() {
            chunk
        } else {
            // It is rare, and what is held is short.
            joint = [&held, chunk].concat();
            &joint
        };
        let (certain, next) = self.search(bytes);
        self.released = held[..certain.min(held.len())].to_vec();
        let output = &chunk[..certain.saturating_sub(held.len())];
        let (found, rest) = match next {
            Next::Hold => {
                self.held = bytes[certain..].to_vec();
                (None, &[] as &[u8])
            }
            // Whatever is found ends in the chunk: were it all in what was held, it would have been found before.
            Next::Found(found, end) => (Some(found), &chunk[end.saturating_sub(held.len())..]),
        };
        match &found {
            // A stream's marks come in their order. One that is missing was taken away by a program that reads its own
            // output; those after it count all the same, and it does not count any more.
            Some(Found::Mark(step)) => self.marks.retain(|(_, awaited)| awaited > step),
            Some(Found::Fence(_)) => self.over = true,
            None => {}
        }
        Scan { output: [&self.released, output], found, rest }
    }

    /// The stream has ended: gives back what was held.
    pub fn finish(&mut self) -> Leftover {
        self.over = true;
        let bytes = std::mem::take(&mut self.held);
        Leftover { cut_fence: bytes.starts_with(&self.nonce), bytes }
    }

    /// How many of the bytes are certain to be output, and what comes after them.
    fn search(&self, bytes: &[u8]) -> (usize, Next) {
        let tag = &self.nonce[..TAG_LEN];
        let mut at = 0;
        loop {
            match self.find_tag(bytes, at) {
                Ok(start) => match self.judge(&bytes[start..]) {
                    Some(Judged::Awaited(found, length)) => return (start, Next::Found(found, start + length)),
                    Some(Judged::Unfinished) => return (start, Next::Hold),
                    None => at = start + 1,
                },
                Err(searched_to) => {
                    let tail = (searched_to..bytes.len()).find(|start| tag.starts_with(&bytes[*start..]));
                    return (tail.unwrap_or(bytes.len()), Next::Hold);
                }
            }
        }
    }

    /// Where the tag is from `at` on, or else the first place where it could still begin.
    fn find_tag(&self, bytes: &[u8], mut at: usize) -> Result<usize, usize> {
        while let Some(window) = bytes.get(at..at + TAG_LEN) {
            if *window == self.nonce[..TAG_LEN] {
                return Ok(at);
            }
            at += usize::from(self.skip[usize::from(window[TAG_LEN - 1])]);
        }
        Err(at.min(bytes.len()))
    }

    /// What bytes are that begin with the tag; nothing when they are output.
    fn judge(&self, bytes: &[u8]) -> Option<Judged> {
        let after = &bytes[TAG_LEN..];
        let Some(secret) = after.first_chunk::<SECRET_LEN>() else {
            let fence = &self.nonce[TAG_LEN..];
            let awaited = fence.starts_with(after) || self.marks.iter().any(|(secret, _)| secret.starts_with(after));
            return awaited.then_some(Judged::Unfinished);
        };
        if let Some((_, step)) = self.marks.iter().find(|(awaited, _)| awaited == secret) {
            return Some(Judged::Awaited(Found::Mark(*step), MARK_LEN));
        }
        (*secret == self.nonce[TAG_LEN..]).then(|| self.read_fence(&bytes[NONCE_LEN..]))
    }

    /// Reads the part of a fence that comes after the nonce.
    fn read_fence(&self, after: &[u8]) -> Judged {
        let Some(head) = after.first_chunk::<4>() else { return Judged::Unfinished };
        let (fence, length) = match Fence::decode_head(*head, self.stream) {
            Err(error) => (Err(error), FENCE_HEAD_LEN),
            Ok(length) => match after.get(4..4 + length) {
                Some(body) => (Fence::decode_body(body, self.stream), FENCE_HEAD_LEN + length),
                None => return Judged::Unfinished,
            },
        };
        Judged::Awaited(Found::Fence(fence), length)
    }
}

enum Next {
    /// Nothing more is found in these bytes, and the rest of them is to be held.
    Hold,
    /// This, which ends at this place of the bytes.
    Found(Found, usize),
}

enum Judged {
    /// It is one of those that are awaited, and this long.
    Awaited(Found, usize),
    /// It may be one, or is one of which a part is still to come.
    Unfinished,
}
