//! What `ssh` says when it gets nowhere.

use serde_json::{Value, json};

use crate::support::brig::{BOUND, Brig, text};
use crate::support::docker::until;
use crate::support::sshd::{Sshd, free_port};

/// What a proposal is told while the pool cannot reach its daemon.
async fn error(brig: &Brig) -> Value {
    let said = brig.brig(&["--json", "run", "true"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let error = said.json()["error"].clone();
    assert_eq!(error["code"], json!("engine_unreachable"), "{error}");
    error
}

#[tokio::test]
async fn ssh_that_gets_nowhere_is_told_in_its_own_words() {
    let sshd = Sshd::start();
    for (key, known, message, help) in [
        ("stranger", "known", "Permission denied (publickey)", "without a question"),
        ("client", "unknown", "Host key verification failed", "look at the key"),
    ] {
        sshd.write_ssh(key, known);
        let mut brig = Brig::new();
        brig.set("PATH", sshd.path());
        brig.set("DOCKER_HOST", sshd.address());
        brig.serve().await;
        brig.pool_is("away").await;
        let error = error(&brig).await;
        assert!(text(&error, "message").contains(message), "{error}");
        assert!(text(&error, "message").contains(&sshd.address()), "{error}");
        assert!(text(&error, "help").contains(help), "{error}");
        assert_eq!(brig.brig(&["stop"]).await.code, 0);
    }
    until("no ssh is left", BOUND, async || sshd.clients().is_empty()).await;
}

#[tokio::test]
async fn a_machine_without_a_server_or_without_docker_is_said_to_be_that() {
    let sshd = Sshd::start();
    let nobody = format!("ssh://127.0.0.1:{}", free_port());
    let no_socket = format!("{}/nowhere/docker.sock", sshd.address());
    for (address, message) in [(nobody, "Connection refused"), (no_socket, "/nowhere/docker.sock")] {
        let mut brig = Brig::new();
        brig.set("PATH", sshd.path());
        brig.set("DOCKER_HOST", address);
        brig.serve().await;
        brig.pool_is("away").await;
        let error = error(&brig).await;
        assert!(text(&error, "message").contains(message), "{error}");
    }
}
