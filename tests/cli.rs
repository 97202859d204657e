//! The command line against a supervisor that says what the test tells it to: what is printed, and how it exits.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use brig::api::wire::{FollowLine, ProposalDetail, ProposalRow};
use brig::engine::OutputStream;
use brig_core::blob::Blob;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Decider, EndKind, VerdictKind};
use brig_core::time::Wall;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::fake::{Answer, BOUND, Fake, anna, binary, decided, ended, row};

fn line(row: ProposalRow) -> FollowLine {
    FollowLine::Proposal(Box::new(row))
}

fn output(seq: u64, stream: OutputStream, data: &[u8]) -> FollowLine {
    FollowLine::Output { seq, at: Wall(1), stream, data: Blob(data.to_vec()) }
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
        &["wait", "abc", "-t", "soon"],
        &["run", "-e", "HOME", "true"],
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
        "POST /v1/proposals?follow=false&withdraw=false" => Answer::of(&row("abc")),
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
    assert_eq!((said.code, said.text()), (1, "abc killed\nk3f9-17 killed\nk3f9 killed\n"));
    assert_eq!(said.err, "brig: error: nothing has this name\n");
    let said = brig(&fake, &["kill", "--json", "nope", "abc"]).await;
    assert_eq!(said.json()[0]["error"]["code"], "not_found");
    assert_eq!(said.json()[1], json!({ "id": "abc", "killed": true }));
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

/// What a terminal shows of a command, until it shows `until`.
async fn terminal_shows(pty: &mut pty_process::Pty, until: &str) -> String {
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !String::from_utf8_lossy(&shown).contains(until) {
            let count = pty.read(&mut buffer).await.unwrap();
            shown.extend_from_slice(&buffer[..count]);
        }
    };
    let done = tokio::time::timeout(BOUND, reading).await;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(done.is_ok(), "the terminal never shows {until:?}, only {shown:?}");
    shown
}

fn at_terminal(fake: &Fake, args: &[&str]) -> (pty_process::Pty, tokio::process::Child) {
    at_terminal_with(fake, args, &[])
}

fn at_terminal_with(fake: &Fake, args: &[&str], env: &[(&str, &str)]) -> (pty_process::Pty, tokio::process::Child) {
    let (pty, pts) = pty_process::open().unwrap();
    pty.resize(pty_process::Size::new(40, 100)).unwrap();
    let command = pty_process::Command::new(binary()).args(args).env_clear().envs(fake.env()).kill_on_drop(true);
    let child = command.envs(env.iter().copied()).spawn(pts).unwrap();
    (pty, child)
}

#[tokio::test]
async fn approving_at_a_terminal_shows_all_of_it_and_asks() {
    for (answer, approves) in [("y\n", true), ("\n", false), ("n\n", false)] {
        let fake = Fake::start(|what, _| match what {
            "POST /v1/proposals/abc/verdict" => Answer::Value(json!({})),
            "GET /v1/proposals/abc" => Answer::of(&detail(row("abc"))),
            other => panic!("{other}"),
        });
        let (mut pty, mut child) = at_terminal(&fake, &["approve", "abc"]);
        let shown = terminal_shows(&mut pty, "Let it run? [y/N]").await;
        assert!(shown.contains("command     ls -la") && shown.contains(&row("abc").digest.hex()), "{shown}");
        pty.write_all(answer.as_bytes()).await.unwrap();
        terminal_shows(&mut pty, if approves { "abc approved" } else { "not approved" }).await;
        let status = tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(if approves { 0 } else { 1 }));
        let verdicts: Vec<_> = fake.asked().into_iter().filter(|(what, _)| what.ends_with("/verdict")).collect();
        assert_eq!(verdicts.len(), usize::from(approves));
        assert!(verdicts.iter().all(|(_, body)| body["digest"] == row("abc").digest.hex()));
    }
}

#[tokio::test]
async fn at_a_terminal_run_says_what_it_waits_for_and_takes_ctrl_c() {
    let fake = Fake::start(|what, _| match what {
        "POST /v1/proposals?follow=true&withdraw=true" => {
            Answer::Open(vec![output(0, OutputStream::Stdout, b"\x1b[2Jx\n"), line(row("abc"))])
        }
        "POST /v1/proposals/abc/withdraw" => Answer::Value(json!({})),
        "GET /v1/proposals/abc?wait_ms=4000" => {
            Answer::of(&detail(decided("abc", VerdictKind::Withdrawn, Decider::Agent, "")))
        }
        other => panic!("{other}"),
    });
    let (mut pty, mut child) = at_terminal(&fake, &["run", "true"]);
    let shown = terminal_shows(&mut pty, "abc waits for the operator (digest ").await;
    assert!(shown.contains("⟨U+001B⟩[2Jx"), "{shown}");
    pty.write_all(b"\x03").await.unwrap();
    terminal_shows(&mut pty, "brig: abc withdrawn by the agent").await;
    let status = tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(112));
}

#[tokio::test]
async fn a_console_that_cannot_start_a_supervisor_says_what_the_log_says() {
    let nobody = Fake::nobody();
    let (mut pty, mut child) = at_terminal_with(&nobody, &[], &[("BRIG_LOG", "a=b=c")]);
    let shown = terminal_shows(&mut pty, "shows the same in the foreground").await;
    assert!(
        shown.contains("the supervisor could not start (exit status: 1); it said: brig: error: BRIG_LOG"),
        "{shown}"
    );
    assert_eq!(tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap().code(), Some(1));

    std::fs::create_dir_all(nobody.dir.path().join("c")).unwrap();
    std::fs::write(nobody.dir.path().join("c/brig.toml"), "\nthme = \"dark\"\n").unwrap();
    let (mut pty, _child) = at_terminal(&nobody, &[]);
    let shown = terminal_shows(&mut pty, "help: known here").await;
    assert!(shown.contains("c/brig.toml:2:1: `thme` is no key, did you mean `theme`?"), "{shown}");
}
