//! The command line against a supervisor that says what the test tells it to: what is printed, and how it exits.

mod records;
mod terminal;

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use brig::api::wire::{FollowLine, ProposalDetail, ProposalRow};
use brig_core::blob::Blob;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Decider, EndKind, OutputStream, VerdictKind};
use brig_core::time::Wall;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::fake::{Answer, BOUND, Fake, anna, decided, ended, row};
use crate::support::schema::assert_printed;

fn line(row: ProposalRow) -> FollowLine {
    FollowLine::Proposal(Box::new(row))
}

fn output(seq: u64, stream: OutputStream, data: &[u8]) -> FollowLine {
    FollowLine::Output { seq, at: Wall(1), stream, step: 0, data: Blob(data.to_vec()) }
}

fn detail(row: ProposalRow) -> ProposalDetail {
    let cage = json!({
        "image": "busybox:1.37", "userland_fallback": false, "user": "65534:65534", "working_dir": "/sandbox",
        "environment": {}, "memory": 134_217_728, "milli_cpus": 1000, "cpu_shares": 1024, "pids": 64, "ulimits": {},
        "network": "none", "runtime": null, "scratch_size": 67_108_864, "scratch_exec": true,
    });
    let mut value = serde_json::to_value(&row).unwrap();
    let rest = json!({
        "full_reason": "look around", "steps": [{ "argv": ["ls", "-la"], "cwd": "/sandbox" }], "keep_going": false,
        "stdin": "", "files": [], "timeout_ms": 60_000, "output_limit": 8_388_608, "cage": cage, "image_id": "sha256:1",
    });
    value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

/// What a command printed, and how it exited.
#[derive(Debug)]
#[must_use]
struct Said {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Said {
    fn all(&self) -> (i32, &str, &str) {
        (self.code, self.text(), &self.err)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

async fn said(mut command: tokio::process::Command) -> Said {
    let done = tokio::time::timeout(BOUND, command.output()).await.expect("brig does not end").unwrap();
    let code = done.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", done.status.signal()));
    Said { code, out: done.stdout, err: String::from_utf8(done.stderr).unwrap() }
}

async fn brig(fake: &Fake, args: &[&str]) -> Said {
    said(fake.brig(args)).await
}

/// A supervisor that follows a proposal with these lines.
fn follows(lines: impl Fn() -> Vec<FollowLine> + Send + Sync + 'static) -> Fake {
    Fake::start(move |what, _| {
        assert_eq!(what, "POST /v1/proposals?follow=true&withdraw=true");
        Answer::Lines(lines())
    })
}

#[tokio::test]
async fn run_is_the_program_as_far_as_anybody_can_tell() {
    let fake = follows(|| {
        vec![
            line(row("abc")),
            FollowLine::Alive,
            output(0, OutputStream::Stdout, b"out\xff\x1b"),
            output(1, OutputStream::Stderr, b"err"),
            output(2, OutputStream::Stdout, b"\n"),
            line(ended("abc", EndKind::Exited, Some(3), None, None)),
        ]
    });
    let args =
        ["run", "-p", "shell", "--reason", "why", "-t", "5", "--output-limit", "1k", "-e", "A=b", "--", "ls", "-x"];
    let said = brig(&fake, &args).await;
    assert_eq!((said.code, said.out.as_slice(), said.err.as_str()), (3, b"out\xff\x1b\n".as_slice(), "err"));
    let (_, body) = fake.asked().remove(0);
    assert_eq!(
        body,
        json!({
            "profile": "shell", "reason": "why", "timeout_ms": 5000, "output_limit": 1024, "keep_going": false,
            "stdin": "", "files": [], "steps": [{ "argv": ["ls", "-x"], "env": { "A": "b" } }],
        })
    );
}

#[tokio::test]
async fn every_end_has_its_exit_code_and_its_words() {
    let killed = || ended("abc", EndKind::Killed, None, Some(9), Some("anna"));
    let ends: Vec<(i32, &str, ProposalRow)> = vec![
        (110, "brig: abc rejected by anna: not today\n", decided("abc", VerdictKind::Rejected, anna(), "not today")),
        (111, "brig: abc expired by the clock\n", decided("abc", VerdictKind::Expired, Decider::Clock, "")),
        (112, "brig: abc withdrawn by the agent\n", decided("abc", VerdictKind::Withdrawn, Decider::Agent, "")),
        (113, "brig: abc killed by anna\n", killed()),
        (114, "brig: abc lost\n", ended("abc", EndKind::Lost, None, None, None)),
        (115, "brig: abc deadline\n", ended("abc", EndKind::Deadline, None, Some(9), None)),
        (116, "brig: abc output\n", ended("abc", EndKind::Output, None, None, None)),
        (117, "brig: abc memory\n", ended("abc", EndKind::Memory, None, None, None)),
        (137, "", ended("abc", EndKind::Exited, None, Some(9), None)),
        (0, "", ended("abc", EndKind::Exited, Some(0), None, None)),
    ];
    for (code, words, end) in ends {
        let fake = follows(move || vec![line(row("abc")), line(end.clone())]);
        let said = brig(&fake, &["run", "true"]).await;
        assert_eq!((said.code, said.err.as_str()), (code, words));
    }
    let fake = follows(move || vec![output(0, OutputStream::Stdout, b"\xff"), line(killed())]);
    let said = brig(&fake, &["--json", "run", "true"]).await;
    let answer = said.json();
    assert_eq!((said.code, &answer["exit_status"], &answer["status"]), (113, &json!(113), &json!("finished")));
    assert_eq!((&answer["end"]["kind"], &answer["stdout"]), (&json!("killed"), &json!({ "base64": "/w==" })));
    assert_eq!(answer["stderr"], "");
}

#[tokio::test]
async fn what_is_refused_is_said_with_what_to_do() {
    let refuse = || Problem::new(Code::UnknownProfile, "no profile is called \"x\x1b\"").help("there is: shell");
    let fake = Fake::start(move |_, _| Answer::Problem(404, refuse()));
    let said = brig(&fake, &["run", "-p", "x", "true"]).await;
    assert_eq!(
        (said.code, said.err.as_str()),
        (1, "brig: error: no profile is called \"x⟨U+001B⟩\"\nhelp: there is: shell\n")
    );
    let said = brig(&fake, &["run", "--json", "true"]).await;
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    assert_eq!(said.json()["error"]["code"], "unknown_profile");

    let late =
        follows(|| vec![line(row("abc")), FollowLine::Problem(Problem::new(Code::ImageUnavailable, "no image"))]);
    let said = brig(&late, &["run", "true"]).await;
    assert_eq!((said.code, said.err.as_str()), (1, "brig: error: no image\n"));

    let cut = follows(|| vec![line(row("abc"))]);
    let said = brig(&cut, &["run", "true"]).await;
    assert_eq!(said.code, 118);
    assert!(said.err.starts_with("brig: error: the supervisor ended before abc was over\nhelp: "), "{said:?}");
}

#[tokio::test]
async fn without_a_supervisor_every_command_says_so() {
    let nobody = Fake::nobody();
    for args in [
        &["run", "true"][..],
        &["wait", "abc"],
        &["withdraw", "abc"],
        &["queue"],
        &["ps"],
        &["pools"],
        &["show", "abc"],
        &["logs", "abc"],
        &["approve", "abc", "--digest", "12345678"],
        &["reject", "abc", "--reason", "x"],
        &["kill", "abc"],
        &["stop"],
        &["again", "abc"],
        &["history"],
        &["top"],
        &["ps", "--watch"],
        &["export", "abc", "-o", "x"],
    ] {
        let said = brig(&nobody, args).await;
        assert_eq!(said.code, 118, "{args:?}: {said:?}");
        assert!(said.err.starts_with("brig: error: no supervisor answers at "), "{said:?}");
        let said = brig(&nobody, &[args, &["--json"]].concat()).await;
        // What follows run's command is the command's own.
        if args[0] != "run" {
            assert_eq!(said.json()["error"]["code"], "no_supervisor", "{args:?}");
        }
    }
}

#[tokio::test]
async fn bad_usage_is_2_in_words_and_in_json() {
    let nobody = Fake::nobody();
    for args in [
        &["run"][..],
        &["approve", "abc"],
        &["approve", "abc", "--digest", "1234567"],
        &["reject", "abc"],
        &["reject", "abc", "--reason", " "],
        &["kill", "../x"],
        &["pools", "drain", "../x"],
        &["pools", "set", "shell", "--min", "-1"],
        &["pools", "dran", "shell"],
        &["wait", "abc", "-t", "soon"],
        &["run", "-e", "HOME", "true"],
        &["history", "--since", "soon"],
        &["history", "--since", "1h", "--until", "2h"],
        &["history", "--end", "badly"],
        &["history", "-n", "0"],
        &["history", "-n", "10001"],
        &["top", "--every", "1ms"],
        &["export", "abc", "--force"],
        &["completions", "csh"],
        &["queue", "--color", "pink"],
        &["nonsense"],
        &[],
    ] {
        let said = brig(&nobody, args).await;
        assert_eq!(said.code, 2, "{args:?}: {said:?}");
        assert!(!said.err.is_empty() && said.out.is_empty(), "{said:?}");
        let said = brig(&nobody, &[&["--json"], args].concat()).await;
        assert_eq!(said.code, 2, "{args:?}");
        assert!(said.json()["error"]["message"].is_string(), "{args:?}");
    }
    let said = brig(&nobody, &["approve", "abc"]).await;
    assert!(said.err.contains("approving needs --digest\nhelp: look at it with `brig show abc`"), "{said:?}");
    let mut lost = nobody.brig(&["queue"]);
    lost.env_clear();
    let said = self::said(lost).await;
    assert!(said.err.starts_with("brig: error: HOME is not set"), "{said:?}");
}

#[tokio::test]
async fn stdin_is_sent_only_when_asked_for() {
    let fake = follows(|| vec![line(ended("abc", EndKind::Exited, Some(0), None, None))]);
    for args in [&["run", "-i", "cat"][..], &["run", "cat"]] {
        let mut child = fake.brig(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Without -i nobody reads it, and the process may be gone before it is written.
        let _ = stdin.write_all(b"in\xff").await;
        drop(stdin);
        assert!(tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap().success());
    }
    let stdins: Vec<Value> = fake.asked().into_iter().map(|(_, body)| body["stdin"].clone()).collect();
    assert_eq!(stdins, [json!({ "base64": "aW7/" }), json!("")]);
    let mut command = fake.brig(&["run", "-i", "cat"]);
    let file = fake.dir.path().join("big");
    std::fs::File::create(&file).unwrap().set_len((8 << 20) + 1).unwrap();
    command.stdin(std::fs::File::open(file).unwrap());
    let said = self::said(command).await;
    assert!(said.err.contains("more than 8388608 bytes"), "{said:?}");
}

#[tokio::test]
async fn detached_prints_the_identifier_and_wait_has_the_outcome() {
    let fake = Fake::start(|what, _| match what {
        "POST /v1/proposals?follow=false&withdraw=false" => Answer::of(&detail(row("abc"))),
        "GET /v1/proposals/abc?wait_ms=60000" => {
            Answer::of(&detail(ended("abc", EndKind::Exited, Some(0), None, None)))
        }
        "GET /v1/proposals/def?wait_ms=60000" => {
            Answer::of(&detail(decided("def", VerdictKind::Rejected, anna(), "no")))
        }
        other if other.starts_with("GET /v1/proposals/late?wait_ms=") => Answer::of(&detail(row("late"))),
        other => panic!("{other}"),
    });
    assert_eq!(brig(&fake, &["run", "--detach", "true"]).await.text(), "abc\n");
    let said = brig(&fake, &["wait", "abc", "DEF"]).await;
    assert_eq!((said.code, said.text()), (110, "abc exited 0\ndef rejected\n"));
    let said = brig(&fake, &["wait", "--json", "abc"]).await;
    assert_eq!((said.code, &said.json()[0]["status"]), (0, &json!("finished")));
    let said = brig(&fake, &["wait", "-t", "1ms", "late"]).await;
    assert_eq!((said.code, said.text()), (119, "late waiting\n"));
}

#[tokio::test]
async fn lists_are_tables_for_people_and_rows_for_programs() {
    let mut rows = vec![row("abc"), row("def")];
    rows[1].command = "cat ⟨U+202E⟩x".into();
    rows[1].command_is_all = false;
    let fake = Fake::start(move |what, _| match what {
        "GET /v1/proposals?status=waiting" => Answer::of(&rows),
        other => panic!("{other}"),
    });
    let said = brig(&fake, &["queue"]).await;
    let lines: Vec<&str> = said.text().lines().collect();
    assert!(lines[0].starts_with("ID   DIGEST    PROFILE  AGENT  WAITS"), "{lines:?}");
    assert!(lines[2].ends_with("(more) cat ⟨U+202E⟩x"), "{lines:?}");
    assert!(!said.text().contains('\x1b'));
    let said = brig(&fake, &["queue", "--json"]).await;
    let rows = said.json();
    for key in ["id", "digest", "status", "profile", "command"] {
        assert!(rows[0][key].is_string(), "{key}");
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_error() {
    let fake = Fake::start(|what, _| match what {
        "GET /v1/proposals?status=waiting" => Answer::of(&vec![row("abc"); 5000]),
        _ => Answer::Open(vec![output(0, OutputStream::Stdout, &[b'x'; 1 << 18])]),
    });
    for args in [&["queue"][..], &["run", "yes"], &["logs", "-f", "abc"]] {
        let mut child = fake.brig(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).await.unwrap();
        let done = tokio::time::timeout(BOUND, child.wait_with_output()).await.expect("brig does not end").unwrap();
        assert_eq!((done.status.code(), String::from_utf8(done.stderr).unwrap().as_str()), (Some(141), ""), "{args:?}");
    }
}

#[tokio::test]
async fn a_signal_withdraws_and_the_outcome_is_told() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        let mut fake = Fake::start(|what, _| match what {
            "POST /v1/proposals?follow=true&withdraw=true" => {
                Answer::Open(vec![line(row("abc")), output(0, OutputStream::Stdout, b"ready\n")])
            }
            "POST /v1/proposals/abc/withdraw" => Answer::Value(json!({})),
            "GET /v1/proposals/abc?wait_ms=4000" => {
                Answer::of(&detail(ended("abc", EndKind::Killed, None, Some(9), Some("agent bot"))))
            }
            other => panic!("{other}"),
        });
        let mut command = fake.brig(&["run", "sleep", "1000"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).await.unwrap();
        assert_eq!(first, "ready\n");
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let done = tokio::time::timeout(BOUND, child.wait_with_output()).await.expect("brig does not end").unwrap();
        assert_eq!(done.status.code(), Some(113));
        assert_eq!(String::from_utf8(done.stderr).unwrap(), "brig: abc killed by agent bot\n");
        assert!(fake.asked().iter().any(|(what, _)| what == "POST /v1/proposals/abc/withdraw"));
        fake.client_gone().await;
    }
}

#[tokio::test]
async fn a_signal_before_anything_was_recorded_withdraws_too() {
    let mut fake = Fake::start(|_, _| Answer::Open(Vec::new()));
    let mut command = fake.brig(&["--json", "run", "true"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fake.something_asked().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let done = tokio::time::timeout(BOUND, child.wait_with_output()).await.expect("brig does not end").unwrap();
    assert_eq!(done.status.code(), Some(112));
    let text = String::from_utf8(done.stdout).unwrap();
    let answer = assert_printed(&brig::cli::answers::document(), "run", &text);
    assert_eq!(answer, json!({ "id": null, "status": "withdrawn", "exit_status": 112 }));
    fake.client_gone().await;
}

#[tokio::test]
async fn arguments_that_are_not_utf_8_arrive_as_they_are() {
    let fake = follows(|| vec![line(ended("abc", EndKind::Exited, Some(0), None, None))]);
    let mut command = fake.brig(&["run", "-C", "/x y", "ls"]);
    command.arg(std::ffi::OsStr::from_bytes(b"a\xff"));
    assert_eq!(said(command).await.code, 0);
    let (_, body) = fake.asked().remove(0);
    assert_eq!(body["steps"], json!([{ "argv": ["ls", { "base64": "Yf8=" }], "env": {}, "cwd": "/x y" }]));
}

fn snapshot() -> Value {
    let sandbox = |id: &str, state: &str| {
        json!({
            "id": id, "engine_id": "0d12", "state": state, "profile": "shell", "since": 0,
            "usage": { "cpu_percent": 12.5, "memory": 2_097_152, "memory_limit": 134_217_728, "pids": 2, "pids_limit": 64,
                       "io_read": 0, "io_write": 0 },
        })
    };
    let problem = json!({ "code": "image_unavailable", "message": "no\u{1b}image", "help": "pull it" });
    json!({
        "supervisor": {
            "version": "1", "pid": 1, "host": "h", "started_at": 0, "default_profile": "shell",
            "ends_with_consoles": false, "consoles": 0,
            "engine_problem": { "problem": { "code": "engine_unreachable", "message": "gone" }, "since": 0 },
        },
        "proposals": [decided("old", VerdictKind::Rejected, anna(), "")],
        "sandboxes": [sandbox("k3f9-1", "warm"), sandbox("k3f9-2", "running")],
        "pools": [{
            "profile": "shell", "description": "", "state": "failing", "image": "busybox:1.37", "ready": 1, "arming": 0,
            "leased": 1, "min": 1, "target": 2, "max": 8, "wanted": 4, "waiting": 0, "hits": 5, "misses": 1, "failures": 3,
            "reason": "4 ready wanted: 2.1 runs a second, 0.9 s to arm one", "last_error": problem,
            "set": { "by": "an\u{1b}na", "since": 0 }, "replacing": { "left": 2, "by": "bob", "since": 0 },
            "latency": {
                "first_byte": { "hour": { "count": 9, "p50_us": 3140, "p95_us": 12_400, "p99_us": 20_000 } },
                "overhead": {}, "arming": {},
            },
        }],
    })
}

#[tokio::test]
async fn sandboxes_and_pools_are_listed_with_what_is_wrong_with_them() {
    let fake = Fake::start(|what, _| match what {
        "GET /v1/snapshot" => Answer::Value(snapshot()),
        "GET /v1/sandboxes" => Answer::Value(snapshot()["sandboxes"].clone()),
        other => panic!("{other}"),
    });
    let said = brig(&fake, &["ps"]).await;
    let rows: Vec<&str> = said.text().lines().collect();
    assert_eq!(rows.len(), 3);
    assert!(rows[1].starts_with("k3f9-1  warm     shell") && rows[1].contains("12%  2m/128m  2/64"), "{rows:?}");
    let running = brig(&fake, &["ps", "--running", "--json"]).await.json();
    assert_eq!((running.as_array().unwrap().len(), &running[0]["id"]), (1, &json!("k3f9-2")));
    for key in ["id", "engine_id", "state", "profile"] {
        assert!(running[0][key].is_string(), "{key}");
    }
    let said = brig(&fake, &["pools"]).await;
    assert!(
        said.text().contains("shell    failing  1      4       0       1       8    5/6   3.1 ms  12 ms  3 "),
        "{said:?}"
    );
    assert!(
        said.err.contains(
            "shell: 4 ready wanted: 2.1 runs a second, 0.9 s to arm one; min 1, target 2, max 8 set by an⟨U+001B⟩na"
        ),
        "{said:?}"
    );
    assert!(said.err.contains("; 2 still to be replaced, as bob asked"), "{said:?}");
    assert!(
        said.err.contains("the engine is away for ") && said.err.contains("shell: no⟨U+001B⟩image (pull it)"),
        "{said:?}"
    );
    let pools = brig(&fake, &["pools", "--json"]).await.json();
    assert_eq!((&pools[0]["ready"], &pools[0]["target"]), (&json!(1), &json!(2)));
    let said = brig(&fake, &["queue", "--all"]).await;
    assert!(said.text().lines().nth(1).unwrap().starts_with("old  rejected  shell"), "{said:?}");
}

/// A pool's row in this state.
fn pool(state: &str, ready: u32) -> Value {
    let mut pool = snapshot()["pools"][0].clone();
    pool["state"] = json!(state);
    pool["ready"] = json!(ready);
    pool["replacing"] = Value::Null;
    pool
}

#[tokio::test]
async fn a_drain_is_over_when_nothing_unused_is_left() {
    let looks = std::sync::atomic::AtomicU32::new(3);
    let fake = Fake::start(move |what, _| match what {
        "POST /v1/pools/shell" => Answer::Value(pool("draining", 3)),
        _ => {
            let ready = looks.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) - 1;
            let mut snapshot = snapshot();
            snapshot["pools"][0] = pool("draining", ready);
            Answer::Value(snapshot)
        }
    });
    let said = brig(&fake, &["pools", "drain", "shell"]).await;
    assert_eq!(said.all(), (0, "shell is drained: no unused sandbox is left, and 1 more end by themselves\n", ""));
    assert_eq!(fake.asked().len(), 4, "the order, and a look for each that was left");
    assert_eq!(fake.asked()[0].1, json!({"order": "drain"}));
}

#[tokio::test]
async fn pools_are_steered_by_words_and_what_is_wrong_is_said_once() {
    let fake = Fake::start(|what, body| match (what, body["order"].as_str()) {
        ("POST /v1/pools/shel", _) => {
            let message = "there is no profile `shel`, did you mean `shell`?";
            Answer::Problem(400, Problem::new(Code::UnknownProfile, message))
        }
        (_, Some("pause")) => Answer::Value(pool("paused", 2)),
        _ => Answer::Value(pool("ready", 2)),
    });
    let said = brig(&fake, &["pools", "set", "shell", "--min", "1", "--target", "2", "--max", "8"]).await;
    let words = "shell: min 1, target 2, max 8, until the supervisor ends or the profile's file changes\n";
    assert_eq!(said.all(), (0, words, ""));
    assert_eq!(fake.asked()[0].1, json!({"order": "set", "min": 1, "target": 2, "max": 8}));
    let said = brig(&fake, &["pools", "pause", "shell", "--json"]).await;
    assert_eq!(said.json()["state"], "paused");
    let said = brig(&fake, &["pools", "pause", "shell"]).await;
    assert_eq!(said.all(), (0, "shell is paused: 2 ready may still be used, and none are made\n", ""));
    let said = brig(&fake, &["pools", "resume", "shell"]).await;
    assert_eq!(said.all(), (0, "shell: 4 ready wanted: 2.1 runs a second, 0.9 s to arm one\n", ""));
    let said = brig(&fake, &["pools", "recycle", "shell"]).await;
    assert_eq!(said.all(), (0, "shell: all that were warm are replaced; 2 ready\n", ""));
    let said = brig(&fake, &["pools", "drain", "shel"]).await;
    assert_eq!((said.code, said.err.contains("did you mean `shell`?")), (1, true), "{said:?}");
}

#[tokio::test]
async fn what_an_agent_takes_back_is_said_and_stop_waits_for_the_end() {
    let stopping = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::start(move |what, _| match what {
        "POST /v1/proposals/abc/withdraw" | "POST /v1/shutdown" => Answer::Value(json!({})),
        "GET /v1/proposals/abc" => Answer::of(&detail(decided("abc", VerdictKind::Withdrawn, Decider::Agent, ""))),
        "GET /v1/snapshot" => match stopping.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Answer::Problem(503, Problem::new(Code::ShuttingDown, "ending")),
            _ => Answer::Problem(503, Problem::new(Code::NoSupervisor, "gone")),
        },
        other => panic!("{other}"),
    });
    let said = brig(&fake, &["withdraw", "abc"]).await;
    assert_eq!((said.code, said.text()), (0, "abc withdrawn\n"));
    let said = brig(&fake, &["stop"]).await;
    assert_eq!((said.code, said.text()), (0, "stopped\n"));
}

#[tokio::test]
async fn verdicts_carry_the_digest() {
    let digest = row("abc").digest.hex();
    let fake = Fake::start(|what, _| match what {
        "POST /v1/proposals/abc/verdict" => Answer::Value(json!({})),
        "GET /v1/proposals/abc" => Answer::of(&detail(row("abc"))),
        other => panic!("{other}"),
    });
    let said = brig(&fake, &["approve", "abc", "--digest", &digest[..8]]).await;
    assert_eq!((said.code, said.text()), (0, "abc approved\n"));
    let said = brig(&fake, &["reject", "abc", "--reason", "no"]).await;
    assert_eq!((said.code, said.text()), (0, "abc rejected\n"));
    let verdicts: Vec<Value> =
        fake.asked().into_iter().filter(|(what, _)| what.ends_with("/verdict")).map(|(_, body)| body).collect();
    assert_eq!(
        verdicts,
        [
            json!({ "digest": &digest[..8], "verdict": "approved", "reason": "" }),
            json!({ "digest": digest, "verdict": "rejected", "reason": "no" }),
        ]
    );
}

#[tokio::test]
async fn kill_takes_proposals_and_sandboxes_and_goes_on_after_a_failure() {
    let unknown = || Answer::Problem(404, Problem::new(Code::NotFound, "nothing has this name"));
    let fake = Fake::start(move |what, _| match what {
        "POST /v1/proposals/abc/kill" | "POST /v1/sandboxes/k3f9-17/kill" | "POST /v1/sandboxes/k3f9/kill" => {
            Answer::Value(json!({}))
        }
        _ => unknown(),
    });
    let said = brig(&fake, &["kill", "nope", "abc", "k3f9-17", "k3f9"]).await;
    assert_eq!((said.code, said.text()), (1, "abc is being killed\nk3f9-17 is being killed\nk3f9 is being killed\n"));
    assert_eq!(said.err, "brig: error: nothing has this name\n");
    let said = brig(&fake, &["kill", "--json", "nope", "abc"]).await;
    assert_eq!(said.json()[0]["error"]["code"], "not_found");
    assert_eq!(said.json()[1], json!({ "id": "abc", "being_killed": true }));
}

#[tokio::test]
async fn logs_are_whole_or_an_error() {
    let fake = Fake::start(|what, _| match what {
        "GET /v1/proposals/abc/output?from=0&follow=false" => Answer::Lines(vec![
            line(row("abc")),
            output(0, OutputStream::Stdout, b"a\xff"),
            output(1, OutputStream::Stderr, b"b"),
        ]),
        _ => Answer::Lines(vec![output(1, OutputStream::Stdout, b"late")]),
    });
    let said = brig(&fake, &["logs", "abc"]).await;
    assert_eq!((said.code, said.out.as_slice(), said.err.as_str()), (0, b"a\xff".as_slice(), "b"));
    let said = brig(&fake, &["logs", "abc", "--json"]).await;
    assert_eq!((said.json()[1]["data"].as_str(), said.json().as_array().unwrap().len()), (Some("b"), 2));
    let said = brig(&fake, &["logs", "gap"]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("piece 0 is missing"), "{said:?}");
}
