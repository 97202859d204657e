//! What an operator decides, and what agents hear of it.

use serde_json::{Value, json};

use crate::support::brig::{Brig, text};

#[tokio::test]
async fn a_rejection_reaches_the_agent_with_its_reason() {
    let brig = Brig::ready().await;
    let running = brig.start(&["run", "rm", "-rf", "/"]);
    let row = brig.waiting(1).await.remove(0);
    let id = text(&row, "id");
    let unexplained = brig.brig(&["reject", id]).await;
    assert_eq!(unexplained.code, 2, "{unexplained:?}");
    let said = brig.brig(&["reject", id, "--reason", "use a copy"]).await;
    assert_eq!(said.all(), (0, format!("{id} rejected\n").as_str(), ""));
    let said = running.said().await;
    assert_eq!(said.code, 110);
    assert!(
        said.err.starts_with(&format!("brig: {id} rejected by ")) && said.err.ends_with(": use a copy\n"),
        "{said:?}"
    );

    let late = brig.brig(&["--json", "approve", id, "--digest", text(&row, "digest")]).await;
    assert_eq!((late.code, &late.json()["error"]["code"]), (1, &json!("not_waiting")));
}

#[tokio::test]
async fn what_nobody_decides_expires() {
    let brig = Brig::ready_with(&[("expires = \"15m\"", "expires = \"1s\"")]).await;
    let said = brig.brig(&["run", "true"]).await;
    assert_eq!(said.code, 111, "{said:?}");
    assert!(said.err.ends_with("expired by the clock\n"), "{said:?}");
}

#[tokio::test]
async fn approving_needs_the_digest_of_what_was_looked_at() {
    let brig = Brig::ready().await;
    let row = brig.propose(&["true"]).await;
    let id = text(&row, "id");
    let unseen = brig.brig(&["approve", id]).await;
    assert_eq!(unseen.code, 2);
    assert!(unseen.err.contains("needs --digest") && unseen.err.contains(&format!("brig show {id}")), "{unseen:?}");
    let short = brig.brig(&["approve", id, "--digest", &text(&row, "digest")[..7]]).await;
    assert_eq!(short.code, 2, "{short:?}");
    let wrong = brig.brig(&["--json", "approve", id, "--digest", "00000000"]).await;
    assert_eq!((wrong.code, &wrong.json()["error"]["code"]), (1, &json!("digest_mismatch")));
    assert!(!text(&wrong.json()["error"], "message").is_empty());
    brig.waiting(1).await;

    let shown = brig.brig(&["show", id]).await;
    assert!(shown.text().contains(text(&row, "digest")), "{shown:?}");
    brig.approve(&row).await;
    assert_eq!(brig.brig(&["wait", id]).await.code, 0);
}

#[tokio::test]
async fn questions_keep_their_order_and_short_names_will_do() {
    let brig = Brig::ready().await;
    let first = brig.propose(&["echo", "first"]).await;
    let second = brig.propose(&["echo", "second"]).await;
    let third = brig.propose(&["echo", "third"]).await;
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&brig.waiting(3).await), ids(&[first.clone(), second.clone(), third.clone()]));
    brig.approve(&second).await;
    assert_eq!(brig.brig(&["wait", text(&second, "id")]).await.code, 0);
    assert_eq!(ids(&brig.rows(&["queue"]).await), ids(&[first.clone(), third.clone()]));
    assert_eq!(ids(&brig.rows(&["queue", "--all"]).await).len(), 3);

    // Six letters of eight: that two of three begin alike does not happen.
    let short = &text(&first, "id")[..6];
    let said = brig.brig(&["approve", short, "--digest", &text(&first, "digest")[..12]]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(brig.brig(&["wait", text(&first, "id")]).await.code, 0);
    assert_eq!(brig.brig(&["logs", short]).await.text(), "first\n");
    let unknown = brig.brig(&["--json", "show", "zzzzzzzz"]).await;
    assert_eq!((unknown.code, &unknown.json()["error"]["code"]), (1, &json!("not_found")));
}

#[tokio::test]
async fn a_run_is_killed_by_its_name_and_by_its_sandboxs() {
    let brig = Brig::ready().await;
    for by_sandbox in [false, true] {
        let running = brig.start(&["run", "sleep", "600"]);
        let row = brig.waiting(1).await.remove(0);
        brig.approve(&row).await;
        let id = text(&row, "id");
        crate::support::docker::until("it runs", crate::support::brig::BOUND, async || {
            brig.json(&["show", id]).await["status"] == "running"
        })
        .await;
        let sandbox = brig.rows(&["ps", "--running"]).await.remove(0);
        assert_eq!(
            (&sandbox["proposal"], &sandbox["state"], &sandbox["profile"]),
            (&row["id"], &json!("running"), &json!("shell"))
        );
        assert_eq!(text(&sandbox, "engine_id").len(), 64);
        let name = if by_sandbox { text(&sandbox, "id") } else { id };
        assert_eq!(brig.brig(&["kill", name]).await.all(), (0, format!("{name} is being killed\n").as_str(), ""));
        let said = running.said().await;
        assert_eq!(said.code, 113);
        assert!(said.err.starts_with(&format!("brig: {id} killed by ")), "{said:?}");
        let again = brig.brig(&["--json", "kill", id]).await;
        assert_eq!((again.code, &again.json()[0]["error"]["code"]), (1, &json!("not_running")));
    }
}

#[tokio::test]
async fn lists_are_arrays_of_objects_with_the_documented_fields() {
    let brig = Brig::ready().await;
    brig.propose(&["echo", "a b"]).await;
    let queue = brig.rows(&["queue"]).await;
    assert_eq!((text(&queue[0], "command"), text(&queue[0], "status")), ("echo 'a b'", "waiting"));
    let sandboxes = brig.rows(&["ps"]).await;
    assert_eq!(sandboxes.len(), 1);
    let sandbox = &sandboxes[0];
    assert_eq!((text(sandbox, "state"), text(sandbox, "profile")), ("warm", "shell"));
    assert!(!text(sandbox, "id").is_empty());
    assert_eq!(brig.containers().await, [text(sandbox, "engine_id")]);
    let pool = &brig.pool().await;
    assert_eq!((text(pool, "profile"), &pool["ready"], &pool["target"]), ("shell", &json!(1), &json!(1)));
    for (args, title) in [(["queue"], "DIGEST"), (["ps"], "MEMORY"), (["pools"], "WANTED")] {
        let table = brig.brig(&args).await;
        assert!(table.code == 0 && table.text().lines().next().unwrap().contains(title), "{table:?}");
    }
}

#[tokio::test]
async fn an_agent_takes_back_what_waits_and_what_runs() {
    let brig = Brig::ready().await;
    let row = brig.propose(&["true"]).await;
    let said = brig.brig(&["withdraw", text(&row, "id")]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(brig.brig(&["wait", text(&row, "id")]).await.code, 112);
    let row = brig.begin(&["sleep", "600"]).await;
    let said = brig.brig(&["withdraw", text(&row, "id")]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let said = brig.brig(&["wait", text(&row, "id")]).await;
    assert_eq!(said.code, 113);
    assert!(said.text().contains("killed by agent"), "{said:?}");
}
