use std::os::unix::fs::PermissionsExt as _;

use brig_core::problem::Code;
use brig_core::proposal::VerdictKind;

use super::*;

#[tokio::test]
async fn a_new_journal_is_its_owners_alone() {
    let home = Home::new();
    let (journal, recovered) = home.open();
    assert_eq!(recovered, Recovered::default());
    journal.record(at(started(1))).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.path.parent().unwrap()), 0o700);
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        assert_eq!(mode(&home.path.with_file_name(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn open_proposals_come_back_whole_in_the_order_of_their_arrival() {
    let home = Home::new();
    let journal = home.journal();
    for name in ["z", "a", "m", "b"] {
        journal.record(at(proposed(name))).await.unwrap();
    }
    journal.record(at(decided("a", VerdictKind::Rejected))).await.unwrap();
    journal.record(vec![(NOW, decided("z", VerdictKind::Approved)), (NOW, launched("z"))]).await.unwrap();
    let z = journal.reader().entries_of(&id("z")).await.unwrap();
    journal.close().await;

    let (_journal, recovered) = home.open();
    assert_eq!(names(&recovered.open), ["z", "m", "b"]);
    assert_eq!(recovered.open[0], z);
    assert_eq!(z.iter().map(|recorded| recorded.number).collect::<Vec<_>>(), [1, 6, 7]);
    assert_eq!(z[2].entry, launched("z"));
    assert_eq!(names(&recovered.recent), ["a"]);
    assert_eq!(recovered.recent[0].len(), 2);
}

#[tokio::test]
async fn the_last_fifty_that_finished_come_back() {
    let home = Home::new();
    let journal = home.journal();
    let name = |number: usize| format!("p{number:02}");
    for number in 0..60 {
        journal.record(at(proposed(&name(number)))).await.unwrap();
    }
    for number in (0..60).rev() {
        journal.record(at(decided(&name(number), VerdictKind::Expired))).await.unwrap();
    }
    drop(journal);
    let (_journal, recovered) = home.open();
    assert_eq!(names(&recovered.recent), (0..50).rev().map(name).collect::<Vec<_>>());
    assert_eq!(recovered.open, Vec::<Vec<Recorded>>::new());
}

#[tokio::test]
async fn keys_are_remembered_for_a_day() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let home = Home::new();
    let journal = home.journal();
    for (name, key, ago) in [("old", "k1", DAY + 1), ("new", "k1", DAY), ("other", "k2", 5), ("again", "k1", 1)] {
        journal.record(vec![(Wall(NOW.0 - ago), keyed(name, Some(key)))]).await.unwrap();
    }
    journal.record(at(proposed("keyless"))).await.unwrap();
    drop(journal);
    let (_journal, recovered) = home.open();
    let keys: Vec<_> = recovered.keys.iter().map(|key| (key.key.as_str(), key.id.0.as_str())).collect();
    assert_eq!(keys, [("k2", "other"), ("k1", "again")]);
    assert_eq!(recovered.keys[0].agent, "agent-7");
    assert_eq!(recovered.keys[0].draft_hash, Hash::of(b"other"));
}

#[tokio::test]
async fn ten_thousand_open_proposals_and_keys_come_back() {
    let home = Home::new();
    let journal = home.journal();
    let name = |number: usize| format!("p{number:05}");
    for batch in 0..51 {
        let entries = (0..200).map(|number| {
            let name = name(batch * 200 + number);
            (NOW, keyed(&name, Some(&name)))
        });
        journal.record(entries.collect()).await.unwrap();
    }
    journal.close().await;
    let (_journal, recovered) = home.open();
    assert_eq!(names(&recovered.open), (0..10_200).map(name).collect::<Vec<_>>());
    assert_eq!(recovered.keys.len(), 10_000);
    assert_eq!(recovered.keys[0].key, name(200), "the oldest are forgotten first");
}

fn problem_of(home: &Home) -> brig_core::problem::Problem {
    let problem = Journal::open(&home.path).unwrap_err();
    assert!(problem.message.contains("journal.db"), "{problem}");
    assert!(!problem.help.is_empty(), "{problem}");
    problem
}

#[tokio::test]
async fn a_newer_journal_is_left_alone() {
    let home = Home::new();
    home.journal().close().await;
    home.tamper("PRAGMA user_version = 3");
    let before = std::fs::read(&home.path).unwrap();
    let problem = problem_of(&home);
    assert_eq!(problem.code, Code::JournalFailed);
    assert!(problem.message.contains("version 3"), "{problem}");
    assert_eq!(std::fs::read(&home.path).unwrap(), before);
}

#[tokio::test]
async fn an_older_journal_is_left_alone_and_told_from_what_is_none() {
    let home = Home::new();
    home.journal().close().await;
    home.tamper("PRAGMA user_version = 1");
    let before = std::fs::read(&home.path).unwrap();
    let problem = problem_of(&home);
    assert!(problem.message.contains("version 1") && problem.help.contains("move the file away"), "{problem}");
    assert_eq!(std::fs::read(&home.path).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_journal_is_left_alone() {
    let home = Home::new();
    std::fs::create_dir(home.path.parent().unwrap()).unwrap();
    home.tamper("CREATE TABLE music (title TEXT); PRAGMA application_id = 7");
    let before = std::fs::read(&home.path).unwrap();
    assert_eq!(problem_of(&home).code, Code::JournalFailed);
    assert_eq!(std::fs::read(&home.path).unwrap(), before);

    std::fs::write(&home.path, "dear diary, ".repeat(1000)).unwrap();
    assert_eq!(problem_of(&home).code, Code::JournalFailed);
    assert_eq!(super::super::Reader::open(&home.path).unwrap_err().code, Code::JournalFailed);
}

#[tokio::test]
async fn a_damaged_journal_is_one_clear_problem() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    journal.close().await;
    let mut bytes = std::fs::read(&home.path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&home.path, bytes).unwrap();
    assert_eq!(problem_of(&home).code, Code::JournalFailed);
}

#[tokio::test]
async fn an_end_that_does_not_fit_its_chain_is_refused() {
    for (sql, number) in [
        ("UPDATE entries SET hash = zeroblob(32) WHERE number = 5", "entry 5"),
        ("UPDATE entries SET body = '{}' WHERE number = 5", "entry 5"),
        ("DELETE FROM entries WHERE number = 4", "entry 5"),
        ("DELETE FROM entries WHERE number = 5", "entry 5"),
        ("DELETE FROM entries", "entry 2"),
    ] {
        let home = Home::new();
        let journal = home.journal();
        a_run(&journal, "r").await;
        journal.close().await;
        home.tamper(&sql.replace("'{}'", "x'7b7d'"));
        let problem = problem_of(&home);
        assert!(problem.message.starts_with(number), "{sql}: {problem}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_a_local_problem() {
    let home = Home::new();
    std::fs::write(home.directory.path().join("state"), "in the way").unwrap();
    assert_eq!(Journal::open(&home.path).unwrap_err().code, Code::LocalIo);
}

#[test]
fn a_reader_makes_no_journal() {
    let home = Home::new();
    assert_eq!(super::super::Reader::open(&home.path).unwrap_err().code, Code::JournalFailed);
    assert!(!home.path.exists());
}
