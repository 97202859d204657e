//! What operators tell pools, and how pools follow demand: no IO, no async.

use super::*;
use crate::machine::PoolState;
use crate::pool::PoolOrder;
use crate::profile::PoolPolicy;

const NOTHING_SET: PoolOrder = PoolOrder::Set { min: None, target: None, max: None };

impl World {
    /// Tells the pool something, and leaves it at that.
    fn tell(&mut self, profile: &str, order: PoolOrder) -> Ticket {
        let ticket = self.ticket();
        self.send(Event::Steer { ticket, profile: profile.into(), order, operator: operator() });
        ticket
    }

    /// Tells the pool something, recorded.
    #[track_caller]
    fn told(&mut self, order: PoolOrder) {
        let ticket = self.tell("shell", order);
        self.record();
        assert_eq!(self.answer(ticket), Ok(Answer::Done));
    }

    fn pool_state(&self) -> PoolState {
        self.state.pool_state(self.pool(), self.now)
    }

    /// Ends a run and sees its sandbox gone.
    fn finish(&mut self, sandbox: &SandboxId) {
        self.end(sandbox, Outcome::Exited(0));
        self.record();
        self.discards();
        self.gone(sandbox);
    }
}

fn set(target: u32, max: u32) -> PoolOrder {
    PoolOrder::Set { min: Some(0), target: Some(target), max: Some(max) }
}

#[test]
fn an_order_holds_when_it_is_recorded_and_not_before() {
    let mut world = World::ready();
    let ticket = world.tell("shell", PoolOrder::Pause);
    assert!(!world.is_answered(ticket));
    assert_eq!(world.pool_state(), PoolState::Ready);
    world.fail_records();
    assert_eq!((world.refusal(ticket), world.pool_state()), (Code::JournalFailed, PoolState::Ready));
    world.told(PoolOrder::Pause);
    assert_eq!(world.pool_state(), PoolState::Paused);
    assert_eq!(kinds(&world.journal), ["pool-ordered", "gap"]);
    let hold = world.pool().steering().hold.clone().unwrap();
    assert_eq!((hold.by.as_str(), hold.since), ("ann", world.now.wall));
}

#[test]
fn a_paused_pool_is_used_up_and_filled_again_when_it_resumes() {
    let mut world = World::ready();
    world.told(PoolOrder::Pause);
    let runs = [world.running(), world.running()];
    let waiting = world.approved();
    for (_, sandbox) in &runs {
        world.finish(sandbox);
    }
    world.pass(30_000);
    assert_eq!((world.arming(), world.launches()), (0, vec![]), "none are made, also for who waits");
    world.told(PoolOrder::Resume);
    assert!(world.arming() >= 2);
    world.arm();
    world.launched(&waiting);
}

#[test]
fn a_proposal_is_admitted_while_its_pool_is_paused() {
    let mut world = World::new();
    world.told(PoolOrder::Pause);
    world.send(Event::EngineUp);
    world.resolve();
    let id = world.approved();
    assert_eq!((world.phase(&id), world.arming()), (Phase::Granted { cold: true }, 0));
}

#[test]
fn a_drained_pool_lets_go_of_what_is_unused_and_runs_go_on() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.told(PoolOrder::Drain);
    let discarded = world.discards();
    assert_eq!((discarded.len(), world.pool_state()), (1, PoolState::Draining));
    world.gone(&discarded[0]);
    assert_eq!((world.phase(&id), world.pool_state()), (Phase::Running, PoolState::Draining));
    world.finish(&sandbox);
    assert_eq!((world.end_kind(&id), world.pool_state()), (EndKind::Exited, PoolState::Drained));
    world.pass(60_000);
    assert_eq!(world.arming(), 0);
    world.told(PoolOrder::Resume);
    world.arm();
    assert_eq!(world.warm(), 2);
}

#[test]
fn what_was_being_made_when_the_drain_came_goes_too() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    world.told(PoolOrder::Drain);
    world.arm();
    assert_eq!(world.discards().len(), 2);
}

#[test]
fn everything_warm_is_replaced_one_after_the_other_and_never_fewer_are_ready() {
    let mut world = World::with(|profile| profile.pool = PoolPolicy { min: 3, target: 3, max: 8, max_age_ms: 600_000 })
        .made_ready();
    let before: std::collections::BTreeSet<_> = world.in_state(SandboxState::Warm).into_iter().collect();
    world.told(PoolOrder::Recycle);
    for left in [3, 2, 1] {
        let replacing = world.pool().steering().replacing.clone().unwrap();
        assert_eq!((replacing.left.len(), replacing.by.as_str()), (left, "ann"));
        assert_eq!(
            (world.arming(), world.discards()),
            (1, vec![]),
            "one at a time, and nothing goes before it is there"
        );
        let made = world.pull(|effect| match effect {
            Effect::Arm { sandbox, .. } => Some(sandbox.clone()),
            _ => None,
        });
        world.send(Event::Armed { sandbox: made[0].clone(), result: Ok(format!("engine-{}", made[0])) });
        let gone = world.discards();
        assert_eq!((gone.len(), world.warm()), (1, 3));
        assert!(before.contains(&gone[0]));
        world.gone(&gone[0]);
    }
    assert_eq!((world.pool().steering().replacing.clone(), world.arming()), (None, 0));
    assert!(world.in_state(SandboxState::Warm).iter().all(|id| !before.contains(id)));
}

