//! The one task that owns the state.
//!
//! It waits for a message or for time, hands it to the core, and runs the effects that come back, in order. It never waits
//! for the journal, the engine or a reader: those are tasks of their own and answer with messages.

use std::collections::HashMap;
use std::time::Duration;

use brig_core::id::{ProposalId, SandboxId};
use brig_core::machine::{Answer, Changes, Effect, Event, Pool, State, Ticket};
use brig_core::problem::Problem;
use brig_core::retention::Usage;
use brig_core::time::{Now, Wall};
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::clock::{Clock, wall};
use super::keeper::{self, Order, Tools};
use super::message::{ConsoleMove, Message, Query, Request};
use super::recorder::Recorder;
use super::view;
use crate::api::wire::{PoolRow, ProposalRow, SandboxRow, Since, Snapshot, SupervisorRow, Update, UsageRow};
use crate::engine::{EngineEvent, EngineInfo, Owner, Sighting};

/// Updates that a console may be behind before it is sent everything anew.
const UPDATES: usize = 1024;
/// Consoles are told of changes at most this often: sixty times a second is more than they draw.
const PUBLISH_EVERY: Duration = Duration::from_millis(16);
/// How long ending may take. What is left then dies by itself, as its owner does.
const ENDING: Duration = Duration::from_secs(8);
/// How long a supervisor that a console started waits for one to come back before it ends, if there is nothing to do.
const ALONE: Duration = Duration::from_secs(60);

/// Who this supervisor is, as its row says.
#[derive(Clone, Debug)]
pub struct Identity {
    pub owner: Owner,
    pub host: String,
    pub started_at: Wall,
    pub ends_with_consoles: bool,
}

/// The task's own.
pub struct Core {
    state: State,
    clock: Clock,
    identity: Identity,
    inbox: mpsc::Receiver<Message>,
    tools: Tools,
    recorder: Recorder,
    keepers: HashMap<SandboxId, mpsc::Sender<Order>>,
    tickets: HashMap<Ticket, oneshot::Sender<Result<Answer, Problem>>>,
    next_ticket: u64,
    followers: HashMap<ProposalId, watch::Sender<ProposalRow>>,
    usage: HashMap<SandboxId, UsageRow>,
    engine: Option<EngineInfo>,
    disk: Option<Usage>,
    config_problem: Option<Since>,
    consoles: u32,
    /// Since when no console is open.
    alone_since: Instant,
    updates: broadcast::Sender<Bytes>,
    /// What consoles have not been told yet.
    untold: Changes,
    told_at: Instant,
    ending_since: Option<Instant>,
}

impl Core {
    /// The task's own, with the effects of what was restored still to be run.
    pub fn new(
        state: State,
        clock: Clock,
        identity: Identity,
        inbox: mpsc::Receiver<Message>,
        tools: Tools,
        recorder: Recorder,
    ) -> Self {
        Self {
            state,
            clock,
            identity,
            inbox,
            tools,
            recorder,
            keepers: HashMap::new(),
            tickets: HashMap::new(),
            next_ticket: 0,
            followers: HashMap::new(),
            usage: HashMap::new(),
            engine: None,
            disk: None,
            config_problem: None,
            consoles: 0,
            alone_since: Instant::now(),
            updates: broadcast::Sender::new(UPDATES),
            untold: Changes::default(),
            told_at: Instant::now(),
            ending_since: None,
        }
    }

