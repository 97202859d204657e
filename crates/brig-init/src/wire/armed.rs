//! ARMED: the first bytes that init writes on stdout.

use super::bytes::Reader;
use super::error::{Problem, WireError};
use crate::INIT_VERSION;

/// The length of ARMED in bytes.
pub const ARMED_LEN: usize = 20;

/// The first bytes of ARMED.
pub const ARMED_MAGIC: [u8; 8] = *b"BRIGARM\x01";

const FLAG_PID_1: u16 = 1;

/// Init is ready for its request. The layout is in the [module's documentation](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// The version of the wire format that this init speaks; see [`super::WIRE_VERSION`].
    pub wire_version: u32,
    /// The version of the init: major, minor, patch.
    pub init_version: [u16; 3],
    /// Whether it runs as PID 1, and so can kill everything in its PID namespace at once.
    pub is_pid_1: bool,
}

impl Armed {
    /// What an init built from this source announces.
    pub fn this(is_pid_1: bool) -> Armed {
        Armed { wire_version: super::WIRE_VERSION.into(), init_version: INIT_VERSION, is_pid_1 }
    }

    /// Encodes it.
    pub fn encode(&self) -> [u8; ARMED_LEN] {
        let mut bytes = [0; ARMED_LEN];
        bytes[..8].copy_from_slice(&ARMED_MAGIC);
        bytes[8..12].copy_from_slice(&self.wire_version.to_le_bytes());
        for (place, number) in bytes[12..18].chunks_exact_mut(2).zip(self.init_version) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let flags = if self.is_pid_1 { FLAG_PID_1 } else { 0 };
        bytes[18..].copy_from_slice(&flags.to_le_bytes());
        bytes
    }

    /// Decodes it. Any wire version is accepted here, so that the owner can say which one it met.
    ///
    /// # Errors
    /// When the magic bytes are missing, or an unknown flag is set in the owner's own version.
    pub fn decode(bytes: &[u8; ARMED_LEN]) -> Result<Armed, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.array("armed magic")? != ARMED_MAGIC {
            return Err(reader.error_before(8, "armed magic", Problem::Magic));
        }
        let wire_version = reader.u32("armed wire version")?;
        let mut init_version = [0; 3];
        for number in &mut init_version {
            *number = reader.u16("armed init version")?;
        }
        let flags = reader.u16("armed flags")?;
        if wire_version == u32::from(super::WIRE_VERSION) && flags & !FLAG_PID_1 != 0 {
            return Err(reader.error_before(2, "armed flags", Problem::Value(flags.into())));
        }
        reader.finish("armed")?;
        Ok(Armed { wire_version, init_version, is_pid_1: flags & FLAG_PID_1 != 0 })
    }
}

/// Finds ARMED at the beginning of a sandbox's stdout.
///
/// It is strict about the beginning: at that time nothing else can have written there, so other bytes mean that
/// something else than init was started, and this is known with the first byte that differs.
#[derive(Debug, Default)]
pub struct ArmedFinder {
    bytes: [u8; ARMED_LEN],
    filled: usize,
}

/// What [`ArmedFinder::push`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum ArmedScan<'a> {
    /// More bytes are needed.
    Waiting,
    /// Init is armed, and these bytes came after that (none, as long as it has no request).
    Armed(Armed, &'a [u8]),
    /// This is not init.
    Refused(WireError),
}

impl ArmedFinder {
    /// Begins at the first byte of the stream.
    pub fn new() -> ArmedFinder {
        ArmedFinder::default()
    }

    /// Takes the next bytes of the stream. To be called until it answers something else than
    /// [`ArmedScan::Waiting`].
    pub fn push<'a>(&mut self, chunk: &'a [u8]) -> ArmedScan<'a> {
        let wanted = chunk.len().min(ARMED_LEN - self.filled);
        let (head, rest) = chunk.split_at(wanted);
        self.bytes[self.filled..self.filled + wanted].copy_from_slice(head);
        self.filled += wanted;
        let magic = self.filled.min(ARMED_MAGIC.len());
        if self.bytes[..magic] != ARMED_MAGIC[..magic] {
            return ArmedScan::Refused(WireError { field: "armed magic", at: 0, problem: Problem::Magic });
        }
        if self.filled < ARMED_LEN {
            return ArmedScan::Waiting;
        }
        match Armed::decode(&self.bytes) {
            Ok(armed) => ArmedScan::Armed(armed, rest),
            Err(error) => ArmedScan::Refused(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armed_is_found_in_single_bytes_and_gives_back_what_follows() {
        let armed = Armed::this(true);
        let bytes = armed.encode();
        let mut finder = ArmedFinder::new();
        for byte in &bytes[..ARMED_LEN - 1] {
            assert_eq!(finder.push(std::slice::from_ref(byte)), ArmedScan::Waiting);
        }
        let mut tail = bytes[ARMED_LEN - 1..].to_vec();
        tail.extend_from_slice(b"more");
        assert_eq!(finder.push(&tail), ArmedScan::Armed(armed, b"more"));
    }

    #[test]
    fn another_program_is_refused_at_its_first_byte() {
        let mut finder = ArmedFinder::new();
        assert!(matches!(finder.push(b"h"), ArmedScan::Refused(_)));
    }

    #[test]
    fn a_later_wire_version_is_reported_as_such() {
        let later = Armed { wire_version: 7, ..Armed::this(false) };
        let mut bytes = later.encode();
        assert_eq!(Armed::decode(&bytes), Ok(later));
        bytes[8] = 1;
        bytes[18] = 2;
        assert_eq!(Armed::decode(&bytes).unwrap_err().problem, Problem::Value(2));
    }
}
