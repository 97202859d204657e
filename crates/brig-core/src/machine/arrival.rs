//! Proposals from their arrival to their record: keys, room in the queue, admission.

use std::sync::Arc;

use super::event::Batch;
use super::pools::{Arrival, Pool};
use super::proposals::one_line;
use super::{Answer, KEYS_KEPT, Phase, Proposal, State, Ticket};
use crate::admission;
use crate::id::ProposalId;
use crate::journal::Entry;
use crate::policy;
use crate::problem::{Code, Problem};
use crate::profile::{Hash, Profile, SandboxSpec};
use crate::proposal::{Agent, Decider, Draft, Judgement, Verdict, VerdictKind};
use crate::time::{Now, Wall};

/// Bytes that all that waits may weigh together.
const QUEUE_WEIGHT: usize = 256 << 20;

impl State {
    pub(super) fn propose(&mut self, ticket: Ticket, id: ProposalId, agent: Agent, draft: Box<Draft>, now: Now) {
        match self.arrive(ticket, id, agent, draft, now) {
            Ok(None) => {}
            Ok(Some(known)) => match self.pending.get_mut(&known) {
                // Not durable yet: it is answered with the one that it repeats.
                Some(others) => others.push(ticket),
                None => self.answer(ticket, Ok(Answer::Accepted(known))),
            },
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
        self.refuse_when_full()?;
        if self.queued >= self.config.queue_limit {
            return Err(Problem::new(
                Code::QueueFull,
                format!("{} proposals wait, which is all that the queue holds", self.queued),
            )
            .help("try again when some are decided; `[queue] limit` in brig.toml sets how many may wait"));
        }
        self.has_room_for(&draft)?;
        let profile = self.profile_named(draft.profile.as_deref())?;
        if self.proposals.contains_key(&id) || self.pending.contains_key(&id) {
            return Err(Problem::new(Code::Internal, format!("there is a proposal {id} already")).help("try again"));
        }
        if let Some(key) = &draft.key {
            self.remember_key(agent.name.clone(), key.clone(), draft_hash, id.clone());
        }
        let arrival = Arrival { ticket, id, agent, draft, draft_hash };
        self.queued += 1;
        self.pending.insert(arrival.id.clone(), Vec::new());
        self.join_pool(&profile, arrival, now);
        Ok(None)
    }

    /// Whether the proposal can be kept in memory beside what waits already.
    fn has_room_for(&self, draft: &Draft) -> Result<(), Problem> {
        let recorded: usize = self.proposals.values().filter(|it| it.phase.is_queued()).map(|it| it.weight).sum();
        let arriving: usize = self.pools.values().map(Pool::arriving_weight).sum();
        if recorded + arriving + admission::weight(draft) <= QUEUE_WEIGHT {
            return Ok(());
        }
        Err(Problem::new(
            Code::QueueFull,
            format!("what waits has {} bytes, and the queue holds {QUEUE_WEIGHT}", recorded + arriving),
        )
        .help("try again when some are decided, or send less standard input and fewer files"))
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
            let names: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
            let known: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let hint = crate::nearest::hint(name, &names);
            let shown = crate::visible::line(name.as_bytes());
            Problem::new(Code::UnknownProfile, format!("there is no profile `{shown}`{hint}"))
                .help(format!("there is {}; profiles are files in the folder `profiles`", known.join(", ")))
        })
    }

    /// Admits what has arrived, now that its image is known.
    pub(super) fn admit(&mut self, arrival: Arrival, profile: &Profile, spec: &SandboxSpec, now: Now) {
        let Arrival { ticket, id, agent, draft, draft_hash } = arrival;
        let envelope = match admission::admit(&draft, profile, spec) {
            Ok(envelope) => Arc::new(envelope),
            Err(problem) => return self.turn_away(ticket, &id, &agent, draft.key, problem),
        };
        let (digest, weight) = (envelope.digest(), envelope.weight());
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
        let key = draft.key.map(|key| (agent.name.clone(), key));
        let (command, command_is_all) = one_line(&envelope);
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
            is_whole: true,
            command,
            command_is_all,
            weight,
            order: self.next_order,
            expires: now.mono.plus(wait),
            withdrawn_early: false,
            return_batch: None,
        };
        self.insert(proposal);
        self.record(Batch::Proposal { id, ticket, key, verdict }, entries);
    }

    /// Makes a proposal known. Its place in the queue was taken when it arrived.
    pub(super) fn insert(&mut self, proposal: Proposal) {
        self.next_order = self.next_order.max(proposal.order + 1);
        self.order.insert(proposal.order, proposal.id.clone());
        self.proposals.insert(proposal.id.clone(), proposal);
    }

    /// Refuses what had arrived and is not recorded: it leaves no trace but the answer.
    pub(super) fn turn_away(
        &mut self,
        ticket: Ticket,
        id: &ProposalId,
        agent: &Agent,
        key: Option<String>,
        problem: Problem,
    ) {
        self.queued -= 1;
        self.forget_key(id, key.map(|key| (agent.name.clone(), key)));
        self.answer_all(ticket, id, &Err(problem));
    }

    /// Answers the one who proposed, and those who repeated it meanwhile.
    pub(super) fn answer_all(&mut self, ticket: Ticket, id: &ProposalId, answer: &Result<Answer, Problem>) {
        let others = self.pending.remove(id).unwrap_or_default();
        for ticket in std::iter::once(ticket).chain(others) {
            self.answer(ticket, answer.clone());
        }
    }

    pub(super) fn forget_key(&mut self, id: &ProposalId, key: Option<(String, String)>) {
        let Some(key) = key.filter(|key| self.keys.get(key).is_some_and(|(_, known)| known == id)) else { return };
        self.keys.remove(&key);
        // From the back, as it came a moment ago.
        if let Some(at) = self.keys_by_age.iter().rposition(|known| *known == key) {
            self.keys_by_age.remove(at);
        }
    }
}

fn hash_of(draft: &Draft) -> Result<Hash, Problem> {
    let bytes = serde_json::to_vec(draft).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(Hash::of(&bytes))
}
