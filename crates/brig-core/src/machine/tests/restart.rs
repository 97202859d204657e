//! A supervisor that ends, and the one that takes over: no IO, no async.

use super::*;
use crate::machine::RememberedKey;

/// What the next supervisor finds, a moment later, with these profiles.
fn next(before: &World, later_ms: u64, profiles: Vec<Profile>) -> World {
    let mut world = World::of(Config { boot: "next".into(), ..config() }, profiles);
    let wall = Wall(before.now.wall.0.saturating_add_unsigned(later_ms));
    world.now = Now { mono: Mono(7), wall };
    let mut proposals: Vec<Vec<(Wall, Entry)>> = Vec::new();
    let mut keys = Vec::new();
    for entry in &before.journal {
        match entry {
            Entry::Proposed { id, agent, key, draft_hash, .. } => {
                proposals.push(vec![(before.now.wall, entry.clone())]);
                keys.extend(key.clone().map(|key| RememberedKey {
                    agent: agent.name.clone(),
                    key,
                    draft_hash: *draft_hash,
                    id: id.clone(),
                }));
            }
            entry => {
                let its = proposals.iter_mut().find(|entries| entries[0].1.proposal() == entry.proposal());
                its.into_iter().for_each(|entries| entries.push((before.now.wall, entry.clone())));
            }
        }
    }
    let effects = world.state.restore(&proposals, &BTreeMap::new(), keys, world.now);
    world.take(effects);
    world
}

#[test]
fn what_waited_waits_again_for_the_time_that_is_left() {
    let mut before = World::ready();
    let id = before.propose();
    let mut world = next(&before, 20_000, vec![fixtures::profile()]).made_ready();
    assert_eq!((world.phase(&id), world.digest(&id)), (Phase::Waiting, before.digest(&id)));
    assert_eq!(world.state.proposal(&id).unwrap().returned, None);
    world.pass(39_999);
    assert_eq!(world.phase(&id), Phase::Waiting);
    world.pass(1);
    world.record();
    assert_eq!(world.state.proposal(&id).unwrap().status().text(), "expired");
}

#[test]
fn what_expired_meanwhile_expires_at_once() {
    let mut before = World::ready();
    let id = before.propose();
    let mut world = next(&before, 3_600_000, vec![fixtures::profile()]);
    world.send(Event::Tick);
    world.record();
    assert_eq!(world.state.proposal(&id).unwrap().status().text(), "expired");
}

#[test]
fn what_was_approved_or_ran_is_lost_and_what_was_over_stays_so() {
    let mut before = World::with(|profile| profile.pool.max = 1).made_ready();
    let over = before.propose();
    before.reject(&over, "no");
    let (running, _) = before.running();
    let approved = before.approved();
    let mut world = next(&before, 10, vec![fixtures::profile()]).made_ready();
    world.record();
    assert_eq!((world.end_kind(&running), world.end_kind(&approved)), (EndKind::Lost, EndKind::Lost));
    assert!(world.state.proposal(&running).unwrap().run.is_some());
    assert_eq!(world.state.proposal(&over).unwrap().status().text(), "rejected");
    assert_eq!(kinds(&world.journal), ["ended", "ended"]);
    assert_eq!(world.launches(), []);
    assert!(!world.state.has_open_work());
}

#[test]
fn a_key_is_remembered_over_a_restart() {
    let mut before = World::ready();
    let (id, _) = before.ask(keyed("k"));
    before.record();
    let mut world = next(&before, 10, vec![fixtures::profile()]).made_ready();
    world.names = 100;
    let (_, again) = world.ask(keyed("k"));
    assert_eq!(world.answer(again), Ok(Answer::Accepted(id)));
    let (_, conflict) = world.ask(Draft { reason: "another".into(), ..keyed("k") });
    assert_eq!(world.refusal(conflict), Code::KeyConflict);
}

