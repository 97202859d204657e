//! One life: a random schedule, then an end in which everything has to come to rest.

use super::*;
use crate::pool::PoolOrder;

impl Life {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let config = Config { queue_limit: 12, creators: 1 + u32::try_from(dice.below(4)).unwrap(), ..config() };
        let failures = [0, 5, 25][usize::try_from(dice.below(3)).unwrap()];
        Self {
            seed,
            dice,
            world: World::of(config, profiles()),
            real: BTreeMap::new(),
            told: Vec::new(),
            asked: Vec::new(),
            records: Records::default(),
            profiles: profiles(),
            failures,
            tickets: BTreeSet::new(),
            generation: 0,
        }
    }

    pub(super) fn live(mut self) {
        if self.dice.chance(90) {
            self.send(Event::EngineUp);
        }
        for _ in 0..STEPS {
            self.step();
        }
        match self.seed % 4 {
            0 => self.restart(),
            1 => {
                self.engine_leaves();
                self.send(Event::Tick);
            }
            _ => {}
        }
        if self.seed.is_multiple_of(3) {
            self.failures = 0;
        }
        self.come_to_rest();
        for _ in 0..self.seed % 7 {
            self.step();
        }
        self.shut_down();
        assert_eq!(self.tickets.len(), self.world.answers.len(), "a request was never answered");
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..15 => self.propose(),
            15..27 => self.decide(),
            27..30 => self.withdraw(),
            30..34 => self.kill(),
            34..74 => self.answer_one(),
            74..80 => self.something_dies(),
            80..86 => self.repeat(),
            86..95 => {
                let ms = [1, 20, 300, 1000, 7000, 40_000][usize::try_from(self.dice.below(6)).unwrap()];
                self.pass(ms);
            }
            95 => self.send(Event::EngineUp),
            96 => self.engine_leaves(),
            97 if self.dice.chance(60) => self.steer(),
            97 => self.send(Event::ImageChanged { reference: "busybox:1.37".into() }),
            98 => self.change_profiles(),
            _ => self.nonsense(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.world.ticket();
        self.tickets.insert(ticket);
        ticket
    }

    fn propose(&mut self) {
        let ticket = self.ticket();
        let id = ProposalId(format!("p{}", ticket.0));
        let mut draft = draft();
        if self.dice.chance(40) {
            draft.profile = Some("auto".into());
        }
        if self.dice.chance(40) {
            draft.key = Some(format!("k{}", self.dice.below(4)));
        }
        if self.dice.chance(5) {
            draft.timeout_ms = Some(20_000);
        }
        self.asked.push(id.clone());
        let agent = self.agent();
        self.send(Event::Propose { ticket, id, agent, draft: Box::new(draft) });
    }

    fn agent(&mut self) -> Agent {
        agent_named(if self.dice.chance(80) { "bot" } else { "other" })
    }

    fn any_proposal(&mut self) -> ProposalId {
        self.dice.pick(&self.asked).unwrap_or_else(|| ProposalId("none".into()))
    }

    fn any_sandbox(&mut self) -> SandboxId {
        let all: Vec<_> = self.real.keys().cloned().collect();
        self.dice.pick(&all).unwrap_or_else(|| SandboxId("none".into()))
    }

    fn decide(&mut self) {
        let (ticket, id) = (self.ticket(), self.any_proposal());
        let known = self.world.state.proposal(&id).map(|it| it.digest.hex());
        let digest = known.filter(|_| self.dice.chance(95)).unwrap_or_else(|| "0".repeat(64));
        let choice = if self.dice.chance(80) { Choice::Approve } else { Choice::Reject };
        self.send(Event::Decide { ticket, id, digest, choice, reason: "so".into(), operator: operator() });
    }

    fn steer(&mut self) {
        let ticket = self.ticket();
        let number = |dice: &mut Dice| dice.chance(60).then(|| u32::try_from(dice.below(5)).unwrap());
        let order = match self.dice.below(6) {
            0 => PoolOrder::Set {
                min: number(&mut self.dice),
                target: number(&mut self.dice),
                max: number(&mut self.dice),
            },
            1 => PoolOrder::Drain,
            2 => PoolOrder::Pause,
            3 => PoolOrder::Recycle,
            _ => PoolOrder::Resume,
        };
        let profile = ["shell", "auto", "nobody"][usize::try_from(self.dice.below(3)).unwrap()].to_owned();
        self.send(Event::Steer { ticket, profile, order, operator: operator() });
    }

    fn withdraw(&mut self) {
        let (ticket, id, agent) = (self.ticket(), self.any_proposal(), self.agent());
        self.send(Event::Withdraw { ticket, id, agent });
    }

    fn kill(&mut self) {
        let ticket = self.ticket();
        let target = if self.dice.chance(50) {
            Target::Proposal(self.any_proposal())
        } else {
            Target::Sandbox(self.any_sandbox())
        };
        self.send(Event::Kill { ticket, target, operator: operator() });
    }

    fn pass(&mut self, ms: u64) {
        let until = self.world.now.mono.plus(ms);
        let mut ticks = 0;
        while let Some(wake) = self.world.state.next_wake().filter(|wake| *wake <= until) {
            self.world.set_clock(wake);
            self.send(Event::Tick);
            ticks += 1;
            assert!(ticks < 500, "it wakes all the time");
        }
        self.world.set_clock(until);
    }

    /// Answers one thing that was asked for. The journal is one writer, and so answers in order.
    fn answer_one(&mut self) {
        if self.world.open.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(self.world.open.len() as u64)).unwrap();
        let is_record = |effect: &Effect| matches!(effect, Effect::Record { .. });
        let at = if is_record(&self.world.open[at]) { self.world.open.iter().position(is_record).unwrap() } else { at };
        let effect = self.world.open.remove(at);
        self.answer_effect(effect);
    }

    fn answer_effect(&mut self, effect: Effect) {
        let fails = self.dice.chance(self.failures);
        match effect {
            Effect::Answer { .. } => unreachable!("answers are kept elsewhere"),
            Effect::Record { batch, entries } => {
                let problem = Problem::new(Code::JournalFailed, "no space left on device");
                let result = if fails { Err(problem) } else { Ok(()) };
                if result.is_ok() {
                    entries.iter().for_each(|(at, entry)| self.records.add(*at, entry));
                }
                self.told.push(Told::Recorded(batch));
                self.send(Event::Recorded { batch, result });
            }
            Effect::ResolveImage { profile, request, .. } => {
                let image = if self.dice.chance(80) { fixtures::image() } else { other_image() };
                let result = if fails { Err(Problem::new(Code::ImageUnavailable, "none")) } else { Ok(image) };
                self.told.push(Told::Resolved(profile.clone(), request));
                self.send(Event::ImageResolved { profile, request, result });
            }
            Effect::Arm { sandbox, .. } => {
                let codes = [Code::EngineRefused, Code::EngineUnreachable, Code::ImageUnavailable];
                let code = self.dice.pick(&codes).unwrap();
                let (real, result) = if fails {
                    (Real::Gone, Err(Problem::new(code, "no")))
                } else {
                    (Real::Armed, Ok(format!("engine-{sandbox}")))
                };
                self.real.insert(sandbox.clone(), real);
                self.told.push(Told::Armed(sandbox.clone()));
                self.send(Event::Armed { sandbox, result });
            }
            Effect::Launch { sandbox, proposal, .. } => self.answer_launch(sandbox, proposal, fails),
            Effect::Kill { sandbox } => self.carry_out_kill(&sandbox),
            Effect::Discard { sandbox } => {
                if self.real.get(&sandbox) == Some(&Real::Armed) {
                    self.goes(sandbox);
                }
            }
        }
    }

    fn answer_launch(&mut self, sandbox: SandboxId, proposal: ProposalId, refused: bool) {
        if self.real.get(&sandbox) != Some(&Real::Armed) {
            return;
        }
        if refused {
            self.real.insert(sandbox.clone(), Real::Dying);
            self.told.push(Told::Refused(sandbox.clone()));
            self.send(Event::Refused { sandbox });
        } else {
            assert!(self.records.started.insert(proposal), "a verdict spent twice");
            self.real.insert(sandbox.clone(), Real::Running);
            self.told.push(Told::Started(sandbox.clone()));
            self.send(Event::Started { sandbox });
        }
    }

    /// What comes first is done first: a launch before the kill that followed it.
    fn carry_out_kill(&mut self, sandbox: &SandboxId) {
        let its_launch = |effect: &Effect| matches!(effect, Effect::Launch { sandbox: at, .. } if at == sandbox);
        if let Some(at) = self.world.open.iter().position(its_launch) {
            let launch = self.world.open.remove(at);
            self.answer_effect(launch);
        }
        match self.real.get(sandbox) {
            Some(Real::Armed | Real::Dying) => self.goes(sandbox.clone()),
            Some(Real::Running) => self.ends(sandbox.clone()),
            _ => {}
        }
    }

    fn ends(&mut self, sandbox: SandboxId) {
        let outcomes = [
            Outcome::Exited(0),
            Outcome::Signalled(9),
            Outcome::NotStarted(2, "no such file".into()),
            Outcome::Deadline,
            Outcome::Cancelled,
            Outcome::Lost("gone".into()),
        ];
        let outcome = self.dice.pick(&outcomes).unwrap();
        self.real.insert(sandbox.clone(), Real::Dying);
        self.told.push(Told::Ended(sandbox.clone()));
        self.send(Event::Ended { sandbox, report: report(outcome) });
    }

    fn goes(&mut self, sandbox: SandboxId) {
        self.real.insert(sandbox.clone(), Real::Gone);
        self.told.push(Told::Gone(sandbox.clone()));
        // What is held back until the engine has spoken is still known for a moment.
        let state = &self.world.state;
        let is_held = state.sandbox(&sandbox).is_some_and(|it| it.last_report.is_some());
        self.send(Event::Gone { sandbox: sandbox.clone(), why: None });
        assert!(is_held || self.world.state.sandbox(&sandbox).is_none(), "gone, and still known");
    }

    /// A sandbox does something by itself.
    fn something_dies(&mut self) {
        let sandbox = self.any_sandbox();
        let is_launching = |effect: &Effect| matches!(effect, Effect::Launch { sandbox: at, .. } if *at == sandbox);
        let launching = self.world.open.iter().any(is_launching);
        match self.real.get(&sandbox) {
            Some(Real::Armed) if !launching && self.dice.chance(30) => {
                if self.dice.chance(30) {
                    let problem = Problem::new(Code::EngineProtocol, "frozen");
                    self.send(Event::Unwell { sandbox: sandbox.clone(), problem });
                }
                self.goes(sandbox);
            }
            Some(Real::Running) => match self.dice.below(10) {
                0 => self.goes(sandbox),
                1 => self.send(Event::OutputFull { sandbox }),
                2 => self.send(Event::OutOfMemory { engine_id: format!("engine-{sandbox}") }),
                _ => self.ends(sandbox),
            },
            Some(Real::Dying) => self.goes(sandbox),
            _ => {}
        }
    }

    /// Says something again.
    fn repeat(&mut self) {
        let Some(told) = self.dice.pick(&self.told) else { return };
        let fails = self.dice.chance(50);
        let problem = Problem::new(Code::EngineRefused, "again");
        match told {
            Told::Armed(sandbox) => {
                let result = if fails { Err(problem) } else { Ok(format!("engine-{sandbox}")) };
                self.send(Event::Armed { sandbox, result });
            }
            Told::Started(sandbox) => self.send(Event::Started { sandbox }),
            Told::Refused(sandbox) => self.send(Event::Refused { sandbox }),
            Told::Ended(sandbox) => {
                let outcome = if fails { Outcome::Lost("again".into()) } else { Outcome::Exited(1) };
                self.send(Event::Ended { sandbox, report: report(outcome) });
            }
            Told::Gone(sandbox) => self.send(Event::Gone { sandbox, why: None }),
            Told::Recorded(batch) => {
                let result = if fails { Err(problem) } else { Ok(()) };
                self.send(Event::Recorded { batch, result });
            }
            Told::Resolved(profile, request) => {
                if fails {
                    self.send(Event::ImageProgress { profile, request, line: "again".into() });
                } else {
                    self.send(Event::ImageResolved { profile, request, result: Err(problem) });
                }
            }
        }
    }

    fn nonsense(&mut self) {
        let sandbox = SandboxId("nobody".into());
        self.send(Event::Armed { sandbox: sandbox.clone(), result: Ok("x".into()) });
        self.send(Event::Started { sandbox: sandbox.clone() });
        self.send(Event::Refused { sandbox: sandbox.clone() });
        self.send(Event::OutputFull { sandbox: sandbox.clone() });
        self.send(Event::Ended { sandbox: sandbox.clone(), report: report(Outcome::Exited(0)) });
        self.send(Event::Gone { sandbox, why: None });
        self.send(Event::OutOfMemory { engine_id: "nobody".into() });
        self.send(Event::Recorded { batch: u64::MAX, result: Err(unreachable()) });
        self.send(Event::ImageResolved { profile: "nobody".into(), request: 1, result: Ok(fixtures::image()) });
    }

    fn engine_leaves(&mut self) {
        self.send(Event::EngineDown { problem: unreachable() });
    }

    fn change_profiles(&mut self) {
        let mut profiles = profiles();
        let at = usize::try_from(self.dice.below(2)).unwrap();
        match self.dice.below(7) {
            0 => profiles[at].cage.memory += self.dice.below(2),
            1 => profiles[at].cage.image = "alpine:3".into(),
            2 => profiles[at].timeout_ms = 5000,
            3 => profiles[at].description = "another".into(),
            4 => profiles[at].pool.max = 1,
            5 => drop(profiles.remove(at)),
            _ => {}
        }
        self.profiles.clone_from(&profiles);
        self.send(Event::Profiles { profiles });
    }

    /// The supervisor dies, and another one takes over what is durable. Sandboxes die with their owner.
    fn restart(&mut self) {
        self.generation += 1;
        let boot = format!("boot{}", self.generation);
        self.world.state = State::new(Config { boot, ..self.world.state.config().clone() }, self.profiles.clone());
        self.world.open.clear();
        self.told.clear();
        self.real.clear();
        // Whoever waited for an answer has lost the connection.
        self.tickets = self.world.answers.keys().copied().collect();
        let proposals: Vec<_> = self.records.by_proposal.values().cloned().collect();
        let effects = self.world.state.restore(&proposals, &BTreeMap::new(), Vec::new(), self.world.now);
        self.world.take(effects);
        if self.dice.chance(70) {
            self.send(Event::EngineUp);
        }
    }

    /// Nothing new comes, and time goes on: everything ends.
    fn come_to_rest(&mut self) {
        for _ in 0..PATIENCE {
            let state = &self.world.state;
            if !state.has_open_work() && self.world.open.is_empty() {
                return;
            }
            if matches!(state.engine(), super::super::super::EngineState::Unknown) {
                self.engine_leaves();
                continue;
            }
            self.go_on();
        }
        let left: Vec<_> = self.world.state.proposals.values().filter(|it| !it.phase.is_over()).collect();
        panic!("{} in the queue, and these never end: {left:#?}", self.world.state.queued);
    }

    /// One more step without anything new.
    fn go_on(&mut self) {
        if !self.world.open.is_empty() {
            return self.answer_one();
        }
        let busy = self.real.iter().find(|(_, real)| matches!(real, Real::Running | Real::Dying));
        match busy.map(|(id, real)| (id.clone(), *real)) {
            Some((id, Real::Running)) => self.ends(id),
            Some((id, _)) => self.goes(id),
            None => {
                let Some(next) = self.world.state.next_wake() else {
                    let state = &self.world.state;
                    panic!("nothing will ever wake it: {:#?} {:#?}", state.sandboxes, state.proposals);
                };
                self.world.set_clock(next);
                self.send(Event::Tick);
            }
        }
    }

    fn shut_down(&mut self) {
        self.send(Event::Shutdown);
        for _ in 0..PATIENCE {
            if self.world.state.is_finished() {
                let at_rest = |phase: Phase| matches!(phase, Phase::Waiting | Phase::Over);
                assert!(self.world.state.proposals.values().all(|it| at_rest(it.phase)), "it ended with work undone");
                return;
            }
            self.go_on();
        }
        panic!("it was told to end and never did");
    }
}
