//! How long from a request to its result: the same `true`, four ways, in turn, on the real daemon.
//!
//! | way | what is measured |
//! | --- | --- |
//! | cold | create, attach, start a plain container, until its output has ended |
//! | exec | `exec` in a container that runs already, until its output has ended: what others call a warm pool |
//! | brig | `POST /v1/proposals?follow=true` on the agent socket of a real supervisor whose profile approves by rule, until the line with the recorded end; both journal commits are in it |
//! | floor | a request written to the stdin of an attached, static PID 1, until both fences were seen |
//!
//! Every round measures all four, so that a machine whose speed drifts treats them alike; ratios of medians are the
//! result. Before each turn the pool is full and the machine has had a moment to become quiet: no turn is measured while
//! a container of another one is made or taken down. Refilling begins 50 ms after a lease.
//!
//! `cargo bench --bench latency [-- ROUNDS]`, 40 rounds unless told otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on stops with what was wrong"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptions, RemoveContainerOptionsBuilder};
use brig::api::client::Client;
use brig::api::wire::{FollowLine, PoolRow, Snapshot};
use brig::config::profiles::{self, Base};
use brig::engine::docker::{DockerEngine, DockerSettings};
use brig::engine::{ArmedSandbox, Engine};
use brig::supervisor::process;
use brig_core::id::SandboxId;
use brig_core::profile::{Cage, SandboxSpec};
use brig_core::proposal::{Draft, DraftStep, OutputStream, Status};
use brig_init::wire::{FenceFinder, NONCE_LEN, Request, Step, Stream};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

const INSTALL: &str = "bench";
/// What daemon and kernel have left to do after a container has gone.
const SETTLE: Duration = Duration::from_millis(150);

#[tokio::main]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(40_usize);
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start(dir.path()).await;
    let cage = supervisor.cage();
    let engine = DockerEngine::connect(DockerSettings {
        install: INSTALL.to_owned(),
        host: process::host(),
        owner: process::me().unwrap(),
        address: None,
        context: None,
        tls: None,
    })
    .unwrap();
    let image = engine.resolve_image(&cage, &|_| {}).await.unwrap();
    let spec = Arc::new(SandboxSpec {
        profile: "bench".to_owned(),
        cage,
        image: image.clone(),
        engine_fingerprint: engine.fingerprint(),
    });
    let docker = Docker::connect_with_local_defaults().unwrap().negotiate_version().await.unwrap();
    let warm = Warm::start(&docker, &image.id).await;

    let mut samples: [Vec<Duration>; 4] = Default::default();
    for round in 0..=rounds {
        supervisor.quiet().await;
        let cold = cold(&docker, &image.id).await;
        supervisor.quiet().await;
        let exec = warm.exec(&docker).await;
        supervisor.quiet().await;
        let brig = supervisor.brig().await;
        let armed = engine.arm(&SandboxId(format!("floor-{round}")), Arc::clone(&spec)).await.unwrap();
        supervisor.quiet().await;
        let turn = [cold, exec, brig, floor(armed).await];
        // The first round warms up caches and is not counted.
        if round > 0 {
            for (samples, took) in samples.iter_mut().zip(turn) {
                samples.push(took);
            }
        }
    }
    warm.stop(&docker).await;
    supervisor.stop().await;
    engine.remove_init_volume().await;
    report(&mut samples, rounds);
}

fn report(samples: &mut [Vec<Duration>; 4], rounds: usize) {
    println!("{rounds} rounds, the same `true`; milliseconds");
    println!("{:<8}{:>10}{:>10}{:>10}{:>10}", "way", "min", "p50", "p95", "max");
    let mut medians = [0.0; 4];
    for ((name, samples), median) in ["cold", "exec", "brig", "floor"].iter().zip(samples).zip(&mut medians) {
        samples.sort();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index"
            )]
            let index = ((samples.len() - 1) as f64 * share).round() as usize;
            samples[index].as_secs_f64() * 1e3
        };
        *median = at(0.5);
        println!("{name:<8}{:>10.2}{:>10.2}{:>10.2}{:>10.2}", at(0.0), at(0.5), at(0.95), at(1.0));
    }
    let [cold, exec, brig, floor] = medians;
    println!("brig / exec   {:.3}  (1/{:.1}; to reach: 1/8)", brig / exec, exec / brig);
    println!("brig / floor  {:.2}   (to reach: 3)", brig / floor);
    println!("brig / cold   {:.4} (1/{:.0})", brig / cold, cold / brig);
}

/// A real supervisor, with files of its own.
struct Supervisor {
    child: Child,
    agent: Client,
    operator: Client,
}

const PROFILE: &str = "
description = \"for the benchmark\"
image = \"busybox:1.37\"
image_fallback = \"userland\"
user = \"65534:65534\"
working_dir = \"/sandbox\"
network_mode = \"none\"
mem_limit = \"128m\"
pids_limit = 64
timeout = \"10s\"
[pool]
target = 2
max = 6
[approval]
mode = \"auto\"
";

