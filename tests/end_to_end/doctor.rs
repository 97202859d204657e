//! `brig doctor`: what it finds, what it says to do, and that it leaves everything as it was.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::brig::{BOUND, Brig, profile, text};
use crate::support::docker::until;
use crate::support::fake_daemon;

/// One of the things that were looked at.
fn check<'a>(report: &'a Value, what: &str) -> &'a Value {
    let all = report["checks"].as_array().unwrap();
    all.iter().find(|check| check["what"] == what).unwrap_or_else(|| panic!("no {what} in {report}"))
}

async fn report(brig: &Brig, code: i32) -> Value {
    let said = brig.brig(&["--json", "doctor"]).await;
    assert_eq!((said.code, said.err.as_str()), (code, ""), "{said:?}");
    let report = said.json();
    assert_eq!(report["ok"], json!(code == 0), "{report}");
    report
}

/// Everything below a directory, with its size.
fn listing(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let facts = entry.metadata().unwrap();
        found.push((entry.path(), facts.len()));
        if facts.is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_doctor_finds_what_is_there_with_a_supervisor_and_without_and_changes_nothing() {
    let mut brig = Brig::new();
    let before = listing(&brig.path(""));
    let first = brig.json(&["doctor"]).await;
    assert_eq!(listing(&brig.path("")), before, "nothing was made");
    let engine = &first["engine"];
    assert!(text(engine, "name").starts_with("Docker ") && text(engine, "api_version").starts_with("1."), "{engine}");
    assert!(text(engine, "address").contains("://") && !text(engine, "origin").is_empty(), "{engine}");
    assert!(engine["runtimes"].as_array().unwrap().contains(&json!("runc")), "{engine}");
    assert!(matches!(engine["cgroup_version"].as_u64(), Some(1 | 2)), "{engine}");
    let image = check(&first, "image of shell");
    assert_eq!(image["status"], "warning", "no registry has it, and the userland may take its place: {image}");
    assert!(text(image, "help").contains("docker pull brig.invalid/tests:1"), "{image}");
    assert!(text(check(&first, "supervisor"), "message").contains("none runs"), "{first}");
    assert!(text(check(&first, "journal"), "message").contains("none yet"), "{first}");

    brig.serve().await;
    brig.pool_is_full().await;
    let second = report(&brig, 0).await;
    let supervisor = check(&second, "supervisor");
    assert!(text(supervisor, "message").contains(env!("CARGO_PKG_VERSION")), "{supervisor}");
    assert!(text(check(&second, "usage"), "message").contains("read live"), "{second}");
    assert!(text(check(&second, "init"), "message").contains("is there"), "{second}");
    assert!(text(check(&second, "journal"), "message").contains("opens"), "{second}");
    assert_eq!(brig.brig(&["stop"]).await.code, 0);
    until("the supervisor has closed its journal", BOUND, async || brig.supervisor().is_none()).await;

    let before = listing(&brig.path("s"));
    let said = brig.brig(&["doctor"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.text().contains("  ok      daemon: Docker ") && said.text().contains("it works, with "), "{said:?}");
    assert_eq!(listing(&brig.path("s")), before, "the journal was looked at, and nothing is left beside it");
}

#[tokio::test]
async fn the_doctor_says_how_to_mend_what_does_not_work() {
    let mut brig = Brig::new();
    brig.write_profile("odd", &profile(&[("network_mode = \"none\"", "network_mode = \"none\"\nruntime = \"runsx\"")]));
    let runtime = report(&brig, 1).await;
    let runtime = check(&runtime, "runtime of odd");
    assert_eq!(runtime["status"], "failed");
    assert!(text(runtime, "message").contains("`runsx`") && text(runtime, "help").contains("daemon.json"), "{runtime}");

    brig.set("DOCKER_HOST", format!("unix://{}", brig.path("nowhere.sock").display()));
    std::fs::write(brig.path("c/brig.toml"), "colour = 1\n").unwrap();
    std::fs::create_dir(brig.path("s")).unwrap();
    std::fs::write(brig.path("s/journal.db"), "this was never a journal, whatever it is called").unwrap();
    let broken = report(&brig, 1).await;
    assert_eq!(broken["engine"], Value::Null);
    for (what, help) in [("daemon", "start Docker"), ("brig.toml", "known here"), ("journal", "")] {
        let check = check(&broken, what);
        assert_eq!(check["status"], "failed", "{check}");
        assert!(check["help"].as_str().unwrap_or_default().contains(help), "{check}");
    }
    assert!(text(check(&broken, "address"), "message").contains("from DOCKER_HOST"), "{broken}");
}

#[tokio::test]
async fn a_context_that_names_nothing_is_one_clear_error() {
    let mut brig = Brig::new();
    brig.set("DOCKER_HOST", "");
    brig.set("DOCKER_CONTEXT", "produktion");
    let meta = brig.path("home/.docker/contexts/meta/x");
    std::fs::create_dir_all(&meta).unwrap();
    std::fs::write(meta.join("meta.json"), r#"{"Name":"production","Endpoints":{"docker":{"Host":"ssh://x"}}}"#)
        .unwrap();
    let said = brig.brig(&["serve"]).await;
    assert_eq!((said.code, said.text()), (1, ""), "{said:?}");
    for part in
        ["no docker context `produktion`", "DOCKER_CONTEXT", "did you mean `production`?", "default, production"]
    {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let report = report(&brig, 1).await;
    assert!(text(check(&report, "daemon"), "message").contains("`produktion`"), "{report}");
}

#[tokio::test]
async fn a_daemon_that_is_too_old_is_one_clear_error() {
    let mut brig = Brig::new();
    let socket = brig.path("old.sock");
    fake_daemon::too_old(&socket);
    brig.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let looked = report(&brig, 1).await;
    let support = check(&looked, "support");
    assert!(text(support, "message").contains("speaks version 1.40 of the API, brig needs 1.41"), "{support}");
    assert!(text(support, "help").contains("update Docker"), "{support}");
    assert_eq!(looked["engine"]["api_version"], "1.40", "it is shown all the same");

    brig.serve().await;
    brig.pool_is("away").await;
    let said = brig.brig(&["--json", "run", "true"]).await;
    let error = &said.json()["error"];
    assert_eq!((said.code, &error["code"]), (1, &json!("unsupported")));
    assert!(text(error, "message").contains("1.40") && text(error, "help").contains("update Docker"), "{error}");
    assert_eq!(brig.brig(&["stop"]).await.code, 0);
}
