//! What was, used again.

use serde_json::json;

use crate::support::brig::{Brig, text};

#[tokio::test]
async fn a_run_is_found_exported_and_proposed_again() {
    let mut brig = Brig::ready().await;
    let script = "echo one; sleep 0.2; printf '\\033[31mtwo' >&2; exit 3";
    let said = brig.run(&["--reason", "the first time", "--", "sh", "-c", script]).await;
    assert_eq!(said.code, 3);
    // What only the journal remembers serves as well.
    brig.kill_supervisor().await;
    brig.serve().await;
    brig.pool_is_full().await;
    let rows = brig.rows(&["history", "--end", "exited", "PRINTF", "first"]).await;
    let first = rows[0].clone();
    let id = text(&first, "id");
    assert_eq!((rows.len(), text(&first, "status"), &first["end"]["exit_code"]), (1, "finished", &json!(3)));
    assert_eq!(brig.rows(&["history", "--end", "killed"]).await.len(), 0);

    let said = brig.brig(&["export", &id[..7], "-o", "run.cast", "-f", "asciicast"]).await;
    assert_eq!(said.all(), (0, "", ""));
    let cast = std::fs::read_to_string(brig.path("run.cast")).unwrap();
    let events: Vec<serde_json::Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[1][2], &events[2][2]), (&json!("one\r\n"), &json!("⟨U+001B⟩[31mtwo")));
    assert!(events[2][0].as_f64().unwrap() - events[1][0].as_f64().unwrap() > 0.1, "{cast}");

    let again = brig.start(&["again", id]);
    let waits = brig.waiting(1).await;
    assert_eq!(
        (text(&waits[0], "digest"), text(&waits[0], "command")),
        (text(&first, "digest"), text(&first, "command"))
    );
    assert_eq!(text(&waits[0], "reason"), format!("again {id}: the first time"));
    brig.approve(&waits[0]).await;
    let said = again.said().await;
    assert_eq!(said.all(), (3, "one\n", "\u{1b}[31mtwo"));
    assert_eq!(brig.rows(&["history"]).await.len(), 2);
}
