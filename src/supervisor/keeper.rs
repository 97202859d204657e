//! The keeper of one sandbox: arms it, hands it its one request, carries its output away and sees it gone.
//!
//! A keeper is a task. It owns the sandbox's standard input, so when the supervisor dies the sandbox does too. What it
//! sees it tells as events, in this order: `Armed`, then at most `Started` (or `Refused`), `StepBegan`, `OutputFull` and `Ended`, then
//! `Gone`.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use brig_core::envelope::{Envelope, Step};
use brig_core::id::{ProposalId, SandboxId};
use brig_core::machine::Event;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, SandboxSpec, SecretSource};
use brig_core::proposal::{Outcome, OutputStream, RunReport, RunUsage, StepHow, StepReport};
use brig_init::wire::{
    self, ArmedFinder, ArmedScan, Fence, FenceFinder, Found, How, Nonce, Secret, Stream, Trailer, Why,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, Fuse};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::message::Mailbox;
use super::meters::Meters;
use super::outputs::Outputs;
use super::secrets::{Redactor, Secrets, Told};
use super::statistics::Statistics;
use super::transcript::Transcript;
use crate::engine::{ArmedSandbox, Engine, last_words, remember};
use crate::journal::Journal;

/// How long a sandbox that has said its last word may take to be gone, before it is killed.
const LINGER: Duration = Duration::from_secs(5);
/// How long a sandbox whose run has ended is held at most. Init lets itself go a little later.
const HELD: Duration = Duration::from_millis(200);
/// How long writing a cancellation may take: the sandbox may not read any more.
const CANCEL: Duration = Duration::from_millis(200);
/// How long to wait before a kill that failed is tried again, at first and at most.
const KILL_AGAIN: Duration = Duration::from_millis(500);
const KILL_AGAIN_LATER: Duration = Duration::from_secs(5);
/// How often a warm sandbox is asked whether it is there, and how long it may take to say so.
const ASK_EVERY: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);
/// How long a sandbox may take none of its request. An armed init reads all the time.
const UNREAD: Duration = Duration::from_secs(10);

/// What a keeper can be told.
#[derive(Debug)]
pub enum Order {
    /// Run this.
    Launch { proposal: ProposalId, envelope: Arc<Envelope>, leased: Instant },
    /// End it at once.
    Kill,
    /// Let it go: nothing was written to it, or its run's end is recorded.
    Discard,
}

/// What every keeper needs.
#[derive(Clone)]
pub struct Tools {
    pub engine: Arc<dyn Engine>,
    pub journal: Journal,
    pub outputs: Outputs,
    pub meters: Meters,
    pub mailbox: Mailbox,
    pub statistics: Statistics,
}

/// Keeps one sandbox from its making to its end. The sender tells it what to do; a keeper that is armed and told nothing
/// waits.
pub fn keep(id: SandboxId, spec: Arc<SandboxSpec>, tools: Tools) -> mpsc::Sender<Order> {
    let (orders, inbox) = mpsc::channel(8);
    tokio::spawn(async move {
        let began = Instant::now();
        let sources = spec.cage.secrets.clone();
        // Nothing is made that could not be used; what the secrets are is read again when they are.
        let armed = match read_secrets(sources).await {
            Ok(_) => tools.engine.arm(&id, Arc::clone(&spec)).await,
            Err(problem) => Err(problem),
        };
        match armed {
            Err(problem) => tools.mailbox.event(Event::Armed { sandbox: id, result: Err(problem) }).await,
            Ok(armed) => {
                tools.statistics.armed(&spec.profile, began.elapsed());
                Keeper::new(id, armed, tools, inbox).run().await;
            }
        }
    });
    orders
}

struct Keeper {
    id: SandboxId,
    engine_id: String,
    /// `None` once it was let go.
    stdin: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Fused, as its end is looked at more than once.
    output: Fuse<BoxStream<'static, Result<(OutputStream, Bytes), Problem>>>,
    orders: mpsc::Receiver<Order>,
    tools: Tools,
    /// It is being killed. Tells when it was killed so long ago that its end should have been seen.
    killing: Option<oneshot::Receiver<()>>,
}

/// What came first.
enum Came {
    Order(Option<Order>),
    Output(Option<Result<(OutputStream, Bytes), Problem>>),
    /// It was killed, and its output still has no end.
    Outlived,
}

