//! Ending in good order, whatever the engine does.

use std::time::Duration;

use brig::api::wire::{Done, FollowLine};
use brig::engine::scripted::{Act, Call, Script};
use brig_core::problem::{Code, Problem};
use brig_core::proposal::EndKind;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::support::world::{World, bounded, draft, pass, tell};

#[tokio::test(start_paused = true)]
async fn ending_kills_what_runs_and_tells_those_who_follow() {
    let mut world = World::new().await;
    world.engine.script("sleep", Script::new([Act::out("so far"), Act::Hang]));
    let mut running = world.follow(&draft("sleep"), false).await.unwrap();
    let Some(Ok(FollowLine::Proposal(row))) = running.next().await else { panic!("the first line is the row") };
    world.approve(&row).await.unwrap();
    world.stands(&row, "running").await;
    let waiting = world.follow(&draft("ls"), false).await.unwrap();
    let console = world.console().await;
    let _: Done = world.operator().post("/v1/shutdown", &json!({})).await.unwrap();
    let last = bounded("the end of what ran", tell(running)).await.last.unwrap();
    let end = last.end.unwrap();
    assert_eq!((end.kind, end.by.as_deref()), (EndKind::Killed, Some("the supervisor, which was told to end")));
    let told = bounded("the end of what waits", tell(waiting)).await;
    assert_eq!(told.problem.unwrap().code, Code::ShuttingDown);
    bounded("the console's end", console.count()).await;
    world.ended().await.unwrap();
    world.leaves_nothing();
    // What waited still waits.
    world.start().await.unwrap();
    assert_eq!(world.look(&told.last.unwrap()).await.status.text(), "waiting");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn ending_does_not_wait_for_ever_for_an_engine_that_hangs() {
    let mut world = World::new().await;
    world.engine.script("sleep", Script::new([Act::Hang]).ignoring_cancel().ignoring_deadline());
    let row = world.run("sleep").await;
    world.stands(&row, "running").await;
    for call in [Call::Kill, Call::Arm, Call::Info, Call::Sightings] {
        world.engine.hold(call);
    }
    let _: Done = world.operator().post("/v1/shutdown", &json!({})).await.unwrap();
    pass(Duration::from_secs(5)).await;
    assert!(!world.is_over(), "it did not wait for its sandboxes");
    pass(Duration::from_secs(5)).await;
    world.ended().await.unwrap();
    world.leaves_nothing();
    // Nobody knows what became of it, so the next one says that it is lost.
    for call in [Call::Kill, Call::Arm, Call::Info, Call::Sightings] {
        world.engine.mend(call);
    }
    world.start().await.unwrap();
    assert_eq!(world.stands(&row, "finished").await.end.unwrap().kind, EndKind::Lost);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_taken_while_it_ends() {
    let mut world = World::new().await;
    world.engine.script("sleep", Script::new([Act::Hang]).ignoring_cancel().ignoring_deadline());
    let row = world.run("sleep").await;
    world.stands(&row, "running").await;
    let waiting = world.propose("ls").await.row;
    world.engine.fail(Call::Kill, Problem::new(Code::EngineTimeout, "the engine does not answer"));
    let _: Done = world.operator().post("/v1/shutdown", &json!({})).await.unwrap();
    assert_eq!(world.propose_as("ada", &draft("ls")).await.unwrap_err().code, Code::ShuttingDown);
    let _ = world.approve(&waiting).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.engine.served().len(), 1, "something was begun while it ended");
    world.engine.mend(Call::Kill);
    pass(Duration::from_secs(10)).await;
    world.ended().await.unwrap();
    world.leaves_nothing();
}
