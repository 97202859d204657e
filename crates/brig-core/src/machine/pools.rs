//! Pools and sandboxes: images, refilling, leasing, and what becomes of those that are old, stale or dead.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::event::Batch;
use super::proposals::Run;
use super::sandbox::{Sandbox, SandboxState};
use super::steering::{Hold, Steering};
use super::{Effect, EngineState, Phase, State, Ticket, Timer};
use crate::admission;
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::pool::demand::{Demand, Wanted};
use crate::pool::{Backoff, Counts, pace, to_make};
use crate::problem::{Code, Problem};
use crate::profile::{Hash, PoolPolicy, Profile, ResolvedImage, SandboxSpec};
use crate::proposal::{Agent, Draft, EndKind};
use crate::time::{Now, Wall};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Failures in a row, with an engine that answers, after which those who wait are told.
const GIVE_UP_AFTER: u32 = 3;

/// The warm sandboxes of one profile, and those who wait for one.
#[derive(Debug)]
pub struct Pool {
    /// Its profile.
    pub profile: Arc<Profile>,
    /// What is known of the image.
    pub image: ImageState,
    /// Runs that found a warm sandbox.
    pub hits: u64,
    /// Runs that had to wait for one to be made.
    pub misses: u64,
    /// Sandboxes that could not be made, or died unused, and images that could not be had.
    pub failures: u64,
    /// The last of those.
    pub last_error: Option<Problem>,
    /// What a sandbox is made from now, and its configuration hash.
    pub(super) spec: Option<(Arc<SandboxSpec>, Hash)>,
    pub(super) waiting: VecDeque<ProposalId>,
    pub(super) profile_hash: Hash,
    pub(super) arrivals: VecDeque<Arrival>,
    pub(super) members: BTreeSet<SandboxId>,
    pub(super) backoff: Backoff,
    /// Sandboxes in a row that an engine that answers could not make.
    refusals: u32,
    /// It is kept warm: it is the default, or has been asked for.
    pub(super) active: bool,
    /// Its profile is gone.
    pub(super) removed: bool,
    /// What operators have told it.
    pub(super) steering: Steering,
    pub(super) demand: Demand,
    /// How many warm ones are wanted, since it was reckoned last.
    pub(super) wanted: Wanted,
}

/// What is known of a pool's image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageState {
    /// What it is.
    pub resolved: Option<ResolvedImage>,
    /// What is being done to have it, for people, while something is.
    pub progress: Option<String>,
    /// The reference has changed its meaning while it was being looked for.
    pub(super) look_again: bool,
    /// The try that is going on, or was the last.
    pub(super) request: u64,
}

/// The states of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolState {
    /// Not used yet, so nothing is kept warm.
    Idle,
    /// The engine is away.
    Away,
    /// The image is being brought.
    Image,
    /// Something failed; it is tried again later.
    Failing,
    /// Fewer ready than wanted.
    Filling,
    /// As many ready as wanted.
    Ready,
    /// An operator has paused it: none are made.
    Paused,
    /// Its profile is gone, or an operator drains it; what runs may end.
    Draining,
    /// An operator has drained it, and none of it is left.
    Drained,
}

impl PoolState {
    /// The word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Away => "away",
            Self::Image => "image",
            Self::Failing => "failing",
            Self::Filling => "filling",
            Self::Ready => "ready",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// A proposal that is not admitted yet, as its image is not known.
#[derive(Debug)]
pub(super) struct Arrival {
    pub ticket: Ticket,
    pub id: ProposalId,
    pub agent: Agent,
    pub draft: Box<Draft>,
    pub draft_hash: Hash,
}

impl Pool {
    pub(super) fn new(profile: Arc<Profile>, active: bool) -> Self {
        Self {
            profile_hash: profile.content_hash(),
            profile,
            image: ImageState::default(),
            hits: 0,
            misses: 0,
            failures: 0,
            last_error: None,
            spec: None,
            waiting: VecDeque::new(),
            arrivals: VecDeque::new(),
            members: BTreeSet::new(),
            backoff: Backoff::default(),
            refusals: 0,
            active,
            removed: false,
            steering: Steering::default(),
            demand: Demand::default(),
            wanted: Wanted::default(),
        }
    }

    /// Its numbers: the profile's, or those that an operator has set.
    #[must_use]
    pub fn policy(&self) -> PoolPolicy {
        self.steering.set.as_ref().map_or(self.profile.pool, |set| set.policy)
    }

