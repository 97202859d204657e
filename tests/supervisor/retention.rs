//! Limits on what is kept: what goes, what is said of it, and what happens when nothing can go.

use std::time::Duration;

use brig::api::wire::{Done, FollowLine, ProposalDetail, ProposalRow};
use brig::engine::scripted::{Act, Script};
use brig::journal::Reader;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::OutputStream;
use brig_core::retention::Retention;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::support::world::{World, draft, pass, until};

async fn world(limits: Retention) -> World {
    let world = World::with("", |settings| settings.retention = limits).await;
    world.warm().await;
    world
}

/// No limit that a test reaches.
fn roomy() -> Retention {
    Retention { keep_free: 0, ..Retention::default() }
}

async fn detail(world: &World, row: &ProposalRow) -> ProposalDetail {
    world.operator().get(&format!("/v1/proposals/{}", row.id)).await.unwrap()
}

/// What is said instead of a run's output, once it is.
async fn refusal(world: &World, row: &ProposalRow) -> Option<Problem> {
    let mut lines = world.operator().follow(&format!("/v1/proposals/{}/output", row.id)).await.unwrap();
    while let Some(line) = lines.next().await {
        if let FollowLine::Problem(problem) = line.unwrap() {
            return Some(problem);
        }
    }
    None
}

async fn verifies(world: &World) -> brig::journal::Verified {
    let found = Reader::open(&world.places.journal()).unwrap().verify().await.unwrap();
    assert_eq!(found.fault, None);
    found
}

#[tokio::test(start_paused = true)]
async fn the_oldest_output_goes_first_and_is_answered_for_clearly() {
    let mut world = world(Retention { output_bytes: 100_000, ..roomy() }).await;
    world.engine.script("big", Script::new([Act::out(&"x".repeat(40_000)), Act::Exit(3)]));
    let mut rows = Vec::new();
    for _ in 0..4 {
        let row = world.run("big").await;
        world.stands(&row, "finished").await;
        rows.push(row);
    }
    let problem = until("the first one's output to go", async || refusal(&world, &rows[0]).await).await;
    assert_eq!(problem.code, Code::Pruned);
    assert!(problem.message.starts_with(&format!("the output of {} was pruned on 20", rows[0].id)), "{problem}");
    assert!(problem.message.ends_with("by the limit of 100000b (output_size)"), "{problem}");
    for _ in 0..2 {
        let seen = detail(&world, &rows[0]).await;
        assert_eq!(seen.row.end.unwrap().output.stdout_bytes, 40_000, "what it wrote is known all the same");
        assert!(seen.output_pruned.unwrap().contains("output_size"));
        assert_eq!(detail(&world, &rows[3]).await.output_pruned, None);
        assert_eq!(world.output(&rows[3], OutputStream::Stdout).await.len(), 40_000);
        let disk = world.sees("the disk", |all| all.supervisor.disk.clone()).await;
        assert_eq!((disk.output_limit, disk.warning), (100_000, None));
        let found = verifies(&world).await;
        assert_eq!(found.runs + found.pruned_runs, 4);
        // And the next supervisor says the same.
        world.crash().await;
        world.start().await.unwrap();
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_proposes_and_withdraws_for_ever_does_not_fill_the_disk() {
    let limit = 300_000;
    let world = world(Retention { journal_bytes: limit, ..roomy() }).await;
    let payload = json!({"steps": [{"argv": ["ls"]}], "stdin": "y".repeat(20_000)});
    let mut first = None;
    for _ in 0..60 {
        let row = world.propose_as("ada", &payload).await.unwrap().row;
        let _: Done = world.agent("ada").post(&format!("/v1/proposals/{}/withdraw", row.id), &json!({})).await.unwrap();
        first.get_or_insert(row);
    }
    world
        .sees("the journal below its limit", |all| {
            let disk = all.supervisor.disk.as_ref()?;
            (disk.journal_bytes > 0 && disk.journal_bytes <= limit && disk.file_bytes < 4 * limit).then_some(())
        })
        .await;
    assert!(verifies(&world).await.cut.unwrap().through > 60);
    assert!(world.snapshot().await.supervisor.journal_problem.is_none());
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    // What the state has let go of, and the journal too, is said to be too old.
    let gone = world.operator().get::<ProposalDetail>("/v1/proposals/00000000").await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
    assert!(gone.help.contains("the oldest proposals were pruned on 20"), "{gone}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_nothing_can_go_nothing_new_begins_until_something_can() {
    let world = world(Retention { output_bytes: 10_000, ..roomy() }).await;
    world.engine.script("big", Script::new([Act::out(&"x".repeat(30_000)), Act::Hang]));
    let (waiting, other) = (world.propose("ls").await.row, world.propose("ls").await.row);
    let big = world.run("big").await;
    let problem = world.sees("the problem", |all| all.supervisor.journal_problem.clone()).await.problem;
    assert_eq!(problem.code, Code::JournalFailed);
    assert!(problem.message.contains("output takes") && problem.message.contains("of at most 10000b"), "{problem}");
    assert_eq!(world.propose_as("bob", &draft("ls")).await.unwrap_err(), problem);
    assert_eq!(world.approve(&waiting).await.unwrap_err(), problem);
    assert_eq!(world.look(&waiting).await.status.text(), "waiting");
    let reject = json!({"digest": other.digest, "verdict": "rejected", "reason": "no"});
    assert_eq!(world.decide(&other, reject).await.unwrap().row.status.text(), "rejected", "what ends is recorded");
    world.kill(&big).await.unwrap();
    world.stands(&big, "finished").await;
    world.sees("its recovery", |all| all.supervisor.journal_problem.is_none().then_some(())).await;
    world.approve(&waiting).await.unwrap();
    world.stands(&waiting, "finished").await;
    let kinds: Vec<_> = Reader::open(&world.places.journal()).unwrap().entries_of(&big.id).await.unwrap();
    assert!(kinds.iter().any(|recorded| recorded.entry.closes()), "the end of the one that was killed is recorded");
    verifies(&world).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn new_limits_hold_as_soon_as_they_are_written() {
    let world = world(roomy()).await;
    world.engine.script("big", Script::says(&"x".repeat(2 << 20)));
    let row = world.run("big").await;
    world.stands(&row, "finished").await;
    assert_eq!(detail(&world, &row).await.output_pruned, None);
    let file = world.places.brig_toml();
    std::fs::write(&file, "[retention]\noutput_size = \"1m\"\n").unwrap();
    pass(Duration::from_secs(3)).await;
    let problem = until("the output to go", async || refusal(&world, &row).await).await;
    assert_eq!(problem.code, Code::Pruned);
    std::fs::write(&file, "[retention]\noutput_size = \"a lot\"\n").unwrap();
    pass(Duration::from_secs(3)).await;
    let wrong = world.sees("the mistake", |all| all.supervisor.config_problem.clone()).await.problem;
    assert!(wrong.message.contains("`retention.output_size`: \"a lot\" is no size"), "{wrong}");
    world.sees("what holds", |all| (all.supervisor.disk.as_ref()?.output_limit == 1 << 20).then_some(())).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_ended_leaves_the_journal_in_one_file() {
    let mut world = world(roomy()).await;
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    let _ = world.output(&row, OutputStream::Stdout).await;
    let _: Done = world.operator().post("/v1/shutdown", &json!({})).await.unwrap();
    world.ended().await.unwrap();
    let state = world.places.journal();
    let left: Vec<_> = std::fs::read_dir(state.parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(left.contains(&"journal.db".into()) && !left.contains(&"journal.db-wal".into()), "{left:?}");
}
