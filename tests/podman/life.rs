//! Arming, running, dying and killing on Podman.

use std::time::{Duration, Instant};

use brig::engine::{Engine as _, EngineEvent, Owner};
use brig_core::profile::Cage;
use brig_init::wire::{How, Why};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::support::docker::{BOUND, cage, request, run, send, until};
use crate::support::podman::Bed;

#[tokio::test]
async fn a_run_goes_to_both_fences_and_the_sandbox_is_gone_after_it() {
    let bed = Bed::new();
    let mut events = bed.engine.events();
    // The subscription is open when an event has come.
    let first = bed.arm(cage()).await;
    let mut sandbox = bed.arm(cage()).await;
    let ran = run(&mut sandbox, &["sh", "-c", "cat; echo bad >&2; exit 7"], b"good").await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("good", "bad\n"));
    assert_eq!((ran.trailer.how, ran.trailer.why), (How::Exited(7), Why::Finished));
    assert!(ran.trailer.peak_memory > 0, "{:?}", ran.trailer);
    println!("request to fences took {:?}", ran.took);
    drop((first, sandbox));
    let died = async {
        loop {
            if let EngineEvent::Died { engine_id } = events.next().await.expect("events").expect("an event") {
                return engine_id;
            }
        }
    };
    let died = tokio::select! { died = died => died, () = tokio::time::sleep(BOUND) => panic!("no event") };
    assert_eq!(died.len(), 64, "{died}");
    bed.podman.gone(BOUND).await;
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
async fn a_deadline_ends_what_does_not_end_by_itself() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let ran = send(&mut sandbox, &request(&["sh", "-c", "(trap '' TERM; sleep 1000) & sleep 1000"], b"", 500)).await;
    assert_eq!(ran.trailer.why, Why::Deadline, "{:?}", ran.trailer);
    bed.podman.gone(BOUND).await;
}

#[tokio::test]
async fn want_of_memory_is_told_by_init() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(Cage { memory: 48 << 20, ..cage() }).await;
    let ran = run(&mut sandbox, &["python3", "-I", "-c", "x = bytearray(200 << 20)"], b"").await;
    assert!(ran.trailer.oom_kills > 0, "{:?}", ran.trailer);
    bed.podman.gone(BOUND).await;
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
    let took = bed.podman.gone(BOUND).await;
    println!("owner's death to nothing left took {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Sixty processes that spin in a tenth of a CPU. What they need to notice SIGKILL is theirs only without the quota.
const BOMB: &str = "i=0; while [ $i -lt 60 ]; do (trap '' TERM; while :; do :; done) & i=$((i+1)); done; wait";

#[tokio::test]
async fn a_throttled_fork_bomb_is_killed_in_a_moment() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(Cage { milli_cpus: 100, pids: 128, ..cage() }).await;
    sandbox.stdin.write_all(&request(&["sh", "-c", BOMB], b"", 50_000)).await.unwrap();
    sandbox.stdin.flush().await.unwrap();
    let meter = sandbox.meter.as_ref().expect("a meter, as the service is here");
    until("all sixty run", BOUND, async || meter.read().is_some_and(|usage| usage.pids >= 61)).await;
    let begun = Instant::now();
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    until("its processes are gone", BOUND, async || meter.read().is_none_or(|usage| usage.pids == 0)).await;
    let took = begun.elapsed();
    bed.podman.gone(BOUND).await;
    println!("killing a throttled fork bomb took {took:?}, and until it was removed {:?}", begun.elapsed());
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn what_somebody_left_is_seen_in_every_state_and_killed() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    bed.podman.gone(BOUND).await;
    bed.engine.kill("there-never-was-such-a-sandbox").await.unwrap();

    sandbox = bed.arm(cage()).await;
    let image = bed.podman.says(&["images", "--quiet", "--no-trunc"]);
    let made = |state: &[&str]| {
        let mut args = state.to_vec();
        args.extend(["--label", "brig.install=test", "--label", "brig.owner=7:8", "--entrypoint", "sh"]);
        args.extend(["--ulimit", "nofile=64", "--ulimit", "nproc=64", "--network", "none", &image, "-c", "sleep 0"]);
        bed.podman.says(&args).lines().last().unwrap_or_default().to_owned()
    };
    let created = made(&["create"]);
    made(&["run", "--name", "ended"]);
    let ended = bed.podman.says(&["inspect", "--format", "{{.Id}}", "ended"]);
    bed.podman.says(&["create", "--name", "somebodys", &image, "true"]);

    let seen = bed.engine.sightings().await.unwrap();
    let mut ids: Vec<_> = seen.iter().map(|sighting| sighting.engine_id.clone()).collect();
    let mut expected = vec![sandbox.engine_id.clone(), created, ended];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    for sighting in &seen {
        let is_the_sandbox = sighting.engine_id == sandbox.engine_id;
        let owner =
            if is_the_sandbox { Owner { pid: std::process::id(), started: 42 } } else { Owner { pid: 7, started: 8 } };
        assert_eq!((sighting.owner, sighting.sandbox.is_some()), (Some(owner), is_the_sandbox));
        bed.engine.kill(&sighting.engine_id).await.unwrap();
    }
    until("only somebody else's is left", BOUND, async || bed.podman.containers().len() == 1).await;
}