    /// Runs until the supervisor has ended: everything of it is gone, or has had its time to go.
    pub async fn run(mut self, restored: Vec<Effect>) {
        self.follow(restored);
        while !self.is_over() {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                () = sleep_until(wake) => self.handle(Event::Tick),
            }
            self.publish_if_due();
        }
    }

    fn is_over(&self) -> bool {
        let timed_out = self.ending_since.is_some_and(|since| since.elapsed() >= ENDING);
        if timed_out {
            tracing::warn!("ending took too long; what is left ends by itself");
        }
        self.state.is_finished() || timed_out
    }

    /// When to wake without a message: the state's own time, a publication that is due, or the end of patience.
    fn next_wake(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let state = self.state.next_wake().map(|at| self.clock.instant(at));
        let publish = (self.untold != Changes::default()).then(|| self.told_at + PUBLISH_EVERY);
        let ending = self.ending_since.map(|since| since + ENDING);
        let alone = self.identity.ends_with_consoles.then(|| self.alone_since + ALONE).filter(|_| self.is_unneeded());
        [state, publish, ending, alone].into_iter().flatten().fold(far, Instant::min)
    }

    fn is_unneeded(&self) -> bool {
        self.consoles == 0 && self.ending_since.is_none() && !self.state.has_open_work()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.handle(event),
            Message::Request(request, reply) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, reply);
                self.handle(event_of(request, ticket));
            }
            Message::Query(query) => self.answer(query),
            Message::EngineUp(info) => {
                tracing::info!("engine: {} at {}", info.name, info.address);
                self.engine = Some(info);
                self.handle(Event::EngineUp);
            }
            Message::Engine(EngineEvent::Died { engine_id }) => self.handle(Event::Died { engine_id }),
            Message::Engine(EngineEvent::OutOfMemory { engine_id }) => {
                self.handle(Event::OutOfMemory { engine_id });
            }
            Message::Engine(EngineEvent::ImageChanged { reference }) => {
                self.handle(Event::ImageChanged { reference });
            }
            Message::Usage(usage) => self.note_usage(usage),
            Message::Unknown(sightings, reply) => {
                let _ = reply.send(sightings.into_iter().filter(|it| self.is_nobodys(it)).collect());
            }
            Message::Console(ConsoleMove::Came) => {
                self.consoles += 1;
                self.untold.supervisor = true;
            }
            Message::Console(ConsoleMove::Left) => self.console_left(),
            Message::Disk(usage, problem) => {
                self.disk = Some(usage);
                self.untold.supervisor = true;
                self.handle(Event::JournalFull { problem });
            }
            Message::ConfigProblem(problem) => {
                self.config_problem = problem.map(|problem| Since { problem, since: wall() });
                self.untold.supervisor = true;
            }
        }
    }

    fn console_left(&mut self) {
        self.consoles = self.consoles.saturating_sub(1);
        self.alone_since = Instant::now();
        self.untold.supervisor = true;
        if self.identity.ends_with_consoles && self.is_unneeded() {
            self.handle(Event::Shutdown);
        }
    }

    fn handle(&mut self, event: Event) {
        if matches!(event, Event::Shutdown) && self.ending_since.is_none() {
            self.ending_since = Some(Instant::now());
        }
        let effects = self.state.handle(event, self.clock.now());
        self.follow(effects);
        let waited_long = self.alone_since.elapsed() >= ALONE;
        if waited_long && self.identity.ends_with_consoles && self.is_unneeded() {
            self.ending_since = Some(Instant::now());
            let effects = self.state.handle(Event::Shutdown, self.clock.now());
            self.follow(effects);
        }
    }

    fn follow(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer { ticket, answer } => {
                    if let Some(reply) = self.tickets.remove(&ticket) {
                        // Whoever asked may have gone.
                        let _ = reply.send(answer);
                    }
                }
                Effect::Record { batch, entries } => self.recorder.record(batch, entries),
                Effect::ResolveImage { profile, request, cage } => {
                    super::images::resolve(
                        self.tools.engine.clone(),
                        self.tools.mailbox.clone(),
                        profile,
                        request,
                        cage,
                    );
                }
                Effect::Arm { sandbox, spec } => {
                    let orders = keeper::keep(sandbox.clone(), spec, self.tools.clone());
                    self.keepers.insert(sandbox, orders);
                }
                Effect::Launch { sandbox, proposal, envelope } => {
                    self.tools.outputs.begin(&proposal);
                    let sent = self.order(&sandbox, Order::Launch { proposal, envelope, leased: Instant::now() });
                    if !sent {
                        // Its keeper has ended: nothing was written.
                        self.tools.mailbox.clone().event_soon(Event::Refused { sandbox });
                    }
                }
                Effect::Kill { sandbox } => drop(self.order(&sandbox, Order::Kill)),
                Effect::Discard { sandbox } => drop(self.order(&sandbox, Order::Discard)),
            }
        }
        self.note_changes();
    }

    /// Tells a keeper. At most a launch, a discard and a few kills ever reach one, so its inbox never is full.
    fn order(&self, sandbox: &SandboxId, order: Order) -> bool {
        self.keepers.get(sandbox).is_some_and(|keeper| keeper.try_send(order).is_ok())
    }

    /// Tells those who follow a proposal at once, and keeps the rest for the consoles.
    fn note_changes(&mut self) {
        let changes = self.state.take_changes();
        for id in &changes.proposals {
            let Some(proposal) = self.state.proposal(id) else { continue };
            if proposal.phase.is_over() {
                self.tools.outputs.end(id);
            }
            if let Some(follower) = self.followers.get(id) {
                let row = view::proposal_row(proposal);
                follower.send_if_modified(|known| {
                    let is_new = *known != row;
                    *known = row;
                    is_new
                });
                if proposal.phase.is_over() {
                    self.followers.remove(id);
                }
            }
        }
        for id in &changes.sandboxes {
            if self.state.sandbox(id).is_none() {
                self.keepers.remove(id);
                self.usage.remove(id);
            }
        }
        self.untold.proposals.extend(changes.proposals);
        self.untold.sandboxes.extend(changes.sandboxes);
        self.untold.pools.extend(changes.pools);
        self.untold.supervisor |= changes.supervisor;
    }

    fn note_usage(&mut self, usage: Vec<(SandboxId, UsageRow)>) {
        for (id, usage) in usage {
            if self.state.sandbox(&id).is_some() {
                self.untold.sandboxes.insert(id.clone());
                self.usage.insert(id, usage);
            }
        }
    }

    fn publish_if_due(&mut self) {
        if self.untold == Changes::default() || self.told_at.elapsed() < PUBLISH_EVERY {
            return;
        }
        self.told_at = Instant::now();
        let untold = std::mem::take(&mut self.untold);
        if self.updates.receiver_count() == 0 {
            return;
        }
        for update in self.updates_of(untold) {
            // An error says that nobody listens, which was so a moment ago as well.
            let _ = self.updates.send(crate::api::ndjson(&update));
        }
    }

    fn updates_of(&self, changes: Changes) -> Vec<Update> {
        let now = self.clock.now();
        let mut updates = Vec::new();
        for id in changes.proposals {
            updates.push(match self.state.proposal(&id) {
                Some(proposal) => Update::Proposal(view::proposal_row(proposal)),
                None => Update::ProposalGone { id },
            });
        }
        for id in changes.sandboxes {
            updates.push(match self.state.sandbox(&id) {
                Some(sandbox) => {
                    let usage = self.usage.get(&id).copied();
                    Update::Sandbox(view::sandbox_row(&self.state, &id, sandbox, usage))
                }
                None => Update::SandboxGone { id },
            });
        }
        for profile in changes.pools {
            updates.push(match self.state.pool(&profile) {
                Some(pool) => Update::Pool(self.pool_row(pool, now)),
                None => Update::PoolGone { profile },
            });
        }
        if changes.supervisor {
            updates.push(Update::Supervisor(self.row()));
        }
        updates
    }

    fn answer(&mut self, query: Query) {
        // Whoever asked may have gone; that is no reason to do anything.
        match query {
            Query::Watch(reply) => drop(reply.send((self.snapshot(), self.updates.subscribe()))),
            Query::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Query::Proposal(id, reply) => {
                // One that is over may have let go of a part; the journal has it whole.
                let whole = self.state.proposal(&id).filter(|proposal| proposal.is_whole);
                drop(reply.send(whole.map(view::proposal_detail)));
            }
            Query::Follow(id, reply) => drop(reply.send(self.follow_proposal(id))),
            Query::Named(prefix, reply) => {
                let named = self.state.proposals().filter(|proposal| proposal.id.0.starts_with(&prefix));
                drop(reply.send(named.map(|proposal| (proposal.id.clone(), proposal.agent.name.clone())).collect()));
            }
            Query::Sandboxes(reply) => drop(reply.send(self.sandbox_rows())),
            Query::Pool(profile, reply) => {
                let name = profile.unwrap_or_else(|| self.state.config().default_profile.clone());
                let now = self.clock.now();
                drop(reply.send(self.state.pool(&name).map(|pool| self.pool_row(pool, now))));
            }
            Query::Images(reply) => drop(reply.send(view::profile_images(&self.state))),
            Query::Profiles(reply) => drop(reply.send(view::profile_rows(&self.state))),
        }
    }

    fn follow_proposal(&mut self, id: ProposalId) -> Option<watch::Receiver<ProposalRow>> {
        let row = view::proposal_row(self.state.proposal(&id)?);
        if row.status.is_final() {
            // Nothing more will come, so nobody has to keep it.
            return Some(watch::Sender::new(row).subscribe());
        }
        let follower = self.followers.entry(id).or_insert_with(|| watch::Sender::new(row));
        Some(follower.subscribe())
    }

    fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        Snapshot {
            supervisor: self.row(),
            proposals: self.state.proposals().map(view::proposal_row).collect(),
            sandboxes: self.sandbox_rows(),
            pools: self.state.pools().map(|pool| self.pool_row(pool, now)).collect(),
        }
    }

    fn sandbox_rows(&self) -> Vec<SandboxRow> {
        let row =
            |(id, sandbox): (&SandboxId, &_)| view::sandbox_row(&self.state, id, sandbox, self.usage.get(id).copied());
        self.state.sandboxes().map(row).collect()
    }

    fn pool_row(&self, pool: &Pool, now: Now) -> PoolRow {
        view::pool_row(&self.state, pool, self.tools.statistics.latency(&pool.profile.name), now)
    }

    fn row(&self) -> SupervisorRow {
        SupervisorRow {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.identity.owner.pid,
            host: self.identity.host.clone(),
            started_at: self.identity.started_at,
            default_profile: self.state.config().default_profile.clone(),
            engine: self.engine.clone(),
            engine_problem: view::engine_problem(&self.state),
            journal_problem: view::journal_problem(&self.state),
            disk: self.disk.clone(),
            config_problem: self.config_problem.clone(),
            ends_with_consoles: self.identity.ends_with_consoles,
            consoles: self.consoles,
        }
    }

    /// Whether something that carries our labels is known to nobody here.
    fn is_nobodys(&self, sighting: &Sighting) -> bool {
        let mine = sighting.owner == Some(self.identity.owner);
        let known = sighting.sandbox.as_ref().is_some_and(|id| self.state.sandbox(id).is_some());
        !(mine && known || self.state.knows_engine_id(&sighting.engine_id))
    }
}

fn event_of(request: Request, ticket: Ticket) -> Event {
    match request {
        Request::Propose { id, agent, draft } => Event::Propose { ticket, id, agent, draft },
        Request::Withdraw { id, agent } => Event::Withdraw { ticket, id, agent },
        Request::Decide { id, digest, choice, reason, operator } => {
            Event::Decide { ticket, id, digest, choice, reason, operator }
        }
        Request::Kill { target, operator } => Event::Kill { ticket, target, operator },
        Request::Steer { profile, order, operator } => Event::Steer { ticket, profile, order, operator },
    }
}
