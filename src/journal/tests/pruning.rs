use std::collections::BTreeSet;

use brig_core::problem::Code;
use brig_core::proposal::VerdictKind;
use brig_core::retention::{Limit, Retention};

use super::super::kept::{Kept, on_disk};
use super::super::prune::{Pruner, Step};
use super::super::writer::Head;
use super::super::{Reader, Verified, recovery, schema};
use super::*;

/// No limit that a test reaches.
pub(super) const ALL: Retention = Retention {
    output_age_ms: u64::MAX / 4,
    output_bytes: u64::MAX,
    journal_age_ms: u64::MAX / 4,
    journal_bytes: u64::MAX,
    keep_free: 0,
};

/// The writer's part of pruning, one step at a time.
pub(super) struct Steps {
    connection: rusqlite::Connection,
    pub(super) head: Head,
    pub(super) kept: Kept,
    pruner: Pruner,
}

impl Steps {
    pub(super) fn of(home: &Home, retention: Retention) -> Self {
        let connection = schema::open_for_writing(&home.path).unwrap();
        let (head, kept, _) = recovery::recover(&connection, NOW).unwrap();
        let pruner = Pruner::resume(&connection, retention).unwrap();
        Self { connection, head, kept, pruner }
    }

    pub(super) fn step(&mut self) -> Step {
        self.pruner.step(&mut self.connection, &mut self.head, &mut self.kept, NOW).unwrap()
    }

    /// As many steps as there are to be done.
    pub(super) fn all(&mut self) -> u32 {
        let mut steps = 0;
        while self.step() != Step::Nothing {
            steps += 1;
            assert!(steps < 10_000, "pruning has no end");
        }
        steps
    }
}

pub(super) async fn verified(home: &Home) -> Verified {
    Reader::open(&home.path).unwrap().verify().await.unwrap()
}

/// A run of which all was recorded `ago` milliseconds ago: four entries, and 100 bytes of output for each chunk.
async fn run(journal: &Journal, name: &str, ago: i64, chunks: u64) {
    let at = Wall(NOW.0 - ago);
    let begin = [proposed(name), decided(name, VerdictKind::Approved), launched(name)];
    journal.record(begin.into_iter().map(|entry| (at, entry)).collect()).await.unwrap();
    let text = "x".repeat(100);
    for seq in 0..chunks {
        journal.output(&id(name), out(seq, &text)).await.unwrap();
    }
    let all = text.repeat(usize::try_from(chunks).unwrap());
    journal.record(vec![(at, ended(name, summary(&all, "")))]).await.unwrap();
}

/// Ten runs, `r0` the first, a second apart; one that goes on began after `r6`.
async fn ten(home: &Home) {
    let journal = home.journal();
    for n in 0..10 {
        run(&journal, &format!("r{n}"), (10 - n) * 1000, 10).await;
        if n == 6 {
            journal.record(at(proposed("open"))).await.unwrap();
            journal.record(vec![(NOW, decided("open", VerdictKind::Approved)), (NOW, launched("open"))]).await.unwrap();
            journal.output(&id("open"), out(0, "goes on")).await.unwrap();
        }
    }
    journal.close().await;
}

async fn kept_runs(home: &Home) -> BTreeSet<String> {
    let reader = Reader::open(&home.path).unwrap();
    let mut kept = BTreeSet::new();
    for n in 0..10 {
        let name = format!("r{n}");
        match reader.output_of(&id(&name), 0, usize::MAX).await {
            Ok(chunks) => drop(chunks.is_empty() || kept.insert(name)),
            Err(problem) => assert_eq!(problem.code, Code::Pruned),
        }
    }
    kept
}

fn names(range: std::ops::Range<u32>) -> BTreeSet<String> {
    range.map(|n| format!("r{n}")).collect()
}

#[tokio::test]
async fn output_goes_by_its_age_and_its_run_still_says_what_it_was() {
    let home = Home::new();
    ten(&home).await;
    let before = verified(&home).await;
    let age = Retention { output_age_ms: 5500, ..ALL };
    assert!(Steps::of(&home, age).all() > 0);
    assert_eq!(kept_runs(&home).await, names(5..10));
    let after = verified(&home).await;
    assert_eq!(after.fault, None);
    assert_eq!((after.runs, after.pruned_runs, after.entries), (5, 5, before.entries + 1));
    let reader = Reader::open(&home.path).unwrap();
    assert_eq!(reader.entries_of(&id("r0")).await.unwrap().len(), 4, "its end is still there");
    assert_eq!(reader.pruned(&id("r0")).await.unwrap(), Some((NOW, Limit::OutputAge { ms: 5500 })));
    assert_eq!(reader.pruned(&id("r9")).await.unwrap(), None);
    let problem = reader.output_of(&id("r0"), 0, 1).await.unwrap_err();
    assert!(problem.message.contains("the output of r0 was pruned on 2023-11-1"), "{problem}");
    assert!(problem.message.contains("by the limit of 5s500ms (output_age)"), "{problem}");
    assert_eq!(Steps::of(&home, age).all(), 0, "nothing is left to be done");
}

