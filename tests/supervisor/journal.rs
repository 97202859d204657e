//! A journal that cannot be written, and what the next supervisor knows.

use std::time::Duration;

use brig::api::wire::ProposalDetail;
use brig::engine::scripted::{Act, Script};
use brig::journal::Reader;
use brig_core::problem::Code;
use brig_core::proposal::{EndKind, OutputStream};
use rusqlite::Connection;
use serde_json::json;

use crate::support::world::{World, draft, pass, until};

fn tamper(world: &World, sql: &str) {
    let journal = Connection::open(world.places.journal()).unwrap();
    journal.busy_timeout(Duration::from_secs(5)).unwrap();
    journal.execute_batch(sql).unwrap();
}

fn break_it(world: &World) {
    tamper(
        world,
        "CREATE TRIGGER broken BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, 'no space left on device'); END",
    );
}

fn mend_it(world: &World) {
    tamper(world, "DROP TRIGGER broken");
}

/// What the journal's file has of a run's output.
fn written(world: &World, id: &str) -> Vec<u8> {
    let journal = Connection::open(world.places.journal()).unwrap();
    let mut chunks = journal.prepare("SELECT bytes FROM output WHERE proposal = ?1 ORDER BY seq").unwrap();
    let chunks = chunks.query_map([id], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    chunks.map(Result::unwrap).collect::<Vec<_>>().concat()
}

#[tokio::test(start_paused = true)]
async fn while_the_journal_cannot_be_written_nothing_runs_and_then_it_goes_on() {
    let world = World::new().await;
    world.warm().await;
    let waiting = world.propose("ls").await.row;
    break_it(&world);
    let problem = world.approve(&waiting).await.unwrap_err();
    assert_eq!(problem.code, Code::JournalFailed);
    assert!(problem.message.contains("no space left on device"), "{problem}");
    assert_eq!(world.propose_as("bob", &draft("ls")).await.unwrap_err().code, Code::JournalFailed);
    assert_eq!(world.look(&waiting).await.status.text(), "waiting");
    world.sees("the problem", |all| all.supervisor.journal_problem.clone()).await;
    assert!(world.engine.served().is_empty());
    mend_it(&world);
    pass(Duration::from_secs(3)).await;
    world.sees("its recovery", |all| all.supervisor.journal_problem.is_none().then_some(())).await;
    world.approve(&waiting).await.unwrap();
    world.stands(&waiting, "finished").await;
    assert_eq!(world.snapshot().await.proposals.len(), 1, "what could not be recorded is not there");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_while_the_journal_fails_has_its_end_all_the_same() {
    let world = World::new().await;
    world.engine.script("it", Script::new([Act::out("before"), Act::Gate("go"), Act::out("after"), Act::Exit(4)]));
    let row = world.run("it").await;
    world.stands(&row, "running").await;
    break_it(&world);
    world.engine.open("go");
    let end = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!((end.kind, end.exit_code), (EndKind::Exited, Some(4)));
    mend_it(&world);
    pass(Duration::from_secs(3)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn output_that_the_journal_cannot_take_does_not_end_its_run() {
    let world = World::with("[output]\nlimit = \"64m\"\n", |_| {}).await;
    let piece = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let flood = Act::Flood(OutputStream::Stdout, piece, 200);
    world.engine.script("it", Script::new([Act::Gate("go"), flood, Act::Exit(4)]));
    let row = world.run("it").await;
    world.stands(&row, "running").await;
    tamper(
        &world,
        "CREATE TRIGGER broken BEFORE INSERT ON output BEGIN SELECT RAISE(FAIL, 'no space left on device'); END",
    );
    world.engine.open("go");
    let end = until("its end", async || {
        pass(Duration::from_millis(100)).await;
        world.look(&row).await.end
    })
    .await;
    assert_eq!((end.kind, end.exit_code), (EndKind::Exited, Some(4)), "{}", end.note);
    assert!(end.output.dropped_bytes > 0 && end.output.stdout_bytes > 0, "{:?}", end.output);
    mend_it(&world);
    pass(Duration::from_secs(3)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_supervisor_goes_on_where_the_last_one_died() {
    let mut world = World::new().await;
    world.engine.script("done", Script::says("what it wrote"));
    world.engine.script("sleep", Script::new([Act::out("so far"), Act::Hang]));
    let keyed = json!({"steps": [{"argv": ["ls"]}], "key": "monday"});
    let waiting = world.propose_as("ada", &keyed).await.unwrap().row;
    let done = world.run("done").await;
    world.stands(&done, "finished").await;
    let running = world.run("sleep").await;
    world.stands(&running, "running").await;
    until("its output", async || (world.output(&running, OutputStream::Stdout).await == b"so far").then_some(())).await;
    until("its output on the disk", async || (written(&world, &running.id.0) == b"so far").then_some(())).await;
    world.crash().await;

    world.start().await.unwrap();
    assert_eq!(world.look(&waiting).await.status.text(), "waiting");
    let lost = world.stands(&running, "finished").await.end.unwrap();
    assert_eq!(lost.kind, EndKind::Lost);
    assert_eq!(world.output(&done, OutputStream::Stdout).await, b"what it wrote");
    assert_eq!(world.output(&running, OutputStream::Stdout).await, b"so far");
    let path = format!("/v1/proposals/{}", done.id);
    let seen = world.agent("ada").get::<ProposalDetail>(&path).await.unwrap();
    assert_eq!(seen.row.end.unwrap().exit_code, Some(0));
    assert_eq!(world.propose_as("ada", &keyed).await.unwrap().row.id, waiting.id);
    world.approve(&waiting).await.unwrap();
    world.stands(&waiting, "finished").await;
    assert_eq!(world.engine.served().len(), 3, "what was lost was not run again");
    world.end().await;
}

/// The disk was full when a run was launched, and had room again when it wrote something.
#[tokio::test(start_paused = true)]
async fn what_a_run_wrote_is_counted_though_its_launch_could_not_be_recorded() {
    let mut world = World::new().await;
    world.engine.script("it", Script::new([Act::Gate("go"), Act::out("so far"), Act::Hang]));
    let row = world.propose("it").await.row;
    tamper(
        &world,
        "CREATE TABLE room AS SELECT count(*) + 1 AS entries FROM entries;
         CREATE TRIGGER broken BEFORE INSERT ON entries WHEN (SELECT count(*) FROM entries) >= (SELECT entries FROM room)
         BEGIN SELECT RAISE(FAIL, 'no space left on device'); END",
    );
    world.approve(&row).await.unwrap();
    world.stands(&row, "running").await;
    world.sees("the problem", |all| all.supervisor.journal_problem.clone()).await;
    mend_it(&world);
    tamper(&world, "DROP TABLE room");
    world.engine.open("go");
    until("its output on the disk", async || (written(&world, &row.id.0) == b"so far").then_some(())).await;
    world.crash().await;

    world.start().await.unwrap();
    let lost = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!((lost.kind, lost.output.stdout_bytes), (EndKind::Lost, 6));
    let verified = Reader::open(&world.places.journal()).unwrap().verify().await;
    assert!(verified.is_ok(), "{}", verified.unwrap_err());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_killed_while_the_journal_is_held_up() {
    let world = World::with("[output]\nlimit = \"64m\"\n", |_| {}).await;
    let piece = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let flood = Act::Flood(OutputStream::Stdout, piece, 200);
    let script = Script::new([Act::Gate("go"), flood, Act::Hang]).ignoring_cancel();
    world.engine.script("it", script);
    let row = world.run("it").await;
    world.stands(&row, "running").await;
    // Somebody else holds the file: what is to be written has to wait.
    let other = Connection::open(world.places.journal()).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.engine.open("go");
    pass(Duration::from_millis(200)).await;
    world.kill(&row).await.unwrap();
    until("the kill", async || (!world.engine.killed().is_empty()).then_some(())).await;
    other.execute_batch("ROLLBACK").unwrap();
    world.stands(&row, "finished").await;
    world.end().await;
}
