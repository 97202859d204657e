//! An engine that comes and goes, and what is left over on it.

use std::time::Duration;

use brig::engine::scripted::{Act, Call, Script};
use brig::engine::{Owner, Sighting};
use brig::supervisor::process;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::EndKind;

use crate::support::world::{World, draft, pass, pool_of, until};

fn away() -> Problem {
    Problem::new(Code::EngineUnreachable, "the engine is not there").help("start it")
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_at_the_start_is_waited_for() {
    let mut world = World::idle("", |_| {});
    world.engine.fail(Call::Info, away());
    world.start().await.unwrap();
    let since = world.sees("that it is away", |all| all.supervisor.engine_problem.clone()).await;
    assert_eq!(since.problem, away());
    let pool = pool_of(world.snapshot().await);
    assert_eq!(pool.state.text(), "away");
    assert_eq!(world.propose_as("ada", &draft("ls")).await.unwrap_err(), away());
    pass(Duration::from_secs(20)).await;
    assert_eq!(world.snapshot().await.supervisor.engine_problem.unwrap().since, since.since);
    world.engine.mend(Call::Info);
    pass(Duration::from_secs(6)).await;
    world.warm().await;
    let all = world.snapshot().await;
    assert_eq!((all.supervisor.engine_problem, all.supervisor.engine.unwrap().name.as_str()), (None, "Scripted 1"));
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_the_engine_is_away_runs_when_it_is_back() {
    let world = World::new().await;
    world.warm().await;
    let row = world.propose("ls").await.row;
    for call in [Call::Info, Call::Arm, Call::ResolveImage, Call::Sightings, Call::Kill] {
        world.engine.fail(call, away());
    }
    for engine_id in world.engine.alive() {
        world.engine.crash(&engine_id);
    }
    world.engine.break_events(&away());
    world.sees("that it is away", |all| all.supervisor.engine_problem.clone()).await;
    // What was admitted before needs no engine to be approved.
    world.approve(&row).await.unwrap();
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.look(&row).await.status.text(), "approved");
    for call in [Call::Info, Call::Arm, Call::ResolveImage, Call::Sightings, Call::Kill] {
        world.engine.mend(call);
    }
    pass(Duration::from_secs(6)).await;
    world.stands(&row, "finished").await;
    world.warm().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_engine_is_asked_whether_it_is_still_there() {
    let world = World::new().await;
    world.warm().await;
    world.engine.fail(Call::Info, away());
    pass(Duration::from_secs(12)).await;
    world.sees("that it is away", |all| all.supervisor.engine_problem.clone()).await;
    world.engine.mend(Call::Info);
    pass(Duration::from_secs(6)).await;
    world.sees("that it is back", |all| all.supervisor.engine_problem.is_none().then_some(())).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn sandboxes_that_cannot_be_made_are_tried_again_ever_more_slowly() {
    let mut world = World::idle("", |_| {});
    let refused = Problem::new(Code::EngineRefused, "no space for a sandbox");
    world.engine.fail(Call::Arm, refused.clone());
    world.start().await.unwrap();
    let row = world.run("ls").await;
    pass(Duration::from_secs(30)).await;
    let end = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!((end.kind, end.note.as_str()), (EndKind::Lost, "no sandbox could be made: no space for a sandbox"));
    let pool = pool_of(world.snapshot().await);
    assert_eq!((pool.state.text(), pool.last_error), ("failing", Some(refused)));
    assert!(world.engine.calls(Call::Arm) < 10, "{} tries in 30 seconds", world.engine.calls(Call::Arm));
    world.engine.mend(Call::Arm);
    pass(Duration::from_secs(60)).await;
    world.warm().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_sandbox_is_waited_for() {
    let mut world = World::idle("", |_| {});
    world.engine.delay(Call::Arm, Duration::from_secs(20));
    world.start().await.unwrap();
    let row = world.run("ls").await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.look(&row).await.status.text(), "approved");
    pass(Duration::from_secs(11)).await;
    assert!(world.stands(&row, "finished").await.run.unwrap().cold);
    world.engine.mend(Call::Arm);
    pass(Duration::from_secs(20)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_has_changed_sends_what_waits_back_to_ask() {
    let world = World::new().await;
    world.warm().await;
    let before = world.propose("ls").await.row;
    world.engine.set_image("sha256:other");
    world.engine.emit(brig::engine::EngineEvent::ImageChanged { reference: "scripted".to_owned() });
    let row = until("its return", async || Some(world.look(&before).await).filter(|row| row.returned.is_some())).await;
    assert_eq!(row.status.text(), "waiting");
    assert_ne!(row.digest, before.digest);
    assert_eq!(world.approve(&before).await.unwrap_err().code, Code::DigestMismatch);
    world.approve(&row).await.unwrap();
    world.stands(&row, "finished").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_dead_left_is_removed_at_the_second_look_and_nothing_else_is() {
    let world = World::new().await;
    world.warm().await;
    let me = process::me().unwrap();
    let dead = Owner { pid: me.pid, started: me.started + 1 };
    let parent = std::os::unix::process::parent_id();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap();
    let started = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let plant = |engine_id: &str, owner: Option<Owner>, host: &str| {
        let engine_id = engine_id.to_owned();
        world.engine.plant(Sighting { engine_id, sandbox: None, owner, host: host.to_owned() });
    };
    let here = process::host();
    plant("dead", Some(dead), &here);
    plant("mine-but-forgotten", Some(me), &here);
    plant("of-a-living-supervisor", Some(Owner { pid: parent, started }), &here);
    plant("of-another-host", Some(dead), "elsewhere-1");
    plant("without-an-owner", None, &here);
    let looks = world.engine.calls(Call::Sightings);
    until("one more look", async || {
        pass(Duration::from_millis(500)).await;
        (world.engine.calls(Call::Sightings) > looks).then_some(())
    })
    .await;
    assert_eq!(world.engine.killed(), Vec::<String>::new(), "one look is not enough");
    pass(Duration::from_secs(65)).await;
    let mut killed = world.engine.killed();
    killed.sort();
    assert_eq!(killed, ["dead", "mine-but-forgotten"]);
    assert_eq!(world.engine.alive().len(), 1, "its own sandboxes stay");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_while_the_engines_events_are_lost() {
    let world = World::new().await;
    world.engine.script("it", Script::new([Act::Gate("go"), Act::out("done"), Act::Exit(3)]));
    let row = world.run("it").await;
    world.stands(&row, "running").await;
    world.engine.fail(Call::Info, away());
    world.engine.break_events(&away());
    world.sees("that it is away", |all| all.supervisor.engine_problem.clone()).await;
    world.engine.open("go");
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().exit_code, Some(3));
    world.end().await;
}
