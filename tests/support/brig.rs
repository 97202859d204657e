//! The real binary on the real daemon: an installation that exists for one test, and nothing of which is left after it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bollard::query_parameters::{RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder};
use brig::api::client::Client;
use brig::cli::answers::document;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::docker::{containers, daemon, remove_built, until, volumes};
use super::schema::{answer_of, assert_printed};

/// Longer than anything here takes on a machine that is busy with other things.
pub const BOUND: Duration = Duration::from_secs(60);

/// The shell profile with an image that no registry has, so that this machine's userland is used, and a small pool.
pub fn profile(changes: &[(&str, &str)]) -> String {
    let mut text = include_str!("../../profiles/shell.toml").to_owned();
    let always = [("image = \"busybox:1.37\"", "image = \"brig.invalid/tests:1\""), ("target = 2 ", "target = 1 ")];
    for (from, to) in always.iter().chain(changes) {
        assert!(text.contains(from), "the profile has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    text
}

/// One brig with places of its own. Its supervisor, its sandboxes and its files end with it.
pub struct Brig {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
    server: Option<Child>,
    boots: u32,
}

impl Brig {
    /// Places with a `shell` profile that needs no registry. Nothing runs.
    pub fn new() -> Self {
        let brig = Self::as_shipped();
        brig.write_profile("shell", &profile(&[]));
        brig
    }

    /// Places without any settings.
    pub fn as_shipped() -> Self {
        // The temporary directory of a test's environment can be too deep for the path of a socket.
        let dir = tempfile::Builder::new().prefix("brig-e2e-").tempdir_in("/tmp").unwrap();
        for name in ["home", "c/profiles"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let mut env: Vec<(OsString, OsString)> = vec![("TERM".into(), "xterm-256color".into())];
        for (name, place) in
            [("HOME", "home"), ("BRIG_CONFIG_DIR", "c"), ("BRIG_STATE_DIR", "s"), ("BRIG_RUNTIME_DIR", "r")]
        {
            env.push((name.into(), dir.path().join(place).into()));
        }
        for name in ["PATH", "DOCKER_HOST"] {
            env.extend(std::env::var_os(name).map(|value| (name.into(), value)));
        }
        Self { dir, env, server: None, boots: 0 }
    }

    /// With a supervisor that has its sandboxes ready.
    pub async fn ready() -> Self {
        let mut brig = Self::new();
        brig.serve().await;
        brig.pool_is_full().await;
        brig
    }

    /// With a supervisor that has its sandboxes ready, of a changed profile.
    pub async fn ready_with(changes: &[(&str, &str)]) -> Self {
        let mut brig = Self::new();
        brig.write_profile("shell", &profile(changes));
        brig.serve().await;
        brig.pool_is_full().await;
        brig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write_profile(&self, name: &str, text: &str) {
        std::fs::write(self.path(&format!("c/profiles/{name}.toml")), text).unwrap();
    }

    /// Sets a variable for everything that is started from now on.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
    }

    /// Starts the supervisor and waits for the line that says it is ready.
    pub async fn serve(&mut self) {
        self.boots += 1;
        let log = std::fs::File::create(self.path(&format!("serve-{}.log", self.boots))).unwrap();
        let mut command = self.command(&["serve"]);
        let mut server = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(server.stdout.as_mut().unwrap());
        let read = tokio::time::timeout(BOUND, lines.read_line(&mut line)).await;
        self.server = Some(server);
        read.expect("the supervisor is ready").unwrap();
        assert!(line.starts_with("brig: ready, agent socket "), "{line:?} {}", self.log());
    }

    /// Kills the supervisor, which cannot do anything about it.
    pub async fn kill_supervisor(&mut self) {
        let mut server = self.server.take().expect("a supervisor");
        server.kill().await.unwrap();
    }

    /// What the supervisors said.
    pub fn log(&self) -> String {
        let mut names: Vec<_> = (1..=self.boots).map(|boot| self.path(&format!("serve-{boot}.log"))).collect();
        names.push(self.path("s/brig.log"));
        names.iter().map(|name| std::fs::read_to_string(name).unwrap_or_default()).collect()
    }

    /// The binary with these arguments, in an environment that holds nothing else.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).env_clear().envs(self.env()).current_dir(self.dir.path());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub fn env(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Runs a command to its end.
    pub async fn brig<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        self.start(args).said().await
    }

    /// Starts a command.
    pub fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Running {
        Running::spawn(self.command(args).stdin(Stdio::null()))
    }

    /// Runs a command that succeeds and answers with JSON, as its schema says.
    pub async fn json<S: AsRef<OsStr>>(&self, args: &[S]) -> Value {
        let mut all = vec![OsStr::new("--json")];
        all.extend(args.iter().map(AsRef::as_ref));
        let said = self.brig(&all).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert_printed(&document(), &answer_of(args), said.text())
    }

    pub async fn rows(&self, args: &[&str]) -> Vec<Value> {
        self.json(args).await.as_array().expect("an array").clone()
    }

    /// Waits until as many proposals wait, and lists them.
    pub async fn waiting(&self, count: usize) -> Vec<Value> {
        let mut rows = Vec::new();
        until(&format!("{count} proposals wait"), BOUND, async || {
            rows = self.rows(&["queue"]).await;
            rows.len() == count
        })
        .await;
        rows
    }

    /// Proposes and does not wait. Says what `brig run --detach --json` said.
    pub async fn propose(&self, command: &[&str]) -> Value {
        let mut args = vec!["run", "--detach"];
        args.extend(command);
        self.json(&args).await
    }

    pub async fn approve(&self, row: &Value) {
        let said = self.brig(&["approve", text(row, "id"), "--digest", text(row, "digest")]).await;
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// Proposes with these arguments of `brig run`, approves, and waits for the end.
    pub async fn run(&self, args: &[&str]) -> Said {
        let mut all = vec!["run"];
        all.extend(args);
        let running = self.start(&all);
        let rows = self.waiting(1).await;
        self.approve(&rows[0]).await;
        running.said().await
    }

    /// Proposes, approves, and waits until it runs. Its row of then.
    pub async fn begin(&self, command: &[&str]) -> Value {
        let row = self.propose(command).await;
        self.approve(&row).await;
        let id = text(&row, "id");
        until("it runs", BOUND, async || self.json(&["show", id]).await["status"] == "running").await;
        self.json(&["show", id]).await
    }

    pub async fn pool(&self) -> Value {
        let rows = self.rows(&["pools"]).await;
        rows.into_iter().find(|row| row["profile"] == "shell").expect("the pool of the profile")
    }

    pub async fn pool_is_full(&self) {
        until("the pool is full", BOUND, async || {
            let pool = self.pool().await;
            pool["ready"] == pool["target"] && pool["state"] == "ready"
        })
        .await;
    }

    pub async fn pool_is(&self, state: &str) -> Value {
        let mut pool = Value::Null;
        until(&format!("the pool is {state}"), BOUND, async || {
            pool = self.pool().await;
            pool["state"] == state
        })
        .await;
        pool
    }

    /// A client of the operator's socket, with its token.
    pub fn operator(&self) -> Client {
        let token = std::fs::read_to_string(self.path("r/operator.token")).unwrap();
        Client::new(&self.path("r/operator.sock"), Some(token))
    }

    /// The engine's names of this installation's containers, whatever their state.
    pub async fn containers(&self) -> Vec<String> {
        containers(&daemon(), &self.install().expect("an installation")).await
    }

    fn install(&self) -> Option<String> {
        std::fs::read_to_string(self.path("s/install")).ok().map(|id| id.trim().to_owned())
    }

    /// The process of a supervisor that is this installation's, whoever started it.
    pub fn supervisor(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(self.path("s/lock")).ok()?.trim().parse().ok()?;
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut ours = b"BRIG_STATE_DIR=".to_vec();
        ours.extend_from_slice(self.path("s").as_os_str().as_bytes());
        let is_ours = environ.split(|&byte| byte == 0).any(|variable| variable == ours);
        is_ours.then(|| Pid::from_raw(pid)).flatten()
    }

    /// All there is to know about a test that failed.
    fn tell_all(&self) {
        for args in [["queue", "--all"].as_slice(), &["ps"], &["pools"]] {
            let mut command = std::process::Command::new(binary());
            let out = command.arg("--json").args(args).env_clear().envs(self.env()).output();
            let out = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
            eprintln!("{args:?}: {}", out.trim());
        }
        eprintln!("the supervisor said:\n{}", self.log());
    }

    fn end_supervisor(&mut self) {
        let bound = Instant::now() + Duration::from_secs(20);
        while let Some(pid) = self.supervisor() {
            let is_late = Instant::now() > bound;
            let _ = kill_process(pid, if is_late { Signal::KILL } else { Signal::TERM });
            std::thread::sleep(Duration::from_millis(20));
            if let Some(server) = &mut self.server {
                // So that it does not stay as a zombie.
                let _ = server.try_wait();
            }
        }
    }
}

impl Drop for Brig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_all();
        }
        self.end_supervisor();
        let Some(install) = self.install() else { return };
        // The test's runtime may be in the middle of a panic: the cleaning has one of its own.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clean(&install))
        });
        let left = cleaned.join().unwrap_or_else(|_| vec!["what could not be listed".to_owned()]);
        if !left.is_empty() && !std::thread::panicking() {
            panic!("left over: {left:?}");
        }
    }
}

