//! Runs, what kills them and how they end: no IO, no async.

use super::*;

/// A run that ended with this report, and how that was judged.
#[track_caller]
fn judged(before: impl FnOnce(&mut World, &SandboxId, &ProposalId), report: RunReport) -> RunEnd {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    before(&mut world, &sandbox, &id);
    world.send(Event::Ended { sandbox: sandbox.clone(), report });
    world.pass(300);
    world.record();
    world.gone(&sandbox);
    assert!(world.state.sandbox(&sandbox).is_none());
    world.end_of(&id)
}

#[test]
fn an_end_is_judged_by_what_was_seen_and_what_is_known() {
    use EndKind::{Deadline, Exited, Killed, Lost, Memory, Output};
    type Before = fn(&mut World, &SandboxId, &ProposalId);
    type Expected = (EndKind, Option<i32>, Option<i32>);
    let nothing: Before = |_, _, _| {};
    let kill: Before = |world, _, id| _ = world.kill(Target::Proposal(id.clone()));
    let full: Before = |world, sandbox, _| world.send(Event::OutputFull { sandbox: sandbox.clone() });
    let late: Before = |world, _, _| world.pass(12_000);
    let oom: Before = |world, sandbox, _| world.send(Event::OutOfMemory { engine_id: format!("engine-{sandbox}") });
    let lost = || Outcome::Lost("no fence".into());
    let missing = |error| Outcome::NotStarted(error, "why".into());
    #[rustfmt::skip]
    let cases: Vec<(Before, Outcome, u64, Expected)> = vec![
        (nothing, Outcome::Exited(0),      0, (Exited, Some(0), None)),
        (nothing, Outcome::Exited(7),      0, (Exited, Some(7), None)),
        (nothing, Outcome::Exited(0),      2, (Exited, Some(0), None)),
        (nothing, Outcome::Signalled(11),  0, (Exited, None, Some(11))),
        (nothing, Outcome::Signalled(9),   0, (Exited, None, Some(9))),
        (nothing, Outcome::Signalled(9),   1, (Memory, None, Some(9))),
        (nothing, missing(2),              0, (Exited, Some(127), None)),
        (nothing, missing(13),             0, (Exited, Some(126), None)),
        (nothing, Outcome::Deadline,       0, (Deadline, None, None)),
        (nothing, Outcome::Cancelled,      0, (Lost, None, None)),
        (nothing, lost(),                  0, (Lost, None, None)),
        (oom,     lost(),                  0, (Memory, None, None)),
        (kill,    lost(),                  0, (Killed, None, None)),
        (kill,    Outcome::Cancelled,      0, (Killed, None, None)),
        (kill,    Outcome::Signalled(9),   1, (Killed, None, None)),
        (kill,    Outcome::Exited(0),      0, (Exited, Some(0), None)),
        (full,    lost(),                  0, (Output, None, None)),
        (late,    lost(),                  0, (Deadline, None, None)),
    ];
    for (number, (before, outcome, oom_kills, expected)) in cases.into_iter().enumerate() {
        let usage = RunUsage { oom_kills, ..RunUsage::default() };
        let end = judged(before, RunReport { usage, ..report(outcome) });
        assert_eq!((end.kind, end.exit_code, end.signal), expected, "case {number}");
        assert_eq!(end.by.as_deref(), (end.kind == Killed).then_some("ann"), "case {number}");
        assert_eq!(end.note.contains("out of memory"), end.kind == Exited && oom_kills > 0, "case {number}");
    }
}

#[test]
fn an_end_without_a_word_waits_a_moment_for_the_reason() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.end(&sandbox, Outcome::Lost("no fence".into()));
    world.gone(&sandbox);
    assert!(world.state.knows_engine_id(&format!("engine-{sandbox}")), "it is still told about");
    world.pass(299);
    assert_eq!(world.phase(&id), Phase::Running);
    world.send(Event::OutOfMemory { engine_id: format!("engine-{sandbox}") });
    world.pass(1);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Memory);
    assert!(world.state.sandbox(&sandbox).is_none());
}

#[test]
fn a_sandbox_that_goes_without_a_word_leaves_its_run_lost() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.gone(&sandbox);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Lost);
}