#[test]
fn a_full_pool_is_replaced_too_by_making_room_first() {
    let mut world = World::with(|profile| profile.pool = PoolPolicy { min: 2, target: 2, max: 2, max_age_ms: 600_000 })
        .made_ready();
    world.told(PoolOrder::Recycle);
    for _ in 0..2 {
        let gone = world.discards();
        assert_eq!((gone.len(), world.warm()), (1, 1));
        world.gone(&gone[0]);
        world.arm();
    }
    assert_eq!((world.warm(), world.pool().steering().replacing.clone()), (2, None));
}

#[test]
fn one_that_is_used_need_not_be_replaced() {
    let mut world = World::ready();
    world.told(PoolOrder::Recycle);
    world.running();
    assert_eq!(world.pool().steering().replacing.as_ref().unwrap().left.len(), 1);
    world.running();
    assert_eq!(world.pool().steering().replacing, None);
}

#[test]
fn nothing_is_replaced_while_none_are_made() {
    let mut world = World::ready();
    world.told(PoolOrder::Pause);
    let ticket = world.tell("shell", PoolOrder::Recycle);
    let problem = world.answer(ticket).unwrap_err();
    assert_eq!((problem.code, problem.help.as_str()), (Code::InvalidField, "`brig pools resume shell` first"));
}

#[test]
fn numbers_set_by_hand_hold_until_the_profile_changes() {
    let mut world = World::ready();
    world.told(set(4, 6));
    world.arm();
    assert_eq!((world.warm(), world.pool().policy().max), (4, 6));
    world.send(Event::Profiles { profiles: vec![fixtures::profile()] });
    assert_eq!(world.pool().policy().target, 4, "the same profile again is no change");
    world.told(PoolOrder::Pause);
    let described = Profile { description: "another".into(), ..fixtures::profile() };
    world.send(Event::Profiles { profiles: vec![described] });
    assert_eq!((world.pool().policy().target, world.discards().len()), (2, 2));
    assert_eq!(world.pool_state(), PoolState::Paused, "a pause has other reasons than the file");
}

#[test]
fn what_is_set_wakes_a_pool_that_nobody_has_used() {
    let spare = Profile { name: "spare".into(), ..fixtures::profile() };
    let mut world = World::of(config(), vec![fixtures::profile(), spare]).made_ready();
    let ticket = world.tell("spare", set(1, 2));
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
    world.resolve();
    world.arm();
    assert_eq!(world.warm(), 3);
}

#[test]
fn an_order_that_cannot_be_followed_is_refused_and_not_recorded() {
    let mut world = World::ready();
    let recorded = world.journal.len();
    for (profile, order, code) in [
        ("shel", PoolOrder::Drain, Code::UnknownProfile),
        ("shell", NOTHING_SET, Code::InvalidField),
        ("shell", set(5, 4), Code::InvalidField),
    ] {
        let ticket = world.tell(profile, order);
        assert_eq!(world.refusal(ticket), code);
    }
    world.record();
    assert_eq!(world.journal.len(), recorded);
}

#[test]
fn a_pool_follows_demand_up_at_once_and_down_slowly() {
    let mut world = World::with(|profile| {
        auto(profile);
        profile.pool = PoolPolicy { min: 2, target: 2, max: 12, max_age_ms: 600_000 };
    });
    world.send(Event::EngineUp);
    world.resolve();
    world.pass(900);
    world.arm();
    assert_eq!(world.pool().wanted().ready, 2);
    for _ in 0..60 {
        world.ask(draft());
        world.record();
        for (_, sandbox) in world.launches() {
            world.send(Event::Started { sandbox: sandbox.clone() });
            world.finish(&sandbox);
        }
        world.pass(400);
        world.arm();
    }
    let wanted = world.pool().wanted();
    assert!(wanted.ready > 2 && wanted.sentence().contains("runs a second"), "{}", wanted.sentence());
    world.arm();
    assert_eq!(world.warm(), wanted.ready as usize);
    world.pass(14_000);
    assert_eq!(world.warm(), wanted.ready as usize, "not at once");
    world.pass(300_000);
    assert_eq!((world.pool().wanted().sentence().as_str(), world.warm()), ("2 ready wanted: the target at rest", 2));
}

#[test]
fn a_sandbox_that_does_not_answer_is_replaced_and_the_reason_is_kept() {
    let mut world = World::ready();
    let frozen = world.in_state(SandboxState::Warm).remove(0);
    let problem = Problem::new(Code::EngineProtocol, "did not answer");
    world.send(Event::Unwell { sandbox: frozen.clone(), problem: problem.clone() });
    assert_eq!((world.warm(), world.pool().last_error.clone(), world.pool().failures), (1, Some(problem.clone()), 1));
    world.gone(&frozen);
    assert_eq!(world.pool().failures, 1, "one failure, though it is also gone");
    world.pass(1000);
    world.arm();
    assert_eq!(world.warm(), 2);
    let (_, used) = world.running();
    world.send(Event::Unwell { sandbox: used.clone(), problem });
    assert_eq!(world.state.sandbox(&used).unwrap().state, SandboxState::Running, "a run is judged by its own signs");
}
