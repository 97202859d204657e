//! Pulling from a real registry: what works, what is refused, and what is interrupted.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::brig::{Brig, profile, text};
use crate::support::docker::until;
use crate::support::registry::{Gate, Named, PATIENT, Registry, Then};

/// A profile of this image and nothing in its place.
fn of(image: &str) -> String {
    profile(&[
        ("image = \"brig.invalid/tests:1\"", &format!("image = \"{image}\"")),
        ("image_fallback = \"userland\"", "image_fallback = \"none\""),
    ])
}

/// A supervisor whose `shell` has this image. Its pool is not waited for.
async fn serving(image: &str) -> (Named, Brig) {
    let mut brig = Brig::new();
    brig.write_profile("shell", &of(image));
    brig.serve().await;
    // The name can only go when the sandboxes have.
    (Named(image.to_owned()), brig)
}

async fn row(brig: &Brig) -> Value {
    let rows = brig.rows(&["image", "ls"]).await;
    rows.into_iter().find(|row| row["profile"] == "shell").expect("the profile's image")
}

#[tokio::test]
async fn an_image_is_pulled_and_sandboxes_are_made_from_it() {
    let registry = Registry::start().await;
    registry.push("it", 100_000).await;
    let (_named, mut brig) = serving(&format!("{}/it:1", registry.address)).await;
    brig.pool_is_full().await;
    assert_eq!(brig.pool().await["image_source"], "pulled");
    let row = row(&brig).await;
    assert_eq!((&row["source"], &row["sandboxes"]), (&Value::from("pulled"), &Value::from(1)));
    assert!(text(&row, "id").starts_with("sha256:") && row["bytes"].as_u64().unwrap() >= 100_000, "{row}");

    let said = brig.brig(&["image", "ls"]).await;
    assert!(said.text().contains("pulled") && said.text().contains("1 sandbox"), "{said:?}");
    brig.kill_supervisor().await;
    brig.serve().await;
    brig.pool_is_full().await;
    assert_eq!(brig.pool().await["image_source"], "local", "it is not pulled again");
}

#[tokio::test]
async fn an_image_that_the_registry_has_not_is_one_clear_error_and_is_tried_until_it_is_there() {
    let registry = Registry::start().await;
    let (_named, brig) = serving(&format!("{}/it:1", registry.address)).await;
    let pool = brig.pool_is("failing").await;
    let error = &pool["last_error"];
    assert_eq!(error["code"], "image_unavailable", "{error}");
    assert!(text(error, "message").contains("/it:1 is not here and cannot be brought here"), "{error}");
    assert!(text(error, "help").contains("name and tag"), "{error}");
    assert!(pool["retry_at"].is_number(), "{pool}");
    let said = brig.brig(&["image", "pull", "shell"]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("not found") || said.err.contains("manifest unknown"), "{said:?}");

    registry.push("it", 1000).await;
    brig.pool_is_full().await;
}

