//! The header of a message from the owner, and the three messages that are nothing but a header.

use super::WIRE_VERSION;
use super::bytes::Reader;
use super::error::{Problem, WireError};

/// The length of a header in bytes.
pub const HEADER_LEN: usize = 12;

/// The largest body of a message in bytes: 64 MiB. What is bigger than that belongs into a mounted input.
pub const MAX_BODY: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"BRIG";

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Run this; the body is a [`super::Request`].
    Request = 1,
    /// Kill everything and report [`super::Why::Cancelled`].
    Cancel = 2,
    /// From now on the end of stdin does not mean that the owner is dead.
    End = 3,
    /// Say ARMED again, while there was no request yet.
    Ping = 4,
}

/// The first bytes of every message from the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub kind: Kind,
    /// The length of its body in bytes, at most [`MAX_BODY`], and 0 for everything but REQUEST.
    pub length: usize,
}

impl Header {
    /// Decodes a header.
    ///
    /// # Errors
    /// When any of its fields is not as version 1 has it.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.array("header magic")? != MAGIC {
            return Err(reader.error_before(4, "header magic", Problem::Magic));
        }
        let version = reader.u8("header version")?;
        if version != WIRE_VERSION {
            return Err(reader.error_before(1, "header version", Problem::Value(version.into())));
        }
        let kind = match reader.u8("header kind")? {
            1 => Kind::Request,
            2 => Kind::Cancel,
            3 => Kind::End,
            4 => Kind::Ping,
            other => {
                return Err(reader.error_before(1, "header kind", Problem::Value(other.into())));
            }
        };
        let reserved = reader.u16("header reserved")?;
        if reserved != 0 {
            return Err(reader.error_before(2, "header reserved", Problem::Value(reserved.into())));
        }
        let limit = if kind == Kind::Request { MAX_BODY } else { 0 };
        let length = reader.count(limit, "header length")?;
        reader.finish("header")?;
        Ok(Header { kind, length })
    }

    /// Encodes this header. A length above `u32::MAX` comes out as `u32::MAX`, which no decoder accepts.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = WIRE_VERSION;
        bytes[5] = self.kind as u8;
        bytes[8..].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        bytes
    }
}

/// The complete CANCEL message.
pub fn cancel() -> [u8; HEADER_LEN] {
    Header { kind: Kind::Cancel, length: 0 }.encode()
}

/// The complete END message.
pub fn end() -> [u8; HEADER_LEN] {
    Header { kind: Kind::End, length: 0 }.encode()
}

/// The complete PING message.
pub fn ping() -> [u8; HEADER_LEN] {
    Header { kind: Kind::Ping, length: 0 }.encode()
}
