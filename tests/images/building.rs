//! Images that are built from a profile's `build`, based on one that the tests import.

use std::fs;

use serde_json::Value;

use crate::support::brig::{Brig, profile, text};
use crate::support::docker::{Bed, daemon, until};
use crate::support::registry::PATIENT;

/// The name of an image with a shell, which stays for other tests.
pub async fn base() -> String {
    let bed = Bed::new();
    let id = bed.image().await.id;
    let names = daemon().inspect_image(&id).await.unwrap().repo_tags.unwrap();
    names.into_iter().find(|name| name.starts_with("brig-userland:")).expect("a name of the base")
}

/// Places whose `shell` is built from `it` beside it, with this Dockerfile.
async fn with(dockerfile: &str) -> Brig {
    let brig = Brig::new();
    fs::create_dir_all(brig.path("c/profiles/it")).unwrap();
    fs::write(brig.path("c/profiles/it/Dockerfile"), dockerfile).unwrap();
    let build = format!("build = {{ context = \"./it\", args = {{ BASE = \"{}\" }} }}", base().await);
    let text = profile(&[
        ("image = \"brig.invalid/tests:1\"", &build),
        ("image_fallback = \"userland\"", "image_fallback = \"none\""),
    ]);
    brig.write_profile("shell", &text);
    brig
}

async fn rows(brig: &Brig) -> (Value, Vec<Value>) {
    let mut rows = brig.rows(&["image", "ls"]).await;
    let at = rows.iter().position(|row| row["profile"] == "shell").expect("the profile's image");
    let ours = rows.remove(at);
    (ours, rows.into_iter().filter(|row| row["profile"].is_null()).collect())
}

const GOOD: &str = "ARG BASE\nFROM ${BASE}\nARG WHO=nobody\nCOPY who /etc/who\nRUN cat /etc/who > /etc/built\n";

