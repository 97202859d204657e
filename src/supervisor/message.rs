//! What reaches the task that owns the state, and how others reach it.

use brig_core::id::{ProposalId, SandboxId};
use brig_core::machine::{Answer, Choice, Event, Target};
use brig_core::pool::PoolOrder;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, ResolvedImage};
use brig_core::proposal::{Agent, Draft, Operator};
use brig_core::retention::Usage;
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::api::wire::{PoolRow, ProfileRow, ProposalDetail, ProposalRow, SandboxRow, Snapshot, UsageRow};
use crate::engine::{EngineEvent, EngineInfo, Sighting};

/// Messages that may wait for the state's task.
const WAITING: usize = 1024;

/// Everything that wakes the state's task, beside time.
#[derive(Debug)]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// Somebody wants something, and waits for the answer.
    Request(Request, oneshot::Sender<Result<Answer, Problem>>),
    /// Somebody looks.
    Query(Query),
    /// The engine said who it is: it is up.
    EngineUp(EngineInfo),
    /// The engine told something.
    Engine(EngineEvent),
    /// Usage was read.
    Usage(Vec<(SandboxId, UsageRow)>),
    /// What of ours is on the engine, for the reaper to be told which of it belongs to nobody.
    Unknown(Vec<Sighting>, oneshot::Sender<Vec<Sighting>>),
    /// A console came, or left.
    Console(ConsoleMove),
    /// The disk was looked at. The second is why nothing new may begin, where that is so.
    Disk(Usage, Option<Problem>),
    /// The settings were read anew, and are wrong or right.
    ConfigProblem(Option<Problem>),
}

/// A console came, or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleMove {
    /// It came.
    Came,
    /// It left.
    Left,
}

/// What is answered when the state has heeded it. A proposal, a verdict, an order to a pool and the withdrawal of what waits are answered once
/// they are durable. A kill, and the withdrawal of what runs or has only just come, are answered at once: what is recorded
/// follows.
#[derive(Debug)]
pub enum Request {
    /// An agent proposes.
    Propose { id: ProposalId, agent: Agent, draft: Box<Draft> },
    /// An agent takes back.
    Withdraw { id: ProposalId, agent: Agent },
    /// An operator decides.
    Decide { id: ProposalId, digest: String, choice: Choice, reason: String, operator: Operator },
    /// An operator kills.
    Kill { target: Target, operator: Operator },
    /// An operator tells a pool something.
    Steer { profile: String, order: PoolOrder, operator: Operator },
}

/// What is answered from the state as it is.
#[derive(Debug)]
pub enum Query {
    /// All of it, and all that changes from then on.
    Watch(oneshot::Sender<(Snapshot, broadcast::Receiver<Bytes>)>),
    /// All of it.
    Snapshot(oneshot::Sender<Snapshot>),
    /// One proposal, in full, if it is remembered.
    Proposal(ProposalId, oneshot::Sender<Option<ProposalDetail>>),
    /// A proposal's row, now and whenever it changes, if it is remembered.
    Follow(ProposalId, oneshot::Sender<Option<watch::Receiver<ProposalRow>>>),
    /// The remembered proposals whose names begin so, each with its agent.
    Named(String, oneshot::Sender<Vec<(ProposalId, String)>>),
    /// The sandboxes.
    Sandboxes(oneshot::Sender<Vec<SandboxRow>>),
    /// The pool of a profile.
    Pool(Option<String>, oneshot::Sender<Option<PoolRow>>),
    /// The images that profiles name.
    Images(oneshot::Sender<Vec<ProfileImage>>),
    /// The profiles.
    Profiles(oneshot::Sender<Vec<ProfileRow>>),
}

/// The image that a profile names.
#[derive(Debug)]
pub struct ProfileImage {
    /// The profile's name.
    pub profile: String,
    /// What of it decides about the image, and all else.
    pub cage: Cage,
    /// What it is, where that is known.
    pub resolved: Option<ResolvedImage>,
    /// What is being done to have it.
    pub progress: Option<String>,
    /// Sandboxes that there are of it.
    pub sandboxes: u32,
}

/// Reaches the state's task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: mpsc::Sender<Message>,
}

impl Mailbox {
    /// A mailbox and what arrives in it.
    pub fn new() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// Tells what happened. Waits while the task is behind.
    pub async fn event(&self, event: Event) {
        self.send(Message::Event(event)).await;
    }

    /// Tells what happened, from where nothing can wait.
    pub fn event_soon(self, event: Event) {
        tokio::spawn(async move { self.event(event).await });
    }

    /// Sends anything. Where the task has ended nobody is left to be told.
    pub async fn send(&self, message: Message) {
        let _ = self.sender.send(message).await;
    }

    /// Asks for something and waits for the answer: see [`Request`] for what it means.
    ///
    /// # Errors
    /// What the core says; `shutting_down` when nobody answers any more.
    pub async fn request(&self, request: Request) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Request(request, reply)).await;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }

    /// Looks at the state.
    ///
    /// # Errors
    /// `shutting_down` when nobody answers any more.
    pub async fn query<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Query(query(reply))).await;
        answer.await.map_err(|_| ending())
    }
}

fn ending() -> Problem {
    Problem::new(Code::ShuttingDown, "the supervisor is ending")
}
