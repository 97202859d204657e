//! What `brig run` gives to whoever started it.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::brig::{Brig, Running, text};
use crate::support::docker::until;

#[tokio::test]
async fn the_first_two_commands_of_a_user() {
    let mut brig = Brig::as_shipped();
    brig.serve().await;
    let running = brig.start(&["run", "--reason", "look around", "--", "ls", "-la", "/"]);
    let rows = brig.waiting(1).await;
    assert_eq!((text(&rows[0], "command"), text(&rows[0], "reason")), ("ls -la /", "look around"));
    assert_eq!((text(&rows[0], "status"), text(&rows[0], "profile")), ("waiting", "shell"));
    assert_eq!(text(&rows[0], "digest").len(), 64);
    let id = text(&rows[0], "id");
    let approved = brig.brig(&["approve", id, "--digest", &text(&rows[0], "digest")[..8]]).await;
    assert_eq!(approved.all(), (0, format!("{id} approved\n").as_str(), ""));
    let said = running.said().await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.text().starts_with("total ") && said.text().contains(" sandbox\n"), "{said:?}");
    assert_eq!(brig.rows(&["queue"]).await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn the_exit_status_is_the_programs() {
    let brig = Brig::ready().await;
    for (script, code, out, err) in [
        ("echo out; echo err >&2", 0, "out\n", "err\n"),
        ("exit 3", 3, "", ""),
        ("kill -9 $$", 137, "", ""),
        ("kill -15 $$", 143, "", ""),
        ("printf 'no end of line'; exit 255", 255, "no end of line", ""),
    ] {
        let said = brig.run(&["--", "sh", "-c", script]).await;
        assert_eq!(said.all(), (code, out, err), "{script}");
    }
    let said = brig.run(&["--", "no-such-program"]).await;
    assert_eq!(said.code, 127, "{said:?}");
    let said = brig.run(&["--", "/etc/passwd"]).await;
    assert_eq!(said.code, 126, "{said:?}");
}

#[tokio::test]
async fn a_run_gets_its_input_variables_and_directory() {
    let brig = Brig::ready().await;
    let mut command = brig.command(&[
        "run",
        "-i",
        "-e",
        "GREETING=hello there",
        "-C",
        "/tmp",
        "--",
        "sh",
        "-c",
        "echo $GREETING; pwd; id -u; cat",
    ]);
    let mut running = Running::spawn(command.stdin(Stdio::piped()));
    let mut stdin = running.0.stdin.take().unwrap();
    let input = [b"\x00\xff\x1b]".as_slice(), &vec![b'x'; 300_000]].concat();
    let wanted = [b"hello there\n/tmp\n65534\n".as_slice(), &input].concat();
    stdin.write_all(&input).await.unwrap();
    drop(stdin);
    let rows = brig.waiting(1).await;
    assert_eq!(rows[0]["command_is_all"], false, "there is more to it than its command");
    brig.approve(&rows[0]).await;
    let said = running.said().await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out == wanted, "{} bytes instead of {}", said.out.len(), wanted.len());
}

#[tokio::test]
async fn limits_end_a_run_and_are_told_apart() {
    let brig =
        Brig::ready_with(&[("mem_limit = \"128m\"", "mem_limit = \"32m\""), ("size = \"64m\"", "size = \"16m\"")])
            .await;
    let said = brig.run(&["--timeout", "500ms", "--", "sh", "-c", "echo begun; sleep 600"]).await;
    assert_eq!((said.code, said.text()), (115, "begun\n"), "{said:?}");
    assert!(said.err.contains("deadline"), "{said:?}");

    let said = brig.run(&["--output-limit", "1k", "--", "sh", "-c", "while :; do echo a line; done"]).await;
    assert_eq!(said.code, 116, "{said:?}");
    assert!(said.err.contains("output") && said.out.len() <= 1024, "{said:?}");

    let said = brig.run(&["--", "tail", "/dev/zero"]).await;
    assert_eq!(said.code, 117, "{said:?}");
    assert!(said.err.contains("memory"), "{said:?}");
}

