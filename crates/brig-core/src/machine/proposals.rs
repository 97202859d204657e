//! Proposals from their arrival to their verdict.

use std::sync::Arc;

use super::event::Batch;
use super::pools::Arrival;
use super::{Answer, Choice, Effect, EngineState, FINISHED_KEPT, KEYS_KEPT, State, Ticket, Timer};
use crate::admission;
use crate::envelope::Envelope;
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::policy;
use crate::problem::{Code, Problem};
use crate::profile::{Hash, Profile, SandboxSpec};
use crate::proposal::{
    Agent, Decider, Draft, EndKind, Judgement, Operator, Ruling, RunEnd, Status, Verdict, VerdictKind,
};
use crate::time::{Mono, Now, Wall};

/// How often a journal that failed is tried again.
const JOURNAL_RETRY_MS: u64 = 1000;

/// A proposal, from admission on.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its name.
    pub id: ProposalId,
    /// Who asks.
    pub agent: Agent,
    /// Why, in the agent's words.
    pub reason: String,
    /// What shall run.
    pub envelope: Arc<Envelope>,
    /// Names the envelope.
    pub digest: Hash,
    /// What policy said.
    pub ruling: Ruling,
    /// Why it was sent back to ask, if it was.
    pub returned: Option<String>,
    /// When it came.
    pub received_at: Wall,
    /// When it ends as expired, if nobody decides.
    pub expires_at: Wall,
    /// What was decided, once that is durable.
    pub verdict: Option<Verdict>,
    /// Its run, once a sandbox is leased.
    pub run: Option<Run>,
    /// How its run ended, once that is durable.
    pub end: Option<RunEnd>,
    /// Where it stands.
    pub phase: Phase,
    pub(super) order: u64,
    pub(super) expires: Mono,
    /// Its agent took it back before it was recorded.
    pub(super) withdrawn_early: bool,
}

/// The run of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it runs or ran.
    pub sandbox: SandboxId,
    /// It had to wait for a sandbox, as none was warm.
    pub cold: bool,
    /// When it was handed over.
    pub started_at: Wall,
    /// When its time is up.
    pub deadline_at: Wall,
}

/// Where a proposal stands; the picture is in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being recorded and not known to anyone else yet.
    Recording,
    /// It waits for an operator.
    Waiting,
    /// Its verdict is being recorded.
    Deciding,
    /// It is approved, durably, and waits for a sandbox.
    Granted {
        /// None was warm when it was granted.
        cold: bool,
    },
    /// It has a sandbox; nothing is known to be written to it yet.
    Launching,
    /// The first byte was written: its verdict is spent.
    Running,
    /// It has ended, and its end is being recorded.
    Concluding,
    /// Nothing more will happen.
    Over,
}

impl Phase {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Over)
    }

    /// Whether it takes a place in the queue.
    const fn is_queued(self) -> bool {
        matches!(self, Self::Recording | Self::Waiting | Self::Deciding | Self::Granted { .. })
    }
}

impl Proposal {
    /// Where it stands, in one word.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Recording => Status::Arriving,
            Phase::Waiting | Phase::Deciding => Status::Waiting,
            Phase::Granted { .. } | Phase::Launching => Status::Approved,
            Phase::Running | Phase::Concluding => Status::Running,
            Phase::Over => match self.verdict.as_ref().map(|verdict| verdict.kind) {
                Some(VerdictKind::Rejected) => Status::Rejected,
                Some(VerdictKind::Expired) => Status::Expired,
                Some(VerdictKind::Withdrawn) => Status::Withdrawn,
                Some(VerdictKind::Approved) | None => Status::Finished,
            },
        }
    }
}

impl State {
    pub(super) fn propose(&mut self, ticket: Ticket, id: ProposalId, agent: Agent, draft: Box<Draft>, now: Now) {
        match self.arrive(ticket, id, agent, draft, now) {
            Ok(None) => {}
            Ok(Some(known)) => self.answer(ticket, Ok(Answer::Accepted(known))),
            Err(problem) => self.answer(ticket, Err(problem)),
        }
    }