impl Supervisor {
    async fn start(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name);
        std::fs::create_dir_all(path("config/profiles")).unwrap();
        std::fs::write(path("config/profiles/bench.toml"), PROFILE).unwrap();
        let settings = "default_profile = \"bench\"\n[agents]\nallow_own_user = true\n";
        std::fs::write(path("config/brig.toml"), settings).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_brig"))
            .arg("serve")
            .env("BRIG_CONFIG_DIR", path("config"))
            .env("BRIG_STATE_DIR", path("state"))
            .env("BRIG_RUNTIME_DIR", path("run"))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let token = path("run/operator.token");
        let token = wait_for(|| async { std::fs::read_to_string(&token).ok() }).await;
        Self {
            child,
            agent: Client::new(&path("run/agent/agent.sock"), None),
            operator: Client::new(&path("run/operator.sock"), Some(token)),
        }
    }

    fn cage(&self) -> Cage {
        profiles::parse("bench", "bench.toml", PROFILE, &Base::NOWHERE).unwrap().cage
    }

    /// Waits until nothing is being made or taken down.
    async fn quiet(&self) {
        self.full_pool().await;
        tokio::time::sleep(SETTLE).await;
    }

    async fn full_pool(&self) -> PoolRow {
        wait_for(|| async {
            let snapshot: Snapshot = self.operator.get("/v1/snapshot").await.ok()?;
            let idle = snapshot.sandboxes.len() == 2;
            snapshot.pools.into_iter().find(|pool| pool.profile == "bench" && pool.ready >= pool.target && idle)
        })
        .await
    }

    async fn brig(&self) -> Duration {
        let step = DraftStep { argv: vec!["true".into()], ..DraftStep::default() };
        let draft = Draft { steps: vec![step], ..Draft::default() };
        let began = Instant::now();
        let mut lines = self.agent.post_and_follow::<FollowLine>("/v1/proposals?follow=true", &draft).await.unwrap();
        while let Some(line) = lines.next().await {
            if let FollowLine::Proposal(row) = line.unwrap()
                && row.status == Status::Finished
            {
                let took = began.elapsed();
                assert_eq!(row.end.unwrap().exit_code, Some(0));
                assert!(!row.run.unwrap().cold, "the pool was full");
                return took;
            }
        }
        panic!("the run has no end");
    }

    async fn stop(mut self) {
        let _: serde_json::Value = self.operator.post("/v1/shutdown", &serde_json::json!({})).await.unwrap();
        self.child.wait().unwrap();
    }
}

/// A container that runs already.
struct Warm(String);

impl Warm {
    async fn start(docker: &Docker, image: &str) -> Self {
        let id = create(docker, image, &["sleep", "1000000"]).await;
        docker.start_container(&id, None).await.unwrap();
        Self(id)
    }

    async fn exec(&self, docker: &Docker) -> Duration {
        let began = Instant::now();
        let exec = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(vec!["true".to_owned()]),
            ..ExecConfig::default()
        };
        let exec = docker.create_exec(&self.0, exec).await.unwrap();
        match docker.start_exec(&exec.id, None::<StartExecOptions>).await.unwrap() {
            StartExecResults::Attached { mut output, .. } => while output.next().await.is_some() {},
            StartExecResults::Detached => panic!("it is attached"),
        }
        began.elapsed()
    }

    async fn stop(self, docker: &Docker) {
        remove(docker, &self.0).await;
    }
}

async fn cold(docker: &Docker, image: &str) -> Duration {
    let began = Instant::now();
    let id = create(docker, image, &["true"]).await;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
    let mut attached = docker.attach_container(&id, Some(options)).await.unwrap();
    docker.start_container(&id, None).await.unwrap();
    while attached.output.next().await.is_some() {}
    let took = began.elapsed();
    remove(docker, &id).await;
    took
}

async fn create(docker: &Docker, image: &str, command: &[&str]) -> String {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some([("brig.install".to_owned(), INSTALL.to_owned())].into()),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id
}

async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(id, Some(options)).await.unwrap();
}

async fn floor(mut sandbox: ArmedSandbox) -> Duration {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).unwrap();
    let request = Request {
        nonce,
        deadline_ms: 10_000,
        keep_going: false,
        rlimits: vec![],
        steps: vec![Step { argv: vec![b"true"], env: vec![], cwd: b"/sandbox" }],
        marks: vec![],
        files: vec![],
        stdin: b"",
    };
    let frame = request.encode().unwrap();
    let mut finders = [FenceFinder::new(nonce, Stream::Stdout), FenceFinder::new(nonce, Stream::Stderr)];
    let began = Instant::now();
    sandbox.stdin.write_all(&frame).await.unwrap();
    sandbox.stdin.flush().await.unwrap();
    while !finders.iter().all(FenceFinder::is_over) {
        let (stream, bytes) = sandbox.output.next().await.unwrap().unwrap();
        finders[usize::from(stream == OutputStream::Stderr)].push(&bytes);
    }
    let took = began.elapsed();
    drop(sandbox.stdin);
    while sandbox.output.next().await.is_some() {}
    took
}

/// Waits for something, at most a minute.
async fn wait_for<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it did not come within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
