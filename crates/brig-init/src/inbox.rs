//! Messages from the owner, read off stdin in whatever pieces they arrive.

use std::io::ErrorKind;
use std::os::fd::RawFd;

use brig_init::wire::{HEADER_LEN, Header, Kind, Problem, WireError};

use crate::fatal::Fatal;
use crate::sys;

/// Reads messages, and knows what the end of stdin means.
///
/// It reads no byte further than the message at hand, and only once for each time that stdin is ready: so it never
/// blocks, whether the descriptor is a blocking one or not.
pub struct Inbox {
    header: [u8; HEADER_LEN],
    header_filled: usize,
    body: Vec<u8>,
    body_filled: usize,
    /// Whether the request has come: from then on there may only be CANCEL and END, and before it only PING.
    running: bool,
    /// Whether the owner said END.
    released: bool,
    /// Whether stdin has ended.
    closed: bool,
}

/// What the owner said in one read.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// No complete message.
    Nothing,
    /// The body of the request.
    Request(Vec<u8>),
    /// Kill everything.
    Cancel,
    /// Say that you are there.
    Ping,
    /// The end of stdin, at a time when that is in order.
    Goodbye,
}

impl Inbox {
    /// Nothing has come so far.
    pub fn new() -> Inbox {
        Inbox {
            header: [0; HEADER_LEN],
            header_filled: 0,
            body: Vec::new(),
            body_filled: 0,
            running: false,
            released: false,
            closed: false,
        }
    }

    /// The descriptor to wait for; a negative one when there is nothing to wait for any more.
    pub fn fd(&self) -> RawFd {
        if self.closed { -1 } else { sys::STDIN }
    }

    /// The descriptor to watch while writing: before the request there is none, as what is read then must not be lost.
    pub fn fd_in_a_run(&self) -> RawFd {
        if self.running { self.fd() } else { -1 }
    }

    /// Reads once. To be called when stdin is ready.
    pub fn listen(&mut self) -> Result<Heard, Fatal> {
        let in_body = self.header_filled == HEADER_LEN;
        let (buffer, filled) = if in_body {
            (self.body.as_mut_slice(), &mut self.body_filled)
        } else {
            (self.header.as_mut_slice(), &mut self.header_filled)
        };
        match sys::read(sys::STDIN, &mut buffer[*filled..]) {
            Ok(0) => return self.ended(),
            Ok(count) => *filled += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Heard::Nothing);
            }
            // A connection that was reset has ended too.
            Err(_) => return self.ended(),
        }
        if !in_body && self.header_filled == HEADER_LEN {
            let header = Header::decode(&self.header).map_err(Fatal::Protocol)?;
            self.check_order(header.kind)?;
            // Zeroed memory of this size comes from the kernel page by page as it is written, not all at once.
            self.body = vec![0; header.length];
            self.body_filled = 0;
        }
        if self.header_filled == HEADER_LEN && self.body_filled == self.body.len() {
            return self.complete();
        }
        Ok(Heard::Nothing)
    }

    fn check_order(&self, kind: Kind) -> Result<(), Fatal> {
        if matches!(kind, Kind::Request | Kind::Ping) != self.running {
            return Ok(());
        }
        let problem = Problem::Value(kind as u64);
        Err(Fatal::Protocol(WireError { field: "header kind", at: 5, problem }))
    }

    fn complete(&mut self) -> Result<Heard, Fatal> {
        let kind = Header::decode(&self.header).map_err(Fatal::Protocol)?.kind;
        self.header_filled = 0;
        self.running |= kind != Kind::Ping;
        Ok(match kind {
            Kind::Ping => Heard::Ping,
            Kind::Request => Heard::Request(std::mem::take(&mut self.body)),
            Kind::Cancel => Heard::Cancel,
            Kind::End => {
                self.released = true;
                Heard::Nothing
            }
        })
    }

    fn ended(&mut self) -> Result<Heard, Fatal> {
        self.closed = true;
        if self.running && !self.released {
            return Err(Fatal::OwnerGone);
        }
        if self.header_filled > 0 {
            let missing = HEADER_LEN - self.header_filled + self.body.len() - self.body_filled;
            let problem = Problem::Truncated(missing);
            return Err(Fatal::Protocol(WireError { field: "message", at: self.header_filled, problem }));
        }
        Ok(Heard::Goodbye)
    }
}
