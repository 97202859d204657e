//! How quickly much output reaches an agent: a program that writes 1 GiB of lines.
//!
//! | way | what is measured |
//! | --- | --- |
//! | floor | from the request on the stdin of an armed sandbox to both fences, reading what the daemon sends and no more |
//! | brig | `POST /v1/proposals?follow=true` to the line with the recorded end, each piece of output parsed by the client; all of it is in the journal by then |
//! | exec | `docker exec` in a warm container, until its output has ended |
//! | run | the command `docker run --rm`, into a pipe that is read |
//!
//! Beside the rates it prints the most memory that the supervisor ever used.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use brig::engine::Engine as _;
use brig_core::id::SandboxId;
use brig_init::wire::Step;

use crate::support::daemon::{self, Warm};
use crate::support::figures::{at, load, median};
use crate::support::floor;
use crate::support::supervisor::Supervisor;

const BYTES: u64 = 1 << 30;
const MIB: f64 = 1_048_576.0;
/// Lines of 64 bytes, as a build's log may have.
const SCRIPT: &str = "yes 'the quick brown fox jumps over the lazy dog, again and again...' | head -c 1073741824";

pub async fn run(rounds: usize) {
    let supervisor = Supervisor::start_with("target = 1\nmax = 3", 2, "[output]\nlimit = \"1g\"").await;
    let (engine, spec) = supervisor.engine().await;
    let docker = daemon::connect().await;
    let warm = Warm::start(&docker, &spec.image.id).await;
    let before = supervisor.peak_memory();
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        supervisor.quiet().await;
        let sandbox = engine.arm(&SandboxId(format!("floor-{round}")), Arc::clone(&spec)).await.unwrap();
        let argv: Vec<&[u8]> = vec![b"sh", b"-c", SCRIPT.as_bytes()];
        let env: Vec<(&[u8], &[u8])> = vec![(b"PATH", b"/usr/bin:/bin")];
        let step = Step { argv, env, cwd: b"/sandbox", code: None };
        let (took, output) = floor::exchange(sandbox, step).await;
        assert_eq!(output, BYTES);
        rates[0].push(rate(took.as_secs_f64()));

        supervisor.quiet().await;
        let seen = supervisor.run(&["sh", "-c", SCRIPT]).await;
        let kept = seen.row.end.unwrap().output;
        assert_eq!((kept.stdout_bytes, kept.dropped_bytes, seen.output), (BYTES, 0, BYTES));
        rates[1].push(rate(seen.end.as_secs_f64()));

        supervisor.quiet().await;
        let took = warm.exec(&docker, &["sh", "-c", SCRIPT]).await;
        rates[2].push(rate(took.as_secs_f64()));
        supervisor.quiet().await;
        rates[3].push(rate(docker_run(&spec.image.id)));
    }
    println!("throughput: 1 GiB of lines, {rounds} rounds; MiB a second; load {}", load());
    println!("{:<8}{:>10}{:>10}{:>10}", "way", "min", "p50", "max");
    for (name, rates) in ["floor", "brig", "exec", "run"].iter().zip(&mut rates) {
        let [min, p50, max] = [0.0, 0.5, 1.0].map(|share| at(rates, share));
        println!("{name:<8}{min:>10.0}{p50:>10.0}{max:>10.0}");
    }
    let [floor, brig, ..] = rates.each_mut().map(|rates| median(rates));
    println!("brig / floor  {:.2} (to reach: 0.5)", brig / floor);
    println!("supervisor's peak memory: {before:.0} MiB before, {:.0} MiB after", supervisor.peak_memory());
    warm.stop(&docker).await;
    supervisor.stop().await;
    engine.remove_init_volume().await;
}

fn rate(seconds: f64) -> f64 {
    MIB.recip() * f64::from(u32::try_from(BYTES).unwrap_or(u32::MAX)) / seconds
}

fn docker_run(image: &str) -> f64 {
    let began = Instant::now();
    let mut child = Command::new("docker")
        .args(["run", "--rm", "--network", "none", image, "sh", "-c", SCRIPT])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut out, mut buffer, mut bytes) = (child.stdout.take().unwrap(), vec![0; 1 << 16], 0);
    loop {
        match out.read(&mut buffer).unwrap() {
            0 => break,
            count => bytes += count as u64,
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(bytes, BYTES);
    began.elapsed().as_secs_f64()
}
