//! How brig exits, and how it says why.

use std::io::{self, Write as _};
use std::process::ExitCode;

use brig_core::problem::{Code, Problem};
use brig_core::proposal::{EndKind, RunEnd, Status};
use brig_core::visible;

use super::color::{self, Colour};
use crate::api::wire::{ErrorBody, ProposalRow};

/// Shown below the long help.
pub const HELP: &str = "\
Exit codes:
  0        done; for run, again and wait: the program exited with 0
  1        something went wrong, as the error says
  2        bad usage
  N        run, again and wait: the program's own status (128+N: it was ended by signal N)
  109      another supervisor has this state directory already
  110      the proposal was rejected
  111      nobody decided in time: expired
  112      the proposal was withdrawn
  113      the run was killed
  114      nobody knows how the run ended: lost
  115      the run's time was up
  116      the run wrote more than it may
  117      the run needed more memory than it may use
  118      no supervisor answers
  119      wait: not over yet when its own time was up
  141      whoever read the output has gone

  A program may exit with these numbers too. With --json the answer's status,
  verdict and end say for certain what happened, and an error is
  {\"error\": {\"code\": …, \"message\": …, \"help\": …}} on the standard output.

Variables:
  BRIG_CONFIG_DIR   brig.toml, profiles/ and themes/ (~/.config/brig)
  BRIG_STATE_DIR    the journal and the log (~/.local/state/brig)
  BRIG_RUNTIME_DIR  the sockets ($XDG_RUNTIME_DIR/brig)
  BRIG_AGENT_TOKEN  sent with what an agent asks
  BRIG_LOG          how much `brig serve` says: error, warn, info, debug, trace
  NO_COLOR          no colours; CLICOLOR_FORCE: colours to a pipe too (--color is stronger than both)";

/// What the process's end says.
///
/// The numbers from 109 to 119 are as free as numbers get: sysexits ends at 78, timeout(1), Docker and shells use 124 to
/// 127, signals begin at 129, and programs mostly stay below 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Done,
    /// Something went wrong.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// The run's own status.
    Program(u8),
    /// Another supervisor holds the state.
    AlreadyRunning,
    /// The operator or a rule said no.
    Rejected,
    /// Nobody said anything.
    Expired,
    /// It was taken back.
    Withdrawn,
    /// The run was killed.
    Killed,
    /// How the run ended is not known. Never a success.
    Lost,
    /// The run's time was up.
    Deadline,
    /// The run wrote too much.
    Output,
    /// The run needed too much memory.
    Memory,
    /// Nobody listens.
    NoSupervisor,
    /// It is not over yet.
    Pending,
    /// Nobody reads any more; 128 and SIGPIPE, as shells say it.
    Pipe,
}

