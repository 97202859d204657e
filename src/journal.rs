//! The durable record of everything: a SQLite file with a hash-chained table of entries and the raw output beside it.
//!
//! ```text
//!  record(entries) ─┐   bounded    ┌────────────────────────────┐      ┌─ journal.db, -wal ─┐
//!  record(entries) ─┼── queue ────▶│ writer thread: one batch,  │─────▶│ entries  (chained) │
//!  output(chunk) ───┘  (QUEUE_     │ one transaction, one fsync │      │ output   (raw)     │
//!        ▲              BYTES)     └─────────────┬──────────────┘      │ proposals (index)  │
//!        └── answers, in order, once durable ────┘                     └─────────┬──────────┘
//!                                                  Reader: read-only connections ─┘
//! ```
//!
//! One thread alone writes. It takes all that is queued into one transaction, so that many who record at once share one
//! fsync, and answers each of them only when that transaction is on the disk. Chunks of output are answered when they are
//! queued; they wait up to `LINGER` for company, and never longer than the next entry about their proposal, and a batch of
//! nothing else is not synced by itself more than once a second. A batch that
//! cannot be committed is rolled back as a whole: who recorded is told, chunks stay queued and are tried again. While
//! commits fail the thread tries again by itself, so the journal heals without being asked.
//!
//! # What the chain proves, and what not
//!
//! [`Reader::verify`] finds an entry that was changed, removed, inserted or moved, output of an ended run that was
//! changed, removed or added, and an index that no longer says what the entries say. The chain has no secret, so it
//! does not find what somebody rewrote completely, from an entry on to the end, index included; nor a tail that was cut
//! off together with its rows in the index (a cut that leaves them is found), nor a whole file put back as it was
//! earlier. Against these, keep [`Verified::head`] somewhere else and compare: an entry number that has another hash, or
//! that is gone, is the proof. While a supervisor runs it goes on from the head that it remembers, not from what the
//! file says, so a rewriting under its feet shows at the next entry. Of a chunk of output the chain covers stream and
//! bytes, and where a run has several steps how many bytes of each stream each of them has; its time, its borders and the order between the two streams are recorded but not covered, and neither is the
//! output of a run that has not ended yet.

mod batch;
mod entry;
mod export;
mod history;
mod kept;
mod problems;
mod prune;
mod reader;
mod recovery;
mod schema;
mod statistics;
#[cfg(test)]
mod tests;
mod upkeep;
mod usage;
mod verify;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{SystemTime, UNIX_EPOCH};

use brig_core::id::ProposalId;
use brig_core::journal::Entry;
use brig_core::machine::RememberedKey;
use brig_core::problem::Problem;
use brig_core::profile::Hash;
use brig_core::proposal::OutputStream;
use brig_core::retention::{Retention, Usage};
use brig_core::time::Wall;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use batch::{Job, QueuedChunk, QueuedRecord};
use entry::Encoded;
pub use export::Exported;
pub use history::Filter;
pub use problems::removed;
pub use reader::Reader;
pub use statistics::Count;
pub use verify::{Cut, Fault, Verified};

/// Bytes that may be queued for the writer, each item with [`ITEM_BYTES`] on top: this much of output, and as much of
/// entries, so that a flood of the one does not keep the other from the queue.
pub const QUEUE_BYTES: usize = 4 << 20;

/// What an item of the queue counts beside its own bytes: about what it takes in memory. It also bounds the number of
/// items, at [`QUEUE_BYTES`] divided by this.
pub const ITEM_BYTES: usize = 256;

/// A part of what a run wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Counts up from 0 without gaps, over both streams of a run.
    pub seq: u64,
    /// When it came.
    pub at: Wall,
    /// On which stream.
    pub stream: OutputStream,
    /// While which step of the run it was written, from 0.
    pub step: u32,
    /// The bytes, raw.
    pub bytes: Bytes,
}

/// An entry as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place, from 1, without gaps.
    pub number: u64,
    /// When it was recorded.
    pub at: Wall,
    /// What happened.
    pub entry: Entry,
    /// Its link in the chain ([`brig_core::journal::link`]).
    pub hash: Hash,
}