#[test]
fn a_run_has_one_end_whatever_is_said_afterwards() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.end(&sandbox, Outcome::Lost("no fence".into()));
    world.end(&sandbox, Outcome::Exited(0));
    world.end(&sandbox, Outcome::Exited(1));
    world.send(Event::Started { sandbox: sandbox.clone() });
    world.send(Event::Refused { sandbox: sandbox.clone() });
    world.send(Event::Armed { sandbox: sandbox.clone(), result: Ok("again".into()) });
    world.send(Event::OutputFull { sandbox: sandbox.clone() });
    world.pass(1000);
    world.record();
    assert_eq!((world.phase(&id), world.end_of(&id).exit_code), (Phase::Over, Some(0)));
    assert_eq!(kinds(&world.journal), ["proposed", "decided", "launched", "ended"]);
    assert_eq!((world.kills(), world.launches()), (vec![], vec![]));
    world.gone(&sandbox);
    world.gone(&sandbox);
    assert!(world.state.sandbox(&sandbox).is_none());
}

#[test]
fn news_that_belong_to_another_state_are_passed_over() {
    let mut world = World::ready();
    let (id, running) = world.running();
    let warm = world.in_state(SandboxState::Warm).remove(0);
    world.send(Event::Armed { sandbox: running.clone(), result: Err(unreachable()) });
    world.send(Event::Armed { sandbox: running.clone(), result: Ok("again".into()) });
    for event in [
        Event::Started { sandbox: warm.clone() },
        Event::Refused { sandbox: warm.clone() },
        Event::OutputFull { sandbox: warm.clone() },
        Event::Ended { sandbox: warm.clone(), report: report(Outcome::Exited(0)) },
    ] {
        world.send(event);
    }
    assert_eq!(world.state.sandbox(&warm).unwrap().state, SandboxState::Warm);
    assert_eq!(world.state.sandbox(&running).unwrap().state, SandboxState::Running);
    assert_eq!((world.phase(&id), world.kills()), (Phase::Running, vec![]));
}

#[test]
fn a_run_that_outlives_its_deadline_is_killed_two_seconds_later() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.pass(11_999);
    assert_eq!(world.kills(), []);
    world.pass(1);
    assert_eq!(world.kills(), vec![sandbox.clone()]);
    world.end(&sandbox, Outcome::Signalled(9));
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Deadline);
}

#[test]
fn a_run_that_writes_too_much_is_killed() {
    let mut world = World::ready();
    let (id, sandbox) = world.running();
    world.send(Event::OutputFull { sandbox: sandbox.clone() });
    assert_eq!(world.kills(), vec![sandbox.clone()]);
    world.end(&sandbox, Outcome::Lost("no fence".into()));
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Output);
}

#[test]
fn a_sandbox_that_was_dead_before_the_first_byte_costs_no_verdict() {
    let mut world = World::ready();
    let id = world.approved();
    let first = world.launched(&id);
    world.send(Event::Refused { sandbox: first.clone() });
    let second = world.launched(&id);
    assert_ne!(first, second);
    world.send(Event::Refused { sandbox: first.clone() });
    assert_eq!(world.launches(), []);
    world.gone(&first);
    world.send(Event::Started { sandbox: second.clone() });
    world.end(&second, Outcome::Exited(0));
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Exited);
}

#[test]
fn a_run_that_was_refused_late_still_has_time_to_find_another_sandbox() {
    let mut world = World::with(|profile| profile.pool.target = 1).made_ready();
    let id = world.propose();
    world.pass(59_990);
    world.approve(&id);
    world.record();
    let sandbox = world.launched(&id);
    world.pass(60_000);
    world.fail_arming(Code::EngineUnreachable);
    world.send(Event::Refused { sandbox: sandbox.clone() });
    world.gone(&sandbox);
    world.send(Event::EngineDown { problem: unreachable() });
    world.pass(29_999);
    assert_eq!(world.phase(&id), Phase::Granted { cold: true });
    world.pass(1);
    world.record();
    assert_eq!(world.end_kind(&id), EndKind::Lost);
}

#[test]
fn what_waits_for_a_verdict_is_rejected_and_not_killed() {
    let mut world = World::ready();
    let id = world.propose();
    let waiting = world.kill(Target::Proposal(id.clone()));
    world.approve(&id);
    let deciding = world.kill(Target::Proposal(id));
    let unknown = world.kill(Target::Proposal(ProposalId("nope".into())));
    assert_eq!((world.refusal(waiting), world.refusal(deciding)), (Code::NotRunning, Code::NotRunning));
    assert_eq!(world.refusal(unknown), Code::NotFound);
}

