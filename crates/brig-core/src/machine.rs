//! The state of everything, and the one function that changes it: an event and a time in, effects out.
//!
//! ```text
//! proposal   propose ─► arriving ─► recording ─► waiting ─► deciding ─► granted ─► launching ─► running ─► concluding ─► over
//!                (its image is      (allowed by rule: ──────────────────┘ ▲            │
//!                 being fetched)     recorded with its verdict)           └────────────┘ nothing was written yet
//!                                     waiting ◄── granted: what it would run in has changed
//!                                     waiting ─► rejected, expired, withdrawn
//!
//! sandbox    creating ─► warm ─► leased ─► running ─► ending ─► (removed)
//!                 └───────┴──────────────────────────────▲
//! ```
//!
//! Nothing is launched before its verdict is durable: a verdict is an entry to [`Effect::Record`], and only
//! [`Event::Recorded`] moves its proposal on to `granted`. Effects are run outside and come back as events. Nothing here
//! does IO, reads a clock or draws a random number; whoever calls must run effects in the order in which they are returned.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::id::{ProposalId, SandboxId};
use crate::policy::Trust;
use crate::problem::{Code, Problem};
use crate::profile::{Hash, Profile};
use crate::time::{Mono, Now, Wall};

mod arrival;
mod event;
mod images;
mod pools;
mod profiles;
mod proposals;
mod recording;
mod restore;
mod runs;
mod sandbox;
mod steering;
#[cfg(test)]
mod tests;

pub use event::{Answer, Choice, Effect, Event, Target, Ticket};
pub use pools::{ImageState, Pool, PoolState};
pub use proposals::{Phase, Proposal};
pub use restore::RememberedKey;
pub use sandbox::{Sandbox, SandboxState};
pub use steering::{Hold, Replacing, SetByHand, Steering};

use event::Batch;

/// How many proposals that are over are remembered here; older ones are in the journal.
pub const FINISHED_KEPT: usize = 200;
/// How many idempotency keys are remembered.
const KEYS_KEPT: usize = 10_000;

/// What the operator has set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The profile of proposals that name none.
    pub default_profile: String,
    /// Proposals that may wait, be approved or arrive at once.
    pub queue_limit: usize,
    /// Sandboxes being made at once, over all pools.
    pub creators: u32,
    /// What was said about agents.
    pub trust: Trust,
    /// The first part of every sandbox's name: different at each start.
    pub boot: String,
    /// The engine's part of every sandbox's configuration.
    pub engine_fingerprint: String,
}

/// The engine, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// It has not been heard of yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down {
        /// Why.
        problem: Problem,
        /// Since when.
        since: Wall,
    },
}

/// What has changed since somebody last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Proposals that are new, have changed, or are no longer remembered.
    pub proposals: BTreeSet<ProposalId>,
    /// Sandboxes that are new, have changed, or are removed.
    pub sandboxes: BTreeSet<SandboxId>,
    /// Pools that are new, have changed, or are removed.
    pub pools: BTreeSet<String>,
    /// The engine or the journal came or went.
    pub supervisor: bool,
}

/// Something that shall be looked at later. One that is no longer so when its time comes is passed over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Expire(ProposalId),
    Backstop(SandboxId),
    Conclude(SandboxId),
    Pool(String),
    Journal,
}

/// The state of everything.
pub struct State {
    config: Config,
    profiles: BTreeMap<String, Arc<Profile>>,
    proposals: HashMap<ProposalId, Proposal>,
    order: BTreeMap<u64, ProposalId>,
    finished: VecDeque<ProposalId>,
    keys: HashMap<(String, String), (Hash, ProposalId)>,
    keys_by_age: VecDeque<(String, String)>,
    /// What has come and is not durable yet, and who else waits for that under the same key.
    pending: HashMap<ProposalId, Vec<Ticket>>,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    by_engine_id: HashMap<String, SandboxId>,
    pools: BTreeMap<String, Pool>,
    engine: EngineState,
    journal_problem: Option<(Problem, Wall)>,
    /// The journal can be written, but has no room for anything new.
    journal_full: Option<(Problem, Wall)>,
    /// A try of the journal is due, or is being recorded.
    journal_retry: bool,
    batches: HashMap<u64, Batch>,
    next_batch: u64,
    next_sandbox: u64,
    next_order: u64,
    next_request: u64,
    queued: usize,
    timers: BTreeSet<(Mono, Timer)>,
    /// The last lease of all pools.
    last_lease: Option<Mono>,
    /// The time of each timer that is set.
    alarms: HashMap<Timer, Mono>,
    changes: Changes,
    effects: Vec<Effect>,
    stopping: bool,
}