    /// Takes a proposal in, or says which known one it repeats.
    fn arrive(
        &mut self,
        ticket: Ticket,
        id: ProposalId,
        agent: Agent,
        draft: Box<Draft>,
        now: Now,
    ) -> Result<Option<ProposalId>, Problem> {
        if self.stopping {
            return Err(Problem::new(Code::ShuttingDown, "the supervisor is ending"));
        }
        admission::check(&draft)?;
        let draft_hash = hash_of(&draft)?;
        if let Some(known) = self.repeated(&agent, &draft, draft_hash)? {
            return Ok(Some(known));
        }
        if self.queued >= self.config.queue_limit {
            return Err(Problem::new(
                Code::QueueFull,
                format!("{} proposals wait, which is all that the queue holds", self.queued),
            )
            .help("try again when some are decided; `[queue] limit` in brig.toml sets how many may wait"));
        }
        let profile = self.profile_named(draft.profile.as_deref())?;
        if let Some(key) = &draft.key {
            self.remember_key(agent.name.clone(), key.clone(), draft_hash, id.clone());
        }
        let arrival = Arrival { ticket, id, agent, draft, draft_hash };
        self.queued += 1;
        self.join_pool(&profile, arrival, now);
        Ok(None)
    }

    fn repeated(&self, agent: &Agent, draft: &Draft, draft_hash: Hash) -> Result<Option<ProposalId>, Problem> {
        let Some(key) = &draft.key else { return Ok(None) };
        match self.keys.get(&(agent.name.clone(), key.clone())) {
            None => Ok(None),
            Some((hash, id)) if *hash == draft_hash => Ok(Some(id.clone())),
            Some((_, id)) => Err(Problem::new(
                Code::KeyConflict,
                format!("key `{key}` was used for proposal {id}, which asks for something else"),
            )
            .help("give each request a key of its own, and repeat a request exactly")),
        }
    }

    pub(super) fn remember_key(&mut self, agent: String, key: String, draft_hash: Hash, id: ProposalId) {
        if self.keys_by_age.len() >= KEYS_KEPT
            && let Some(oldest) = self.keys_by_age.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.keys_by_age.push_back((agent.clone(), key.clone()));
        self.keys.insert((agent, key), (draft_hash, id));
    }

