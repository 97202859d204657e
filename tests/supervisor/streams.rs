//! Streams of output: in order, whole, and at nobody's cost but their reader's.

use brig::api::wire::FollowLine;
use brig::engine::scripted::{Act, Script};
use brig_core::proposal::OutputStream;
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::support::world::{Told, World, bounded, draft, tell};

/// Bytes that are different everywhere, in pieces.
fn pieces(count: usize) -> Vec<Act> {
    let piece = |at: usize| Bytes::from(format!("{at:015}\n").repeat(256));
    (0..count).map(|at| Act::Say(OutputStream::Stdout, piece(at))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_flood_gets_every_byte_in_order() {
    let world = World::with("[output]\nlimit = \"64m\"\n", |_| {}).await;
    // 12 MiB: far more than is kept in memory for those who follow.
    let acts = pieces(3072);
    let expected: Vec<u8> = acts
        .iter()
        .flat_map(|act| match act {
            Act::Say(_, bytes) => bytes.to_vec(),
            _ => Vec::new(),
        })
        .collect();
    world.engine.script("flood", Script::new(acts));
    let mut slow = world.follow(&draft("flood"), false).await.unwrap();
    let Some(Ok(FollowLine::Proposal(row))) = slow.next().await else { panic!("the first line is the row") };
    world.approve(&row).await.unwrap();
    // The run ends although one of its readers reads nothing.
    let row = world.stands(&row, "finished").await;
    assert_eq!(row.end.unwrap().output.stdout_bytes, expected.len() as u64);
    let told = bounded("the slow reader's end", tell(slow)).await;
    assert!(told.stdout == expected, "{} of {} bytes, or others", told.stdout.len(), expected.len());
    assert_eq!(told.last.unwrap().status.text(), "finished");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_reads_on_where_it_was() {
    let world = World::new().await;
    world.engine.script("three", Script::new([Act::out("a"), Act::out("b"), Act::Gate("go"), Act::out("c")]));
    let row = world.run("three").await;
    world.stands(&row, "running").await;
    let path = format!("/v1/proposals/{}/output?from=1&follow=true", row.id);
    let mut lines = world.agent("ada").follow::<FollowLine>(&path).await.unwrap();
    let mut seen = Vec::new();
    world.engine.open("go");
    while let Some(line) = bounded("the rest", lines.next()).await {
        if let FollowLine::Output { seq, data, .. } = line.unwrap() {
            seen.push((seq, data.0));
        }
    }
    assert_eq!(seen, [(1, b"b".to_vec()), (2, b"c".to_vec())]);
    // A number that is far beyond the end finds nothing, and ends.
    let path = format!("/v1/proposals/{}/output?from={}&follow=true", row.id, u64::MAX);
    let told = bounded("the end", tell(world.agent("ada").follow(&path).await.unwrap())).await;
    assert_eq!((told.chunks, told.last.unwrap().status.text()), (0, "finished"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn output_streams_while_it_runs_every_time() {
    let world = World::with("[pool]\ntarget = 2\n", |_| {}).await;
    for round in 0..20 {
        let gate: &'static str = Box::leak(format!("go {round}").into_boxed_str());
        world.engine.script("say", Script::new([Act::out("now"), Act::Gate(gate)]));
        let mut lines = world.follow(&draft("say"), false).await.unwrap();
        let mut told = Told::default();
        let first = lines.next().await.unwrap().unwrap();
        told.take(first);
        world.approve(told.last.as_ref().unwrap()).await.unwrap();
        while told.stdout.is_empty() {
            told.take(bounded("output of what runs", lines.next()).await.unwrap().unwrap());
        }
        world.engine.open(gate);
        while let Some(line) = bounded("its end", lines.next()).await {
            told.take(line.unwrap());
        }
        assert_eq!(told.stdout, b"now");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn agents_that_open_every_connection_do_not_keep_the_operator_out() {
    let world = World::new().await;
    let mut open = Vec::new();
    // More than there are places; those that do not fit wait in the socket's queue.
    for _ in 0..1100 {
        open.push(std::os::unix::net::UnixStream::connect(world.places.agent_socket()).unwrap());
        tokio::task::yield_now().await;
    }
    bounded("the operator's answer", world.snapshot()).await;
    drop(open);
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    world.end().await;
}
