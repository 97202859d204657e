//! What waits to be written, and which of it goes next.

use std::collections::HashSet;
use std::time::Instant;

use brig_core::id::ProposalId;
use brig_core::problem::Problem;
use brig_core::retention::Retention;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::entry::Encoded;
use super::{Chunk, Count};

/// Bytes of output that are committed without waiting for more, and about as many as one transaction takes of runs that
/// its entries do not name. It bounds how long a verdict waits behind somebody else's flood: 2 to 3 ms for this much,
/// where all that can be queued took 33.
pub(super) const OUTPUT_BATCH: usize = 512 << 10;

/// What the thread is asked.
pub(super) enum Job {
    Record(QueuedRecord),
    Output(QueuedChunk),
    /// To be written apart from all else, before what is behind it.
    Statistics(Vec<Count>, oneshot::Sender<()>),
    /// Keep to these limits from now on. It never gets into a batch.
    Retain(Retention),
    Close(oneshot::Sender<()>),
}

/// Entries that somebody waits for.
pub(super) struct QueuedRecord {
    pub(super) entries: Vec<Encoded>,
    pub(super) done: oneshot::Sender<Result<(), Problem>>,
    pub(super) room: OwnedSemaphorePermit,
}

/// Output that nobody waits for.
pub(super) struct QueuedChunk {
    pub(super) id: ProposalId,
    pub(super) chunk: Chunk,
    /// Given back when the chunk is committed, not before: the batch counts against the queue's bound too.
    pub(super) room: OwnedSemaphorePermit,
}

/// What waits to be written, in the order in which it came.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) bytes: usize,
    pub(super) has_record: bool,
    /// Somebody waits for all of it.
    pub(super) everything: bool,
    /// When the first of the chunks was taken from the queue.
    pub(super) since: Option<Instant>,
    pub(super) closing: Option<oneshot::Sender<()>>,
    /// Statistics that wait for the transaction before them.
    pub(super) statistics: Option<(Vec<Count>, oneshot::Sender<()>)>,
}

pub(super) enum Item {
    Record { queued: QueuedRecord, refused: Option<Problem> },
    Output(QueuedChunk),
}

impl Batch {
    /// Says whether the batch takes more.
    pub(super) fn add(&mut self, job: Job) -> bool {
        let item = match job {
            Job::Record(queued) => {
                self.has_record = true;
                self.everything |= queued.entries.is_empty();
                Item::Record { queued, refused: None }
            }
            Job::Output(queued) => {
                self.since.get_or_insert_with(Instant::now);
                Item::Output(queued)
            }
            Job::Statistics(counts, done) => {
                self.statistics = Some((counts, done));
                return false;
            }
            Job::Retain(_) => return true,
            Job::Close(done) => {
                self.closing = Some(done);
                return false;
            }
        };
        self.bytes += item.bytes();
        self.items.push(item);
        true
    }

    /// Takes out what the next transaction writes: all records, all output of the proposals that they name, and of the
    /// rest what came first. What is left goes at the next look: its time is over, as `since` stays.
    pub(super) fn next(&mut self) -> Vec<Item> {
        let items = std::mem::take(&mut self.items);
        let all = self.bytes;
        (self.bytes, self.has_record) = (0, false);
        if std::mem::take(&mut self.everything) || all <= OUTPUT_BATCH {
            self.since = None;
            return items;
        }
        let named: HashSet<_> = items.iter().flat_map(Item::names).cloned().collect();
        let mut others = 0;
        let (now, later) = items.into_iter().partition(|item| match item {
            Item::Record { .. } => true,
            Item::Output(queued) if named.contains(&queued.id) => true,
            Item::Output(_) => {
                let fits = others < OUTPUT_BATCH;
                others += item.bytes();
                fits
            }
        });
        self.items = later;
        self.bytes = self.items.iter().map(Item::bytes).sum();
        if self.items.is_empty() {
            self.since = None;
        }
        now
    }

    /// Puts output back that could not be committed.
    pub(super) fn keep(&mut self, mut items: Vec<Item>) {
        if !items.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        items.append(&mut self.items);
        self.items = items;
        self.bytes = self.items.iter().map(Item::bytes).sum();
    }
}

