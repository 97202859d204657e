//! Tests of the machine: no IO, no async.
//!
//! [`World`] is the machine with a clock that only the test moves, and with everything it asked for laid out to be
//! answered in whatever order the test likes.

mod arrival;
mod journal;
mod model;
mod pools;
mod restart;
mod runs;
mod steering;
mod verdicts;

use std::collections::BTreeMap;

use super::{Answer, Choice, Config, Effect, Event, Phase, Pool, SandboxState, State, Target, Ticket};
use crate::fixtures;
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::policy::Trust;
use crate::problem::{Code, Problem};
use crate::profile::{ApprovalMode, Profile, ResolvedImage};
use crate::proposal::{
    Agent, Draft, DraftStep, EndKind, Operator, Outcome, OutputSummary, RunEnd, RunReport, RunUsage, StepHow, StepKind,
    StepReport,
};
use crate::time::{Mono, Now, Wall};

/// The machine in a world of paper.
struct World {
    state: State,
    now: Now,
    /// What was asked for and not answered yet, the oldest first.
    open: Vec<Effect>,
    answers: BTreeMap<Ticket, Vec<Result<Answer, Problem>>>,
    /// What was made durable, in order.
    journal: Vec<Entry>,
    tickets: u64,
    names: u64,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// One profile, `shell`, two of it warm at rest and four at most, changed as `change` says.
    fn with(change: impl FnOnce(&mut Profile)) -> Self {
        let mut profile = fixtures::profile();
        change(&mut profile);
        Self::of(config(), vec![profile])
    }

    fn of(config: Config, profiles: Vec<Profile>) -> Self {
        let now = Now { mono: Mono(1000), wall: Wall(1_700_000_000_000) };
        Self {
            state: State::new(config, profiles),
            now,
            open: Vec::new(),
            answers: BTreeMap::new(),
            journal: Vec::new(),
            tickets: 0,
            names: 0,
        }
    }

    /// With the engine up, the image resolved and the pool filled.
    fn ready() -> Self {
        Self::new().made_ready()
    }

    fn made_ready(mut self) -> Self {
        self.send(Event::EngineUp);
        self.resolve();
        self.arm();
        self
    }