#[tokio::test]
async fn ctrl_c_takes_back_what_waits_and_kills_what_runs() {
    let brig = Brig::ready().await;
    let running = brig.start(&["run", "true"]);
    let id = text(&brig.waiting(1).await[0], "id").to_owned();
    running.signal(Signal::INT);
    let said = running.said().await;
    assert_eq!(said.all(), (112, "", format!("brig: {id} withdrawn by the agent\n").as_str()));
    assert_eq!(brig.json(&["show", &id]).await["status"], "withdrawn");

    let mut running = brig.start(&["run", "sh", "-c", "echo begun; sleep 600"]);
    let row = brig.waiting(1).await.remove(0);
    brig.approve(&row).await;
    running.prints("begun").await;
    let sandboxes = brig.rows(&["ps", "--running"]).await;
    running.signal(Signal::INT);
    let said = running.said().await;
    assert_eq!(said.code, 113, "{said:?}");
    assert_eq!(brig.json(&["show", text(&row, "id")]).await["end"]["kind"], "killed");
    let engine_id = text(&sandboxes[0], "engine_id").to_owned();
    until("its container is gone", crate::support::brig::BOUND, async || !brig.containers().await.contains(&engine_id))
        .await;
}

#[tokio::test]
async fn a_run_whose_client_is_killed_is_ended_too() {
    let brig = Brig::ready().await;
    let mut waiting = brig.start(&["run", "true"]);
    let first = brig.waiting(1).await.remove(0);
    waiting.0.kill().await.unwrap();
    brig.waiting(0).await;
    assert_eq!(brig.json(&["show", text(&first, "id")]).await["status"], "withdrawn");

    let mut running = brig.start(&["run", "sh", "-c", "echo begun; sleep 600"]);
    let second = brig.waiting(1).await.remove(0);
    brig.approve(&second).await;
    running.prints("begun").await;
    running.0.kill().await.unwrap();
    let said = brig.brig(&["wait", text(&second, "id")]).await;
    assert_eq!(said.code, 113, "{said:?}");
}

#[tokio::test]
async fn what_is_detached_goes_on_and_is_found_again() {
    let brig = Brig::ready().await;
    let said = brig
        .brig(&["run", "--detach", "--", "sh", "-c", "echo first; read line < /dev/null; sleep 0.3; echo last"])
        .await;
    let id = said.text().trim().to_owned();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let row = brig.waiting(1).await.remove(0);
    assert_eq!(text(&row, "id"), id);
    let pending = brig.brig(&["wait", "--timeout", "50ms", &id]).await;
    assert_eq!((pending.code, pending.text()), (119, format!("{id} waiting\n").as_str()));

    let follow = brig.start(&["logs", "--follow", &id]);
    brig.approve(&row).await;
    let waited = brig.brig(&["wait", &id]).await;
    assert_eq!(waited.all(), (0, format!("{id} exited 0\n").as_str(), ""));
    assert_eq!(follow.said().await.all(), (0, "first\nlast\n", ""));
    assert_eq!(brig.brig(&["logs", &id]).await.all(), (0, "first\nlast\n", ""));
    let pieces = brig.rows(&["logs", &id]).await;
    let all: String = pieces.iter().map(|piece| text(piece, "data")).collect();
    assert_eq!(all, "first\nlast\n");
    assert!(pieces.iter().all(|piece| piece["type"] == "output" && piece["stream"] == "stdout"), "{pieces:?}");
}

#[tokio::test]
async fn with_json_run_answers_with_one_object() {
    let brig = Brig::ready().await;
    let said = brig.run(&["--json", "--", "sh", "-c", "echo out; printf '\\377' >&2; exit 5"]).await;
    let answer = said.json();
    assert_eq!((said.code, &answer["exit_status"], &answer["status"]), (5, &json!(5), &json!("finished")));
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&json!("out\n"), &json!({ "base64": "/w==" })));
    assert_eq!((&answer["end"]["kind"], &answer["verdict"]["kind"]), (&json!("exited"), &json!("approved")));
    assert_eq!(said.err, "");
}

#[tokio::test]
async fn the_same_key_is_the_same_proposal_and_another_content_is_refused() {
    let brig = Brig::ready().await;
    let first = brig.propose(&["--key", "k1", "true"]).await;
    let again = brig.propose(&["--key", "k1", "true"]).await;
    assert_eq!(first["id"], again["id"]);
    let other = brig.brig(&["--json", "run", "--detach", "--key", "k1", "false"]).await;
    assert_eq!((other.code, &other.json()["error"]["code"]), (1, &json!("key_conflict")));
    brig.waiting(1).await;
}
