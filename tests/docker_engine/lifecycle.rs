//! Arming, running, dying and killing.

use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptions;
use brig::engine::Engine as _;
use brig_core::profile::Cage;
use brig_init::wire::{How, Why};
use tokio::io::AsyncWriteExt as _;

use crate::support::docker::{BOUND, Bed, cage, request, run, until};

#[tokio::test]
async fn a_run_goes_to_both_fences_and_the_sandbox_is_gone_after_it() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let ran = run(&mut sandbox, &["sh", "-c", "cat; echo bad >&2; exit 7"], b"good").await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("good", "bad\n"));
    assert_eq!((ran.trailer.how, ran.trailer.why), (How::Exited(7), Why::Finished));
    assert!(ran.trailer.peak_memory > 0, "{:?}", ran.trailer);
    bed.gone(BOUND).await;
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let ran = run(&mut sandbox, &["sh", "-c", "seq 500000 | tee /dev/stderr"], b"").await;
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (3_388_895, 3_388_895));
    assert!(ran.stdout.ends_with("\n500000\n"));
}

#[tokio::test]
async fn a_sandbox_whose_owner_lets_go_of_its_stdin_is_gone_in_a_moment() {
    let bed = Bed::new();
    let armed = bed.arm(cage()).await;
    let mut running = bed.arm(cage()).await;
    running.stdin.write_all(&request(&["sleep", "1000"], b"", 50_000)).await.unwrap();
    running.stdin.flush().await.unwrap();
    // The streams are kept: closing stdin alone has to do it.
    drop((armed.stdin, running.stdin));
    let took = bed.gone(BOUND).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Sixty processes that spin in a tenth of a CPU. What they need to notice SIGKILL is theirs only without the quota.
const BOMB: &str = "i=0; while [ $i -lt 60 ]; do (trap '' TERM; while :; do :; done) & i=$((i+1)); done; wait";

#[tokio::test]
async fn a_throttled_fork_bomb_is_killed_in_a_moment() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(Cage { milli_cpus: 100, pids: 128, ..cage() }).await;
    sandbox.stdin.write_all(&request(&["sh", "-c", BOMB], b"", 50_000)).await.unwrap();
    sandbox.stdin.flush().await.unwrap();
    let meter = sandbox.meter.as_ref().expect("a meter, as the daemon is here");
    until("all sixty run", BOUND, async || meter.read().is_some_and(|usage| usage.pids >= 61)).await;
    let begun = Instant::now();
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    bed.gone(BOUND).await;
    let took = begun.elapsed();
    println!("killing a throttled fork bomb took {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn killing_what_is_gone_or_never_was_is_no_error() {
    let bed = Bed::new();
    let sandbox = bed.arm(cage()).await;
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    bed.gone(BOUND).await;
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    bed.engine.kill("there-never-was-such-a-sandbox").await.unwrap();
}

#[tokio::test]
async fn one_that_was_created_and_never_started_is_seen_and_killed_too() {
    let bed = Bed::new();
    let labels = [("brig.install".to_owned(), bed.install.clone()), ("brig.owner".to_owned(), "garbage".to_owned())];
    let body = ContainerCreateBody {
        image: Some(bed.image().await.id),
        cmd: Some(vec!["true".to_owned()]),
        labels: Some(labels.into()),
        ..ContainerCreateBody::default()
    };
    let created = bed.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap();
    let seen = bed.engine.sightings().await.unwrap();
    assert_eq!((seen.len(), &seen[0].engine_id), (1, &created.id));
    assert_eq!((seen[0].owner, &seen[0].sandbox), (None, &None));
    bed.engine.kill(&created.id).await.unwrap();
    assert!(bed.containers().await.is_empty());
}

#[tokio::test]
async fn arming_that_is_given_up_at_any_moment_leaves_nothing() {
    let bed = Bed::new();
    drop(bed.arm(cage()).await);
    let spec = bed.spec(cage()).await;
    for step in 0..12 {
        let id = bed.id();
        let arming = bed.engine.arm(&id, spec.clone());
        let _ = tokio::time::timeout(Duration::from_millis(step * 25), arming).await;
    }
    // A container may appear after nobody waits for it any more, so it is looked for a while.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        bed.gone(BOUND).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn arming_that_fails_leaves_nothing_and_says_why() {
    let bed = Bed::new();
    let problem = bed.try_arm(Cage { runtime: Some("no-such-runtime".to_owned()), ..cage() }).await.err().unwrap();
    assert!(problem.message.contains("no-such-runtime"), "{problem}");
    let problem = bed.try_arm(Cage { memory: 1024, ..cage() }).await.err().unwrap();
    assert!(problem.message.to_lowercase().contains("memory"), "{problem}");
    assert!(bed.containers().await.is_empty());
}

/// The bounds are far above what it takes; what it takes is printed.
#[tokio::test]
async fn arming_and_running_are_measured() {
    const TIMES: usize = 9;
    let bed = Bed::new();
    drop(bed.arm(cage()).await);
    let spec = bed.spec(cage()).await;
    let (mut armings, mut runs, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let begun = Instant::now();
        let mut sandbox = bed.engine.arm(&bed.id(), spec.clone()).await.unwrap();
        armings.push(begun.elapsed());
        let ran = run(&mut sandbox, &["sh", "-c", "echo hi"], b"").await;
        runs.push(ran.took);
        inside.push(Duration::from_micros(ran.trailer.wall_us));
    }
    for times in [&mut armings, &mut runs, &mut inside] {
        times.sort();
    }
    let middle = TIMES / 2;
    println!(
        "p50: arming {:?}, request to fences {:?}, of it in init {:?}",
        armings[middle], runs[middle], inside[middle]
    );
    assert!(armings[middle] < Duration::from_secs(10) && runs[middle] < Duration::from_secs(2));
}
