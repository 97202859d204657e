//! Walks the chain, the output and the index, and says where they stop fitting together.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use brig_core::id::ProposalId;
use brig_core::journal::{Entry, GENESIS, link};
use brig_core::profile::Hash;
use brig_core::proposal::{OutputStream, OutputSummary, StepEnd, VerdictKind};
use brig_core::retention::Limit;
use brig_core::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Row};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::entry::{self, IndexEffect};
use super::kept::on_disk;
use super::problems::Trouble;
use super::prune;
use super::recovery::{self, Before, beginning};

/// Entries, and bytes of entries and output, after which the reading lets go of its view of the file, so that the log
/// can be checkpointed meanwhile.
const SLICE_ENTRIES: u64 = 256;
const SLICE_BYTES: u64 = 8 << 20;

/// How often the walk begins anew because its beginning has been cut off meanwhile.
const ATTEMPTS: u32 = 100;

/// What was found in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What of the beginning was removed by a limit, as the chain itself says.
    pub cut: Option<Cut>,
    /// Entries that fit; all that are there where there is no fault.
    pub entries: u64,
    /// Bytes of these entries.
    pub entry_bytes: u64,
    /// Runs among them that have ended, and whose output fits.
    pub runs: u64,
    /// Bytes of the output of these runs.
    pub output_bytes: u64,
    /// Runs beside these whose output was removed by a limit, as the chain itself says.
    pub pruned_runs: u64,
    /// The hash of the last entry that fits. Kept somewhere else, it proves later that the journal up to here is still
    /// the same.
    pub head: Hash,
    /// The first thing that is wrong, or nothing.
    pub fault: Option<Fault>,
}

/// The beginning of a journal that was removed by a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cut {
    /// The number of the last entry that was removed, which is how many there were.
    pub through: u64,
    /// Its hash, from which the chain goes on.
    pub hash: Hash,
    /// When it was removed.
    pub at: Wall,
    /// By which limit.
    pub limit: Limit,
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
    for _ in 0..ATTEMPTS {
        if let Some(found) = verify_once(connection)? {
            return Ok(found);
        }
    }
    let how = "it is cut from the front faster than it can be read".to_owned();
    Err(Trouble::Entry { number: beginning(connection)?.map_or(1, |before| before.through + 1), how })
}

/// Nothing where entries that were still to be looked at have been removed by their limits meanwhile.
fn verify_once(connection: &Connection) -> Result<Option<Verified>, Trouble> {
    let (before, end) = {
        let _view = connection.unchecked_transaction()?;
        (beginning(connection)?, last_number(connection)?)
    };
    let before = match before {
        Ok(before) => before,
        Err((number, how)) => return Ok(Some(Verified { fault: Some(Fault::at(number, how)), ..Verified::empty() })),
    };
    let mut walk = Walk::new(connection, &before, end);
    while walk.found.fault.is_none() && walk.last < walk.end {
        walk.slice()?;
    }
    // One view of the file for all of it: a writer may have gone on.
    let _view = connection.unchecked_transaction()?;
    if beginning(connection)? != Ok(before) {
        return Ok(None);
    }
    if walk.found.fault.is_none() {
        walk.found.fault = walk.left_over()?;
    }
    Ok(Some(walk.found))
}

