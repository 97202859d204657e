//! The one thread that writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use brig_core::id::ProposalId;
use brig_core::journal::link;
use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::retention::Usage;
use brig_core::time::Wall;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

use super::batch::{Batch, Item, Job, OUTPUT_BATCH, QueuedRecord};
use super::entry::{Encoded, IndexEffect, signed, stream_number};
use super::kept::{Added, Kept, on_disk};
use super::problems::{self, Trouble};
use super::statistics;
use super::upkeep::Upkeep;
use super::{Chunk, Count, ITEM_BYTES, QUEUE_BYTES, schema};

/// How long a chunk of output waits for company. A run that writes line by line costs 50 commits a second at most, and
/// its end finds the thread idle rather than in the middle of an fsync.
const LINGER: Duration = Duration::from_millis(20);

/// How long after a failed commit the journal is tried again, with the output that waits or else with a probe, if nobody
/// records in the meantime.
const RETRY: Duration = Duration::from_millis(500);

/// Bytes after which the log is checkpointed when nothing else is to do, and when something is.
const CHECKPOINT_IDLE: usize = 4 << 20;
const CHECKPOINT_BUSY: usize = 16 << 20;

/// How long output alone may be committed without an fsync of its own. Every entry is synced, and all output before it with it:
/// what a power cut can take is the last of a run that has no end yet. Without this a flood waits for the disk at each half MiB.
const UNSYNCED: Duration = Duration::from_secs(1);

/// The last entry: what the next one is linked to. Number 0 and `GENESIS` before the first. `total` is what it and all
/// before it take ([`on_disk`]), removed ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) hash: Hash,
    pub(super) total: u64,
}

/// What the handles need of the thread.
pub(super) struct Started {
    pub(super) jobs: SyncSender<Job>,
    pub(super) health: watch::Receiver<Option<Problem>>,
    pub(super) commits: Arc<AtomicU64>,
    pub(super) usage: watch::Receiver<Option<(Usage, Option<Problem>)>>,
}

/// Starts the thread. It ends, when everybody who holds the sending side is gone, or when it is asked to close.
pub(super) fn start(
    connection: Connection,
    path: &Path,
    head: Head,
    kept: Kept,
    now: fn() -> Wall,
) -> Result<Started, Problem> {
    // Each item holds at least ITEM_BYTES of one of the two rooms, so the channel never has more; the places left are for
    // closing.
    let (jobs, inbox) = sync_channel(2 * QUEUE_BYTES / ITEM_BYTES + 64);
    let (health, healthy) = watch::channel(None);
    let commits = Arc::new(AtomicU64::new(0));
    let (usage, used) = watch::channel(None);
    let writer = Writer {
        connection,
        path: path.to_owned(),
        head,
        kept,
        upkeep: Upkeep::new(path, usage, now),
        inbox,
        batch: Batch::default(),
        retry_at: None,
        synced_at: Instant::now(),
        uncheckpointed: 0,
        health,
        commits: Arc::clone(&commits),
    };
    std::thread::Builder::new()
        .name("brig-journal".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| Problem::new(Code::JournalFailed, format!("the journal's thread cannot start: {error}")))?;
    Ok(Started { jobs, health: healthy, commits, usage: used })
}

struct Writer {
    connection: Connection,
    path: PathBuf,
    head: Head,
    kept: Kept,
    upkeep: Upkeep,
    inbox: Receiver<Job>,
    batch: Batch,
    /// Set while commits fail.
    retry_at: Option<Instant>,
    /// When a commit was synced last.
    synced_at: Instant,
    /// Bytes committed since the log was checkpointed, without the overhead of the pages.
    uncheckpointed: usize,
    health: watch::Sender<Option<Problem>>,
    commits: Arc<AtomicU64>,
}

