//! Walks the chain, the output and the index, and says where they stop fitting together.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use brig_core::id::ProposalId;
use brig_core::journal::{Entry, GENESIS, link};
use brig_core::profile::Hash;
use brig_core::proposal::{OutputStream, OutputSummary, StepEnd};
use brig_core::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Row};
use sha2::{Digest as _, Sha256};

use super::entry::{self, IndexEffect};
use super::problems::Trouble;
use super::recovery;

/// Entries, and bytes of entries and output, after which the reading lets go of its view of the file, so that the log
/// can be checkpointed meanwhile.
const SLICE_ENTRIES: u64 = 256;
const SLICE_BYTES: u64 = 8 << 20;

/// What was found in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries that fit; all of them where there is no fault.
    pub entries: u64,
    /// Bytes of these entries.
    pub entry_bytes: u64,
    /// Runs among them that have ended, and whose output fits.
    pub runs: u64,
    /// Bytes of the output of these runs.
    pub output_bytes: u64,
    /// The hash of the last entry that fits. Kept somewhere else, it proves later that the journal up to here is still
    /// the same.
    pub head: Hash,
    /// The first thing that is wrong, or nothing.
    pub fault: Option<Fault>,
}

/// Something in a journal that is not as brig wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first entry that is wrong; for output that belongs to no entry, nothing.
    pub number: Option<u64>,
    /// The proposal that it is about, where that is known.
    pub proposal: Option<ProposalId>,
    /// What is wrong, as a sentence without a full stop.
    pub how: String,
}

/// See [`super::Reader::verify`].
pub(super) fn verify(connection: &Connection) -> Result<Verified, Trouble> {
    let mut walk = Walk { connection, end: last_number(connection)?, opened: 0, closed: 0, found: Verified::empty() };
    while walk.found.fault.is_none() && walk.found.entries < walk.end {
        walk.slice()?;
    }
    if walk.found.fault.is_none() {
        walk.found.fault = walk.left_over()?;
    }
    Ok(walk.found)
}

