//! Reading fields off a byte slice, with the errors that say where, and writing them.

use super::error::{Problem, WireError};

/// Reads one field after another and remembers where it is.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// An error about the field that begins `back` bytes before the current position.
    pub(super) fn error_before(&self, back: usize, field: &'static str, problem: Problem) -> WireError {
        WireError { field, at: self.at - back, problem }
    }

    pub(super) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let left = self.bytes.len() - self.at;
        if length > left {
            return Err(self.error_before(0, field, Problem::Truncated(length - left)));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, WireError> {
        Ok(i32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count or length of at most `limit`.
    pub(super) fn count(&mut self, limit: usize, field: &'static str) -> Result<usize, WireError> {
        let count = self.u32(field)?;
        match usize::try_from(count) {
            Ok(count) if count <= limit => Ok(count),
            _ => {
                let problem = Problem::TooLong { length: u64::from(count), limit: limit as u64 };
                Err(self.error_before(4, field, problem))
            }
        }
    }

    /// Bytes of any value, preceded by their length.
    pub(super) fn blob(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = self.count(limit, field)?;
        self.take(length, field)
    }

    /// Bytes that the kernel will see as a string, preceded by their length.
    pub(super) fn string(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let string = self.blob(limit, field)?;
        if string.contains(&0) {
            return Err(self.error_before(string.len(), field, Problem::Nul));
        }
        Ok(string)
    }

    /// Says that nothing may be left.
    pub(super) fn finish(self, field: &'static str) -> Result<(), WireError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(self.error_before(0, field, Problem::Trailing(left))),
        }
    }
}

/// Appends bytes preceded by their length. A length above `u32::MAX` is written as `u32::MAX`, which every reader
/// refuses: encoders check their result by decoding it.
pub(super) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a count, with the same remark as for [`put_blob`].
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}
