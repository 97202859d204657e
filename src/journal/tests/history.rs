use brig_core::problem::Code;
use brig_core::proposal::Status;

use super::*;
use crate::journal::{Filter, Reader};

/// A proposal of one's own: who asks, for which profile, what, why.
fn asks(name: &str, agent: &str, profile: &str, argv: &[&str], reason: &str) -> Entry {
    let Entry::Proposed { id, key, draft_hash, ruling, expires_at, .. } = proposed(name) else { unreachable!() };
    let step =
        Step { argv: argv.iter().map(|&text| text.into()).collect(), code: None, env: vec![], cwd: "/sandbox".into() };
    let envelope = Envelope { steps: vec![step], profile: profile.to_owned(), ..envelope() };
    Entry::Proposed {
        id,
        agent: Agent { name: agent.to_owned(), uid: 1000, pid: None, is_operator_user: false },
        reason: reason.to_owned(),
        key,
        draft_hash,
        digest: envelope.digest(),
        envelope: Arc::new(envelope),
        ruling,
        expires_at,
    }
}

fn returned(name: &str, argv: &[&str]) -> Entry {
    let step =
        Step { argv: argv.iter().map(|&text| text.into()).collect(), code: None, env: vec![], cwd: "/sandbox".into() };
    let envelope = Envelope { steps: vec![step], ..envelope() };
    Entry::Returned {
        id: id(name),
        why: "the image changed".into(),
        digest: envelope.digest(),
        envelope: envelope.into(),
    }
}

fn killed(name: &str, by: &str) -> Entry {
    let Entry::Ended { id, end } = ended(name, summary("", "")) else { unreachable!() };
    Entry::Ended { id, end: RunEnd { kind: EndKind::Killed, exit_code: None, by: Some(by.to_owned()), ..end } }
}

fn later(seconds: i64) -> Wall {
    Wall(NOW.0 + seconds * 1000)
}

/// Five proposals, a second apart: `a` ran, `b` was rejected, `c` was killed by carl, `d` runs, `e` waits.
async fn five(journal: &Journal) {
    let all = [
        (0, asks("a", "ann", "shell", &["ls", "-la"], "look around")),
        (1, asks("b", "bot", "shell", &["rm", "-rf", "/"], "clean up")),
        (2, asks("c", "bot", "python", &["sleep", "99"], "wait for it")),
        (3, asks("d", "bot", "python", &["echo", "Grüße\u{202e}"], "100% sure_")),
        (4, asks("e", "ann", "python", &["ls"], "LOOK again")),
        (5, decided("a", VerdictKind::Approved)),
        (5, launched("a")),
        (5, ended("a", summary("", ""))),
        (6, decided("b", VerdictKind::Rejected)),
        (7, decided("c", VerdictKind::Approved)),
        (7, launched("c")),
        (8, killed("c", "carl")),
        (9, decided("d", VerdictKind::Approved)),
        (9, launched("d")),
    ];
    journal.record(all.into_iter().map(|(at, entry)| (later(at), entry)).collect()).await.unwrap();
}

async fn found(reader: &Reader, filter: Filter) -> String {
    found_at_most(reader, filter, 10).await
}

async fn found_at_most(reader: &Reader, filter: Filter, limit: usize) -> String {
    reader.history(filter, limit).await.unwrap().into_iter().map(|id| id.0).collect()
}

