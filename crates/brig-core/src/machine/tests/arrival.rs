//! From a draft to a proposal that waits: no IO, no async.

use super::*;

#[test]
fn a_proposal_is_answered_once_it_is_durable_and_runs_once_its_verdict_is() {
    let mut world = World::ready();
    let (id, ticket) = world.ask(draft());
    assert!(!world.is_answered(ticket));
    assert!(world.state.proposal(&id).is_none(), "what is not durable is shown to nobody");
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Accepted(id.clone())));
    assert_eq!(world.phase(&id), Phase::Waiting);

    let ticket = world.approve(&id);
    assert!(!world.is_answered(ticket));
    assert_eq!(world.launches(), []);
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
    let sandbox = world.launched(&id);
    world.send(Event::Started { sandbox: sandbox.clone() });
    world.end(&sandbox, Outcome::Exited(0));
    assert_eq!(world.phase(&id), Phase::Concluding);
    world.record();
    assert_eq!(world.phase(&id), Phase::Over);
    assert_eq!(world.end_of(&id).exit_code, Some(0));
    assert_eq!(kinds(&world.journal), ["proposed", "decided", "launched", "ended"]);
}

#[test]
fn what_a_rule_allows_is_recorded_with_its_verdict_at_once() {
    let mut world = World::with(auto).made_ready();
    let (id, ticket) = world.ask(draft());
    assert_eq!(world.records(), 1);
    assert_eq!(world.launches(), []);
    world.record_all(&Ok(()));
    assert_eq!(kinds(&world.journal), ["proposed", "decided"]);
    assert_eq!(world.answer(ticket), Ok(Answer::Accepted(id.clone())));
    world.launched(&id);
}

#[test]
fn a_draft_with_a_fault_is_refused_and_takes_no_place() {
    let mut world = World::ready();
    let (_, ticket) = world.ask(Draft::default());
    assert_eq!(world.refusal(ticket), Code::InvalidField);
    let (_, ticket) = world.ask(Draft { timeout_ms: Some(3_600_000), ..draft() });
    assert_eq!(world.refusal(ticket), Code::Loosens);
    assert!(!world.state.has_open_work());
}

#[test]
fn an_unknown_profile_is_refused() {
    let mut world = World::ready();
    let (_, ticket) = world.ask(Draft { profile: Some("nope\u{1b}".into()), ..draft() });
    let problem = world.answer(ticket).unwrap_err();
    assert_eq!(problem.code, Code::UnknownProfile);
    assert!(!problem.message.contains('\u{1b}'), "{problem}");
    assert!(problem.help.contains("`shell`"), "{problem}");
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let mut world = World::ready();
    let id = world.propose();
    for _ in 0..2 {
        let ticket = world.ticket();
        world.send(Event::Propose { ticket, id: id.clone(), agent: agent_named("bot"), draft: Box::new(draft()) });
        assert_eq!(world.refusal(ticket), Code::Internal);
    }
    assert_eq!(world.state.proposals().count(), 1);
}

#[test]
fn a_full_queue_refuses_until_a_place_is_free() {
    let mut world = World::of(Config { queue_limit: 2, ..config() }, vec![fixtures::profile()]).made_ready();
    let first = world.propose();
    let (_, second) = world.ask(draft());
    let (_, third) = world.ask(draft());
    assert_eq!(world.refusal(third), Code::QueueFull);
    world.record();
    assert!(world.answer(second).is_ok());
    world.reject(&first, "no");
    let (_, still_full) = world.ask(draft());
    assert_eq!(world.refusal(still_full), Code::QueueFull);
    world.record();
    world.propose();
}

