//! A whole brig on Podman.

use std::time::Duration;

use brig::engine::Engine as _;
use brig::supervisor::process::host;

use crate::support::brig::{Brig, profile, text};
use crate::support::docker::{cage, until};
use crate::support::podman::{Bed, Podman};

#[tokio::test]
async fn a_whole_session_on_podman() {
    let podman = Podman::start();
    let mut brig = Brig::new();
    let toml = format!("[engine]\naddress = \"{}\"\n", podman.address());
    std::fs::write(brig.path("c/brig.toml"), toml).unwrap();
    brig.serve().await;
    brig.pool_is_full().await;
    let doctor = brig.brig(&["doctor"]).await;
    assert!(doctor.text().contains("Podman "), "{doctor:?}");
    let said = brig.run(&["sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!(said.all(), (3, "out\n", "err\n"));

    let row = brig.begin(&["sh", "-c", "while :; do :; done"]).await;
    let killed = brig.brig(&["kill", text(&row, "id")]).await;
    assert_eq!(killed.code, 0, "{killed:?}");
    assert_eq!(brig.brig(&["wait", text(&row, "id")]).await.code, 113);

    brig.begin(&["sleep", "600"]).await;
    brig.pool_is_full().await;
    brig.kill_supervisor().await;
    let took = podman.gone(Duration::from_secs(20)).await;
    println!("supervisor's death to nothing left took {took:?}");

    // Somebody who owned these is not there any more.
    let image = podman.says(&["images", "--quiet", "--no-trunc"]);
    let install = std::fs::read_to_string(brig.path("s/install")).unwrap();
    let labels =
        [format!("brig.install={}", install.trim()), format!("brig.host={}", host()), "brig.owner=1:1".to_owned()];
    let mut args = vec!["create"];
    args.extend(labels.iter().flat_map(|label| ["--label", label]));
    args.extend([image.as_str(), "true"]);
    let left = podman.says(&args);
    brig.serve().await;
    brig.pool_is_full().await;
    until("the reaper has removed it", Duration::from_secs(60), async || !podman.containers().contains(&left)).await;
    assert_eq!(brig.brig(&["stop"]).await.all(), (0, "stopped\n", ""));
    podman.gone(Duration::from_secs(20)).await;
}

/// As `build` in a profile names it.
#[tokio::test]
async fn an_image_is_built_by_podman() {
    let bed = Bed::new();
    let podman = &bed.podman;
    let base = bed.engine.resolve_image(&cage(), &|_| ()).await.unwrap().id;
    let base = base.trim_start_matches("sha256:");
    let mut brig = Brig::new();
    std::fs::write(brig.path("c/brig.toml"), format!("[engine]\naddress = \"{}\"\n", podman.address())).unwrap();
    std::fs::create_dir_all(brig.path("c/profiles/it")).unwrap();
    let dockerfile = format!("FROM {base}\nCOPY who /etc/who\n");
    std::fs::write(brig.path("c/profiles/it/Dockerfile"), dockerfile).unwrap();
    std::fs::write(brig.path("c/profiles/it/who"), "somebody").unwrap();
    let profile = profile(&[
        ("image = \"brig.invalid/tests:1\"", "build = { context = \"./it\" }"),
        ("image_fallback = \"userland\"", "image_fallback = \"none\""),
    ]);
    brig.write_profile("shell", &profile);
    brig.serve().await;
    brig.pool_is_full().await;
    assert_eq!(brig.run(&["cat", "/etc/who"]).await.all(), (0, "somebody", ""));
    assert_eq!(brig.brig(&["stop"]).await.all(), (0, "stopped\n", ""));
}
