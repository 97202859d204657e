//! A supervisor that says what a test tells it to, on both sockets of a directory of its own.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use brig::api::wire::{ErrorBody, FollowLine, ProposalRow};
use brig_core::id::ProposalId;
use brig_core::problem::Problem;
use brig_core::profile::Hash;
use brig_core::proposal::{
    Agent, Decider, EndKind, Judgement, OutputSummary, Ruling, RunEnd, RunUsage, Status, Verdict, VerdictKind,
};
use brig_core::time::Wall;
use futures_util::StreamExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// How long a test waits for something before it fails.
pub const BOUND: Duration = Duration::from_secs(20);

/// What the fake answers.
pub enum Answer {
    /// A value.
    Value(Value),
    /// An error with its HTTP status.
    Problem(u16, Problem),
    /// Lines, after which the answer ends.
    Lines(Vec<FollowLine>),
    /// Lines, after which it stays open until the client goes.
    Open(Vec<FollowLine>),
}

impl Answer {
    pub fn of(value: &impl serde::Serialize) -> Self {
        Self::Value(serde_json::to_value(value).unwrap())
    }
}

type Script = dyn Fn(&str, &Value) -> Answer + Send + Sync;

/// The fake and its directory, which goes with it.
pub struct Fake {
    pub dir: TempDir,
    asked: Arc<watch::Sender<Vec<(String, Value)>>>,
    gone: watch::Receiver<u32>,
}

impl Fake {
    /// A directory where nobody listens.
    pub fn nobody() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, asked: Arc::default(), gone: watch::channel(0).1 }
    }

    /// Listens, and answers `METHOD /path?query` with its body as `script` says.
    pub fn start(script: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("r");
        std::fs::create_dir_all(runtime.join("agent")).unwrap();
        std::fs::write(runtime.join("operator.token"), "secret\n").unwrap();
        let (went, gone) = watch::channel(0);
        let fake = Self { dir, asked: Arc::default(), gone };
        let script: Arc<Script> = Arc::new(script);
        for socket in ["agent/agent.sock", "operator.sock"] {
            let listener = UnixListener::bind(runtime.join(socket)).unwrap();
            let (script, asked, went) = (Arc::clone(&script), Arc::clone(&fake.asked), went.clone());
            let router = Router::new().fallback(move |request: axum::extract::Request| {
                let (script, asked, went) = (Arc::clone(&script), Arc::clone(&asked), went.clone());
                async move {
                    let what = format!("{} {}", request.method(), request.uri());
                    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    let answer = script(&what, &body);
                    asked.send_modify(|asked| asked.push((what, body)));
                    respond(answer, went)
                }
            });
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        fake
    }

    /// The places of this fake, as variables.
    pub fn env(&self) -> Vec<(&'static str, std::path::PathBuf)> {
        let place = |name: &str| self.dir.path().join(name);
        vec![
            ("HOME", place("home")),
            ("BRIG_CONFIG_DIR", place("c")),
            ("BRIG_STATE_DIR", place("s")),
            ("BRIG_RUNTIME_DIR", place("r")),
        ]
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.asked.borrow().clone()
    }

    /// Waits until something was asked.
    pub async fn something_asked(&self) {
        let mut asked = self.asked.subscribe();
        let first = tokio::time::timeout(BOUND, asked.wait_for(|asked| !asked.is_empty())).await;
        first.expect("nothing is asked").unwrap();
    }

    /// Waits until a client has gone away from an open answer.
    pub async fn client_gone(&mut self) {
        let gone = tokio::time::timeout(BOUND, self.gone.wait_for(|&count| count > 0)).await;
        gone.expect("the client keeps its connection").unwrap();
    }

    /// The binary with these arguments, in an environment that holds nothing else.
    pub fn brig(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(binary());
        command.args(args).env_clear().envs(self.env()).current_dir(self.dir.path());
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        command
    }
}

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_brig"))
}

fn respond(answer: Answer, went: watch::Sender<u32>) -> Response<Body> {
    let json = |status: u16, value: &dyn erased::Json| {
        Response::builder().status(StatusCode::from_u16(status).unwrap()).body(Body::from(value.json())).unwrap()
    };
    match answer {
        Answer::Value(value) => json(200, &value),
        Answer::Problem(status, error) => json(status, &ErrorBody { error }),
        Answer::Lines(lines) => {
            let lines = lines.into_iter().map(|line| Ok::<_, Infallible>(encode(&line)));
            Response::new(Body::from_stream(futures_util::stream::iter(lines)))
        }
        Answer::Open(lines) => {
            let lines = lines.into_iter().map(|line| Ok::<_, Infallible>(encode(&line))).collect::<Vec<_>>();
            let guard = OnDrop(went);
            let rest = futures_util::stream::poll_fn(move |_| {
                let _ = &guard;
                std::task::Poll::Pending
            });
            Response::new(Body::from_stream(futures_util::stream::iter(lines).chain(rest)))
        }
    }
}

mod erased {
    pub trait Json {
        fn json(&self) -> Vec<u8>;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> Vec<u8> {
            serde_json::to_vec(self).unwrap()
        }
    }
}

fn encode(line: &FollowLine) -> Bytes {
    let mut bytes = serde_json::to_vec(line).unwrap();
    bytes.push(b'\n');
    bytes.into()
}

struct OnDrop(watch::Sender<u32>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// A proposal that waits.
pub fn row(id: &str) -> ProposalRow {
    ProposalRow {
        id: ProposalId(id.to_owned()),
        digest: Hash::of(id.as_bytes()),
        status: Status::Waiting,
        profile: "shell".into(),
        command: "ls -la".into(),
        command_is_all: true,
        reason: "look around".into(),
        agent: Agent { name: "bot".into(), uid: 1000, pid: Some(7), is_operator_user: false },
        ruling: Ruling { effect: Judgement::Ask, rule: "shell".into(), why: "a person decides".into() },
        returned: None,
        received_at: Wall(0),
        expires_at: Wall(900_000),
        verdict: None,
        run: None,
        end: None,
    }
}

/// The proposal with a verdict.
pub fn decided(id: &str, kind: VerdictKind, by: Decider, reason: &str) -> ProposalRow {
    let mut row = row(id);
    row.status = match kind {
        VerdictKind::Approved => Status::Approved,
        VerdictKind::Rejected => Status::Rejected,
        VerdictKind::Expired => Status::Expired,
        VerdictKind::Withdrawn => Status::Withdrawn,
    };
    row.verdict = Some(Verdict { kind, by, reason: reason.into(), digest: row.digest, at: Wall(1) });
    row
}

/// Who decides here.
pub fn anna() -> Decider {
    Decider::Operator { name: "anna".into(), uid: 1000 }
}

/// The proposal, approved and run to this end.
pub fn ended(id: &str, kind: EndKind, exit_code: Option<i32>, signal: Option<i32>, by: Option<&str>) -> ProposalRow {
    let mut row = decided(id, VerdictKind::Approved, anna(), "");
    row.status = Status::Finished;
    row.end = Some(RunEnd {
        kind,
        exit_code,
        signal,
        by: by.map(str::to_owned),
        note: String::new(),
        step: 0,
        steps: Vec::new(),
        usage: RunUsage::default(),
        output: OutputSummary::default(),
        at: Wall(2),
    });
    row
}
