//! From a verdict to a run's one end.

use std::time::Duration;

use brig::api::wire::{Done, FollowLine, ProposalDetail};
use brig::engine::scripted::{Act, Call, Script};
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{EndKind, OutputStream, RunEnd, StepKind};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::support::world::{World, next_line, pass, pool_of, until};

async fn end_of(world: &World, script: Script) -> RunEnd {
    world.engine.script("it", script);
    let row = world.run("it").await;
    world.stands(&row, "finished").await.end.unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_as_what_it_was() {
    let world = World::new().await;
    let exited = |code| (EndKind::Exited, Some(code), None);
    let not_found = Act::NotStarted(2, "execve nope: No such file or directory".to_owned());
    for (acts, expected, note) in [
        (vec![Act::Exit(3)], exited(3), ""),
        (vec![Act::Signal(11)], (EndKind::Exited, None, Some(11)), ""),
        (vec![not_found], exited(127), "execve nope: No such file or directory"),
        (vec![Act::OutOfMemory], (EndKind::Memory, None, Some(9)), "it needed more memory than it may have"),
        (vec![Act::KernelKill], (EndKind::Memory, None, None), "the whole sandbox was killed for want of memory"),
        (vec![Act::out("half"), Act::Die], (EndKind::Lost, None, None), "the sandbox ended without a word"),
        (vec![Act::Forge(0), Act::Die], (EndKind::Lost, None, None), "the sandbox ended without a word"),
        (vec![Act::Forge(0), Act::Exit(5)], exited(5), ""),
    ] {
        let end = end_of(&world, Script::new(acts.clone())).await;
        assert_eq!((end.kind, end.exit_code, end.signal), expected, "{acts:?}");
        assert_eq!(end.note, note, "{acts:?}");
    }
    let end = end_of(&world, Script::new([Act::Garble, Act::Hang])).await;
    assert_eq!(end.kind, EndKind::Lost);
    assert!(end.note.starts_with("init ended the run in words that are not understood"), "{}", end.note);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_forged_fence_is_output_like_any_other() {
    let world = World::new().await;
    world.engine.script("forge", Script::new([Act::Forge(0), Act::out("after"), Act::Exit(9)]));
    let row = world.run("forge").await;
    let end = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!(end.exit_code, Some(9));
    let written = world.output(&row, OutputStream::Stdout).await;
    assert!(written.ends_with(b"after") && written.len() > 40, "{} bytes", written.len());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_is_killed_at_once_and_says_by_whom() {
    let world = World::new().await;
    for script in [Script::new([Act::Hang]), Script::new([Act::Hang]).ignoring_cancel()] {
        world.engine.script("sleep", script);
        let row = world.run("sleep").await;
        world.stands(&row, "running").await;
        world.kill(&row).await.unwrap();
        let end = world.stands(&row, "finished").await.end.unwrap();
        assert_eq!(end.kind, EndKind::Killed);
        assert_eq!(end.by, Some(brig::supervisor::process::user_name(brig::supervisor::process::uid())));
        let again = world.kill(&row).await.unwrap_err();
        assert_eq!(again.code, Code::NotRunning);
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn killing_is_heeded_in_every_phase() {
    let mut world = World::idle("", |_| {});
    world.engine.hold(Call::Arm);
    world.start().await.unwrap();
    // While it waits for its verdict it is to be rejected.
    let waiting = world.propose("ls").await.row;
    assert_eq!(world.kill(&waiting).await.unwrap_err().code, Code::NotRunning);
    // Approved, and no sandbox is there yet.
    world.approve(&waiting).await.unwrap();
    world.kill(&waiting).await.unwrap();
    let end = world.stands(&waiting, "finished").await.end.unwrap();
    assert_eq!((end.kind, end.note.as_str()), (EndKind::Killed, "before it started"));
    world.engine.mend(Call::Arm);
    world.warm().await;
    // A sandbox that waits is replaced.
    let sandbox = world.snapshot().await.sandboxes.remove(0);
    let _: Done = world.operator().post(&format!("/v1/sandboxes/{}/kill", sandbox.id), &json!({})).await.unwrap();
    world
        .sees("another sandbox", |all| {
            all.sandboxes.iter().find(|it| it.id != sandbox.id && it.state.text() == "warm").map(drop)
        })
        .await;
    // One that runs is named by its sandbox as well.
    world.engine.script("sleep", Script::new([Act::Hang]));
    let row = world.run("sleep").await;
    let run = world.stands(&row, "running").await.run.unwrap();
    let _: Done = world.operator().post(&format!("/v1/sandboxes/{}/kill", run.sandbox), &json!({})).await.unwrap();
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Killed);
    assert!(world.engine.served().len() == 1, "what was killed before it started ran all the same");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_gone_is_not_mistaken_for_another() {
    let world = World::with("[pool]\ntarget = 16\nmax = 16\n", |_| {}).await;
    world.warm().await;
    let all = world.snapshot().await.sandboxes;
    let boot = all[0].id.0.split('-').next().unwrap().to_owned();
    assert!(all.iter().any(|it| it.id.0 == format!("{boot}-10")));
    let first = all.iter().find(|it| it.id.0 == format!("{boot}-1")).unwrap();
    world.engine.crash(&first.engine_id);
    world.sees("its end", |now| now.sandboxes.iter().all(|it| it.id != first.id).then_some(())).await;
    let kill = format!("/v1/sandboxes/{}/kill", first.id);
    let problem = world.operator().post::<Done>(&kill, &json!({})).await.unwrap_err();
    assert_eq!(problem.code, Code::NotFound);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_fails_is_tried_again_until_it_works() {
    let world = World::new().await;
    world.engine.script("sleep", Script::new([Act::Hang]).ignoring_cancel().ignoring_deadline());
    let row = world.run("sleep").await;
    world.stands(&row, "running").await;
    world.engine.fail(Call::Kill, Problem::new(Code::EngineTimeout, "the engine does not answer"));
    world.kill(&row).await.unwrap();
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.look(&row).await.status.text(), "running", "nobody knows whether it has ended");
    world.engine.mend(Call::Kill);
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Killed);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_by_init_and_where_it_is_not_by_the_supervisor() {
    let world = World::with("timeout = \"10s\"\n", |_| {}).await;
    world.engine.script("kept", Script::new([Act::Hang]));
    let row = world.run("kept").await;
    world.stands(&row, "running").await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Deadline);
    assert_eq!(world.engine.killed(), Vec::<String>::new());

    world.engine.script("starved", Script::new([Act::Hang]).ignoring_deadline().ignoring_cancel());
    let row = world.run("starved").await;
    world.stands(&row, "running").await;
    pass(Duration::from_secs(11)).await;
    assert_eq!(world.look(&row).await.status.text(), "running");
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Deadline);
    assert_eq!(world.engine.killed().len(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_writes_too_much_is_ended_and_keeps_what_it_may() {
    let world = World::with("[output]\nlimit = \"1k\"\n", |_| {}).await;
    let line = bytes::Bytes::from_static(&[b'x'; 100]);
    world.engine.script("yes", Script::new([Act::Flood(OutputStream::Stdout, line, 1 << 40)]));
    let row = world.run("yes").await;
    let end = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!((end.kind, end.output.stdout_bytes), (EndKind::Output, 1024));
    assert!(end.output.dropped_bytes > 0);
    assert_eq!(world.output(&row, OutputStream::Stdout).await.len(), 1024);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_dies_while_it_waits_is_replaced() {
    let world = World::new().await;
    world.warm().await;
    let first = world.engine.alive().remove(0);
    world.engine.crash(&first);
    world.sees("the failure", |all| (pool_of(all.clone()).failures == 1).then_some(())).await;
    pass(Duration::from_secs(2)).await;
    world.warm().await;
    assert_ne!(world.engine.alive(), [first]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_pool_makes_a_sandbox_and_says_that_it_was_cold() {
    let world = World::with("[pool]\ntarget = 0\n", |_| {}).await;
    let row = world.run("ls").await;
    assert!(world.stands(&row, "finished").await.run.unwrap().cold);
    let pool = pool_of(world.snapshot().await);
    assert_eq!((pool.hits, pool.misses), (0, 1));
    world.end().await;

    let world = World::new().await;
    world.warm().await;
    let row = world.run("ls").await;
    assert!(!world.stands(&row, "finished").await.run.unwrap().cold);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_answers_with_what_there_is_when_its_time_is_up() {
    let world = World::new().await;
    world.engine.script("sleep", Script::new([Act::Hang]));
    let row = world.run("sleep").await;
    world.stands(&row, "running").await;
    let path = format!("/v1/proposals/{}?wait_ms=1000", row.id);
    let seen = world.agent("ada").get::<ProposalDetail>(&path).await.unwrap().row;
    assert_eq!(seen.status.text(), "running");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_does_not_read_its_request_is_killed_and_the_run_lost() {
    let mut world = World::idle("", |_| {});
    world.engine.deafen(true);
    world.start().await.unwrap();
    world.warm().await;
    world.engine.deafen(false);
    // More than the pipe takes: a part of it is written, so nobody may try it again.
    let asked = json!({"steps": [{"argv": ["cat"]}], "stdin": "x".repeat(1 << 20)});
    let row = world.propose_as("ada", &asked).await.unwrap().row;
    world.approve(&row).await.unwrap();
    pass(Duration::from_secs(11)).await;
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Lost);
    assert!(world.engine.served().is_empty(), "it was tried again");
    world.warm().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_outlives_its_kill_holds_nobody_up_and_is_removed_later() {
    let world = World::new().await;
    world.engine.script("sleep", Script::new([Act::Hang]).ignoring_cancel().ignoring_deadline());
    let row = world.run("sleep").await;
    world.stands(&row, "running").await;
    world.engine.pretend_to_kill(true);
    world.kill(&row).await.unwrap();
    pass(Duration::from_secs(6)).await;
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Killed);
    let engine_id = world.engine.served().remove(0).engine_id;
    assert!(world.engine.alive().contains(&engine_id));
    world.engine.pretend_to_kill(false);
    pass(Duration::from_secs(70)).await;
    until("its removal", async || (!world.engine.alive().contains(&engine_id)).then_some(())).await;
    world.end().await;
}

fn three_steps(program: &str) -> serde_json::Value {
    json!({"steps": [{"argv": [program]}, {"argv": ["b"]}, {"argv": ["c"]}]})
}

#[tokio::test(start_paused = true)]
async fn each_steps_output_and_end_are_told_apart() {
    let world = World::new().await;
    let acts = [Act::out("one"), Act::err("uno"), Act::NextStep(0), Act::NextStep(0), Act::out("three"), Act::Exit(7)];
    world.engine.script("steps", Script::new(acts));
    let row = world.propose_as("ada", &three_steps("steps")).await.unwrap().row;
    world.approve(&row).await.unwrap();
    let row = world.stands(&row, "finished").await;
    let end = row.end.as_ref().unwrap();
    let exits: Vec<_> = end.steps.iter().map(|step| step.exit_code).collect();
    assert_eq!((exits, end.step, end.exit_code), (vec![Some(0), Some(0), Some(7)], 2, Some(7)));
    let bytes: Vec<_> = end.steps.iter().map(|step| (step.stdout_bytes, step.stderr_bytes)).collect();
    assert_eq!(bytes, [(3, 3), (0, 0), (5, 0)]);
    let path = format!("/v1/proposals/{}/output", row.id);
    let mut lines = world.operator().follow::<FollowLine>(&path).await.unwrap();
    let mut seen = Vec::new();
    while let Some(line) = lines.next().await {
        if let FollowLine::Output { step, stream, data, .. } = line.unwrap() {
            seen.push((step, stream, String::from_utf8(data.0).unwrap()));
        }
    }
    let of = |step, stream, text: &str| (step, stream, text.to_owned());
    let wanted =
        [of(0, OutputStream::Stdout, "one"), of(0, OutputStream::Stderr, "uno"), of(2, OutputStream::Stdout, "three")];
    assert_eq!(seen, wanted);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_ends_without_a_word_leaves_its_steps_unknown_and_the_rest_not_run() {
    let world = World::new().await;
    world.engine.script("steps", Script::new([Act::out("one"), Act::NextStep(0), Act::out("two"), Act::Die]));
    let row = world.propose_as("ada", &three_steps("steps")).await.unwrap().row;
    world.approve(&row).await.unwrap();
    let end = world.stands(&row, "finished").await.end.unwrap();
    let kinds: Vec<_> = end.steps.iter().map(|step| step.kind).collect();
    assert_eq!((end.kind, end.step), (EndKind::Lost, 1));
    assert_eq!(kinds, [StepKind::Lost, StepKind::Lost, StepKind::Skipped]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_is_told_which_step_runs() {
    let world = World::new().await;
    world.engine.script("steps", Script::new([Act::NextStep(0), Act::Gate("on"), Act::NextStep(0), Act::Hang]));
    let mut lines = world.follow(&three_steps("steps"), false).await.unwrap();
    let row = next_line("the proposal", &mut lines, |line| match line {
        FollowLine::Proposal(row) => Some(*row),
        _ => None,
    })
    .await;
    world.approve(&row).await.unwrap();
    for wanted in [1, 2] {
        next_line("the step", &mut lines, |line| match line {
            FollowLine::Proposal(row) => row.run.filter(|run| (run.step, run.steps) == (wanted, 3)),
            _ => None,
        })
        .await;
        world.engine.open("on");
    }
    world.kill(&row).await.unwrap();
    let end = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!((end.kind, end.step, end.steps[2].kind), (EndKind::Killed, 2, StepKind::Stopped));
    world.end().await;
}
