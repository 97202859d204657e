use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::super::Reader;
use super::*;

/// Set for the child process of the test below: the journal that it writes.
const PATH: &str = "BRIG_TEST_JOURNAL";

/// Records until it is killed, and says every entry that was answered. Does nothing in an ordinary run.
#[tokio::test]
async fn recorder_that_is_killed() {
    let Ok(path) = std::env::var(PATH) else { return };
    let (journal, _) = Journal::open(path.as_ref()).unwrap();
    journal.record(at(proposed("r"))).await.unwrap();
    for pid in 0.. {
        journal.output(&id("r"), out(u64::from(pid), "x")).await.unwrap();
        journal.record(at(started(pid))).await.unwrap();
        eprintln!("answered {pid}");
    }
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill() {
    let home = Home::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "journal::tests::durability::recorder_that_is_killed"])
        .env(PATH, &home.path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let answers = |line: String| line.strip_prefix("answered ").map(|pid| pid.parse::<i64>().unwrap());
    let mut answered = lines.by_ref().filter_map(answers).take(100).last();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said by the time it died counts too.
    answered = lines.filter_map(answers).last().or(answered);
    let answered = answered.expect("the recorder began");

    let found = Reader::open(&home.path).unwrap().verify().await.unwrap();
    assert_eq!(found.fault, None);
    assert!(found.entries.cast_signed() >= answered + 2, "{} entries, {answered} answered", found.entries);
    let (journal, recovered) = home.open();
    assert_eq!(names(&recovered.open), ["r"]);
    let chunks = journal.reader().output_of(&id("r"), 0, usize::MAX).await.unwrap();
    assert!(chunks.len().cast_signed() as i64 > answered);
    journal.record(at(started(1))).await.unwrap();
    assert_eq!(journal.reader().verify().await.unwrap().fault, None);
}
