//! What sandboxes use, where their control groups are not on this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};

use crate::support::brig::{BOUND, Brig, profile};
use crate::support::docker::{Bed, until};
use crate::support::tls::socket;

/// The daemon behind plain TCP, and how many streams of usage are open. Each call has a connection of its own there.
async fn door() -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, streams) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&streams);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let streams = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut far = UnixStream::connect(socket()).await.unwrap();
                let mut head = vec![0; 4096];
                let length = near.read(&mut head).await.unwrap_or(0);
                let is_stream = String::from_utf8_lossy(&head[..length]).contains("/stats?");
                far.write_all(&head[..length]).await.unwrap();
                streams.fetch_add(u32::from(is_stream), Ordering::SeqCst);
                let _ = copy_bidirectional(&mut near, &mut far).await;
                streams.fetch_sub(u32::from(is_stream), Ordering::SeqCst);
            });
        }
    });
    (address, streams)
}

#[tokio::test]
async fn usage_is_asked_of_a_daemon_elsewhere_only_for_what_runs_and_while_somebody_looks() {
    let (address, streams) = door().await;
    let mut brig = Brig::new();
    let image = Bed::new().image().await.id;
    brig.write_profile("shell", &profile(&[("brig.invalid/tests:1", &image)]));
    brig.set("DOCKER_HOST", format!("tcp://{address}"));
    brig.serve().await;
    brig.pool_is_full().await;
    brig.begin(&["sh", "-c", "while :; do :; done"]).await;
    brig.pool_is_full().await;
    until("who asks again and again is shown what is used", BOUND, async || {
        let running = brig.rows(&["ps", "--running"]).await;
        running.len() == 1 && running[0]["usage"]["cpu_percent"].as_f64() > Some(10.0)
    })
    .await;
    assert_eq!(streams.load(Ordering::SeqCst), 1, "only for what runs, although another one is warm");
    let rows = brig.rows(&["ps"]).await;
    assert_eq!(rows.iter().filter(|row| row["usage"].is_object()).count(), 1, "{rows:?}");
    let used = rows.iter().find(|row| row["usage"].is_object()).unwrap();
    assert!(used["usage"]["memory"].as_u64() > Some(0) && used["usage"]["pids_limit"] == 64, "{used}");
    until("nobody asks any more", Duration::from_secs(30), async || streams.load(Ordering::SeqCst) == 0).await;
    assert_eq!(brig.brig(&["stop"]).await.code, 0);
}