#[tokio::test]
async fn what_is_looked_for_is_found_the_newest_first() {
    let home = Home::new();
    let journal = home.journal();
    five(&journal).await;
    let reader = journal.reader();
    let some = |text: &str| Some(text.to_owned());
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let nothing = Filter::default;
    for (filter, ids) in [
        (nothing(), "edcba"),
        (Filter { agent: some("bot"), ..nothing() }, "dcb"),
        (Filter { agent: some("bo"), ..nothing() }, ""),
        (Filter { profile: some("python"), ..nothing() }, "edc"),
        (Filter { profile: some("python"), agent: some("ann"), ..nothing() }, "e"),
        (Filter { status: Some(Status::Waiting), ..nothing() }, "e"),
        (Filter { status: Some(Status::Running), ..nothing() }, "d"),
        (Filter { status: Some(Status::Finished), ..nothing() }, "ca"),
        (Filter { verdict: Some(VerdictKind::Approved), ..nothing() }, "dca"),
        (Filter { verdict: Some(VerdictKind::Rejected), ..nothing() }, "b"),
        (Filter { end: Some(EndKind::Exited), ..nothing() }, "a"),
        (Filter { operator: some("anna"), ..nothing() }, "dcba"),
        (Filter { operator: some("carl"), ..nothing() }, "c"),
        (Filter { since: Some(later(1)), until: Some(later(3)), ..nothing() }, "cb"),
        (Filter { words: words("look"), ..nothing() }, "ea"),
        (Filter { words: words("Look LS -la"), ..nothing() }, "a"),
        (Filter { words: words("GRÜSSE"), ..nothing() }, ""),
        (Filter { words: words("GRÜßE⟨u+202e⟩"), ..nothing() }, "d"),
        // What means something to SQL means nothing here.
        (Filter { words: words("%"), ..nothing() }, "d"),
        (Filter { words: words("_ 100"), ..nothing() }, "d"),
        (Filter { words: words("'"), ..nothing() }, ""),
        (Filter { agent: some("' OR 1 --"), ..nothing() }, ""),
    ] {
        let what = format!("{filter:?}");
        assert_eq!(found(&reader, filter).await, ids, "{what}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    let home = Home::new();
    let journal = home.journal();
    five(&journal).await;
    let reader = journal.reader();
    let page = |before: Option<&str>, agent: Option<&str>| Filter {
        before: before.map(id),
        agent: agent.map(str::to_owned),
        ..Filter::default()
    };
    assert_eq!(found_at_most(&reader, page(None, None), 2).await, "ed");
    assert_eq!(found_at_most(&reader, page(Some("d"), None), 2).await, "cb");
    assert_eq!(found_at_most(&reader, page(Some("b"), None), 2).await, "a");
    assert_eq!(found_at_most(&reader, page(Some("c"), Some("bot")), 2).await, "b");
    // Nobody's clock is sure to go forward only, and many come at once.
    for name in ["x", "y", "z"] {
        journal.record(vec![(later(2), proposed(name))]).await.unwrap();
    }
    assert_eq!(found(&reader, page(None, None)).await, "edzyxcba");
    assert_eq!(found(&reader, page(Some("y"), None)).await, "xcba");
    let problem = reader.history(page(Some("q"), None), 2).await.unwrap_err();
    assert_eq!((problem.code, problem.message.as_str()), (Code::NotFound, "there is no proposal `q` to begin behind"));
}

#[tokio::test]
async fn what_was_sent_back_is_found_by_what_it_is_now() {
    let home = Home::new();
    let journal = home.journal();
    five(&journal).await;
    let back = [decided("e", VerdictKind::Approved), returned("e", &["make"])];
    journal.record(back.into_iter().map(|entry| (later(10), entry)).collect()).await.unwrap();
    let reader = journal.reader();
    let words = |text: &str| Filter { words: vec![text.to_owned()], ..Filter::default() };
    assert_eq!(found(&reader, words("make")).await, "e");
    assert_eq!(found(&reader, words("ls")).await, "a");
    assert_eq!(found(&reader, words("again")).await, "e");
    assert_eq!(found(&reader, Filter { status: Some(Status::Waiting), ..Filter::default() }).await, "e");
    assert_eq!(found(&reader, Filter { operator: Some("anna".into()), ..Filter::default() }).await, "dcba");
    assert_eq!(reader.verify().await.unwrap().fault, None);
    home.tamper("UPDATE proposals SET command = 'ls' WHERE id = 'e'");
    assert_eq!(reader.verify().await.unwrap().fault.unwrap().number, Some(16));
}

#[tokio::test]
async fn code_is_found_by_what_is_in_it() {
    let home = Home::new();
    let journal = home.journal();
    let Entry::Proposed { id, agent, reason, key, draft_hash, digest, envelope, ruling, expires_at } = proposed("a")
    else {
        unreachable!()
    };
    let mut envelope = Envelope::clone(&envelope);
    envelope.steps[0].argv.clear();
    envelope.steps[0].code =
        Some(brig_core::envelope::Code { language: "python".into(), source: "import os\nos.remove('X')".into() });
    let envelope = Arc::new(envelope);
    journal
        .record(at(Entry::Proposed { id, agent, reason, key, draft_hash, digest, envelope, ruling, expires_at }))
        .await
        .unwrap();
    for (word, ids) in [("OS.REMOVE('x')", "a"), ("python", "a"), ("os.rename", "")] {
        let filter = Filter { words: vec![word.into()], ..Filter::default() };
        assert_eq!(found(&journal.reader(), filter).await, ids, "{word}");
    }
}

#[tokio::test]
async fn an_open_one_that_the_index_misplaces_is_a_fault() {
    for sql in [
        "UPDATE proposals SET status = 'running' WHERE id = 'e'",
        "UPDATE proposals SET status = 'approved' WHERE id = 'd'",
        "UPDATE proposals SET ended = 'exited' WHERE id = 'd'",
        "UPDATE proposals SET verdict = 'rejected' WHERE id = 'e'",
    ] {
        let home = Home::new();
        let journal = home.journal();
        five(&journal).await;
        assert_eq!(journal.reader().verify().await.unwrap().fault, None);
        home.tamper(sql);
        let fault = journal.reader().verify().await.unwrap().fault.unwrap();
        assert!(fault.proposal.is_some() && fault.how.starts_with("the index of proposals says"), "{sql}: {fault:?}");
    }
}

#[tokio::test]
async fn an_agents_shortened_names_are_its_own() {
    let home = Home::new();
    let journal = home.journal();
    for (name, agent) in [("ab1", "ann"), ("ab2", "bot"), ("ab3", "ann")] {
        journal.record(at(asks(name, agent, "shell", &["ls"], ""))).await.unwrap();
    }
    let reader = journal.reader();
    assert_eq!(reader.ids_of_agent("bot", "ab", 5).await.unwrap(), [id("ab2")]);
    assert_eq!(reader.ids_of_agent("ann", "ab", 5).await.unwrap(), [id("ab1"), id("ab3")]);
    assert_eq!(reader.ids_of_agent("bot", "ab1", 5).await.unwrap(), []);
}

#[tokio::test]
async fn every_filter_is_answered_in_the_order_of_an_index() {
    let home = Home::new();
    let journal = home.journal();
    five(&journal).await;
    for (condition, index) in [
        ("1", "proposals_at"),
        ("agent = 'bot'", "proposals_agent"),
        ("profile = 'shell' AND instr(command, 'x') > 0", "proposals_profile"),
        ("status = 'waiting' AND at >= 5", "proposals_at"),
        ("agent = 'bot' AND at < 9 AND (at, first) < (8, 3)", "proposals_agent"),
    ] {
        let plan: Vec<String> = {
            let other = home.other();
            let sql = format!(
                "EXPLAIN QUERY PLAN SELECT id FROM proposals WHERE {condition} ORDER BY at DESC, first DESC LIMIT 9"
            );
            let mut statement = other.prepare(&sql).unwrap();
            statement.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert!(plan.len() == 1 && plan[0].contains(index), "{condition}: {plan:?}");
    }
}