#[tokio::test]
async fn a_registry_that_wants_a_login_is_asked_with_the_docker_clients() {
    let registry = Registry::start_with_login().await;
    registry.push("it", 1000).await;
    let image = format!("{}/it:1", registry.address);
    let (_named, mut brig) = serving(&image).await;
    let error = brig.pool_is("failing").await["last_error"].clone();
    assert!(text(&error, "message").contains("no basic auth"), "{error}");
    assert!(text(&error, "help").contains("docker login"), "{error}");

    // `ada:letmein`
    let directory = brig.path("home/.docker");
    std::fs::create_dir_all(&directory).unwrap();
    let wrong = format!(r#"{{"auths": {{"{}": {{"auth": "YWRhOndyb25n"}}}}}}"#, registry.address);
    std::fs::write(directory.join("config.json"), wrong).unwrap();
    let said = brig.brig(&["image", "pull", "shell"]).await;
    assert!(said.code == 1 && said.err.contains("docker login") && !said.err.contains("wrong"), "{said:?}");
    let right = format!(r#"{{"auths": {{"http://{}/": {{"auth": "YWRhOmxldG1laW4="}}}}}}"#, registry.address);
    std::fs::write(directory.join("config.json"), right).unwrap();
    let said = brig.brig(&["image", "pull", "shell"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.text().contains("(pulled)"), "{said:?}");
    brig.pool_is_full().await;
    brig.kill_supervisor().await;
    assert!(!brig.log().contains("letmein") && !brig.log().contains("YWRhOmxldG1laW4="));
}

#[tokio::test]
async fn a_login_that_a_program_keeps_is_asked_of_it() {
    let registry = Registry::start_with_login().await;
    registry.push("it", 1000).await;
    let image = format!("{}/it:1", registry.address);
    let _named = Named(image.clone());
    let mut brig = Brig::new();
    brig.write_profile("shell", &of(&image));
    std::fs::create_dir_all(brig.path("bin")).unwrap();
    let program = brig.path("bin/docker-credential-tests");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = '{}' ] && echo '{{\"Username\": \"ada\", \"Secret\": \"letmein\"}}'\n",
        registry.address
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", brig.path("bin").display(), std::env::var("PATH").unwrap());
    brig.set("PATH", path);
    std::fs::create_dir_all(brig.path("docker")).unwrap();
    let settings = format!(r#"{{"credHelpers": {{"{}": "tests"}}}}"#, registry.address);
    std::fs::write(brig.path("docker/config.json"), settings).unwrap();
    brig.set("DOCKER_CONFIG", brig.path("docker"));
    brig.serve().await;
    brig.pool_is_full().await;
}

#[tokio::test]
async fn a_supervisor_that_is_killed_in_the_middle_of_a_pull_leaves_what_the_next_one_finishes() {
    let registry = Registry::start().await;
    registry.push("it", 4_000_000).await;
    let gate = Gate::open(&registry, 1_000_000, Then::Hold).await;
    let image = format!("{}/it:1", gate.address);
    let (_named, mut brig) = serving(&image).await;
    gate.has_stopped().await;
    until("the pool says how far it is", PATIENT, async || {
        brig.pool().await["progress"].as_str().is_some_and(|text| text.contains(" MB"))
    })
    .await;
    assert_eq!(brig.pool().await["state"], "image");
    brig.kill_supervisor().await;
    gate.let_through();
    brig.serve().await;
    brig.pool_is_full().await;
    assert_eq!(brig.pool().await["image_source"], "pulled");
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_of_a_pull_is_no_end_of_it() {
    let registry = Registry::start().await;
    registry.push("it", 4_000_000).await;
    let gate = Gate::open(&registry, 1_000_000, Then::Cut).await;
    let (_named, brig) = serving(&format!("{}/it:1", gate.address)).await;
    gate.has_stopped().await;
    until("the pool is full", PATIENT, async || brig.pool().await["state"] == "ready").await;
    assert_eq!(brig.pool().await["image_source"], "pulled");
}

#[tokio::test]
async fn a_newer_image_sends_what_was_asked_for_the_older_one_back_to_ask() {
    let registry = Registry::start().await;
    registry.push("it", 1000).await;
    let (_named, brig) = serving(&format!("{}/it:1", registry.address)).await;
    brig.pool_is_full().await;
    let proposal = brig.propose(&["true"]).await;
    let before = text(&row(&brig).await, "id").to_owned();
    let (_older, brig) = (Named(before.clone()), brig);
    registry.push("it", 2000).await;
    let said = brig.brig(&["--json", "image", "pull"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let last: Value = serde_json::from_str(said.text().lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["profile"]), (&Value::from("done"), &Value::from("shell")));
    assert_ne!(last["id"], before.as_str());
    until("it is sent back", PATIENT, async || {
        let row = brig.json(&["show", text(&proposal, "id")]).await;
        row["returned"].as_str() == Some("the image has changed") && row["digest"] != proposal["digest"]
    })
    .await;
}
