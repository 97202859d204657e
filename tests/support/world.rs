//! A supervisor on a scripted engine, in a directory of its own, spoken with over its real sockets.
//!
//! The clock is tokio's, stopped: a task turns it at about the speed of real time, and [`pass`] makes it jump. It never
//! jumps by itself, as that would happen whenever everybody waits for the journal's thread.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use brig::api::client::{Client, Lines};
use brig::api::wire::{Done, FollowLine, PoolRow, ProposalDetail, ProposalRow, Snapshot, Update};
use brig::config::{Places, Settings};
use brig::engine::scripted::ScriptedEngine;
use brig::supervisor::{self, Options, process};
use brig_core::problem::Problem;
use brig_core::profile::Hash;
use brig_core::proposal::OutputStream;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// How long anything may take that a test waits for, in real time.
const BOUND: Duration = Duration::from_secs(30);
/// How often a condition is looked at, and how far the clock goes on meanwhile.
const TICK: Duration = Duration::from_millis(2);

/// A supervisor and everything around it.
pub struct World {
    pub engine: ScriptedEngine,
    pub places: Places,
    pub settings: Settings,
    with_consoles: bool,
    serving: Option<JoinHandle<Result<(), Problem>>>,
    directory: tempfile::TempDir,
}

impl World {
    /// A supervisor with nothing special about it.
    pub async fn new() -> Self {
        Self::with("", |_| {}).await
    }

    /// A supervisor whose profile `shell` has these lines on top of what a profile needs.
    pub async fn with(profile: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let mut world = Self::idle(profile, change);
        world.start().await.unwrap();
        world
    }

    /// The same, not started yet.
    pub fn idle(profile: &str, change: impl FnOnce(&mut Settings)) -> Self {
        turn_the_clock();
        let directory = tempfile::tempdir().unwrap();
        let places = places_in(directory.path(), "run");
        places.prepare().unwrap();
        std::fs::create_dir_all(places.profiles_dir()).unwrap();
        let tokens = ["ada", "bob"].map(|name| (name.to_owned(), Hash::of(token_of(name).as_bytes())));
        let mut settings = Settings { agent_tokens: BTreeMap::from(tokens), ..Settings::default() };
        change(&mut settings);
        let engine = ScriptedEngine::new(process::me().unwrap(), &process::host());
        let world = Self { engine, places, settings, with_consoles: false, serving: None, directory };
        world.write_profile(profile);
        world
    }

    /// It ends with its consoles.
    pub fn with_consoles(mut self) -> Self {
        self.with_consoles = true;
        self
    }

    /// Replaces the profile `shell`.
    pub fn write_profile(&self, lines: &str) {
        let top = "image = \"scripted\"\nuser = \"1000:1000\"\nworking_dir = \"/sandbox\"\nimage_fallback = \"none\"\n";
        let pool = if lines.contains("[pool]") { "" } else { "\n[pool]\ntarget = 1\n" };
        std::fs::write(self.places.profiles_dir().join("shell.toml"), format!("{top}{lines}{pool}")).unwrap();
    }

    /// Starts the supervisor; again, if it has ended.
    pub async fn start(&mut self) -> Result<(), Problem> {
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let options =
            Options { places: self.places.clone(), settings: self.settings.clone(), with_consoles: self.with_consoles };
        let engine = Arc::new(self.engine.clone());
        let owner = process::me().unwrap();
        let serving = tokio::spawn(async move {
            let told = move |_: &supervisor::Ready| {
                let _ = ready.send(());
            };
            supervisor::serve_with(options, engine, owner, told).await
        });
        if is_ready.await.is_err() {
            return Err(serving.await.unwrap().unwrap_err());
        }
        self.serving = Some(serving);
        Ok(())
    }

    /// Kills the supervisor as `kill -9` does, as far as one process can do that to a part of itself.
    pub async fn crash(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
        for engine_id in self.engine.alive() {
            self.engine.crash(&engine_id);
        }
        settle().await;
    }