/// Removes what is left. Says which containers there still were after a while, although nobody owned them any more; the
/// volume with the init stays on purpose where brig is not a test.
async fn clean(install: &str) -> Vec<String> {
    let docker = daemon();
    let begun = Instant::now();
    let mut left = containers(&docker, install).await;
    while !left.is_empty() && begun.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = containers(&docker, install).await;
    }
    for container in &left {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let _ = docker.remove_container(container, Some(options)).await;
    }
    until("the volumes are removed", BOUND, async || {
        let volumes = volumes(&docker, install).await;
        for volume in &volumes {
            let _ = docker.remove_volume(volume, Some(RemoveVolumeOptionsBuilder::new().build())).await;
        }
        volumes.is_empty()
    })
    .await;
    remove_built(&docker, install).await;
    left
}

/// A command that has been started. It ends with the test.
pub struct Running(pub Child);

impl Running {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().expect("it has not ended").cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads its output until `text` has come.
    pub async fn prints(&mut self, text: &str) -> String {
        let stdout: &mut ChildStdout = self.0.stdout.as_mut().unwrap();
        read_until(stdout, text).await
    }

    /// Waits for its end.
    pub async fn said(self) -> Said {
        let done = tokio::time::timeout(BOUND, self.0.wait_with_output()).await.expect("brig does not end").unwrap();
        let code = done.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", done.status.signal()));
        Said { code, out: done.stdout, err: String::from_utf8(done.stderr).unwrap() }
    }
}

async fn read_until(from: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&read).contains(text) {
            let count = from.read(&mut buffer).await.unwrap();
            assert!(count > 0, "it ended without {text:?}");
            read.extend_from_slice(&buffer[..count]);
        }
    };
    let done = tokio::time::timeout(BOUND, reading).await;
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(done.is_ok(), "never {text:?}, only {read:?}");
    read
}

/// What a command printed, and how it exited.
#[derive(Debug)]
#[must_use]
pub struct Said {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// The exit code, the output and the errors.
    pub fn all(&self) -> (i32, &str, &str) {
        (self.code, self.text(), &self.err)
    }
}

/// A text of a JSON object.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_brig"))
}
