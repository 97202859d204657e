//! Deciding, expiring, withdrawing, and being asked anew: no IO, no async.

use super::*;
use crate::proposal::{Decider, Judgement, VerdictKind};

fn profile_with(change: impl FnOnce(&mut Profile)) -> Event {
    let mut profile = fixtures::profile();
    change(&mut profile);
    Event::Profiles { profiles: vec![profile] }
}

#[track_caller]
fn verdict(world: &World, id: &ProposalId) -> VerdictKind {
    world.state.proposal(id).unwrap().verdict.as_ref().unwrap().kind
}

#[test]
fn a_rejection_needs_a_reason_and_runs_nothing() {
    let mut world = World::ready();
    let id = world.propose();
    let without = world.reject(&id, " \n");
    assert_eq!(world.refusal(without), Code::InvalidField);
    let with = world.reject(&id, "too broad");
    world.record();
    assert_eq!(world.answer(with), Ok(Answer::Done));
    assert_eq!(verdict(&world, &id), VerdictKind::Rejected);
    assert_eq!((world.phase(&id), world.launches()), (Phase::Over, vec![]));
}

#[test]
fn a_verdict_names_at_least_eight_characters_of_the_digest() {
    let mut world = World::ready();
    let id = world.propose();
    let digest = world.digest(&id);
    let cases = [
        ("", Code::InvalidField),
        (&digest[..7], Code::InvalidField),
        ("00000000", Code::DigestMismatch),
        (&format!("{digest}0"), Code::DigestMismatch),
        ("ÄÖÜÄÖÜ", Code::DigestMismatch),
    ];
    for (given, expected) in cases {
        let ticket = world.decide(&id, given, Choice::Approve, "");
        assert_eq!(world.refusal(ticket), expected, "{given}");
    }
    let ticket = world.decide(&id, &digest[..8].to_uppercase(), Choice::Approve, "");
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
}

#[test]
fn only_the_first_of_two_verdicts_counts() {
    let mut world = World::ready();
    let id = world.propose();
    let first = world.approve(&id);
    let second = world.reject(&id, "no");
    assert_eq!(world.refusal(second), Code::NotWaiting);
    world.record();
    let third = world.approve(&id);
    assert_eq!(world.refusal(third), Code::NotWaiting);
    assert_eq!(world.answer(first), Ok(Answer::Done));
    assert_eq!(world.launches().len(), 1);
    let unknown = world.decide(&ProposalId("nope".into()), "00000000", Choice::Approve, "");
    assert_eq!(world.refusal(unknown), Code::NotFound);
}

#[test]
fn what_nobody_decides_expires_at_its_time() {
    let mut world = World::ready();
    let id = world.propose();
    world.pass(59_999);
    assert_eq!(world.phase(&id), Phase::Waiting);
    world.pass(1);
    world.record();
    let proposal = world.state.proposal(&id).unwrap();
    assert_eq!(proposal.verdict.as_ref().unwrap().by, Decider::Clock);
    assert_eq!(verdict(&world, &id), VerdictKind::Expired);
}

#[test]
fn an_approval_that_is_being_recorded_at_the_hour_still_counts() {
    let mut world = World::ready();
    let id = world.propose();
    world.pass(59_999);
    world.approve(&id);
    world.pass(5);
    world.record();
    world.launched(&id);
}

#[test]
fn what_is_approved_at_the_last_moment_and_finds_no_sandbox_ends_as_lost() {
    let mut world = World::new().made_ready();
    world.send(Event::EngineDown { problem: unreachable() });
    for sandbox in world.in_state(SandboxState::Warm) {
        world.gone(&sandbox);
    }
    let id = world.propose();
    world.pass(59_999);
    world.approve(&id);
    world.pass(5);
    world.record();
    assert_eq!(world.phase(&id), Phase::Granted { cold: true });
    world.pass(29_999);
    assert_eq!(world.phase(&id), Phase::Granted { cold: true }, "it has half a minute at the least");
    world.pass(1);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Lost);
    assert!(world.end_of(&id).note.contains("the daemon is away"));
}

#[test]
fn an_approval_waits_for_the_engine_until_its_proposal_expires() {
    let mut world = World::ready();
    world.send(Event::EngineDown { problem: unreachable() });
    for sandbox in world.in_state(SandboxState::Warm) {
        world.gone(&sandbox);
    }
    let id = world.approved();
    world.pass(59_999);
    assert_eq!(world.phase(&id), Phase::Granted { cold: true });
    world.pass(1);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Lost);
}

#[test]
fn an_agent_takes_back_what_waits_and_another_cannot() {
    let mut world = World::ready();
    let id = world.propose();
    let by_another = world.withdraw(&id, "other");
    assert_eq!(world.refusal(by_another), Code::NotFound);
    let ticket = world.withdraw(&id, "bot");
    assert!(!world.is_answered(ticket));
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
    assert_eq!(verdict(&world, &id), VerdictKind::Withdrawn);
    let again = world.withdraw(&id, "bot");
    assert_eq!(world.refusal(again), Code::NotWaiting);
    let unknown = world.withdraw(&ProposalId("nope".into()), "bot");
    assert_eq!(world.refusal(unknown), Code::NotFound);
}