/// The number of the last entry, 0 when there is none.
pub(super) fn last_number(connection: &Connection) -> Result<u64, Trouble> {
    let last = connection.query_row("SELECT max(number) FROM entries", [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

impl Verified {
    const fn empty() -> Self {
        Self { entries: 0, entry_bytes: 0, runs: 0, output_bytes: 0, head: GENESIS, fault: None }
    }
}

/// How far the walk has come. The number of entries that fit is the number of the last of them.
struct Walk<'c> {
    connection: &'c Connection,
    end: u64,
    opened: u64,
    closed: u64,
    found: Verified,
}

impl Walk<'_> {
    fn slice(&mut self) -> Result<(), Trouble> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(
            "SELECT number, at, kind, proposal, body, hash FROM entries WHERE number > ?1 AND number <= ?2
             ORDER BY number",
        )?;
        let (first, bytes) = (self.found.entries, self.found.entry_bytes + self.found.output_bytes);
        // At the very first slice whatever is numbered below 1 has to be seen too.
        let after = if first == 0 { i64::MIN } else { first.cast_signed() };
        let mut rows = statement.query((after, entry::signed(self.end)))?;
        while let Some(row) = rows.next()? {
            if let ControlFlow::Break(fault) = self.entry(row)? {
                self.found.fault = Some(fault);
                return Ok(());
            }
            let done = self.found.entries - first >= SLICE_ENTRIES;
            if done || self.found.entry_bytes + self.found.output_bytes - bytes >= SLICE_BYTES {
                return Ok(());
            }
        }
        if self.found.entries < self.end {
            // They were there when the walk began.
            self.found.fault = Some(Fault::at(self.found.entries + 1, "it is missing"));
        }
        Ok(())
    }

    fn entry(&mut self, row: &Row<'_>) -> Result<ControlFlow<Fault>, Trouble> {
        let expected = self.found.entries + 1;
        let number = row.get::<_, i64>(0)?;
        if number != expected.cast_signed() {
            let how = format!("it is missing: the next one there is entry {number}");
            return Ok(ControlFlow::Break(Fault::at(expected, how)));
        }
        let body = entry::blob(row, 4)?;
        let hash = link(&self.found.head, expected, Wall(row.get(1)?), body);
        if entry::hash(row, 5)? != Some(hash) {
            let how = "its hash does not fit it and the entry before it";
            return Ok(ControlFlow::Break(Fault::at(expected, how)));
        }
        let entry = match Entry::from_bytes(body) {
            Ok(entry) => entry,
            Err(error) => return Ok(ControlFlow::Break(Fault::at(expected, format!("it cannot be read: {error}")))),
        };
        let columns = (entry::text(row, 2)?, entry::text(row, 3)?);
        let wrong = if columns == (Some(entry::kind(&entry)), entry.proposal().map(|id| id.0.as_str())) {
            match self.index(expected, Wall(row.get(1)?), &entry)? {
                None => self.output(&entry)?,
                wrong => wrong,
            }
        } else {
            Some("its kind or proposal beside it is not the one in it".to_owned())
        };
        if let Some(how) = wrong {
            return Ok(ControlFlow::Break(Fault { number: Some(expected), proposal: entry.proposal().cloned(), how }));
        }
        self.found.entries = expected;
        self.found.entry_bytes += body.len() as u64;
        self.found.head = hash;
        Ok(ControlFlow::Continue(()))
    }

    /// What the index says wrongly of an entry.
    fn index(&mut self, number: u64, at: Wall, entry: &Entry) -> Result<Option<String>, Trouble> {
        let Some(id) = entry.proposal() else { return Ok(None) };
        let fits = match IndexEffect::of(entry) {
            IndexEffect::Nothing => return Ok(None),
            IndexEffect::Opens { agent, key, draft_hash } => {
                self.opened += 1;
                self.exists(
                    "SELECT 1 FROM proposals
                     WHERE id = ?1 AND first = ?2 AND at = ?3 AND agent = ?4 AND key IS ?5 AND draft_hash = ?6",
                    (&id.0, entry::signed(number), at.0, agent, key, &draft_hash.0[..]),
                )?
            }
            IndexEffect::Closes => {
                self.closed += 1;
                let sql = "SELECT 1 FROM proposals WHERE id = ?1 AND closed = ?2";
                self.exists(sql, (&id.0, entry::signed(number)))?
            }
        };
        Ok((!fits).then(|| "the index of proposals says something else".to_owned()))
    }

    /// What is wrong with the output of a proposal that an entry closes.
    fn output(&mut self, entry: &Entry) -> Result<Option<String>, Trouble> {
        match entry {
            Entry::Ended { id, end } => {
                let stored = Stored::of(self.connection, &id.0)?;
                let wrong = stored.differs_from(&end.output).or_else(|| stored.differs_from_steps(&end.steps));
                if wrong.is_none() {
                    self.found.runs += 1;
                    self.found.output_bytes += stored.stdout.bytes + stored.stderr.bytes;
                }
                Ok(wrong)
            }
            entry if entry.closes() => {
                let Some(id) = entry.proposal() else { return Ok(None) };
                let has_output = self.exists("SELECT 1 FROM output WHERE proposal = ?1", [&id.0])?;
                Ok(has_output.then(|| "there is output of it, but it never ran".to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn exists(&self, sql: &str, params: impl rusqlite::Params) -> Result<bool, Trouble> {
        Ok(self.connection.prepare_cached(sql)?.exists(params)?)
    }

    /// What is in the index or among the output that no entry accounts for.
    fn left_over(&self) -> Result<Option<Fault>, Trouble> {
        // One view of the file for all of it, and the last entry asked for again: a writer may have gone on.
        let _view = self.connection.unchecked_transaction()?;
        if let Some(number) = recovery::cut_after(self.connection, last_number(self.connection)?)? {
            return Ok(Some(Fault::at(number, "it is missing from the end: the index knows it")));
        }
        let count = |column: &str| -> Result<u64, Trouble> {
            let sql = format!("SELECT count(*) FROM proposals WHERE {column} <= ?1");
            Ok(self.connection.query_row(&sql, [entry::signed(self.end)], |row| row.get::<_, i64>(0))?.cast_unsigned())
        };
        if (count("first")?, count("closed")?) != (self.opened, self.closed) {
            let how = "the index of proposals has rows that no entry accounts for".to_owned();
            return Ok(Some(Fault { number: None, proposal: None, how }));
        }
        let mut orphan = self.connection.prepare(
            "SELECT proposal FROM (SELECT DISTINCT proposal FROM output) o
             WHERE NOT EXISTS (SELECT 1 FROM proposals p WHERE p.id = o.proposal) LIMIT 1",
        )?;
        let orphan: Option<String> = orphan.query_row([], |row| row.get(0)).optional()?;
        Ok(orphan.map(|id| Fault {
            number: None,
            how: format!("there is output of {id}, which was never proposed"),
            proposal: Some(ProposalId(id)),
        }))
    }
}

impl Fault {
    fn at(number: u64, how: impl Into<String>) -> Self {
        Self { number: Some(number), proposal: None, how: how.into() }
    }
}

/// What is kept of a run's output.
pub(super) struct Stored {
    stdout: Stream,
    stderr: Stream,
    /// The first chunk that is missing, or that is of no stream.
    misplaced: Option<u64>,
}

#[derive(Default)]
struct Stream {
    bytes: u64,
    hash: Sha256,
    /// Bytes of each step that has any.
    steps: BTreeMap<u32, u64>,
}

impl Stored {
    pub(super) fn of(connection: &Connection, id: &str) -> Result<Self, Trouble> {
        let mut statement = connection
            .prepare_cached("SELECT seq, stream, step, bytes FROM output WHERE proposal = ?1 ORDER BY seq")?;
        let mut rows = statement.query([id])?;
        let mut stored = Self { stdout: Stream::default(), stderr: Stream::default(), misplaced: None };
        let mut next = 0;
        while let Some(row) = rows.next()? {
            let stream = entry::stream_of(row.get(1)?);
            if (row.get::<_, i64>(0)? != next || stream.is_err()) && stored.misplaced.is_none() {
                stored.misplaced = Some(next.cast_unsigned());
            }
            next += 1;
            let bytes = entry::blob(row, 3)?;
            let step: u32 = row.get(2)?;
            let stream = match stream {
                Ok(OutputStream::Stdout) => &mut stored.stdout,
                Ok(OutputStream::Stderr) => &mut stored.stderr,
                Err(_) => continue,
            };
            stream.bytes += bytes.len() as u64;
            stream.hash.update(bytes);
            *stream.steps.entry(step).or_default() += bytes.len() as u64;
        }
        Ok(stored)
    }

    /// As the end of a run says it.
    pub(super) fn summary(&self) -> OutputSummary {
        OutputSummary {
            stdout_bytes: self.stdout.bytes,
            stderr_bytes: self.stderr.bytes,
            dropped_bytes: 0,
            stdout_hash: self.stdout.hash(),
            stderr_hash: self.stderr.hash(),
        }
    }

    fn differs_from(&self, end: &OutputSummary) -> Option<String> {
        for (name, stored, bytes, hash) in [
            ("standard output", &self.stdout, end.stdout_bytes, end.stdout_hash),
            ("standard error", &self.stderr, end.stderr_bytes, end.stderr_hash),
        ] {
            if stored.bytes != bytes {
                return Some(format!("{} bytes of its {name} are kept, and it says {bytes}", stored.bytes));
            }
            if stored.hash() != hash {
                return Some(format!("its {name} is not the one that it has the hash of"));
            }
        }
        self.misplaced()
    }

    /// With no steps in a run's end nothing is said about them.
    fn differs_from_steps(&self, ends: &[StepEnd]) -> Option<String> {
        if ends.is_empty() {
            return None;
        }
        let said = |bytes: fn(&StepEnd) -> u64| -> BTreeMap<u32, u64> {
            (0..).zip(ends.iter().map(bytes)).filter(|(_, bytes)| *bytes > 0).collect()
        };
        let wrong =
            self.stdout.steps != said(|end| end.stdout_bytes) || self.stderr.steps != said(|end| end.stderr_bytes);
        wrong.then(|| "its output is not at the steps that it says".to_owned())
    }

    fn misplaced(&self) -> Option<String> {
        self.misplaced.map(|seq| format!("chunk {seq} of its output is missing or out of place"))
    }
}

impl Stream {
    fn hash(&self) -> Hash {
        Hash(self.hash.clone().finalize().into())
    }
}
