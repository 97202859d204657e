//! Finding a fence in a stream that a program, which knows nothing of it, wrote into before.

use super::fence::{FENCE_HEAD_LEN, FENCE_MAX_LEN, Fence, Stream};
use super::{NONCE_LEN, Nonce, WireError};

/// Finds the fence of one stream, in chunks of any size, without losing, reordering or copying a byte of output.
///
/// It holds back only bytes that might be the beginning of the nonce. Since those are equal to the nonce's own first
/// bytes, it keeps their number and never a copy. The search is Horspool's: it looks at about every 32nd byte.
///
/// Where stdout and stderr are one pipe, the fence of stdout comes first: what [`Scan::rest`] gives after it goes to
/// a second finder, for stderr.
#[derive(Debug)]
pub struct FenceFinder {
    nonce: Nonce,
    stream: Stream,
    /// For each byte, how far the search may move on when that byte stands under the end of the nonce.
    skip: Box<[u8; 256]>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The last bytes that were pushed, this many, are the first of the nonce.
    Searching(usize),
    /// The nonce was found; this is what came after it, up to the end of the fence.
    Reading(Vec<u8>),
    /// The fence was found, or was broken.
    Over,
}

/// What one chunk came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The output that is now certain, in this order. The second is always a part of the pushed chunk, the first is
    /// what was held back before (at most 31 bytes, mostly none).
    pub output: [&'a [u8]; 2],
    /// The fence, in the one scan which completed it. An error means that the nonce was followed by something that
    /// is no fence: the init speaks another version, or the wrong stream was given.
    pub fence: Option<Result<Fence, WireError>>,
    /// What came after the fence; in later scans this is the whole chunk.
    pub rest: &'a [u8],
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
    /// A finder for the fence with this nonce on this stream.
    pub fn new(nonce: Nonce, stream: Stream) -> FenceFinder {
        let mut skip = Box::new([NONCE_LEN as u8; 256]);
        for (at, byte) in nonce[..NONCE_LEN - 1].iter().enumerate() {
            skip[usize::from(*byte)] = (NONCE_LEN - 1 - at) as u8;
        }
        FenceFinder { nonce, stream, skip, state: State::Searching(0) }
    }

    /// Whether the fence was found, or was broken.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes the next bytes of the stream.
    pub fn push<'a>(&'a mut self, chunk: &'a [u8]) -> Scan<'a> {
        let none: &[u8] = &[];
        match self.state {
            State::Over => Scan { output: [none, none], fence: None, rest: chunk },
            State::Reading(_) => {
                let (fence, rest) = self.read(chunk);
                Scan { output: [none, none], fence, rest }
            }
            State::Searching(held) => {
                let (certain, next) = self.search(held, chunk);
                // What is certain is a beginning of the held bytes and the chunk, taken as one.
                let from_chunk = certain.saturating_sub(held);
                let output = (certain.min(held), &chunk[..from_chunk]);
                let (fence, rest) = match next {
                    Next::Hold(bytes) => {
                        self.state = State::Searching(bytes);
                        (None, none)
                    }
                    Next::Read(from) => {
                        self.state = State::Reading(Vec::with_capacity(FENCE_MAX_LEN));
                        self.read(&chunk[from..])
                    }
                };
                Scan { output: [&self.nonce[..output.0], output.1], fence, rest }
            }
        }
    }

    /// The stream has ended: gives back what was held.
    pub fn finish(&mut self) -> Leftover {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Searching(held) => Leftover { bytes: self.nonce[..held].to_vec(), cut_fence: false },
            State::Reading(after) => Leftover { bytes: [&self.nonce[..], &after].concat(), cut_fence: true },
            State::Over => Leftover { bytes: Vec::new(), cut_fence: false },
        }
    }

    /// How many of the held bytes and the chunk's, taken as one, are certain to be output, and what comes after.
    fn search(&self, held: usize, chunk: &[u8]) -> (usize, Next) {
        // First what begins in the held bytes: they are a beginning of the nonce, so whether one of their endings is
        // another beginning is a question about the nonce alone.
        for start in 0..held {
            let kept = held - start;
            if self.nonce[start..held] != self.nonce[..kept] {
                continue;
            }
            let needed = &self.nonce[kept..];
            let compared = needed.len().min(chunk.len());
            if needed[..compared] == chunk[..compared] {
                let whole = compared == needed.len();
                return (start, if whole { Next::Read(compared) } else { Next::Hold(kept + compared) });
            }
        }
        let at = match self.find(chunk) {
            Ok(at) => return (held + at, Next::Read(at + NONCE_LEN)),
            Err(searched_to) => searched_to,
        };
        let tail = (at..chunk.len()).find(|start| self.nonce.starts_with(&chunk[*start..])).unwrap_or(chunk.len());
        (held + tail, Next::Hold(chunk.len() - tail))
    }

    /// Where the nonce is in the chunk, or else the first place where it could still begin.
    fn find(&self, chunk: &[u8]) -> Result<usize, usize> {
        let mut at = 0;
        while let Some(window) = chunk.get(at..at + NONCE_LEN) {
            if *window == self.nonce {
                return Ok(at);
            }
            at += usize::from(self.skip[usize::from(window[NONCE_LEN - 1])]);
        }
        Err(at.min(chunk.len()))
    }

    /// Reads the part of the fence that comes after the nonce.
    fn read<'a>(&mut self, mut chunk: &'a [u8]) -> (Option<Result<Fence, WireError>>, &'a [u8]) {
        let State::Reading(read) = &mut self.state else {
            return (None, chunk);
        };
        let head_rest = FENCE_HEAD_LEN - NONCE_LEN;
        fill(read, head_rest, &mut chunk);
        let Some(head) = read.first_chunk::<4>() else {
            return (None, chunk);
        };
        let fence = match Fence::decode_head(*head, self.stream) {
            Err(error) => Err(error),
            Ok(length) => {
                fill(read, head_rest + length, &mut chunk);
                if read.len() < head_rest + length {
                    return (None, chunk);
                }
                Fence::decode_body(&read[head_rest..], self.stream)
            }
        };
        self.state = State::Over;
        (Some(fence), chunk)
    }
}

enum Next {
    /// Nothing more is in this chunk, and this many of the last bytes are to be held.
    Hold(usize),
    /// The nonce ended at this place of the chunk.
    Read(usize),
}

/// Moves bytes from the chunk until there are as many as wanted.
fn fill(read: &mut Vec<u8>, wanted: usize, chunk: &mut &[u8]) {
    let (head, rest) = chunk.split_at(wanted.saturating_sub(read.len()).min(chunk.len()));
    read.extend_from_slice(head);
    *chunk = rest;
}