    fn profile_named(&self, name: Option<&str>) -> Result<Arc<Profile>, Problem> {
        let name = name.unwrap_or(&self.config.default_profile);
        self.profiles.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = self.profiles.keys().map(|name| format!("`{name}`")).collect();
            let shown = crate::visible::line(name.as_bytes());
            Problem::new(Code::UnknownProfile, format!("there is no profile `{shown}`"))
                .help(format!("there is {}; profiles are files in the folder `profiles`", known.join(", ")))
        })
    }

    /// Admits what has arrived, now that its image is known.
    pub(super) fn admit(&mut self, arrival: Arrival, profile: &Profile, spec: &SandboxSpec, now: Now) {
        let Arrival { ticket, id, agent, draft, draft_hash } = arrival;
        let envelope = match admission::admit(&draft, profile, spec) {
            Ok(envelope) => Arc::new(envelope),
            Err(problem) => return self.turn_away(ticket, &agent, draft.key, problem),
        };
        let digest = envelope.digest();
        let ruling = policy::judge(profile, &agent, self.config.trust);
        let wait = profile.approval.expires_ms;
        let expires_at = Wall(now.wall.0.saturating_add_unsigned(wait));
        let mut entries = vec![(
            now.wall,
            Entry::Proposed {
                id: id.clone(),
                agent: agent.clone(),
                reason: draft.reason.clone(),
                key: draft.key.clone(),
                draft_hash,
                envelope: Arc::clone(&envelope),
                digest,
                ruling: ruling.clone(),
                expires_at,
            },
        )];
        let verdict = (ruling.effect == Judgement::Allow).then(|| Verdict {
            kind: VerdictKind::Approved,
            by: Decider::Rule { name: ruling.rule.clone() },
            reason: ruling.why.clone(),
            digest,
            at: now.wall,
        });
        if let Some(verdict) = &verdict {
            entries.push((now.wall, Entry::Decided { id: id.clone(), verdict: verdict.clone() }));
        }
        let proposal = Proposal {
            id: id.clone(),
            agent,
            reason: draft.reason,
            envelope,
            digest,
            ruling,
            returned: None,
            received_at: now.wall,
            expires_at,
            verdict: None,
            run: None,
            end: None,
            phase: Phase::Recording,
            order: self.next_order,
            expires: now.mono.plus(wait),
            withdrawn_early: false,
        };
        self.insert(proposal);
        self.record(Batch::Proposal { id, ticket, verdict }, entries);
    }

    /// Makes a proposal known. Its place in the queue was taken when it arrived.
    pub(super) fn insert(&mut self, proposal: Proposal) {
        self.next_order = self.next_order.max(proposal.order + 1);
        self.order.insert(proposal.order, proposal.id.clone());
        self.proposals.insert(proposal.id.clone(), proposal);
    }

    /// Refuses what had arrived and is not recorded: it leaves no trace but the answer.
    pub(super) fn turn_away(&mut self, ticket: Ticket, agent: &Agent, key: Option<String>, problem: Problem) {
        self.queued -= 1;
        if let Some(key) = key {
            let key = (agent.name.clone(), key);
            self.keys.remove(&key);
            self.keys_by_age.retain(|known| *known != key);
        }
        self.answer(ticket, Err(problem));
    }

    pub(super) fn withdraw(&mut self, ticket: Ticket, id: &ProposalId, agent: &Agent, now: Now) {
        if self.withdraw_arrival(id) {
            return self.answer(ticket, Ok(Answer::Done));
        }
        if let Some(proposal) = self.proposals.get_mut(id)
            && proposal.phase == Phase::Recording
        {
            proposal.withdrawn_early = true;
            return self.answer(ticket, Ok(Answer::Done));
        }
        let result = match self.proposal(id) {
            Some(proposal) if proposal.agent.name != agent.name => Err(unknown(id)),
            None => Err(unknown(id)),
            Some(proposal) => match proposal.phase {
                Phase::Waiting => {
                    self.give_verdict(id, VerdictKind::Withdrawn, Decider::Agent, String::new(), Some(ticket), now);
                    return;
                }
                Phase::Over | Phase::Concluding => Err(not_waiting(proposal)),
                _ => self.kill_run(id, &format!("agent {}", agent.name), now).map(|()| Answer::Done),
            },
        };
        self.answer(ticket, result);
    }

    #[expect(clippy::too_many_arguments, reason = "a verdict is all of these, and they come from one event")]
    pub(super) fn decide(
        &mut self,
        ticket: Ticket,
        id: &ProposalId,
        digest: &str,
        choice: Choice,
        reason: &str,
        operator: &Operator,
        now: Now,
    ) -> Result<(), Problem> {
        let proposal = self.proposal(id).ok_or_else(|| unknown(id))?;
        if proposal.phase != Phase::Waiting {
            return Err(not_waiting(proposal));
        }
        if digest.len() < 8 {
            return Err(Problem::new(Code::InvalidField, "digest has fewer than 8 characters")
                .help("give at least the first 8 characters of the digest that you looked at"));
        }
        if !proposal.digest.hex().starts_with(&digest.to_ascii_lowercase()) {
            return Err(Problem::new(
                Code::DigestMismatch,
                format!("proposal {id} has the digest {}, not the one that was given", &proposal.digest.hex()[..8]),
            )
            .help("look at it again: what it would run in may have changed since"));
        }
        let kind = match choice {
            Choice::Approve => VerdictKind::Approved,
            Choice::Reject if reason.trim().is_empty() => {
                return Err(Problem::new(Code::InvalidField, "reason is empty")
                    .help("the agent is given the reason, so that it can do better"));
            }
            Choice::Reject => VerdictKind::Rejected,
        };
        let by = Decider::Operator { name: operator.name.clone(), uid: operator.uid };
        self.give_verdict(id, kind, by, reason.to_owned(), Some(ticket), now);
        Ok(())
    }

    /// Records a verdict on a proposal that waits. What follows, follows when it is durable.
    pub(super) fn give_verdict(
        &mut self,
        id: &ProposalId,
        kind: VerdictKind,
        by: Decider,
        reason: String,
        ticket: Option<Ticket>,
        now: Now,
    ) {
        let Some(proposal) = self.proposals.get(id) else { return };
        let verdict = Verdict { kind, by, reason, digest: proposal.digest, at: now.wall };
        self.set_phase(id, Phase::Deciding);
        let entry = Entry::Decided { id: id.clone(), verdict: verdict.clone() };
        self.record(Batch::Verdict { id: id.clone(), ticket, verdict }, vec![(now.wall, entry)]);
    }

    /// Sends a proposal back to ask, under what its profile is now.
    pub(super) fn return_to_ask(&mut self, id: &ProposalId, why: &str, now: Now) {
        let Some(proposal) = self.proposals.get_mut(id) else { return };
        let Some(pool) = self.pools.get(&proposal.envelope.profile) else { return };
        let Some((spec, _)) = &pool.spec else { return };
        let envelope = Arc::new(proposal.envelope.rebound(&pool.profile, spec));
        proposal.digest = envelope.digest();
        proposal.envelope = Arc::clone(&envelope);
        proposal.verdict = None;
        proposal.returned = Some(why.to_owned());
        proposal.ruling = Ruling { effect: Judgement::Ask, rule: "returned".into(), why: why.to_owned() };
        let entry = Entry::Returned { id: id.clone(), why: why.to_owned(), envelope, digest: proposal.digest };
        self.set_phase(id, Phase::Waiting);
        self.record(Batch::Other, vec![(now.wall, entry)]);
    }

    pub(super) fn expire(&mut self, id: &ProposalId, now: Now) {
        let Some(proposal) = self.proposals.get(id) else { return };
        match proposal.phase {
            Phase::Waiting => {
                self.give_verdict(id, VerdictKind::Expired, Decider::Clock, String::new(), None, now);
            }
            Phase::Granted { .. } => {
                let why = match (&self.engine, self.pools.get(&proposal.envelope.profile)) {
                    (EngineState::Down { problem, .. }, _) => format!("the engine is away: {}", problem.message),
                    (_, Some(pool)) => pool.last_error.as_ref().map(|it| it.message.clone()).unwrap_or_default(),
                    _ => String::new(),
                };
                self.end_without_run(id, EndKind::Lost, &format!("no sandbox could be had in time: {why}"), None, now);
            }
            _ => {}
        }
    }

    /// What was to be recorded is durable, or is not.
    pub(super) fn recorded(&mut self, batch: u64, result: Result<(), Problem>, now: Now) {
        self.note_journal(&result, now);
        match (self.batches.remove(&batch), result) {
            (Some(Batch::Proposal { id, ticket, verdict }), Ok(())) => {
                self.answer(ticket, Ok(Answer::Accepted(id.clone())));
                self.set_phase(&id, Phase::Waiting);
                self.watch_expiry(&id);
                if let Some(verdict) = verdict {
                    self.follow_verdict(&id, verdict);
                }
                self.follow_early_withdrawal(&id, now);
            }
            (Some(Batch::Proposal { id, ticket, .. }), Err(problem)) => self.forget_unrecorded(&id, ticket, problem),
            (Some(Batch::Verdict { id, ticket, verdict }), Ok(())) => {
                self.follow_verdict(&id, verdict);
                if let Some(ticket) = ticket {
                    self.answer(ticket, Ok(Answer::Done));
                }
            }
            (Some(Batch::Verdict { id, ticket, .. }), Err(problem)) => {
                self.set_phase(&id, Phase::Waiting);
                self.retry_expiry(&id, now);
                if let Some(ticket) = ticket {
                    self.answer(ticket, Err(problem));
                }
            }
            // An end that cannot be recorded is still an end: it is only after a restart that nobody knows of it.
            (Some(Batch::End { id, end }), _) => self.finish(&id, end),
            (Some(Batch::Other) | None, _) => {}
        }
    }

    fn follow_early_withdrawal(&mut self, id: &ProposalId, now: Now) {
        let Some(proposal) = self.proposals.get(id).filter(|proposal| proposal.withdrawn_early) else { return };
        if proposal.phase == Phase::Waiting {
            self.give_verdict(id, VerdictKind::Withdrawn, Decider::Agent, String::new(), None, now);
        } else {
            let by = format!("agent {}", proposal.agent.name);
            // It was approved a moment ago in this same event, so there is something to take back.
            let _ = self.kill_run(id, &by, now);
        }
    }

    fn follow_verdict(&mut self, id: &ProposalId, verdict: Verdict) {
        let approved = verdict.kind == VerdictKind::Approved;
        let Some(proposal) = self.proposals.get_mut(id) else { return };
        proposal.verdict = Some(verdict);
        if approved {
            self.grant(id);
        } else {
            self.set_phase(id, Phase::Over);
        }
    }

    fn finish(&mut self, id: &ProposalId, end: RunEnd) {
        if let Some(proposal) = self.proposals.get_mut(id) {
            proposal.end = Some(end);
        }
        self.set_phase(id, Phase::Over);
    }

    fn forget_unrecorded(&mut self, id: &ProposalId, ticket: Ticket, problem: Problem) {
        let Some(proposal) = self.proposals.remove(id) else { return };
        self.order.remove(&proposal.order);
        self.queued -= 1;
        self.keys.retain(|_, (_, known)| known != id);
        let keys = &self.keys;
        self.keys_by_age.retain(|key| keys.contains_key(key));
        self.answer(ticket, Err(problem));
    }

    pub(super) fn watch_expiry(&mut self, id: &ProposalId) {
        if let Some(proposal) = self.proposals.get(id) {
            let at = proposal.expires;
            self.wake_at(at, Timer::Expire(id.clone()));
        }
    }

    /// A verdict could not be recorded, and its timer may be spent: it is looked at again in a second at the earliest, so
    /// that a journal that keeps failing is not asked in a loop.
    fn retry_expiry(&mut self, id: &ProposalId, now: Now) {
        if let Some(proposal) = self.proposals.get(id) {
            let at = proposal.expires.max(now.mono.plus(1000));
            self.wake_at(at, Timer::Expire(id.clone()));
        }
    }

    pub(super) fn record(&mut self, batch: Batch, entries: Vec<(Wall, Entry)>) {
        let number = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(number, batch);
        self.effects.push(Effect::Record { batch: number, entries });
    }

    /// Moves a proposal, keeps the count of the queue, and forgets the oldest of those that are over.
    pub(super) fn set_phase(&mut self, id: &ProposalId, phase: Phase) {
        let Some(proposal) = self.proposals.get_mut(id) else { return };
        let was = std::mem::replace(&mut proposal.phase, phase);
        match (was.is_queued(), phase.is_queued()) {
            (true, false) => self.queued -= 1,
            (false, true) => self.queued += 1,
            _ => {}
        }
        self.changes.proposals.insert(id.clone());
        if phase.is_over() && !was.is_over() {
            self.finished.push_back(id.clone());
            if self.finished.len() > FINISHED_KEPT
                && let Some(oldest) = self.finished.pop_front()
                && let Some(gone) = self.proposals.remove(&oldest)
            {
                self.order.remove(&gone.order);
                self.changes.proposals.insert(oldest);
            }
        }
    }

    fn note_journal(&mut self, result: &Result<(), Problem>, now: Now) {
        match result {
            Ok(()) if self.journal_problem.is_none() => return,
            Ok(()) => self.journal_problem = None,
            Err(problem) if self.journal_problem.is_none() => {
                self.journal_problem = Some((problem.clone(), now.wall));
            }
            _ => {}
        }
        if result.is_err() {
            self.wake_at(now.mono.plus(JOURNAL_RETRY_MS), Timer::Journal);
        }
        self.changes.supervisor = true;
    }

    /// Writes to a journal that failed, to see whether it can be written again: the entry says that there was a gap.
    pub(super) fn try_journal(&mut self, now: Now) {
        if let Some((problem, since)) = self.journal_problem.clone() {
            self.record(Batch::Other, vec![(now.wall, Entry::Gap { problem, since })]);
        }
    }
}

fn hash_of(draft: &Draft) -> Result<Hash, Problem> {
    let bytes = serde_json::to_vec(draft).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(Hash::of(&bytes))
}

pub(super) fn unknown(id: &ProposalId) -> Problem {
    let shown = crate::visible::line(id.0.as_bytes());
    Problem::new(Code::NotFound, format!("there is no proposal `{shown}`")).help("`brig queue` lists those that wait")
}

fn not_waiting(proposal: &Proposal) -> Problem {
    let state = match proposal.phase {
        Phase::Deciding => "is being decided right now",
        _ => match proposal.status() {
            Status::Approved => "was approved already",
            Status::Running => "runs already",
            Status::Finished => "has run already",
            Status::Rejected => "was rejected already",
            Status::Expired => "has expired",
            Status::Withdrawn => "was withdrawn",
            Status::Arriving | Status::Waiting => "is not ready to be decided",
        },
    };
    Problem::new(Code::NotWaiting, format!("proposal {} {state}", proposal.id))
}