#[test]
fn what_waited_under_a_profile_that_is_gone_is_rejected() {
    let mut before = World::ready();
    let id = before.propose();
    let other = Profile { name: "other".into(), ..fixtures::profile() };
    let mut world = next(&before, 10, vec![other]);
    world.record();
    assert_eq!(world.state.proposal(&id).unwrap().status().text(), "rejected");
}

#[test]
fn what_waited_under_a_profile_that_is_another_now_is_asked_anew_with_the_true_reason() {
    let mut before = World::ready();
    let id = before.propose();
    let mut profile = fixtures::profile();
    profile.cage.memory *= 2;
    let world = next(&before, 10, vec![profile]).made_ready();
    assert_eq!(world.state.proposal(&id).unwrap().returned.as_deref(), Some("the profile has changed"));
}

#[test]
fn what_was_sent_back_is_still_what_was_sent_back() {
    let mut before = World::ready();
    let id = before.propose();
    let mut profile = fixtures::profile();
    profile.cage.memory *= 2;
    before.send(Event::Profiles { profiles: vec![profile.clone()] });
    before.record();
    let world = next(&before, 10, vec![profile]).made_ready();
    let (was, is) = (before.state.proposal(&id).unwrap(), world.state.proposal(&id).unwrap());
    assert_eq!((&is.digest, &is.returned, &is.ruling), (&was.digest, &was.returned, &was.ruling));
}

#[test]
fn restored_proposals_keep_their_order_and_their_places() {
    let mut before = World::ready();
    let ids: Vec<_> = (0..5).map(|_| before.propose()).collect();
    let world = next(&before, 10, vec![fixtures::profile()]);
    assert_eq!(world.state.proposals().map(|it| it.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(world.state.queued, 5);
}

#[test]
fn entries_that_do_not_begin_with_a_proposal_are_none() {
    let stray = Entry::Gap { problem: unreachable(), since: Wall(0) };
    assert!(super::super::Proposal::from_entries(&[(Wall(0), stray)]).is_none());
    assert!(super::super::Proposal::from_entries(&[]).is_none());
}

#[test]
fn ending_kills_what_runs_and_lets_go_of_what_is_warm() {
    let mut world = World::ready();
    let (id, running) = world.running();
    let warm = world.in_state(SandboxState::Warm);
    let waiting = world.propose();
    world.send(Event::Shutdown);
    assert_eq!((world.kills(), world.discards()), (vec![running.clone()], warm.clone()));
    assert!(!world.state.is_finished());
    world.end(&running, Outcome::Signalled(9));
    world.gone(&running);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Killed);
    assert_eq!(world.phase(&waiting), Phase::Waiting, "it waits for the next supervisor");
    assert!(!world.state.is_finished());
    warm.iter().for_each(|sandbox| world.gone(sandbox));
    assert!(world.state.is_finished());
    assert_eq!(world.arming(), 0);
}

#[test]
fn ending_waits_for_what_is_being_made_and_recorded() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    let (_, ticket) = world.ask(draft());
    world.send(Event::Shutdown);
    assert!(!world.state.is_finished());
    world.arm();
    world.record();
    assert!(world.answer(ticket).is_ok());
    for sandbox in world.discards() {
        world.gone(&sandbox);
    }
    assert!(world.state.is_finished());
}

#[test]
fn an_approval_that_becomes_durable_while_ending_does_not_run_and_says_so() {
    let mut world = World::ready();
    let (id, other) = (world.propose(), world.propose());
    world.approve(&id);
    world.send(Event::Shutdown);
    world.record();
    assert_eq!((world.end_kind(&id), world.launches()), (EndKind::Killed, vec![]));
    let late = world.approve(&other);
    assert_eq!(world.refusal(late), Code::ShuttingDown);
}

#[test]
fn a_run_that_is_refused_while_ending_ends() {
    let mut world = World::ready();
    let id = world.approved();
    let sandbox = world.launched(&id);
    world.send(Event::Shutdown);
    world.send(Event::Refused { sandbox: sandbox.clone() });
    world.gone(&sandbox);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Killed);
}
