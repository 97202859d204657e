//! How a run ended, before it is known what it has used.

use std::io;
use std::time::Duration;

use brig_init::wire::{How, StepEnd, Trailer, Why};

use crate::exec::Stage;
use crate::sys::Status;
use crate::usage::Usage;

/// The most bytes of a name in a message; with a call and a reason it stays below the wire format's limit.
const LONGEST_NAME: usize = 160;

/// The part of a [`Trailer`] that the run itself decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub how: How,
    pub why: Why,
    pub step: u32,
    pub steps: Vec<StepEnd>,
    pub message: Vec<u8>,
}

impl Outcome {
    /// Whether the step that this is about did anything else than exit with 0.
    pub fn has_failed(&self) -> bool {
        self.how != How::Exited(0)
    }

    /// With what was used.
    pub fn into_trailer(self, usage: Usage, wall: Duration) -> Trailer {
        Trailer {
            how: self.how,
            why: self.why,
            step: self.step,
            steps: self.steps,
            cpu_us: usage.cpu_us,
            peak_memory: usage.peak_memory,
            oom_kills: usage.oom_kills,
            wall_us: micros(wall),
            message: self.message,
        }
    }
}

/// A time in microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The status of a process that became the program.
pub fn how_it_ended(status: Status) -> How {
    match status {
        Status::Exited(status) => How::Exited(status),
        Status::Signalled(signal) => How::Signalled(signal),
    }
}

/// What to say of a process that never became the program.
pub fn explain(stage: Stage, program: &[u8], cwd: &[u8], errno: i32) -> Vec<u8> {
    match stage {
        Stage::Stdin => complain("dup2", b"stdin", errno),
        Stage::Rlimit => complain("setrlimit", b"", errno),
        Stage::Chdir => complain("chdir", cwd, errno),
        Stage::Execve => complain("execve", program, errno),
    }
}

/// What failed, with what, and why. A long name must not push the reason out of the message, so it is the name that
/// is cut.
pub fn complain(call: &str, name: &[u8], errno: i32) -> Vec<u8> {
    let space = if name.is_empty() { "" } else { " " };
    let name = &name[..name.len().min(LONGEST_NAME)];
    [call.as_bytes(), space.as_bytes(), name, b": ", describe(errno).as_bytes()].concat()
}

/// What an errno means, in words.
fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