/// Why the thread woke.
enum Wake {
    Job(Job),
    Time,
    Abandoned,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.wait() {
                Wake::Job(job) => self.take(job),
                Wake::Time if self.waited_enough() => self.commit(),
                Wake::Time => {}
                Wake::Abandoned => break,
            }
            if self.batch.closing.is_some() {
                break;
            }
            if self.is_due() {
                self.commit();
            }
            if let Some((counts, done)) = self.batch.statistics.take() {
                self.keep_statistics(&counts);
                let _ = done.send(());
            }
            self.upkeep_if_due();
            self.checkpoint_if_due();
        }
        self.end();
    }

    /// Sleeps until there is a job, or until what waits has waited long enough.
    fn wait(&self) -> Wake {
        let output = match (self.batch.since, self.retry_at) {
            (None, None) => None,
            (_, Some(retry_at)) => Some(retry_at),
            (Some(since), None) => Some(since + LINGER),
        };
        let Some(due) = [output, self.upkeep.due].into_iter().flatten().min() else {
            return self.inbox.recv().map_or(Wake::Abandoned, Wake::Job);
        };
        match self.inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(job) => Wake::Job(job),
            Err(RecvTimeoutError::Timeout) => Wake::Time,
            Err(RecvTimeoutError::Disconnected) => Wake::Abandoned,
        }
    }

    /// Whether output has lingered, or commits that failed shall be tried again.
    fn waited_enough(&self) -> bool {
        match self.retry_at {
            Some(retry_at) => retry_at <= Instant::now(),
            None => self.batch.since.is_some_and(|since| since.elapsed() >= LINGER),
        }
    }

    /// Takes a job and all that is queued behind it.
    fn take(&mut self, job: Job) {
        let mut next = Some(job);
        while let Some(job) = next {
            if let Job::Retain(retention) = job {
                self.upkeep.retain(&self.connection, retention);
                next = self.inbox.try_recv().ok();
                continue;
            }
            if !self.batch.add(job) {
                return;
            }
            next = self.inbox.try_recv().ok();
        }
    }

    /// Whether the batch goes now. While commits fail, output alone waits for its retry.
    fn is_due(&self) -> bool {
        let lingered = self.batch.since.is_some_and(|since| since.elapsed() >= LINGER);
        self.batch.has_record || (self.retry_at.is_none() && (lingered || self.batch.bytes >= OUTPUT_BATCH))
    }

    /// Commits what is next in the batch and answers, or rolls back, answers and keeps the output for later.
    fn commit(&mut self) {
        let mut items = self.batch.next();
        let writes = items.iter().any(Item::writes_something);
        let is_output = writes && items.iter().all(|item| matches!(item, Item::Output(_)));
        let is_synced = !is_output || self.synced_at.elapsed() >= UNSYNCED;
        if !is_synced {
            self.sync_commits(false);
        }
        let result = match (writes, self.retry_at) {
            (true, _) => write(&mut self.connection, self.head, &self.kept, &mut items),
            (false, Some(_)) => probe(&mut self.connection, self.head).map(|head| (head, Added::default())),
            (false, None) => Ok((self.head, Added::default())),
        };
        if !is_synced {
            self.sync_commits(true);
        }
        match result {
            Ok((head, added)) => {
                if is_synced && writes {
                    self.synced_at = Instant::now();
                }
                self.head = head;
                self.kept.add(added);
                self.upkeep.hurry_if_over(&self.head, &self.kept);
                self.retry_at = None;
                self.uncheckpointed += items.iter().map(Item::bytes).sum::<usize>();
                self.commits.fetch_add(u64::from(writes), Ordering::Relaxed);
                self.health.send_if_modified(|health| health.take().is_some());
                items.into_iter().for_each(Item::committed);
            }
            Err(error) => {
                let problem = Trouble::from(error).writing(&self.path);
                if self.retry_at.is_none() {
                    tracing::error!(%problem, "the journal could not commit");
                }
                self.retry_at = Some(Instant::now() + RETRY);
                self.health.send_if_modified(|health| health.replace(problem.clone()) != Some(problem.clone()));
                self.batch.keep(items.into_iter().filter_map(|item| item.failed(&problem)).collect());
            }
        }
    }

    /// Whether the next commits are on the disk when they return, or with the one after that is.
    fn sync_commits(&self, is_synced: bool) {
        let mode = if is_synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
        // Between transactions nothing can be wrong with it; were it not taken, more is synced than has to be, or a
        // commit fails and says so.
        if let Err(error) = self.connection.execute_batch(mode) {
            tracing::error!(%error, "the journal's way of syncing could not be set");
        }
    }

    fn keep_statistics(&mut self, counts: &[Count]) {
        if let Err(error) = statistics::keep(&mut self.connection, counts) {
            tracing::warn!(%error, "the statistics of the pools could not be kept");
        }
    }

    /// Takes one step of keeping to the limits: whoever records next waits for that one at most.
    fn upkeep_if_due(&mut self) {
        if self.upkeep.due.is_some_and(|due| due <= Instant::now()) {
            let may_write = self.retry_at.is_none();
            self.uncheckpointed += self.upkeep.step(&mut self.connection, &mut self.head, &mut self.kept, may_write);
        }
    }

    /// Moves the log into the file when nobody waits, and late rather than never when somebody always does.
    fn checkpoint_if_due(&mut self) {
        let idle = self.uncheckpointed >= CHECKPOINT_IDLE && self.batch.items.is_empty();
        if idle || self.uncheckpointed >= CHECKPOINT_BUSY {
            // A failure loses nothing: what is committed stays in the log, and the next one moves it.
            if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)") {
                tracing::warn!(%error, "the journal's log could not be checkpointed");
            }
            self.uncheckpointed = 0;
        }
    }

    fn end(mut self) {
        self.batch.everything = true;
        self.commit();
        if !self.batch.items.is_empty() {
            tracing::error!(
                chunks = self.batch.items.len(),
                "output was lost: the journal ended while it could not commit"
            );
        }
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the journal's log could not be checkpointed");
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the journal could not be closed");
        }
        if let Some(done) = self.batch.closing {
            // Nobody waits any more: that is theirs to decide.
            let _ = done.send(());
        }
    }
}

