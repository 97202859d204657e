//! Benchmarks on the real daemon. What each measures, and what came out, is in docs/performance.md.
//!
//! `cargo bench --bench brig -- NAME… [ROUNDS]`: the named ones, or all, with as many rounds as each finds enough. Results
//! are ratios of what was measured in one run, in turn: they hold from one machine to the next, and times do not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on stops with what was wrong"
)]

mod code;
mod compare;
mod latency;
mod queue;
mod refill;
mod support;
mod sustained;
mod throughput;

/// Each benchmark by its name.
const NAMES: [&str; 7] = ["latency", "code", "refill", "sustained", "throughput", "queue", "compare"];

#[tokio::main]
async fn main() {
    let (mut names, mut rounds) = (Vec::new(), None);
    // Cargo hands on its own `--bench`.
    for word in std::env::args().skip(1).filter(|word| !word.starts_with('-')) {
        match (NAMES.iter().find(|name| **name == word), word.parse::<usize>()) {
            (Some(name), _) => names.push(*name),
            (None, Ok(number)) if number > 0 => rounds = Some(number),
            (None, _) => {
                eprintln!("`{word}` is no benchmark and no number of rounds; there are: {}", NAMES.join(", "));
                std::process::exit(2);
            }
        }
    }
    if names.is_empty() {
        names = NAMES.to_vec();
    }
    for name in names {
        match name {
            "latency" => Box::pin(latency::run(rounds.unwrap_or(40))).await,
            "code" => Box::pin(code::run(rounds.unwrap_or(20))).await,
            "refill" => Box::pin(refill::run(rounds.unwrap_or(8))).await,
            "throughput" => Box::pin(throughput::run(rounds.unwrap_or(3))).await,
            "queue" => Box::pin(queue::run(rounds.unwrap_or(20))).await,
            "compare" => Box::pin(compare::run(rounds.unwrap_or(20))).await,
            _ => Box::pin(sustained::run(rounds.unwrap_or(4))).await,
        }
    }
}
