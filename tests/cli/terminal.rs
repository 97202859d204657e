//! The command line at a real terminal: what it shows there, and what a person's keys do.

use std::sync::atomic::{AtomicU32, Ordering};

use brig::api::wire::FollowLine;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Decider, EndKind, OutputStream, VerdictKind};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{detail, line, output};
use crate::support::fake::{Answer, BOUND, Fake, binary, decided, ended, row};

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

/// It listens before it has written its token, and the console comes in between.
#[tokio::test]
async fn a_supervisor_that_has_written_no_token_yet_is_asked_again() {
    let asked = AtomicU32::new(0);
    let fake = Fake::start(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
        0..3 => Answer::Problem(401, Problem::new(Code::WrongToken, "the token is not the operator's")),
        _ => Answer::Problem(500, Problem::new(Code::Internal, "the token is known")),
    });
    let (mut pty, _child) = at_terminal(&fake, &[]);
    let shown = terminal_shows(&mut pty, "the token is known").await;
    assert!(!shown.contains("not the operator's"), "{shown}");
}

#[tokio::test]
async fn top_is_kept_up_to_date_and_gives_the_terminal_back() {
    for signal in [None, Some(rustix::process::Signal::TERM)] {
        let looks = AtomicU32::new(0);
        let fake = Fake::start(move |what, _| {
            assert_eq!(what, "GET /v1/sandboxes");
            match looks.fetch_add(1, Ordering::SeqCst) {
                0 => Answer::Value(json!([])),
                1 => Answer::Problem(503, Problem::new(Code::ShuttingDown, "it is \u{1b}ending")),
                _ => Answer::Value(super::snapshot()["sandboxes"].clone()),
            }
        });
        let (mut pty, mut child) = at_terminal_with(&fake, &["top", "--every", "100ms"], &[("TERM", "xterm")]);
        let shown = terminal_shows(&mut pty, "it is ⟨U+001B⟩ending").await;
        assert!(shown.contains("\x1b[?1049h") && shown.contains("brig  0 running, 0 warm, 0 other"), "{shown:?}");
        terminal_shows(&mut pty, "k3f9-2  \x1b[36mrunning\x1b[0m  shell").await;
        match signal {
            None => pty.write_all(b"q").await.unwrap(),
            Some(signal) => {
                let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
                rustix::process::kill_process(pid, signal).unwrap();
            }
        }
        terminal_shows(&mut pty, "\x1b[?1049l").await;
        let status = tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(if signal.is_some() { 143 } else { 0 }));
    }
}

#[tokio::test]
async fn raw_bytes_are_not_exported_to_a_terminal() {
    let fake = Fake::nobody();
    let (mut pty, mut child) = at_terminal(&fake, &["export", "abc", "--format", "raw"]);
    terminal_shows(&mut pty, "raw bytes could take this terminal over").await;
    assert_eq!(tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap().code(), Some(2));
}

#[tokio::test]
async fn each_step_has_a_heading_at_a_terminal_and_nowhere_else() {
    let lines = || {
        let at = |step, line| match line {
            FollowLine::Output { seq, at, stream, data, .. } => FollowLine::Output { seq, at, stream, step, data },
            other => other,
        };
        let mut done = ended("abc", EndKind::Exited, Some(0), None, None);
        done.run = None;
        vec![
            line(row("abc")),
            at(0, output(0, OutputStream::Stdout, b"no line end")),
            at(2, output(1, OutputStream::Stdout, b"third\n")),
            at(0, output(2, OutputStream::Stderr, b"late\n")),
            line(done),
        ]
    };
    let fake = Fake::start(move |_, _| Answer::Lines(lines()));
    let args = ["run", "--step", "make all", "--step", "true", "--step", "sh -c '\u{202e}x'"];
    let (mut pty, mut child) = at_terminal(&fake, &args);
    let shown = terminal_shows(&mut pty, "late").await.replace("\r\n", "\n");
    let wanted = "brig: step 1 of 3: make all\nno line end\nbrig: step 2 of 3: true\nbrig: step 3 of 3: sh -c ⟨U+202E⟩x\nthird\nlate";
    assert!(shown.replace('\'', "").contains(wanted), "{shown}");
    tokio::time::timeout(BOUND, child.wait()).await.unwrap().unwrap();

    let said = tokio::time::timeout(BOUND, fake.brig(&args).output()).await.unwrap().unwrap();
    assert_eq!(
        (said.stdout.as_slice(), said.stderr.as_slice()),
        (b"no line endthird\n".as_slice(), b"late\n".as_slice())
    );
    let (_, body) = fake.asked().remove(0);
    let steps = json!([{ "argv": ["make", "all"], "env": {} }, { "argv": ["true"], "env": {} }, { "argv": ["sh", "-c", "\u{202e}x"], "env": {} }]);
    assert_eq!((&body["steps"], &body["keep_going"]), (&steps, &json!(false)));
}
