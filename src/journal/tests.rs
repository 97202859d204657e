//! Real files, real threads, no sleeps.

mod durability;
mod history;
mod model;
mod opening;
mod pruning;
mod reading;
mod statistics;
mod verifying;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;

use brig_core::envelope::{Envelope, Step};
use brig_core::id::{ProposalId, SandboxId};
use brig_core::journal::Entry;
use brig_core::profile::{Cage, Hash, Network};
use brig_core::proposal::{
    Agent, Decider, EndKind, Judgement, OutputStream, OutputSummary, Ruling, RunEnd, RunUsage, Verdict, VerdictKind,
};
use brig_core::time::Wall;
use bytes::Bytes;
use rusqlite::Connection;

use super::{Chunk, Journal, Recorded, Recovered};

/// A directory with a journal in it, away when the test ends.
struct Home {
    directory: tempfile::TempDir,
    path: PathBuf,
}

/// When tests take place.
const NOW: Wall = Wall(1_700_000_000_000);

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/journal.db");
        Self { directory, path }
    }

    fn open(&self) -> (Journal, Recovered) {
        Journal::open_at(&self.path, NOW).unwrap()
    }

    fn journal(&self) -> Journal {
        self.open().0
    }

    /// Another program's connection.
    fn other(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn tamper(&self, sql: &str) {
        self.other().execute_batch(sql).unwrap();
    }

    fn count(&self, sql: &str) -> i64 {
        self.other().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn id(name: &str) -> ProposalId {
    ProposalId(name.to_owned())
}

fn at(entry: Entry) -> Vec<(Wall, Entry)> {
    vec![(NOW, entry)]
}

fn started(pid: u32) -> Entry {
    Entry::Started { version: "1".into(), pid }
}

fn proposed(name: &str) -> Entry {
    keyed(name, None)
}

fn keyed(name: &str, key: Option<&str>) -> Entry {
    let envelope = envelope();
    Entry::Proposed {
        id: id(name),
        agent: Agent { name: "agent-7".into(), uid: 1000, pid: Some(42), is_operator_user: false },
        reason: "to look around".into(),
        key: key.map(str::to_owned),
        draft_hash: Hash::of(name.as_bytes()),
        digest: envelope.digest(),
        envelope: Arc::new(envelope),
        ruling: Ruling { effect: Judgement::Ask, rule: "default".into(), why: "nothing says otherwise".into() },
        expires_at: Wall(NOW.0 + 60_000),
    }
}

fn decided(name: &str, kind: VerdictKind) -> Entry {
    let by = Decider::Operator { name: "anna".into(), uid: 1000 };
    let verdict = Verdict { kind, by, reason: String::new(), digest: envelope().digest(), at: NOW };
    Entry::Decided { id: id(name), verdict }
}

fn launched(name: &str) -> Entry {
    Entry::Launched { id: id(name), sandbox: SandboxId("k3f9-1".into()), engine_id: "abc".into(), cold: false }
}

fn ended(name: &str, output: OutputSummary) -> Entry {
    let end = RunEnd {
        kind: EndKind::Exited,
        exit_code: Some(0),
        signal: None,
        by: None,
        note: String::new(),
        step: 0,
        steps: vec![],
        usage: RunUsage::default(),
        output,
        at: NOW,
    };
    Entry::Ended { id: id(name), end }
}

fn envelope() -> Envelope {
    Envelope {
        steps: vec![Step { argv: vec!["ls".into()], code: None, env: vec![], cwd: "/sandbox".into() }],
        keep_going: false,
        stdin: "".into(),
        files: vec![],
        deadline_ms: 10_000,
        output_limit: 1 << 20,
        profile: "shell".into(),
        profile_hash: Hash([7; 32]),
        cage: Cage {
            image: "busybox:1.37".into(),
            build: None,
            userland_fallback: false,
            user: "65534:65534".into(),
            working_dir: "/sandbox".into(),
            environment: [].into(),
            memory: 64 << 20,
            milli_cpus: 1000,
            cpu_shares: 512,
            pids: 64,
            ulimits: [].into(),
            network: Network::None,
            runtime: None,
            scratch_size: 16 << 20,
            secrets: std::collections::BTreeMap::new(),
            volumes: Vec::new(),
            interpreters: std::collections::BTreeMap::new(),
            scratch_exec: true,
        },
        image_id: "sha256:1234".into(),
        config_hash: Hash([8; 32]),
    }
}

fn out(seq: u64, text: &str) -> Chunk {
    Chunk { seq, at: NOW, stream: OutputStream::Stdout, step: 0, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

fn err(seq: u64, text: &str) -> Chunk {
    Chunk { stream: OutputStream::Stderr, ..out(seq, text) }
}

fn summary(stdout: &str, stderr: &str) -> OutputSummary {
    OutputSummary {
        stdout_bytes: stdout.len() as u64,
        stderr_bytes: stderr.len() as u64,
        dropped_bytes: 0,
        stdout_hash: Hash::of(stdout.as_bytes()),
        stderr_hash: Hash::of(stderr.as_bytes()),
    }
}

/// Records a whole run that writes `one two` and `oops`: five entries with the supervisor's start.
async fn a_run(journal: &Journal, name: &str) {
    let begin = [started(1), proposed(name), decided(name, VerdictKind::Approved), launched(name)];
    journal.record(begin.into_iter().map(|entry| (NOW, entry)).collect()).await.unwrap();
    for chunk in [out(0, "one "), err(1, "oops"), out(2, "two")] {
        journal.output(&id(name), chunk).await.unwrap();
    }
    journal.record(at(ended(name, summary("one two", "oops")))).await.unwrap();
}

/// The names of the proposals that these entries are about.
fn names(histories: &[Vec<Recorded>]) -> Vec<&str> {
    histories.iter().map(|history| history[0].entry.proposal().unwrap().0.as_str()).collect()
}

/// Makes every insert into `table` fail like a disk would, until [`mend`].
fn break_table(home: &Home, table: &str) {
    home.tamper(&format!(
        "CREATE TRIGGER broken BEFORE INSERT ON {table} BEGIN SELECT RAISE(FAIL, 'no space left on device'); END"
    ));
}

fn mend(home: &Home) {
    home.tamper("DROP TRIGGER broken");
}