    /// Ends the supervisor as an operator does, and looks whether it leaves anything behind.
    pub async fn end(mut self) {
        let _: Done = self.operator().post("/v1/shutdown", &json!({})).await.unwrap();
        self.ended().await.unwrap();
        assert_eq!(self.engine.alive(), Vec::<String>::new(), "sandboxes are left");
        self.leaves_nothing();
    }

    /// Waits until the supervisor has ended.
    pub async fn ended(&mut self) -> Result<(), Problem> {
        let serving = self.serving.take().unwrap();
        until("the supervisor's end", async || serving.is_finished().then_some(())).await;
        serving.await.unwrap()
    }

    pub fn is_over(&self) -> bool {
        self.serving.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub fn leaves_nothing(&self) {
        for left in [self.places.agent_socket(), self.places.operator_socket(), self.places.operator_token()] {
            assert!(!left.exists(), "{} is left", left.display());
        }
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// One who proposes under a name.
    pub fn agent(&self, name: &str) -> Client {
        Client::new(&self.places.agent_socket(), Some(token_of(name)))
    }

    /// One who decides.
    pub fn operator(&self) -> Client {
        let token = std::fs::read_to_string(self.places.operator_token()).unwrap();
        Client::new(&self.places.operator_socket(), Some(token))
    }

    pub async fn propose(&self, program: &str) -> ProposalDetail {
        self.propose_as("ada", &draft(program)).await.unwrap()
    }

    pub async fn propose_as(&self, agent: &str, draft: &Value) -> Result<ProposalDetail, Problem> {
        self.agent(agent).post("/v1/proposals", draft).await
    }

    /// Proposes and follows.
    pub async fn follow(&self, draft: &Value, withdraw: bool) -> Result<Lines<FollowLine>, Problem> {
        let path = format!("/v1/proposals?follow=true&withdraw={withdraw}");
        self.agent("ada").post_and_follow(&path, draft).await
    }

    pub async fn approve(&self, row: &ProposalRow) -> Result<ProposalDetail, Problem> {
        self.decide(row, json!({"digest": row.digest, "verdict": "approved"})).await
    }

    pub async fn decide(&self, row: &ProposalRow, verdict: Value) -> Result<ProposalDetail, Problem> {
        self.operator().post(&format!("/v1/proposals/{}/verdict", row.id), &verdict).await
    }

    pub async fn kill(&self, row: &ProposalRow) -> Result<Done, Problem> {
        self.operator().post(&format!("/v1/proposals/{}/kill", row.id), &json!({})).await
    }

    /// Proposes and approves.
    pub async fn run(&self, program: &str) -> ProposalRow {
        let proposal = self.propose(program).await;
        self.approve(&proposal.row).await.unwrap();
        proposal.row
    }

    pub async fn look(&self, row: &ProposalRow) -> ProposalRow {
        self.operator().get::<ProposalDetail>(&format!("/v1/proposals/{}", row.id)).await.unwrap().row
    }

    /// Waits until a proposal stands as it should.
    pub async fn stands(&self, row: &ProposalRow, status: &str) -> ProposalRow {
        let what = format!("proposal {} to be {status}", row.command);
        until(&what, async || Some(self.look(row).await).filter(|row| row.status.text() == status)).await
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.operator().get("/v1/snapshot").await.unwrap()
    }

    /// Waits until everything there is fits.
    pub async fn sees<T>(&self, what: &str, look: impl Fn(&Snapshot) -> Option<T>) -> T {
        until(what, async || look(&self.snapshot().await)).await
    }

    /// Waits until the pool has what it should at rest.
    pub async fn warm(&self) {
        self.sees("a warm pool", |all| all.pools.iter().find(|pool| pool.ready >= pool.target)?.image_source).await;
    }

    /// Everything that a run wrote on one stream.
    pub async fn output(&self, row: &ProposalRow, stream: OutputStream) -> Vec<u8> {
        let path = format!("/v1/proposals/{}/output", row.id);
        let told = tell(self.operator().follow(&path).await.unwrap()).await;
        if stream == OutputStream::Stdout { told.stdout } else { told.stderr }
    }

    /// Opens the events as a console does.
    pub async fn console(&self) -> Lines<Update> {
        self.operator().follow("/v1/events").await.unwrap()
    }

    /// Sends bytes to a socket, and gives the status and the body of the answer.
    pub async fn raw(&self, request: &[u8]) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.places.agent_socket()).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("this is no JSON: {body}")))
    }
}

