use brig_core::journal::{GENESIS, link};
use brig_core::proposal::{StepEnd, StepKind, VerdictKind};

use super::super::{Fault, Reader, Verified};
use super::*;

/// Two runs and a rejected proposal: entries 1 to 5, 6 to 10, 11 and 12.
async fn full(home: &Home) {
    let journal = home.journal();
    a_run(&journal, "r").await;
    a_run(&journal, "s").await;
    journal.record(vec![(NOW, keyed("t", Some("key"))), (NOW, decided("t", VerdictKind::Rejected))]).await.unwrap();
    journal.close().await;
}

async fn verified(home: &Home) -> Verified {
    Reader::open(&home.path).unwrap().verify().await.unwrap()
}

async fn fault(home: &Home) -> Fault {
    verified(home).await.fault.expect("tampering that is found")
}

#[tokio::test]
async fn an_untouched_journal_fits() {
    let home = Home::new();
    home.journal().close().await;
    let empty = verified(&home).await;
    assert_eq!((empty.entries, empty.head, empty.fault), (0, GENESIS, None));

    full(&home).await;
    let found = verified(&home).await;
    assert_eq!(found.fault, None);
    assert_eq!((found.entries, found.runs, found.output_bytes), (12, 2, 22));
    let body: i64 = home.count("SELECT sum(length(body)) FROM entries");
    assert_eq!(found.entry_bytes, body.cast_unsigned());
    let last = Reader::open(&home.path).unwrap().entries_of(&id("t")).await.unwrap();
    assert_eq!(found.head, last[1].hash);
}

