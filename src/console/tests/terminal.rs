//! The console in a real pseudo-terminal, in a process of its own, with a supervisor that only tells the story.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as Named, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use brig_core::blob::Blob;
use bytes::Bytes;
use pty_process::Pty;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::fixtures::{NOW, detail, story, story_output, theme};
use super::super::{ColorChoice, Leave, Options, run};
use crate::api::client::Client;
use crate::api::wire::{FollowLine, ProposalDetail, Snapshot, Update, VerdictRequest};
use brig_core::proposal::OutputStream;

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the socket to the process that is the console.
const SOCKET: &str = "BRIG_TEST_CONSOLE";
/// Makes that process panic after a while.
const PANIC: &str = "BRIG_TEST_PANIC";

/// The process that is the console. Called by the other tests; alone, it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    if std::env::var_os(PANIC).is_some() {
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            panic!("a part that fails");
        });
    }
    let client = Client::new(Path::new(&socket), None);
    let left = run(Options { client, theme: theme("dark"), color: ColorChoice::True }).await;
    println!("LEFT {left:?} {}", matches!(left, Ok(Leave::Keep)));
}

/// What a supervisor was asked.
#[derive(Clone, Default)]
struct Asked {
    asked: Arc<Mutex<Vec<String>>>,
    /// Ends every stream.
    end: Arc<Notify>,
}

impl Asked {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn has(&self, what: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == what)
    }
}

/// A supervisor that tells the story.
struct Fake {
    asked: Asked,
    task: JoinHandle<()>,
    socket: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Fake {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("operator.sock");
        let asked = Asked::default();
        let task = serve(&socket, asked.clone());
        Self { asked, task, socket, _folder: folder }
    }

    fn go_away(&self) {
        self.task.abort();
        self.asked.end.notify_waiters();
    }
}

fn serve(socket: &Path, asked: Asked) -> JoinHandle<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let router = Router::new()
        .route("/v1/events", get(events))
        .route("/v1/proposals/{id}", get(async |Named(id): Named<String>| Json(detail_of(&id))))
        .route("/v1/proposals/{id}/output", get(output))
        .route("/v1/proposals/{id}/verdict", post(verdict))
        .route("/v1/sandboxes/{id}/kill", post(kill))
        .with_state(asked);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

/// The story as if it happened now, as the console's process has a real clock.
fn now_story() -> Snapshot {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let later = i64::try_from(since).unwrap() - NOW.0;
    let mut story = story();
    for row in &mut story.proposals {
        row.received_at.0 += later;
        row.expires_at.0 += later;
    }
    story
}

fn detail_of(id: &str) -> ProposalDetail {
    let row = now_story().proposals.into_iter().find(|row| row.id.0 == id).unwrap();
    detail(&row, &["sh", "deploy.sh"])
}

async fn verdict(
    State(asked): State<Asked>,
    Named(id): Named<String>,
    Json(request): Json<VerdictRequest>,
) -> Json<ProposalDetail> {
    let digest = &request.digest[..8];
    asked.note(format!("{:?} {id} {digest} {}", request.verdict, request.reason));
    Json(detail_of(&id))
}

async fn kill(State(asked): State<Asked>, Named(id): Named<String>) -> Json<serde_json::Value> {
    asked.note(format!("kill {id}"));
    Json(serde_json::json!({}))
}

async fn events(State(asked): State<Asked>) -> Body {
    open_ended(vec![line(&Update::Snapshot(now_story()))], asked)
}

/// The run of this name writes without end, as fast as it is read.
const FLOOD: &str = "t7hxc41w";

async fn output(State(asked): State<Asked>, Named(id): Named<String>) -> Body {
    if id == FLOOD {
        let chunk = |seq| {
            let data = Blob(b"all work and no play makes a dull program\n".repeat(1000));
            line(&FollowLine::Output { seq, at: NOW, stream: OutputStream::Stdout, step: 0, data })
        };
        return Body::from_stream(futures_util::stream::iter(
            (0..).map(move |seq| Ok::<_, std::io::Error>(chunk(seq))),
        ));
    }
    let lines = story_output().into_iter().enumerate().map(|(seq, (step, stream, data))| {
        line(&FollowLine::Output { seq: seq as u64, at: NOW, stream, step, data: Blob(data) })
    });
    open_ended(lines.collect(), asked)
}

fn line(value: &impl serde::Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap();
    line.push(b'\n');
    line.into()
}

/// A body that goes on after its first lines until the supervisor goes away.
fn open_ended(lines: Vec<Bytes>, asked: Asked) -> Body {
    use futures_util::StreamExt as _;
    let lines = futures_util::stream::iter(lines.into_iter().map(Ok::<_, std::io::Error>));
    let end = Box::pin(async move { asked.end.notified().await });
    Body::from_stream(lines.chain(futures_util::stream::pending()).take_until(end))
}