    fn send(&mut self, event: Event) {
        let effects = self.state.handle(event, self.now);
        self.take(effects);
        if let Some(wake) = self.state.next_wake() {
            assert!(wake >= self.now.mono, "it wants to be woken in the past");
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer { ticket, answer } => self.answers.entry(ticket).or_default().push(answer),
                other => self.open.push(other),
            }
        }
    }

    /// Takes out of what is open what `pick` picks, in order.
    fn pull<T>(&mut self, pick: impl Fn(&Effect) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.open.retain(|effect| pick(effect).map(|it| picked.push(it)).is_none());
        picked
    }

    /// Lets time pass, waking the machine whenever it wants.
    fn pass(&mut self, ms: u64) {
        let until = self.now.mono.plus(ms);
        while let Some(wake) = self.state.next_wake().filter(|wake| *wake <= until) {
            self.set_clock(wake);
            self.send(Event::Tick);
        }
        self.set_clock(until);
    }

    fn set_clock(&mut self, at: Mono) {
        let ms = at.since(self.now.mono);
        self.now = Now { mono: at, wall: Wall(self.now.wall.0.saturating_add_unsigned(ms)) };
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Proposes, and leaves it at that.
    fn ask(&mut self, draft: Draft) -> (ProposalId, Ticket) {
        self.ask_as("bot", draft)
    }

    fn ask_as(&mut self, agent: &str, draft: Draft) -> (ProposalId, Ticket) {
        self.names += 1;
        let (id, ticket) = (ProposalId(format!("p{:07}", self.names)), self.ticket());
        self.send(Event::Propose { ticket, id: id.clone(), agent: agent_named(agent), draft: Box::new(draft) });
        (id, ticket)
    }

    /// Proposes, and records that.
    fn propose(&mut self) -> ProposalId {
        let (id, ticket) = self.ask(draft());
        self.record();
        assert_eq!(self.answer(ticket), Ok(Answer::Accepted(id.clone())));
        id
    }

    /// Approves, and leaves it at that.
    fn approve(&mut self, id: &ProposalId) -> Ticket {
        let digest = self.state.proposal(id).map(|it| it.digest.hex()).unwrap_or_default();
        self.decide(id, &digest, Choice::Approve, "")
    }

    fn reject(&mut self, id: &ProposalId, reason: &str) -> Ticket {
        let digest = self.digest(id);
        self.decide(id, &digest, Choice::Reject, reason)
    }

    fn decide(&mut self, id: &ProposalId, digest: &str, choice: Choice, reason: &str) -> Ticket {
        let ticket = self.ticket();
        let (id, digest, reason) = (id.clone(), digest.to_owned(), reason.to_owned());
        self.send(Event::Decide { ticket, id, digest, choice, reason, operator: operator() });
        ticket
    }

    /// Proposes and approves, all of it recorded.
    fn approved(&mut self) -> ProposalId {
        let id = self.propose();
        self.approve(&id);
        self.record();
        id
    }

    /// Proposes and approves, and lets the run begin.
    fn running(&mut self) -> (ProposalId, SandboxId) {
        let id = self.approved();
        let sandbox = self.launched(&id);
        self.send(Event::Started { sandbox: sandbox.clone() });
        self.record();
        (id, sandbox)
    }

    fn withdraw(&mut self, id: &ProposalId, agent: &str) -> Ticket {
        let ticket = self.ticket();
        self.send(Event::Withdraw { ticket, id: id.clone(), agent: agent_named(agent) });
        ticket
    }

    fn kill(&mut self, target: Target) -> Ticket {
        let ticket = self.ticket();
        self.send(Event::Kill { ticket, target, operator: operator() });
        ticket
    }

    /// Makes everything durable that waits for it, and what follows from that.
    fn record(&mut self) {
        while self.record_all(&Ok(())) {}
    }

    /// Fails to write everything that waits for it now.
    fn fail_records(&mut self) {
        self.record_all(&Err(Problem::new(Code::JournalFailed, "no space left on device")));
    }

    fn records(&self) -> usize {
        self.open.iter().filter(|effect| matches!(effect, Effect::Record { .. })).count()
    }

    /// Answers everything that waits to be durable now. Says whether there was anything.
    fn record_all(&mut self, result: &Result<(), Problem>) -> bool {
        let all = std::mem::take(&mut self.open);
        let (records, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| matches!(it, Effect::Record { .. }));
        self.open = rest;
        let any = !records.is_empty();
        for record in records {
            if let Effect::Record { batch, entries } = record {
                if result.is_ok() {
                    self.journal.extend(entries.into_iter().map(|(_, entry)| entry));
                }
                self.send(Event::Recorded { batch, result: result.clone() });
            }
        }
        any
    }

    /// Answers everything that looks for an image.
    fn resolve(&mut self) {
        self.resolve_to(Ok(fixtures::image()));
    }

    fn resolve_to(&mut self, result: Result<ResolvedImage, Problem>) {
        let asked = self.pull(|effect| match effect {
            Effect::ResolveImage { profile, request, .. } => Some((profile.clone(), *request)),
            _ => None,
        });
        for (profile, request) in asked {
            self.send(Event::ImageResolved { profile, request, result: result.clone() });
        }
    }

    fn arming(&self) -> usize {
        self.open.iter().filter(|effect| matches!(effect, Effect::Arm { .. })).count()
    }

    /// Makes every sandbox that was asked for, and those that are asked for then.
    fn arm(&mut self) {
        loop {
            let asked = self.pull(|effect| match effect {
                Effect::Arm { sandbox, .. } => Some(sandbox.clone()),
                _ => None,
            });
            if asked.is_empty() {
                return;
            }
            for sandbox in asked {
                self.send(Event::Armed { sandbox: sandbox.clone(), result: Ok(format!("engine-{sandbox}")) });
            }
        }
    }

    /// Fails to make every sandbox that was asked for. Says how many that were.
    fn fail_arming(&mut self, code: Code) -> usize {
        let asked = self.pull(|effect| match effect {
            Effect::Arm { sandbox, .. } => Some(sandbox.clone()),
            _ => None,
        });
        for sandbox in &asked {
            let result = Err(Problem::new(code, "it did not work"));
            self.send(Event::Armed { sandbox: sandbox.clone(), result });
        }
        asked.len()
    }

    /// The launches since this was asked last.
    fn launches(&mut self) -> Vec<(ProposalId, SandboxId)> {
        self.pull(|effect| match effect {
            Effect::Launch { sandbox, proposal, .. } => Some((proposal.clone(), sandbox.clone())),
            _ => None,
        })
    }

    /// The one launch since this was asked last, which is that of `id`.
    #[track_caller]
    fn launched(&mut self, id: &ProposalId) -> SandboxId {
        let launches = self.launches();
        assert_eq!(launches.iter().map(|(id, _)| id).collect::<Vec<_>>(), [id]);
        launches.into_iter().map(|(_, sandbox)| sandbox).next().unwrap()
    }

    fn kills(&mut self) -> Vec<SandboxId> {
        self.pull(|effect| match effect {
            Effect::Kill { sandbox } => Some(sandbox.clone()),
            _ => None,
        })
    }

    fn discards(&mut self) -> Vec<SandboxId> {
        self.pull(|effect| match effect {
            Effect::Discard { sandbox } => Some(sandbox.clone()),
            _ => None,
        })
    }

    fn end(&mut self, sandbox: &SandboxId, outcome: Outcome) {
        self.send(Event::Ended { sandbox: sandbox.clone(), report: report(outcome) });
    }

    fn gone(&mut self, sandbox: &SandboxId) {
        self.send(Event::Gone { sandbox: sandbox.clone(), why: None });
    }

    /// The one answer to a ticket.
    #[track_caller]
    fn answer(&self, ticket: Ticket) -> Result<Answer, Problem> {
        let answers = self.answers.get(&ticket).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(answers.len(), 1, "every request gets one answer: {answers:?}");
        answers[0].clone()
    }

    #[track_caller]
    fn refusal(&self, ticket: Ticket) -> Code {
        self.answer(ticket).unwrap_err().code
    }

    fn is_answered(&self, ticket: Ticket) -> bool {
        self.answers.contains_key(&ticket)
    }

    #[track_caller]
    fn phase(&self, id: &ProposalId) -> Phase {
        self.state.proposal(id).unwrap().phase
    }

    #[track_caller]
    fn digest(&self, id: &ProposalId) -> String {
        self.state.proposal(id).unwrap().digest.hex()
    }

    /// How a proposal that ran, or was to run, ended.
    #[track_caller]
    fn end_of(&self, id: &ProposalId) -> RunEnd {
        self.state.proposal(id).unwrap().end.clone().unwrap()
    }

    #[track_caller]
    fn end_kind(&self, id: &ProposalId) -> EndKind {
        self.end_of(id).kind
    }

    fn pool(&self) -> &Pool {
        self.state.pool("shell").unwrap()
    }

    fn in_state(&self, state: SandboxState) -> Vec<SandboxId> {
        self.state.sandboxes().filter(|(_, it)| it.state == state).map(|(id, _)| id.clone()).collect()
    }

    fn warm(&self) -> usize {
        self.in_state(SandboxState::Warm).len()
    }
}

