//! Proposals from their record to their verdict.

use std::sync::Arc;

use super::event::Batch;
use super::recording::JOURNAL_RETRY_MS;
use super::{Answer, Choice, EngineState, FINISHED_KEPT, State, Ticket, Timer};
use crate::admission;
use crate::blob::Blob;
use crate::envelope::Envelope;
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::problem::{Code, Problem};
use crate::profile::Hash;
use crate::proposal::{Agent, Decider, EndKind, Operator, Ruling, RunEnd, Status, Verdict, VerdictKind};
use crate::time::{Mono, Now, Wall};

/// How long an approved proposal may look for a sandbox at the least, however late its approval came.
const GRANTED_MS: u64 = 30_000;

/// Bytes that one that is over may go on weighing.
const KEPT_WEIGHT: usize = 16 << 10;
/// Characters of a command that a line of a list has.
const LINE_CHARACTERS: usize = 512;

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
    /// Whether `envelope` is all of what was asked: what is over and large keeps neither steps nor payload here.
    pub is_whole: bool,
    /// The command on one line, visible, as far as a list shows it.
    pub command: String,
    /// Whether `command` is all that would run: one step, uncut, without variables, payload or a directory of its own.
    pub command_is_all: bool,
    pub(super) weight: usize,
    pub(super) order: u64,
    pub(super) expires: Mono,
    /// Its agent took it back before it was recorded.
    pub(super) withdrawn_early: bool,
    /// What shall make its last return durable, as long as that has not.
    pub(super) return_batch: Option<u64>,
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
    /// The step that runs or ran last, as far as its output has told; from 0.
    pub step: u32,
    /// How many steps there are.
    pub steps: u32,
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
    pub(super) const fn is_queued(self) -> bool {
        matches!(self, Self::Recording | Self::Waiting | Self::Deciding | Self::Granted { .. })
    }
}

impl Proposal {
    /// What has ended need not be kept whole in memory: the journal has it.
    fn let_go(&mut self) {
        if self.weight > KEPT_WEIGHT {
            let all = Envelope::clone(&self.envelope);
            let (steps, files, stdin) = (Vec::new(), Vec::new(), Blob::default());
            self.envelope = Arc::new(Envelope { steps, files, stdin, ..all });
            self.is_whole = false;
        }
    }

    pub(super) fn returned_entry(&self) -> Entry {
        let why = self.returned.clone().unwrap_or_default();
        Entry::Returned { id: self.id.clone(), why, envelope: Arc::clone(&self.envelope), digest: self.digest }
    }

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
    pub(super) fn withdraw(&mut self, ticket: Ticket, id: &ProposalId, agent: &Agent, now: Now) {
        if self.withdraw_arrival(id, agent) {
            return self.answer(ticket, Ok(Answer::Done));
        }
        if let Some(proposal) = self.proposals.get_mut(id)
            && proposal.phase == Phase::Recording
            && proposal.agent.name == agent.name
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
                Phase::Deciding | Phase::Over | Phase::Concluding => Err(not_waiting(proposal)),
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
        if proposal.phase != Phase::Waiting || proposal.withdrawn_early {
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
            Choice::Approve if self.stopping => {
                return Err(Problem::new(Code::ShuttingDown, "the supervisor is ending, so it would not run")
                    .help("it waits again when the supervisor is back"));
            }
            Choice::Approve => {
                self.refuse_when_full()?;
                VerdictKind::Approved
            }
            Choice::Reject if reason.trim().is_empty() => {
                return Err(Problem::new(Code::InvalidField, "reason is empty")
                    .help("the agent is given the reason, so that it can do better"));
            }
            Choice::Reject => VerdictKind::Rejected,
        };
        if reason.len() > admission::MAX_REASON_BYTES {
            let limit = admission::MAX_REASON_BYTES;
            return Err(Problem::new(Code::TooLarge, format!("reason: {} bytes, and at most {limit}", reason.len()))
                .help("say it more briefly"));
        }
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
        let mut entries = Vec::new();
        if proposal.return_batch.is_some() {
            // A verdict is never durable without what it was given on.
            entries.push((now.wall, proposal.returned_entry()));
        }
        entries.push((now.wall, Entry::Decided { id: id.clone(), verdict: verdict.clone() }));
        self.set_phase(id, Phase::Deciding);
        self.record(Batch::Verdict { id: id.clone(), ticket, verdict }, entries);
    }