#[tokio::test]
async fn output_goes_by_its_size_the_oldest_first_and_never_that_of_a_run_that_goes_on() {
    let home = Home::new();
    ten(&home).await;
    let one = on_disk(100) * 10;
    let mut steps = Steps::of(&home, Retention { output_bytes: 4 * one + one / 2, ..ALL });
    steps.all();
    assert_eq!(kept_runs(&home).await, names(6..10));
    assert_eq!(steps.kept.output(), 4 * one + on_disk(7));
    assert_eq!(steps.kept.output(), Steps::of(&home, ALL).kept.output(), "it is counted as it is found anew");
    let mut steps = Steps::of(&home, Retention { output_bytes: 0, ..ALL });
    steps.all();
    assert_eq!(kept_runs(&home).await, BTreeSet::new());
    assert_eq!((home.count("SELECT count(*) FROM output"), steps.kept.output()), (1, on_disk(7)));
    assert_eq!(verified(&home).await.fault, None);
}

#[tokio::test]
async fn entries_go_as_far_as_the_oldest_proposal_that_is_not_over() {
    let home = Home::new();
    ten(&home).await;
    let head = verified(&home).await.head;
    let limit = Limit::JournalAge { ms: 1 };
    Steps::of(&home, Retention { journal_age_ms: 1, ..ALL }).all();
    let found = verified(&home).await;
    assert_eq!(found.fault, None);
    let cut = found.cut.unwrap();
    assert_eq!((cut.through, cut.at, cut.limit), (28, NOW, limit));
    assert_eq!(home.count("SELECT min(number) FROM entries"), 29);
    assert_eq!(home.count("SELECT count(*) FROM proposals"), 4, "those after it, and itself");
    assert_ne!(found.head, head);
    let (journal, recovered) = home.open();
    assert_eq!(super::names(&recovered.open), ["open"]);
    assert_eq!(super::names(&recovered.recent), ["r7", "r8", "r9"]);
    let reader = journal.reader();
    assert_eq!(reader.entries_of(&id("r6")).await.unwrap(), []);
    assert_eq!(reader.cut().await.unwrap(), Some((NOW, limit)));

    // When it is over, all of it may go.
    journal.record(vec![(NOW, ended("open", summary("goes on", "")))]).await.unwrap();
    journal.close().await;
    let mut steps = Steps::of(&home, Retention { journal_bytes: 5000, ..ALL });
    steps.all();
    assert!(steps.kept.entries(&steps.head) <= 5000);
    assert_eq!(verified(&home).await.fault, None);
    let (journal, recovered) = home.open();
    assert_eq!(recovered.open, Vec::<Vec<Recorded>>::new());
    a_run(&journal, "next").await;
    assert_eq!(journal.reader().verify().await.unwrap().fault, None, "it goes on as ever");
}

#[tokio::test]
async fn every_moment_between_two_steps_is_a_journal_that_verifies_opens_and_is_pruned_on() {
    let home = Home::new();
    let journal = home.journal();
    for n in 0..10 {
        run(&journal, &format!("r{n}"), 10_000, if n == 3 { 700 } else { 3 }).await;
    }
    journal.close().await;
    let tight = Retention { output_bytes: 1000, journal_bytes: 8000, ..ALL };
    let mut steps = Steps::of(&home, tight);
    let mut count = 0;
    loop {
        // What a process that dies now leaves: the file and its log as they are.
        let left = Home::new();
        std::fs::create_dir_all(left.path.parent().unwrap()).unwrap();
        for ending in ["", "-wal"] {
            let name = format!("journal.db{ending}");
            std::fs::copy(home.path.with_file_name(&name), left.path.with_file_name(&name)).unwrap();
        }
        assert_eq!(verified(&left).await.fault, None, "after {count} steps");
        let mut rest = Steps::of(&left, tight);
        rest.all();
        assert!(rest.kept.output() <= 1000 && rest.kept.entries(&rest.head) <= 8000, "after {count} steps");
        assert_eq!(
            left.count("SELECT count(*) FROM output o JOIN proposals p ON p.id = o.proposal WHERE p.pruned > 0"),
            0
        );
        assert_eq!(verified(&left).await.fault, None, "after {count} steps, and the rest");
        if steps.step() == Step::Nothing {
            break;
        }
        count += 1;
    }
    assert!(count > 5, "{count} steps are too few to show anything");
}