/// What a journal knew when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The entries of each proposal that nothing has closed, the proposals in the order of their arrival.
    pub open: Vec<Vec<Recorded>>,
    /// The entries of the last 50 proposals that were closed, the one closed last at the end.
    pub recent: Vec<Vec<Recorded>>,
    /// The idempotency keys of the last 24 hours, the oldest first, and at most the last 10,000 of them.
    pub keys: Vec<RememberedKey>,
}

/// A handle of the writer thread. Cheap to clone; the thread ends with the last one, or by [`Journal::close`].
#[derive(Clone, Debug)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    jobs: SyncSender<Job>,
    room_for_entries: Arc<Semaphore>,
    room_for_output: Arc<Semaphore>,
    health: watch::Receiver<Option<Problem>>,
    commits: Arc<AtomicU64>,
    usage: watch::Receiver<Option<(Usage, Option<Problem>)>>,
    reader: Reader,
}

impl Journal {
    /// Opens the journal at `path`, or makes it (the file 0600, missing directories 0700), and starts its writer thread.
    ///
    /// Takes no lock: who calls this holds the one of the state directory. Blocks while it reads what is open.
    ///
    /// # Errors
    /// `local_io` when the file or its directory cannot be made; `journal_failed` when the file is damaged, is something
    /// else than a journal, was written by a newer brig, or its end does not fit its chain.
    pub fn open(path: &Path) -> Result<(Self, Recovered), Problem> {
        Self::open_at(path, wall())
    }

