//! Several steps in one proposal: run one after another, stopped at the first failure, and told apart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::brig::{BOUND, Brig, text};
use crate::support::docker::until;

/// The kinds, exit statuses and signals of a run's steps.
fn ends(row: &Value) -> Vec<Value> {
    let end = |step: &Value| json!([step["kind"], step["exit_code"], step["signal"]]);
    row["end"]["steps"].as_array().unwrap().iter().map(end).collect()
}

async fn newest(brig: &Brig) -> Value {
    let rows = brig.rows(&["queue", "--all"]).await;
    rows.into_iter().max_by_key(|row| row["received_at"].as_i64()).unwrap()
}

#[tokio::test]
async fn steps_are_one_proposal_that_stops_at_the_first_failure() {
    let brig = Brig::ready().await;
    let second = "sh -c 'echo two >&2; exit 3'";
    let said = brig.run(&["--step", "echo one", "--step", second, "--step", "echo 'never seen'"]).await;
    assert_eq!((said.code, said.text()), (3, "one\n"), "{said:?}");
    assert_eq!(said.err, "two\n", "no headings where nobody watches");
    let row = newest(&brig).await;
    let id = text(&row, "id");
    assert_eq!(ends(&row), [json!(["exited", 0, null]), json!(["exited", 3, null]), json!(["skipped", null, null])]);
    assert_eq!((&row["end"]["step"], &row["end"]["exit_code"]), (&json!(1), &json!(3)));
    let bytes =
        |at: usize| (row["end"]["steps"][at]["stdout_bytes"].clone(), row["end"]["steps"][at]["stderr_bytes"].clone());
    assert_eq!((bytes(0), bytes(1), bytes(2)), ((json!(4), json!(0)), (json!(0), json!(4)), (json!(0), json!(0))));

    let shown = brig.brig(&["show", id]).await;
    for line in [
        "exited 3 in step 2 of 3",
        "  step 1    exited 0 after ",
        "  step 2    exited 3 after ",
        "  step 3    not run\n",
    ] {
        assert!(shown.text().contains(line), "{line} is missing in\n{}", shown.text());
    }
    assert_eq!(brig.brig(&["logs", id]).await.text(), "one\n");
    assert_eq!(brig.brig(&["logs", id, "--step", "1"]).await.all(), (0, "one\n", ""));
    assert_eq!(brig.brig(&["logs", id, "--step", "2"]).await.all(), (0, "", "two\n"));
    assert_eq!(brig.brig(&["logs", id, "--step", "3"]).await.all(), (0, "", ""));
    let beyond = brig.brig(&["logs", id, "--step", "4"]).await;
    assert_eq!(beyond.code, 2);
    assert!(beyond.err.contains("there is no step 4") && beyond.err.contains("has 3 steps"), "{beyond:?}");
    assert!(brig.brig(&["audit", "verify"]).await.code == 0);
}

#[tokio::test]
async fn steps_come_from_a_file_and_go_on_where_they_are_told_to() {
    let brig = Brig::ready().await;
    let path = brig.path("steps.toml");
    let steps = "keep_going = true
[[steps]]
argv = ['sh', '-c', 'echo $A; exit 4']
env = { A = 'first one' }
[[steps]]
argv = ['no-such-program']
[[steps]]
argv = ['sh', '-c', 'kill -TERM $$']
[[steps]]
argv = ['pwd']
cwd = '/tmp'
";
    std::fs::write(&path, steps).unwrap();
    let said = brig.run(&["--json", "--steps", path.to_str().unwrap()]).await;
    let answer = said.json();
    assert_eq!((said.code, &answer["exit_status"]), (4, &json!(4)), "the first failure's");
    assert_eq!(answer["stdout"], "first one\n/tmp\n");
    let step = |stdout: &str| json!({"stdout": stdout, "stderr": ""});
    assert_eq!(answer["step_output"], json!([step("first one\n"), step(""), step(""), step("/tmp\n")]));
    let wanted = [
        json!(["exited", 4, null]),
        json!(["exited", 127, null]),
        json!(["exited", null, 15]),
        json!(["exited", 0, null]),
    ];
    assert_eq!(ends(&answer), wanted);
    assert_eq!(answer["end"]["steps"][1]["note"], "No such file or directory");
}

