//! Why init itself gives up. How a *run* ended is never an error here: that goes into the fence.

use std::fmt;
use std::io;

use brig_init::exit;
use brig_init::wire::WireError;

/// What init exits for, without a fence.
#[derive(Debug)]
pub enum Fatal {
    /// It could not arm itself; what it was doing.
    Setup(&'static str, io::Error),
    /// Something else than a valid message came.
    Protocol(WireError),
    /// The end of stdin in a run, without END.
    OwnerGone,
    /// Nobody read a stream, or it could not be written.
    Undelivered(&'static str),
    /// Something did not die.
    Unkillable,
    /// An interpreter that was started in advance; which one, and what became of it.
    Interpreter(String),
}

impl Fatal {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Fatal::Setup(..) => exit::SETUP,
            Fatal::Protocol(_) => exit::PROTOCOL,
            Fatal::OwnerGone => exit::OWNER_GONE,
            Fatal::Undelivered(_) => exit::UNDELIVERED,
            Fatal::Unkillable => exit::UNKILLABLE,
            Fatal::Interpreter(_) => exit::INTERPRETER,
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Setup(what, error) => write!(f, "{what}: {error}"),
            Fatal::Protocol(error) => write!(f, "not a valid message on stdin: {error}"),
            Fatal::OwnerGone => f.write_str("the owner is gone"),
            Fatal::Undelivered(stream) => write!(f, "nobody reads {stream}"),
            Fatal::Interpreter(what) => write!(f, "the interpreter of {what}"),
            Fatal::Unkillable => f.write_str("a process does not die of SIGKILL"),
        }
    }
}