fn config() -> Config {
    Config {
        default_profile: "shell".into(),
        queue_limit: 100,
        creators: 4,
        trust: Trust::default(),
        boot: "boot".into(),
        engine_fingerprint: "test".into(),
    }
}

/// A profile that approves everything.
fn auto(profile: &mut Profile) {
    profile.approval.mode = ApprovalMode::Auto;
}

fn agent_named(name: &str) -> Agent {
    Agent { name: name.into(), uid: 1001, pid: None, is_operator_user: false }
}

fn operator() -> Operator {
    Operator { name: "ann".into(), uid: 1000 }
}

fn draft() -> Draft {
    let step = DraftStep { argv: vec!["true".into()], ..DraftStep::default() };
    Draft { steps: vec![step], ..Draft::default() }
}

fn keyed(key: &str) -> Draft {
    Draft { key: Some(key.into()), ..draft() }
}

fn other_image() -> ResolvedImage {
    ResolvedImage { id: "sha256:5678".into(), ..fixtures::image() }
}

fn report(outcome: Outcome) -> RunReport {
    RunReport {
        outcome,
        step: 0,
        full_at: None,
        steps: Vec::new(),
        usage: RunUsage::default(),
        output: OutputSummary::default(),
    }
}

fn unreachable() -> Problem {
    Problem::new(Code::EngineUnreachable, "the daemon is away")
}

fn kinds(entries: &[Entry]) -> Vec<&'static str> {
    let kind = |entry: &Entry| match entry {
        Entry::Started { .. } => "started",
        Entry::Proposed { .. } => "proposed",
        Entry::Returned { .. } => "returned",
        Entry::Decided { .. } => "decided",
        Entry::Launched { .. } => "launched",
        Entry::KillRequested { .. } => "kill-requested",
        Entry::PoolOrdered { .. } => "pool-ordered",
        Entry::Ended { .. } => "ended",
        Entry::Gap { .. } => "gap",
        Entry::OutputPruned { .. } => "output-pruned",
        Entry::JournalPruned { .. } => "journal-pruned",
        Entry::Stopped {} => "stopped",
    };
    entries.iter().map(kind).collect()
}