#[test]
fn what_is_approved_is_killed_before_it_starts_and_nothing_is_recorded_after_its_end() {
    let mut world = World::with(|profile| profile.pool.target = 0).made_ready();
    let id = world.approved();
    let ticket = world.kill(Target::Proposal(id.clone()));
    world.record();
    assert_eq!(world.answer(ticket), Ok(Answer::Done));
    assert_eq!((world.end_kind(&id), world.end_of(&id).by.as_deref()), (EndKind::Killed, Some("ann")));
    assert_eq!(kinds(&world.journal), ["proposed", "decided", "kill-requested", "ended"]);
}

#[test]
fn what_is_being_launched_is_killed_whether_it_began_or_not() {
    for began in [true, false] {
        let mut world = World::ready();
        let id = world.approved();
        let sandbox = world.launched(&id);
        world.kill(Target::Sandbox(sandbox.clone()));
        assert_eq!(world.kills(), vec![sandbox.clone()]);
        if began {
            world.send(Event::Started { sandbox: sandbox.clone() });
            world.end(&sandbox, Outcome::Lost("no fence".into()));
        } else {
            world.send(Event::Refused { sandbox: sandbox.clone() });
        }
        world.record();
        assert_eq!((world.end_kind(&id), world.launches()), (EndKind::Killed, vec![]));
    }
}

#[test]
fn a_run_is_killed_by_its_own_name_or_its_sandboxs() {
    for by_sandbox in [true, false] {
        let mut world = World::ready();
        let (id, sandbox) = world.running();
        let target = if by_sandbox { Target::Sandbox(sandbox.clone()) } else { Target::Proposal(id.clone()) };
        let ticket = world.kill(target);
        assert_eq!((world.answer(ticket), world.kills()), (Ok(Answer::Done), vec![sandbox.clone()]));
        world.end(&sandbox, Outcome::Signalled(9));
        let again = world.kill(Target::Proposal(id.clone()));
        assert_eq!(world.refusal(again), Code::NotRunning);
        world.record();
        assert_eq!((world.end_kind(&id), world.end_of(&id).by.as_deref()), (EndKind::Killed, Some("ann")));
    }
}

#[test]
fn a_warm_sandbox_can_be_killed_and_one_that_hangs_at_its_end_again() {
    let mut world = World::ready();
    let warm = world.in_state(SandboxState::Warm).remove(0);
    for _ in 0..2 {
        let ticket = world.kill(Target::Sandbox(warm.clone()));
        assert_eq!((world.answer(ticket), world.kills()), (Ok(Answer::Done), vec![warm.clone()]));
    }
    world.gone(&warm);
    assert_eq!(world.pool().failures, 0, "what was killed did not fail");

    let (_, hanging) = world.running();
    world.end(&hanging, Outcome::Exited(0));
    world.record();
    let ticket = world.kill(Target::Sandbox(hanging.clone()));
    assert_eq!((world.answer(ticket), world.kills()), (Ok(Answer::Done), vec![hanging]));
}

#[test]
fn a_sandbox_that_is_being_made_or_is_not_there_cannot_be_killed() {
    let mut world = World::new();
    world.send(Event::EngineUp);
    world.resolve();
    let creating = world.in_state(SandboxState::Creating).remove(0);
    let early = world.kill(Target::Sandbox(creating));
    let unknown = world.kill(Target::Sandbox(SandboxId("nope".into())));
    assert_eq!((world.refusal(early), world.refusal(unknown)), (Code::NotRunning, Code::NotFound));
}

#[test]
fn only_the_last_two_hundred_that_are_over_are_remembered() {
    let mut world = World::ready();
    let open = world.propose();
    let ids: Vec<_> = (0..super::super::FINISHED_KEPT + 5)
        .map(|_| {
            let id = world.propose();
            world.reject(&id, "no");
            world.record();
            id
        })
        .collect();
    assert_eq!(world.state.proposals().count(), super::super::FINISHED_KEPT + 1);
    assert!(world.state.proposal(&ids[4]).is_none() && world.state.proposal(&ids[5]).is_some());
    assert_eq!(world.phase(&open), Phase::Waiting);
    assert!(world.state.take_changes().proposals.contains(&ids[0]));
}

