//! What runs write, for those who follow it while it is written.
//!
//! Each run has a log: the last part of its output in memory, bounded by bytes. A reader has a cursor of its own; one that
//! has fallen behind what is in memory reads on in the journal, where everything is. So no reader holds anyone up, and
//! none misses a byte.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brig_core::id::ProposalId;
use brig_core::problem::Problem;
use tokio::sync::watch;

use crate::journal::{Chunk, Reader};
use crate::sync::lock;

/// Bytes of each run that are kept in memory.
const KEPT_BYTES: usize = 1 << 20;
/// What a chunk counts beside its bytes.
const CHUNK_BYTES: usize = 64;
/// Bytes that a reader takes from the journal at once.
const PAGE_BYTES: usize = 256 << 10;
/// How long to wait for the journal to have committed what it was handed.
const COMMIT_WAIT: Duration = Duration::from_millis(20);

/// The logs of the runs that are going on.
#[derive(Clone, Default)]
pub struct Outputs {
    logs: Arc<Mutex<HashMap<ProposalId, Arc<Log>>>>,
}

impl Outputs {
    /// The log of a run, which is begun if it is not there. Whoever follows a run that has none is told that there is no
    /// output, so it must be begun before anybody can learn of the run.
    pub fn begin(&self, id: &ProposalId) -> Arc<Log> {
        Arc::clone(lock(&self.logs).entry(id.clone()).or_default())
    }

    /// Ends the log of a run: its end is durable, so the journal has it all.
    pub fn end(&self, id: &ProposalId) {
        if let Some(log) = lock(&self.logs).remove(id) {
            log.end();
        }
    }

    /// Reads a run's output from chunk `from` on. A run that is not going on is read from the journal alone.
    pub fn follow(&self, id: &ProposalId, from: u64, journal: Reader) -> Follower {
        let log = lock(&self.logs).get(id).cloned();
        let changed = log.as_ref().map(|log| log.length.subscribe());
        Follower { id: id.clone(), log, changed, next: from, journal }
    }
}

/// The output of one run.
pub struct Log {
    ring: Mutex<Ring>,
    /// Chunks written so far. Closing it is the end.
    length: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    ended: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { ring: Mutex::default(), length: watch::Sender::new(0) }
    }
}

impl Log {
    /// Adds a chunk; their numbers follow each other.
    pub fn push(&self, chunk: Chunk) {
        let length = chunk.seq + 1;
        {
            let mut ring = lock(&self.ring);
            ring.bytes += chunk.bytes.len() + CHUNK_BYTES;
            ring.chunks.push_back(chunk);
            while ring.bytes > KEPT_BYTES && ring.chunks.len() > 1 {
                let dropped = ring.chunks.pop_front().map_or(0, |chunk| chunk.bytes.len() + CHUNK_BYTES);
                ring.bytes -= dropped;
            }
        }
        self.length.send_replace(length);
    }

    /// The first chunk in memory, once the run is over.
    fn first_after_end(&self) -> Option<u64> {
        let ring = lock(&self.ring);
        ring.chunks.front().filter(|_| ring.ended).map(|chunk| chunk.seq)
    }

    fn end(&self) {
        lock(&self.ring).ended = true;
        self.length.send_modify(|_| {});
    }
}

/// What the memory has for a cursor.
enum Found {
    Chunks(Vec<Chunk>),
    Behind,
    NothingYet,
    End,
}

/// Reads one run's output, in order and without gaps.
pub struct Follower {
    id: ProposalId,
    log: Option<Arc<Log>>,
    changed: Option<watch::Receiver<u64>>,
    next: u64,
    journal: Reader,
}

impl Follower {
    /// The next chunks, at least one; waits for them. Empty at the end of the run. Cancel safe: what was not returned is
    /// returned the next time.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Chunk>, Problem> {
        loop {
            let found = match &self.log {
                Some(log) => log.from(self.next),
                None => Found::Behind,
            };
            let chunks = match found {
                Found::Chunks(chunks) => chunks,
                Found::End => return Ok(Vec::new()),
                Found::NothingYet => {
                    if let Some(changed) = &mut self.changed
                        && changed.changed().await.is_err()
                    {
                        // The log is gone, and with it whoever wrote to it: the journal has what there is.
                        self.log = None;
                    }
                    continue;
                }
                Found::Behind => {
                    let chunks = self.journal.output_of(&self.id, self.next, PAGE_BYTES).await?;
                    if chunks.is_empty()
                        && let Some(first) = self.log.as_ref().and_then(|log| log.first_after_end())
                    {
                        // The run is over and the journal has not got what came before: it says itself that it has a gap.
                        self.next = first;
                        continue;
                    }
                    if chunks.is_empty() && self.log.is_some() {
                        // It was handed to the journal and is not committed yet.
                        tokio::time::sleep(COMMIT_WAIT).await;
                        continue;
                    }
                    chunks
                }
            };
            if let Some(last) = chunks.last() {
                self.next = last.seq + 1;
            }
            return Ok(chunks);
        }
    }

    /// What is there now, without waiting for more; empty when there is nothing.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn rest(&mut self) -> Result<Vec<Chunk>, Problem> {
        if let Some(log) = &self.log
            && matches!(log.from(self.next), Found::NothingYet | Found::End)
        {
            return Ok(Vec::new());
        }
        self.next().await
    }
}

impl Log {
    fn from(&self, next: u64) -> Found {
        let ring = lock(&self.ring);
        match ring.chunks.front() {
            Some(first) if next < first.seq => Found::Behind,
            Some(first) => {
                let skip = usize::try_from(next - first.seq).unwrap_or(usize::MAX);
                let chunks: Vec<_> = ring.chunks.iter().skip(skip).cloned().collect();
                match (chunks.is_empty(), ring.ended) {
                    (false, _) => Found::Chunks(chunks),
                    (true, true) => Found::End,
                    (true, false) => Found::NothingYet,
                }
            }
            None if ring.ended => Found::End,
            None => Found::NothingYet,
        }
    }
}
