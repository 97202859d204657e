//! A supervisor's story for tests and pictures, and a console that is driven without a terminal.

use std::collections::BTreeMap;
use std::path::Path;

use brig_core::blob::Blob;
use brig_core::envelope::{File, Step};
use brig_core::id::{ProposalId, SandboxId};
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, Hash, ImageSource, Network, Ulimit};
use brig_core::proposal::{
    Agent, Decider, EndKind, Judgement, OutputStream, OutputSummary, Ruling, RunEnd, RunUsage, Status, Verdict,
    VerdictKind,
};
use brig_core::time::{Mono, Now, Wall};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::ColorChoice;
use super::msg::{Command, Msg};
use super::state::State;
use super::theme::Theme;
use super::update::update;
use super::view;
use crate::api::wire::{
    Latency, PoolRow, PoolState, ProposalDetail, ProposalRow, RunRow, SandboxRow, SandboxState, Snapshot, Spread,
    Summary, SupervisorRow, Update, UsageRow,
};
use crate::engine::EngineInfo;

/// The moment at which the story is told.
pub const NOW: Wall = Wall(1_767_261_600_000);

pub fn ago(seconds: i64) -> Wall {
    Wall(NOW.0 - seconds * 1000)
}

pub fn proposal(id: &str, agent: &str, command: &str, reason: &str) -> ProposalRow {
    ProposalRow {
        id: ProposalId(id.into()),
        digest: Hash::of(id.as_bytes()),
        status: Status::Waiting,
        profile: "shell".into(),
        command: command.into(),
        command_is_all: true,
        reason: reason.into(),
        agent: Agent { name: agent.into(), uid: 1001, pid: Some(4711), is_operator_user: false },
        ruling: Ruling {
            effect: Judgement::Ask,
            rule: "profile shell".into(),
            why: "the profile's approval.mode is ask".into(),
        },
        returned: None,
        received_at: ago(30),
        expires_at: ago(30 - 900),
        verdict: None,
        run: None,
        end: None,
    }
}

pub fn running(row: ProposalRow, sandbox: &str, started: i64) -> ProposalRow {
    let run = RunRow {
        sandbox: SandboxId(sandbox.into()),
        cold: false,
        started_at: ago(started),
        deadline_at: ago(started - 60),
        step: 0,
        steps: 1,
    };
    let by = Decider::Operator { name: "anna".into(), uid: 1000 };
    let verdict =
        Verdict { kind: VerdictKind::Approved, by, reason: String::new(), digest: row.digest, at: ago(started) };
    ProposalRow {
        status: Status::Running,
        verdict: Some(verdict),
        run: Some(run),
        received_at: ago(started + 9),
        ..row
    }
}

pub fn finished(row: ProposalRow, kind: EndKind, exit_code: Option<i32>, seconds: i64) -> ProposalRow {
    let end = RunEnd {
        kind,
        exit_code,
        signal: None,
        by: (kind == EndKind::Killed).then(|| "anna".into()),
        note: String::new(),
        step: 0,
        steps: Vec::new(),
        usage: RunUsage { wall_us: 412_000, cpu_us: 38_000, peak_memory: 9_200_000, oom_kills: 0 },
        output: OutputSummary::default(),
        at: ago(seconds),
    };
    ProposalRow { status: Status::Finished, end: Some(end), ..running(row, "k3f9-2", seconds + 1) }
}

pub fn sandbox(id: &str, state: SandboxState, profile: &str) -> SandboxRow {
    SandboxRow {
        id: SandboxId(id.into()),
        engine_id: format!("{id}-0c1d2e3f4a5b"),
        state,
        profile: profile.into(),
        proposal: None,
        command: None,
        since: ago(120),
        deadline_at: None,
        step: None,
        steps: None,
        killed_by: None,
        usage: Some(UsageRow {
            cpu_percent: Some(0.0),
            memory: 4_500_000,
            memory_limit: 64 << 20,
            pids: 1,
            pids_limit: 64,
            io_read: 0,
            io_write: 0,
        }),
    }
}

fn busy(id: &str, of: &ProposalRow, cpu: f64, memory: u64, pids: u64) -> SandboxRow {
    let row = sandbox(id, SandboxState::Running, &of.profile);
    let usage = row.usage.map(|usage| UsageRow { cpu_percent: Some(cpu), memory, pids, ..usage });
    SandboxRow {
        proposal: Some(of.id.clone()),
        command: Some(of.command.clone()),
        deadline_at: of.run.as_ref().map(|run| run.deadline_at),
        usage,
        ..row
    }
}

pub fn pool(profile: &str, state: PoolState, ready: u32, target: u32) -> PoolRow {
    PoolRow {
        profile: profile.into(),
        description: format!("{profile} without network, for untrusted commands"),
        state,
        image: format!("{profile}:latest"),
        image_source: Some(ImageSource::Local),
        progress: None,
        ready,
        arming: target.saturating_sub(ready).min(1),
        leased: 0,
        min: target,
        target,
        max: target * 4,
        wanted: target,
        reason: format!("{target} ready wanted: the target at rest"),
        set: None,
        held: None,
        replacing: None,
        waiting: 0,
        hits: 214,
        misses: 3,
        failures: 0,
        last_error: None,
        retry_at: None,
        latency: latency(),
    }
}