#[test]
fn what_waits_may_not_bring_along_more_than_the_queue_holds() {
    let config = Config { queue_limit: 100, ..config() };
    let mut world = World::of(config, vec![fixtures::profile()]).made_ready();
    let heavy = || Draft { stdin: crate::blob::Blob(vec![b'x'; 8 << 20]), ..draft() };
    let places: Vec<_> = (0..32).map(|_| world.ask(heavy())).collect();
    world.record();
    let (_, over) = world.ask(heavy());
    assert_eq!(world.refusal(over), Code::QueueFull);
    world.propose();

    let (first, _) = &places[0];
    world.reject(first, "no");
    world.record();
    let ended = world.state.proposal(first).unwrap();
    assert!(!ended.is_whole && ended.envelope.stdin.0.is_empty(), "what is over keeps nothing that the journal has");
    let (_, again) = world.ask(heavy());
    world.record();
    assert!(world.answer(again).is_ok());
}

#[test]
fn the_same_key_leads_to_the_same_proposal() {
    let mut world = World::ready();
    let (id, _) = world.ask(keyed("k"));
    world.record();
    let (_, again) = world.ask(keyed("k"));
    assert_eq!(world.answer(again), Ok(Answer::Accepted(id)));
    let (_, conflict) = world.ask(Draft { reason: "another".into(), ..keyed("k") });
    assert_eq!(world.refusal(conflict), Code::KeyConflict);
    let (_, of_another) = world.ask_as("other", Draft { reason: "another".into(), ..keyed("k") });
    world.record();
    assert!(world.answer(of_another).is_ok());
    assert_eq!(world.state.proposals().count(), 2);
}

#[test]
fn a_repeated_key_is_not_answered_before_the_first_is_durable() {
    let mut world = World::ready();
    let (id, first) = world.ask(keyed("k"));
    let (_, second) = world.ask(keyed("k"));
    assert!(!world.is_answered(second));
    world.record();
    assert_eq!(world.answer(first), Ok(Answer::Accepted(id.clone())));
    assert_eq!(world.answer(second), Ok(Answer::Accepted(id)));
}

#[test]
fn those_who_repeat_a_key_share_its_refusal_and_the_key_is_free_again() {
    let mut world = World::ready();
    let (_, first) = world.ask(keyed("k"));
    let (_, second) = world.ask(keyed("k"));
    world.fail_records();
    assert_eq!((world.refusal(first), world.refusal(second)), (Code::JournalFailed, Code::JournalFailed));
    let (_, third) = world.ask(Draft { reason: "another".into(), ..keyed("k") });
    world.record();
    assert!(world.answer(third).is_ok());
}

#[test]
fn a_key_is_forgotten_when_its_image_cannot_be_had() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    let (_, first) = world.ask(keyed("k"));
    world.resolve_to(Err(Problem::new(Code::ImageUnavailable, "no such image")));
    assert_eq!(world.refusal(first), Code::ImageUnavailable);
    world.pass(1000);
    world.resolve();
    let (_, again) = world.ask(Draft { reason: "another".into(), ..keyed("k") });
    world.record();
    assert!(world.answer(again).is_ok());
}

#[test]
fn a_proposal_is_held_while_its_image_is_being_fetched() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    let (id, ticket) = world.ask(draft());
    world.send(Event::ImageProgress { profile: "shell".into(), request: 1, line: "pulling 40%".into() });
    assert_eq!(world.pool().image.progress.as_deref(), Some("pulling 40%"));
    assert!(!world.is_answered(ticket) && world.records() == 0);
    world.resolve();
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Accepted(id)));
}

#[test]
fn what_is_held_counts_in_the_queue_and_frees_its_place_when_it_is_refused() {
    let mut world = World::of(Config { queue_limit: 1, ..config() }, vec![fixtures::profile()]);
    world.send(Event::EngineUp);
    let (_, held) = world.ask(draft());
    let (_, full) = world.ask(draft());
    assert_eq!(world.refusal(full), Code::QueueFull);
    world.send(Event::EngineDown { problem: unreachable() });
    assert_eq!(world.refusal(held), Code::EngineUnreachable);
    assert!(!world.state.has_open_work());
    world.send(Event::EngineUp);
    world.resolve();
    world.propose();
}

