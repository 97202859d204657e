//! A whole session with a daemon that is not reached over its socket.

use std::time::Duration;

use crate::support::brig::{BOUND, Brig, profile, text};
use crate::support::docker::{Bed, until};
use crate::support::sshd::Sshd;
use crate::support::tls::{Authority, TlsDoor};

/// Proposes, approves, reads, kills, and sees to it that dying takes everything along.
async fn session(brig: &mut Brig) {
    // The one of the other tests: from this machine's own programs none is made for a daemon elsewhere.
    let image = Bed::new().image().await.id;
    brig.write_profile("shell", &profile(&[("brig.invalid/tests:1", &image)]));
    brig.serve().await;
    brig.pool_is_full().await;
    let said = brig.run(&["sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!(said.all(), (3, "out\n", "err\n"));
    let said = brig.run(&["sh", "-c", "seq 200000"]).await;
    assert_eq!((said.code, said.out.len()), (0, 1_288_895));

    let row = brig.begin(&["sh", "-c", "while :; do :; done"]).await;
    let killed = brig.brig(&["kill", text(&row, "id")]).await;
    assert_eq!(killed.code, 0, "{killed:?}");
    assert_eq!(brig.brig(&["wait", text(&row, "id")]).await.code, 113);

    brig.begin(&["sleep", "600"]).await;
    brig.pool_is_full().await;
    brig.kill_supervisor().await;
    until("the sandboxes of a dead owner are gone", Duration::from_secs(20), async || {
        brig.containers().await.is_empty()
    })
    .await;

    brig.serve().await;
    brig.pool_is_full().await;
    assert_eq!(brig.brig(&["stop"]).await.all(), (0, "stopped\n", ""));
}

#[tokio::test]
async fn a_daemon_behind_tls_serves_a_whole_session() {
    let authority = Authority::new();
    authority.sign("daemon", "DNS:localhost");
    authority.sign("operator", "DNS:operator");
    let door = TlsDoor::open(&authority, "daemon").await;
    let mut brig = Brig::new();
    let path = |name: &str| authority.path(name).display().to_string();
    let toml = format!(
        "[engine]\naddress = \"tcp://localhost:{}\"\ntls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}\n",
        door.address.port(),
        path("ca.pem"),
        path("operator.pem"),
        path("operator.key")
    );
    std::fs::write(brig.path("c/brig.toml"), toml).unwrap();
    session(&mut brig).await;
}

#[tokio::test]
async fn a_daemon_behind_ssh_serves_a_whole_session() {
    let sshd = Sshd::start();
    let mut brig = Brig::new();
    brig.set("PATH", sshd.path());
    brig.set("DOCKER_HOST", sshd.address());
    session(&mut brig).await;
    until("no ssh is left", BOUND, async || sshd.clients().is_empty()).await;
}