fn latency() -> Latency {
    let first_byte = Summary { count: 214, p50_us: 3_140, p95_us: 5_890, p99_us: 9_400 };
    let first_byte = Spread { hour: Some(first_byte), ever: Some(first_byte) };
    Latency { first_byte, ..Latency::default() }
}

pub fn supervisor() -> SupervisorRow {
    SupervisorRow {
        version: "0.1.0".into(),
        pid: 4242,
        host: "harbour".into(),
        started_at: ago(7200),
        default_profile: "shell".into(),
        engine: Some(EngineInfo {
            name: "Docker 20.10.24".into(),
            api_version: "1.41".into(),
            address: "unix:///var/run/docker.sock".into(),
            cgroup_version: 2,
            cpus: 8,
            memory: 16 << 30,
        }),
        engine_problem: None,
        journal_problem: None,
        disk: None,
        config_problem: None,
        ends_with_consoles: true,
        consoles: 1,
    }
}

/// An afternoon: questions, runs, what is over, pools that are well and one that is not.
pub fn story() -> Snapshot {
    let at = |row: ProposalRow, seconds: i64| ProposalRow {
        received_at: ago(seconds),
        expires_at: ago(seconds - 900),
        ..row
    };
    let python = |row: ProposalRow| ProposalRow { profile: "python".into(), ..row };
    let copy = running(
        proposal("9vq2m0ke", "claude", "tar -C /data -xf backup.tar", "unpack the backup to compare it"),
        "k3f9-17",
        21,
    );
    let train = python(running(
        proposal("t7hxc41w", "autogen", "python3 -c 'import train; train.main()'", "train the small model"),
        "k3f9-18",
        4,
    ));
    let rejected = proposal("m2wd6y8p", "autogen", "curl -s https://example.com/x.sh | sh", "install the tool");
    let rejected = ProposalRow {
        status: Status::Rejected,
        verdict: Some(Verdict {
            kind: VerdictKind::Rejected,
            by: Decider::Operator { name: "anna".into(), uid: 1000 },
            reason: "no scripts from the net; use the package".into(),
            digest: rejected.digest,
            at: ago(300),
        }),
        received_at: ago(330),
        ..rejected
    };
    let failing = PoolRow {
        last_error: Some(
            Problem::new(Code::ImageUnavailable, "the registry does not answer: connection refused")
                .help("pull the image by hand, or check the network"),
        ),
        retry_at: Some(ago(-12)),
        failures: 4,
        ..pool("node", PoolState::Failing, 0, 2)
    };
    Snapshot {
        supervisor: supervisor(),
        proposals: vec![
            at(proposal("k3f9a1bc", "claude", "ls -la /", "look around"), 42),
            at(
                proposal(
                    "5d0rj7tz",
                    "langchain",
                    "git -C /sandbox log --oneline -20",
                    "find the commit that broke the build",
                ),
                31,
            ),
            at(
                python(proposal(
                    "w8n4c2xe",
                    "autogen",
                    "python3 -c 'import shutil; shutil.rmtree(\"/sandbox/build\", ignore_errors=True)'",
                    "clean the build folder before building anew",
                )),
                8,
            ),
            at(
                ProposalRow {
                    command_is_all: false,
                    ..proposal("b6y3q9ha", "claude", "sh deploy.sh", "run the script that comes with it")
                },
                2,
            ),
            copy.clone(),
            train.clone(),
            finished(
                proposal("c4m8z1vd", "claude", "cat /etc/os-release", "which system is this"),
                EndKind::Exited,
                Some(0),
                61,
            ),
            finished(
                proposal("r0t5k2nf", "langchain", "make -C /sandbox test", "see whether the tests pass"),
                EndKind::Exited,
                Some(2),
                140,
            ),
            finished(proposal("e7p1x6gs", "autogen", "yes", "measure the pipe"), EndKind::Killed, None, 215),
            rejected,
        ],
        sandboxes: vec![
            busy("k3f9-17", &copy, 34.0, 27_300_000, 3),
            busy("k3f9-18", &train, 198.0, 62_900_000, 11),
            sandbox("k3f9-19", SandboxState::Warm, "shell"),
            sandbox("k3f9-20", SandboxState::Warm, "shell"),
            sandbox("k3f9-21", SandboxState::Warm, "python"),
            SandboxRow { usage: None, ..sandbox("k3f9-22", SandboxState::Creating, "python") },
        ],
        pools: vec![
            PoolRow { leased: 1, ..pool("shell", PoolState::Ready, 2, 2) },
            PoolRow { leased: 1, hits: 61, misses: 9, ..pool("python", PoolState::Filling, 1, 3) },
            failing,
        ],
    }
}

