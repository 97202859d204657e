//! The wire format between a sandbox's owner and its init, version 1.
//!
//! All integers are little-endian, everything of variable size is preceded by its length, everything is bytes rather
//! than text. Decoding is strict: sizes are bounded, bytes left over are an error, a NUL byte where the kernel would
//! end a string is an error. `tests/vectors/` holds committed examples.
//!
//! # Init to owner, on stdout: ARMED
//!
//! It is the first thing on stdout, and the answer to each PING; 20 bytes long ([`Armed`], found by [`ArmedFinder`]).
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 8 | `BRIGARM` and the byte 1 |
//! | 8 | 4 | version of the wire format |
//! | 12 | 2 + 2 + 2 | version of init: major, minor, patch |
//! | 18 | 2 | flags: bit 0 is set when init is PID 1; the others are 0 |
//!
//! # Owner to init, on stdin: messages
//!
//! First any number of PING, each of which init answers with ARMED: so its owner knows that it is there, and its
//! streams are. Then one REQUEST, then any number of CANCEL and END. None of them but REQUEST has a body. After END the end of stdin no longer
//! means that the owner is dead; without END it does, and init kills everything.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | `BRIG` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | kind: 1 REQUEST, 2 CANCEL, 3 END, 4 PING |
//! | 6 | 2 | reserved, 0 |
//! | 8 | 4 | length of the body that follows, at most [`MAX_BODY`] |
//!
//! The body of a REQUEST is described at [`Request`].
//!
//! # Init to owner, on both streams before each step but the first: the mark
//!
//! Where the request has secrets for marks, init writes one on stdout and then one on stderr when a step has ended and
//! before the next one begins: 16 bytes that all marks and both fences of a run begin with, and the mark's own 16 bytes
//! ([`mark`]). What a step left in the background lives on, so what it writes belongs to the step that is running then.
//!
//! # Init to owner, once a stream: the fence
//!
//! When everything that ran is dead, init writes a fence on stdout and then one on stderr. The two may be one and the
//! same pipe. See [`Fence`] for the layout, and [`FenceFinder`] for finding it.

mod armed;
mod bytes;
mod error;
mod fence;
mod finder;
mod header;
mod mark;
mod request;

pub use armed::{ARMED_LEN, ARMED_MAGIC, Armed, ArmedFinder, ArmedScan};
pub use error::{Problem, WireError};
pub use fence::{FENCE_HEAD_LEN, FENCE_MAX_LEN, Fence, How, MAX_MESSAGE, StepEnd, Stream, Trailer, Why};
pub use finder::{FenceFinder, Found, Leftover, Scan};
pub use header::{HEADER_LEN, Header, Kind, MAX_BODY, cancel, end, ping};
pub use mark::{MARK_LEN, SECRET_LEN, Secret, TAG_LEN, mark};
pub use request::{
    Code, File, MAX_ARGS, MAX_DEADLINE_MS, MAX_ENV, MAX_FILES, MAX_PATH, MAX_STEPS, Request, Resource, Rlimit, Step,
};

/// The version of the wire format that this library speaks.
pub const WIRE_VERSION: u8 = 1;

/// The length of a [`Nonce`] in bytes.
pub const NONCE_LEN: usize = 32;

/// What makes a fence unforgeable: fresh random bytes for each run, which only the owner and init know. The first
/// [`TAG_LEN`] of them are in each mark as well.
pub type Nonce = [u8; NONCE_LEN];

#[cfg(test)]
mod vectors;
