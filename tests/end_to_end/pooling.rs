//! What pools do, as far as users see it.

use serde_json::json;

use crate::support::brig::{BOUND, Brig, profile, text};
use crate::support::docker::{daemon, until};

#[tokio::test]
async fn a_drained_pool_starts_cold_and_says_so() {
    let brig = Brig::ready().await;
    let mut rows = Vec::new();
    for _ in 0..3 {
        // Each lasts until all three run, so that none finds the sandbox that replaces another's.
        rows.push(brig.propose(&["sleep", "600"]).await);
    }
    for row in &rows {
        brig.approve(row).await;
    }
    let mut colds = Vec::new();
    for row in &rows {
        let id = text(row, "id");
        until("it runs", BOUND, async || brig.json(&["show", id]).await["status"] == "running").await;
        colds.push(brig.json(&["show", id]).await["run"]["cold"].clone());
    }
    assert_eq!(colds[0], json!(false));
    assert!(colds[1..].contains(&json!(true)), "one warm sandbox was there for three runs: {colds:?}");
    let pool = brig.pool().await;
    assert!(pool["hits"].as_u64() >= Some(1) && pool["misses"].as_u64() >= Some(1), "{pool}");
    let shown = brig.brig(&["show", text(&rows[0], "id")]).await;
    assert!(shown.text().contains("(warm)"), "{shown:?}");
    let ids: Vec<_> = rows.iter().map(|row| text(row, "id")).collect();
    let killed = brig.brig(&[["kill"].as_slice(), &ids].concat()).await;
    assert_eq!(killed.code, 0, "{killed:?}");
    brig.pool_is_full().await;
}

#[tokio::test]
async fn a_changed_profile_replaces_its_pool_and_asks_anew() {
    let brig = Brig::ready().await;
    let before = brig.propose(&["true"]).await;
    let old = brig.containers().await;
    brig.write_profile("shell", &profile(&[("pids_limit = 64 ", "pids_limit = 32 ")]));
    let mut after = before.clone();
    until("it is asked anew", BOUND, async || {
        after = brig.json(&["show", text(&before, "id")]).await;
        after["digest"] != before["digest"]
    })
    .await;
    assert_eq!((text(&after, "status"), &after["cage"]["pids"]), ("waiting", &json!(32)));
    assert!(!text(&after, "returned").is_empty());
    let stale = brig.brig(&["--json", "approve", text(&before, "id"), "--digest", text(&before, "digest")]).await;
    assert_eq!((stale.code, &stale.json()["error"]["code"]), (1, &json!("digest_mismatch")));
    until("the pool is replaced", BOUND, async || {
        let now = brig.containers().await;
        now.len() == 1 && !old.contains(&now[0])
    })
    .await;
    brig.approve(&after).await;
    let said = brig.brig(&["wait", text(&after, "id")]).await;
    assert_eq!(said.code, 0, "{said:?}");
}

#[tokio::test]
async fn a_broken_profile_leaves_the_one_before_in_force() {
    let brig = Brig::ready().await;
    brig.write_profile("shell", "image = 3\n");
    until("the supervisor says so", BOUND, async || brig.log().contains("shell.toml:1:9")).await;
    let said = brig.run(&["echo", "as before"]).await;
    assert_eq!(said.all(), (0, "as before\n", ""));
}

#[tokio::test]
async fn a_sandbox_that_somebody_has_frozen_is_replaced_and_the_reason_is_shown() {
    let brig = Brig::ready().await;
    let frozen = brig.containers().await.remove(0);
    daemon().pause_container(&frozen).await.unwrap();
    until("there is another one", BOUND, async || {
        let now = brig.containers().await;
        now.len() == 1 && now[0] != frozen
    })
    .await;
    brig.pool_is_full().await;
    let said = brig.brig(&["pools"]).await;
    assert!(said.err.contains("did not answer within 5 s, so another one takes its place"), "{said:?}");
    let said = brig.run(&["echo", "well"]).await;
    assert_eq!(said.all(), (0, "well\n", ""));
}

#[tokio::test]
async fn a_pool_is_drained_and_resumed_by_hand() {
    let brig = Brig::ready().await;
    let said = brig.brig(&["pools", "drain", "shell"]).await;
    // What is being taken down may still be counted.
    assert!(said.code == 0 && said.text().starts_with("shell is drained: no unused sandbox is left, "), "{said:?}");
    until("no container is left", BOUND, async || brig.containers().await.is_empty()).await;
    let said = brig.brig(&["pools"]).await;
    assert!(said.text().contains("drained") && said.err.contains("none wanted: drained by "), "{said:?}");
    let said = brig.brig(&["pools", "resume", "shell"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    brig.pool_is_full().await;
    let journal = brig.brig(&["audit", "export"]).await;
    assert!(journal.text().contains("pool-ordered"), "{journal:?}");
}

#[tokio::test]
async fn a_sandbox_that_dies_unused_is_replaced() {
    let brig = Brig::ready().await;
    let old = brig.containers().await;
    let warm = brig.rows(&["ps"]).await.remove(0);
    let killed = brig.brig(&["kill", text(&warm, "id")]).await;
    assert_eq!(killed.code, 0, "{killed:?}");
    until("there is another one", BOUND, async || {
        let now = brig.containers().await;
        now.len() == 1 && now != old
    })
    .await;
    brig.pool_is_full().await;
}
