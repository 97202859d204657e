//! Meters, sightings, events, and a daemon that is away.

use std::time::{Duration, Instant};

use bollard::query_parameters::{RemoveImageOptions, TagImageOptionsBuilder};
use brig::engine::docker::DockerEngine;
use brig::engine::{Engine as _, EngineEvent, Owner};
use brig_core::problem::Code;
use brig_core::profile::Cage;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::support::docker::{BOUND, Bed, cage, request, run, settings, until};

#[tokio::test]
async fn the_daemon_says_who_it_is() {
    let info = Bed::new().engine.info().await.unwrap();
    assert!(info.name.starts_with("Docker "), "{info:?}");
    assert!(info.cpus >= 1 && info.memory > 1 << 20 && matches!(info.cgroup_version, 1 | 2), "{info:?}");
    assert!(info.address.contains("://") && info.api_version.starts_with("1."), "{info:?}");
}

#[tokio::test]
async fn a_daemon_that_is_away_is_a_problem_of_each_call_and_not_of_connecting() {
    let engine = DockerEngine::connect(settings("away", Some("unix:///nowhere/docker.sock"))).unwrap();
    let problems = [
        engine.info().await.err().unwrap(),
        engine.sightings().await.err().unwrap(),
        engine.kill("x").await.err().unwrap(),
        engine.resolve_image(&cage(), &|_| ()).await.err().unwrap(),
        engine.events().next().await.unwrap().err().unwrap(),
    ];
    for problem in problems {
        assert_eq!(problem.code, Code::EngineUnreachable, "{problem}");
        assert!(problem.help.contains("DOCKER_HOST"), "{problem}");
    }
}

#[tokio::test]
async fn a_daemon_that_comes_back_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let address = format!("unix://{}", socket.display());
    let engine = DockerEngine::connect(settings("away", Some(&address))).unwrap();
    assert_eq!(engine.info().await.err().unwrap().code, Code::EngineUnreachable);
    // Somebody listens, and is no daemon.
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        }
    });
    assert_eq!(engine.info().await.err().unwrap().code, Code::EngineProtocol);
    answering.abort();
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    engine.info().await.expect("the daemon behind the same address");
}

/// The clock jumps ahead whenever everything waits, so this takes no time.
#[tokio::test(start_paused = true)]
async fn a_daemon_that_never_answers_holds_nobody_up_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let address = format!("unix://{}", socket.display());
    let engine = DockerEngine::connect(settings("hangs", Some(&address))).unwrap();
    let begun = tokio::time::Instant::now();
    let calls = futures_util::future::join_all((0..20).map(|_| engine.kill("x"))).await;
    assert!(calls.iter().all(|call| call.as_ref().unwrap_err().code == Code::EngineTimeout), "{calls:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_meter_reads_what_a_program_uses_and_knows_its_end() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(Cage { milli_cpus: 500, ..cage() }).await;
    let meter = sandbox.meter.take().expect("a meter, as the daemon is here");
    let armed = meter.read().unwrap();
    assert_eq!((armed.memory_limit, armed.pids_limit), (128 << 20, 64));
    assert!(armed.pids >= 1 && armed.memory > 0, "{armed:?}");

    let script = "x = bytearray(40 << 20)\nwhile True: pass";
    sandbox.stdin.write_all(&request(&["python3", "-I", "-c", script], b"", 50_000)).await.unwrap();
    sandbox.stdin.flush().await.unwrap();
    until("the program shows", BOUND, async || {
        let now = meter.read().unwrap();
        now.cpu_us > armed.cpu_us + 200_000 && now.memory > 40 << 20 && now.pids > armed.pids
    })
    .await;

    let begun = Instant::now();
    for _ in 0..100 {
        meter.read().unwrap();
    }
    println!("reading a meter takes {:?}", begun.elapsed() / 100);

    bed.engine.kill(&sandbox.engine_id).await.unwrap();
    until("the meter says that it is over", BOUND, async || meter.read().is_none()).await;
}

#[tokio::test]
async fn what_is_there_is_seen_with_its_owner_and_nobody_elses() {
    let (bed, other) = (Bed::new(), Bed::new());
    let sandbox = bed.arm(cage()).await;
    let _others = other.arm(cage()).await;
    let seen = bed.engine.sightings().await.unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].engine_id, sandbox.engine_id);
    assert_eq!(seen[0].sandbox.as_ref().unwrap().0, "t0");
    assert_eq!(seen[0].owner, Some(Owner { pid: std::process::id(), started: 42 }));
    assert_eq!(seen[0].host, "test-host");
}

#[tokio::test]
async fn a_death_and_a_want_of_memory_are_told() {
    let bed = Bed::new();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let engine = bed.sibling();
    let listening = tokio::spawn(async move {
        let mut events = engine.events();
        while let Some(event) = events.next().await {
            let _ = sender.send(event.unwrap());
        }
    });
    let mut sandbox = bed.arm(Cage { memory: 32 << 20, ..cage() }).await;
    let ran = run(&mut sandbox, &["python3", "-I", "-c", "x = b'x' * (100 << 20)"], b"").await;
    assert!(ran.trailer.oom_kills > 0, "{:?}", ran.trailer);
    let id = sandbox.engine_id.clone();
    let mut missing =
        vec![EngineEvent::OutOfMemory { engine_id: id.clone() }, EngineEvent::Died { engine_id: id.clone() }];
    let hearing = async {
        while !missing.is_empty() {
            let event = receiver.recv().await.unwrap();
            // Other tests make images at the same time, but only this one's sandboxes are told here.
            assert!(matches!(event, EngineEvent::ImageChanged { .. }) || missing.contains(&event), "{event:?}");
            missing.retain(|one| *one != event);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), hearing).await.expect("both events");
    listening.abort();
}

#[tokio::test]
async fn a_name_that_means_another_image_is_told() {
    let bed = Bed::new();
    let image = bed.image().await;
    let reference = format!("{}:1", bed.install);
    let options = || Some(TagImageOptionsBuilder::new().repo(&bed.install).tag("1").build());
    let mut events = bed.engine.events();
    // The daemon tells from when it was asked, which is some time after the first poll.
    let telling = async {
        loop {
            bed.docker.tag_image(&image.id, options()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let told = async {
        while events.next().await.unwrap().unwrap() != (EngineEvent::ImageChanged { reference: reference.clone() }) {}
    };
    let hearing = async {
        tokio::select! { () = telling => (), () = told => () }
    };
    let heard = tokio::time::timeout(BOUND, hearing).await;
    bed.docker.remove_image(&reference, None::<RemoveImageOptions>, None).await.unwrap();
    heard.expect("the event");
}

#[tokio::test]
async fn a_daemon_behind_tcp_serves_as_well_but_has_no_meter() {
    let bed = Bed::new();
    let spec = bed.spec(cage()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let engine = DockerEngine::connect(settings(&bed.install, Some(&address))).unwrap();
    let mut sandbox = engine.arm(&bed.id(), spec.clone()).await.unwrap();
    assert!(sandbox.meter.is_none());
    assert_eq!(run(&mut sandbox, &["echo", "far"], b"").await.stdout, "far\n");
    let sandbox = engine.arm(&bed.id(), spec).await.unwrap();
    drop(sandbox.stdin);
    bed.gone(BOUND).await;
}