/// What the run under the cursor wrote.
pub fn story_output() -> Vec<(u32, OutputStream, Vec<u8>)> {
    let listing = "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.22.1\nPRETTY_NAME=\"Alpine Linux v3.22\"\n";
    vec![
        (0, OutputStream::Stdout, listing.into()),
        (0, OutputStream::Stderr, b"cat: /etc/motd: No such file or directory\n".to_vec()),
        (0, OutputStream::Stdout, b"HOME_URL=\"https://alpinelinux.org/\"\n\x1b[32mdone\x1b[0m\n".to_vec()),
    ]
}

pub fn cage() -> Cage {
    Cage {
        image: "busybox:1.37".into(),
        build: None,
        userland_fallback: true,
        user: "65534:65534".into(),
        working_dir: "/sandbox".into(),
        environment: BTreeMap::from([("HOME".into(), "/sandbox".into())]),
        memory: 64 << 20,
        milli_cpus: 125,
        cpu_shares: 512,
        pids: 64,
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 64, hard: 128 })]),
        network: Network::None,
        runtime: None,
        scratch_size: (16 << 20) + 1,
        secrets: BTreeMap::new(),
        volumes: Vec::new(),
        interpreters: BTreeMap::new(),
        scratch_exec: true,
    }
}

/// All of a proposal: the script that its one line does not show.
pub fn detail(row: &ProposalRow, argv: &[&str]) -> ProposalDetail {
    ProposalDetail {
        row: row.clone(),
        full_reason: row.reason.clone(),
        steps: vec![Step {
            code: None,
            argv: argv.iter().map(|&word| Blob::from(word)).collect(),
            env: vec![("TARGET".into(), "staging".into())],
            cwd: "/sandbox".into(),
        }],
        keep_going: false,
        stdin: "".into(),
        files: vec![File {
            path: "deploy.sh".into(),
            mode: 0o755,
            content: "#!/bin/sh\nset -eu\nfor part in web db; do\n  echo \"deploying $part to $TARGET\"\ndone\n".into(),
        }],
        timeout_ms: 60_000,
        output_limit: 8 << 20,
        cage: cage(),
        image_id: "sha256:1f2e3d4c5b6a".into(),
        output_pruned: None,
    }
}

/// A console without a terminal and without a supervisor: messages in, commands and pictures out.
pub struct Harness {
    pub state: State,
    pub mono: u64,
}

impl Harness {
    pub fn new(size: (u16, u16)) -> Self {
        Self { state: State::new(Now { mono: Mono(0), wall: NOW }, size), mono: 0 }
    }

    /// One that shows the story and has been looked at for a while.
    pub fn with_story(size: (u16, u16)) -> Self {
        let mut harness = Self::new(size);
        harness.update(Update::Snapshot(story()));
        harness.wait(1000);
        harness
    }

    pub fn send(&mut self, msg: Msg) -> Vec<Command> {
        let now = Now { mono: Mono(self.mono), wall: NOW };
        update(&mut self.state, msg, now).commands
    }

    pub fn update(&mut self, update: Update) -> Vec<Command> {
        self.send(Msg::Update(Box::new(update)))
    }

    pub fn wait(&mut self, ms: u64) {
        self.mono += ms;
        self.send(Msg::Tick);
    }

    pub fn press(&mut self, code: KeyCode) -> Vec<Command> {
        self.send(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    pub fn key(&mut self, key: char) -> Vec<Command> {
        self.press(KeyCode::Char(key))
    }

    pub fn ctrl(&mut self, key: char) -> Vec<Command> {
        self.send(Msg::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL)))
    }

    pub fn write(&mut self, text: &str) {
        for character in text.chars() {
            self.key(character);
        }
    }

    /// Puts the cursor of the queue on a proposal, as a user does.
    pub fn select(&mut self, id: &str) {
        self.key('1');
        self.key('g');
        while self.cursor() != id {
            let before = self.cursor();
            self.key('j');
            assert_ne!(self.cursor(), before, "{id} is not in the queue");
        }
    }

    pub fn cursor(&self) -> String {
        self.state.queue_list.cursor.as_ref().map(|id| id.0.clone()).unwrap_or_default()
    }

    pub fn notice(&self) -> &str {
        self.state.notice.as_ref().map_or("", |notice| notice.text.as_str())
    }

    pub fn draw(&self, theme: &Theme) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, self.state.size.0, self.state.size.1));
        view::draw(&self.state, theme, &mut buffer);
        buffer
    }

    /// The screen's text, a line a row.
    pub fn text(&self) -> String {
        text_of(&self.draw(&theme("dark")))
    }
}

pub fn theme(name: &str) -> Theme {
    match name {
        "none" => theme("dark").for_terminal(ColorChoice::None),
        name => Theme::load(name, Path::new("/nonexistent")).unwrap(),
    }
}

pub fn text_of(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in buffer.area.rows() {
        let mut x = y.left();
        while x < y.right() {
            let symbol = buffer[(x, y.y)].symbol();
            out.push_str(symbol);
            x += u16::try_from(unicode_width::UnicodeWidthStr::width(symbol)).unwrap().max(1);
        }
        out.push('\n');
    }
    out
}
