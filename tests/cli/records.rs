//! What was: proposed again, found again, exported; and what packagers and shells ask for.

use std::os::unix::fs::PermissionsExt as _;

use brig::api::wire::{FollowLine, ProposalDetail, ProposalRow, RunRow};
use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::proposal::{EndKind, OutputStream, VerdictKind};
use brig_core::time::Wall;
use serde_json::{Value, json};

use super::{brig, detail, line, output, said};
use crate::support::fake::{Answer, Fake, anna, decided, ended, row};

/// What was proposed once: with all that a proposal can have.
fn recorded() -> ProposalDetail {
    let mut value = serde_json::to_value(detail(ended("oldoldol", EndKind::Exited, Some(3), None, None))).unwrap();
    let all = json!({
        "full_reason": "look around",
        "steps": [
            { "argv": ["ls", { "base64": "/w==" }], "env": [["A", "b"], ["C", { "base64": "/w==" }]], "cwd": "/sandbox" },
            { "argv": ["pwd"], "cwd": "/tmp" },
        ],
        "keep_going": true, "stdin": "in", "timeout_ms": 5_000, "output_limit": 2_048,
        "files": [{ "path": "a", "mode": 420, "content": "x" }],
    });
    value.as_object_mut().unwrap().extend(all.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

/// The answer to a proposal that repeats it; `digest` is the digest's text.
fn repeated(row: ProposalRow, digest: Hash, change: impl Fn(&mut Value)) -> ProposalDetail {
    let mut value = serde_json::to_value(recorded()).unwrap();
    let row = serde_json::to_value(ProposalRow { digest, ..row }).unwrap();
    for name in ["verdict", "end", "run"] {
        value.as_object_mut().unwrap().remove(name);
    }
    value.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn profiles(timeout_ms: u64) -> Value {
    json!([{ "name": "shell", "description": "", "is_default": true, "timeout_ms": timeout_ms, "output_limit": 8_388_608 }])
}

#[tokio::test]
async fn again_proposes_the_same_and_is_that_command() {
    let digest = recorded().row.digest;
    let fake = Fake::start(move |what, _| match what {
        "GET /v1/proposals/old" => Answer::of(&recorded()),
        "GET /v1/profiles" => Answer::Value(profiles(60_000)),
        "POST /v1/proposals?follow=true&withdraw=true" => Answer::Lines(vec![
            line(ProposalRow { digest, ..row("new") }),
            output(0, OutputStream::Stdout, b"out"),
            line(ProposalRow { digest, ..ended("new", EndKind::Exited, Some(4), None, None) }),
        ]),
        "GET /v1/proposals/new" => Answer::of(&repeated(row("new"), digest, |_| {})),
        other => panic!("{other}"),
    });
    let said = brig(&fake, &["again", "old"]).await;
    assert_eq!((said.code, said.text(), said.err.as_str()), (4, "out", ""));
    let (_, body) = fake.asked().into_iter().find(|(what, _)| what.starts_with("POST")).unwrap();
    assert_eq!(
        body,
        json!({
            "profile": "shell", "reason": "again oldoldol: look around", "timeout_ms": 5_000, "output_limit": 2_048,
            "keep_going": true, "stdin": "in", "files": [{ "path": "a", "mode": 420, "content": "x" }],
            "steps": [
                { "argv": ["ls", { "base64": "/w==" }], "env": { "A": "b", "C": { "base64": "/w==" } } },
                { "argv": ["pwd"], "env": {}, "cwd": "/tmp" },
            ],
        })
    );
    let answer = brig(&fake, &["again", "old", "--json", "-r", "other", "-k", "k"]).await.json();
    assert_eq!(
        (&answer["id"], &answer["again_of"], &answer["same"]),
        (&json!("new"), &json!("oldoldol"), &json!(true))
    );
    assert_eq!((&answer["changed"], &answer["stdout"], &answer["exit_status"]), (&json!([]), &json!("out"), &json!(4)));
    let (_, body) = fake.asked().into_iter().rfind(|(what, _)| what.starts_with("POST")).unwrap();
    assert_eq!((&body["reason"], &body["key"]), (&json!("other"), &json!("k")));
}

#[tokio::test]
async fn again_says_what_is_not_the_same_any_more() {
    let other = Hash::of(b"other");
    let fake = Fake::start(move |what, body| match what {
        "GET /v1/proposals/old" => Answer::of(&recorded()),
        // The profile gives less time than then.
        "GET /v1/profiles" => Answer::Value(profiles(1_000)),
        "POST /v1/proposals?follow=false&withdraw=false" => {
            assert_eq!(body["timeout_ms"], 1_000);
            Answer::of(&repeated(row("new"), other, |new| {
                new["timeout_ms"] = json!(1_000);
                new["cage"]["memory"] = json!(1);
                new["image_id"] = json!("sha256:2");
            }))
        }
        other => panic!("{other}"),
    });
    let said = brig(&fake, &["again", "--detach", "old"]).await;
    assert_eq!((said.code, said.text()), (0, "new\n"));
    let words = "brig: new is not quite oldoldol again: image_id, memory, timeout_ms changed since (digest ";
    assert!(said.err.starts_with(words), "{said:?}");
    let answer = brig(&fake, &["again", "-d", "--json", "old"]).await.json();
    assert_eq!((&answer["same"], &answer["changed"]), (&json!(false), &json!(["image_id", "memory", "timeout_ms"])));
    assert_eq!(answer["id"], "new");
}

#[tokio::test]
async fn history_asks_for_what_is_wanted_and_goes_from_page_to_page() {
    let fake = Fake::start(|what, _| {
        let query = what.strip_prefix("GET /v1/history?").unwrap_or_else(|| panic!("{what}"));
        if query.ends_with("limit=1000") && !query.contains("before=") {
            let rows: Vec<ProposalRow> = (0..1000).map(|number| row(&format!("row{number:05}"))).collect();
            return Answer::Value(json!({ "proposals": rows, "more": true }));
        }
        if query.contains("before=row00999") {
            return Answer::Value(json!({ "proposals": [row("last")], "more": false }));
        }
        let rows = [decided("abc", VerdictKind::Rejected, anna(), ""), ended("def", EndKind::Lost, None, None, None)];
        Answer::Value(json!({ "proposals": rows, "more": true }))
    });
    let args = ["history", "-a", "b t", "-p", "shell", "-s", "finished", "-v", "approved", "-e", "lost", "-o", "anna"];
    let more = ["--since", "2026-11-21T00:00:00Z", "--until", "2026-11-22T00:00:00Z", "--before", "K3F9", "-n", "2"];
    let said = brig(&fake, &[&args[..], &more[..], &["rm -rf", "100%"]].concat()).await;
    let asked = fake.asked().remove(0).0;
    assert_eq!(
        asked,
        "GET /v1/history?text=rm+-rf+100%25&agent=b+t&profile=shell&status=finished&verdict=approved&end=lost&\
         operator=anna&since=1795219200000&until=1795305600000&before=k3f9&limit=2"
    );
    let lines: Vec<&str> = said.text().lines().collect();
    assert!(lines[0].starts_with("ID   CAME                 OUTCOME   BY    PROFILE  AGENT  COMMAND"), "{said:?}");
    assert!(lines[1].starts_with("abc  ") && lines[1].ends_with("rejected  anna  shell    bot    ls -la"), "{said:?}");
    assert_eq!(said.err, "brig: there are more; `--before def` gives the next of them\n");

    let all = brig(&fake, &["history", "-n", "5000", "--json"]).await.json();
    assert_eq!((all.as_array().unwrap().len(), &all[1000]["id"]), (1001, &json!("last")));
}

fn ran(id: &str) -> ProposalRow {
    let mut row = ended(id, EndKind::Exited, Some(0), None, None);
    let sandbox = SandboxId("k3f9-1".into());
    row.run = Some(RunRow { sandbox, cold: false, started_at: Wall(0), deadline_at: Wall(9), step: 0, steps: 1 });
    row
}

/// A run that writes `a`, an escape and a line end, then an error.
fn a_run() -> Fake {
    Fake::start(|what, _| match what {
        "GET /v1/proposals/abc/output?from=0&follow=false" => Answer::Lines(vec![
            line(ran("abc")),
            output(0, OutputStream::Stdout, b"a\x1b[2J\n"),
            output(1, OutputStream::Stderr, b"oops\xff"),
            line(ran("abc")),
        ]),
        "GET /v1/proposals/gap/output?from=0&follow=false" => {
            Answer::Lines(vec![line(ran("gap")), output(1, OutputStream::Stdout, b"x")])
        }
        "GET /v1/proposals/never/output?from=0&follow=false" => {
            Answer::Lines(vec![line(decided("never", VerdictKind::Rejected, anna(), ""))])
        }
        "GET /v1/proposals/fails/output?from=0&follow=false" => Answer::Lines(vec![
            line(ran("fails")),
            output(0, OutputStream::Stdout, b"x"),
            FollowLine::Problem(Problem::new(Code::JournalFailed, "it cannot be read")),
        ]),
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn an_export_is_bytes_lines_or_a_recording() {
    let fake = a_run();
    let said = brig(&fake, &["export", "abc", "-f", "raw"]).await;
    assert_eq!((said.code, said.out.as_slice(), said.err.as_str()), (0, b"a\x1b[2J\noops\xff".as_slice(), ""));
    let said = brig(&fake, &["export", "abc", "-f", "raw", "--stream", "stderr"]).await;
    assert_eq!(said.out, b"oops\xff");
    let said = brig(&fake, &["export", "abc"]).await;
    assert_eq!(said.text(), "out | a⟨U+001B⟩[2J\nerr | oops⟨xFF⟩\nerr   (no line end at its end)\n");
    let said = brig(&fake, &["export", "abc", "--format", "asciicast", "-s", "stdout"]).await;
    let lines: Vec<Value> = said.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["version"], lines.len()), (&json!(2), 2));
    assert_eq!(lines[1], json!([0.001, "o", "a⟨U+001B⟩[2J\r\n"]));
}

#[tokio::test]
async fn an_export_overwrites_nothing_and_leaves_no_half() {
    let fake = a_run();
    let file = fake.dir.path().join("run.txt");
    let name = file.to_str().unwrap();
    let said = brig(&fake, &["export", "abc", "-f", "raw", "-o", name, "--json"]).await;
    let answer = json!({ "id": "abc", "file": name, "format": "raw", "bytes": 11 });
    assert_eq!((said.code, said.json()), (0, answer));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    std::fs::write(&file, "precious").unwrap();
    let said = brig(&fake, &["export", "abc", "-o", name]).await;
    assert_eq!(
        (said.code, said.err.as_str()),
        (
            1,
            format!(
                "brig: error: {name} is there already\nhelp: name another file, or overwrite this one with --force\n"
            )
            .as_str(),
        )
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    // What fails midway costs nothing that was there, force or not.
    for id in ["gap", "never", "fails"] {
        let said = brig(&fake, &["export", id, "-o", name, "--force"]).await;
        assert_eq!((said.code, std::fs::read(&file).unwrap().as_slice()), (1, b"precious".as_slice()), "{said:?}");
    }
    let said = brig(&fake, &["export", "abc", "-f", "raw", "-o", name, "--force"]).await;
    assert_eq!((said.code, std::fs::read(&file).unwrap().as_slice()), (0, b"a\x1b[2J\noops\xff".as_slice()));

    let said = brig(&fake, &["export", "never"]).await;
    assert!(said.err.starts_with("brig: error: proposal never never ran, so it wrote nothing: rejected\n"), "{said:?}");
    let said = brig(&fake, &["export", "abc", "-o", fake.dir.path().join("no/where").to_str().unwrap()]).await;
    assert!(said.err.starts_with("brig: error: cannot write ") && said.code == 1, "{said:?}");
    let said = brig(&fake, &["export", "abc", "--json"]).await;
    assert_eq!((said.code, &said.json()["error"]["code"]), (2, &json!("malformed")));
    let left: Vec<_> = std::fs::read_dir(fake.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with('.')), "{left:?}");
}

#[tokio::test]
async fn colours_are_where_they_are_wanted() {
    let fake = Fake::start(|what, _| match what {
        "GET /v1/snapshot" => {
            let mut all = super::snapshot();
            all["proposals"] = json!([ran("abc")]);
            Answer::Value(all)
        }
        _ => Answer::Problem(404, Problem::new(Code::NotFound, "no")),
    });
    let plain = brig(&fake, &["queue", "-a"]).await;
    assert!(!plain.text().contains('\x1b'), "{plain:?}");
    let wanted = brig(&fake, &["queue", "-a", "--color", "always"]).await;
    assert!(wanted.text().contains("\x1b[32mexited 0\x1b[0m"), "{wanted:?}");
    let with = async |name: &str, value: &str, args: &[&str]| {
        let mut command = fake.brig(args);
        command.env(name, value);
        said(command).await
    };
    assert_eq!(with("CLICOLOR_FORCE", "1", &["queue", "-a"]).await.text(), wanted.text());
    assert_eq!(with("CLICOLOR_FORCE", "1", &["queue", "-a", "--color=never"]).await.text(), plain.text());
    let error = with("CLICOLOR_FORCE", "1", &["show", "abc"]).await;
    assert!(error.err.starts_with("brig: \x1b[1;31merror:\x1b[0m no\n"), "{error:?}");
    let json = with("CLICOLOR_FORCE", "1", &["queue", "-a", "--json"]).await;
    assert_eq!(json.json()[0]["id"], "abc");
}

#[tokio::test]
async fn top_prints_once_where_there_is_no_terminal() {
    let fake = Fake::start(|what, _| {
        assert_eq!(what, "GET /v1/sandboxes");
        Answer::Value(super::snapshot()["sandboxes"].clone())
    });
    let said = brig(&fake, &["top"]).await;
    assert!(said.code == 0 && said.text().starts_with("ID      STATE    PROFILE  CPU"), "{said:?}");
    let rows = brig(&fake, &["top", "-r", "--json"]).await.json();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["state"]), (1, &json!("running")));
    let said = brig(&fake, &["ps", "--watch"]).await;
    assert!(said.code == 0 && said.text().lines().count() == 3, "{said:?}");
}

#[tokio::test]
async fn shells_get_a_script_that_asks_for_ids_and_profiles() {
    let fake = Fake::start(|what, _| match what {
        "GET /v1/history?limit=100" => {
            Answer::Value(json!({ "proposals": [row("abcdefgh"), row("bcdefghj")], "more": false }))
        }
        "GET /v1/proposals?status=waiting" => Answer::Value(json!([row("waitwait")])),
        "GET /v1/profiles" => Answer::Value(profiles(1)),
        other => panic!("{other}"),
    });
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = brig(&fake, &["completions", shell]).await;
        assert!(said.code == 0 && said.text().contains("BRIG_COMPLETE"), "{said:?}");
        let json = brig(&fake, &["completions", shell, "--json"]).await.json();
        assert_eq!((&json["shell"], json["script"].as_str()), (&json!(shell), Some(said.text())));
    }
    let offered = async |words: &[&str]| {
        let mut command = fake.brig(&[&["--"], words].concat());
        // As the script for bash asks.
        command.env("BRIG_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
        let said = said(command).await;
        assert_eq!(said.code, 0, "{said:?}");
        said.text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["brig", "show", "a"]).await, ["abcdefgh"]);
    assert_eq!(offered(&["brig", "approve", ""]).await.first().unwrap(), "waitwait");
    assert_eq!(offered(&["brig", "run", "--profile", "s"]).await, ["shell"]);
    assert_eq!(offered(&["brig", "hist"]).await, ["history"]);
}

#[tokio::test]
async fn packagers_get_a_page_for_every_command() {
    let nobody = Fake::nobody();
    let folder = nobody.dir.path().join("man/man1");
    let said = brig(&nobody, &["man", folder.to_str().unwrap()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("brig.1").contains(".TH brig 1") && page("brig.1").contains("brig\\-run(1)"));
    assert!(page("brig.1").contains("BRIG_STATE_DIR") && page("brig.1").contains("the proposal was rejected"));
    for name in ["brig-run.1", "brig-again.1", "brig-history.1", "brig-audit-verify.1"] {
        assert!(page(name).starts_with(".ie"), "{name}");
    }
    assert_eq!(said.text().lines().count(), std::fs::read_dir(&folder).unwrap().count());
    let said = brig(&nobody, &["man"]).await;
    assert_eq!(said.text(), page("brig.1"));
    let said = brig(&nobody, &["man", "--json", "/proc/nowhere"]).await;
    assert_eq!((said.code, &said.json()["error"]["code"]), (1, &json!("local_io")));
}
