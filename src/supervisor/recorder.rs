//! Hands entries to the journal, in order, and tells when they are durable.

use brig_core::journal::Entry;
use brig_core::machine::Event;
use brig_core::time::Wall;
use tokio::sync::mpsc;

use super::message::Mailbox;
use crate::journal::Journal;

/// Records batches in the order in which they are given. Cheap to hold; the task behind it ends with it.
///
/// The channel has no bound of its own, as the state's task must not wait: while it did, no kill would be heard. What
/// agents can put into it is bounded by the queue: for each proposal itself, its verdict, its launch and its end, of which
/// only the launch does not wait for the one before. What is big in them, the envelopes, the state holds anyway. While the
/// journal hangs, an operator's kills and changes of profiles add a small entry each, and those an operator makes by hand.
pub struct Recorder {
    batches: mpsc::UnboundedSender<(u64, Vec<(Wall, Entry)>)>,
}

impl Recorder {
    /// A recorder that writes to `journal` and tells `mailbox`.
    pub fn start(journal: Journal, mailbox: Mailbox) -> Self {
        let (batches, mut inbox) = mpsc::unbounded_channel::<(u64, Vec<(Wall, Entry)>)>();
        tokio::spawn(async move {
            while let Some((batch, entries)) = inbox.recv().await {
                // Queued one after the other, which decides their order; each waits for its commit by itself, so that
                // many of them share one.
                let queued = journal.submit(entries).await;
                let mailbox = mailbox.clone();
                tokio::spawn(async move {
                    let result = match queued {
                        Ok(durable) => durable.await,
                        Err(problem) => Err(problem),
                    };
                    mailbox.event(Event::Recorded { batch, result }).await;
                });
            }
        });
        Self { batches }
    }

    /// Records a batch; [`Event::Recorded`] follows.
    pub fn record(&self, batch: u64, entries: Vec<(Wall, Entry)>) {
        // The task ends only after this sender is dropped.
        let _ = self.batches.send((batch, entries));
    }
}
