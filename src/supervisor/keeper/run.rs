//! One run, as it comes in: what of it is output, whose step's, and how it ended.

use std::time::Duration;

use brig_core::id::ProposalId;
use brig_core::proposal::{Outcome, OutputStream, RunReport, RunUsage, StepHow, StepReport};
use brig_init::wire::{Fence, FenceFinder, Found, How, Stream, Trailer, Why};
use bytes::Bytes;
use tokio::time::Instant;

use super::Keeper;
use super::frame::Keys;
use crate::supervisor::secrets::{Redactor, Secrets, Told};
use crate::supervisor::statistics::Statistics;
use crate::supervisor::transcript::Transcript;

/// One run, as it comes in.
pub(super) struct Run {
    stdout: Search,
    stderr: Search,
    /// The last step that was seen to begin, on either stream.
    pub step: u32,
    transcript: Transcript,
    stdout_ended: bool,
    trailer: Option<Trailer>,
    pub broken: Option<String>,
    began: Instant,
    first_byte: Option<Instant>,
}

/// One stream of a run.
struct Search {
    stream: OutputStream,
    finder: FenceFinder,
    redactor: Option<Redactor>,
    /// The step that what is told has come to.
    step: u32,
}

impl Search {
    fn new(stream: OutputStream, keys: &Keys, secrets: &Secrets) -> Self {
        let of_init = match stream {
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        let finder = FenceFinder::with_marks(keys.nonce, of_init, &keys.marks);
        Self { stream, finder, redactor: secrets.redactor(), step: 0 }
    }

    /// Hands on what the program wrote, without what is secret.
    async fn write_down(&mut self, bytes: Bytes, transcript: &mut Transcript) -> bool {
        match &mut self.redactor {
            Some(redactor) => {
                let told = redactor.push(&bytes);
                self.tell(told, transcript).await
            }
            None => transcript.add(self.stream, self.step, bytes).await,
        }
    }

    /// What comes from here on is another step's.
    fn begin(&mut self, step: u32) {
        match &mut self.redactor {
            Some(redactor) => redactor.begin(step),
            None => self.step = step,
        }
    }

    /// Hands on what was kept back as the beginning of a secret: it comes no more.
    async fn write_rest(&mut self, transcript: &mut Transcript) -> bool {
        match self.redactor.as_mut().map(Redactor::finish) {
            Some(rest) => self.tell(rest, transcript).await,
            None => false,
        }
    }

    async fn tell(&mut self, told: Told, transcript: &mut Transcript) -> bool {
        let (mut bytes, mut filled, mut from) = (Bytes::from(told.bytes), false, 0);
        for (at, step) in told.steps {
            filled |= transcript.add(self.stream, self.step, bytes.split_to(at - from)).await;
            (self.step, from) = (step, at);
        }
        filled | transcript.add(self.stream, self.step, bytes).await
    }
}

impl Run {
    pub fn new(keys: &Keys, keeper: &Keeper, proposal: ProposalId, output_limit: u64, secrets: &Secrets) -> Self {
        let log = keeper.tools.outputs.begin(&proposal);
        Self {
            stdout: Search::new(OutputStream::Stdout, keys, secrets),
            stderr: Search::new(OutputStream::Stderr, keys, secrets),
            step: 0,
            transcript: Transcript::new(proposal, output_limit, keeper.tools.journal.clone(), log),
            stdout_ended: false,
            trailer: None,
            broken: None,
            began: Instant::now(),
            first_byte: None,
        }
    }

    /// Takes in what came. True when that filled the output to its limit.
    pub async fn take(&mut self, stream: OutputStream, bytes: &Bytes) -> bool {
        let search = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let (mut rest, mut filled) = (&bytes[..], false);
        loop {
            let scan = search.finder.push(rest);
            let [held, now] = scan.output;
            if self.first_byte.is_none() && !(held.is_empty() && now.is_empty()) {
                self.first_byte = Some(Instant::now());
            }
            let (held, now) = (Bytes::copy_from_slice(held), bytes.slice_ref(now));
            rest = scan.rest;
            let found = scan.found;
            filled |= search.write_down(held, &mut self.transcript).await;
            filled |= search.write_down(now, &mut self.transcript).await;
            match found {
                Some(Found::Mark(step)) => {
                    search.begin(step);
                    self.step = self.step.max(step);
                    continue;
                }
                Some(Found::Fence(Ok(Fence::Stdout { .. }))) => self.stdout_ended = true,
                Some(Found::Fence(Ok(Fence::Stderr(trailer)))) => self.trailer = Some(trailer),
                Some(Found::Fence(Err(error))) => {
                    self.broken = Some(format!("init ended the run in words that are not understood: {error}"));
                }
                None => {}
            }
            return filled;
        }
    }