impl Keeper {
    fn new(id: SandboxId, armed: ArmedSandbox, tools: Tools, orders: mpsc::Receiver<Order>) -> Self {
        let ArmedSandbox { engine_id, stdin, output, meter } = armed;
        if let Some(meter) = meter {
            tools.meters.add(id.clone(), meter);
        }
        Self { id, engine_id, stdin: Some(stdin), output: output.fuse(), orders, tools, killing: None }
    }

    async fn run(mut self) {
        let result = Ok(self.engine_id.clone());
        self.tell(Event::Armed { sandbox: self.id.clone(), result }).await;
        let mut said = Vec::new();
        match self.wait().await {
            Ok(Came::Order(Some(Order::Launch { proposal, envelope, leased }))) => {
                self.serve(proposal, &envelope, leased).await;
            }
            Ok(Came::Order(Some(Order::Kill))) => self.kill(),
            Err(problem) => {
                self.tell(Event::Unwell { sandbox: self.id.clone(), problem }).await;
                self.kill();
            }
            // An armed init says nothing: whatever it said, or its end, makes it useless.
            Ok(Came::Output(Some(Ok((_, bytes))))) => remember(&mut said, &bytes),
            Ok(Came::Order(Some(Order::Discard) | None) | Came::Output(_) | Came::Outlived) => {}
        }
        self.see_it_gone(&mut said).await;
        self.tools.meters.remove(&self.id);
        // An order that came too late was for a run that this sandbox can no longer serve.
        self.orders.close();
        while let Some(order) = self.orders.recv().await {
            if matches!(order, Order::Launch { .. }) {
                self.tell(Event::Refused { sandbox: self.id.clone() }).await;
            }
        }
        self.tell(Event::Gone { sandbox: self.id.clone(), why: last_words(&said) }).await;
    }

    /// Waits for what comes first to a sandbox that is warm. Asks init from time to time whether it is there: a sandbox
    /// that somebody has frozen or stopped, or that is behind a connection which is dead without a word, has no other sign.
    async fn wait(&mut self) -> Result<Came, Problem> {
        loop {
            match timeout(ASK_EVERY, self.step()).await {
                Ok(came) => return Ok(came),
                Err(_) => {
                    if let Some(came) = self.ask().await? {
                        return Ok(came);
                    }
                }
            }
        }
    }