impl Exit {
    /// Every one that has a number of its own.
    pub const DOCUMENTED: [Self; 15] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::AlreadyRunning,
        Self::Rejected,
        Self::Expired,
        Self::Withdrawn,
        Self::Killed,
        Self::Lost,
        Self::Deadline,
        Self::Output,
        Self::Memory,
        Self::NoSupervisor,
        Self::Pending,
        Self::Pipe,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Program(status) => status,
            Self::AlreadyRunning => 109,
            Self::Rejected => 110,
            Self::Expired => 111,
            Self::Withdrawn => 112,
            Self::Killed => 113,
            Self::Lost => 114,
            Self::Deadline => 115,
            Self::Output => 116,
            Self::Memory => 117,
            Self::NoSupervisor => 118,
            Self::Pending => 119,
            Self::Pipe => 141,
        }
    }

    /// What became of a proposal.
    #[must_use]
    pub fn of_proposal(row: &ProposalRow) -> Self {
        match row.status {
            Status::Rejected => Self::Rejected,
            Status::Expired => Self::Expired,
            Status::Withdrawn => Self::Withdrawn,
            Status::Finished => row.end.as_ref().map_or(Self::Lost, Self::of_end),
            Status::Arriving | Status::Waiting | Status::Approved | Status::Running => Self::Pending,
        }
    }

    fn of_end(end: &RunEnd) -> Self {
        match end.kind {
            EndKind::Exited => match (end.exit_code, end.signal) {
                // What a shell would say: the status is one byte, a signal is 128 and its number.
                (Some(status), _) => Self::Program(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
                (None, Some(signal)) => Self::Program(u8::try_from((128 + signal) & 0xff).unwrap_or(u8::MAX)),
                (None, None) => Self::Lost,
            },
            EndKind::Deadline => Self::Deadline,
            EndKind::Killed => Self::Killed,
            EndKind::Output => Self::Output,
            EndKind::Memory => Self::Memory,
            EndKind::Lost => Self::Lost,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ends before it is done.
#[derive(Debug)]
pub enum Stop {
    /// Something is wrong.
    Problem(Problem),
    /// The arguments are wrong in a way that the parser does not see.
    Usage(Problem),
    /// Nobody reads what is written: nothing to say, and nobody to say it to.
    Pipe,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// For writing to the standard output.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Pipe;
        }
        Self::Problem(Problem::new(Code::LocalIo, format!("cannot write the output: {error}")))
    }
}

/// Says why, and with which number it ends.
pub fn report(stop: Stop, json: bool) -> Exit {
    let (problem, exit) = match stop {
        Stop::Pipe => return Exit::Pipe,
        Stop::Usage(problem) => (problem, Exit::Usage),
        Stop::Problem(problem) => {
            let exit = match problem.code {
                Code::NoSupervisor => Exit::NoSupervisor,
                Code::AlreadyRunning => Exit::AlreadyRunning,
                _ => Exit::Failed,
            };
            (problem, exit)
        }
    };
    if json {
        let body = serde_json::to_string(&ErrorBody { error: problem }).unwrap_or_default();
        let _ = writeln!(io::stdout(), "{body}");
        return exit;
    }
    let error = if color::on_stderr() { Colour::Alarm.paint("error:") } else { "error:".to_owned() };
    let mut text = format!("brig: {error} {}\n", visible::line(problem.message.as_bytes()));
    if !problem.help.is_empty() {
        text.push_str(&format!("help: {}\n", visible::line(problem.help.as_bytes())));
    }
    let _ = io::stderr().write_all(text.as_bytes());
    exit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures;

    #[test]
    fn every_way_to_end_has_its_own_number() {
        let mut codes: Vec<u8> = Exit::DOCUMENTED.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Exit::DOCUMENTED.len());
    }

    #[test]
    fn a_proposals_end_is_the_exit() {
        let mut row = fixtures::proposal("a");
        for (status, exit) in [
            (Status::Rejected, Exit::Rejected),
            (Status::Expired, Exit::Expired),
            (Status::Withdrawn, Exit::Withdrawn),
            (Status::Running, Exit::Pending),
            (Status::Finished, Exit::Lost),
        ] {
            row.status = status;
            assert_eq!(Exit::of_proposal(&row), exit);
        }
        for (kind, status, signal, exit) in [
            (EndKind::Exited, Some(0), None, Exit::Program(0)),
            (EndKind::Exited, Some(3), None, Exit::Program(3)),
            (EndKind::Exited, None, Some(9), Exit::Program(137)),
            (EndKind::Exited, None, None, Exit::Lost),
            (EndKind::Killed, Some(0), None, Exit::Killed),
            (EndKind::Deadline, None, Some(9), Exit::Deadline),
            (EndKind::Output, None, None, Exit::Output),
            (EndKind::Memory, Some(0), None, Exit::Memory),
            (EndKind::Lost, Some(0), None, Exit::Lost),
        ] {
            row.end = Some(RunEnd { exit_code: status, signal, ..fixtures::end(kind) });
            assert_eq!(Exit::of_proposal(&row), exit, "{kind:?}");
        }
    }
}