    /// How it ended, once both fences were seen: before that, output may still be on its way.
    pub fn outcome(&self) -> Option<Outcome> {
        let trailer = self.trailer.as_ref().filter(|_| self.stdout_ended)?;
        let message = || String::from_utf8_lossy(&trailer.message).into_owned();
        Some(match (trailer.why, trailer.how) {
            (Why::Deadline, _) => Outcome::Deadline,
            (Why::Cancelled, _) => Outcome::Cancelled,
            (Why::BadRequest, _) => Outcome::Lost(format!("init refused the request: {}", message())),
            (Why::FileFailed, How::NotStarted(error)) => Outcome::NotStarted(error, message()),
            (Why::FileFailed | Why::Finished, How::Exited(code)) => Outcome::Exited(code),
            (Why::FileFailed | Why::Finished, How::Signalled(signal)) => Outcome::Signalled(signal),
            (Why::Finished, How::NotStarted(error)) => Outcome::NotStarted(error, message()),
        })
    }

    /// Counts how long it took, if it came to its end: a run that was killed says nothing about its pool.
    pub fn measure(&self, pool: &str, leased: Instant, statistics: &Statistics) {
        if let Some(first) = self.first_byte {
            statistics.first_byte(pool, first.duration_since(leased));
        }
        if let Some(trailer) = self.trailer.as_ref().filter(|it| self.stdout_ended && it.why == Why::Finished) {
            let program = Duration::from_micros(trailer.wall_us);
            statistics.overhead(pool, leased.elapsed().saturating_sub(program));
        }
    }

    pub async fn report(mut self, outcome: Outcome) -> RunReport {
        for search in [&mut self.stdout, &mut self.stderr] {
            if matches!(outcome, Outcome::Lost(_)) {
                // What looked like the beginning of a fence was output after all.
                let held = search.finder.finish().bytes.into();
                search.write_down(held, &mut self.transcript).await;
            }
            search.write_rest(&mut self.transcript).await;
        }
        let steps = step_reports(self.trailer.as_ref(), self.step, &self.transcript);
        let waited = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (step, usage) = self.trailer.map_or_else(
            || (self.step, RunUsage { wall_us: waited, ..RunUsage::default() }),
            |it| {
                let usage = RunUsage {
                    wall_us: it.wall_us,
                    cpu_us: it.cpu_us,
                    peak_memory: it.peak_memory,
                    oom_kills: it.oom_kills,
                };
                (it.step, usage)
            },
        );
        let full_at = self.transcript.full_at();
        RunReport { outcome, step, full_at, steps, usage, output: self.transcript.summary() }
    }
}

/// What was seen of the steps that began: how they ended is init's to say, and how much they wrote was counted here.
fn step_reports(trailer: Option<&Trailer>, last_seen: u32, transcript: &Transcript) -> Vec<StepReport> {
    let begun = trailer.map_or(last_seen as usize + 1, |trailer| trailer.steps.len());
    let report = |step: usize| {
        let [stdout_bytes, stderr_bytes] = transcript.of_step(step);
        let (mut how, mut wall_us) = (None, 0);
        if let Some(trailer) = trailer
            && let Some(end) = trailer.steps.get(step)
        {
            let is_told = trailer.step as usize == step;
            wall_us = end.wall_us;
            how = match end.how {
                // It did not end by itself.
                _ if is_told && matches!(trailer.why, Why::Deadline | Why::Cancelled) => None,
                How::Exited(code) => Some(StepHow::Exited(code)),
                How::Signalled(signal) => Some(StepHow::Signalled(signal)),
                How::NotStarted(error) if is_told => {
                    Some(StepHow::NotStarted(error, String::from_utf8_lossy(&trailer.message).into_owned()))
                }
                // Init has words for one step only.
                How::NotStarted(error) => Some(StepHow::NotStarted(error, words_of(error))),
            };
        }
        StepReport { how, wall_us, stdout_bytes, stderr_bytes }
    };
    (0..begun).map(report).collect()
}

/// What an error number means, as in `No such file or directory`.
fn words_of(error: i32) -> String {
    let text = std::io::Error::from_raw_os_error(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
