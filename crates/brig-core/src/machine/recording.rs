//! What is being recorded, and what follows when it is durable, or is not.

use super::event::Batch;
use super::{Answer, Effect, Phase, State, Ticket, Timer};
use crate::id::ProposalId;
use crate::journal::Entry;
use crate::problem::Problem;
use crate::proposal::{Decider, RunEnd, Verdict, VerdictKind};
use crate::time::{Now, Wall};

/// How often a journal that failed is tried again.
pub(super) const JOURNAL_RETRY_MS: u64 = 1000;

impl State {
    /// What was to be recorded is durable, or is not.
    pub(super) fn recorded(&mut self, batch: u64, result: Result<(), Problem>, now: Now) {
        let Some(kind) = self.batches.remove(&batch) else { return };
        self.note_journal(&result, matches!(kind, Batch::Gap), now);
        match (kind, result) {
            (Batch::Proposal { id, ticket, verdict, .. }, Ok(())) => {
                self.answer_all(ticket, &id, &Ok(Answer::Accepted(id.clone())));
                self.set_phase(&id, Phase::Waiting);
                self.watch_expiry(&id, now);
                match verdict {
                    Some(verdict) => self.follow_verdict(&id, verdict, now),
                    None => self.catch_up(&id, now),
                }
                self.follow_early_withdrawal(&id, now);
            }
            (Batch::Proposal { id, ticket, key, .. }, Err(problem)) => {
                self.forget_unrecorded(&id, ticket, key, problem);
            }
            (Batch::Returned { id }, Ok(())) => {
                if let Some(proposal) = self.proposals.get_mut(&id)
                    && proposal.return_batch == Some(batch)
                {
                    proposal.return_batch = None;
                }
            }
            (Batch::Verdict { id, ticket, verdict }, Ok(())) => {
                if let Some(proposal) = self.proposals.get_mut(&id) {
                    proposal.return_batch = None;
                }
                self.follow_verdict(&id, verdict, now);
                if let Some(ticket) = ticket {
                    self.answer(ticket, Ok(Answer::Done));
                }
            }
            (Batch::Verdict { id, ticket, .. }, Err(problem)) => {
                self.set_phase(&id, Phase::Waiting);
                self.retry_expiry(&id, now);
                if let Some(ticket) = ticket {
                    self.answer(ticket, Err(problem));
                }
            }
            (Batch::Steer { ticket, profile, order, operator }, Ok(())) => {
                let followed = self.follow_order(&profile, order, operator, now);
                self.answer(ticket, followed.map(|()| Answer::Done));
            }
            (Batch::Steer { ticket, .. }, Err(problem)) => self.answer(ticket, Err(problem)),
            // An end that cannot be recorded is still an end: it is only after a restart that nobody knows of it.
            (Batch::End { id, end }, _) => self.finish(&id, end),
            (Batch::Returned { .. }, Err(_)) | (Batch::Gap | Batch::Other, _) => {}
        }
    }

    pub(super) fn follow_early_withdrawal(&mut self, id: &ProposalId, now: Now) {
        let Some(proposal) = self.proposals.get(id).filter(|proposal| proposal.withdrawn_early) else { return };
        if proposal.phase == Phase::Waiting {
            self.give_verdict(id, VerdictKind::Withdrawn, Decider::Agent, String::new(), None, now);
        } else {
            let by = format!("agent {}", proposal.agent.name);
            // It was approved a moment ago in this same event, so there is something to take back.
            let _ = self.kill_run(id, &by, now);
        }
    }

    pub(super) fn follow_verdict(&mut self, id: &ProposalId, verdict: Verdict, now: Now) {
        let approved = verdict.kind == VerdictKind::Approved;
        let Some(proposal) = self.proposals.get_mut(id) else { return };
        proposal.verdict = Some(verdict);
        if approved {
            self.grant(id, now);
        } else {
            self.set_phase(id, Phase::Over);
        }
    }

    pub(super) fn finish(&mut self, id: &ProposalId, end: RunEnd) {
        let Some(proposal) = self.proposals.get_mut(id) else { return };
        proposal.end = Some(end);
        // Only now, so that taking the sandbox down does not hold up the record of its run's end.
        if let Some(run) = proposal.run.as_ref().filter(|run| self.sandboxes.contains_key(&run.sandbox)) {
            self.effects.push(Effect::Discard { sandbox: run.sandbox.clone() });
        }
        self.set_phase(id, Phase::Over);
    }

    pub(super) fn forget_unrecorded(
        &mut self,
        id: &ProposalId,
        ticket: Ticket,
        key: Option<(String, String)>,
        problem: Problem,
    ) {
        let Some(proposal) = self.proposals.remove(id) else { return };
        self.order.remove(&proposal.order);
        self.queued -= 1;
        self.forget_key(id, key);
        self.answer_all(ticket, id, &Err(problem));
    }

    pub(super) fn record(&mut self, batch: Batch, entries: Vec<(Wall, Entry)>) {
        let number = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(number, batch);
        self.effects.push(Effect::Record { batch: number, entries });
    }

    pub(super) fn note_journal(&mut self, result: &Result<(), Problem>, is_gap: bool, now: Now) {
        if is_gap {
            self.journal_retry = false;
        }
        match (result, self.journal_problem.take()) {
            (Ok(()), None) => return,
            (Ok(()), Some((problem, since))) => {
                if !is_gap {
                    // Something else was written before the next try: what is missing is said all the same.
                    self.record(Batch::Other, vec![(now.wall, Entry::Gap { problem, since })]);
                }
            }
            (Err(problem), known) => {
                self.journal_problem = Some(known.unwrap_or_else(|| (problem.clone(), now.wall)));
                // One try at a time, however many entries fail.
                if !self.journal_retry {
                    self.journal_retry = true;
                    self.wake_at(now.mono.plus(JOURNAL_RETRY_MS), Timer::Journal);
                }
            }
        }
        self.changes.supervisor = true;
    }

    /// The journal has no room for anything new, or has some again. Unlike one that fails it is not tried: what closes
    /// something is recorded as ever, and what would begin something is refused by [`State::refuse_when_full`].
    pub(super) fn journal_full(&mut self, problem: Option<Problem>, now: Now) {
        let since = self.journal_full.take().map_or(now.wall, |(_, since)| since);
        self.journal_full = problem.map(|problem| (problem, since));
        self.changes.supervisor = true;
    }

    /// # Errors
    /// Why nothing new can be begun.
    pub(super) fn refuse_when_full(&self) -> Result<(), Problem> {
        self.journal_full.as_ref().map_or(Ok(()), |(problem, _)| Err(problem.clone()))
    }

    /// Writes to a journal that failed, to see whether it can be written again: the entry says that there was a gap.
    pub(super) fn try_journal(&mut self, now: Now) {
        match self.journal_problem.clone() {
            Some((problem, since)) => self.record(Batch::Gap, vec![(now.wall, Entry::Gap { problem, since })]),
            None => self.journal_retry = false,
        }
    }
}