    /// As [`Journal::open`], at the moment `now`, from which the age of keys is counted.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_at(path: &Path, now: Wall) -> Result<(Self, Recovered), Problem> {
        let connection = schema::open_for_writing(path)?;
        let (head, kept, recovered) = recovery::recover(&connection, now).map_err(|trouble| trouble.opening(path))?;
        let started = writer::start(connection, path, head, kept, wall)?;
        let inner = Inner {
            jobs: started.jobs,
            room_for_entries: Arc::new(Semaphore::new(QUEUE_BYTES)),
            room_for_output: Arc::new(Semaphore::new(QUEUE_BYTES)),
            health: started.health,
            commits: started.commits,
            usage: started.usage,
            reader: Reader::of(path),
        };
        Ok((Self { inner: Arc::new(inner) }, recovered))
    }

    /// Appends entries. Resolves when they are durable, in this order, all of them or none.
    ///
    /// What is queued before them of entries, and of output of the proposals that they name, is durable then as well.
    /// No entries at all make a barrier: it resolves when everything that is queued before it is durable. Once the
    /// entries are queued, dropping the future does not take them back.
    ///
    /// # Errors
    /// `journal_failed` when they could not be committed, with the reason and what to do; the next call tries afresh.
    /// They are not in the journal then, with one exception: if the disk failed in the middle of the fsync and the
    /// machine or the process dies before another commit succeeds, they may be found there by the next start.
    /// `internal` when an entry opens a proposal that exists already, or closes one that is not open: that would be a
    /// second end, so nothing of the call is recorded, while others in the same commit are.
    pub async fn record(&self, entries: Vec<(Wall, Entry)>) -> Result<(), Problem> {
        self.submit(entries).await?.await
    }

    /// Queues entries, which is where their place is decided, and gives a future that resolves when they are durable.
    ///
    /// # Errors
    /// As [`Journal::record`], here or from the future.
    pub async fn submit(
        &self,
        entries: Vec<(Wall, Entry)>,
    ) -> Result<impl Future<Output = Result<(), Problem>> + Send + use<>, Problem> {
        let entries = entries.iter().map(|(at, entry)| Encoded::new(*at, entry)).collect::<Result<Vec<_>, _>>()?;
        let size = entries.iter().map(|entry| ITEM_BYTES + entry.body.len()).sum::<usize>();
        let room = self.room(&self.inner.room_for_entries, size.max(ITEM_BYTES)).await?;
        let (done, answer) = oneshot::channel();
        self.send(Job::Record(QueuedRecord { entries, done, room }))?;
        Ok(async move { answer.await.unwrap_or_else(|_| Err(problems::closed())) })
    }

    /// Hands over a part of a run's output. Waits only while the queue is full. It is committed before long, and at the
    /// latest with the next [`Journal::record`] that names the proposal; all of a run's output is handed over before its
    /// end is recorded.
    ///
    /// A chunk whose number its run already has is dropped with an error in the log: it is a mistake of the caller that
    /// must not keep others from recording.
    ///
    /// # Errors
    /// `journal_failed` when the queue is full and commits fail, so that waiting could take for ever. The chunk was not
    /// taken then and can be handed over again.
    pub async fn output(&self, id: &ProposalId, chunk: Chunk) -> Result<(), Problem> {
        let room = self.room(&self.inner.room_for_output, ITEM_BYTES + chunk.bytes.len()).await?;
        self.send(Job::Output(QueuedChunk { id: id.clone(), chunk, room }))
    }

    /// Keeps statistics, in place of those of the same pools and measures that were kept before. They are no evidence: they
    /// stand outside of the chain, and where they cannot be written that is only logged. Returns when they are written.
    pub async fn keep_statistics(&self, counts: Vec<Count>) {
        let (done, written) = oneshot::channel();
        if self.send(Job::Statistics(counts, done)).is_ok() {
            // An error says that the thread has ended, which it has logged the reason of.
            let _ = written.await;
        }
    }

    /// Keeps to these limits from now on, beside the other work and in steps of a few milliseconds. Before this is called
    /// nothing is removed.
    ///
    /// # Errors
    /// `journal_failed` when the journal is closed.
    pub fn retain(&self, retention: Retention) -> Result<(), Problem> {
        self.send(Job::Retain(retention))
    }

    /// What the journal takes, and why nothing new may begin where that is so; looked at every few seconds once
    /// [`Journal::retain`] was called.
    #[must_use]
    pub fn usage(&self) -> watch::Receiver<Option<(Usage, Option<Problem>)>> {
        self.inner.usage.clone()
    }

    /// Reads the same journal, over connections of its own.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.inner.reader.clone()
    }

    /// Why the last commit failed, or nothing when it succeeded. While it is failing the journal is tried again every
    /// half second, so this heals without a record.
    #[cfg(test)]
    fn problem(&self) -> Option<Problem> {
        self.inner.health.borrow().clone()
    }

    /// As [`Journal::problem`], to wait for its changes.
    #[cfg(test)]
    fn health(&self) -> watch::Receiver<Option<Problem>> {
        self.inner.health.clone()
    }

    /// Transactions that were committed since the journal was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.commits.load(Ordering::Relaxed)
    }

    /// Commits what is queued, checkpoints the write-ahead log, closes the file and ends the thread. What other handles
    /// record after this fails with `journal_failed`.
    pub async fn close(self) {
        // Whoever closes the file last removes the log, which a connection that only reads cannot do.
        self.inner.reader.close().await;
        let (done, ended) = oneshot::channel();
        if self.send(Job::Close(done)).is_ok() {
            // An error says that the thread has ended already, which is all that is wanted.
            let _ = ended.await;
        }
    }

    /// Waits for a place in the queue. Something larger than the whole queue waits until it is alone in it.
    async fn room(&self, room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        // Who floods the queue lets others run too. And a task that has used up its turn would find no room where there
        // is some, so what is there is taken without asking the runtime.
        tokio::task::coop::consume_budget().await;
        if let Ok(room) = Arc::clone(room).try_acquire_many_owned(bytes) {
            return Ok(room);
        }
        let mut health = self.inner.health.clone();
        tokio::select! {
            biased;
            room = Arc::clone(room).acquire_many_owned(bytes) => room.map_err(|_| problems::closed()),
            failing = health.wait_for(Option::is_some) => {
                Err(failing.ok().and_then(|problem| problem.clone()).unwrap_or_else(problems::closed))
            }
        }
    }

    /// Cannot find the channel full, but for settings that change faster than they are heeded: it has a place for each item that there is room for.
    fn send(&self, job: Job) -> Result<(), Problem> {
        self.inner.jobs.try_send(job).map_err(|_| problems::closed())
    }
}

/// The time on the clock of the machine.
fn wall() -> Wall {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}