#[tokio::test]
async fn tampering_with_what_is_left_is_found_at_the_first_wrong_entry() {
    let prune = async |home: &Home| {
        ten(home).await;
        // Entries 1 to 28 go, and the output of r7 stays; 43 entries, a cut or two, and what was pruned.
        Steps::of(home, Retention { journal_age_ms: 1, ..ALL }).all();
        Steps::of(home, Retention { output_bytes: on_disk(100) * 25, ..ALL }).all();
    };
    let home = Home::new();
    prune(&home).await;
    let whole = verified(&home).await;
    assert_eq!((whole.fault, whole.pruned_runs, whole.cut.map(|cut| cut.through)), (None, 1, Some(28)));
    for (what, sql, number) in [
        ("cut further", "DELETE FROM entries WHERE number <= 31", Some(29)),
        ("first one removed", "DELETE FROM entries WHERE number = 29", Some(29)),
        (
            "one put in front",
            "INSERT INTO entries SELECT 28, at, kind, proposal, body, hash, total FROM entries WHERE number = 29",
            Some(28),
        ),
        (
            "changed",
            "UPDATE entries SET body = CAST(replace(body, 'look', 'pry!') AS BLOB) WHERE number = 32",
            Some(32),
        ),
        ("removed", "DELETE FROM entries WHERE number = 34", Some(34)),
        (
            "removed and closed up",
            "DELETE FROM entries WHERE number = 34; UPDATE entries SET number = number - 1 WHERE number > 34",
            Some(34),
        ),
        (
            "anchor changed",
            "UPDATE entries SET body = CAST(replace(body, '\"through\":28', '\"through\":30') AS BLOB) WHERE kind = 'journal-pruned'; DELETE FROM entries WHERE number <= 30",
            Some(31),
        ),
        ("anchor removed", "DELETE FROM entries WHERE kind = 'journal-pruned'", Some(1)),
        (
            "output of a pruned run is back",
            "INSERT INTO output VALUES ('r7', 0, 0, 1, 0, x'78'); UPDATE proposals SET pruned = 45 WHERE id = 'r7'",
            Some(35),
        ),
        ("output removed too", "DELETE FROM output WHERE proposal = 'r8'", Some(39)),
        (
            "said to be pruned with the others",
            "DELETE FROM output WHERE proposal = 'r8'; UPDATE proposals SET pruned = (SELECT max(number) FROM entries) WHERE id = 'r8'",
            None,
        ),
        ("not said to be pruned", "UPDATE proposals SET pruned = NULL WHERE id = 'r7'", Some(35)),
        (
            "index row of what was cut",
            "INSERT INTO proposals (first, id, closed, at, agent, draft_hash, profile, status, command, reason, output)
             VALUES (1, 'r0', 4, 0, 'a', x'', 'p', 'finished', 'ls', '', 0)",
            None,
        ),
        (
            "open one of what was cut",
            "INSERT INTO proposals (first, id, closed, at, agent, draft_hash, profile, status, command, reason, output)
             VALUES (1, 'r0', NULL, 0, 'a', x'', 'p', 'finished', 'ls', '', 0)",
            None,
        ),
        ("index row removed", "DELETE FROM proposals WHERE id = 'r7'", Some(32)),
        ("output of what was cut", "INSERT INTO output VALUES ('r0', 0, 0, 1, 0, x'78')", None),
    ] {
        let home = Home::new();
        prune(&home).await;
        home.tamper(sql);
        let found = verified(&home).await.fault.unwrap_or_else(|| panic!("{what} is not found"));
        assert_eq!(found.number, number, "{what}: {found:?}");
    }
}

#[tokio::test]
async fn a_beginning_that_was_cut_by_a_stranger_keeps_the_journal_from_opening() {
    let home = Home::new();
    ten(&home).await;
    home.tamper("DELETE FROM entries WHERE number <= 8; DELETE FROM proposals WHERE closed <= 8");
    assert_eq!(verified(&home).await.fault.unwrap().number, Some(1));
    let problem = Journal::open(&home.path).unwrap_err();
    assert!(problem.message.starts_with("entry 1 of the journal"), "{problem}");
}

#[tokio::test]
async fn a_journal_that_was_cut_down_to_its_last_entry_opens() {
    let home = Home::new();
    let journal = home.journal();
    run(&journal, "r", 5000, 0).await;
    journal.close().await;
    Steps::of(&home, Retention { journal_age_ms: 1, ..ALL }).all();
    assert_eq!(home.count("SELECT count(*) FROM entries"), 1);
    let found = verified(&home).await;
    assert_eq!((found.fault, found.entries, found.cut.unwrap().through), (None, 1, 4));
    let (journal, recovered) = home.open();
    assert_eq!(recovered, Recovered::default());
    journal.record(at(started(1))).await.unwrap();
    assert_eq!(journal.reader().verify().await.unwrap().fault, None);
}

