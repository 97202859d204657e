//! What one run wrote, on its way to the journal and to those who follow it.

use std::sync::Arc;

use brig_core::id::ProposalId;
use brig_core::profile::Hash;
use brig_core::proposal::{OutputStream, OutputSummary};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::clock;
use super::outputs::Log;
use crate::journal::{Chunk, Journal};

/// The output of one run, up to its limit.
pub struct Transcript {
    proposal: ProposalId,
    journal: Journal,
    log: Arc<Log>,
    next: u64,
    left: u64,
    dropped: u64,
    /// More came than the limit lets through.
    is_over: bool,
    stdout: Tally,
    stderr: Tally,
    /// Bytes kept of each stream while each step ran, as far as steps have written.
    steps: Vec<[u64; 2]>,
    /// The step that reached the limit.
    full_at: Option<u32>,
}

#[derive(Default)]
struct Tally {
    bytes: u64,
    hash: Sha256,
}

impl Transcript {
    /// An empty one, which takes `limit` bytes.
    pub fn new(proposal: ProposalId, limit: u64, journal: Journal, log: Arc<Log>) -> Self {
        let (stdout, stderr) = (Tally::default(), Tally::default());
        Self {
            proposal,
            journal,
            log,
            next: 0,
            left: limit,
            dropped: 0,
            is_over: false,
            stdout,
            stderr,
            steps: Vec::new(),
            full_at: None,
        }
    }

    /// Adds bytes of a step, as far as the limit lets it; waits while the journal is behind. True when this was what reached the
    /// limit. What comes after is counted and not kept: it still has to be read, as nobody would read it otherwise.
    pub async fn add(&mut self, stream: OutputStream, step: u32, mut bytes: Bytes) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let over = bytes.split_off(fits);
        self.dropped += over.len() as u64;
        self.left -= fits as u64;
        if !bytes.is_empty() {
            self.keep(stream, step, bytes).await;
        }
        // What the journal could not take is lost as well, and is no reason to end the run.
        let reached = !over.is_empty() && !std::mem::replace(&mut self.is_over, true);
        if reached {
            self.full_at = Some(step);
        }
        reached
    }

    async fn keep(&mut self, stream: OutputStream, step: u32, bytes: Bytes) {
        let chunk = Chunk { seq: self.next, at: clock::wall(), stream, step, bytes };
        // Handed over before it is shown: what somebody has seen is in the journal when the run's end is.
        if let Err(problem) = self.journal.output(&self.proposal, chunk.clone()).await {
            // The run goes on, and its end will say fewer bytes than were written: the journal has a gap, and says so.
            tracing::error!("output of {} is lost: {problem}", self.proposal);
            self.dropped += chunk.bytes.len() as u64;
            return;
        }
        self.next += 1;
        let tally = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        tally.bytes += chunk.bytes.len() as u64;
        tally.hash.update(&chunk.bytes);
        let index = step as usize;
        if self.steps.len() <= index {
            self.steps.resize(index + 1, [0; 2]);
        }
        self.steps[index][usize::from(stream == OutputStream::Stderr)] += chunk.bytes.len() as u64;
        self.log.push(chunk);
    }

    /// The step that reached the limit, if one did.
    pub fn full_at(&self) -> Option<u32> {
        self.full_at
    }

    /// Bytes kept of both streams while a step ran.
    pub fn of_step(&self, step: usize) -> [u64; 2] {
        self.steps.get(step).copied().unwrap_or_default()
    }

    /// What was kept, and what was not.
    pub fn summary(self) -> OutputSummary {
        OutputSummary {
            stdout_bytes: self.stdout.bytes,
            stderr_bytes: self.stderr.bytes,
            dropped_bytes: self.dropped,
            stdout_hash: Hash(self.stdout.hash.finalize().into()),
            stderr_hash: Hash(self.stderr.hash.finalize().into()),
        }
    }
}