    /// What operators have told it.
    #[must_use]
    pub const fn steering(&self) -> &Steering {
        &self.steering
    }

    /// How many warm ones are wanted; none of a pool that is not used.
    #[must_use]
    pub const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Whether it is kept warm: it is the default's, or somebody has asked for it.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Approved proposals that wait for a sandbox.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What those weigh who are not admitted yet.
    pub(super) fn arriving_weight(&self) -> usize {
        self.arrivals.iter().map(|it| admission::weight(&it.draft)).sum()
    }

    /// When something that failed is tried again, if that is what it waits for at `now`.
    #[must_use]
    pub fn retries_at(&self, now: Now) -> Option<Wall> {
        let until = self.backoff.waits(now.mono)?;
        Some(Wall(now.wall.0.saturating_add_unsigned(until.since(now.mono))))
    }
}

impl State {
    /// The sandboxes of a pool, counted.
    #[must_use]
    pub fn counts(&self, pool: &Pool) -> Counts {
        let mut counts = Counts { waiting: u32::try_from(pool.waiting.len()).unwrap_or(u32::MAX), ..Counts::default() };
        for sandbox in pool.members.iter().filter_map(|id| self.sandboxes.get(id)) {
            match sandbox.state {
                SandboxState::Creating => counts.arming += 1,
                SandboxState::Warm => counts.warm += 1,
                SandboxState::Leased | SandboxState::Running | SandboxState::Ending => counts.busy += 1,
            }
        }
        counts
    }

    /// Where a pool stands.
    #[must_use]
    pub fn pool_state(&self, pool: &Pool, now: Now) -> PoolState {
        if pool.removed {
            return PoolState::Draining;
        }
        match pool.steering.hold {
            Some(Hold { drains: true, .. }) if pool.members.is_empty() => return PoolState::Drained,
            Some(Hold { drains: true, .. }) => return PoolState::Draining,
            Some(Hold { drains: false, .. }) => return PoolState::Paused,
            None => {}
        }
        if !pool.active {
            return PoolState::Idle;
        }
        if matches!(self.engine, EngineState::Down { .. }) {
            return PoolState::Away;
        }
        if pool.backoff.waits(now.mono).is_some() {
            return PoolState::Failing;
        }
        if pool.spec.is_none() {
            return PoolState::Image;
        }
        if self.counts(pool).warm < pool.wanted.ready { PoolState::Filling } else { PoolState::Ready }
    }

    /// A proposal's approval is durable: it waits for a sandbox from now on.
    pub(super) fn grant(&mut self, id: &ProposalId, now: Now) {
        let Some(proposal) = self.proposals.get(id) else { return };
        let name = proposal.envelope.profile.clone();
        let counts = self.pools.get(&name).map(|pool| self.counts(pool)).unwrap_or_default();
        let cold = counts.warm <= counts.waiting;
        self.set_phase(id, Phase::Granted { cold });
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.active = true;
            pool.waiting.push_back(id.clone());
        }
        self.changes.pools.insert(name);
        self.extend_expiry(id, now);
        self.catch_up(id, now);
    }