impl Item {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Record { queued, .. } => queued.room.num_permits(),
            Self::Output(queued) => queued.room.num_permits(),
        }
    }

    pub(super) fn writes_something(&self) -> bool {
        match self {
            Self::Record { queued, .. } => !queued.entries.is_empty(),
            Self::Output(_) => true,
        }
    }

    /// The proposals that it records something about.
    fn names(&self) -> impl Iterator<Item = &ProposalId> {
        let entries = match self {
            Self::Record { queued, .. } => queued.entries.as_slice(),
            Self::Output(_) => &[],
        };
        entries.iter().filter_map(|entry| entry.proposal.as_ref())
    }

    pub(super) fn committed(self) {
        if let Self::Record { queued, refused } = self {
            queued.answer(refused.map_or(Ok(()), Err));
        }
    }

    /// What stays to be written.
    pub(super) fn failed(self, problem: &Problem) -> Option<Self> {
        match self {
            Self::Record { queued, .. } => {
                queued.answer(Err(problem.clone()));
                None
            }
            Self::Output(queued) => Some(Self::Output(queued)),
        }
    }
}

impl QueuedRecord {
    /// The room is free before the answer is given: who is answered may record at once.
    fn answer(self, answer: Result<(), Problem>) {
        drop(self.room);
        // Who recorded may have gone away; the entries are as durable without them.
        let _ = self.done.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use brig_core::journal::Entry;
    use brig_core::proposal::{OutputStream, RunEnd};
    use brig_core::time::Wall;
    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;

    fn output(id: &str, seq: u64) -> Job {
        let size = OUTPUT_BATCH / 4;
        let room = Arc::new(Semaphore::new(size)).try_acquire_many_owned(u32::try_from(size).unwrap()).unwrap();
        let chunk = Chunk { seq, at: Wall(0), stream: OutputStream::Stdout, step: 0, bytes: Bytes::new() };
        Job::Output(QueuedChunk { id: ProposalId(id.into()), chunk, room })
    }

    fn record(entries: &[Entry]) -> Job {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let entries = entries.iter().map(|entry| Encoded::new(Wall(0), entry).unwrap()).collect();
        Job::Record(QueuedRecord { entries, done: oneshot::channel().0, room })
    }

    fn ended(id: &str) -> Entry {
        let end = serde_json::json!({
            "kind": "exited", "usage": {"wall_us": 0, "cpu_us": 0, "peak_memory": 0, "oom_kills": 0}, "at": 0,
            "output": brig_core::proposal::OutputSummary::default(),
        });
        Entry::Ended { id: ProposalId(id.into()), end: serde_json::from_value::<RunEnd>(end).unwrap() }
    }

    fn shown(items: &[Item]) -> Vec<String> {
        let show = |item: &Item| match item {
            Item::Record { .. } => "record".to_owned(),
            Item::Output(queued) => format!("{}{}", queued.id, queued.chunk.seq),
        };
        items.iter().map(show).collect()
    }

    fn flooded() -> Batch {
        let mut batch = Batch::default();
        for seq in 0..6 {
            assert!(batch.add(output("flood", seq)));
        }
        assert!(batch.add(output("r", 0)));
        batch
    }

    #[test]
    fn an_entry_takes_its_own_output_with_it_and_only_some_of_others() {
        let mut batch = flooded();
        batch.add(record(&[ended("r")]));
        assert_eq!(shown(&batch.next()), ["flood0", "flood1", "flood2", "flood3", "r0", "record"]);
        assert!(batch.since.is_some() && !batch.has_record, "the rest waits, and has waited long enough");
        assert_eq!(shown(&batch.next()), ["flood4", "flood5"]);
        assert!(batch.since.is_none() && batch.bytes == 0);
    }

    #[test]
    fn a_barrier_takes_everything() {
        let mut batch = flooded();
        batch.add(record(&[]));
        assert_eq!(batch.next().len(), 8);
    }

    #[test]
    fn output_that_failed_goes_first_again_and_counts_again() {
        let mut batch = flooded();
        let before = batch.bytes;
        let items = batch.next();
        assert_eq!(items.len(), 4);
        batch.keep(items);
        assert_eq!(batch.bytes, before);
        assert_eq!(shown(&batch.items)[..2], ["flood0", "flood1"]);
    }
}
