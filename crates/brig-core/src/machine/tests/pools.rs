//! Filling pools and leasing from them: no IO, no async.

use super::*;
use crate::machine::PoolState;

#[test]
fn a_pool_is_filled_to_its_target_with_no_more_at_once_than_there_are_creators() {
    let config = Config { creators: 2, ..config() };
    let profile = Profile {
        pool: crate::profile::PoolPolicy { min: 3, target: 3, max: 4, max_age_ms: 600_000 },
        ..fixtures::profile()
    };
    let mut world = World::of(config, vec![profile]);
    assert_eq!((world.arming(), world.open.len()), (0, 0), "nothing is begun before the engine has answered");
    world.send(Event::EngineUp);
    world.resolve();
    assert_eq!(world.arming(), 2);
    assert_eq!(world.state.pool_state(world.pool(), world.now), PoolState::Filling);
    world.arm();
    assert_eq!(world.warm(), 3);
    assert_eq!(world.state.pool_state(world.pool(), world.now), PoolState::Ready);
}

#[test]
fn a_pool_that_nobody_has_asked_for_stays_empty_until_somebody_does() {
    let spare = Profile { name: "spare".into(), ..fixtures::profile() };
    let mut world = World::of(config(), vec![fixtures::profile(), spare]).made_ready();
    let pool = world.state.pool("spare").unwrap();
    assert_eq!((world.state.pool_state(pool, world.now), world.warm()), (PoolState::Idle, 2));
    world.ask(Draft { profile: Some("spare".into()), ..draft() });
    world.resolve();
    world.arm();
    assert_eq!(world.warm(), 4);
}

#[test]
fn leases_are_given_in_the_order_of_the_approvals() {
    let mut world = World::with(|profile| profile.pool.max = 1).made_ready();
    let (_, mut sandbox) = world.running();
    let approved: Vec<_> = (0..3).map(|_| world.approved()).collect();
    for id in approved {
        world.end(&sandbox, Outcome::Exited(0));
        world.gone(&sandbox);
        world.arm();
        sandbox = world.launched(&id);
        world.send(Event::Started { sandbox: sandbox.clone() });
    }
}

#[test]
fn a_drained_pool_starts_cold_and_counts_a_miss() {
    let mut world = World::ready();
    for _ in 0..2 {
        world.running();
    }
    assert_eq!((world.pool().hits, world.pool().misses), (2, 0));
    let id = world.approved();
    assert_eq!(world.launches(), []);
    world.arm();
    world.launched(&id);
    assert!(world.state.proposal(&id).unwrap().run.as_ref().unwrap().cold);
    assert_eq!((world.pool().hits, world.pool().misses), (2, 1));
}

#[test]
fn refilling_keeps_away_from_a_run_that_has_just_begun() {
    let mut world = World::ready();
    let (_, sandbox) = world.running();
    assert_eq!(world.arming(), 0);
    world.pass(49);
    assert_eq!(world.arming(), 0);
    world.pass(1);
    assert_eq!(world.arming(), 1);
    world.arm();
    world.end(&sandbox, Outcome::Exited(0));

    let (_, sandbox) = world.running();
    assert_eq!(world.arming(), 0);
    world.end(&sandbox, Outcome::Exited(0));
    assert_eq!(world.arming(), 1, "it has ended, so there is nothing to keep away from");
}

#[test]
fn refilling_does_not_keep_away_when_the_pool_is_low_or_somebody_waits() {
    let mut world = World::ready();
    for _ in 0..2 {
        world.running();
    }
    assert_eq!(world.arming(), 2, "none is left");
    world.approved();
    assert_eq!(world.arming(), 2, "and there is no room for more");
}

#[test]
fn a_warm_sandbox_that_is_too_old_is_replaced() {
    let mut world = World::ready();
    world.pass(599_999);
    assert_eq!(world.discards(), []);
    world.pass(1);
    let old = world.discards();
    assert_eq!((old.len(), world.arming()), (2, 2));
    old.iter().for_each(|sandbox| world.gone(sandbox));
    world.arm();
    assert_eq!(world.warm(), 2);
}

#[test]
fn a_sandbox_that_dies_unused_is_replaced_after_a_pause() {
    let mut world = World::ready();
    let sandboxes = world.in_state(SandboxState::Warm);
    sandboxes.iter().for_each(|sandbox| world.gone(sandbox));
    assert_eq!((world.arming(), world.pool().failures), (0, 2));
    assert_eq!(world.state.pool_state(world.pool(), world.now), PoolState::Failing);
    world.pass(999);
    assert_eq!(world.arming(), 0);
    world.pass(1);
    assert_eq!(world.arming(), 2);
}

