use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use brig_core::problem::Code;
use brig_core::proposal::VerdictKind;

use super::super::{ITEM_BYTES, QUEUE_BYTES};
use super::*;

#[tokio::test]
async fn what_was_answered_is_seen_by_others_at_once() {
    let home = Home::new();
    let journal = home.journal();
    for pid in 0..20 {
        journal.record(at(started(pid))).await.unwrap();
        assert_eq!(home.count("SELECT max(number) FROM entries"), i64::from(pid) + 1);
    }
}

#[tokio::test]
async fn those_who_record_at_once_share_a_commit() {
    let home = Home::new();
    let journal = home.journal();
    // While somebody else writes, nothing can be committed, so all of these are queued behind the first.
    let other = home.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting: Vec<_> = (0..100).map(|pid| Box::pin(journal.record(at(started(pid))))).collect();
    for record in &mut waiting {
        assert!(record.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    other.execute_batch("COMMIT").unwrap();
    for record in waiting {
        record.await.unwrap();
    }
    assert!(journal.commits() <= 2, "{} commits for 100 records", journal.commits());
    let recorded: Vec<u32> = {
        let other = home.other();
        let mut statement = other.prepare("SELECT body ->> 'pid' FROM entries ORDER BY number").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(recorded, (0..100).collect::<Vec<_>>(), "in the order in which they were asked");
}

#[tokio::test]
async fn output_is_committed_with_the_record_after_it() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    assert_eq!(home.count("SELECT count(*) FROM output"), 3);
    assert_eq!(journal.reader().verify().await.unwrap().fault, None);
}

#[tokio::test]
async fn output_alone_is_committed_before_long_and_by_a_barrier() {
    let home = Home::new();
    let journal = home.journal();
    journal.output(&id("r"), out(0, "x")).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while home.count("SELECT count(*) FROM output") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("output that nobody records after is committed by itself");
    journal.output(&id("r"), out(1, "y")).await.unwrap();
    journal.record(vec![]).await.unwrap();
    assert_eq!(home.count("SELECT count(*) FROM output"), 2);
    assert_eq!(home.count("SELECT count(*) FROM entries"), 0);
}

#[tokio::test]
async fn a_failed_commit_is_told_leaves_nothing_and_the_next_one_succeeds() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(at(started(1))).await.unwrap();
    break_table(&home, "proposals");

    let entries = vec![(NOW, started(2)), (NOW, proposed("r"))];
    let problem = journal.record(entries.clone()).await.unwrap_err();
    assert_eq!(problem.code, Code::JournalFailed);
    assert!(problem.message.contains("no space left on device"), "{problem}");
    assert!(problem.message.contains("journal.db"), "{problem}");
    assert!(!problem.help.is_empty());
    assert_eq!(journal.problem(), Some(problem));
    assert_eq!(home.count("SELECT count(*) FROM entries"), 1, "the entry before the one that failed is gone too");

    mend(&home);
    journal.record(entries).await.unwrap();
    assert_eq!(journal.problem(), None);
    let verified = journal.reader().verify().await.unwrap();
    assert_eq!((verified.entries, verified.fault), (3, None), "the chain goes on where it was");
}

#[tokio::test]
async fn everybody_in_a_failed_commit_is_told() {
    let home = Home::new();
    let journal = home.journal();
    break_table(&home, "proposals");
    let other = home.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (mut good, mut bad) = (pin!(journal.record(at(started(1)))), pin!(journal.record(at(proposed("r")))));
    let mut context = Context::from_waker(Waker::noop());
    assert!(good.as_mut().poll(&mut context).is_pending());
    assert!(bad.as_mut().poll(&mut context).is_pending());
    other.execute_batch("COMMIT").unwrap();
    bad.await.unwrap_err();
    // The first may have had a transaction of its own; then it is there, or else it was told.
    match good.await {
        Ok(()) => assert_eq!(home.count("SELECT count(*) FROM entries"), 1),
        Err(_) => assert_eq!(home.count("SELECT count(*) FROM entries"), 0),
    }
}

#[tokio::test]
async fn output_outlives_a_failed_commit() {
    let home = Home::new();
    let journal = home.journal();
    break_table(&home, "output");
    let begin = [proposed("r"), launched("r")];
    journal.record(begin.into_iter().map(|entry| (NOW, entry)).collect()).await.unwrap();
    journal.output(&id("r"), out(0, "kept")).await.unwrap();
    let end = at(ended("r", summary("kept", "")));
    journal.record(end.clone()).await.unwrap_err();
    mend(&home);
    journal.record(end).await.unwrap();
    assert_eq!(journal.reader().verify().await.unwrap().fault, None);
}

#[tokio::test]
async fn output_that_failed_is_tried_again_by_itself() {
    let home = Home::new();
    let journal = home.journal();
    break_table(&home, "output");
    journal.output(&id("r"), out(0, "kept")).await.unwrap();
    journal.record(vec![]).await.unwrap_err();
    mend(&home);
    let mut health = journal.health();
    let healed = tokio::time::timeout(std::time::Duration::from_secs(10), health.wait_for(Option::is_none)).await;
    healed.expect("the journal heals without being asked").unwrap();
    assert_eq!(home.count("SELECT count(*) FROM output"), 1);
}

#[tokio::test]
async fn an_idle_journal_heals_by_itself_and_not_before_it_can_write() {
    let home = Home::new();
    let journal = home.journal();
    break_table(&home, "entries");
    journal.record(at(started(1))).await.unwrap_err();
    journal.record(vec![]).await.unwrap_err();
    mend(&home);
    let mut health = journal.health();
    let healed = tokio::time::timeout(std::time::Duration::from_secs(10), health.wait_for(Option::is_none)).await;
    healed.expect("the journal heals without being asked").unwrap();
    assert_eq!(home.count("SELECT count(*) FROM entries"), 0, "nothing is left of the probe");
    journal.record(at(started(1))).await.unwrap();
    assert_eq!(journal.reader().verify().await.unwrap().fault, None);
}

#[tokio::test]
async fn a_full_queue_makes_output_wait_and_a_commit_lets_it_go_on() {
    let home = Home::new();
    let journal = home.journal();
    let other = home.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (run, chunk) = (id("r"), "x".repeat(64 << 10));
    let mut taken = 0;
    let mut waiting = loop {
        let mut next = Box::pin(journal.output(&run, out(taken, &chunk)));
        match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.unwrap(),
            Poll::Pending => break next,
        }
        taken += 1;
        assert!(taken < 1000, "the queue has no bound");
    };
    assert_eq!(usize::try_from(taken).unwrap(), QUEUE_BYTES / (chunk.len() + ITEM_BYTES));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    other.execute_batch("COMMIT").unwrap();
    waiting.await.unwrap();
    journal.record(vec![]).await.unwrap();
    assert_eq!(home.count("SELECT count(*) FROM output"), i64::try_from(taken).unwrap() + 1);
}

