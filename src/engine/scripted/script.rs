//! What a sandbox is to do, act by act.

use std::time::Duration;

use brig_core::proposal::OutputStream;
use bytes::Bytes;

/// The life of one run: its acts in order, then an exit with 0 if none of them ended it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(super) acts: Vec<Act>,
    pub(super) ignores_cancel: bool,
    pub(super) ignores_deadline: bool,
}

/// One thing that a run does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes.
    Say(OutputStream, Bytes),
    /// Writes the same so many times, as fast as it is read.
    Flood(OutputStream, Bytes, u64),
    /// Writes the standard input that came with the request.
    Echo,
    /// Does nothing for a while.
    Wait(Duration),
    /// Does nothing until [`super::ScriptedEngine::open`] names this gate.
    Gate(&'static str),
    /// Does nothing, for ever.
    Hang,
    /// Writes what a program that guesses would write: fences on both streams that tell of an exit with this status,
    /// under a nonce of its own.
    Forge(i32),
    /// Writes a fence with the right nonce and a version that nobody knows.
    Garble,
    /// Ends the step that runs with this status, and begins the next one.
    NextStep(i32),
    /// Exits.
    Exit(i32),
    /// Is ended by a signal.
    Signal(i32),
    /// Cannot be started: the error's number and words.
    NotStarted(i32, String),
    /// Is ended for want of memory, and init lives to say so.
    OutOfMemory,
    /// The whole sandbox is ended for want of memory, which only the engine can tell.
    KernelKill,
    /// The whole sandbox ends without a word.
    Die,
}

impl Script {
    /// Acts, then an exit with 0.
    #[must_use]
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self { acts: acts.into_iter().collect(), ..Self::default() }
    }

    /// Writes this on the standard output and exits with 0.
    #[must_use]
    pub fn says(text: &str) -> Self {
        Self::new([Act::out(text)])
    }

    /// Goes on when it is told to stop, and when its owner is gone: only a kill ends it.
    #[must_use]
    pub fn ignoring_cancel(mut self) -> Self {
        self.ignores_cancel = true;
        self
    }

    /// Goes on when its time is up.
    #[must_use]
    pub fn ignoring_deadline(mut self) -> Self {
        self.ignores_deadline = true;
        self
    }
}

impl Act {
    /// Writes on the standard output.
    #[must_use]
    pub fn out(text: &str) -> Self {
        Self::Say(OutputStream::Stdout, Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Writes on the standard error.
    #[must_use]
    pub fn err(text: &str) -> Self {
        Self::Say(OutputStream::Stderr, Bytes::copy_from_slice(text.as_bytes()))
    }
}
