//! Pools and sandboxes: images, refilling, leasing, and what becomes of those that are old, stale or dead.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::event::Batch;
use super::proposals::Run;
use super::sandbox::{Sandbox, SandboxState};
use super::{Effect, EngineState, Phase, State, Ticket, Timer};
use crate::admission;
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::pool::{Backoff, Counts, to_make};
use crate::problem::{Code, Problem};
use crate::profile::{Hash, Profile, ResolvedImage, SandboxSpec};
use crate::proposal::{Agent, Draft, EndKind};
use crate::time::{Mono, Now, Wall};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long refilling keeps away from a lease: making a container slows down the run that has just begun.
const REFILL_PAUSE_MS: u64 = 50;
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
    pub(super) last_lease: Option<Mono>,
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
    /// Its profile is gone; what runs may end.
    Draining,
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
            Self::Draining => "draining",
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
            last_lease: None,
        }
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
        if self.counts(pool).warm < pool.profile.pool.target { PoolState::Filling } else { PoolState::Ready }
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
            self.discard_stale(&name, now);
            self.lease_out(&name, now);
            self.refill(&name, now);
            let Some(pool) = self.pools.get(&name) else { continue };
            if pool.removed && pool.members.is_empty() {
                self.pools.remove(&name);
                self.changes.pools.insert(name);
            }
        }
    }

    /// Throws away what is unused and too old, or not what would be made now.
    fn discard_stale(&mut self, name: &str, now: Now) {
        let Some(pool) = self.pools.get(name) else { return };
        let max_age = pool.profile.pool.max_age_ms;
        let current = pool.spec.as_ref().map(|(_, hash)| *hash);
        let Counts { mut warm, waiting, .. } = self.counts(pool);
        let wanted = pool.profile.pool.target.saturating_add(waiting);
        let mut stale = Vec::new();
        let mut next = None;
        for id in &pool.members {
            let Some(sandbox) = self.sandboxes.get(id).filter(|it| it.state == SandboxState::Warm) else { continue };
            let dies = sandbox.since.mono.plus(max_age);
            let wrong = pool.removed || self.stopping || current.is_some_and(|hash| hash != sandbox.config_hash);
            if wrong || dies <= now.mono || warm > wanted {
                warm -= 1;
                stale.push(id.clone());
            } else {
                next = Some(next.map_or(dies, |next: Mono| next.min(dies)));
            }
        }
        for id in stale {
            self.discard(&id, now);
        }
        if let Some(at) = next {
            self.wake_at(at, Timer::Pool(name.to_owned()));
        }
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
        cage.proposal = Some(id.clone());
        pool.last_lease = Some(now.mono);
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
        let wanted = pool.active && !pool.removed && !self.stopping && self.engine == EngineState::Up;
        if !wanted {
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
        let counts = self.counts(pool);
        let resumes = pool.last_lease.map(|at| at.plus(REFILL_PAUSE_MS)).filter(|at| *at > now.mono);
        let creating = self.sandboxes.values().filter(|it| it.state == SandboxState::Creating).count();
        let free = self.config.creators.saturating_sub(u32::try_from(creating).unwrap_or(u32::MAX));
        let make = to_make(pool.profile.pool, counts, free);
        match resumes {
            Some(at) if counts.waiting == 0 && make > 0 => self.wake_at(at, Timer::Pool(name.to_owned())),
            _ => (0..make).for_each(|_| self.make(name, &spec, hash, now)),
        }
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
                sandbox.state = SandboxState::Warm;
                sandbox.since = now;
                sandbox.engine_id.clone_from(&engine_id);
                self.by_engine_id.insert(engine_id, id.clone());
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.backoff.worked();
                    pool.refusals = 0;
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

    pub(super) fn died_unused(&mut self, id: &SandboxId, now: Now) {
        let Some(sandbox) = self.sandboxes.get(id) else { return };
        let name = sandbox.profile.clone();
        if self.engine == EngineState::Up && !self.stopping {
            let what = format!("sandbox {id} ended by itself while it was waiting");
            self.count_failure(&name, Problem::new(Code::EngineProtocol, what), now);
        }
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
