//! What the commands print with `--json`, held against the schemas.

use std::collections::BTreeSet;
use std::process::Stdio;

use brig::api::wire::SandboxState;
use brig::cli::answers::{all, document};
use brig::engine::scripted::{Act, Script};
use brig_core::proposal::OutputStream;
use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::assert_committed;
use crate::support::fake::{BOUND, binary};
use crate::support::schema::{answer_of, assert_printed};
use crate::support::world::World;

const SCHEMA: &str = "docs/schema.json";

#[test]
fn the_schema_of_the_commands_is_what_the_code_says() {
    assert_committed(SCHEMA, &document());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_command_prints_is_what_its_schema_says() {
    let mut bench = Bench::new("").await;
    let row = bench.prints("run --detach", &["run", "--detach", "--key", "a", "ls"], 0).await;
    let (id, digest) = (text(&row, "id"), text(&row, "digest"));
    bench.prints("queue", &["queue"], 0).await;
    bench.prints("show", &["show", &id], 0).await;
    bench.prints("approve", &["approve", &id, "--digest", &digest], 0).await;
    bench.prints("wait", &["wait", &id], 0).await;
    bench.prints("show", &["show", &id], 0).await;
    bench.prints("logs", &["logs", &id], 0).await;
    bench.prints("logs --follow", &["logs", "--follow", &id], 0).await;
    let done = bench.prints("run", &["run", "--key", "a", "ls"], 0).await;
    assert_eq!(done["stderr"]["base64"], "/w==");
    let done = bench.prints("again --detach", &["again", "--detach", &id, "--key", "b"], 0).await;
    let (repeated, digest) = (text(&done, "id"), text(&done, "digest"));
    assert_eq!((text(&done, "again_of"), &done["same"]), (id.clone(), &Value::Bool(true)));
    bench.prints("approve", &["approve", &repeated, "--digest", &digest], 0).await;
    bench.prints("again", &["again", &id, "--key", "b"], 0).await;
    bench.prints("history", &["history", "--status", "finished"], 0).await;
    let file = bench.world.root().join("export").display().to_string();
    bench.prints("export", &["export", &id, "--output", &file], 0).await;
    bench.prints("completions", &["completions", "fish"], 0).await;
    bench.prints("man", &["man"], 0).await;
    bench.prints("man", &["man", &bench.world.root().join("man").display().to_string()], 0).await;

    let row = bench.prints("run --detach", &["run", "--detach", "hang"], 0).await;
    let (id, digest) = (text(&row, "id"), text(&row, "digest"));
    bench.prints("reject", &["reject", &id, "--reason", "no"], 0).await;
    let row = bench.prints("run --detach", &["run", "--detach", "hang", "on"], 0).await;
    bench.prints("withdraw", &["withdraw", &text(&row, "id")], 0).await;
    bench.prints("error", &["approve", &id, "--digest", &digest], 1).await;

    let row = bench.prints("run --detach", &["run", "--detach", "hang", "again"], 0).await;
    let (id, digest) = (text(&row, "id"), text(&row, "digest"));
    bench.prints("approve", &["approve", &id, "--digest", &digest], 0).await;
    bench.world.sees("a run", |all| all.sandboxes.iter().find(|it| it.state == SandboxState::Running).cloned()).await;
    bench.prints("ps", &["ps"], 0).await;
    bench.prints("top", &["top"], 0).await;
    bench.prints("pools", &["pools"], 0).await;
    bench.prints("kill", &["kill", &id, "zzzz-9"], 1).await;
    bench.prints("wait", &["wait", &id], 113).await;
    bench.prints("pools set", &["pools", "set", "shell", "--target", "2"], 0).await;
    bench.prints("pools recycle", &["pools", "recycle", "shell"], 0).await;
    bench.prints("pools pause", &["pools", "pause", "shell"], 0).await;
    bench.prints("pools", &["pools"], 0).await;
    bench.prints("pools drain", &["pools", "drain", "shell"], 0).await;
    bench.prints("pools resume", &["pools", "resume", "shell"], 0).await;
    bench.prints("queue", &["queue", "--all"], 0).await;
    bench.prints("image ls", &["image", "ls"], 0).await;
    bench.prints("image pull", &["image", "pull", "shell"], 0).await;
    bench.prints("image build", &["image", "build", "python"], 0).await;
    bench.prints("image prune", &["image", "prune"], 0).await;
    bench.prints("audit verify", &["audit", "verify"], 0).await;
    bench.prints("audit export", &["audit", "export"], 0).await;
    bench.prints("audit usage", &["audit", "usage"], 0).await;
    // Ready is what a supervisor of its own says. It has no daemon, and needs none for that.
    let other = tempfile::tempdir_in("/tmp").unwrap();
    let mut serving = bench.brig(&["serve"]);
    for (name, place) in [("BRIG_CONFIG_DIR", "c"), ("BRIG_STATE_DIR", "s"), ("BRIG_RUNTIME_DIR", "r")] {
        serving.env(name, other.path().join(place));
    }
    let daemon = format!("unix://{}", other.path().join("docker.sock").display());
    let mut serving = serving.env("DOCKER_HOST", daemon).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(serving.stdout.take().unwrap());
    tokio::time::timeout(BOUND, lines.read_line(&mut line)).await.expect("the supervisor is ready").unwrap();
    bench.is_described("serve", &line);
    serving.start_kill().unwrap();
    serving.wait().await.unwrap();
    let looking = bench.brig(&["doctor"]).env("DOCKER_HOST", "unix:///nonexistent").output().await.unwrap();
    assert_eq!(looking.status.code(), Some(1), "there is no daemon");
    bench.is_described("doctor", &String::from_utf8(looking.stdout).unwrap());
    bench.prints("stop", &["stop"], 0).await;
    bench.world.ended().await.unwrap();
    bench.world.leaves_nothing();
    let described: BTreeSet<_> = all().iter().map(|it| it.command).collect();
    let untried: Vec<_> = described.difference(&bench.tried).collect();
    assert!(untried.is_empty(), "nothing here runs {untried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_command_prints_when_it_fails_is_what_the_schema_says() {
    let mut bench = Bench::new("").await;
    for args in [
        &["show", "00000000"][..],
        &["wait", "00000000"],
        &["withdraw", "00000000"],
        &["approve", "00000000", "--digest", "00000000"],
        &["reject", "00000000", "--reason", "no"],
        &["logs", "00000000"],
        &["run", "--profile", "shel", "ls"],
    ] {
        bench.prints("error", args, 1).await;
    }
    for args in [&["nonsense"][..], &["run"], &["show", "../x"], &["wait", "a", "-t", "soon"], &["approve", "a"]] {
        bench.prints("error", args, 2).await;
    }
    bench.world.end().await;
}

/// A supervisor on the scripted engine, with the real binary in front of it.
struct Bench {
    world: World,
    schema: Value,
    tried: BTreeSet<&'static str>,
}

impl Bench {
    async fn new(profile: &str) -> Self {
        let world = World::with(profile, |settings| settings.allow_own_user = true).await;
        let acts = [Act::out("bin\netc\n"), Act::Say(OutputStream::Stderr, Bytes::from_static(&[0xff]))];
        world.engine.script("ls", Script::new(acts));
        world.engine.script("hang", Script::new([Act::Hang]));
        world.warm().await;
        Self { world, schema: document(), tried: BTreeSet::new() }
    }

    fn brig(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--json").args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let root = self.world.root();
        for (name, place) in [("BRIG_CONFIG_DIR", "config"), ("BRIG_STATE_DIR", "state"), ("BRIG_RUNTIME_DIR", "run")] {
            command.env(name, root.join(place));
        }
        command.env("HOME", root);
        command
    }

    /// Runs a command to its end, and gives what it printed: the last value of it.
    async fn prints(&mut self, what: &'static str, args: &[&str], exit: i32) -> Value {
        let done = tokio::time::timeout(BOUND, self.brig(args).output()).await.expect("brig does not end").unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(exit), "{args:?}: {text}");
        let last = self.is_described(what, &text);
        if what != "error" {
            assert_eq!(answer_of(args), what, "{args:?}");
        }
        last
    }

    fn is_described(&mut self, what: &'static str, text: &str) -> Value {
        self.tried.insert(what);
        assert_printed(&self.schema, what, text)
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}