#[tokio::test]
async fn an_image_is_built_once_and_anew_when_its_content_changes() {
    let mut brig = with(GOOD).await;
    fs::write(brig.path("c/profiles/it/who"), "first").unwrap();
    brig.serve().await;
    brig.pool_is_full().await;
    let said = brig.run(&["cat", "/etc/built"]).await;
    assert_eq!(said.all(), (0, "first", ""));
    let (first, _) = rows(&brig).await;
    assert_eq!((&first["source"], text(&first, "image").starts_with("brig-build:shell-")), (&"built".into(), true));

    let said = brig.brig(&["image", "build", "shell"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.text().contains("Step ") && said.text().contains(text(&first, "id")), "not built again: {said:?}");

    let proposal = brig.propose(&["cat", "/etc/built"]).await;
    fs::write(brig.path("c/profiles/it/who"), "second").unwrap();
    let mut returned = Value::Null;
    until("what was asked for the older image is sent back", PATIENT, async || {
        returned = brig.json(&["show", text(&proposal, "id")]).await;
        returned["returned"].is_string() && returned["image_id"] != first["id"]
    })
    .await;
    assert_ne!(returned["digest"], proposal["digest"]);
    brig.approve(&returned).await;
    let said = brig.brig(&["wait", text(&proposal, "id")]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(brig.brig(&["logs", text(&proposal, "id")]).await.text(), "second");

    brig.pool_is_full().await;
    let (second, unused) = rows(&brig).await;
    assert_ne!(second["image"], first["image"]);
    assert!(unused.iter().any(|row| row["id"] == first["id"]), "{unused:?}");
}

#[tokio::test]
async fn a_step_that_fails_is_told_with_its_last_lines_until_it_is_mended() {
    let failing =
        "ARG BASE\nFROM ${BASE}\nRUN for n in 1 2 3; do echo line $n; done; echo no rule to make it >&2; exit 7\n";
    let mut brig = with(failing).await;
    brig.serve().await;
    let pool = brig.pool_is("failing").await;
    let error = &pool["last_error"];
    assert_eq!(error["code"], "image_unavailable");
    for part in ["`Step 3/", "RUN for n in", "returned a non-zero code: 7", "no rule to make it", "line 2 | line 3"] {
        assert!(text(error, "message").contains(part), "{part}: {error}");
    }
    assert!(text(error, "help").contains("mend the Dockerfile") && pool["retry_at"].is_number(), "{pool}");
    let said = brig.brig(&["image", "build"]).await;
    assert_eq!(said.code, 1);
    assert!(said.text().contains("line 2") && said.err.contains("non-zero code: 7"), "{said:?}");
    let said = brig.brig(&["--json", "run", "true"]).await;
    assert_eq!(said.json()["error"]["code"], "image_unavailable");

    fs::write(brig.path("c/profiles/it/Dockerfile"), "ARG BASE\nFROM ${BASE}\n").unwrap();
    brig.pool_is_full().await;
}

#[tokio::test]
async fn a_base_that_cannot_be_had_is_said_and_replaced_only_where_the_profile_allows_it() {
    let mut brig = with("FROM brig.invalid/base:1\n").await;
    brig.serve().await;
    let error = brig.pool_is("failing").await["last_error"].clone();
    assert!(text(&error, "message").contains("`Step 1/") && text(&error, "help").contains("build.args"), "{error}");
    let path = brig.path("c/profiles/shell.toml");
    let allowed =
        fs::read_to_string(&path).unwrap().replace("image_fallback = \"none\"", "image_fallback = \"userland\"");
    fs::write(&path, allowed).unwrap();
    brig.pool_is_full().await;
    assert_eq!(brig.pool().await["image_source"], "userland");
    let said = brig.brig(&["image", "build", "shell"]).await;
    assert!(
        said.code == 1 && said.err.contains("Step 1/"),
        "asked for by name, nothing is taken in its place: {said:?}"
    );
}

#[tokio::test]
async fn only_what_brig_has_made_and_nothing_uses_is_pruned() {
    let mut brig = with("ARG BASE\nFROM ${BASE}\nRUN echo first > /etc/built\n").await;
    brig.serve().await;
    brig.pool_is_full().await;
    let (first, _) = rows(&brig).await;
    let docker = daemon();
    let images = async || {
        let all = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.unwrap();
        all.into_iter().map(|image| image.id).collect::<Vec<_>>()
    };
    let none = brig.json(&["image", "prune"]).await;
    assert_eq!((&none["removed"], &none["bytes"]), (&Value::Array(Vec::new()), &0.into()), "all is used");

    fs::write(brig.path("c/profiles/it/Dockerfile"), "ARG BASE\nFROM ${BASE}\nRUN echo second > /etc/built\n").unwrap();
    until("the second is built", PATIENT, async || rows(&brig).await.0["image"] != first["image"]).await;
    brig.pool_is_full().await;
    let (second, _) = rows(&brig).await;
    // Sandboxes of the first may still be on their way out, and keep it.
    let mut removed = Value::Null;
    let would = brig.json(&["image", "prune", "--dry-run"]).await;
    assert_eq!(would["removed"][0]["id"], first["id"]);
    until("the first can be removed", PATIENT, async || {
        removed = brig.json(&["image", "prune"]).await;
        removed["removed"].as_array().is_some_and(|removed| !removed.is_empty())
    })
    .await;
    assert_eq!(removed["removed"][0]["image"], first["image"]);
    assert!(removed["bytes"].as_u64().unwrap() > 0, "{removed}");
    let left = images().await;
    assert!(!left.contains(&text(&first, "id").to_owned()) && left.contains(&text(&second, "id").to_owned()));
    assert!(daemon().inspect_image(&base().await).await.is_ok(), "what it was built from is nobody's to prune");
}

#[tokio::test]
async fn a_profile_is_pulled_or_built_as_it_says_and_an_unknown_one_is_named() {
    let mut brig = with("ARG BASE\nFROM ${BASE}\n").await;
    brig.serve().await;
    let said = brig.brig(&["image", "pull", "shell"]).await;
    assert!(said.code == 1 && said.err.contains("brig image build shell"), "{said:?}");
    let said = brig.brig(&["--json", "image", "build", "shel"]).await;
    assert_eq!((said.code, &said.json()["code"]), (1, &"unknown_profile".into()), "{said:?}");
    brig.write_profile("shell", &profile(&[]));
    until("the profile is read anew", PATIENT, async || rows(&brig).await.0["built_from"].is_null()).await;
    let said = brig.brig(&["image", "build", "shell"]).await;
    assert!(said.code == 1 && said.err.contains("brig image pull shell"), "{said:?}");
}