#[test]
fn what_is_being_decided_cannot_be_taken_back_at_that_moment() {
    let mut world = World::ready();
    let id = world.propose();
    world.approve(&id);
    let ticket = world.withdraw(&id, "bot");
    assert_eq!(world.refusal(ticket), Code::NotWaiting);
    world.record();
    world.launched(&id);
}

#[test]
fn taking_back_what_is_approved_ends_it_before_it_starts() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let id = world.approved();
    let ticket = world.withdraw(&id, "bot");
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
    world.record();
    assert_eq!((world.end_kind(&id), world.end_of(&id).by.as_deref()), (EndKind::Killed, Some("agent bot")));
    world.arm();
    assert_eq!(world.launches(), []);
}

#[test]
fn taking_back_what_runs_kills_it() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    let by_another = world.withdraw(&id, "other");
    assert_eq!(world.refusal(by_another), Code::NotFound);
    world.withdraw(&id, "bot");
    assert_eq!(world.kills(), vec![sandbox.clone()]);
    world.end(&sandbox, Outcome::Signalled(9));
    let ended = world.withdraw(&id, "bot");
    assert_eq!(world.refusal(ended), Code::NotWaiting);
    world.record();
    assert_eq!((world.end_kind(&id), world.end_of(&id).by.as_deref()), (EndKind::Killed, Some("agent bot")));
}

#[test]
fn a_changed_cage_sends_back_what_waits_and_throws_away_what_is_warm() {
    let mut world = World::ready();
    let id = world.propose();
    let before = world.digest(&id);
    world.send(profile_with(|profile| profile.cage.memory *= 2));
    assert_eq!(world.discards().len(), 2);
    let proposal = world.state.proposal(&id).unwrap();
    assert_eq!(proposal.returned.as_deref(), Some("the profile has changed"));
    assert_eq!((proposal.phase, proposal.ruling.effect), (Phase::Waiting, Judgement::Ask));
    assert_ne!(world.digest(&id), before);
    world.record();
    assert_eq!(kinds(&world.journal), ["proposed", "returned"]);
    let with_the_old = world.decide(&id, &before, Choice::Approve, "");
    assert_eq!(world.refusal(with_the_old), Code::DigestMismatch);
    let with_the_new = world.approve(&id);
    world.record();
    assert_eq!(world.answer(with_the_new), Ok(Answer::Done));
}

#[test]
fn a_changed_cage_sends_back_what_was_approved_and_has_not_begun() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let id = world.approved();
    world.send(profile_with(|profile| profile.timeout_ms = 5000));
    world.record();
    assert_eq!(world.phase(&id), Phase::Waiting);
    let proposal = world.state.proposal(&id).unwrap();
    assert_eq!((proposal.verdict.as_ref(), proposal.envelope.deadline_ms), (None, 5000));
    world.arm();
    assert_eq!(world.launches(), []);
    world.approve(&id);
    world.record();
    world.launched(&id);
}

#[test]
fn a_rule_does_not_approve_again_what_was_sent_back() {
    let mut world = World::with(|profile| {
        auto(profile);
        profile.pool.target = 0;
    })
    .made_ready();
    let (id, _) = world.ask(draft());
    world.record();
    assert!(matches!(world.phase(&id), Phase::Granted { .. }));
    world.send(profile_with(|profile| {
        auto(profile);
        profile.cage.memory *= 2;
    }));
    world.record();
    world.arm();
    assert_eq!((world.phase(&id), world.launches()), (Phase::Waiting, vec![]));
}

#[test]
fn another_pool_or_description_asks_nobody_anew() {
    let mut world = World::ready();
    let id = world.propose();
    let before = world.digest(&id);
    world.send(profile_with(|profile| {
        profile.description = "another".into();
        profile.pool.target = 1;
    }));
    assert_eq!((world.digest(&id), world.discards().len()), (before, 1));
    assert_eq!(world.state.proposal(&id).unwrap().returned, None);
}

#[test]
fn a_profile_that_changes_while_its_proposal_is_recorded_is_noticed() {
    let mut world = World::ready();
    let (id, _) = world.ask(draft());
    world.send(profile_with(|profile| profile.cage.memory *= 2));
    world.record();
    assert_eq!(world.state.proposal(&id).unwrap().returned.as_deref(), Some("the profile has changed"));
    world.approve(&id);
    world.send(profile_with(|_| {}));
    world.record();
    assert_eq!((world.phase(&id), world.launches()), (Phase::Waiting, vec![]));
}

#[test]
fn a_verdict_is_recorded_together_with_a_return_that_was_not() {
    let mut world = World::ready();
    let id = world.propose();
    world.send(profile_with(|profile| profile.cage.memory *= 2));
    world.fail_records();
    world.pass(1000);
    world.record();
    world.approve(&id);
    world.record();
    assert_eq!(kinds(&world.journal), ["proposed", "gap", "returned", "decided"]);
}

