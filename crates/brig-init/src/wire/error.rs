//! What can be wrong with bytes on the wire.

use std::error::Error;
use std::fmt;

/// Something on the wire is not as version 1 of the format has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// The field that is wrong, such as `step argv`.
    pub field: &'static str,
    /// Where it begins: bytes from the beginning of the header, body or fence it is in.
    pub at: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The bytes end before the field does; this many more were needed.
    Truncated(usize),
    /// This many bytes are left after the last field.
    Trailing(usize),
    /// The length or count is above the limit.
    TooLong {
        /// The length or count that was said.
        length: u64,
        /// The largest that is allowed.
        limit: u64,
    },
    /// A NUL byte, where the kernel would end the string.
    Nul,
    /// Nothing, where there must be something.
    Empty,
    /// The value is none of those that the format knows.
    Value(u64),
    /// The same thing is there twice.
    Duplicate,
    /// Not an absolute path.
    NotAbsolute,
    /// The path has a `..` in it or ends in a slash, so that it does not plainly name a file below its beginning.
    NotPlain,
    /// The name of an environment variable has a `=` in it.
    EqualsSign,
    /// The magic bytes are not there.
    Magic,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: ", self.field, self.at)?;
        match self.problem {
            Problem::Truncated(more) => write!(f, "ends {more} bytes too early"),
            Problem::Trailing(bytes) => write!(f, "{bytes} bytes left over"),
            Problem::TooLong { length, limit } => {
                write!(f, "{length} is more than the limit of {limit}")
            }
            Problem::Nul => f.write_str("has a NUL byte in it"),
            Problem::Empty => f.write_str("is empty"),
            Problem::Value(value) => write!(f, "{value} is not a value of this field"),
            Problem::Duplicate => f.write_str("is there twice"),
            Problem::NotAbsolute => f.write_str("is not an absolute path"),
            Problem::NotPlain => f.write_str("has `..` in it, or names no file"),
            Problem::EqualsSign => f.write_str("has a `=` in it"),
            Problem::Magic => f.write_str("is not what brig sends"),
        }
    }
}

impl Error for WireError {}
