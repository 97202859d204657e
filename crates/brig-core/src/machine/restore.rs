//! What a supervisor that starts takes over from the journal of the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Effect;
use super::State;
use super::proposals::{Phase, Proposal, Run, one_line};
use crate::id::ProposalId;
use crate::journal::Entry;
use crate::profile::Hash;
use crate::proposal::{Decider, EndKind, OutputSummary, Ruling, VerdictKind};
use crate::time::{Now, Wall};

/// An idempotency key that is still remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedKey {
    /// Whose.
    pub agent: String,
    /// The key.
    pub key: String,
    /// The hash of what it was used for.
    pub draft_hash: Hash,
    /// The proposal that it led to.
    pub id: ProposalId,
}

impl Proposal {
    /// What a proposal's entries, in order, say of it. `None` where they do not begin with its proposal.
    #[must_use]
    pub fn from_entries(entries: &[(Wall, Entry)]) -> Option<Self> {
        let mut proposal: Option<Self> = None;
        for (at, entry) in entries {
            match (entry.clone(), &mut proposal) {
                (Entry::Proposed { id, agent, reason, envelope, digest, ruling, expires_at, .. }, None) => {
                    let ((command, command_is_all), weight) = (one_line(&envelope), envelope.weight());
                    proposal = Some(Self {
                        id,
                        agent,
                        reason,
                        envelope,
                        digest,
                        ruling,
                        returned: None,
                        received_at: *at,
                        expires_at,
                        verdict: None,
                        run: None,
                        end: None,
                        phase: Phase::Waiting,
                        is_whole: true,
                        weight,
                        command,
                        command_is_all,
                        order: 0,
                        expires: crate::time::Mono(0),
                        withdrawn_early: false,
                        return_batch: None,
                    });
                }
                (Entry::Returned { why, envelope, digest, .. }, Some(it)) => {
                    (it.command, it.command_is_all) = one_line(&envelope);
                    it.envelope = Arc::clone(&envelope);
                    it.digest = digest;
                    it.verdict = None;
                    it.ruling = Ruling::returned(&why);
                    it.returned = Some(why);
                    it.phase = Phase::Waiting;
                }
                (Entry::Decided { verdict, .. }, Some(it)) => {
                    let approved = verdict.kind == VerdictKind::Approved;
                    it.phase = if approved { Phase::Granted { cold: false } } else { Phase::Over };
                    it.verdict = Some(verdict);
                }
                (Entry::Launched { sandbox, cold, .. }, Some(it)) => {
                    let deadline_at = Wall(at.0.saturating_add_unsigned(it.envelope.deadline_ms));
                    it.run = Some(Run {
                        sandbox,
                        cold,
                        started_at: *at,
                        deadline_at,
                        step: 0,
                        steps: it.envelope.step_count(),
                    });
                    it.phase = Phase::Running;
                }
                (Entry::Ended { end, .. }, Some(it)) => {
                    it.end = Some(end);
                    it.phase = Phase::Over;
                }
                _ => {}
            }
        }
        proposal
    }
}

impl State {
    /// Takes over proposals by their entries, the oldest first, and keys. What waited waits again; what was approved and
    /// has no end is lost, as nobody knows how far it came; `outputs` has what is kept of the output of such runs, which
    /// their end must say like any other.
    pub fn restore(
        &mut self,
        proposals: &[Vec<(Wall, Entry)>],
        outputs: &BTreeMap<ProposalId, OutputSummary>,
        keys: Vec<RememberedKey>,
        now: Now,
    ) -> Vec<Effect> {
        for key in keys {
            self.remember_key(key.agent, key.key, key.draft_hash, key.id);
        }
        for mut proposal in proposals.iter().filter_map(|entries| Proposal::from_entries(entries)) {
            let (id, phase) = (proposal.id.clone(), proposal.phase);
            proposal.order = self.next_order;
            let left = u64::try_from(proposal.expires_at.0.saturating_sub(now.wall.0)).unwrap_or(0);
            proposal.expires = now.mono.plus(left);
            // Its place in the queue is taken when its phase is set.
            proposal.phase = Phase::Running;
            let profile = proposal.envelope.profile.clone();
            self.insert(proposal);
            self.set_phase(&id, phase);
            match phase {
                Phase::Waiting if self.pools.contains_key(&profile) => {
                    self.watch_expiry(&id, now);
                    self.activate(&profile);
                }
                Phase::Waiting => {
                    let by = Decider::Rule { name: "profile-removed".into() };
                    let why = format!("profile `{profile}` was removed");
                    self.give_verdict(&id, VerdictKind::Rejected, by, why, None, now);
                }
                Phase::Over => {}
                _ => {
                    let output = outputs.get(&id).cloned().unwrap_or_default();
                    self.end_unseen(&id, EndKind::Lost, "the supervisor ended before it did", None, output, now);
                }
            }
        }
        std::mem::take(&mut self.effects)
    }
}