    /// Asks init whether it is there; what else came than its answer, if anything did. An order waits for the answer, which takes a millisecond: it must not be found among
    /// the output of a run. An end of the output is left to be found by who reads on.
    async fn ask(&mut self) -> Result<Option<Came>, Problem> {
        let Some(stdin) = &mut self.stdin else { return Ok(None) };
        let output = &mut self.output;
        let asking = async {
            // What cannot be written is told by the output's end.
            let _ = stdin.write_all(&wire::ping()).await;
            let _ = stdin.flush().await;
            let mut finder = ArmedFinder::new();
            while let Some(item) = output.next().await {
                match item {
                    Ok((OutputStream::Stdout, bytes)) => match finder.push(&bytes) {
                        ArmedScan::Waiting => {}
                        ArmedScan::Armed(_, []) => return Ok(None),
                        ArmedScan::Armed(..) | ArmedScan::Refused(_) => {
                            return Err(unwell(&self.id, "said what no init says"));
                        }
                    },
                    other => return Ok(Some(Came::Output(Some(other)))),
                }
            }
            Ok(None)
        };
        match timeout(ANSWER, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                let silent = format!("did not answer within {} s", ANSWER.as_secs());
                Err(unwell(&self.id, &silent)
                    .help("somebody may have paused or stopped it, or the machine is overloaded"))
            }
        }
    }

    async fn step(&mut self) -> Came {
        tokio::select! {
            biased;
            order = self.orders.recv(), if !self.orders.is_closed() || !self.orders.is_empty() => Came::Order(order),
            item = self.output.next() => Came::Output(item),
            () = outlived(&mut self.killing) => Came::Outlived,
        }
    }

    /// Runs the one request of this sandbox's life.
    async fn serve(&mut self, proposal: ProposalId, envelope: &Envelope, leased: Instant) {
        let keys = match Keys::new(envelope.steps.len()) {
            Ok(keys) => keys,
            Err(error) => {
                tracing::error!("no randomness for a nonce: {error}");
                return self.tell(Event::Refused { sandbox: self.id.clone() }).await;
            }
        };
        let secrets = match read_secrets(envelope.cage.secrets.clone()).await {
            Ok(secrets) => secrets,
            Err(problem) => {
                tracing::warn!("{} is not used: {problem}", self.id);
                return self.tell(Event::Refused { sandbox: self.id.clone() }).await;
            }
        };
        let frame = match request(envelope, &keys, &secrets) {
            Ok(frame) => frame,
            Err(why) => {
                // Admission lets nothing through that cannot be framed; should it, the run has an end all the same.
                self.tell(Event::Started { sandbox: self.id.clone() }).await;
                let report =
                    Run::new(&keys, self, proposal, envelope.output_limit, &secrets).report(Outcome::Lost(why)).await;
                return self.tell(Event::Ended { sandbox: self.id.clone(), report }).await;
            }
        };
        // The log is there before anyone can be told that the run has started.
        let mut run = Run::new(&keys, self, proposal, envelope.output_limit, &secrets);
        if !self.write_first(&frame).await {
            return self.tell(Event::Refused { sandbox: self.id.clone() }).await;
        }
        self.tell(Event::Started { sandbox: self.id.clone() }).await;
        self.tools.meters.add_running(&self.id, &self.engine_id);
        let outcome = self.carry(&mut run).await;
        run.measure(&envelope.profile, leased, &self.tools.statistics);
        let report = run.report(outcome).await;
        self.tell(Event::Ended { sandbox: self.id.clone(), report }).await;
        self.hold().await;
    }

    /// Holds on to a sandbox whose run has ended until that is recorded. Init waits for its owner to let go before it
    /// exits, as taking a container down is work for the whole machine and would hold up the result.
    async fn hold(&mut self) {
        if self.stdin.is_some()
            && let Ok(Some(Order::Kill)) = timeout(HELD, self.orders.recv()).await
        {
            self.kill();
        }
    }

    /// Writes the frame. False when not even its first byte could be written.
    async fn write_first(&mut self, frame: &[u8]) -> bool {
        let Some(stdin) = &mut self.stdin else { return false };
        let mut written = 0;
        while written < frame.len() {
            let wrote = tokio::select! {
                biased;
                wrote = timeout(UNREAD, stdin.write(&frame[written..])) => wrote,
                // Only a kill can come now; the rest of the frame does not matter then.
                Some(_) = self.orders.recv() => {
                    self.kill();
                    return written > 0;
                }
            };
            match wrote {
                Ok(Ok(count)) if count > 0 => written += count,
                // What was written is spent: its end will be told by the output's.
                Ok(_) => return written > 0,
                Err(_) => {
                    tracing::warn!("{} does not read its request, and is killed", self.id);
                    self.kill();
                    return written > 0;
                }
            }
        }
        // An error here is one of a sandbox that has just died, which its output tells too.
        let _ = stdin.flush().await;
        true
    }

    /// Carries output away until both fences were seen, or until no more comes.
    async fn carry(&mut self, run: &mut Run) -> Outcome {
        loop {
            match self.step().await {
                Came::Order(Some(Order::Kill) | None) => self.kill(),
                Came::Order(Some(other)) => tracing::error!("{}: {other:?} during a run", self.id),
                Came::Output(None) => return Outcome::Lost("the sandbox ended without a word".to_owned()),
                Came::Outlived => return Outcome::Lost("it was killed, and its end was not seen".to_owned()),
                Came::Output(Some(Err(problem))) => return Outcome::Lost(problem.to_string()),
                Came::Output(Some(Ok((stream, bytes)))) => {
                    let step = run.step;
                    let filled = self.keep(run, stream, &bytes).await;
                    if run.step > step {
                        self.tell(Event::StepBegan { sandbox: self.id.clone(), step: run.step }).await;
                    }
                    if filled {
                        self.tell(Event::OutputFull { sandbox: self.id.clone() }).await;
                    }
                    if let Some(problem) = run.broken.take() {
                        self.kill();
                        return Outcome::Lost(problem);
                    }
                    if let Some(outcome) = run.outcome() {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Takes in what came, which waits while the journal is behind; a kill is heeded meanwhile.
    async fn keep(&mut self, run: &mut Run, stream: OutputStream, bytes: &Bytes) -> bool {
        let mut taking = pin!(run.take(stream, bytes));
        loop {
            tokio::select! {
                biased;
                filled = &mut taking => return filled,
                Some(order) = self.orders.recv() => {
                    if matches!(order, Order::Kill) {
                        self.kill();
                    }
                }
            }
        }
    }

    /// Kills the sandbox, without waiting for it: init is told, which is quickest, and the engine is told, which is sure
    /// and is tried for as long as the sandbox is kept.
    fn kill(&mut self) {
        if self.killing.is_some() {
            return;
        }
        let (mut outlived, killing) = oneshot::channel();
        self.killing = Some(killing);
        if let Some(mut stdin) = self.stdin.take() {
            tokio::spawn(async move {
                // Dropping the input afterwards is the death of the owner, which init obeys as well.
                let _ = timeout(CANCEL, stdin.write_all(&wire::cancel())).await;
                let _ = timeout(CANCEL, stdin.flush()).await;
                tokio::time::sleep(CANCEL).await;
            });
        }
        let (engine, engine_id, id) = (Arc::clone(&self.tools.engine), self.engine_id.clone(), self.id.clone());
        tokio::spawn(async move {
            let mut pause = KILL_AGAIN;
            while let Err(problem) = engine.kill(&engine_id).await {
                tracing::warn!("{id} could not be killed, and is tried again: {problem}");
                tokio::select! {
                    () = outlived.closed() => return,
                    () = sleep(pause) => pause = (pause * 2).min(KILL_AGAIN_LATER),
                }
            }
            tokio::select! {
                () = outlived.closed() => {}
                // Nobody may wait for it any more.
                () = sleep(LINGER) => drop(outlived.send(())),
            }
        });
    }

    /// Lets go of the sandbox and waits until it is gone; kills it should it stay.
    async fn see_it_gone(&mut self, said: &mut Vec<u8>) {
        self.stdin = None;
        let patience = Instant::now() + LINGER;
        loop {
            let next = tokio::select! {
                biased;
                Some(order) = self.orders.recv() => {
                    match order {
                        Order::Kill => self.kill(),
                        // It was leased in the moment in which it died: nothing was written to it.
                        Order::Launch { .. } => self.tell(Event::Refused { sandbox: self.id.clone() }).await,
                        Order::Discard => {}
                    }
                    continue;
                }
                next = timeout_at(patience, self.output.next()) => next,
            };
            match next {
                // Whatever still comes is nobody's: both fences were seen, or nothing was ever asked. Then it may say why
                // it has ended.
                Ok(Some(Ok((_, bytes)))) => remember(said, &bytes),
                Ok(Some(Err(_)) | None) => return,
                Err(_) => {
                    if let Err(problem) = self.tools.engine.kill(&self.engine_id).await {
                        tracing::warn!("{} stays, and could not be killed: {problem}", self.id);
                    }
                    return;
                }
            }
        }
    }

    /// Tells what happened. Borrows nothing: the sandbox's streams must not be shared with another thread meanwhile.
    fn tell(&self, event: Event) -> impl Future<Output = ()> + Send + use<> {
        let mailbox = self.tools.mailbox.clone();
        async move { mailbox.event(event).await }
    }
}

/// Returns when a sandbox that is being killed should have been seen to end.
async fn outlived(killing: &mut Option<oneshot::Receiver<()>>) {
    if let Some(killing) = killing
        && killing.await.is_ok()
    {
        return;
    }
    pending().await
}

/// One run, as it comes in.
struct Run {
    stdout: Search,
    stderr: Search,
    /// The last step that was seen to begin, on either stream.
    step: u32,
    transcript: Transcript,
    stdout_ended: bool,
    trailer: Option<Trailer>,
    broken: Option<String>,
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
    fn new(keys: &Keys, keeper: &Keeper, proposal: ProposalId, output_limit: u64, secrets: &Secrets) -> Self {
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
    async fn take(&mut self, stream: OutputStream, bytes: &Bytes) -> bool {
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
    fn outcome(&self) -> Option<Outcome> {
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
    fn measure(&self, pool: &str, leased: Instant, statistics: &Statistics) {
        if let Some(first) = self.first_byte {
            statistics.first_byte(pool, first.duration_since(leased));
        }
        if let Some(trailer) = self.trailer.as_ref().filter(|it| self.stdout_ended && it.why == Why::Finished) {
            let program = Duration::from_micros(trailer.wall_us);
            statistics.overhead(pool, leased.elapsed().saturating_sub(program));
        }
    }

    async fn report(mut self, outcome: Outcome) -> RunReport {
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

/// What nobody but init may know of a request.
struct Keys {
    nonce: Nonce,
    /// For each step but the first.
    marks: Vec<[Secret; 2]>,
}

impl Keys {
    fn new(steps: usize) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; wire::NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        // A byte that is in no UTF-8 text. Output that ends like a nonce begins is held back until more comes, and so
        // text never is; the rest of the first half is still beyond chance, and the second half is the secret.
        nonce[0] |= 0xf8;
        let mut marks = vec![[[0; wire::SECRET_LEN]; 2]; steps.saturating_sub(1)];
        for secret in marks.iter_mut().flatten() {
            getrandom::fill(secret)?;
        }
        Ok(Self { nonce, marks })
    }
}

fn unwell(id: &SandboxId, what: &str) -> Problem {
    Problem::new(Code::EngineProtocol, format!("sandbox {id} was warm and {what}, so another one takes its place"))
}

/// Off the threads that everything else runs on, as a file may be on a slow disk; at once where there is nothing to read.
async fn read_secrets(sources: BTreeMap<String, SecretSource>) -> Result<Secrets, Problem> {
    if sources.is_empty() {
        return Ok(Secrets::default());
    }
    let reading = tokio::task::spawn_blocking(move || Secrets::read(&sources));
    reading.await.map_err(|error| Problem::new(Code::Internal, format!("secrets were not read: {error}")))?
}

/// The request frame of an envelope: byte for byte what was approved, with the values of the secrets it names.
fn request(envelope: &Envelope, keys: &Keys, secrets: &Secrets) -> Result<Vec<u8>, String> {
    let cage = &envelope.cage;
    let has_interpreter =
        |step: &Step| step.code.as_ref().is_none_or(|it| cage.interpreters.contains_key(&it.language));
    if let Some(at) = envelope.steps.iter().position(|step| !has_interpreter(step)) {
        // The profile has changed since the proposal was admitted.
        return Err(format!("the profile has no interpreter for the code of step {} any more", at + 1));
    }
    let steps: Vec<Framed<'_>> =
        envelope.steps.iter().enumerate().map(|(at, step)| Framed::new(at, step, cage)).collect();
    // Init takes a relative path as the first step's; an envelope's is the working directory's.
    let paths: Vec<Vec<u8>> =
        envelope.files.iter().map(|file| [cage.working_dir.as_bytes(), b"/", &file.path.0].concat()).collect();
    let request = wire::Request {
        nonce: keys.nonce,
        deadline_ms: envelope.deadline_ms,
        keep_going: envelope.keep_going,
        // The engine has set the profile's on every process of the sandbox already.
        rlimits: Vec::new(),
        steps: steps.iter().map(|framed| framed.step(cage, secrets)).collect(),
        marks: keys.marks.clone(),
        files: envelope
            .files
            .iter()
            .zip(&paths)
            .map(|(file, path)| wire::File { path, mode: file.mode, content: &file.content.0 })
            .collect(),
        stdin: &envelope.stdin.0,
    };
    request.encode().map_err(|error| format!("the request cannot be framed: {error}"))
}

/// A step, and where its code will lie.
struct Framed<'a> {
    step: &'a Step,
    path: Option<String>,
}

impl<'a> Framed<'a> {
    fn new(at: usize, step: &'a Step, cage: &Cage) -> Self {
        Self { step, path: step.code.as_ref().map(|code| cage.code_path(at, &code.language)) }
    }

    /// The step with its whole environment: the profile's with its secrets, and its own, which takes the place of the
    /// profile's. Code is given to its interpreter as the file that it will be.
    fn step(&'a self, cage: &'a Cage, secrets: &'a Secrets) -> wire::Step<'a> {
        let step = self.step;
        let own = step.env.iter().map(|(name, value)| (name.0.as_slice(), value.0.as_slice()));
        let inherited = cage.environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let secret = secrets.variables().map(|(name, value)| (name.as_bytes(), value));
        let inherited = inherited.chain(secret).filter(|(name, _)| !step.env.iter().any(|(other, _)| other.0 == *name));
        let code = step.code.as_ref().zip(self.path.as_ref()).map(|(code, path)| wire::Code {
            language: code.language.as_bytes(),
            path: path.as_bytes(),
            source: &code.source.0,
        });
        let interpreter = code.and_then(|_| cage.interpreters.get(&step.code.as_ref()?.language));
        let command = interpreter.into_iter().flat_map(|it| it.command.iter().map(String::as_bytes));
        let arguments = step.argv.iter().map(|argument| argument.0.as_slice());
        wire::Step {
            argv: command.chain(code.map(|code| code.path)).chain(arguments).collect(),
            env: inherited.chain(own).collect(),
            cwd: &step.cwd.0,
            code,
        }
    }
}
