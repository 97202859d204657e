//! A journal that cannot be written: no IO, no async.

use super::*;

/// A journal that has failed, and one who was told so.
fn broken() -> World {
    let mut world = World::ready();
    let (_, ticket) = world.ask(draft());
    world.fail_records();
    assert_eq!(world.refusal(ticket), Code::JournalFailed);
    assert!(world.state.journal_problem().is_some());
    world
}

#[test]
fn what_could_not_be_recorded_leaves_no_trace() {
    let world = broken();
    assert_eq!(world.state.proposals().count(), 0);
    assert!(!world.state.has_open_work());
}

#[test]
fn nothing_new_is_launched_until_the_journal_can_be_written_again() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let id = world.approved();
    world.ask(draft());
    world.fail_records();
    world.arm();
    assert_eq!(world.launches(), []);
    world.pass(1000);
    world.record();
    assert!(world.state.journal_problem().is_none());
    world.launched(&id);
}

#[test]
fn a_verdict_that_could_not_be_recorded_leaves_the_question_open() {
    let mut world = World::ready();
    let id = world.propose();
    let ticket = world.approve(&id);
    world.fail_records();
    assert_eq!((world.refusal(ticket), world.phase(&id)), (Code::JournalFailed, Phase::Waiting));
    assert_eq!(world.launches(), []);
    world.pass(1000);
    world.record();
    let ticket = world.approve(&id);
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
}

#[test]
fn a_question_expires_later_when_the_journal_failed_at_its_hour() {
    let mut world = World::ready();
    let id = world.propose();
    world.pass(60_000);
    for _ in 0..5 {
        world.fail_records();
        assert_eq!(world.phase(&id), Phase::Waiting);
        world.pass(1000);
    }
    world.record();
    world.pass(1000);
    world.record();
    assert_eq!(world.state.proposal(&id).unwrap().status().text(), "expired");
}

#[test]
fn a_journal_that_fails_is_tried_once_a_second_however_much_has_failed() {
    let mut world = broken();
    for _ in 0..10 {
        world.ask(draft());
        world.fail_records();
        world.pass(10);
    }
    world.pass(900);
    for _ in 0..5 {
        assert_eq!(world.records(), 1);
        world.fail_records();
        world.pass(999);
        assert_eq!(world.records(), 0);
        world.pass(1);
    }
    world.record();
    assert_eq!(kinds(&world.journal), ["gap"]);
    assert!(world.state.journal_problem().is_none());
    world.pass(10_000);
    assert_eq!(world.records(), 0);
}

#[test]
fn a_gap_is_recorded_even_when_something_else_is_written_first() {
    let mut world = broken();
    let id = world.propose();
    assert_eq!(kinds(&world.journal), ["proposed", "gap"]);
    world.pass(2000);
    world.record();
    assert_eq!(kinds(&world.journal), ["proposed", "gap"], "and only once");
    assert_eq!(world.phase(&id), Phase::Waiting);
}

#[test]
fn an_end_that_could_not_be_recorded_is_still_an_end() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.end(&sandbox, Outcome::Exited(3));
    world.fail_records();
    assert_eq!((world.phase(&id), world.end_of(&id).exit_code), (Phase::Over, Some(3)));
}

#[test]
fn word_of_an_entry_that_nobody_knows_changes_nothing() {
    let mut world = World::ready();
    world.send(Event::Recorded { batch: 999, result: Err(Problem::new(Code::JournalFailed, "full")) });
    assert!(world.state.journal_problem().is_none());
    let broken = &mut broken();
    broken.send(Event::Recorded { batch: 999, result: Ok(()) });
    assert!(broken.state.journal_problem().is_some());
}

#[test]
fn a_journal_without_room_takes_what_ends_and_nothing_that_begins() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let (first, second, third) = (world.propose(), world.propose(), world.approved());
    let full = || Some(Problem::new(Code::JournalFailed, "the disk is full"));
    world.send(Event::JournalFull { problem: full() });
    let since = world.state.journal_problem().unwrap().1;
    world.arm();
    assert_eq!(world.launches(), [], "what was approved waits");
    let (_, ticket) = world.ask(draft());
    assert_eq!(world.refusal(ticket), Code::JournalFailed);
    let ticket = world.approve(&first);
    assert_eq!((world.refusal(ticket), world.phase(&first)), (Code::JournalFailed, Phase::Waiting));
    let ticket = world.reject(&second, "not now");
    world.record();
    assert_eq!((world.answer(ticket), world.phase(&second)), (Ok(Answer::Done), Phase::Over));
    world.pass(500);
    world.send(Event::JournalFull { problem: full() });
    assert_eq!(world.state.journal_problem().unwrap().1, since, "it has been so all the time");
    world.send(Event::JournalFull { problem: None });
    assert!(world.state.journal_problem().is_none());
    world.launched(&third);
}