#[tokio::test]
async fn each_kind_of_tampering_is_found_at_the_first_wrong_entry() {
    for (what, sql, number) in [
        ("body", "UPDATE entries SET body = CAST(replace(body, 'look', 'pry!') AS BLOB) WHERE number = 7", Some(7)),
        ("time", "UPDATE entries SET at = at + 1 WHERE number = 3", Some(3)),
        ("hash", "UPDATE entries SET hash = zeroblob(32) WHERE number = 4", Some(4)),
        ("short hash", "UPDATE entries SET hash = x'00' WHERE number = 4", Some(4)),
        ("kind beside it", "UPDATE entries SET kind = 'stopped' WHERE number = 4", Some(4)),
        ("proposal beside it", "UPDATE entries SET proposal = 's' WHERE number = 4", Some(4)),
        ("hidden", "UPDATE entries SET proposal = NULL WHERE number = 4", Some(4)),
        ("first removed", "DELETE FROM entries WHERE number = 1", Some(1)),
        ("removed", "DELETE FROM entries WHERE number = 6", Some(6)),
        (
            "before the first",
            "INSERT INTO entries SELECT 0, at, kind, proposal, body, hash, total FROM entries WHERE number = 1",
            Some(1),
        ),
        (
            "removed and closed up",
            "DELETE FROM entries WHERE number = 6; UPDATE entries SET number = number - 1 WHERE number > 6",
            Some(6),
        ),
        (
            "swapped",
            "UPDATE entries SET number = -1 WHERE number = 3; UPDATE entries SET number = 3 WHERE number = 4;
             UPDATE entries SET number = 4 WHERE number = -1",
            Some(3),
        ),
        ("tail cut, index left", "DELETE FROM entries WHERE number > 9", Some(10)),
        (
            "tail of an open one cut",
            "DELETE FROM entries WHERE number > 5; DELETE FROM proposals WHERE id = 't'",
            Some(7),
        ),
        ("chunk changed", "UPDATE output SET bytes = x'4f6f7073' WHERE proposal = 's' AND seq = 1", Some(10)),
        ("chunk removed", "DELETE FROM output WHERE proposal = 'r' AND seq = 2", Some(5)),
        ("chunk added", "INSERT INTO output VALUES ('r', 3, 0, 1, 0, x'78')", Some(5)),
        ("empty chunk added", "INSERT INTO output VALUES ('r', 4, 0, 1, 0, x'')", Some(5)),
        ("chunk moved", "UPDATE output SET seq = 7 WHERE proposal = 'r' AND seq = 2", Some(5)),
        ("chunk on the other stream", "UPDATE output SET stream = 2 WHERE proposal = 'r' AND seq = 0", Some(5)),
        ("chunk on no stream", "UPDATE output SET stream = 3 WHERE proposal = 'r' AND seq = 0", Some(5)),
        ("output of what never ran", "INSERT INTO output VALUES ('t', 0, 0, 1, 0, x'78')", Some(12)),
        ("output of nobody", "INSERT INTO output VALUES ('u', 0, 0, 1, 0, x'78')", None),
        ("opened again", "UPDATE proposals SET closed = NULL WHERE id = 'r'", Some(5)),
        ("index row removed", "DELETE FROM proposals WHERE id = 's'", Some(7)),
        (
            "index row added",
            "INSERT INTO proposals (first, id, at, agent, draft_hash, profile, status, command, reason)
             VALUES (1, 'u', 0, 'a', x'', 'shell', 'waiting', 'ls', '')",
            None,
        ),
        ("draft of a key changed", "UPDATE proposals SET draft_hash = zeroblob(32) WHERE id = 't'", Some(11)),
        ("agent changed", "UPDATE proposals SET agent = 'other' WHERE id = 'r'", Some(2)),
        ("profile changed", "UPDATE proposals SET profile = 'other' WHERE id = 'r'", Some(2)),
        ("command changed", "UPDATE proposals SET command = 'rm' WHERE id = 'r'", Some(2)),
        ("reason changed", "UPDATE proposals SET reason = 'other' WHERE id = 'r'", Some(2)),
        ("operator changed", "UPDATE proposals SET operator = 'bob' WHERE id = 'r'", Some(3)),
        ("verdict changed", "UPDATE proposals SET verdict = 'rejected' WHERE id = 'r'", Some(3)),
        ("end changed", "UPDATE proposals SET ended = 'lost' WHERE id = 'r'", Some(5)),
        ("killer added", "UPDATE proposals SET killer = 'bob' WHERE id = 'r'", Some(5)),
        ("status of a closed one changed", "UPDATE proposals SET status = 'expired' WHERE id = 't'", Some(12)),
        ("end of what never ran", "UPDATE proposals SET ended = 'exited' WHERE id = 't'", Some(12)),
        ("size of an entry", "UPDATE entries SET total = total + 1 WHERE number = 6", Some(6)),
        ("size of its output", "UPDATE proposals SET output = 0 WHERE id = 's'", Some(10)),
        ("said to be pruned", "UPDATE proposals SET pruned = 11 WHERE id = 's'", Some(10)),
        ("said to be pruned before its end", "UPDATE proposals SET pruned = 2 WHERE id = 's'", Some(10)),
        (
            "said to be pruned later",
            "UPDATE proposals SET pruned = 13 WHERE id = 's'; DELETE FROM output WHERE proposal = 's'",
            Some(13),
        ),
        ("key changed", "UPDATE proposals SET key = 'other' WHERE id = 't'", Some(11)),
    ] {
        let home = Home::new();
        full(&home).await;
        home.tamper(sql);
        let found = fault(&home).await;
        assert_eq!(found.number, number, "{what}: {found:?}");
        assert!(!found.how.is_empty() && !found.how.ends_with('.'), "{what}: {found:?}");
    }
}

#[tokio::test]
async fn an_entry_with_a_hash_made_to_fit_breaks_the_next_one() {
    let home = Home::new();
    full(&home).await;
    let reader = Reader::open(&home.path).unwrap();
    let history = reader.entries_of(&id("r")).await.unwrap();
    let (previous, forged) = (&history[0], decided("r", VerdictKind::Rejected));
    let body = forged.to_bytes().unwrap();
    let hash = link(&previous.hash, 3, NOW, &body);
    let other = home.other();
    other.execute("UPDATE entries SET body = ?1, hash = ?2 WHERE number = 3", (&body, &hash.0[..])).unwrap();
    drop(other);
    // The forged verdict is found by what the index says before the broken link behind it is reached.
    assert_eq!(fault(&home).await.number, Some(3));
    home.tamper(
        "UPDATE proposals SET closed = 3, status = 'rejected', verdict = 'rejected', ended = NULL WHERE id = 'r'",
    );
    assert_eq!(fault(&home).await.how, "there is output of it, but it never ran");
    home.tamper("DELETE FROM output WHERE proposal = 'r'");
    assert_eq!(fault(&home).await.number, Some(4), "with all that put right, the chain does not fit");
}

