use std::io::Write;
use std::sync::Mutex;

use brig_core::journal::{GENESIS, link};
use brig_core::problem::Code;
use brig_core::proposal::VerdictKind;

use super::super::Reader;
use super::*;

/// A sink that can be looked at afterwards.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn entries_come_back_as_they_were_recorded() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    let entries = journal.reader().entries_of(&id("r")).await.unwrap();
    let expected =
        [proposed("r"), decided("r", VerdictKind::Approved), launched("r"), ended("r", summary("one two", "oops"))];
    assert_eq!(entries.iter().map(|recorded| recorded.entry.clone()).collect::<Vec<_>>(), expected);
    assert!(entries.iter().all(|recorded| recorded.at == NOW));
    assert_eq!(journal.reader().entries_of(&id("nobody")).await.unwrap(), []);
}

#[tokio::test]
async fn output_comes_in_parts_that_can_be_continued() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    let reader = journal.reader();
    let all = [out(0, "one "), err(1, "oops"), out(2, "two")];
    assert_eq!(reader.output_of(&id("r"), 0, usize::MAX).await.unwrap(), all);
    assert_eq!(reader.output_of(&id("r"), 0, 8).await.unwrap(), all[..2]);
    assert_eq!(reader.output_of(&id("r"), 1, 7).await.unwrap(), all[1..]);
    assert_eq!(reader.output_of(&id("r"), 2, 0).await.unwrap(), all[2..], "at least one");
    assert_eq!(reader.output_of(&id("r"), 3, 8).await.unwrap(), []);
    assert_eq!(reader.output_of(&id("r"), u64::MAX, 8).await.unwrap(), []);
    assert_eq!(reader.output_summary(&id("r")).await.unwrap(), summary("one two", "oops"));
    assert_eq!(reader.output_summary(&id("nobody")).await.unwrap(), OutputSummary::default());
}

#[tokio::test]
async fn identifiers_are_found_by_how_they_begin() {
    let home = Home::new();
    let journal = home.journal();
    for name in ["abc", "ab0", "a%", "b", "abz"] {
        journal.record(at(proposed(name))).await.unwrap();
    }
    let reader = journal.reader();
    let find = async |prefix: &str, limit| {
        let ids = reader.ids_with_prefix(prefix, limit).await.unwrap();
        ids.into_iter().map(|id| id.0).collect::<Vec<_>>()
    };
    assert_eq!(find("ab", 10).await, ["ab0", "abc", "abz"]);
    assert_eq!(find("ab", 2).await, ["ab0", "abc"]);
    assert_eq!(find("abc", 10).await, ["abc"]);
    assert_eq!(find("%", 10).await, Vec::<String>::new());
    assert_eq!(find("", 10).await.len(), 5);
}

#[tokio::test]
async fn an_export_can_be_verified_by_others() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    journal.record((0..600).map(|pid| (NOW, started(pid))).collect()).await.unwrap();
    let sink = Sink::default();
    let exported = journal.reader().export(sink.clone()).await.unwrap();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert_eq!((exported.entries, exported.bytes), (605, text.len() as u64));
    let mut head = GENESIS;
    for (line, number) in text.lines().zip(1..) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let (_, body) = line.strip_suffix('}').unwrap().split_once(",\"entry\":").unwrap();
        head = link(&head, number, NOW, body.as_bytes());
        assert_eq!(value["number"], number);
        assert_eq!(value["at"], NOW.0);
        assert_eq!(value["hash"], head.hex());
    }
    assert_eq!(journal.reader().verify().await.unwrap().head, head);
}

#[tokio::test]
async fn an_export_does_not_pass_on_what_would_forge_a_line() {
    for body in ["{\"kind\":\"stopped\"}\n{\"number\":9}", "{}}", "nonsense"] {
        let home = Home::new();
        let journal = home.journal();
        journal.record(vec![(NOW, started(1)), (NOW, started(2))]).await.unwrap();
        home.other().execute("UPDATE entries SET body = ?1 WHERE number = 2", [body.as_bytes()]).unwrap();
        let problem = journal.reader().export(Sink::default()).await.unwrap_err();
        assert_eq!(problem.code, Code::JournalFailed);
        assert!(problem.message.starts_with("entry 2"), "{problem}");
    }
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_export() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let home = Home::new();
    let journal = home.journal();
    journal.record(at(started(1))).await.unwrap();
    assert_eq!(journal.reader().export(Full).await.unwrap_err().code, Code::LocalIo);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_the_writer_do_not_wait_for_each_other() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(at(proposed("r"))).await.unwrap();
    let writing = tokio::spawn({
        let journal = journal.clone();
        async move {
            for seq in 0..300 {
                journal.output(&id("r"), out(seq, "some output")).await.unwrap();
                let name = format!("p{seq}");
                journal.record(at(proposed(&name))).await.unwrap();
                journal.record(at(decided(&name, VerdictKind::Expired))).await.unwrap();
            }
            journal.record(vec![]).await.unwrap();
        }
    });
    let reader = Reader::open(&home.path).unwrap();
    let (run, mut seen) = (id("r"), 0);
    while !writing.is_finished() {
        let (verified, chunks) = tokio::join!(reader.verify(), reader.output_of(&run, 0, usize::MAX));
        assert_eq!(verified.unwrap().fault, None);
        let chunks = chunks.unwrap().len();
        assert!(chunks >= seen, "what was there stays there");
        seen = chunks;
    }
    writing.await.unwrap();
    assert_eq!(reader.verify().await.unwrap().entries, 601);
    assert_eq!(reader.output_of(&id("r"), 0, usize::MAX).await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_closed_journal_can_be_read() {
    let home = Home::new();
    let journal = home.journal();
    a_run(&journal, "r").await;
    let reader = journal.reader();
    journal.close().await;
    assert_eq!(reader.verify().await.unwrap().fault, None);
    assert_eq!(Reader::open(&home.path).unwrap().verify().await.unwrap().entries, 5);
}
