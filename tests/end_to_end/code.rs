//! Code instead of a command, from the command line to the interpreter that waits for it.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::brig::{BOUND, Brig, Running, profile, text};
use crate::support::docker::until;

const PYTHON: &str = "[interpreter.python]\ncommand = [\"python3\", \"-I\"]\nprewarm = true\n";

/// With a supervisor whose `shell` profile runs python too, with its sandboxes ready.
async fn ready(interpreters: &str) -> Brig {
    let mut brig = Brig::new();
    brig.write_profile("shell", &format!("{}\n{interpreters}", profile(&[])));
    brig.serve().await;
    brig.pool_is_full().await;
    brig
}

#[tokio::test]
async fn code_from_a_file_runs_with_its_arguments_input_and_variables() {
    let brig = ready(PYTHON).await;
    let source = "import sys, os\nprint(sys.argv[1:], os.environ['A'], sys.stdin.read())\nsys.exit(3)\n";
    std::fs::write(brig.path("job.py"), source).unwrap();
    let mut command = brig.command(&["run", "-i", "-e", "A=b", "--code", "job.py", "--", "one", "two words"]);
    let mut running = Running::spawn(command.stdin(Stdio::piped()));
    let mut stdin = running.0.stdin.take().unwrap();
    stdin.write_all(b"input").await.unwrap();
    drop(stdin);
    let row = brig.waiting(1).await.remove(0);
    let line =
        "python one 'two words'› import sys, os⏎print(sys.argv[1:], os.environ['A'], sys.stdin.read())⏎sys.exit(3)⏎";
    assert_eq!((text(&row, "command"), &row["command_is_all"]), (line, &json!(false)));
    let shown = brig.brig(&["show", text(&row, "id")]).await;
    assert!(shown.text().contains("code in python\n") && shown.text().contains("| sys.exit(3)\n"), "{shown:?}");
    brig.approve(&row).await;
    assert_eq!(running.said().await.all(), (3, "['one', 'two words'] b input\n", ""));
}

#[tokio::test]
async fn code_from_the_standard_input_runs_and_its_errors_name_its_lines() {
    let brig = ready(PYTHON).await;
    let mut running = Running::spawn(brig.command(&["run", "--code", "-"]).stdin(Stdio::piped()));
    let mut stdin = running.0.stdin.take().unwrap();
    stdin.write_all(b"print(6 * 7)\nnothing()\n").await.unwrap();
    drop(stdin);
    let row = brig.waiting(1).await.remove(0);
    assert_eq!(row["command_is_all"], true, "all of it is on its line");
    brig.approve(&row).await;
    let said = running.said().await;
    assert_eq!((said.code, said.text()), (1, "42\n"));
    let trace =
        "Traceback (most recent call last):\n  File \"/sandbox/.code-1.py\", line 2, in <module>\n    nothing()\n";
    assert!(said.err.starts_with(trace), "{said:?}");
}

#[tokio::test]
async fn code_that_the_profile_cannot_run_is_refused_and_says_what_it_runs() {
    let brig = ready(PYTHON).await;
    std::fs::write(brig.path("job"), "1").unwrap();
    let said = brig.brig(&["run", "--language", "ruby", "--code", "job"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("profile `shell` has no interpreter for \"ruby\"\nhelp: it runs: python\n"), "{said:?}");
    let said = brig.brig(&["run", "--code", "/nowhere/job.py"]).await;
    assert!(said.err.contains("cannot read /nowhere/job.py: No such file"), "{said:?}");
    let said = brig.brig(&["run", "--code", "-", "-i"]).await;
    assert!(said.err.contains("both want the standard input"), "{said:?}");
    brig.write_profile("plain", &profile(&[]));
    until("the profile is there", BOUND, async || {
        let said = brig.brig(&["run", "-p", "plain", "--code", "job"]).await;
        said.err.contains("profile `plain` runs no code, as it declares no interpreter")
    })
    .await;
    brig.waiting(0).await;
}

#[tokio::test]
async fn a_pool_says_why_its_interpreter_does_not_stay_and_keeps_trying() {
    let mut brig = Brig::new();
    let dying = "[interpreter.python]\nprewarm = true\n\
                 command = [\"timeout\", \"-s\", \"KILL\", \"1\", \"python3\", \"-I\"]\n";
    brig.write_profile("shell", &format!("{}\n{dying}", profile(&[])));
    brig.serve().await;
    until("the pool says it, more than once", BOUND, async || {
        let pool = brig.pool().await;
        let error = &pool["last_error"];
        pool["failures"].as_u64().unwrap() >= 2
            && error["code"] == "interpreter_failed"
            && text(error, "message").starts_with("the interpreter of python ")
            && text(error, "message").contains("before any request")
    })
    .await;
    brig.write_profile("shell", &format!("{}\n{PYTHON}", profile(&[])));
    brig.pool_is_full().await;
}