/// The console's process and its terminal.
struct Terminal {
    pty: Pty,
    child: Child,
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    fn open(fake: &Fake, variables: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(pty_process::Size::new(30, 100)).unwrap();
        let mut command = pty_process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "console::tests::terminal::child", "--nocapture"])
            .env(SOCKET, &fake.socket)
            .env("TERM", "xterm-256color")
            .kill_on_drop(true);
        for (name, value) in variables {
            command = command.env(name, value);
        }
        let child = command.spawn(pts).unwrap();
        Self {
            pty,
            child,
            parser: vt100::Parser::new(30.try_into().unwrap(), 100.try_into().unwrap(), 0),
            raw: Vec::new(),
        }
    }

    async fn type_in(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Reads until the screen is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) {
        let mut buffer = [0; 4096];
        let reading = async {
            while !wanted(self.parser.screen()) {
                let Ok(count) = self.pty.read(&mut buffer).await else { return };
                self.raw.extend_from_slice(&buffer[..count]);
                self.parser.process(&buffer[..count]);
            }
        };
        let in_time = timeout(PATIENCE, reading).await.is_ok();
        let screen = self.parser.screen();
        assert!(in_time && wanted(screen), "{what} never came:\n{}", screen.contents());
    }

    async fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text)).await;
    }

    /// Waits for the console to go, and looks whether the terminal is as it was.
    async fn is_given_back(&mut self) {
        self.until("the end", |screen| screen.contents().contains("test result")).await;
        let screen = self.parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste());
        let modes = tcgetattr(self.pty.as_fd()).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what} never happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_rejects_kills_and_quits() {
    let fake = Fake::start();
    let mut terminal = Terminal::open(&fake, &[]);
    terminal.until("a question that can be answered", |screen| screen.contents().contains("▌?")).await;
    terminal.type_in("a").await;
    let digest = &story().proposals[0].digest.hex()[..8];
    let approved = format!("Approved k3f9a1bc {digest} ");
    eventually("the approval", || fake.asked.has(&approved)).await;
    terminal.shows("approved k3f9a1bc").await;

    terminal.type_in("jr").await;
    terminal.shows("Reject 5d0rj7tz").await;
    terminal.type_in("not now\r").await;
    let digest = &story().proposals[1].digest.hex()[..8];
    let rejected = format!("Rejected 5d0rj7tz {digest} not now");
    eventually("the rejection", || fake.asked.has(&rejected)).await;

    terminal.type_in("2x").await;
    eventually("the kill", || fake.asked.has("kill k3f9-17")).await;
    terminal.shows("PRETTY_NAME").await;
    terminal.shows("⟨U+001B⟩[32mdone").await;

    terminal.type_in("q").await;
    terminal.shows("2 runs, 4 questions open").await;
    terminal.type_in("k").await;
    terminal.is_given_back().await;
    assert!(String::from_utf8_lossy(&terminal.raw).contains("LEFT Ok(Keep)"));
    // The program wrote this; the terminal must never have got it.
    assert!(!terminal.raw.windows(9).any(|bytes| bytes == b"\x1b[32mdone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_given_back_after_signals_and_panics() {
    let fake = Fake::start();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut terminal = Terminal::open(&fake, &[]);
        terminal.shows("ls -la /").await;
        assert!(terminal.parser.screen().alternate_screen());
        terminal.signal(signal);
        terminal.is_given_back().await;
        assert!(String::from_utf8_lossy(&terminal.raw).contains("LEFT Ok(Signal"));
    }
    let mut terminal = Terminal::open(&fake, &[(PANIC, "1")]);
    terminal.is_given_back().await;
    let raw = String::from_utf8_lossy(&terminal.raw).into_owned();
    let (gave_back, said) = (raw.find("\x1b[?1049l").unwrap(), raw.find("a part that fails").unwrap());
    assert!(gave_back < said, "the words of the panic are on the screen that stays");
    assert!(raw.contains("LEFT Err"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_goes_away_is_waited_for_and_can_be_left() {
    let mut fake = Fake::start();
    let mut terminal = Terminal::open(&fake, &[]);
    terminal.shows("ls -la /").await;
    fake.go_away();
    terminal.shows("supervisor lost since").await;
    assert!(terminal.parser.screen().contents().contains("ls -la /"));
    terminal.type_in("?").await;
    terminal.shows("previous pane").await;
    terminal.type_in("?").await;
    fake.task = serve(&fake.socket, fake.asked.clone());
    terminal.shows("the supervisor is back").await;
    fake.go_away();
    terminal.shows("supervisor lost since").await;
    terminal.type_in("q").await;
    terminal.is_given_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_leaves_the_keys_alive() {
    let fake = Fake::start();
    let mut terminal = Terminal::open(&fake, &[]);
    terminal.shows("ls -la /").await;
    terminal.type_in("2j").await;
    terminal.shows("before this left out").await;
    terminal.type_in("?").await;
    terminal.shows("previous pane").await;
    terminal.type_in("?4").await;
    terminal.type_in("k").await;
    terminal.shows("scrolled").await;
    terminal.type_in("x").await;
    terminal.shows("not killed: ").await;
    terminal.signal(Signal::TERM);
    terminal.is_given_back().await;
}

/// One that takes connections and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_hangs_keeps_nobody() {
    let mut fake = Fake::start();
    fake.go_away();
    std::fs::remove_file(&fake.socket).unwrap();
    let listener = UnixListener::bind(&fake.socket).unwrap();
    fake.task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    let mut terminal = Terminal::open(&fake, &[]);
    terminal.shows("reaching the supervisor").await;
    terminal.type_in("?").await;
    terminal.shows("previous pane").await;
    terminal.type_in("?q").await;
    terminal.is_given_back().await;
}
