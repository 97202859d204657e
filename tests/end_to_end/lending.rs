//! What a profile lends to its runs: directories of the host to read, and secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::brig::{BOUND, Brig, profile, text};
use crate::support::docker::{daemon, until};

const TOKEN: &str = "ghp_4f9d0c1b7e2a";
const OTHER: &str = "from-the-environment-77";

/// A brig whose profile mounts this, with `data` beside it for everybody to read.
async fn mounting(volumes: &str) -> Brig {
    let brig = unstarted();
    write(&brig, "user = ", &format!("volumes = [{volumes}]"));
    started(brig).await
}

/// Nothing runs, and the profile is as the other tests have it.
fn unstarted() -> Brig {
    let brig = Brig::new();
    let data = brig.path("c/profiles/data");
    std::fs::create_dir_all(data.join("below")).unwrap();
    std::fs::write(data.join("note"), "before\n").unwrap();
    for path in [brig.path(""), brig.path("c"), brig.path("c/profiles"), data] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    brig
}

/// A profile with these lines before the one that begins with `before`.
fn write(brig: &Brig, before: &str, lines: &str) {
    brig.write_profile("shell", &profile(&[(before, &format!("{lines}\n{before}"))]));
}

const AMONG_VARIABLES: &str = "HOME = ";

async fn started(mut brig: Brig) -> Brig {
    brig.serve().await;
    brig.pool_is_full().await;
    brig
}