/// Places under `root`; the sockets in a folder `run` of it.
pub fn places_in(root: &Path, run: &str) -> Places {
    let lookup = |name: &str| {
        let folder = match name {
            "BRIG_CONFIG_DIR" => "config",
            "BRIG_STATE_DIR" => "state",
            "BRIG_RUNTIME_DIR" => run,
            _ => return None,
        };
        Some(OsString::from(root.join(folder)))
    };
    Places::new(lookup, process::uid(), root).unwrap()
}

fn token_of(agent: &str) -> String {
    format!("the token of {agent}")
}

/// A proposal of one program.
pub fn draft(program: &str) -> Value {
    json!({"steps": [{"argv": [program]}], "reason": "to see"})
}

/// All that a stream of lines told.
#[derive(Debug, Default)]
pub struct Told {
    pub statuses: Vec<String>,
    pub notes: Vec<String>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub chunks: u64,
    pub last: Option<ProposalRow>,
    pub problem: Option<Problem>,
}

/// Reads a stream to its end.
pub async fn tell(mut lines: Lines<FollowLine>) -> Told {
    let mut told = Told::default();
    while let Some(line) = lines.next().await {
        told.take(line.unwrap());
    }
    told
}

impl Told {
    /// Takes a line in. Chunks come in order and without gaps, whatever else comes between them.
    pub fn take(&mut self, line: FollowLine) {
        match line {
            FollowLine::Proposal(row) => {
                self.statuses.push(row.status.text().to_owned());
                self.last = Some(*row);
            }
            FollowLine::Output { seq, stream, data, .. } => {
                assert_eq!(seq, self.chunks, "a chunk is missing, or came twice");
                self.chunks += 1;
                match stream {
                    OutputStream::Stdout => self.stdout.extend(data.0),
                    OutputStream::Stderr => self.stderr.extend(data.0),
                }
            }
            FollowLine::Note { text } => self.notes.push(text),
            FollowLine::Problem(problem) => self.problem = Some(problem),
            FollowLine::Alive => {}
        }
    }
}

/// The pool of the profile `shell`.
pub fn pool_of(snapshot: Snapshot) -> PoolRow {
    snapshot.pools.into_iter().find(|pool| pool.profile == "shell").expect("the pool of the profile")
}

/// The next line of a stream for which `look` finds something.
pub async fn next_line<L, T>(what: &str, lines: &mut Lines<L>, look: impl Fn(L) -> Option<T>) -> T {
    let next = async {
        loop {
            let line = lines.next().await.unwrap_or_else(|| panic!("the stream ended before {what}")).unwrap();
            if let Some(found) = look(line) {
                return found;
            }
        }
    };
    bounded(what, next).await
}

/// A future that must not take longer than anything may.
pub async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let bound = std::time::Instant::now() + BOUND;
    loop {
        tokio::select! {
            biased;
            done = &mut future => return done,
            () = tokio::time::sleep(TICK) => assert!(std::time::Instant::now() < bound, "waited too long for {what}"),
        }
    }
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let bound = std::time::Instant::now() + BOUND;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(std::time::Instant::now() < bound, "waited too long for {what}");
        tokio::time::sleep(TICK).await;
    }
}

/// Makes the clock jump, in steps, so that what comes around often does so meanwhile.
pub async fn pass(time: Duration) {
    let step = Duration::from_millis(50);
    for _ in 0..time.as_millis() / step.as_millis() {
        tokio::time::advance(step).await;
        settle().await;
    }
}

/// Lets every task do what it can do now.
pub async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// From now on the clock goes on at about the speed of real time, and never by itself: a blocking task, which this always
/// has one of, keeps tokio from that.
fn turn_the_clock() {
    if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
        // With several threads there is only real time.
        return;
    }
    tokio::spawn(async {
        loop {
            let _ = tokio::task::spawn_blocking(|| std::thread::sleep(TICK)).await;
            tokio::time::advance(TICK).await;
        }
    });
}
