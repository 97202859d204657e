//! The one binary encoding that everything hashed goes through: versioned, length-prefixed, without alternatives.
//!
//! A value has exactly one encoding, and no two values share one: every variable part is preceded by its length as a
//! 64-bit little-endian number, lists by their count, and the whole by a context name that also carries the version.

use crate::profile::Hash;

/// Builds an encoding.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Starts with the context, such as `brig-envelope-1`, which keeps encodings of different things apart.
    #[must_use]
    pub fn new(context: &[u8]) -> Self {
        let mut encoder = Self { bytes: Vec::new() };
        encoder.bytes(context);
        encoder
    }

    /// Bytes, preceded by their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u64(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Text, as its UTF-8 bytes.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A number, as eight bytes.
    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// A flag, as one byte.
    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.bytes.push(u8::from(flag));
        self
    }

    /// A part with its own length, so that a part that grows cannot be read as its neighbour.
    pub fn nested(&mut self, part: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self { bytes: Vec::new() };
        part(&mut inner);
        self.bytes(&inner.bytes)
    }

    /// What was built.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// The SHA-256 of what was built.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}