/// This is the limit that the module's documentation states; it is here so that the statement stays true.
#[tokio::test]
async fn a_tail_cut_together_with_its_index_is_found_only_by_a_head_kept_elsewhere() {
    let home = Home::new();
    full(&home).await;
    let before = verified(&home).await;
    home.tamper(
        "DELETE FROM entries WHERE number > 5; DELETE FROM proposals WHERE id <> 'r';
         DELETE FROM output WHERE proposal <> 'r'",
    );
    let after = verified(&home).await;
    assert_eq!((after.entries, after.fault), (5, None));
    assert_ne!(after.head, before.head);
}

#[tokio::test]
async fn a_rewriting_under_a_living_supervisor_shows_at_the_next_entry() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(vec![(NOW, started(1)), (NOW, started(2))]).await.unwrap();
    let body = started(3).to_bytes().unwrap();
    let first = link(&GENESIS, 1, NOW, &started(1).to_bytes().unwrap());
    let hash = link(&first, 2, NOW, &body);
    home.other().execute("UPDATE entries SET body = ?1, hash = ?2 WHERE number = 2", (&body, &hash.0[..])).unwrap();
    let reader = journal.reader();
    assert_eq!(reader.verify().await.unwrap().fault, None);
    journal.record(at(started(4))).await.unwrap();
    assert_eq!(reader.verify().await.unwrap().fault.unwrap().number, Some(3));
}

#[tokio::test]
async fn a_run_that_goes_on_is_no_fault() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(vec![(NOW, proposed("r")), (NOW, launched("r"))]).await.unwrap();
    journal.output(&id("r"), out(0, "so far")).await.unwrap();
    journal.record(vec![]).await.unwrap();
    let found = journal.reader().verify().await.unwrap();
    assert_eq!((found.entries, found.runs, found.fault), (2, 0, None));
}

#[tokio::test]
async fn a_long_journal_is_walked_in_slices() {
    let home = Home::new();
    let journal = home.journal();
    journal.record((0..1000).map(|pid| (NOW, started(pid))).collect()).await.unwrap();
    let found = journal.reader().verify().await.unwrap();
    assert_eq!((found.entries, found.fault), (1000, None));
    home.tamper("DELETE FROM entries WHERE number BETWEEN 513 AND 999");
    assert_eq!(journal.reader().verify().await.unwrap().fault.unwrap().number, Some(513));
}

#[tokio::test]
async fn output_that_was_moved_to_another_step_is_found() {
    for (tampering, is_found) in [("SELECT 1", false), ("UPDATE output SET step = 0 WHERE seq = 2", true)] {
        let home = Home::new();
        let journal = home.journal();
        let begin = [started(1), proposed("r"), decided("r", VerdictKind::Approved), launched("r")];
        journal.record(begin.into_iter().map(|entry| (NOW, entry)).collect()).await.unwrap();
        for chunk in [out(0, "one "), Chunk { step: 1, ..err(1, "oops") }, Chunk { step: 1, ..out(2, "two") }] {
            journal.output(&id("r"), chunk).await.unwrap();
        }
        let step = |stdout_bytes, stderr_bytes| StepEnd {
            kind: StepKind::Exited,
            exit_code: Some(0),
            signal: None,
            note: String::new(),
            wall_us: 1,
            stdout_bytes,
            stderr_bytes,
        };
        let Entry::Ended { id: name, end } = ended("r", summary("one two", "oops")) else { unreachable!() };
        let end = RunEnd { steps: vec![step(4, 0), step(3, 4), step(0, 0)], ..end };
        journal.record(at(Entry::Ended { id: name, end })).await.unwrap();
        journal.close().await;
        home.tamper(tampering);
        let found = verified(&home).await.fault;
        assert_eq!(found.is_some(), is_found, "{found:?}");
        assert!(found.is_none_or(|fault| fault.how.contains("at the steps")));
    }
}
