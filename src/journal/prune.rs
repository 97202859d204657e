//! Keeps what is kept within its limits, in steps that are short enough to be taken between two commits.
//!
//! ```text
//!  output  an entry `output-pruned` names the runs ─► their chunks go, some at a time
//!  entries the oldest, up to a number, go in the transaction that adds an entry `journal-pruned` with the number and hash
//!          of the last of them: the chain goes on from there
//!  pages   what became free goes back to the file system, some at a time
//! ```
//!
//! Each step is one transaction and leaves a journal that verifies, so it does not matter between which of them the
//! process dies. What belongs to a proposal that is not over is never touched: its output is not looked at, and the
//! entries end to go where it begins.

use std::collections::VecDeque;

use brig_core::id::ProposalId;
use brig_core::journal::{Entry, PrunedRun};
use brig_core::profile::Hash;
use brig_core::retention::{Limit, Retention};
use brig_core::time::Wall;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::Recorded;
use super::entry::{self, Encoded, signed};
use super::kept::Kept;
use super::problems::Trouble;
use super::writer::{Head, insert_entry};

/// Runs that one entry names at most.
const RUNS: usize = 64;
/// Chunks, and about the bytes, that one step removes.
const STEP_CHUNKS: i64 = 128;
const STEP_BYTES: u64 = 512 << 10;
/// Entries that one step removes.
const STEP_ENTRIES: i64 = 256;
/// Entries are not cut for their size where less is won, as the entry that says so takes a part of it itself.
const WORTH_IT: u64 = 1024;
/// Pages that one step gives back. Each is the last one of the file, written to where one is free.
const STEP_PAGES: i64 = 64;
/// Free pages that stay for what comes next: a part of all pages, and at least these.
const SPARE_PART: i64 = 16;
const SPARE_PAGES: i64 = 64;
/// A limit that is reached is gone below by this part of it, so that not every run costs an entry.
const SLACK_PART: u64 = 16;
/// What is too old goes when it is this part of the limit too old, for the same reason.
const LATE_PART: u64 = 64;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something, and wrote about as many bytes.
    Did(usize),
    /// Nothing: everything is as it shall be, or cannot be made so.
    Nothing,
}

/// What a journal is kept within.
pub(super) struct Pruner {
    pub(super) retention: Retention,
    /// Runs whose output is said to be removed, and is in parts still there.
    leaving: VecDeque<String>,
}

/// What a transaction works with. Kept in a copy until it is committed.
struct Work<'t> {
    transaction: &'t Transaction<'t>,
    head: Head,
    kept: Kept,
    now: Wall,
}

impl Pruner {
    /// Takes up what an earlier process may have left half done.
    pub(super) fn resume(connection: &Connection, retention: Retention) -> Result<Self, Trouble> {
        let mut leaving = VecDeque::new();
        let last = last_of(connection, "output-pruned")?.map(|recorded| recorded.entry);
        if let Some(Entry::OutputPruned { runs, .. }) = last {
            let mut has_output = connection.prepare("SELECT 1 FROM output WHERE proposal = ?1")?;
            for PrunedRun { id, .. } in runs {
                if has_output.exists([&id.0])? {
                    leaving.push_back(id.0);
                }
            }
        }
        Ok(Self { retention, leaving })
    }

    /// Whether there is more than there may be.
    pub(super) fn is_over(&self, head: &Head, kept: &Kept) -> bool {
        kept.output() > self.retention.output_bytes || kept.entries(head) > self.retention.journal_bytes
    }

    /// Does the next thing that is to be done. On an error nothing is changed.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        head: &mut Head,
        kept: &mut Kept,
        now: Wall,
    ) -> Result<Step, Trouble> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut leaving = self.leaving.clone();
        let mut work = Work { transaction: &transaction, head: *head, kept: kept.clone(), now };
        let done =
            if leaving.is_empty() { work.next(self.retention, &mut leaving)? } else { work.remove(&mut leaving)? };
        let (new_head, new_kept) = (work.head, work.kept);
        if done == Step::Nothing {
            drop(transaction);
            return give_back(connection);
        }
        transaction.commit()?;
        (*head, *kept, self.leaving) = (new_head, new_kept, leaving);
        Ok(done)
    }
}