/// The number of the last entry, 0 when there is none.
pub(super) fn last_number(connection: &Connection) -> Result<u64, Trouble> {
    let last = connection.query_row("SELECT max(number) FROM entries", [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

impl Verified {
    const fn empty() -> Self {
        Self {
            cut: None,
            entries: 0,
            entry_bytes: 0,
            runs: 0,
            output_bytes: 0,
            pruned_runs: 0,
            head: GENESIS,
            fault: None,
        }
    }
}

/// How far the walk has come.
struct Walk<'c> {
    connection: &'c Connection,
    /// The entry before the first one that is there.
    start: u64,
    /// The last entry that fits.
    last: u64,
    /// What it and all before it take, as it says.
    total: Option<u64>,
    end: u64,
    opened: u64,
    closed: u64,
    pruned: u64,
    found: Verified,
}

impl<'c> Walk<'c> {
    fn new(connection: &'c Connection, before: &Before, end: u64) -> Self {
        let cut = before.cut.as_ref().and_then(|recorded| match recorded.entry {
            Entry::JournalPruned { through, hash, limit, .. } => Some(Cut { through, hash, at: recorded.at, limit }),
            _ => None,
        });
        let found = Verified { cut, head: before.hash, ..Verified::empty() };
        let start = before.through;
        Self { connection, start, last: start, total: None, end, opened: 0, closed: 0, pruned: 0, found }
    }
}

impl Walk<'_> {
    fn slice(&mut self) -> Result<(), Trouble> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(
            "SELECT number, at, kind, proposal, body, hash, total FROM entries WHERE number > ?1 AND number <= ?2
             ORDER BY number",
        )?;
        let (first, bytes) = (self.last, self.found.entry_bytes + self.found.output_bytes);
        // At the very first slice whatever is numbered below it has to be seen too.
        let after = if first == self.start { i64::MIN } else { first.cast_signed() };
        let mut rows = statement.query((after, entry::signed(self.end)))?;
        while let Some(row) = rows.next()? {
            if let ControlFlow::Break(fault) = self.entry(row)? {
                self.found.fault = Some(fault);
                return Ok(());
            }
            let done = self.last - first >= SLICE_ENTRIES;
            if done || self.found.entry_bytes + self.found.output_bytes - bytes >= SLICE_BYTES {
                return Ok(());
            }
        }
        if self.last < self.end {
            // They were there when the walk began.
            self.found.fault = Some(Fault::at(self.last + 1, "it is missing"));
        }
        Ok(())
    }

    fn entry(&mut self, row: &Row<'_>) -> Result<ControlFlow<Fault>, Trouble> {
        let expected = self.last + 1;
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
        let total = entry::unsigned(row, 6)?;
        if self.total.is_some_and(|before| before + on_disk(body.len()) != total) {
            return Ok(ControlFlow::Break(Fault::at(expected, "what it takes is said wrongly beside it")));
        }
        let columns = (entry::text(row, 2)?, entry::text(row, 3)?);
        let wrong = if columns == (Some(entry::kind(&entry)), entry.proposal().map(|id| id.0.as_str())) {
            match self.index(expected, Wall(row.get(1)?), &entry)? {
                None => self.output(expected, &entry)?,
                wrong => wrong,
            }
        } else {
            Some("its kind or proposal beside it is not the one in it".to_owned())
        };
        if let Some(how) = wrong {
            return Ok(ControlFlow::Break(Fault { number: Some(expected), proposal: entry.proposal().cloned(), how }));
        }
        (self.last, self.total) = (expected, Some(total));
        self.found.entries += 1;
        self.found.entry_bytes += body.len() as u64;
        self.found.head = hash;
        Ok(ControlFlow::Continue(()))
    }

    /// What the index says wrongly of an entry.
    fn index(&mut self, number: u64, at: Wall, entry: &Entry) -> Result<Option<String>, Trouble> {
        let Some(id) = entry.proposal() else { return Ok(None) };
        let number = entry::signed(number);
        let fits = match IndexEffect::of(entry) {
            IndexEffect::Nothing | IndexEffect::Launches => return Ok(None),
            IndexEffect::Opens { agent, key, draft_hash, profile, command, reason } => {
                self.opened += 1;
                self.exists(
                    "SELECT 1 FROM proposals p
                     WHERE id = ?1 AND first = ?2 AND at = ?3 AND agent = ?4 AND key IS ?5 AND draft_hash = ?6
                         AND profile = ?7 AND reason = ?8 AND (command = ?9 OR EXISTS (
                             SELECT 1 FROM entries WHERE proposal = ?1 AND kind = 'returned' AND number > ?2))",
                    (&id.0, number, at.0, agent, key, &draft_hash.0[..], profile, reason, command),
                )?
            }
            IndexEffect::Returns { command } => self.exists(
                "SELECT 1 FROM proposals p WHERE id = ?1 AND (command = ?3 OR EXISTS (
                     SELECT 1 FROM entries WHERE proposal = ?1 AND kind = 'returned' AND number > ?2))",
                (&id.0, number, command),
            )?,
            IndexEffect::Decides { verdict: VerdictKind::Approved, operator } => self.exists(
                "SELECT 1 FROM proposals p WHERE id = ?1 AND (verdict = 'approved' AND operator IS ?3 OR EXISTS (
                     SELECT 1 FROM entries WHERE proposal = ?1 AND kind = 'returned' AND number > ?2))",
                (&id.0, number, operator),
            )?,
            IndexEffect::Decides { verdict, operator } => {
                self.closed += 1;
                self.exists(
                    "SELECT 1 FROM proposals
                     WHERE id = ?1 AND closed = ?2 AND status = ?3 AND verdict = ?3 AND operator IS ?4
                         AND ended IS NULL AND killer IS NULL",
                    (&id.0, number, verdict.text(), operator),
                )?
            }
            IndexEffect::Ends { kind, killer } => {
                self.closed += 1;
                self.exists(
                    "SELECT 1 FROM proposals
                     WHERE id = ?1 AND closed = ?2 AND status = 'finished' AND ended = ?3 AND killer IS ?4",
                    (&id.0, number, kind.text(), killer),
                )?
            }
        };
        Ok((!fits).then(|| "the index of proposals says something else".to_owned()))
    }

    /// What is wrong with the output of a proposal that an entry closes, or with what an entry says was removed.
    fn output(&mut self, number: u64, entry: &Entry) -> Result<Option<String>, Trouble> {
        match entry {
            Entry::Ended { id, end } => {
                if let Some(by) = pruned_by(self.connection, &id.0)? {
                    self.found.pruned_runs += 1;
                    // That this entry says so is checked when it is reached; it may have come after the walk began.
                    self.end = self.end.max(by);
                    return self.is_gone(id, number, by);
                }
                let stored = Stored::of(self.connection, &id.0)?;
                let wrong = stored.differs_from(&end.output).or_else(|| stored.differs_from_steps(&end.steps));
                if wrong.is_none() {
                    self.found.runs += 1;
                    self.found.output_bytes += stored.stdout.bytes + stored.stderr.bytes;
                }
                let kept = "SELECT 1 FROM proposals WHERE id = ?1 AND output = ?2";
                let fits = wrong.is_some() || self.exists(kept, (&id.0, entry::signed(stored.disk)))?;
                Ok(if fits { wrong } else { Some("what its output takes is said wrongly in the index".to_owned()) })
            }
            Entry::OutputPruned { runs, .. } => {
                for run in runs.iter().filter(|run| run.ended > self.start) {
                    self.pruned += 1;
                    if pruned_by(self.connection, &run.id.0)? != Some(number) {
                        return Ok(Some(format!("the index does not say that it removed the output of {}", run.id)));
                    }
                }
                Ok(None)
            }
            Entry::JournalPruned { through, .. } if *through > self.start => {
                Ok(Some(format!("it says that all up to entry {through} were removed, and they are there")))
            }
            entry if entry.closes() => {
                let Some(id) = entry.proposal() else { return Ok(None) };
                let has_output = self.exists("SELECT 1 FROM output WHERE proposal = ?1", [&id.0])?;
                Ok(has_output.then(|| "there is output of it, but it never ran".to_owned()))
            }
            _ => Ok(None),
        }
    }

    /// What is wrong with output that the index says was removed by entry `by`.
    fn is_gone(&self, id: &ProposalId, ended: u64, by: u64) -> Result<Option<String>, Trouble> {
        if by <= ended {
            return Ok(Some(format!("the index says that its output was removed by entry {by}, before its end")));
        }
        // That of the runs which were named last may still be on its way out; nobody is shown it any more.
        let last = prune::last_of(self.connection, "output-pruned")?.map_or(0, |recorded| recorded.number);
        let is_there = by != last && self.exists("SELECT 1 FROM output WHERE proposal = ?1", [&id.0])?;
        Ok(is_there.then(|| "there is output of it, though that was removed".to_owned()))
    }

    fn exists(&self, sql: &str, params: impl rusqlite::Params) -> Result<bool, Trouble> {
        Ok(self.connection.prepare_cached(sql)?.exists(params)?)
    }

    /// What is in the index or among the output that no entry accounts for.
    fn left_over(&self) -> Result<Option<Fault>, Trouble> {
        // The last entry is asked for again: a writer may have gone on.
        if let Some(number) = recovery::cut_after(self.connection, last_number(self.connection)?)? {
            return Ok(Some(Fault::at(number, "it is missing from the end: the index knows it")));
        }
        let count = |column: &str| -> Result<u64, Trouble> {
            let sql = format!("SELECT count(*) FROM proposals WHERE {column} > ?1 AND {column} <= ?2");
            let stretch = (entry::signed(self.start), entry::signed(self.end));
            Ok(self.connection.query_row(&sql, stretch, |row| row.get::<_, i64>(0))?.cast_unsigned())
        };
        // One that began before the cut ended after it, and has been counted there; none of them is open.
        let strays = "SELECT 1 FROM proposals WHERE first <= ?1 AND (closed IS NULL OR closed <= ?1)";
        if (count("first")?, count("closed")?, count("pruned")?) != (self.opened, self.closed, self.pruned)
            || self.exists(strays, [entry::signed(self.start)])?
        {
            let how = "the index of proposals has rows that no entry accounts for".to_owned();
            return Ok(Some(Fault { number: None, proposal: None, how }));
        }
        if let Some(fault) = self.misplaced_open_one()? {
            return Ok(Some(fault));
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

impl Walk<'_> {
    /// A proposal that is open and stands in the index as something else than what its last entry made it. Those that are
    /// closed were compared at that entry.
    fn misplaced_open_one(&self) -> Result<Option<Fault>, Trouble> {
        let mut statement = self.connection.prepare(
            "SELECT id FROM proposals p
             WHERE closed IS NULL AND (ended IS NOT NULL OR killer IS NOT NULL
                 OR status = 'waiting' AND verdict IS NOT NULL
                 OR status IS NOT (
                     SELECT CASE kind WHEN 'launched' THEN 'running' WHEN 'decided' THEN 'approved' ELSE 'waiting' END
                     FROM entries e WHERE e.proposal = p.id AND kind <> 'kill-requested'
                     ORDER BY number DESC LIMIT 1))
             LIMIT 1",
        )?;
        let id: Option<String> = statement.query_row([], |row| row.get(0)).optional()?;
        let how = "the index of proposals says something else of one that is open".to_owned();
        Ok(id.map(|id| Fault { number: None, proposal: Some(ProposalId(id)), how }))
    }
}

impl Fault {
    fn at(number: u64, how: impl Into<String>) -> Self {
        Self { number: Some(number), proposal: None, how: how.into() }
    }
}

/// The number of the entry by which a run's output was removed, as the index says.
pub(super) fn pruned_by(connection: &Connection, id: &str) -> Result<Option<u64>, Trouble> {
    let sql = "SELECT pruned FROM proposals WHERE id = ?1";
    let by = connection.prepare_cached(sql)?.query_row([id], |row| row.get::<_, Option<i64>>(0)).optional()?;
    Ok(by.flatten().map(i64::cast_unsigned))
}

/// What is kept of a run's output.
pub(super) struct Stored {
    stdout: Stream,
    stderr: Stream,
    /// The first chunk that is missing, or that is of no stream.
    misplaced: Option<u64>,
    /// What its chunks take.
    disk: u64,
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
        let mut stored = Self { stdout: Stream::default(), stderr: Stream::default(), misplaced: None, disk: 0 };
        let mut next = 0;
        while let Some(row) = rows.next()? {
            let stream = entry::stream_of(row.get(1)?);
            if (row.get::<_, i64>(0)? != next || stream.is_err()) && stored.misplaced.is_none() {
                stored.misplaced = Some(next.cast_unsigned());
            }
            next += 1;
            let bytes = entry::blob(row, 3)?;
            let step: u32 = row.get(2)?;
            stored.disk += on_disk(bytes.len());
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
