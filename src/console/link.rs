//! The tasks that speak with the supervisor. Whatever it does (hang, end, flood), the console goes on: nothing here is ever
//! awaited by the loop that draws, every channel is bounded, every answer is bounded in time.

use std::time::Duration;

use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::msg::{Command, Msg, Target};
use crate::api::client::Client;
use crate::api::wire::{FollowLine, ProposalDetail, ProposalRow, Update, VerdictRequest};

/// Messages that may wait for the loop. Senders wait when it is full, and with them the supervisor's connection.
pub const QUEUE: usize = 64;
/// How long an answer may take to begin. Killing throttled sandboxes is the slowest that is asked for, at some 3 s.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a stream of lines may be silent: the supervisor sends `alive` well within that.
const SILENCE: Duration = Duration::from_secs(20);
/// The first and the longest pause before the next try.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long a selection must last before its output is asked for, so that moving through a list asks for nothing.
const SELECTION: Duration = Duration::from_millis(40);
/// Lines of output that become one message, if they are there already.
const BATCH: usize = 32;

/// Speaks with the supervisor. Everything ends with it.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    messages: mpsc::Sender<Msg>,
    events: JoinHandle<()>,
    follow: Option<JoinHandle<()>>,
}

impl Connection {
    /// Begins to listen. Everything arrives at `messages`.
    #[must_use]
    pub fn start(client: Client, messages: mpsc::Sender<Msg>) -> Self {
        let events = tokio::spawn(listen(client.clone(), messages.clone()));
        Self { client, messages, events, follow: None }
    }

    /// Does what was asked for, and does not wait for it. Leaving is not its business.
    pub fn run(&mut self, command: Command) {
        match command {
            Command::Verdict(id, request) => {
                let path = format!("/v1/proposals/{id}/verdict");
                let choice = request.verdict;
                self.post::<ProposalRow, VerdictRequest>(path, request, move |result| {
                    Msg::VerdictDone(id, choice, result)
                });
            }
            Command::Kill(target) => {
                let path = match &target {
                    Target::Run(id) => format!("/v1/proposals/{id}/kill"),
                    Target::Sandbox(id) => format!("/v1/sandboxes/{id}/kill"),
                };
                self.post::<serde_json::Value, _>(path, Nothing {}, move |result| Msg::KillDone(target, result));
            }
            Command::Shutdown => {
                self.post::<serde_json::Value, _>("/v1/shutdown".into(), Nothing {}, Msg::ShutdownDone);
            }
            Command::Fetch(id) => {
                let (client, messages) = (self.client.clone(), self.messages.clone());
                tokio::spawn(async move {
                    let path = format!("/v1/proposals/{id}");
                    let answer = bounded(client.get::<ProposalDetail>(&path)).await;
                    // Nobody listens any more when the console has been left; then nobody wants to know either.
                    let _ = messages.send(Msg::Detail(id, answer.map(Box::new))).await;
                });
            }
            Command::Follow(id) => {
                if let Some(task) = self.follow.take() {
                    task.abort();
                }
                self.follow = id.map(|id| tokio::spawn(follow(self.client.clone(), id, self.messages.clone())));
            }
            Command::Leave(_) => {}
        }
    }

    fn post<A, B>(&self, path: String, body: B, done: impl FnOnce(Result<(), Problem>) -> Msg + Send + 'static)
    where
        A: DeserializeOwned + Send,
        B: Serialize + Send + Sync + 'static,
    {
        let (client, messages) = (self.client.clone(), self.messages.clone());
        tokio::spawn(async move {
            let answer = bounded(client.post::<A>(&path, &body)).await.map(|_| ());
            let _ = messages.send(done(answer)).await;
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.events.abort();
        if let Some(task) = self.follow.take() {
            task.abort();
        }
    }
}

/// `{}`.
#[derive(Serialize)]
struct Nothing {}

/// Listens to the supervisor for as long as the console is there.
async fn listen(client: Client, messages: mpsc::Sender<Msg>) {
    let mut pause = PAUSES.0;
    loop {
        let problem = match bounded(client.follow::<Update>("/v1/events")).await {
            Ok(mut lines) => loop {
                match timeout(SILENCE, lines.next()).await {
                    Ok(Some(Ok(update))) => {
                        pause = PAUSES.0;
                        if messages.send(Msg::Update(Box::new(update))).await.is_err() {
                            return;
                        }
                    }
                    Ok(Some(Err(problem))) => break problem,
                    Ok(None) => break Problem::new(Code::NoSupervisor, "it has ended the connection"),
                    Err(_) => break silent(SILENCE),
                }
            },
            Err(problem) => problem,
        };
        if messages.send(Msg::Lost(problem)).await.is_err() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Reads a run's output to its end, from where it was when a connection broke.
async fn follow(client: Client, id: ProposalId, messages: mpsc::Sender<Msg>) {
    sleep(SELECTION).await;
    let mut from = 0;
    let mut pause = PAUSES.0;
    loop {
        let path = format!("/v1/proposals/{id}/output?from={from}&follow=true");
        let result = match bounded(client.follow::<FollowLine>(&path)).await {
            Ok(lines) => read_output(lines, &id, &messages, &mut from).await,
            Err(problem) => Err(problem),
        };
        let over = match &result {
            Ok(over) => *over,
            // It is not remembered or not kept any more, so asking again is of no use.
            Err(problem) => matches!(problem.code, Code::NotFound | Code::Pruned),
        };
        if result.is_err() || over {
            let state = Msg::OutputState(id.clone(), result.map(|_| ()));
            if messages.send(state).await.is_err() || over {
                return;
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Reads until the connection ends. Returns whether the run was over by then.
async fn read_output(
    lines: crate::api::client::Lines<FollowLine>,
    id: &ProposalId,
    messages: &mpsc::Sender<Msg>,
    from: &mut u64,
) -> Result<bool, Problem> {
    let mut over = false;
    let mut batches = lines.ready_chunks(BATCH);
    while let Some(batch) = timeout(SILENCE, batches.next()).await.map_err(|_| silent(SILENCE))? {
        let mut chunks = Vec::new();
        let mut failed = None;
        for line in batch {
            match line {
                Ok(FollowLine::Output { seq, stream, step, data, .. }) => {
                    *from = seq + 1;
                    chunks.push((step, stream, data.0));
                }
                Ok(FollowLine::Proposal(row)) => over = row.status.is_final(),
                Ok(FollowLine::Alive | FollowLine::Note { .. }) => {}
                Ok(FollowLine::Problem(problem)) | Err(problem) => failed = Some(problem),
            }
        }
        if !chunks.is_empty() && messages.send(Msg::Output(id.clone(), chunks)).await.is_err() {
            return Ok(true);
        }
        if let Some(problem) = failed {
            return Err(problem);
        }
    }
    Ok(over)
}

async fn bounded<T>(answer: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(silent(ANSWER)))
}

fn silent(time: Duration) -> Problem {
    Problem::new(Code::NoSupervisor, format!("the supervisor has said nothing for {} s", time.as_secs()))
        .help("it may hang; see its log in the state directory")
}
