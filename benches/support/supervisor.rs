//! A real supervisor, with files of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use brig::api::client::Client;
use brig::api::wire::{FollowLine, PoolRow, ProposalRow, Snapshot};
use brig::config::profiles::{self, Base};
use brig::engine::Engine as _;
use brig::engine::docker::DockerEngine;
use brig_core::profile::{Cage, SandboxSpec};
use brig_core::proposal::{Draft, DraftStep, Status};
use futures_util::StreamExt as _;
use tempfile::TempDir;

use super::{floor, wait_for};

/// What daemon and kernel have left to do after a container has gone.
const SETTLE: Duration = Duration::from_millis(150);

/// A supervisor with one profile, `bench`.
pub struct Supervisor {
    child: Child,
    profile: String,
    pub agent: Client,
    pub operator: Client,
    directory: TempDir,
}

/// A run as its agent saw it.
pub struct Seen {
    /// From the request to the first byte of output.
    pub first_byte: Option<Duration>,
    /// From the request to the recorded end.
    pub end: Duration,
    /// Bytes.
    pub output: u64,
    pub row: ProposalRow,
}

impl Supervisor {
    /// One whose pool has these lines, with so many creators.
    pub async fn start(pool: &str, creators: u32) -> Self {
        Self::start_with(pool, creators, "").await
    }

    /// The same, with more tables in its profile.
    pub async fn start_with(pool: &str, creators: u32, tables: &str) -> Self {
        let settings =
            format!("default_profile = \"bench\"\n[agents]\nallow_own_user = true\n[pool]\ncreators = {creators}\n");
        Self::new(profile(pool, "auto", tables), settings).await
    }

    /// One that asks about every proposal, and has room for so many.
    pub async fn asking(room: usize) -> Self {
        let settings = format!("default_profile = \"bench\"\n[queue]\nlimit = {room}\n");
        Self::new(profile("target = 1\nmax = 3", "ask", ""), settings).await
    }

    async fn new(profile: String, settings: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("config/profiles")).unwrap();
        std::fs::write(path("config/profiles/bench.toml"), &profile).unwrap();
        std::fs::write(path("config/brig.toml"), settings).unwrap();
        let child = brig(directory.path()).arg("serve").stdout(Stdio::null()).spawn().unwrap();
        let token = path("run/operator.token");
        let token = wait_for(|| async { std::fs::read_to_string(&token).ok() }).await;
        Self {
            child,
            profile,
            agent: Client::new(&path("run/agent/agent.sock"), None),
            operator: Client::new(&path("run/operator.sock"), Some(token)),
            directory,
        }
    }

    /// The command `brig` as a client of this supervisor.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = brig(self.directory.path());
        command.args(args);
        command
    }

    /// MiB of memory that its process has now.
    pub fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most MiB of memory that its process ever had.
    pub fn peak_memory(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Seconds of CPU time that its process has used.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // utime and stime, in ticks of a hundredth of a second.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    pub fn cage(&self) -> Cage {
        profiles::parse("bench", "bench.toml", &self.profile, &Base::NOWHERE).unwrap().cage
    }

    /// What its sandboxes are made of, and an engine to make them by hand.
    pub async fn engine(&self) -> (DockerEngine, Arc<SandboxSpec>) {
        let engine = floor::engine();
        let cage = self.cage();
        let image = engine.resolve_image(&cage, &|_| {}).await.unwrap();
        let engine_fingerprint = engine.fingerprint();
        (engine, Arc::new(SandboxSpec { profile: "bench".to_owned(), cage, image, engine_fingerprint }))
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.operator.get("/v1/snapshot").await.unwrap()
    }

    /// Waits until the pool has what it wants, and nothing else of it is there.
    pub async fn full(&self) {
        wait_for(|| async {
            let snapshot = self.snapshot().await;
            let pool = snapshot.pools.iter().find(|pool| pool.profile == "bench")?;
            let idle = snapshot.sandboxes.len() == pool.ready as usize;
            (pool.wanted > 0 && pool.ready >= pool.wanted && idle).then_some(())
        })
        .await;
    }

    /// Waits until nothing is being made or taken down.
    pub async fn quiet(&self) {
        self.full().await;
        tokio::time::sleep(SETTLE).await;
    }

    /// Tells the pool something.
    pub async fn order(&self, order: serde_json::Value) -> PoolRow {
        self.operator.post("/v1/pools/bench", &order).await.unwrap()
    }

    /// Proposes a command and follows it to its end.
    pub async fn run(&self, command: &[&str]) -> Seen {
        run(&self.agent, command).await
    }

    /// Proposes code in the profile's only language and follows it to its end.
    pub async fn run_code(&self, source: &str) -> Seen {
        follow(&self.agent, DraftStep { code: Some(source.into()), ..DraftStep::default() }).await
    }

    pub async fn stop(mut self) {
        let _: serde_json::Value = self.operator.post("/v1/shutdown", &serde_json::json!({})).await.unwrap();
        self.child.wait().unwrap();
    }
}

/// As [`Supervisor::run`], for a task of its own.
pub async fn run(agent: &Client, command: &[&str]) -> Seen {
    let argv = command.iter().map(|word| (*word).into()).collect();
    follow(agent, DraftStep { argv, ..DraftStep::default() }).await
}

async fn follow(agent: &Client, step: DraftStep) -> Seen {
    let draft = Draft { steps: vec![step], ..Draft::default() };
    let began = Instant::now();
    let (mut first_byte, mut output) = (None, 0);
    let mut lines = agent.post_and_follow::<FollowLine>("/v1/proposals?follow=true", &draft).await.unwrap();
    while let Some(line) = lines.next().await {
        match line.unwrap() {
            FollowLine::Output { data, .. } => {
                first_byte.get_or_insert_with(|| began.elapsed());
                output += data.0.len() as u64;
            }
            FollowLine::Proposal(row) if row.status == Status::Finished => {
                let end = began.elapsed();
                assert_eq!(row.end.as_ref().unwrap().exit_code, Some(0), "{:?}", row.end);
                return Seen { first_byte, end, output, row: *row };
            }
            _ => {}
        }
    }
    panic!("the run has no end");
}

/// The program, with the places of a supervisor of its own.
fn brig(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brig"));
    command
        .env("BRIG_CONFIG_DIR", directory.join("config"))
        .env("BRIG_STATE_DIR", directory.join("state"))
        .env("BRIG_RUNTIME_DIR", directory.join("run"));
    command
}

fn profile(pool: &str, mode: &str, tables: &str) -> String {
    format!(
        "description = \"for the benchmark\"\n\
         image = \"busybox:1.37\"\n\
         image_fallback = \"userland\"\n\
         user = \"65534:65534\"\n\
         working_dir = \"/sandbox\"\n\
         network_mode = \"none\"\n\
         mem_limit = \"128m\"\n\
         pids_limit = 64\n\
         timeout = \"10m\"\n\
         [pool]\n{pool}\n\
         [approval]\n\
         mode = \"{mode}\"\n\
         {tables}\n"
    )
}
