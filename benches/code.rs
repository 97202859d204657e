//! What code costs beside a command: `print(1)` by a Python that waited and by a fresh one, and `true` in both kinds of
//! sandbox, from the request on the stdin of an armed sandbox to both fences, on the real daemon.
//!
//! Every round measures all four in turn, and ratios of medians are the result. `cargo bench --bench code [-- ROUNDS]`,
//! 20 rounds unless told otherwise. The image is made of this machine's own programs, python3 among them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on stops with what was wrong"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use brig::config::profiles::{self, Base};
use brig::engine::Engine as _;
use brig::engine::docker::{DockerEngine, DockerSettings};
use brig::supervisor::process;
use brig_core::id::SandboxId;
use brig_core::profile::SandboxSpec;
use brig_core::proposal::OutputStream;
use brig_init::wire::{Code, FenceFinder, NONCE_LEN, Request, Step, Stream};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

/// What daemon and kernel have left to do after a container has come or gone.
const SETTLE: Duration = Duration::from_millis(300);

const PROFILE: &str = "
image = \"brig.invalid/bench:1\"
image_fallback = \"userland\"
[environment]
PATH = \"/usr/local/bin:/usr/bin:/bin\"
HOME = \"/sandbox\"
[interpreter.python]
command = [\"python3\", \"-I\"]
";

/// Name, whether the interpreter waits, and whether it is code.
const WAYS: [(&str, bool, bool); 4] = [
    ("print(1), prewarmed", true, true),
    ("true, prewarmed", true, false),
    ("true", false, false),
    ("print(1), fresh", false, true),
];

#[tokio::main]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20_usize);
    let engine = DockerEngine::connect(DockerSettings {
        install: "bench-code".to_owned(),
        host: process::host(),
        owner: process::me().unwrap(),
        address: None,
    })
    .unwrap();
    let specs = [false, true].map(|prewarm| {
        let text = format!("{PROFILE}prewarm = {prewarm}\n");
        profiles::parse("bench", "bench.toml", &text, &Base::NOWHERE).unwrap().cage
    });
    let image = engine.resolve_image(&specs[0], &|_| {}).await.unwrap();
    let specs = specs.map(|cage| {
        let (profile, engine_fingerprint) = ("bench".to_owned(), engine.fingerprint());
        Arc::new(SandboxSpec { profile, cage, image: image.clone(), engine_fingerprint })
    });
    let mut samples: [Vec<f64>; 4] = Default::default();
    for round in 0..=rounds {
        for (at, (_, prewarm, code)) in WAYS.iter().enumerate() {
            let id = SandboxId(format!("code-{round}-{at}"));
            let took = one(&engine, &id, &specs[usize::from(*prewarm)], *code).await;
            // The first round warms up caches and is not counted.
            if round > 0 {
                samples[at].push(took.as_secs_f64() * 1e3);
            }
        }
    }
    engine.remove_init_volume().await;
    println!("{rounds} rounds; milliseconds");
    let mut medians = [0.0; 4];
    for (((name, ..), samples), median) in WAYS.iter().zip(&mut samples).zip(&mut medians) {
        samples.sort_by(f64::total_cmp);
        *median = samples[samples.len() / 2];
        println!("{name:<22} min {:>8.2}  p50 {median:>8.2}  max {:>8.2}", samples[0], samples[samples.len() - 1]);
    }
    println!("print(1), prewarmed / true            {:.2} (to reach: 2)", medians[0] / medians[2]);
    println!("print(1), prewarmed / print(1), fresh {:.2}", medians[0] / medians[3]);
}

async fn one(engine: &DockerEngine, id: &SandboxId, spec: &Arc<SandboxSpec>, code: bool) -> Duration {
    let mut sandbox = engine.arm(id, Arc::clone(spec)).await.unwrap();
    tokio::time::sleep(SETTLE).await;
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).unwrap();
    let path = spec.cage.code_path(0, "python");
    let env = spec.cage.environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let source = Code { language: b"python", path: path.as_bytes(), source: b"print(1)\n" };
    let argv: Vec<&[u8]> = if code { vec![b"python3", b"-I", path.as_bytes()] } else { vec![b"true"] };
    let step = Step { argv, env, cwd: b"/sandbox", code: code.then_some(source) };
    let (deadline_ms, keep_going, rlimits, files, stdin) = (10_000, false, vec![], vec![], b"".as_slice());
    let request = Request { nonce, deadline_ms, keep_going, rlimits, steps: vec![step], files, stdin };
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
    tokio::time::sleep(SETTLE).await;
    took
}
