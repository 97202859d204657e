//! A supervisor with 10,000 proposals that wait for a verdict: what it takes of memory and time, and what a proposal, a
//! verdict, a list and a look cost then, beside the same with none.

use std::time::{Duration, Instant};

use brig::api::wire::{Choice, ProposalDetail, ProposalRow, Snapshot, VerdictRequest};
use brig_core::proposal::{Draft, DraftStep};
use futures_util::stream::{self, StreamExt as _};

use crate::support::figures::{at, load, median, ms};
use crate::support::supervisor::Supervisor;

const WAITING: usize = 10_000;
/// Proposals that are on their way at once while the queue is filled.
const AT_ONCE: usize = 8;

pub async fn run(rounds: usize) {
    let supervisor = Supervisor::asking(WAITING + 1_000).await;
    supervisor.full().await;
    let empty = Costs::measure(&supervisor, rounds).await;
    let memory = supervisor.memory();
    let began = Instant::now();
    stream::iter(0..WAITING)
        .for_each_concurrent(AT_ONCE, |number| {
            let supervisor = &supervisor;
            async move { drop(propose(supervisor, number).await) }
        })
        .await;
    let filled = began.elapsed();
    let with = supervisor.memory();
    let full = Costs::measure(&supervisor, rounds).await;
    let idle = idle(&supervisor).await;
    println!("queue: {WAITING} proposals wait, {rounds} rounds; milliseconds; load {}", load());
    println!("filled by {AT_ONCE} at once in {:.1} s, {:.0} a second", filled.as_secs_f64(), {
        10_000.0 / filled.as_secs_f64()
    });
    println!("memory {memory:.0} MiB before, {with:.0} MiB with them; CPU while nothing happens: {idle:.1}% of a core");
    println!("{:<28}{:>10}{:>10}{:>10}{:>10}", "what", "none p50", "none p95", "with p50", "with p95");
    for ((name, mut none), (_, mut with)) in empty.named().into_iter().zip(full.named()) {
        let figures = [median(&mut none), at(&mut none, 0.95), median(&mut with), at(&mut with, 0.95)];
        println!("{name:<28}{}", figures.map(|figure| format!("{figure:>10.2}")).concat());
    }
    supervisor.stop().await;
}

#[derive(Default)]
struct Costs {
    propose: Vec<f64>,
    verdict: Vec<f64>,
    run: Vec<f64>,
    list: Vec<f64>,
    snapshot: Vec<f64>,
}

impl Costs {
    async fn measure(supervisor: &Supervisor, rounds: usize) -> Self {
        let mut costs = Self::default();
        for round in 0..rounds {
            supervisor.quiet().await;
            let began = Instant::now();
            let row = propose(supervisor, usize::MAX - round).await.row;
            costs.propose.push(ms(began.elapsed()));
            let (id, digest) = (row.id.0.clone(), row.digest.hex());
            let began = Instant::now();
            let verdict = VerdictRequest { digest, verdict: Choice::Approved, reason: String::new() };
            let path = format!("/v1/proposals/{id}/verdict");
            let _: ProposalDetail = supervisor.operator.post(&path, &verdict).await.unwrap();
            costs.verdict.push(ms(began.elapsed()));
            let ended: ProposalDetail =
                supervisor.agent.get(&format!("/v1/proposals/{id}?wait_ms=60000")).await.unwrap();
            assert_eq!(ended.row.end.unwrap().exit_code, Some(0));
            costs.run.push(ms(began.elapsed()));
            let began = Instant::now();
            let _: Vec<ProposalRow> = supervisor.operator.get("/v1/proposals").await.unwrap();
            costs.list.push(ms(began.elapsed()));
            let began = Instant::now();
            let _: Snapshot = supervisor.operator.get("/v1/snapshot").await.unwrap();
            costs.snapshot.push(ms(began.elapsed()));
        }
        costs
    }

    fn named(self) -> [(&'static str, Vec<f64>); 5] {
        [
            ("propose", self.propose),
            ("verdict recorded", self.verdict),
            ("verdict to the run's end", self.run),
            ("GET /v1/proposals", self.list),
            ("GET /v1/snapshot", self.snapshot),
        ]
    }
}

async fn propose(supervisor: &Supervisor, number: usize) -> ProposalDetail {
    let argv = vec!["echo".into(), number.to_string().as_str().into()];
    let step = DraftStep { argv, ..DraftStep::default() };
    let reason = "because it has to be looked at, and somebody has to say why".to_owned();
    let draft = Draft { steps: vec![step], reason, ..Draft::default() };
    supervisor.agent.post("/v1/proposals", &draft).await.unwrap()
}

/// Percent of one core that the supervisor takes while nobody asks anything.
async fn idle(supervisor: &Supervisor) -> f64 {
    const LOOK: Duration = Duration::from_secs(5);
    supervisor.quiet().await;
    let before = supervisor.cpu_seconds();
    tokio::time::sleep(LOOK).await;
    100.0 * (supervisor.cpu_seconds() - before) / LOOK.as_secs_f64()
}