#[test]
fn a_removed_profile_rejects_what_waits_and_loses_what_was_approved() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let (waiting, granted) = (world.propose(), world.approved());
    world.send(Event::Profiles { profiles: vec![] });
    world.record();
    assert_eq!((verdict(&world, &waiting), world.end_kind(&granted)), (VerdictKind::Rejected, EndKind::Lost));
    world.arm();
    for sandbox in world.discards() {
        world.gone(&sandbox);
    }
    assert!(world.state.pool("shell").is_none());
}

#[test]
fn a_profile_that_is_removed_while_something_is_recorded_leaves_nothing_hanging() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let deciding = world.propose();
    let (arriving, _) = world.ask(draft());
    world.approve(&deciding);
    world.send(Event::Profiles { profiles: vec![] });
    assert!(world.state.pool("shell").is_none());
    world.record();
    assert_eq!((verdict(&world, &arriving), world.end_kind(&deciding)), (VerdictKind::Rejected, EndKind::Lost));
}

#[test]
fn another_image_sends_back_what_waits_and_the_same_one_does_not() {
    let mut world = World::ready();
    let id = world.propose();
    world.send(Event::ImageChanged { reference: "busybox:1.37".into() });
    world.resolve();
    assert_eq!(world.discards(), []);
    assert_eq!(world.state.proposal(&id).unwrap().returned, None);
    world.send(Event::ImageChanged { reference: "alpine:3".into() });
    world.send(Event::ImageChanged { reference: "busybox:1.37".into() });
    world.resolve_to(Ok(other_image()));
    assert_eq!(world.state.proposal(&id).unwrap().returned.as_deref(), Some("the image has changed"));
    assert_eq!(world.discards().len(), 2);
}

#[test]
fn an_answer_about_the_image_before_is_not_taken_for_the_one_now() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.send(Event::EngineDown { problem: unreachable() });
    world.send(profile_with(|profile| profile.cage.image = "alpine:3".into()));
    world.resolve();
    assert_eq!(world.pool().image.resolved, None);
}

#[test]
fn an_image_of_our_own_userland_is_looked_at_again_when_that_is_no_longer_wanted() {
    let mut world = World::with(|profile| profile.cage.userland_fallback = true).made_ready();
    world.send(profile_with(|profile| profile.cage.userland_fallback = false));
    assert_eq!((world.pool().image.resolved.clone(), world.discards().len()), (None, 2));
    world.resolve();
    world.arm();
    assert_eq!(world.warm(), 2);
}

#[test]
fn nothing_is_launched_in_what_is_left_of_a_profile_whose_new_image_is_not_known() {
    let mut world = World::with(|profile| profile.pool.max = 1).made_ready();
    let (_, sandbox) = world.running();
    let id = world.approved();
    world.send(profile_with(|profile| profile.cage.image = "alpine:3".into()));
    world.end(&sandbox, Outcome::Exited(0));
    world.gone(&sandbox);
    world.record();
    assert_eq!(world.phase(&id), Phase::Granted { cold: true });
    world.resolve_to(Ok(other_image()));
    world.record();
    world.arm();
    assert_eq!((world.phase(&id), world.launches()), (Phase::Waiting, vec![]));
}

#[test]
fn while_no_image_is_known_only_a_sandbox_of_what_was_approved_will_do() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let (first, second) = (world.approved(), world.approved());
    world.state.sandboxes.values_mut().take(1).for_each(|sandbox| sandbox.config_hash.0[0] ^= 1);
    let mut arming = world.in_state(SandboxState::Creating).into_iter();
    let (other, gone) = (arming.next().unwrap(), arming.next().unwrap());
    let unavailable = Err(Problem::new(Code::ImageUnavailable, "no such image"));
    world.send(Event::Armed { sandbox: gone, result: unavailable });
    world.send(Event::Armed { sandbox: other, result: Ok("other".into()) });
    assert_eq!(world.launches(), []);
    assert!([first, second].iter().all(|id| matches!(world.phase(id), Phase::Granted { .. })));
    world.pass(1000);
    world.resolve();
    world.arm();
    assert_eq!((world.launches().len(), world.discards().len()), (2, 1));
}

#[test]
fn what_is_not_what_was_approved_is_not_launched() {
    let tamper: [fn(&mut World); 2] = [
        |world| {
            // The sandbox: as if what throws away those of another configuration had not been there.
            world.state.sandboxes.values_mut().for_each(|sandbox| sandbox.config_hash.0[0] ^= 1);
            world.state.pools.values_mut().filter_map(|pool| pool.spec.as_mut()).for_each(|(_, hash)| hash.0[0] ^= 1);
        },
        |world| {
            for proposal in world.state.proposals.values_mut() {
                std::sync::Arc::make_mut(&mut proposal.envelope).stdin = "another".into();
            }
        },
    ];
    for tamper in tamper {
        let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
        let id = world.approved();
        tamper(&mut world);
        world.arm();
        assert_eq!((world.phase(&id), world.launches()), (Phase::Waiting, vec![]));
        assert!(world.state.proposal(&id).unwrap().returned.is_some());
    }
}
