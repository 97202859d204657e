//! The keeper of one sandbox: arms it, hands it its one request, carries its output away and sees it gone.
//!
//! A keeper is a task. It owns the sandbox's standard input, so when the supervisor dies the sandbox does too. What it
//! sees it tells as events, in this order: `Armed`, then at most `Started` (or `Refused`), `StepBegan`, `OutputFull` and `Ended`, then
//! `Gone`.

mod frame;
mod run;

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use brig_core::envelope::Envelope;
use brig_core::id::{ProposalId, SandboxId};
use brig_core::machine::Event;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{SandboxSpec, SecretSource};
use brig_core::proposal::{Outcome, OutputStream};
use brig_init::wire::{self, ArmedFinder, ArmedScan};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, Fuse};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::frame::{Keys, request};
use self::run::Run;
use super::message::Mailbox;
use super::meters::Meters;
use super::outputs::Outputs;
use super::secrets::Secrets;
use super::statistics::Statistics;
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
