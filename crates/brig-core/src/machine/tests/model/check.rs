//! What must hold after every step.

use super::*;

/// What is durable, and what was launched: seen from outside of the machine.
#[derive(Default)]
pub(super) struct Records {
    /// The digest that a proposal has by what is durable, and the verdict on it.
    pub durable: BTreeMap<ProposalId, (Hash, Option<VerdictKind>)>,
    pub closed: BTreeSet<ProposalId>,
    pub started: BTreeSet<ProposalId>,
    pub launched_in: BTreeSet<SandboxId>,
    pub by_proposal: BTreeMap<ProposalId, Vec<(Wall, Entry)>>,
}

impl Records {
    pub fn add(&mut self, at: Wall, entry: &Entry) {
        let Some(id) = entry.proposal().cloned() else { return };
        assert!(!self.closed.contains(&id), "recorded after its end: {entry:?}");
        match entry {
            Entry::Proposed { digest, .. } => {
                assert!(self.durable.insert(id.clone(), (*digest, None)).is_none(), "proposed twice");
            }
            Entry::Returned { digest, .. } => {
                self.durable.insert(id.clone(), (*digest, None));
            }
            Entry::Decided { verdict, .. } => {
                let known = self.durable.get_mut(&id).expect("decided before it was proposed");
                assert_eq!(known.0, verdict.digest, "decided on what is not durable");
                assert_eq!(known.1, None, "decided twice");
                known.1 = Some(verdict.kind);
            }
            _ => {}
        }
        if entry.closes() {
            self.closed.insert(id.clone());
        }
        self.by_proposal.entry(id).or_default().push((at, entry.clone()));
    }
}

impl Life {
    /// Hands an event in, and looks at what comes out and at what it leaves.
    pub(super) fn send(&mut self, event: Event) {
        let had = self.world.open.len();
        let is_tick = matches!(event, Event::Tick);
        self.world.send(event);
        if is_tick {
            let next = self.world.state.next_wake();
            assert!(next.is_none_or(|next| next > self.world.now.mono), "a timer that rings for ever");
        }
        for at in had..self.world.open.len() {
            self.check_effect(at);
        }
        self.check_state();
    }

    fn check_effect(&mut self, at: usize) {
        let state = &self.world.state;
        match &self.world.open[at] {
            Effect::Launch { sandbox, proposal, envelope } => {
                let approved = (envelope.digest(), Some(VerdictKind::Approved));
                assert_eq!(self.records.durable.get(proposal), Some(&approved), "launched without its verdict");
                assert!(state.journal_problem().is_none(), "launched without a journal");
                assert!(!self.records.started.contains(proposal), "launched again after it began");
                assert!(self.records.launched_in.insert(sandbox.clone()), "a sandbox served twice");
                assert_eq!(self.real.get(sandbox), Some(&Real::Armed), "launched in what is not armed");
                let config = state.sandbox(sandbox).unwrap().config_hash;
                assert_eq!(config, envelope.config_hash, "launched in what was not approved");
            }
            Effect::Arm { sandbox, spec } => {
                let pool = state.pool(&spec.profile).unwrap();
                let members = state.sandboxes().filter(|(_, it)| it.profile == spec.profile).count();
                assert!(members <= pool.policy().max as usize, "more sandboxes than there may be");
                let held = pool.steering().hold.is_some();
                assert!(!held, "made in a pool that is paused or drained");
                assert!(self.real.insert(sandbox.clone(), Real::Arming).is_none(), "a name given twice");
            }
            _ => {}
        }
    }

    fn check_state(&self) {
        let state = &self.world.state;
        let waits = |phase: Phase| matches!(phase, Phase::Waiting | Phase::Deciding | Phase::Granted { .. });
        let queued = state.proposals.values().filter(|it| waits(it.phase)).count() + state.pending.len();
        assert_eq!(state.queued, queued, "the queue is miscounted");
        let creating = state.sandboxes.values().filter(|it| it.state == SandboxState::Creating).count();
        assert!(creating <= state.config.creators as usize);
        assert!(self.world.answers.values().all(|answers| answers.len() == 1), "a request was answered twice");
        assert!(state.timers.len() < 1000, "timers pile up");

        let mut waiting: Vec<_> = state.pools.values().flat_map(|pool| pool.waiting.iter()).collect();
        waiting.sort();
        let is_granted = |it: &&super::super::super::Proposal| matches!(it.phase, Phase::Granted { .. });
        let mut granted: Vec<_> = state.proposals.values().filter(is_granted).map(|it| &it.id).collect();
        granted.sort();
        assert_eq!(waiting, granted, "those who are granted a sandbox, and nobody else, wait for one");

        for proposal in state.proposals.values() {
            if matches!(proposal.phase, Phase::Launching | Phase::Running) {
                let sandbox = state.sandbox(&proposal.run.as_ref().unwrap().sandbox).expect("it runs nowhere");
                assert_eq!(sandbox.proposal.as_ref(), Some(&proposal.id));
                assert!(matches!(sandbox.state, SandboxState::Leased | SandboxState::Running));
            }
            if proposal.phase.is_over() {
                let approved = proposal.verdict.as_ref().expect("over without a verdict").kind == VerdictKind::Approved;
                assert_eq!(approved, proposal.end.is_some(), "one verdict, and one end where it was approved");
            }
        }
        for (id, real) in &self.real {
            let known = state.sandbox(id).is_some();
            assert!(known || matches!(real, Real::Gone), "sandbox {id} is {real:?} and forgotten");
        }
    }
}