#[tokio::test]
async fn what_is_freed_is_given_back_to_the_disk() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(vec![(NOW, proposed("r")), (NOW, launched("r"))]).await.unwrap();
    let piece = "x".repeat(64 << 10);
    for seq in 0..128 {
        journal.output(&id("r"), out(seq, &piece)).await.unwrap();
    }
    journal.record(at(ended("r", summary(&piece.repeat(128), "")))).await.unwrap();
    let counted = {
        let steps = Steps::of(&home, ALL);
        steps.kept.output() + steps.kept.entries(&steps.head)
    };
    let mut health = journal.usage();
    journal.retain(Retention { output_bytes: 1 << 20, ..ALL }).unwrap();
    let size = || std::fs::metadata(&home.path).unwrap().len();
    let full = size();
    assert!(full.abs_diff(counted) < full / 10, "{counted} bytes were counted, and the file has {full}");
    let small = async {
        while !(size() < 1 << 20 && health.borrow().as_ref().is_some_and(|(usage, _)| usage.output_bytes == 0)) {
            health.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), small).await.expect("the file gets smaller");
    let log = std::fs::metadata(home.path.with_file_name("journal.db-wal")).unwrap().len();
    assert_eq!(log, 0, "the log is cut");
    assert_eq!(journal.reader().verify().await.unwrap().fault, None);
}

#[tokio::test]
async fn a_flood_of_small_proposals_that_are_withdrawn_is_kept_within_the_limit() {
    let home = Home::new();
    let journal = home.journal();
    let limit = 200_000;
    journal.retain(Retention { journal_bytes: limit, journal_age_ms: u64::MAX / 4, ..ALL }).unwrap();
    for n in 0..2000 {
        let name = format!("p{n:05}");
        journal.record(vec![(NOW, proposed(&name)), (NOW, decided(&name, VerdictKind::Withdrawn))]).await.unwrap();
    }
    let mut usage = journal.usage();
    let below = usage.wait_for(|usage| usage.as_ref().is_some_and(|(usage, _)| usage.journal_bytes <= limit));
    tokio::time::timeout(std::time::Duration::from_secs(20), below).await.expect("it is pruned").unwrap();
    let found = journal.reader().verify().await.unwrap();
    assert_eq!(found.fault, None);
    assert!(found.cut.unwrap().through > 2000);
    journal.close().await;
    assert!(std::fs::metadata(&home.path).unwrap().len() < 3 * limit);
}

#[tokio::test]
async fn what_cannot_be_removed_is_a_problem_until_it_can() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(vec![(NOW, proposed("r")), (NOW, launched("r"))]).await.unwrap();
    let text = "x".repeat(4000);
    journal.output(&id("r"), out(0, &text)).await.unwrap();
    journal.record(vec![]).await.unwrap();
    journal.retain(Retention { output_bytes: 1000, ..ALL }).unwrap();
    let mut usage = journal.usage();
    let bound = std::time::Duration::from_secs(20);
    let full = usage.wait_for(|usage| usage.as_ref().is_some_and(|(_, full)| full.is_some()));
    let (seen, problem) = tokio::time::timeout(bound, full).await.unwrap().unwrap().clone().unwrap();
    let problem = problem.unwrap();
    assert_eq!(problem.code, Code::JournalFailed);
    assert!(problem.message.contains("of at most 1000b") && problem.help.contains("output_size"), "{problem}");
    assert!(seen.warning.is_some());
    journal.record(at(ended("r", summary(&text, "")))).await.unwrap();
    let healed = usage.wait_for(|usage| usage.as_ref().is_some_and(|(_, full)| full.is_none()));
    drop(tokio::time::timeout(bound, healed).await.expect("it recovers by itself").unwrap());
    assert_eq!(journal.reader().output_of(&id("r"), 0, 1).await.unwrap_err().code, Code::Pruned);

    journal.retain(Retention { keep_free: u64::MAX, ..ALL }).unwrap();
    let full = usage.wait_for(|usage| usage.as_ref().is_some_and(|(_, full)| full.is_some()));
    let seen = tokio::time::timeout(bound, full).await.unwrap().unwrap().clone().unwrap();
    assert!(seen.1.unwrap().message.contains("left, and"), "the disk's reason");
    journal.retain(ALL).unwrap();
    let healed = usage.wait_for(|usage| usage.as_ref().is_some_and(|(_, full)| full.is_none()));
    drop(tokio::time::timeout(bound, healed).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_journal_that_was_closed_leaves_one_file_although_it_was_read() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    let reader = journal.reader();
    assert_eq!(reader.verify().await.unwrap().fault, None);
    assert_eq!(reader.entries_of(&id("r")).await.unwrap().len(), 4);
    journal.close().await;
    let left: Vec<_> =
        std::fs::read_dir(home.path.parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["journal.db"]);
}