impl Work<'_> {
    fn next(&mut self, retention: Retention, leaving: &mut VecDeque<String>) -> Result<Step, Trouble> {
        if let Some((limit, runs)) = self.due_output(retention)? {
            return self.prune_output(limit, runs, leaving);
        }
        let Some(cut) = self.due_entries(retention)? else { return Ok(Step::Nothing) };
        // Output goes no later than the entry that has its hash.
        let runs = self.runs(|run, _| run.ended <= cut.through)?;
        if runs.is_empty() { self.cut(&cut) } else { self.prune_output(cut.limit, runs, leaving) }
    }

    /// Runs whose output is too old, or too much.
    fn due_output(&self, retention: Retention) -> Result<Option<(Limit, Vec<PrunedRun>)>, Trouble> {
        let (most, have) = (retention.output_bytes, self.kept.output());
        if have > most {
            let mut left = have - (most - most / SLACK_PART);
            let runs = self.runs(|run, _| {
                let wanted = left > 0;
                left = left.saturating_sub(run.bytes);
                wanted
            })?;
            if !runs.is_empty() {
                return Ok(Some((Limit::OutputSize { bytes: most }, runs)));
            }
        }
        let age = retention.output_age_ms;
        let runs = self.runs(|_, at| before(self.now, age, at))?;
        let late = match runs.first() {
            Some(first) => before(self.now, age + age / LATE_PART, self.ended_at(first.ended)?),
            None => false,
        };
        Ok(late.then_some((Limit::OutputAge { ms: age }, runs)))
    }

    /// The runs that ended first, as far as `wanted` says so of each, with the moment of its end.
    fn runs(&self, mut wanted: impl FnMut(&PrunedRun, Wall) -> bool) -> Result<Vec<PrunedRun>, Trouble> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT p.id, p.closed, p.output, e.at FROM proposals p JOIN entries e ON e.number = p.closed
             WHERE p.output > 0 AND p.pruned IS NULL ORDER BY p.closed",
        )?;
        let mut rows = statement.query([])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()?
            && runs.len() < RUNS
        {
            let ended = entry::unsigned(row, 1)?;
            let run = PrunedRun { id: ProposalId(row.get(0)?), ended, bytes: entry::unsigned(row, 2)? };
            if !wanted(&run, Wall(row.get(3)?)) {
                break;
            }
            runs.push(run);
        }
        Ok(runs)
    }

    fn ended_at(&self, number: u64) -> Result<Wall, Trouble> {
        let sql = "SELECT at FROM entries WHERE number = ?1";
        Ok(self.transaction.prepare_cached(sql)?.query_row([signed(number)], |row| row.get(0).map(Wall))?)
    }

    fn prune_output(
        &mut self,
        limit: Limit,
        runs: Vec<PrunedRun>,
        leaving: &mut VecDeque<String>,
    ) -> Result<Step, Trouble> {
        self.append(&Entry::OutputPruned { runs: runs.clone(), limit })?;
        let mut mark = self.transaction.prepare_cached("UPDATE proposals SET pruned = ?2 WHERE id = ?1")?;
        for run in runs {
            mark.execute((&run.id.0, signed(self.head.number)))?;
            self.kept.finished = self.kept.finished.saturating_sub(run.bytes);
            leaving.push_back(run.id.0);
        }
        drop(mark);
        self.remove(leaving)
    }

    /// Removes some of the chunks that shall go.
    fn remove(&self, leaving: &mut VecDeque<String>) -> Result<Step, Trouble> {
        let mut find = self
            .transaction
            .prepare_cached("SELECT seq, length(bytes) FROM output WHERE proposal = ?1 ORDER BY seq LIMIT ?2")?;
        let mut remove = self.transaction.prepare_cached("DELETE FROM output WHERE proposal = ?1 AND seq <= ?2")?;
        let (mut chunks, mut bytes) = (0, 0);
        while let Some(id) = leaving.front() {
            let mut rows = find.query((id, STEP_CHUNKS - chunks + 1))?;
            let mut last = None;
            let mut more = false;
            while let Some(row) = rows.next()? {
                if chunks >= STEP_CHUNKS || bytes >= STEP_BYTES {
                    more = true;
                    break;
                }
                (chunks, bytes) = (chunks + 1, bytes + entry::unsigned(row, 1)?);
                last = Some(entry::unsigned(row, 0)?);
            }
            drop(rows);
            if let Some(last) = last {
                remove.execute((id, signed(last)))?;
            }
            if more {
                break;
            }
            leaving.pop_front();
        }
        Ok(Step::Did(usize::try_from(chunks).unwrap_or(0) * 64 + 4096))
    }

    /// How far the oldest entries shall go, if any shall.
    fn due_entries(&self, retention: Retention) -> Result<Option<Cut>, Trouble> {
        let (most, age) = (retention.journal_bytes, retention.journal_age_ms);
        let mut statement =
            self.transaction.prepare_cached("SELECT number, at, total, hash FROM entries ORDER BY number LIMIT ?1")?;
        let mut rows = statement.query([STEP_ENTRIES])?;
        let bound = self.oldest_open()?.map_or(self.head.number, |first| first.saturating_sub(1));
        let is_over = self.kept.entries(&self.head) > most;
        let limit = if is_over { Limit::JournalSize { bytes: most } } else { Limit::JournalAge { ms: age } };
        let enough = self.head.total.saturating_sub(most - most / SLACK_PART).max(self.kept.before + WORTH_IT);
        let (mut cut, mut total): (Option<Cut>, _) = (None, self.kept.before);
        while let Some(row) = rows.next()? {
            let (number, at) = (entry::unsigned(row, 0)?, Wall(row.get(1)?));
            let reach = if cut.is_none() { age + age / LATE_PART } else { age };
            let wanted = if is_over { total < enough } else { before(self.now, reach, at) };
            if number > bound || !wanted || total >= self.kept.before + STEP_BYTES {
                break;
            }
            total = entry::unsigned(row, 2)?;
            let hash = entry::hash(row, 3)?
                .ok_or_else(|| Trouble::Entry { number, how: "its hash is not 32 bytes".to_owned() })?;
            let entries = cut.map_or(0, |cut| cut.entries) + 1;
            cut = Some(Cut { through: number, hash, entries, total, limit });
        }
        Ok(cut.filter(|cut| !is_over || cut.total - self.kept.before >= WORTH_IT))
    }

    fn oldest_open(&self) -> Result<Option<u64>, Trouble> {
        oldest_open(self.transaction)
    }

    fn cut(&mut self, cut: &Cut) -> Result<Step, Trouble> {
        let &Cut { through, hash, entries, total, limit } = cut;
        self.append(&Entry::JournalPruned { through, hash, entries, limit })?;
        self.transaction.prepare_cached("DELETE FROM entries WHERE number <= ?1")?.execute([signed(through)])?;
        self.transaction.prepare_cached("DELETE FROM proposals WHERE closed <= ?1")?.execute([signed(through)])?;
        self.kept.before = total;
        Ok(Step::Did(usize::try_from(entries).unwrap_or(0) * 64 + 8192))
    }

    fn append(&mut self, entry: &Entry) -> Result<(), Trouble> {
        let encoded = Encoded::new(self.now, entry).map_err(Trouble::Problem)?;
        self.head = insert_entry(self.transaction, self.head, &encoded)?;
        Ok(())
    }
}