#[tokio::test]
async fn a_mount_is_read_and_never_written() {
    let brig = mounting("\"./data:/data:ro\", \"./data/below:/sandbox/in/here:ro\"").await;
    let script = "cat /data/note; ls -A /sandbox/in/here; echo x > /data/note; rm /data/note; true > /sandbox/in/here/x; \
                  touch /data; echo over";
    let said = brig.run(&["sh", "-c", script]).await;
    assert_eq!((said.code, said.text()), (0, "before\nover\n"), "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 4, "{said:?}");
    assert_eq!(std::fs::read_to_string(brig.path("c/profiles/data/note")).unwrap(), "before\n");
}

#[tokio::test]
async fn a_review_says_what_is_mounted_and_that_it_can_change() {
    let brig = mounting("\"./data:/data:ro\"").await;
    let row = brig.propose(&["cat", "/data/note"]).await;
    let source = brig.path("c/profiles/data").canonicalize().unwrap();
    let shown = brig.brig(&["show", text(&row, "id")]).await;
    let mount = format!("{} at /data, read-only; its content can change", source.display());
    assert!(shown.text().contains(&mount), "{shown:?}");
    let detail = brig.json(&["show", text(&row, "id")]).await;
    assert_eq!(detail["cage"]["volumes"], json!([{ "source": source, "target": "/data" }]));

    // It does change, and the digest has nothing to say about that.
    std::fs::write(source.join("note"), "after\n").unwrap();
    brig.approve(&row).await;
    let said = brig.brig(&["wait", text(&row, "id")]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let logs = brig.brig(&["logs", text(&row, "id")]).await;
    assert_eq!(logs.text(), "after\n");
}

#[tokio::test]
async fn another_mount_asks_anew() {
    let brig = mounting("\"./data:/data:ro\"").await;
    let before = brig.propose(&["true"]).await;
    write(&brig, "user = ", "volumes = [\"./data/below:/data:ro\"]");
    until("it is asked anew", BOUND, async || {
        brig.json(&["show", text(&before, "id")]).await["digest"] != before["digest"]
    })
    .await;
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said_and_mended_by_making_it() {
    let mut brig = unstarted();
    write(&brig, "user = ", "volumes = [\"./later:/data:ro\"]");
    brig.serve().await;
    let mut pool = Value::Null;
    until("the pool says so", BOUND, async || {
        pool = brig.pool().await;
        pool["last_error"].is_object()
    })
    .await;
    let message = text(&pool["last_error"], "message");
    assert!(message.contains("/later, which is not there"), "{pool}");
    assert!(text(&pool["last_error"], "help").contains("volumes"), "{pool}");
    assert!(!brig.path("c/profiles/later").exists(), "the daemon makes no directory on its own");
    std::fs::create_dir(brig.path("c/profiles/later")).unwrap();
    brig.pool_is_full().await;
}

#[tokio::test]
async fn a_secret_reaches_the_run_and_nothing_else() {
    let mut brig = unstarted();
    write(&brig, AMONG_VARIABLES, "TOKEN = { file = \"./token\" }\nOTHER = { environment = \"LENT\" }");
    std::fs::write(brig.path("c/profiles/token"), format!("{TOKEN}\n")).unwrap();
    brig.set("LENT", OTHER);
    brig.set("NOT_LENT", "private-to-the-operator");
    let brig = started(brig).await;

    let container = brig.containers().await.remove(0);
    let inspected = daemon()
        .inspect_container(&container, None::<bollard::query_parameters::InspectContainerOptions>)
        .await
        .unwrap();
    let inspected = serde_json::to_string(&inspected).unwrap();
    assert!(!inspected.contains(TOKEN) && !inspected.contains(OTHER), "{inspected}");

    let script = "test ${#TOKEN} = 16 && test ${#OTHER} = 23 || exit 9; env; printf %s \"$TOKEN\" | cut -c1-8; \
                  echo \"$OTHER\" >&2; printf 'x%sy' \"$TOKEN\"";
    let said = brig.run(&["sh", "-c", script]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.text().contains("TOKEN=[secret TOKEN]\n"), "{said:?}");
    assert!(said.text().ends_with("x[secret TOKEN]y"), "{said:?}");
    assert_eq!(said.err.matches("[secret OTHER]").count(), 1, "{said:?}");
    assert!(!said.text().contains("NOT_LENT") && !said.text().contains("private"), "{said:?}");

    let row = brig.rows(&["queue", "--all"]).await.remove(0);
    let shown = brig.brig(&["show", text(&row, "id")]).await;
    assert!(shown.text().contains("TOKEN from the file "), "{shown:?}");
    assert!(shown.text().contains("OTHER from the variable LENT of the supervisor"), "{shown:?}");
    for args in [["show", "--json"], ["logs", "--raw"], ["logs", "--json"]] {
        let said = brig.brig(&[args[0], args[1], text(&row, "id")]).await;
        assert!(!said.text().contains(TOKEN) && !said.text().contains(OTHER), "{args:?}: {said:?}");
    }
    drop(brig.brig(&["stop"]).await);
    assert!(!holds(&brig.path("s"), TOKEN) && !holds(&brig.path("s"), OTHER), "in the journal");
    assert!(!brig.log().contains(TOKEN) && !brig.log().contains(OTHER), "{}", brig.log());
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_and_mended_by_writing_it() {
    let mut brig = unstarted();
    write(&brig, AMONG_VARIABLES, "TOKEN = { file = \"./token\" }");
    brig.serve().await;
    let mut pool = Value::Null;
    until("the pool says so", BOUND, async || {
        pool = brig.pool().await;
        pool["last_error"]["code"] == "secret_missing"
    })
    .await;
    assert!(text(&pool["last_error"], "message").contains("TOKEN"), "{pool}");
    std::fs::write(brig.path("c/profiles/token"), TOKEN).unwrap();
    brig.pool_is_full().await;

    // One that goes away while sandboxes are warm keeps a run waiting, and what it asks for is not lost.
    std::fs::remove_file(brig.path("c/profiles/token")).unwrap();
    let row = brig.propose(&["sh", "-c", "test ${#TOKEN} = 16"]).await;
    brig.approve(&row).await;
    until("the pool says so", BOUND, async || brig.pool().await["last_error"]["code"] == "secret_missing").await;
    std::fs::write(brig.path("c/profiles/token"), TOKEN).unwrap();
    let said = brig.brig(&["wait", text(&row, "id")]).await;
    assert_eq!(said.code, 0, "{said:?} {}", brig.log());
}

/// Whether a file in this directory has these bytes.
fn holds(directory: &Path, needle: &str) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, needle),
            false => memchr::memmem::find(&std::fs::read(path).unwrap_or_default(), needle.as_bytes()).is_some(),
        }
    })
}