/// Writes the items in one transaction, and gives the head after it. On an error nothing of them is in the file.
fn write(
    connection: &mut Connection,
    mut head: Head,
    kept: &Kept,
    items: &mut [Item],
) -> rusqlite::Result<(Head, Added)> {
    let mut added = Added::default();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for item in items {
        match item {
            Item::Output(queued) => {
                if insert_chunk(&transaction, &queued.id, &queued.chunk)? {
                    *added.live.entry(queued.id.clone()).or_default() += on_disk(queued.chunk.bytes.len());
                }
            }
            Item::Record { queued, refused } => match insert_record(&transaction, head, kept, &mut added, queued)? {
                Ok(next) => head = next,
                Err(problem) => *refused = Some(problem),
            },
        }
    }
    transaction.commit()?;
    Ok((head, added))
}

/// Tries what a record would do, down to the fsync, and leaves nothing of it.
fn probe(connection: &mut Connection, head: Head) -> rusqlite::Result<Head> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch("SAVEPOINT probe")?;
    insert_entry(&transaction, head, &Encoded::probe())?;
    transaction.execute_batch("ROLLBACK TO probe; RELEASE probe")?;
    // Writes the first page, though nothing in it changes: without a page there would be no fsync.
    schema::touch(&transaction)?;
    transaction.commit()?;
    Ok(head)
}

fn insert_chunk(transaction: &Transaction<'_>, id: &ProposalId, chunk: &Chunk) -> rusqlite::Result<bool> {
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO output (proposal, seq, at, stream, step, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (proposal, seq) DO NOTHING",
        )?
        .execute((&id.0, signed(chunk.seq), chunk.at.0, stream_number(chunk.stream), chunk.step, &chunk.bytes[..]))?;
    if inserted == 0 {
        tracing::error!(proposal = %id, seq = chunk.seq, "a chunk of output came twice; the first one was kept");
    }
    Ok(inserted > 0)
}

