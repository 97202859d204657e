//! Those who look.

use std::time::Duration;

use brig::api::client::Lines;
use brig::api::wire::Update;
use brig::engine::scripted::{Act, Script};
use futures_util::StreamExt as _;

use crate::support::world::{World, bounded, next_line, pass};

/// The next update about a proposal.
async fn proposal_is(lines: &mut Lines<Update>, status: &str) {
    next_line(&format!("a proposal that is {status}"), lines, |update| match update {
        Update::Proposal(row) if row.status.text() == status => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_consoles_see_the_same() {
    let world = World::new().await;
    let mut both = [world.console().await, world.console().await];
    for lines in &mut both {
        let first = bounded("a snapshot", lines.next()).await.unwrap().unwrap();
        assert!(matches!(first, Update::Snapshot(_)), "{first:?}");
    }
    world.sees("two consoles", |all| (all.supervisor.consoles == 2).then_some(())).await;
    world.engine.script("it", Script::new([Act::Gate("go")]));
    let row = world.propose("it").await.row;
    for lines in &mut both {
        proposal_is(lines, "waiting").await;
    }
    world.approve(&row).await.unwrap();
    for lines in &mut both {
        proposal_is(lines, "running").await;
        next_line("the sandbox with its run", lines, |update| match update {
            Update::Sandbox(sandbox) if sandbox.proposal.as_ref() == Some(&row.id) => sandbox.usage,
            _ => None,
        })
        .await;
    }
    world.engine.open("go");
    for lines in &mut both {
        proposal_is(lines, "finished").await;
    }
    drop(both);
    world.sees("no console", |all| (all.supervisor.consoles == 0).then_some(())).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_console_that_falls_behind_is_given_everything_anew() {
    let world = World::with("", |settings| settings.queue_limit = 100_000).await;
    world.warm().await;
    let mut lines = world.console().await;
    let first = bounded("a snapshot", lines.next()).await.unwrap().unwrap();
    assert!(matches!(first, Update::Snapshot(_)));
    // Long rows, so that what the sockets hold on the way is soon full.
    let reason = "why ".repeat(500);
    let asked = serde_json::json!({"steps": [{"argv": ["x".repeat(600)]}], "reason": reason});
    for _ in 0..1500 {
        world.propose_as("ada", &asked).await.unwrap();
    }
    pass(Duration::from_secs(1)).await;
    let rows = next_line("another snapshot", &mut lines, |update| match update {
        Update::Snapshot(all) => Some(all.proposals.len()),
        _ => None,
    })
    .await;
    assert!(rows > 1000, "{rows}");
    // And from there it is told of what changes, as anybody is.
    let row = world.propose("ls").await.row;
    next_line("the newest", &mut lines, |update| match update {
        Update::Proposal(it) if it.id == row.id => Some(()),
        Update::Snapshot(all) if all.proposals.iter().any(|it| it.id == row.id) => Some(()),
        _ => None,
    })
    .await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_of_a_console_ends_with_the_last_one() {
    let mut world = World::idle("", |_| {}).with_consoles();
    world.start().await.unwrap();
    world.warm().await;
    let (first, second) = (world.console().await, world.console().await);
    world.sees("two consoles", |all| (all.supervisor.consoles == 2).then_some(())).await;
    drop(first);
    world.sees("one console", |all| (all.supervisor.consoles == 1).then_some(())).await;
    pass(Duration::from_secs(120)).await;
    assert!(!world.is_over(), "it ended with a console open");
    drop(second);
    world.ended().await.unwrap();
    world.leaves_nothing();
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_of_a_console_stays_while_anything_is_open() {
    let mut world = World::idle("[approval]\nexpires = \"5m\"\n", |_| {}).with_consoles();
    world.start().await.unwrap();
    let console = world.console().await;
    let row = world.propose("ls").await.row;
    drop(console);
    pass(Duration::from_secs(120)).await;
    assert!(!world.is_over(), "it ended with a question open");
    assert_eq!(world.look(&row).await.status.text(), "waiting");
    // When that has expired nobody needs it any more.
    pass(Duration::from_secs(300)).await;
    world.ended().await.unwrap();
    world.leaves_nothing();
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_whose_console_never_came_ends_after_a_while() {
    let mut world = World::idle("", |_| {}).with_consoles();
    world.start().await.unwrap();
    pass(Duration::from_secs(50)).await;
    assert!(!world.is_over());
    pass(Duration::from_secs(15)).await;
    world.ended().await.unwrap();
    world.leaves_nothing();
}