#[test]
fn late_news_of_an_image_do_not_keep_it_from_being_looked_for_again() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve_to(Err(Problem::new(Code::ImageUnavailable, "no such image")));
    world.send(Event::ImageProgress { profile: "shell".into(), request: 1, line: "pulling 40%".into() });
    world.send(Event::ImageResolved { profile: "shell".into(), request: 1, result: Ok(other_image()) });
    assert_eq!(world.pool().image.progress, None);
    world.pass(1000);
    world.resolve();
    world.propose();
}

#[test]
fn an_engine_that_is_away_refuses_only_what_needs_it() {
    let mut world = World::new();
    world.send(Event::EngineDown { problem: unreachable() });
    let (_, ticket) = world.ask(draft());
    assert_eq!(world.refusal(ticket), Code::EngineUnreachable);
    let mut world = World::ready();
    world.send(Event::EngineDown { problem: unreachable() });
    world.propose();
}

#[test]
fn nothing_is_taken_in_while_shutting_down() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    let (_, held) = world.ask(draft());
    world.send(Event::Shutdown);
    let (_, late) = world.ask(draft());
    assert_eq!((world.refusal(held), world.refusal(late)), (Code::ShuttingDown, Code::ShuttingDown));
}

#[test]
fn a_proposal_can_be_taken_back_before_it_is_durable() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    let (id, ticket) = world.ask(draft());
    let by_another = world.withdraw(&id, "other");
    assert_eq!(world.refusal(by_another), Code::NotFound);
    let withdrawn = world.withdraw(&id, "bot");
    assert_eq!(world.answer(withdrawn), Ok(Answer::Done));
    assert_eq!(world.refusal(ticket), Code::NotFound);
    world.resolve();
    assert_eq!(world.records(), 0);
}

#[test]
fn a_proposal_taken_back_while_it_is_recorded_ends_as_withdrawn() {
    let mut world = World::ready();
    let (id, ticket) = world.ask(draft());
    let by_another = world.withdraw(&id, "other");
    assert_eq!(world.refusal(by_another), Code::NotFound);
    let withdrawn = world.withdraw(&id, "bot");
    assert_eq!(world.answer(withdrawn), Ok(Answer::Done));
    world.record();
    assert!(world.answer(ticket).is_ok());
    assert_eq!(world.state.proposal(&id).unwrap().status().text(), "withdrawn");
}

#[test]
fn what_was_taken_back_cannot_be_approved_though_the_journal_lost_that() {
    let mut world = World::ready();
    let (id, _) = world.ask(draft());
    world.withdraw(&id, "bot");
    world.record_all(&Ok(()));
    world.fail_records();
    assert_eq!(world.phase(&id), Phase::Waiting);
    let approved = world.approve(&id);
    assert_eq!(world.refusal(approved), Code::NotWaiting);
    world.pass(1000);
    world.record();
    world.pass(1000);
    world.record();
    assert_eq!(world.state.proposal(&id).unwrap().status().text(), "withdrawn");
}

#[test]
fn what_a_rule_allowed_and_its_agent_took_back_does_not_run() {
    let mut world = World::with(auto).made_ready();
    let (id, _) = world.ask(draft());
    world.withdraw(&id, "bot");
    world.record();
    assert_eq!(world.launches(), []);
    assert_eq!(world.end_kind(&id), EndKind::Killed);
}

#[test]
fn ten_thousand_questions_wait_without_being_looked_at_one_by_one() {
    let mut world = World::of(Config { queue_limit: 20_000, ..config() }, vec![fixtures::profile()]).made_ready();
    let ids: Vec<_> = (0..10_000).map(|number| world.ask(keyed(&number.to_string())).0).collect();
    world.record();
    assert_eq!(world.state.proposals().count(), 10_000);
    world.approve(&ids[9_999]);
    world.record();
    assert_eq!(world.launches().len(), 1);
    world.pass(60_000);
    world.record();
    assert_eq!(world.state.proposals().count(), super::super::FINISHED_KEPT + 1);
}
