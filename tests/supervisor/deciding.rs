//! From a proposal to its verdict.

use std::time::Duration;

use brig::api::wire::{FollowLine, ProposalDetail, ProposalRow};
use brig::engine::scripted::{Act, Call, Script};
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{EndKind, OutputStream, VerdictKind};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::support::world::{Told, World, bounded, draft, next_line, pass, pool_of, until};

#[tokio::test(start_paused = true)]
async fn a_proposal_waits_is_approved_streams_and_gives_its_status_back() {
    let world = World::new().await;
    world.warm().await;
    world.engine.script(
        "build",
        Script::new([Act::out("one "), Act::err("oops"), Act::Gate("go"), Act::out("two"), Act::Exit(7)]),
    );
    let mut lines = world.follow(&draft("build"), false).await.unwrap();
    let mut told = Told::default();
    told.take(lines.next().await.unwrap().unwrap());
    let row = told.last.clone().unwrap();
    assert_eq!((row.status.text(), row.command.as_str(), row.agent.name.as_str()), ("waiting", "build", "ada"));
    assert!(world.engine.served().is_empty(), "it ran before anybody decided");

    world.approve(&row).await.unwrap();
    // What it wrote is there while it runs.
    while told.stderr.is_empty() {
        told.take(bounded("output of what runs", lines.next()).await.unwrap().unwrap());
    }
    world.engine.open("go");
    while let Some(line) = bounded("the end", lines.next()).await {
        told.take(line.unwrap());
    }
    assert_eq!((told.stdout.as_slice(), told.stderr.as_slice()), (&b"one two"[..], &b"oops"[..]));
    let last = told.last.unwrap();
    assert_eq!(last.status.text(), "finished");
    let end = last.end.unwrap();
    assert_eq!((end.kind, end.exit_code), (EndKind::Exited, Some(7)));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_byte_for_byte_what_was_asked() {
    let world = World::with("[environment]\nHOME = \"/sandbox\"\nA = \"profile\"\n", |_| {}).await;
    world.engine.script("cat", Script::new([Act::Echo]));
    let asked = json!({
        "steps": [{"argv": ["cat", {"base64": "/w=="}], "env": {"A": "own", "B": {"base64": "//4="}}}],
        "stdin": {"base64": "AP8K"},
        "files": [{"path": "src/main.py", "content": "print()"}],
        "timeout_ms": 1234,
    });
    let proposal = world.propose_as("ada", &asked).await.unwrap();
    world.approve(&proposal.row).await.unwrap();
    let row = world.stands(&proposal.row, "finished").await;
    let served = world.engine.served().remove(0);
    assert_eq!(served.stdin, [0, 0xff, b'\n']);
    assert_eq!(served.files, [(b"/sandbox/src/main.py".to_vec(), b"print()".to_vec())]);
    assert_eq!(served.steps, [[b"cat".to_vec(), vec![0xff]]]);
    assert_eq!(served.deadline_ms, 1234);
    let env: Vec<(&[u8], &[u8])> = served.env.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(env, [(&b"HOME"[..], &b"/sandbox"[..]), (b"A", b"own"), (b"B", &[0xff, 0xfe])]);
    assert_eq!(world.output(&row, OutputStream::Stdout).await, [0, 0xff, b'\n']);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_proposal_gives_its_agent_the_reason_and_never_runs() {
    let world = World::new().await;
    let proposal = world.propose("rm").await;
    let refused = world.decide(&proposal.row, json!({"digest": proposal.row.digest, "verdict": "rejected"})).await;
    assert_eq!(refused.unwrap_err().code, Code::InvalidField);
    let rejected = json!({"digest": proposal.row.digest, "verdict": "rejected", "reason": "not on my watch"});
    world.decide(&proposal.row, rejected).await.unwrap();

    let path = format!("/v1/proposals/{}?wait_ms=5000", proposal.row.id);
    let row = world.agent("ada").get::<ProposalDetail>(&path).await.unwrap().row;
    let verdict = row.verdict.unwrap();
    assert_eq!(
        (row.status.text(), verdict.kind, verdict.reason.as_str()),
        ("rejected", VerdictKind::Rejected, "not on my watch")
    );
    let again = world.approve(&proposal.row).await.unwrap_err();
    assert_eq!(again.code, Code::NotWaiting);
    assert_eq!(again.message, format!("proposal {} was rejected already", proposal.row.id));
    assert!(world.engine.served().is_empty());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_decides_expires() {
    let world = World::with("[approval]\nexpires = \"60s\"\n", |_| {}).await;
    let proposal = world.propose("ls").await;
    pass(Duration::from_secs(40)).await;
    assert_eq!(world.look(&proposal.row).await.status.text(), "waiting");
    pass(Duration::from_secs(25)).await;
    let row = world.stands(&proposal.row, "expired").await;
    assert_eq!(row.verdict.unwrap().kind, VerdictKind::Expired);
    assert_eq!(world.approve(&proposal.row).await.unwrap_err().code, Code::NotWaiting);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_must_name_what_was_looked_at() {
    let world = World::new().await;
    let row = world.propose("ls").await.row;
    let with = async |digest: &str| {
        world.decide(&row, json!({"digest": digest, "verdict": "approved"})).await.map(drop).map_err(|it| it.code)
    };
    assert_eq!(with("0123456789").await, Err(Code::DigestMismatch));
    assert_eq!(with(&row.digest.hex()[..7]).await, Err(Code::InvalidField));
    assert_eq!(with(&format!("{}00", row.digest.hex())).await, Err(Code::DigestMismatch));
    assert_eq!(world.look(&row).await.status.text(), "waiting");
    assert_eq!(with(&row.digest.hex()[..8].to_uppercase()).await, Ok(()));
    world.stands(&row, "finished").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_beginning_of_a_name_is_enough_where_it_fits_one() {
    let world = World::new().await;
    let row = world.propose("ls").await.row;
    let named = async |name: &str| {
        world.operator().get::<ProposalDetail>(&format!("/v1/proposals/{name}")).await.map(|it| it.row.id)
    };
    assert_eq!(named(&row.id.0[..5]).await.unwrap(), row.id);
    assert_eq!(named(&row.id.0.to_uppercase()).await.unwrap(), row.id);
    // With 33 proposals two of them begin with the same letter.
    for _ in 0..32 {
        world.propose("ls").await;
    }
    let all: Vec<ProposalRow> = world.operator().get("/v1/proposals").await.unwrap();
    let letters: Vec<_> = all.iter().map(|row| row.id.0[..1].to_owned()).collect();
    let twice = letters.iter().find(|letter| letters.iter().filter(|other| other == letter).count() > 1).unwrap();
    let problem = named(twice).await.unwrap_err();
    assert_eq!(problem.code, Code::Ambiguous);
    assert!(problem.message.starts_with(&format!("`{twice}` fits {twice}")), "{problem}");
    assert_eq!(named("uuuu").await.unwrap_err().code, Code::NotFound);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_back_only_what_it_asked_to_have_taken_back() {
    let world = World::new().await;
    for (withdraw, status) in [(true, "withdrawn"), (false, "waiting")] {
        let mut lines = world.follow(&draft("ls"), withdraw).await.unwrap();
        let row = first_row(&mut lines).await;
        drop(lines);
        if withdraw {
            world.stands(&row, status).await;
        } else {
            pass(Duration::from_secs(1)).await;
            assert_eq!(world.look(&row).await.status.text(), status);
        }
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_its_run_ends_it_if_it_asked_for_that() {
    let world = World::new().await;
    world.engine.script("sleep", Script::new([Act::Hang]));
    let mut lines = world.follow(&draft("sleep"), true).await.unwrap();
    let row = first_row(&mut lines).await;
    world.approve(&row).await.unwrap();
    world.stands(&row, "running").await;
    drop(lines);
    let end = world.stands(&row, "finished").await.end.unwrap();
    assert_eq!((end.kind, end.by.as_deref()), (EndKind::Killed, Some("agent ada")));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_the_image_is_fetched_leaves_nothing() {
    let mut world = World::idle("", |_| {});
    world.engine.hold(Call::ResolveImage);
    world.start().await.unwrap();
    let lines = world.follow(&draft("ls"), true).await.unwrap();
    drop(lines);
    // What was taken back does not hold its key any more: the same key with something else is no conflict.
    pass(Duration::from_secs(1)).await;
    world.engine.mend(Call::ResolveImage);
    world.warm().await;
    assert_eq!(world.snapshot().await.proposals, []);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_image_is_told_of_while_it_is_waited_for() {
    let mut world = World::idle("", |_| {});
    world.engine.hold(Call::ResolveImage);
    world.start().await.unwrap();
    world.engine.progress("pulling scripted: 1 of 3 MB");
    let mut lines = world.follow(&draft("ls"), true).await.unwrap();
    for line in ["pulling scripted: 1 of 3 MB", "pulling scripted: 2 of 3 MB"] {
        world.engine.progress(line);
        next_line(line, &mut lines, |told| match told {
            FollowLine::Note { text } if text == line => Some(()),
            _ => None,
        })
        .await;
        world
            .sees("the same in the pool's row", |all| {
                all.pools.iter().find(|pool| pool.progress.as_deref() == Some(line)).map(drop)
            })
            .await;
    }
    world.engine.mend(Call::ResolveImage);
    let row = first_row(&mut lines).await;
    assert_eq!(row.status.text(), "waiting");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_had_is_said_and_the_next_try_may_work() {
    let mut world = World::idle("", |_| {});
    let gone = Problem::new(Code::ImageUnavailable, "there is no image `scripted`").help("build it");
    world.engine.fail(Call::ResolveImage, gone.clone());
    world.start().await.unwrap();
    let problem = until("the image's failure", async || {
        world.propose_as("ada", &draft("ls")).await.err().filter(|it| it.code == Code::ImageUnavailable)
    })
    .await;
    assert_eq!(problem, gone);
    world.sees("the failure in the pool's row", |all| pool_of(all.clone()).last_error.filter(|it| *it == gone)).await;
    world.engine.mend(Call::ResolveImage);
    pass(Duration::from_secs(61)).await;
    world.warm().await;
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    world.end().await;
}

async fn first_row(lines: &mut brig::api::client::Lines<FollowLine>) -> ProposalRow {
    next_line("the proposal's row", lines, |line| match line {
        FollowLine::Proposal(row) => Some(*row),
        _ => None,
    })
    .await
}
