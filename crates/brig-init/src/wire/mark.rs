//! The mark: what init writes on each stream before each step but the first.

use super::Nonce;
use super::fence::Stream;

/// The length of what all marks and both fences of a run begin with, which tells nothing about what follows it.
pub const TAG_LEN: usize = 16;
/// The length of a [`Secret`].
pub const SECRET_LEN: usize = 16;
/// The length of a mark: the tag, which is the first half of the request's nonce, and the mark's own secret.
pub const MARK_LEN: usize = TAG_LEN + SECRET_LEN;

/// What makes a mark unforgeable: fresh random bytes for each boundary and stream, which only the owner and init know
/// until the mark is written. A program may be able to read its own output back (`/proc/self/fd/1` can often be opened
/// for reading), so the marks that were written tell nothing about those that follow, nor about the fence.
pub type Secret = [u8; SECRET_LEN];

/// The bytes of a mark.
pub fn mark(nonce: &Nonce, secret: &Secret) -> [u8; MARK_LEN] {
    let mut out = *nonce;
    out[TAG_LEN..].copy_from_slice(secret);
    out
}

impl Stream {
    /// Which of a pair of secrets is this stream's.
    pub(super) fn index(self) -> usize {
        match self {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        }
    }
}