#[tokio::test]
async fn the_step_that_runs_is_told_while_it_runs_and_named_when_it_is_ended() {
    let brig = Brig::ready().await;
    let running = brig.start(&["run", "--step", "true", "--step", "sleep 600", "--step", "true"]);
    let row = brig.waiting(1).await.remove(0);
    brig.approve(&row).await;
    let id = text(&row, "id");
    until("the second step is seen to run, although nothing is written", BOUND, async || {
        brig.json(&["show", id]).await["run"]["step"] == 1
    })
    .await;
    let table = brig.brig(&["ps", "--running"]).await;
    assert!(table.text().contains("(step 2 of 3)"), "{}", table.text());
    let table = brig.brig(&["queue", "--all"]).await;
    assert!(table.text().contains("running, step 2 of 3"), "{}", table.text());
    assert_eq!(brig.brig(&["kill", id]).await.code, 0);
    let said = running.said().await;
    assert_eq!(said.code, 113);
    assert!(said.err.contains("killed by ") && said.err.contains(" in step 2 of 3"), "{said:?}");
    let row = brig.json(&["show", id]).await;
    assert_eq!(
        ends(&row),
        [json!(["exited", 0, null]), json!(["stopped", null, null]), json!(["skipped", null, null])]
    );

    let said =
        brig.run(&["-t", "700ms", "--keep-going", "--step", "false", "--step", "sleep 600", "--step", "true"]).await;
    assert_eq!(said.code, 115);
    assert!(said.err.contains("deadline in step 2 of 3"), "{said:?}");
    let row = newest(&brig).await;
    assert_eq!(
        ends(&row),
        [json!(["exited", 1, null]), json!(["stopped", null, null]), json!(["skipped", null, null])]
    );

    let said = brig.run(&["--output-limit", "1k", "--step", "echo little", "--step", "yes", "--step", "true"]).await;
    assert_eq!(said.code, 116);
    assert!(said.err.contains("output in step 2 of 3: it wrote more than it may"), "{said:?}");
}

/// Opens its own output for reading, keeps what is there without taking it away (`tee` on the pipe), and writes it back.
const FORGER: &str = "import os, time
fd = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)
end = time.monotonic() + 0.5
seen = b''
while time.monotonic() < end and len(seen) < 4096:
    try:
        seen += os.read(fd, 4096)
    except BlockingIOError:
        pass
os.write(1, b'<' + seen + seen + bytes(range(256)) + b'>')
";

/// The program runs beside a second one, so that it can meet a mark on its way, in a real sandbox: whatever it read and
/// wrote, the step after it is what it is, and the end is init's.
#[tokio::test]
async fn a_program_that_reads_its_own_pipe_cannot_tell_of_another_step_or_end() {
    let brig = Brig::ready().await;
    let steps = json!({"steps": [
        {"argv": ["sh", "-c", "python3 -c \"$1\" & sleep 0.1", "sh", FORGER]},
        {"argv": ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; sleep 1"]},
        {"argv": ["sh", "-c", "echo last; exit 5"]},
    ]});
    let path = brig.path("steps.json");
    std::fs::write(&path, steps.to_string()).unwrap();
    let running = brig.start(&["run", "--json", "--steps", path.to_str().unwrap()]);
    let row = brig.waiting(1).await.remove(0);
    brig.approve(&row).await;
    let said = running.said().await;
    let answer = said.json();
    assert_eq!((said.code, &answer["end"]["step"]), (5, &json!(2)), "{answer}");
    assert_eq!(ends(&answer).len(), 3);
    assert_eq!(answer["step_output"][2], json!({"stdout": "last\n", "stderr": ""}));
}

#[tokio::test]
async fn what_a_step_leaves_running_serves_the_next_one_and_writes_into_it() {
    let brig = Brig::ready().await;
    let server = "sh -c '(until [ -e /tmp/asked ]; do sleep 0.01; done; echo served; : > /tmp/served) &'";
    let client = "sh -c ': > /tmp/asked; until [ -e /tmp/served ]; do sleep 0.01; done'";
    let said = brig.run(&["--json", "--step", server, "--step", client, "--step", "true"]).await;
    let answer = said.json();
    assert_eq!(said.code, 0, "{answer}");
    assert_eq!(answer["step_output"][1]["stdout"], "served\n", "it belongs to the step that was running");
}

#[tokio::test]
async fn steps_that_are_not_understood_are_refused_before_anybody_is_asked() {
    let brig = Brig::ready().await;
    for (args, words) in [
        (vec!["run", "--step", "make && make test"], "`&` would be for a shell"),
        (vec!["run", "--step", "true", "--step", "echo 'a"], "--step 2 `echo 'a`: a ' is never closed"),
        (vec!["run", "--step", "true", "ls"], "cannot be used with"),
        (vec!["run", "--steps", "/nowhere"], "cannot read /nowhere"),
        (vec!["run", "-i", "--steps", "-"], "both want the standard input"),
    ] {
        let said = brig.brig(&args).await;
        assert!(said.code != 0 && said.err.contains(words), "{args:?}: {said:?}");
    }
    let many: Vec<&str> = std::iter::once("run").chain(["--step", "true"].into_iter().cycle().take(130)).collect();
    let said = tokio::time::timeout(Duration::from_secs(30), brig.brig(&many)).await.unwrap();
    assert!(said.err.contains("64"), "{said:?}");
    assert_eq!(brig.rows(&["queue"]).await, Vec::<Value>::new());
}