#[tokio::test]
async fn small_items_are_bounded_by_their_number() {
    let home = Home::new();
    let journal = home.journal();
    let other = home.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let run = id("r");
    let mut taken = 0;
    loop {
        // Without this the runtime would end the task's turn before the queue is full.
        let mut next = pin!(tokio::task::unconstrained(journal.output(&run, out(taken, ""))));
        match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.unwrap(),
            Poll::Pending => break,
        }
        taken += 1;
    }
    assert_eq!(usize::try_from(taken).unwrap(), QUEUE_BYTES / ITEM_BYTES);
    other.execute_batch("COMMIT").unwrap();
    journal.record(vec![]).await.unwrap();
}

#[tokio::test]
async fn something_larger_than_the_queue_passes() {
    let home = Home::new();
    let journal = home.journal();
    let large = "x".repeat(2 * QUEUE_BYTES);
    let begin = [proposed("r"), launched("r")];
    journal.record(begin.into_iter().map(|entry| (NOW, entry)).collect()).await.unwrap();
    journal.output(&id("r"), out(0, &large)).await.unwrap();
    journal.record(at(ended("r", summary(&large, "")))).await.unwrap();
    assert_eq!(journal.reader().verify().await.unwrap().output_bytes, large.len() as u64);
}

#[tokio::test]
async fn a_full_queue_that_cannot_be_committed_is_an_error_and_no_hang() {
    let home = Home::new();
    let journal = home.journal();
    break_table(&home, "output");
    let chunk = "x".repeat(256 << 10);
    let mut taken = 0;
    let problem = loop {
        match journal.output(&id("r"), out(taken, &chunk)).await {
            Ok(()) => taken += 1,
            Err(problem) => break problem,
        }
        assert!(taken < 100, "the queue has no bound");
    };
    assert_eq!(problem.code, Code::JournalFailed);
    mend(&home);
    let mut health = journal.health();
    health.wait_for(Option::is_none).await.unwrap();
    journal.output(&id("r"), out(taken, &chunk)).await.unwrap();
    journal.record(vec![]).await.unwrap();
    assert_eq!(home.count("SELECT count(*) FROM output"), i64::try_from(taken).unwrap() + 1, "none was lost");
}

#[tokio::test]
async fn a_second_end_is_refused_and_others_are_not() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    for again in
        [proposed("r"), decided("r", VerdictKind::Rejected), ended("r", summary("", "")), ended("s", summary("", ""))]
    {
        let entries = vec![(NOW, started(9)), (NOW, again)];
        let (refused, others) = tokio::join!(journal.record(entries), journal.record(at(started(2))));
        assert_eq!(refused.unwrap_err().code, Code::Internal);
        others.unwrap();
    }
    assert_eq!(journal.problem(), None);
    let verified = journal.reader().verify().await.unwrap();
    assert_eq!((verified.entries, verified.fault), (9, None), "five of the run, four of the others");
}

#[tokio::test]
async fn a_chunk_that_comes_twice_is_kept_once() {
    let home = Home::new();
    let journal = home.journal();
    journal.output(&id("r"), out(0, "first")).await.unwrap();
    journal.output(&id("r"), out(0, "second")).await.unwrap();
    journal.record(vec![]).await.unwrap();
    let chunks = journal.reader().output_of(&id("r"), 0, 100).await.unwrap();
    assert_eq!(chunks, [out(0, "first")]);
}

#[tokio::test]
async fn closing_commits_what_is_queued_and_other_handles_are_told() {
    let home = Home::new();
    let journal = home.journal();
    let other_handle = journal.clone();
    journal.output(&id("r"), out(0, "x")).await.unwrap();
    journal.close().await;
    assert_eq!(home.count("SELECT count(*) FROM output"), 1);
    assert!(!home.path.with_extension("db-wal").exists(), "the log is in the file");
    assert_eq!(other_handle.record(at(started(1))).await.unwrap_err().code, Code::JournalFailed);
    assert_eq!(other_handle.output(&id("r"), out(1, "x")).await.unwrap_err().code, Code::JournalFailed);
    other_handle.close().await;
}

#[test]
fn a_probe_reaches_the_disk() {
    let home = Home::new();
    let writer = super::super::schema::open_for_writing(&home.path).unwrap();
    let other = home.other();
    let version = || other.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = version();
    super::super::schema::touch(&writer).unwrap();
    assert_ne!(version(), before, "a page was written, though nothing in it is new");
}