/// A world in which something of three steps runs.
fn three_steps() -> (World, ProposalId, SandboxId) {
    let mut world = World::ready();
    let step = || DraftStep { argv: vec!["true".into()], ..DraftStep::default() };
    let (id, _) = world.ask(Draft { steps: vec![step(), step(), step()], ..draft() });
    world.record();
    world.approve(&id);
    world.record();
    let sandbox = world.launched(&id);
    world.send(Event::Started { sandbox: sandbox.clone() });
    (world, id, sandbox)
}

fn seen(how: Option<StepHow>) -> StepReport {
    StepReport { how, ..StepReport::default() }
}

#[test]
fn each_step_has_its_end_and_what_did_not_run_says_so() {
    use StepKind::{Exited, Lost, Skipped, Stopped};
    let ok = || seen(Some(StepHow::Exited(0)));
    let failed = || seen(Some(StepHow::Exited(3)));
    let nobody_said = || seen(None);
    let missing = || seen(Some(StepHow::NotStarted(2, "no such file".into())));
    let lost = || Outcome::Lost("gone".into());
    #[rustfmt::skip]
    let cases = vec![
        (Outcome::Exited(0), 2, vec![ok(), ok(), ok()],                  vec![Exited, Exited, Exited]),
        (Outcome::Exited(3), 1, vec![ok(), failed()],                    vec![Exited, Exited, Skipped]),
        (Outcome::Exited(3), 0, vec![failed(), missing(), ok()],         vec![Exited, Exited, Exited]),
        (Outcome::Deadline,  1, vec![ok(), nobody_said()],               vec![Exited, Stopped, Skipped]),
        (lost(),             1, vec![nobody_said(), nobody_said()],      vec![Lost, Lost, Skipped]),
        (Outcome::NotStarted(13, "file".into()), 0, vec![],              vec![Skipped, Skipped, Skipped]),
    ];
    for (number, (outcome, step, steps, expected)) in cases.into_iter().enumerate() {
        let (mut world, id, sandbox) = three_steps();
        world.send(Event::Ended { sandbox: sandbox.clone(), report: RunReport { step, steps, ..report(outcome) } });
        world.pass(1000);
        world.record();
        let end = world.end_of(&id);
        let kinds: Vec<StepKind> = end.steps.iter().map(|step| step.kind).collect();
        assert_eq!((kinds, end.step), (expected, step), "case {number}");
        if number == 2 {
            assert_eq!((end.steps[1].exit_code, end.steps[1].note.as_str()), (Some(127), "no such file"));
        }
    }
}

#[test]
fn the_step_that_reached_the_output_limit_is_the_one_that_is_named() {
    let (mut world, id, sandbox) = three_steps();
    world.send(Event::OutputFull { sandbox: sandbox.clone() });
    let steps = vec![seen(Some(StepHow::Exited(0))), seen(None)];
    let report = RunReport { step: 1, full_at: Some(0), steps, ..report(Outcome::Cancelled) };
    world.send(Event::Ended { sandbox, report });
    world.record();
    let end = world.end_of(&id);
    assert_eq!((end.kind, end.step, end.steps[1].kind), (EndKind::Output, 0, StepKind::Stopped));
}

#[test]
fn the_step_that_runs_only_goes_up_and_only_in_a_run_that_has_it() {
    let (mut world, id, sandbox) = three_steps();
    let step = |world: &World| world.state.proposal(&id).unwrap().run.as_ref().unwrap().step;
    for (told, expected) in [(0, 0), (1, 1), (0, 1), (2, 2), (3, 2), (u32::MAX, 2)] {
        world.send(Event::StepBegan { sandbox: sandbox.clone(), step: told });
        assert_eq!(step(&world), expected);
    }
    assert_eq!(world.state.proposal(&id).unwrap().run.as_ref().unwrap().steps, 3);
    world.send(Event::StepBegan { sandbox: SandboxId("nobody".into()), step: 1 });
}

#[test]
fn a_single_step_is_the_run_and_nothing_is_said_of_it_twice() {
    let end =
        judged(|_, _, _| {}, RunReport { steps: vec![seen(Some(StepHow::Exited(0)))], ..report(Outcome::Exited(0)) });
    assert_eq!(end.steps, []);
}
