//! Runs a second with the pool in steady state: `echo hi` again and again, by as many clients as a machine like this has.
//!
//! First as fast as it goes, each client proposing again when its run has ended, for brig, for `exec` in a warm container, and
//! for `docker run` (create, attach, start, remove). Then at fixed rates, at which runs come by themselves (a Poisson
//! process) whether those before have ended or not: what a hit costs then, from the request to the first byte of output, and how
//! many runs hit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::support::daemon::{self, Warm};
use crate::support::figures::{at, count, load, median, ms};
use crate::support::supervisor::{self, Supervisor};

/// Who asks at once where it is as fast as it goes.
const CLIENTS: usize = 4;
/// How long each turn takes.
const TURN: Duration = Duration::from_secs(10);
/// Parts of brig's fastest rate at which runs come by themselves.
const RATES: [f64; 3] = [0.25, 0.5, 0.75];
const COMMAND: [&str; 2] = ["echo", "hi"];

pub async fn run(rounds: usize) {
    let supervisor = Supervisor::start("min = 4\ntarget = 4\nmax = 24", super::refill::creators()).await;
    let (engine, spec) = supervisor.engine().await;
    let docker = daemon::connect().await;
    let warm = Arc::new(Warm::start(&docker, &spec.image.id).await);

    println!(
        "sustained: `echo hi`, pool of 4 to 24, {CLIENTS} clients, turns of {} s; load {}",
        TURN.as_secs(),
        load()
    );
    let mut fastest: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        supervisor.full().await;
        fastest[0].push(by_brig(&supervisor).await);
        supervisor.full().await;
        fastest[1].push(by_exec(&docker, &warm).await);
        fastest[2].push(by_run(&docker, &spec.image.id).await);
    }
    println!("{:<12}{:>8}{:>8}{:>8}  runs a second, as fast as it goes", "way", "min", "p50", "max");
    for (name, samples) in ["brig", "docker exec", "docker run"].iter().zip(&mut fastest) {
        let [min, p50, max] = [0.0, 0.5, 1.0].map(|share| at(samples, share));
        println!("{name:<12}{min:>8.2}{p50:>8.2}{max:>8.2}");
    }
    let [brig, exec, run] = fastest.each_mut().map(|samples| median(samples));
    println!("brig / docker run   {:.2}", brig / run);
    println!("brig / docker exec  {:.2}", brig / exec);

    println!(
        "{:>8}{:>8}{:>8}{:>10}{:>10}{:>10}  milliseconds to the first byte",
        "a second", "runs", "hits", "hit p50", "hit p95", "miss p50"
    );
    for share in RATES {
        supervisor.full().await;
        let mut seen = Seen::default();
        for _ in 0..rounds {
            seen.join(at_rate(&supervisor, brig * share).await);
        }
        println!("{:>8.2}{}", brig * share, seen.line());
        let exec = warm_at_rate(&docker, &warm, brig * share).await;
        println!("{:>8}{exec}", "exec");
    }
    println!("load {}", load());
    supervisor.stop().await;
    Arc::into_inner(warm).unwrap().stop(&docker).await;
    engine.remove_init_volume().await;
}

async fn by_brig(supervisor: &Supervisor) -> f64 {
    let agent = supervisor.agent.clone();
    fastest(move || {
        let agent = agent.clone();
        async move { drop(supervisor::run(&agent, &COMMAND).await) }
    })
    .await
}

async fn by_exec(docker: &Docker, warm: &Arc<Warm>) -> f64 {
    let (docker, warm) = (docker.clone(), Arc::clone(warm));
    fastest(move || {
        let (docker, warm) = (docker.clone(), Arc::clone(&warm));
        async move {
            warm.exec(&docker, &COMMAND).await;
        }
    })
    .await
}

async fn by_run(docker: &Docker, image: &str) -> f64 {
    let (docker, image) = (docker.clone(), image.to_owned());
    fastest(move || {
        let (docker, image) = (docker.clone(), image.clone());
        async move {
            let (_, left) = daemon::cold(&docker, &image, &COMMAND).await;
            daemon::remove(&docker, &left).await;
        }
    })
    .await
}

/// How often a second something can be done by [`CLIENTS`] that do it again and again.
async fn fastest<F: Future<Output = ()> + Send + 'static>(once: impl Fn() -> F + Clone + Send + 'static) -> f64 {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let once = once.clone();
        clients.spawn(async move {
            let mut done = 0;
            while began.elapsed() < TURN {
                once().await;
                done += 1;
            }
            done
        });
    }
    let done: usize = clients.join_all().await.into_iter().sum();
    count(done) / began.elapsed().as_secs_f64()
}

/// Milliseconds to the first byte, of runs that found a warm sandbox and of others.
#[derive(Default)]
struct Seen {
    hits: Vec<f64>,
    misses: Vec<f64>,
}

impl Seen {
    fn join(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.misses.extend(other.misses);
    }

    fn line(&mut self) -> String {
        let runs = self.hits.len() + self.misses.len();
        let share = 100.0 * count(self.hits.len()) / count(runs);
        let [p50, p95] = [0.5, 0.95].map(|share| at(&mut self.hits, share));
        format!("{runs:>8}{share:>7.1}%{p50:>10.2}{p95:>10.2}{:>10.0}", median(&mut self.misses))
    }
}

async fn at_rate(supervisor: &Supervisor, rate: f64) -> Seen {
    let mut runs = JoinSet::new();
    arrivals(rate, || {
        let agent = supervisor.agent.clone();
        runs.spawn(async move {
            let seen = supervisor::run(&agent, &COMMAND).await;
            (seen.row.run.unwrap().cold, ms(seen.first_byte.unwrap()))
        });
    })
    .await;
    let mut seen = Seen::default();
    for (cold, took) in runs.join_all().await {
        if cold { seen.misses.push(took) } else { seen.hits.push(took) }
    }
    seen
}

async fn warm_at_rate(docker: &Docker, warm: &Arc<Warm>, rate: f64) -> String {
    let mut runs = JoinSet::new();
    arrivals(rate, || {
        let (docker, warm) = (docker.clone(), Arc::clone(warm));
        runs.spawn(async move { ms(warm.exec(&docker, &COMMAND).await) });
    })
    .await;
    Seen { hits: runs.join_all().await, misses: Vec::new() }.line()
}

/// Begins something at this rate for a turn: each time by chance, always the same chances.
async fn arrivals(rate: f64, mut begin: impl FnMut()) {
    let mut dice = 7_u64;
    let until = tokio::time::Instant::now() + TURN;
    let mut next = tokio::time::Instant::now();
    loop {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chance = f64::from(u32::try_from(dice >> 32).unwrap_or(1)).mul_add(1.0 / f64::from(u32::MAX), 1e-9);
        next += Duration::from_secs_f64(-chance.min(1.0).ln() / rate);
        if next >= until {
            return sleep(until.saturating_duration_since(tokio::time::Instant::now())).await;
        }
        sleep_until(next).await;
        begin();
    }
}