/// Inserts the entries of one call, or none of them if they break a rule of the index. Then only this call is refused:
/// others in the same transaction have no part in it.
fn insert_record(
    transaction: &Transaction<'_>,
    head: Head,
    kept: &Kept,
    added: &mut Added,
    queued: &QueuedRecord,
) -> rusqlite::Result<Result<Head, Problem>> {
    transaction.prepare_cached("SAVEPOINT record")?.execute([])?;
    let output = |id: &ProposalId| kept.of(id, added);
    let result = insert_entries(transaction, head, &queued.entries, output)?;
    if result.is_ok() {
        let closes = |entry: &&Encoded| entry.effect.closes();
        added.closed.extend(queued.entries.iter().filter(closes).filter_map(|entry| entry.proposal.clone()));
    } else {
        transaction.prepare_cached("ROLLBACK TO record")?.execute([])?;
    }
    transaction.prepare_cached("RELEASE record")?.execute([])?;
    Ok(result)
}

fn insert_entries(
    transaction: &Transaction<'_>,
    mut head: Head,
    entries: &[Encoded],
    output: impl Fn(&ProposalId) -> u64,
) -> rusqlite::Result<Result<Head, Problem>> {
    for entry in entries {
        head = insert_entry(transaction, head, entry)?;
        if let Some(id) = &entry.proposal
            && let Err(problem) = update_index(transaction, head.number, id, entry, output(id))?
        {
            return Ok(Err(problem));
        }
    }
    Ok(Ok(head))
}

pub(super) fn insert_entry(transaction: &Transaction<'_>, head: Head, entry: &Encoded) -> rusqlite::Result<Head> {
    let (number, total) = (head.number + 1, head.total + on_disk(entry.body.len()));
    let hash = link(&head.hash, number, entry.at, &entry.body);
    let proposal = entry.proposal.as_ref().map(|id| &id.0);
    transaction
        .prepare_cached(
            "INSERT INTO entries (number, at, kind, proposal, body, hash, total) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((signed(number), entry.at.0, entry.kind, proposal, &entry.body, &hash.0[..], signed(total)))?;
    Ok(Head { number, hash, total })
}

/// What refuses an entry that would end a proposal a second time.
const NOT_OPEN: &str = "has no open proposal of this name";

fn update_index(
    transaction: &Transaction<'_>,
    number: u64,
    id: &ProposalId,
    entry: &Encoded,
    output: u64,
) -> rusqlite::Result<Result<(), Problem>> {
    let number = signed(number);
    let (changed, rule) = match &entry.effect {
        IndexEffect::Nothing => return Ok(Ok(())),
        IndexEffect::Opens { agent, key, draft_hash, profile, command, reason } => {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO proposals (first, id, at, agent, key, draft_hash, profile, status, command, reason)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'waiting', ?8, ?9) ON CONFLICT (id) DO NOTHING",
            )?;
            let row = (number, &id.0, entry.at.0, agent, key, &draft_hash.0[..], profile, command, reason);
            (insert.execute(row)?, "has a proposal of this name already")
        }
        IndexEffect::Returns { command } => {
            let mut update = transaction.prepare_cached(
                "UPDATE proposals SET status = 'waiting', verdict = NULL, operator = NULL, command = ?2 WHERE id = ?1",
            )?;
            update.execute((&id.0, command))?;
            return Ok(Ok(()));
        }
        IndexEffect::Launches => {
            transaction.prepare_cached("UPDATE proposals SET status = 'running' WHERE id = ?1")?.execute([&id.0])?;
            return Ok(Ok(()));
        }
        IndexEffect::Decides { verdict, operator } => {
            let mut update = transaction.prepare_cached(
                "UPDATE proposals SET status = ?2, verdict = ?2, operator = ?3, closed = iif(?2 = 'approved', NULL, ?4),
                     output = iif(?2 = 'approved', NULL, ?5)
                 WHERE id = ?1 AND closed IS NULL",
            )?;
            (update.execute((&id.0, verdict.text(), operator, number, signed(output)))?, NOT_OPEN)
        }
        IndexEffect::Ends { kind, killer } => {
            let mut update = transaction.prepare_cached(
                "UPDATE proposals SET status = 'finished', ended = ?2, killer = ?3, closed = ?4, output = ?5
                 WHERE id = ?1 AND closed IS NULL",
            )?;
            (update.execute((&id.0, kind.text(), killer, number, signed(output)))?, NOT_OPEN)
        }
    };
    Ok(if changed == 1 { Ok(()) } else { Err(problems::refused(entry.kind, id, rule)) })
}
