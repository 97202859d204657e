//! What can go wrong with the file, and what a person can do about it.

use std::path::Path;

use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use brig_core::retention::Limit;
use brig_core::time::Wall;
use chrono::{DateTime, Local};
use rusqlite::ErrorCode;

use crate::config::units::{duration_text, size_text};

/// A failure inside the journal, before it is known what it was in the way of.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite's.
    Sqlite(rusqlite::Error),
    /// An entry that does not say what it should.
    Entry {
        /// Which.
        number: u64,
        /// What is wrong with it.
        how: String,
    },
    /// What has a problem of its own: something that was removed, or that cannot be written as JSON.
    Problem(Problem),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Trouble {
    /// As the problem of who wanted to open the journal.
    pub(super) fn opening(self, path: &Path) -> Problem {
        self.problem(path, "opened")
    }

    /// As the problem of who wanted to read it.
    pub(super) fn reading(self, path: &Path) -> Problem {
        self.problem(path, "read")
    }

    /// As the problem of who wanted to write to it.
    pub(super) fn writing(self, path: &Path) -> Problem {
        self.problem(path, "written")
    }

    fn problem(self, path: &Path, done: &str) -> Problem {
        let path = path.display();
        match self {
            Self::Sqlite(error) => {
                let code = error.sqlite_error_code();
                Problem::new(Code::JournalFailed, format!("the journal {path} cannot be {done}: {error}"))
                    .help(advice(code))
            }
            Self::Problem(problem) => problem,
            Self::Entry { number, how } => {
                Problem::new(Code::JournalFailed, format!("entry {number} of the journal {path} is wrong: {how}"))
                    .help("run `brig audit verify`; move the file away to begin a new journal")
            }
        }
    }
}

const fn advice(code: Option<ErrorCode>) -> &'static str {
    match code {
        Some(ErrorCode::DiskFull) => "make room on its disk; the next record tries again",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "make the file, its directory and its disk writable for this user; the next record tries again"
        }
        Some(ErrorCode::CannotOpen) => "look at the permissions of the file and its directory",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged or not a journal; move the file away, with its -wal and -shm, to begin a new one"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program holds it; end that program",
        Some(ErrorCode::SystemIoFailure) => "look at the disk and the system's log; the next record tries again",
        _ => "the next record tries again; run `brig audit verify` if this stays",
    }
}

/// The journal was closed, or its thread has ended.
pub(super) fn closed() -> Problem {
    Problem::new(Code::JournalFailed, "the journal is closed").help("the supervisor is ending; start it again")
}

/// The file is a database of something else.
pub(super) fn foreign(path: &Path) -> Problem {
    Problem::new(Code::JournalFailed, format!("{} is not a journal of brig", path.display()))
        .help("move the file away to begin a new journal")
}

/// The file is of an earlier brig.
pub(super) fn older(path: &Path, version: i64, known: i64) -> Problem {
    let path = path.display();
    let message = format!("the journal {path} has version {version}, and this brig reads version {known} only");
    Problem::new(Code::JournalFailed, message)
        .help("move the file away to begin a new journal; the brig that wrote it can still verify and export it")
}

/// The file is of a later brig.
pub(super) fn newer(path: &Path, version: i64, known: i64) -> Problem {
    let path = path.display();
    let message = format!("the journal {path} has version {version}, and this brig knows versions up to {known}");
    Problem::new(Code::JournalFailed, message).help("use the newer brig that wrote it, or move the file away")
}

/// A file or directory cannot be made or read.
pub(super) fn local_io(what: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(Code::LocalIo, format!("cannot {what} {}: {error}", path.display()))
        .help("look at the permissions of the directory and the room on its disk")
}

/// An entry would break a rule of the index. Nobody but brig makes entries, so brig is wrong.
pub(super) fn refused(kind: &str, id: &ProposalId, rule: &str) -> Problem {
    Problem::new(Code::Internal, format!("`{kind}` of proposal {id} was not recorded: the journal {rule}"))
}

/// The output of a run was removed.
pub(super) fn output_pruned(id: &str, at: Wall, limit: &Limit) -> Problem {
    Problem::new(Code::Pruned, format!("the output of {id} was {}", removed(at, limit))).help(
        "its end, with the hashes of what it wrote, is kept: `brig show`; [retention] in brig.toml sets how much is",
    )
}

/// When and by which limit, as in `pruned on 2026-05-01 10:00 by the limit of 30d (output_age)`.
pub fn removed(at: Wall, limit: &Limit) -> String {
    let day = DateTime::from_timestamp_millis(at.0)
        .map_or_else(String::new, |at| at.with_timezone(&Local).format(" on %Y-%m-%d %H:%M").to_string());
    let limit = match limit {
        Limit::OutputAge { ms } => format!("{} (output_age)", duration_text(*ms)),
        Limit::OutputSize { bytes } => format!("{} (output_size)", size_text(*bytes)),
        Limit::JournalAge { ms } => format!("{} (journal_age)", duration_text(*ms)),
        Limit::JournalSize { bytes } => format!("{} (journal_size)", size_text(*bytes)),
    };
    format!("pruned{day} by the limit of {limit}")
}