impl State {
    /// Nothing but profiles.
    #[must_use]
    pub fn new(config: Config, profiles: Vec<Profile>) -> Self {
        let mut state = Self {
            config,
            profiles: BTreeMap::new(),
            proposals: HashMap::new(),
            order: BTreeMap::new(),
            finished: VecDeque::new(),
            keys: HashMap::new(),
            keys_by_age: VecDeque::new(),
            pending: HashMap::new(),
            sandboxes: BTreeMap::new(),
            by_engine_id: HashMap::new(),
            pools: BTreeMap::new(),
            engine: EngineState::Unknown,
            journal_problem: None,
            journal_full: None,
            journal_retry: false,
            batches: HashMap::new(),
            next_batch: 0,
            next_sandbox: 0,
            next_order: 0,
            next_request: 0,
            queued: 0,
            timers: BTreeSet::new(),
            last_lease: None,
            alarms: HashMap::new(),
            changes: Changes::default(),
            effects: Vec::new(),
            stopping: false,
        };
        state.set_profiles(profiles, Now::default());
        state
    }

    /// Takes in what happened at `now`, and says what to do about it, in order.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.ring(now);
        match event {
            Event::Propose { ticket, id, agent, draft } => self.propose(ticket, id, agent, draft, now),
            Event::Withdraw { ticket, id, agent } => self.withdraw(ticket, &id, &agent, now),
            Event::Decide { ticket, id, digest, choice, reason, operator } => {
                let decided = self.decide(ticket, &id, &digest, choice, &reason, &operator, now);
                self.answer_problem(ticket, decided);
            }
            Event::Kill { ticket, target, operator } => {
                let killed = self.kill(&target, &operator, now).map(|()| Answer::Done);
                self.answer(ticket, killed);
            }
            Event::Steer { ticket, profile, order, operator } => {
                let steered = self.steer(ticket, &profile, order, operator, now);
                self.answer_problem(ticket, steered);
            }
            Event::Recorded { batch, result } => self.recorded(batch, result, now),
            Event::ImageProgress { profile, request, line } => self.image_progress(&profile, request, line),
            Event::ImageResolved { profile, request, result } => self.image_resolved(&profile, request, result, now),
            Event::ImageChanged { reference } => self.image_changed(&reference),
            Event::Armed { sandbox, result } => self.armed(&sandbox, result, now),
            Event::Started { sandbox } => self.started(&sandbox, now),
            Event::Refused { sandbox } => self.refused(&sandbox, now),
            Event::StepBegan { sandbox, step } => self.step_began(&sandbox, step),
            Event::OutputFull { sandbox } => self.output_full(&sandbox),
            Event::Ended { sandbox, report } => self.ended(&sandbox, report, now),
            Event::Gone { sandbox, why } => self.gone(&sandbox, why, now),
            Event::Unwell { sandbox, problem } => self.unwell(&sandbox, problem, now),
            Event::Died { engine_id } => self.died(&engine_id, now),
            Event::OutOfMemory { engine_id } => self.out_of_memory(&engine_id),
            Event::EngineUp => self.engine_up(),
            Event::EngineDown { problem } => self.engine_down(problem, now),
            Event::Profiles { profiles } => self.set_profiles(profiles, now),
            Event::JournalFull { problem } => self.journal_full(problem, now),
            Event::Tick => {}
            Event::Shutdown => self.shutdown(now),
        }
        self.reckon_pools(now);
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] shall come at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What has changed since this was called last.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Every proposal that is remembered and recorded, the oldest first.
    pub fn proposals(&self) -> impl Iterator<Item = &Proposal> {
        self.order.values().filter_map(|id| self.proposal(id))
    }

    /// One proposal, once it is recorded.
    #[must_use]
    pub fn proposal(&self, id: &ProposalId) -> Option<&Proposal> {
        self.proposals.get(id).filter(|proposal| proposal.phase != Phase::Recording)
    }

    /// Every sandbox.
    pub fn sandboxes(&self) -> impl Iterator<Item = (&SandboxId, &Sandbox)> {
        self.sandboxes.iter()
    }

    /// One sandbox.
    #[must_use]
    pub fn sandbox(&self, id: &SandboxId) -> Option<&Sandbox> {
        self.sandboxes.get(id)
    }

    /// Whether `engine_id` is one of ours. What is not, and carries our labels, belongs to nobody.
    #[must_use]
    pub fn knows_engine_id(&self, engine_id: &str) -> bool {
        self.by_engine_id.contains_key(engine_id)
    }

    /// Every pool.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// One pool.
    #[must_use]
    pub fn pool(&self, profile: &str) -> Option<&Pool> {
        self.pools.get(profile)
    }

    /// Every profile.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &EngineState {
        &self.engine
    }

    /// Why the journal cannot be written or has no room, and since when. Nothing new runs meanwhile.
    #[must_use]
    pub fn journal_problem(&self) -> Option<&(Problem, Wall)> {
        self.journal_problem.as_ref().or(self.journal_full.as_ref())
    }

    /// What the operator has set.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether anything waits for somebody, or runs.
    #[must_use]
    pub fn has_open_work(&self) -> bool {
        self.queued > 0 || self.proposals.values().any(|proposal| !proposal.phase.is_over())
    }

    /// Whether it was told to end, and nothing is left to be recorded or removed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stopping && self.sandboxes.is_empty() && self.batches.is_empty()
    }

    fn shutdown(&mut self, now: Now) {
        self.stopping = true;
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            self.refuse_arrivals(&name, &Problem::new(Code::ShuttingDown, "the supervisor is ending"));
        }
        self.stop_runs(now);
        self.discard_unused(now);
    }

    /// Looks at everything whose time has come.
    fn ring(&mut self, now: Now) {
        while let Some((at, _)) = self.timers.first() {
            if *at > now.mono {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else { break };
            self.alarms.remove(&timer);
            match timer {
                Timer::Expire(id) => self.expire(&id, now),
                Timer::Backstop(id) => self.backstop(&id),
                Timer::Conclude(id) => self.conclude_lost(&id, now),
                Timer::Journal => self.try_journal(now),
                // Every pool is reckoned after every event; this timer only makes one come.
                Timer::Pool(_) => {}
            }
        }
    }

    /// Sets a timer. Each has one time: a later call takes the place of the one before, but a pool is looked at at the
    /// first of all the times that it has reason to.
    fn wake_at(&mut self, at: Mono, timer: Timer) {
        match self.alarms.get(&timer) {
            Some(set) if *set <= at && matches!(timer, Timer::Pool(_)) => return,
            Some(_) => self.forget_timer(&timer),
            None => {}
        }
        self.alarms.insert(timer.clone(), at);
        self.timers.insert((at, timer));
    }

    /// Takes back a timer whose reason is gone.
    fn forget_timer(&mut self, timer: &Timer) {
        if let Some(at) = self.alarms.remove(timer) {
            self.timers.remove(&(at, timer.clone()));
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, Problem>) {
        self.effects.push(Effect::Answer { ticket, answer });
    }

    /// Answers only where it went wrong: where it went well, the answer follows once it is recorded.
    fn answer_problem(&mut self, ticket: Ticket, result: Result<(), Problem>) {
        if let Err(problem) = result {
            self.answer(ticket, Err(problem));
        }
    }
}
