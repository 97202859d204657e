//! What code costs beside a command: `print(1)` by a Python that waited and by a fresh one, and `true` in both kinds of
//! sandbox, from the request on the stdin of an armed sandbox to both fences, on the real daemon.
//!
//! Every round measures all four in turn, and ratios of medians are the result. The image is made of this machine's own
//! programs, python3 among them.

use std::sync::Arc;
use std::time::Duration;

use brig::config::profiles::{self, Base};
use brig::engine::Engine as _;
use brig::engine::docker::DockerEngine;
use brig_core::id::SandboxId;
use brig_core::profile::SandboxSpec;
use brig_init::wire::{Code, Step};

use crate::support::figures::{at, load, median, ms};
use crate::support::floor;

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

pub async fn run(rounds: usize) {
    let engine = floor::engine();
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
                samples[at].push(ms(took));
            }
        }
    }
    engine.remove_init_volume().await;
    println!("code: {rounds} rounds; milliseconds; load {}", load());
    println!("{:<22}{:>10}{:>10}{:>10}{:>10}", "what", "min", "p50", "p95", "max");
    for ((name, ..), samples) in WAYS.iter().zip(&mut samples) {
        let [min, p50, p95, max] = [0.0, 0.5, 0.95, 1.0].map(|share| at(samples, share));
        println!("{name:<22}{min:>10.2}{p50:>10.2}{p95:>10.2}{max:>10.2}");
    }
    let medians = samples.each_mut().map(|samples| median(samples));
    println!("print(1), prewarmed / true            {:.2} (to reach: 2)", medians[0] / medians[2]);
    println!("print(1), prewarmed / print(1), fresh {:.2}", medians[0] / medians[3]);
}

async fn one(engine: &DockerEngine, id: &SandboxId, spec: &Arc<SandboxSpec>, code: bool) -> Duration {
    let sandbox = engine.arm(id, Arc::clone(spec)).await.unwrap();
    tokio::time::sleep(SETTLE).await;
    let path = spec.cage.code_path(0, "python");
    let env = spec.cage.environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let source = Code { language: b"python", path: path.as_bytes(), source: b"print(1)\n" };
    let argv: Vec<&[u8]> = if code { vec![b"python3", b"-I", path.as_bytes()] } else { vec![b"true"] };
    let (took, _) = floor::exchange(sandbox, Step { argv, env, cwd: b"/sandbox", code: code.then_some(source) }).await;
    tokio::time::sleep(SETTLE).await;
    took
}