#[test]
fn a_sandbox_that_goes_before_it_is_armed_is_no_reason_to_hurry() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    for sandbox in world.in_state(SandboxState::Creating) {
        world.gone(&sandbox);
        world.send(Event::Armed { sandbox, result: Ok("late".into()) });
    }
    world.open.clear();
    assert_eq!((world.state.sandboxes().count(), world.pool().failures), (0, 2));
    world.pass(1000);
    assert_eq!(world.arming(), 2);
}

#[test]
fn failing_to_make_sandboxes_is_tried_again_ever_more_seldom() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    for pause in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
        assert_eq!(world.fail_arming(Code::EngineRefused), 2, "two at once that fail are one reason to wait");
        world.pass(pause - 1);
        assert_eq!(world.arming(), 0);
        world.pass(1);
        assert_eq!(world.arming(), 2);
    }
    world.arm();
    world.running();
    world.pass(50);
    world.fail_arming(Code::EngineRefused);
    world.pass(1000);
    assert_eq!(world.arming(), 1, "after a success it begins anew");
}

#[test]
fn those_who_wait_are_told_after_three_refusals_in_a_row() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let ids = [world.approved(), world.approved()];
    for pause in [1000, 2000] {
        world.fail_arming(Code::EngineRefused);
        assert!(ids.iter().all(|id| matches!(world.phase(id), Phase::Granted { .. })));
        world.pass(pause);
    }
    world.fail_arming(Code::EngineRefused);
    world.record();
    for id in &ids {
        assert_eq!(world.end_kind(id), EndKind::Lost);
        assert!(world.end_of(id).note.contains("it did not work"));
    }
}

#[test]
fn an_engine_that_cannot_be_reached_is_waited_for() {
    let mut world = World::with(|profile| {
        profile.pool.target = 0;
        profile.approval.expires_ms = 600_000;
    })
    .made_ready();
    let id = world.approved();
    for _ in 0..6 {
        world.fail_arming(Code::EngineUnreachable);
        world.pass(60_000);
    }
    assert_eq!(world.phase(&id), Phase::Granted { cold: true });
    world.fail_arming(Code::EngineRefused);
    assert_eq!(world.phase(&id), Phase::Granted { cold: true }, "what could not be asked is not a refusal");
    world.pass(60_000);
    world.arm();
    world.launched(&id);
}

#[test]
fn an_engine_that_comes_back_is_asked_at_once() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    world.fail_arming(Code::EngineUnreachable);
    world.send(Event::EngineDown { problem: unreachable() });
    assert_eq!(world.state.pool_state(world.pool(), world.now), PoolState::Away);
    world.pass(60_000);
    assert_eq!(world.arming(), 0);
    world.send(Event::EngineUp);
    assert_eq!(world.arming(), 2);
}

#[test]
fn an_image_that_is_gone_is_looked_for_anew() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    world.fail_arming(Code::ImageUnavailable);
    let (_, held) = world.ask(draft());
    assert!(!world.is_answered(held));
    world.pass(1000);
    world.resolve();
    world.record();
    assert!(world.answer(held).is_ok());
    world.arm();
    assert_eq!(world.warm(), 2);
}

#[test]
fn an_image_that_is_found_and_never_works_does_not_keep_anybody_waiting_for_ever() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let id = world.approved();
    for pause in [1000, 2000, 4000] {
        world.fail_arming(Code::ImageUnavailable);
        world.pass(pause);
        world.resolve();
    }
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Lost);
}

#[test]
fn an_image_that_cannot_be_had_is_tried_again_ever_more_seldom() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    for pause in [1000, 2000, 4000] {
        world.resolve_to(Err(Problem::new(Code::ImageUnavailable, "no such image")));
        world.pass(pause - 1);
        assert_eq!(world.open, []);
        world.pass(1);
        assert_eq!(world.open.len(), 1);
    }
}

#[test]
fn more_warm_ones_than_are_wanted_are_thrown_away() {
    let mut world = World::with(|profile| {
        profile.pool.target = 0;
        profile.approval.expires_ms = 1000;
    })
    .made_ready();
    let id = world.approved();
    world.kill(Target::Proposal(id));
    world.arm();
    assert_eq!((world.launches(), world.discards().len()), (vec![], 1));
}

#[test]
fn the_first_word_of_an_image_without_a_tag_is_its_latest() {
    let mut world = World::with(|profile| profile.cage.image = "busybox".into()).made_ready();
    world.send(Event::ImageChanged { reference: "busybox:latest".into() });
    assert_eq!(world.open.len(), 1);
    world.resolve();
    world.send(Event::ImageChanged { reference: "busybox:1.37".into() });
    assert_eq!(world.open, []);
}
