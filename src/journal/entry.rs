//! Entries between their two forms: the domain's and the table's.

use brig_core::id::ProposalId;
use brig_core::journal::Entry;
use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::proposal::{Decider, EndKind, OutputStream, VerdictKind};
use brig_core::time::Wall;
use bytes::Bytes;
use rusqlite::{Row, ToSql, types::FromSqlError};

use super::problems::Trouble;
use super::{Chunk, Recorded, history};

/// An entry ready to be written. Made by who records, so that the writer thread has less to do.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) at: Wall,
    pub(super) kind: &'static str,
    pub(super) proposal: Option<ProposalId>,
    pub(super) body: Vec<u8>,
    pub(super) effect: IndexEffect,
}

/// What an entry does to the index.
#[derive(Debug)]
pub(super) enum IndexEffect {
    Nothing,
    Opens { agent: String, key: Option<String>, draft_hash: Hash, profile: String, command: String, reason: String },
    Returns { command: String },
    Decides { verdict: VerdictKind, operator: Option<String> },
    Launches,
    Ends { kind: EndKind, killer: Option<String> },
}

impl Encoded {
    pub(super) fn new(at: Wall, entry: &Entry) -> Result<Self, Problem> {
        let body = entry.to_bytes().map_err(|error| {
            Problem::new(Code::Internal, format!("an entry of the journal cannot be written as JSON: {error}"))
        })?;
        let effect = IndexEffect::of(entry);
        Ok(Self { at, kind: kind(entry), proposal: entry.proposal().cloned(), body, effect })
    }

    /// What stands in for an entry while the journal is tried. It is never kept.
    pub(super) const fn probe() -> Self {
        Self { at: Wall(0), kind: "probe", proposal: None, body: Vec::new(), effect: IndexEffect::Nothing }
    }
}

impl IndexEffect {
    /// Whether nothing more comes of the proposal.
    pub(super) const fn closes(&self) -> bool {
        match self {
            Self::Ends { .. } => true,
            Self::Decides { verdict, .. } => !matches!(verdict, VerdictKind::Approved),
            Self::Nothing | Self::Opens { .. } | Self::Returns { .. } | Self::Launches => false,
        }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Proposed { agent, key, draft_hash, envelope, reason, .. } => Self::Opens {
                agent: agent.name.clone(),
                key: key.clone(),
                draft_hash: *draft_hash,
                profile: envelope.profile.clone(),
                command: history::command(envelope),
                reason: history::reason(reason),
            },
            Entry::Returned { envelope, .. } => Self::Returns { command: history::command(envelope) },
            Entry::Decided { verdict, .. } => {
                let operator = match &verdict.by {
                    Decider::Operator { name, .. } => Some(name.clone()),
                    Decider::Rule { .. } | Decider::Agent | Decider::Clock => None,
                };
                Self::Decides { verdict: verdict.kind, operator }
            }
            Entry::Launched { .. } => Self::Launches,
            Entry::Ended { end, .. } => Self::Ends { kind: end.kind, killer: end.by.clone() },
            Entry::Started { .. }
            | Entry::Gap { .. }
            | Entry::KillRequested { .. }
            | Entry::PoolOrdered { .. }
            | Entry::OutputPruned { .. }
            | Entry::JournalPruned { .. }
            | Entry::Stopped {} => Self::Nothing,
        }
    }
}

/// The kind as the body names it. It stands in a column of its own for those who look with other tools.
pub(super) const fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Started { .. } => "started",
        Entry::Gap { .. } => "gap",
        Entry::Proposed { .. } => "proposed",
        Entry::Returned { .. } => "returned",
        Entry::Decided { .. } => "decided",
        Entry::Launched { .. } => "launched",
        Entry::KillRequested { .. } => "kill-requested",
        Entry::PoolOrdered { .. } => "pool-ordered",
        Entry::Ended { .. } => "ended",
        Entry::OutputPruned { .. } => "output-pruned",
        Entry::JournalPruned { .. } => "journal-pruned",
        Entry::Stopped {} => "stopped",
    }
}

/// The columns that [`recorded`] reads, of a table `entries` that is called `e`.
pub(super) const COLUMNS: &str = "e.number, e.at, e.body, e.hash";

/// Reads a row of [`COLUMNS`].
pub(super) fn recorded(row: &Row<'_>) -> Result<Recorded, Trouble> {
    let number = unsigned(row, 0)?;
    let entry = Entry::from_bytes(blob(row, 2)?)
        .map_err(|error| Trouble::Entry { number, how: format!("it cannot be read: {error}") })?;
    let hash = hash(row, 3)?.ok_or_else(|| Trouble::Entry { number, how: "its hash is not 32 bytes".to_owned() })?;
    Ok(Recorded { number, at: Wall(row.get(1)?), entry, hash })
}

/// Reads `seq, at, stream, step, bytes`.
pub(super) fn chunk(row: &Row<'_>) -> Result<Chunk, Trouble> {
    let stream = stream_of(row.get(2)?)?;
    let bytes = Bytes::copy_from_slice(blob(row, 4)?);
    Ok(Chunk { seq: unsigned(row, 0)?, at: Wall(row.get(1)?), stream, step: row.get(3)?, bytes })
}

/// The bytes of a column, where SQLite has them.
pub(super) fn blob<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row [u8], Trouble> {
    Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}

/// The text of a column, or nothing where it is NULL.
pub(super) fn text<'row>(row: &'row Row<'_>, column: usize) -> Result<Option<&'row str>, Trouble> {
    Ok(row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?)
}

/// The hash in a column, or nothing when it has not the length of one.
pub(super) fn hash(row: &Row<'_>, column: usize) -> Result<Option<Hash>, Trouble> {
    Ok(blob(row, column)?.try_into().ok().map(Hash))
}

/// SQLite's numbers are signed: numbers of entries and chunks go there and back with the same 64 bits.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, Trouble> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// As [`unsigned`], the other way.
pub(super) fn signed(number: u64) -> impl ToSql {
    number.cast_signed()
}

/// The stream as the table has it, by the number of its file descriptor.
pub(super) const fn stream_number(stream: OutputStream) -> i64 {
    match stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    }
}

pub(super) fn stream_of(number: i64) -> Result<OutputStream, Trouble> {
    match number {
        1 => Ok(OutputStream::Stdout),
        2 => Ok(OutputStream::Stderr),
        other => Err(rusqlite::Error::from(FromSqlError::OutOfRange(other)).into()),
    }
}