    /// Brings every pool to where it should be. Cheap where nothing is to be done; runs after every event.
    pub(super) fn reckon_pools(&mut self, now: Now) {
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            self.want(&name, now);
            self.discard_stale(&name, now);
            self.lease_out(&name, now);
            self.want(&name, now);
            self.refill(&name, now);
            let Some(pool) = self.pools.get(&name) else { continue };
            if pool.removed && pool.members.is_empty() {
                self.pools.remove(&name);
                self.changes.pools.insert(name);
            }
        }
    }

    /// Works out how many warm ones are wanted now.
    fn want(&mut self, name: &str, now: Now) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let used = pool.active && !pool.removed && !self.stopping;
        let policy = pool.policy();
        let wanted = if used { pool.demand.look(policy, now.mono) } else { Wanted::default() };
        if wanted != pool.wanted {
            pool.wanted = wanted;
            self.changes.pools.insert(name.to_owned());
        }
        if used && let Some(at) = pool.demand.next_look(policy, now.mono) {
            self.wake_at(at, Timer::Pool(name.to_owned()));
        }
    }

    /// Throws away what is unused and too old, too many, not what would be made now, or to be replaced.
    fn discard_stale(&mut self, name: &str, now: Now) {
        let Some(pool) = self.pools.get(name) else { return };
        let max_age = pool.policy().max_age_ms;
        let current = pool.spec.as_ref().map(|(_, hash)| *hash);
        let all_go = pool.removed || self.stopping || pool.steering.drains();
        let counts = self.counts(pool);
        let members = pool.members.iter().filter_map(|id| Some((id, self.sandboxes.get(id)?)));
        let (mut stale, mut fresh) = (Vec::new(), Vec::new());
        for (id, sandbox) in members.filter(|(_, it)| it.state == SandboxState::Warm) {
            let wrong = all_go || current.is_some_and(|hash| hash != sandbox.config_hash);
            let dies = sandbox.since.mono.plus(max_age);
            if wrong || dies <= now.mono {
                stale.push(id.clone());
            } else {
                fresh.push((!pool.steering.replaces(id), dies, id.clone()));
            }
        }
        // Those that are to be replaced first, then the oldest.
        fresh.sort();
        let wanted = pool.wanted.ready.saturating_add(counts.waiting) as usize;
        let mut surplus = fresh.len().saturating_sub(wanted);
        let makes_way = fresh.first().is_some_and(|(keeps, ..)| !keeps) && self.is_full(pool, counts);
        if surplus == 0 && makes_way && counts.waiting == 0 {
            surplus = 1;
        }
        stale.extend(fresh.drain(..surplus).map(|(_, _, id)| id));
        let next = fresh.iter().map(|(_, dies, _)| *dies).min();
        for id in stale {
            self.discard(&id, now);
        }
        if let Some(at) = next {
            self.wake_at(at, Timer::Pool(name.to_owned()));
        }
    }

    /// Whether a pool has no room for another sandbox, and nothing is on its way that makes some.
    fn is_full(&self, pool: &Pool, counts: Counts) -> bool {
        let ends = |id: &SandboxId| self.sandboxes.get(id).is_some_and(|it| it.state == SandboxState::Ending);
        let all = counts.warm + counts.arming + counts.busy;
        all >= pool.policy().max && counts.arming == 0 && !pool.members.iter().any(ends)
    }

    pub(super) fn discard_unused(&mut self, now: Now) {
        self.discard_warm(None, now);
    }

    /// Throws away everything warm, of one pool or of all.
    pub(super) fn discard_warm(&mut self, pool: Option<&str>, now: Now) {
        let warm = self
            .sandboxes
            .iter()
            .filter(|(_, it)| it.state == SandboxState::Warm && pool.is_none_or(|name| it.profile == name));
        for id in warm.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.discard(&id, now);
        }
    }

    fn discard(&mut self, id: &SandboxId, now: Now) {
        if let Some(sandbox) = self.sandboxes.get_mut(id) {
            sandbox.state = SandboxState::Ending;
            sandbox.since = now;
            if let Some(pool) = self.pools.get_mut(&sandbox.profile) {
                pool.steering.forget(id);
            }
            self.effects.push(Effect::Discard { sandbox: id.clone() });
            self.touch(id);
        }
    }

    /// Gives warm sandboxes to those who wait, in order.
    fn lease_out(&mut self, name: &str, now: Now) {
        while let Some(pool) = self.pools.get(name) {
            let Some(id) = pool.waiting.front().cloned() else { return };
            let Some(proposal) = self.proposals.get(&id) else { return };
            let envelope = &proposal.envelope;
            // Where it is not known what is made now, only what was approved will do: nobody could be asked anew.
            let fits = |it: &Sandbox| {
                let same = it.config_hash == envelope.config_hash && pool.profile_hash == envelope.profile_hash;
                it.state == SandboxState::Warm && (pool.spec.is_some() || same)
            };
            let warm = pool.members.iter().filter_map(|id| Some((id, self.sandboxes.get(id)?)));
            // The oldest first, so that none gets too old while others are used.
            let oldest = warm.filter(|(_, it)| fits(it)).min_by_key(|(_, it)| it.since.mono);
            let Some((sandbox, _)) = oldest.map(|(id, it)| (id.clone(), it)) else { return };
            if self.journal_problem().is_some() {
                return;
            }
            if let Some(pool) = self.pools.get_mut(name) {
                pool.waiting.pop_front();
            }
            self.launch(&id, &sandbox, now);
        }
    }

    /// Hands a run to a warm sandbox, if they are still what was approved.
    fn launch(&mut self, id: &ProposalId, sandbox: &SandboxId, now: Now) {
        let (Some(proposal), Some(cage)) = (self.proposals.get_mut(id), self.sandboxes.get_mut(sandbox)) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&cage.profile) else { return };
        let Phase::Granted { cold } = proposal.phase else { return };
        let approved = proposal.verdict.as_ref().map(|verdict| verdict.digest);
        let same = approved == Some(proposal.envelope.digest())
            && proposal.envelope.profile_hash == pool.profile_hash
            && proposal.envelope.config_hash == cage.config_hash;
        if !same {
            return self.return_to_ask(id, "what it would run in is not what was approved", now);
        }
        let deadline = proposal.envelope.deadline_ms;
        proposal.run = Some(Run {
            sandbox: sandbox.clone(),
            cold,
            started_at: now.wall,
            deadline_at: Wall(now.wall.0.saturating_add_unsigned(deadline)),
            step: 0,
            steps: proposal.envelope.step_count(),
        });
        cage.state = SandboxState::Leased;
        cage.since = now;
        cage.leased = now.mono;
        cage.proposal = Some(id.clone());
        pool.demand.leased(now.mono);
        self.last_lease = Some(now.mono);
        pool.steering.forget(sandbox);
        if cold {
            pool.misses += 1;
        } else {
            pool.hits += 1;
        }
        let entry =
            Entry::Launched { id: id.clone(), sandbox: sandbox.clone(), engine_id: cage.engine_id.clone(), cold };
        let envelope = Arc::clone(&proposal.envelope);
        // The launch first: the record of it does not hold it up. What must be durable, the verdict, is.
        self.effects.push(Effect::Launch { sandbox: sandbox.clone(), proposal: id.clone(), envelope });
        self.record(Batch::Other, vec![(now.wall, entry)]);
        self.set_phase(id, Phase::Launching);
        self.touch(sandbox);
    }

    fn refill(&mut self, name: &str, now: Now) {
        let Some(pool) = self.pools.get(name) else { return };
        if !pool.active || pool.removed || self.stopping || self.engine != EngineState::Up {
            return;
        }
        if let Some(at) = pool.backoff.waits(now.mono) {
            return self.wake_at(at, Timer::Pool(name.to_owned()));
        }
        let Some((spec, hash)) = pool.spec.clone() else {
            if pool.image.progress.is_none() {
                self.resolve(name);
            }
            return;
        };
        // Only now: those who propose wait for the image, also while none are made.
        if pool.steering.hold.is_some() {
            return;
        }
        let counts = self.counts(pool);
        let creating = self.sandboxes.values().filter(|it| it.state == SandboxState::Creating).count();
        let creating = u32::try_from(creating).unwrap_or(u32::MAX);
        // One more while some are to be replaced, so that there are never fewer than are wanted.
        let ready = pool.wanted.ready + u32::from(pool.steering.is_replacing());
        let last_lease = self.last_lease.map(|at| now.mono.since(at));
        let pace = pace(self.config.creators, counts, pool.wanted.ready, self.youngest_run(now), last_lease);
        let lacks = to_make(ready, pool.policy().max, counts, self.config.creators);
        let make = lacks.min(pace.creators.saturating_sub(creating));
        if let Some(after) = pace.look_after_ms.filter(|_| make < lacks) {
            self.wake_at(now.mono.plus(after), Timer::Pool(name.to_owned()));
        }
        (0..make).for_each(|_| self.make(name, &spec, hash, now));
    }

    /// Milliseconds since the last of the runs that go on was leased its sandbox, over all pools.
    fn youngest_run(&self, now: Now) -> Option<u64> {
        let runs =
            self.sandboxes.values().filter(|it| matches!(it.state, SandboxState::Leased | SandboxState::Running));
        runs.map(|it| now.mono.since(it.leased)).min()
    }

    fn make(&mut self, name: &str, spec: &Arc<SandboxSpec>, config_hash: Hash, now: Now) {
        let id = SandboxId(format!("{}-{}", self.config.boot, self.next_sandbox));
        self.next_sandbox += 1;
        let sandbox = Sandbox {
            profile: name.to_owned(),
            engine_id: String::new(),
            state: SandboxState::Creating,
            proposal: None,
            since: now,
            leased: now.mono,
            killed_by: None,
            config_hash,
            output_full: false,
            past_deadline: false,
            out_of_memory: false,
            died: false,
            last_report: None,
            gone: false,
        };
        self.sandboxes.insert(id.clone(), sandbox);
        if let Some(pool) = self.pools.get_mut(name) {
            pool.members.insert(id.clone());
        }
        self.effects.push(Effect::Arm { sandbox: id.clone(), spec: Arc::clone(spec) });
        self.touch(&id);
    }

    pub(super) fn armed(&mut self, id: &SandboxId, result: Result<String, Problem>, now: Now) {
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|it| it.state == SandboxState::Creating) else { return };
        let name = sandbox.profile.clone();
        match result {
            Ok(engine_id) => {
                let took = now.mono.since(sandbox.since.mono);
                sandbox.state = SandboxState::Warm;
                sandbox.since = now;
                sandbox.engine_id.clone_from(&engine_id);
                self.by_engine_id.insert(engine_id, id.clone());
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.backoff.worked();
                    pool.refusals = 0;
                    pool.demand.armed(took);
                }
                self.touch(id);
            }
            Err(problem) => {
                self.remove_sandbox(id);
                self.arming_failed(&name, problem, now);
            }
        }
    }

    fn arming_failed(&mut self, name: &str, problem: Problem, now: Now) {
        let engine_is_there = !matches!(problem.code, Code::EngineUnreachable | Code::EngineTimeout);
        if problem.code == Code::ImageUnavailable
            && let Some(pool) = self.pools.get_mut(name)
        {
            pool.image.resolved = None;
            pool.spec = None;
        }
        let message = problem.to_string();
        let refusals = self.pools.get_mut(name).map_or(0, |pool| {
            // Several that were being made at once fail for one reason, and so only once.
            if engine_is_there && pool.backoff.waits(now.mono).is_none() {
                pool.refusals += 1;
            }
            pool.refusals
        });
        self.count_failure(name, problem, now);
        if engine_is_there && refusals >= GIVE_UP_AFTER {
            let waiting = self.pools.get_mut(name).map(|pool| std::mem::take(&mut pool.waiting)).unwrap_or_default();
            for id in waiting {
                self.end_without_run(&id, EndKind::Lost, &format!("no sandbox could be made: {message}"), None, now);
            }
        }
    }

    pub(super) fn died_unused(&mut self, id: &SandboxId, why: Option<Problem>, now: Now) {
        let Some(sandbox) = self.sandboxes.get(id) else { return };
        let name = sandbox.profile.clone();
        if self.engine == EngineState::Up && !self.stopping {
            let problem = why.unwrap_or_else(|| {
                let what = format!("sandbox {id} ended by itself while it was waiting");
                Problem::new(Code::EngineProtocol, what)
            });
            self.count_failure(&name, problem, now);
        }
    }

    /// A warm sandbox does not answer any more: it is removed by who found that, and another one takes its place.
    pub(super) fn unwell(&mut self, id: &SandboxId, problem: Problem, now: Now) {
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|it| it.state == SandboxState::Warm) else { return };
        sandbox.state = SandboxState::Ending;
        sandbox.since = now;
        let name = sandbox.profile.clone();
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.steering.forget(id);
        }
        self.touch(id);
        self.count_failure(&name, problem, now);
    }

    /// Counts a failure and leaves the pool alone for a while; what fails in that while was begun before it, and does
    /// not make it longer.
    pub(super) fn count_failure(&mut self, name: &str, problem: Problem, now: Now) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.failures += 1;
        pool.last_error = Some(problem);
        let until = pool.backoff.waits(now.mono).unwrap_or_else(|| pool.backoff.failed(now.mono));
        self.changes.pools.insert(name.to_owned());
        self.wake_at(until, Timer::Pool(name.to_owned()));
    }

    pub(super) fn remove_sandbox(&mut self, id: &SandboxId) {
        let Some(sandbox) = self.sandboxes.remove(id) else { return };
        self.forget_timer(&Timer::Backstop(id.clone()));
        self.forget_timer(&Timer::Conclude(id.clone()));
        self.by_engine_id.remove(&sandbox.engine_id);
        if let Some(pool) = self.pools.get_mut(&sandbox.profile) {
            pool.members.remove(id);
            pool.steering.forget(id);
        }
        self.changes.sandboxes.insert(id.clone());
        self.changes.pools.insert(sandbox.profile);
    }

    /// Notes that a sandbox, and so its pool, has changed.
    pub(super) fn touch(&mut self, id: &SandboxId) {
        if let Some(sandbox) = self.sandboxes.get(id) {
            self.changes.pools.insert(sandbox.profile.clone());
            self.changes.sandboxes.insert(id.clone());
        }
    }
}
