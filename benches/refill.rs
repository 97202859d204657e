//! How fast a pool fills: thirty sandboxes from none, by brig and by the daemon driven raw, in turn.
//!
//! Raw is the same create request, attach and start, sent by as many creators at once as were best in a look beforehand,
//! and over when the last start has returned. brig's is over when the pool says that all are ready, so it has waited for
//! each init to be armed as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptions, InspectContainerOptions};
use brig::api::client::Lines;
use brig::api::wire::Update;
use brig::engine::Engine as _;
use brig_core::id::SandboxId;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::support::daemon::{self, remove};
use crate::support::figures::{at, count, load, median};
use crate::support::supervisor::Supervisor;
use crate::support::wait_for;

/// How many are made.
const MANY: usize = 30;
/// Numbers of creators that are tried.
const CREATORS: [usize; 6] = [1, 2, 4, 8, 16, 30];
/// What daemon and kernel have left to do when thirty containers have gone.
const SETTLE: Duration = Duration::from_secs(1);

pub async fn run(rounds: usize) {
    let supervisor = Supervisor::start(&format!("target = 0\nmax = {MANY}"), creators()).await;
    let (engine, spec) = supervisor.engine().await;
    let docker = daemon::connect().await;
    // One of the engine's own says what the request is.
    let model = engine.arm(&SandboxId("model".to_owned()), Arc::clone(&spec)).await.unwrap();
    let body = request_of(&docker, &model.engine_id).await;
    drop(model);
    supervisor.order(json!({"order": "drain"})).await;
    supervisor.order(json!({"order": "set", "target": MANY, "max": MANY})).await;

    raw(&docker, &body, 4).await;
    let mut rates = Vec::new();
    println!("refill: {MANY} sandboxes from none; load {}", load());
    for creators in CREATORS {
        let mut both = [raw(&docker, &body, creators).await, raw(&docker, &body, creators).await];
        println!("raw, {creators:>2} creators: {:>5.2} a second", median(&mut both));
        rates.push((median(&mut both), creators));
    }
    let best = rates.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1;

    let (mut by_brig, mut by_hand, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let brig = fill(&supervisor).await;
        let hand = raw(&docker, &body, best).await;
        by_brig.push(brig);
        by_hand.push(hand);
        ratios.push(brig / hand);
    }
    supervisor.stop().await;
    engine.remove_init_volume().await;
    println!("{rounds} rounds in turn, raw with {best} creators; sandboxes a second; load {}", load());
    println!("{:<8}{:>8}{:>8}{:>8}", "way", "min", "p50", "max");
    for (name, samples) in [("brig", &mut by_brig), ("raw", &mut by_hand), ("ratio", &mut ratios)] {
        let [min, p50, max] = [0.0, 0.5, 1.0].map(|share| at(samples, share));
        println!("{name:<8}{min:>8.2}{p50:>8.2}{max:>8.2}");
    }
    println!("brig / raw  {:.2}  (to reach: 0.90)", median(&mut ratios));
}

/// What brig does by itself, unless the environment says otherwise.
pub fn creators() -> u32 {
    std::env::var("CREATORS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Sandboxes a second that brig fills its empty pool with.
async fn fill(supervisor: &Supervisor) -> f64 {
    let mut updates: Lines<Update> = supervisor.operator.follow("/v1/events").await.unwrap();
    let began = Instant::now();
    supervisor.order(json!({"order": "resume"})).await;
    let is_full = |update: &Update| matches!(update, Update::Pool(pool) if pool.ready as usize >= MANY);
    while !is_full(&updates.next().await.unwrap().unwrap()) {}
    let rate = count(MANY) / began.elapsed().as_secs_f64();
    drop(updates);
    supervisor.order(json!({"order": "drain"})).await;
    wait_for(|| async { supervisor.snapshot().await.sandboxes.is_empty().then_some(()) }).await;
    tokio::time::sleep(SETTLE).await;
    rate
}

/// Sandboxes a second by so many creators.
async fn raw(docker: &Docker, body: &ContainerCreateBody, creators: usize) -> f64 {
    let left = Arc::new(AtomicUsize::new(MANY));
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..creators {
        let (docker, body, left) = (docker.clone(), body.clone(), Arc::clone(&left));
        tasks.spawn(async move {
            let mut made = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                made.push(start(&docker, body.clone()).await);
            }
            made
        });
    }
    let made: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let rate = count(MANY) / began.elapsed().as_secs_f64();
    for (id, attached) in made {
        remove(docker, &id).await;
        drop(attached);
    }
    tokio::time::sleep(SETTLE).await;
    rate
}

async fn start(docker: &Docker, body: ContainerCreateBody) -> (String, bollard::container::AttachContainerResults) {
    let id = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
    let attached = docker.attach_container(&id, Some(options)).await.unwrap();
    docker.start_container(&id, None).await.unwrap();
    (id, attached)
}

/// The request that a container was made by.
async fn request_of(docker: &Docker, container: &str) -> ContainerCreateBody {
    let seen = docker.inspect_container(container, None::<InspectContainerOptions>).await.unwrap();
    let mut body = serde_json::to_value(seen.config.unwrap()).unwrap();
    body["HostConfig"] = serde_json::to_value(seen.host_config.unwrap()).unwrap();
    // A container of its own name; and its removal is this benchmark's, so that it can be waited for.
    body.as_object_mut().unwrap().remove("Hostname");
    body["HostConfig"]["AutoRemove"] = false.into();
    serde_json::from_value(body).unwrap()
}