    /// Sends a proposal back to ask, under what its profile is now.
    pub(super) fn return_to_ask(&mut self, id: &ProposalId, why: &str, now: Now) {
        let Some(proposal) = self.proposals.get_mut(id) else { return };
        let Some(pool) = self.pools.get(&proposal.envelope.profile) else { return };
        let Some((spec, _)) = &pool.spec else { return };
        let envelope = Arc::new(proposal.envelope.rebound(&pool.profile, spec));
        proposal.digest = envelope.digest();
        (proposal.command, proposal.command_is_all) = one_line(&envelope);
        proposal.envelope = envelope;
        proposal.verdict = None;
        proposal.run = None;
        proposal.returned = Some(why.to_owned());
        proposal.ruling = Ruling::returned(why);
        proposal.return_batch = Some(self.next_batch);
        let entry = proposal.returned_entry();
        self.set_phase(id, Phase::Waiting);
        self.record(Batch::Returned { id: id.clone() }, vec![(now.wall, entry)]);
    }

    pub(super) fn expire(&mut self, id: &ProposalId, now: Now) {
        let Some(proposal) = self.proposals.get(id) else { return };
        let is_waiting = proposal.phase == Phase::Waiting;
        if is_waiting && self.journal_problem.is_some() {
            // It could not be recorded; trying is left to the one entry that says so.
            return self.wake_at(now.mono.plus(JOURNAL_RETRY_MS), Timer::Expire(id.clone()));
        }
        if is_waiting && proposal.withdrawn_early {
            return self.give_verdict(id, VerdictKind::Withdrawn, Decider::Agent, String::new(), None, now);
        }
        if is_waiting && !self.has_profile(&proposal.envelope.profile) {
            return self.catch_up(id, now);
        }
        if proposal.expires > now.mono {
            return self.watch_expiry(id, now);
        }
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

    /// An approval that came at the last moment, or whose sandbox died, still has time to find a sandbox.
    pub(super) fn extend_expiry(&mut self, id: &ProposalId, now: Now) {
        if let Some(proposal) = self.proposals.get_mut(id) {
            proposal.expires = proposal.expires.max(now.mono.plus(GRANTED_MS));
            self.watch_expiry(id, now);
        }
    }

    pub(super) fn watch_expiry(&mut self, id: &ProposalId, now: Now) {
        if let Some(proposal) = self.proposals.get(id) {
            let at = proposal.expires.max(now.mono);
            self.wake_at(at, Timer::Expire(id.clone()));
        }
    }

    /// A verdict could not be recorded, and its timer may be spent: it is looked at again in a second at the earliest, so
    /// that a journal that keeps failing is not asked in a loop.
    pub(super) fn retry_expiry(&mut self, id: &ProposalId, now: Now) {
        if let Some(proposal) = self.proposals.get(id) {
            let soon = now.mono.plus(JOURNAL_RETRY_MS);
            let at_once = proposal.withdrawn_early || !self.has_profile(&proposal.envelope.profile);
            let at = if at_once { soon } else { proposal.expires.max(soon) };
            self.wake_at(at, Timer::Expire(id.clone()));
        }
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
            proposal.let_go();
            self.forget_timer(&Timer::Expire(id.clone()));
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
}

/// An envelope's command as a list shows it, and whether that is all of it. Looks at no more than is shown: this is done
/// while everybody waits.
pub(super) fn one_line(envelope: &Envelope) -> (String, bool) {
    let (line, is_whole) = crate::visible::command_within(&envelope.steps, LINE_CHARACTERS);
    let is_plain = match envelope.steps.as_slice() {
        [step] => step.env.is_empty() && step.cwd.0 == envelope.cage.working_dir.as_bytes(),
        _ => false,
    };
    let is_all = is_whole && is_plain && envelope.stdin.0.is_empty() && envelope.files.is_empty();
    (line, is_all)
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
