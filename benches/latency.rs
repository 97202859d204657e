//! How long from a request to its result: the same `true`, four ways, in turn.
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
//! a container of another one is made or taken down.

use std::sync::Arc;

use brig::engine::Engine as _;
use brig_core::id::SandboxId;
use brig_init::wire::Step;

use crate::support::daemon::{self, Warm};
use crate::support::figures::{at, load, median, ms};
use crate::support::floor;
use crate::support::supervisor::Supervisor;

pub async fn run(rounds: usize) {
    let supervisor = Supervisor::start("target = 2\nmax = 6", 3).await;
    let (engine, spec) = supervisor.engine().await;
    let docker = daemon::connect().await;
    let warm = Warm::start(&docker, &spec.image.id).await;

    let mut samples: [Vec<f64>; 4] = Default::default();
    for round in 0..=rounds {
        supervisor.quiet().await;
        let (cold, left) = daemon::cold(&docker, &spec.image.id, &["true"]).await;
        daemon::remove(&docker, &left).await;
        supervisor.quiet().await;
        let exec = warm.exec(&docker, &["true"]).await;
        supervisor.quiet().await;
        let brig = supervisor.run(&["true"]).await;
        assert!(!brig.row.run.unwrap().cold, "the pool was full");
        let armed = engine.arm(&SandboxId(format!("floor-{round}")), Arc::clone(&spec)).await.unwrap();
        supervisor.quiet().await;
        let step = Step { argv: vec![b"true"], env: vec![], cwd: b"/sandbox", code: None };
        let (floor, _) = floor::exchange(armed, step).await;
        let turn = [cold, exec, brig.end, floor];
        // The first round warms up caches and is not counted.
        if round > 0 {
            for (samples, took) in samples.iter_mut().zip(turn) {
                samples.push(ms(took));
            }
        }
    }
    warm.stop(&docker).await;
    supervisor.stop().await;
    engine.remove_init_volume().await;
    report(&mut samples, rounds);
}

fn report(samples: &mut [Vec<f64>; 4], rounds: usize) {
    println!("latency: {rounds} rounds, the same `true`; milliseconds; load {}", load());
    println!("{:<8}{:>10}{:>10}{:>10}{:>10}", "way", "min", "p50", "p95", "max");
    for (name, samples) in ["cold", "exec", "brig", "floor"].iter().zip(samples.iter_mut()) {
        let [min, p50, p95, max] = [0.0, 0.5, 0.95, 1.0].map(|share| at(samples, share));
        println!("{name:<8}{min:>10.2}{p50:>10.2}{p95:>10.2}{max:>10.2}");
    }
    let [cold, exec, brig, floor] = samples.each_mut().map(|samples| median(samples));
    println!("brig / exec   {:.3}  (1/{:.1}; to reach: 1/8)", brig / exec, exec / brig);
    println!("brig / floor  {:.2}   (to reach: 3)", brig / floor);
    println!("brig / cold   {:.4} (1/{:.0})", brig / cold, cold / brig);
}