/// Entries that shall go, all from the first on.
#[derive(Clone, Copy)]
struct Cut {
    through: u64,
    hash: Hash,
    entries: u64,
    total: u64,
    limit: Limit,
}

/// Whether `at` was more than `age` ago.
fn before(now: Wall, age: u64, at: Wall) -> bool {
    at.0 < now.0.saturating_sub_unsigned(age)
}

/// The number of the first entry of the oldest proposal that is not over.
pub(super) fn oldest_open(connection: &Connection) -> Result<Option<u64>, Trouble> {
    let sql = "SELECT min(first) FROM proposals WHERE closed IS NULL";
    let first = connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))?;
    Ok(first.map(i64::cast_unsigned))
}

/// The last entry of one of the two kinds that have an index of their own.
pub(super) fn last_of(connection: &Connection, kind: &'static str) -> Result<Option<Recorded>, Trouble> {
    // The kind is written out, as only then SQLite knows that the index fits.
    let columns = entry::COLUMNS;
    let sql = format!("SELECT {columns} FROM entries e WHERE e.kind = '{kind}' ORDER BY e.number DESC LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    rows.next()?.map_or(Ok(None), |row| entry::recorded(row).map(Some))
}

/// Gives some of the pages back that nothing is in.
fn give_back(connection: &Connection) -> Result<Step, Trouble> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (free, all) = (pragma("freelist_count")?, pragma("page_count")?);
    let spare = (all / SPARE_PART).max(SPARE_PAGES);
    if free <= spare {
        return Ok(Step::Nothing);
    }
    let pages = STEP_PAGES.min(free - spare);
    // It gives a row for each page and stops where it is not asked for the next.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(Step::Did(usize::try_from(pages).unwrap_or(0) * 4096))
}
