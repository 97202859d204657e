//! What a person decides with keys.

use serde_json::json;

use crate::support::brig::{Brig, text};
use crate::support::screen::{ENTER, ESCAPE, Screen};

#[tokio::test]
async fn the_console_starts_a_supervisor_and_approves_rejects_and_kills() {
    let brig = Brig::new();
    let mut screen = Screen::open(&brig);
    screen.shows("No questions.").await;
    screen.shows("1/1").await;
    assert!(brig.supervisor().is_some(), "it has started one");

    let agent = brig.start(&["run", "--reason", "look around", "--", "echo", "a line of output"]);
    screen.asks("echo 'a line of output'").await;
    assert!(screen.line("echo 'a line").unwrap().contains("look around"));
    screen.approve(&brig).await;
    screen.shows("exit 0").await;
    screen
        .is("the output", |all| all.lines().any(|line| line.contains("a line of output") && !line.contains("echo")))
        .await;
    assert_eq!(agent.said().await.all(), (0, "a line of output\n", ""));

    let agent = brig.start(&["run", "rm", "-rf", "/"]);
    screen.asks("rm -rf /").await;
    screen.reject().await;
    screen.press(ENTER).await;
    screen.shows("the agent needs a reason").await;
    screen.press("better not").await;
    screen.shows("better not").await;
    screen.press(ENTER).await;
    screen.hides("Reason, which").await;
    let said = agent.said().await;
    assert_eq!(said.code, 110);
    assert!(said.err.ends_with(": better not\n"), "{said:?}");

    let agent = brig.start(&["run", "sh", "-c", "echo begun; sleep 600"]);
    screen.asks("sh -c 'echo begun; sleep 600'").await;
    screen.approve(&brig).await;
    screen.shows("1 running").await;
    screen.press("x").await;
    let said = agent.said().await;
    assert_eq!((said.code, said.text()), (113, "begun\n"), "{said:?}");
    screen.shows("killed").await;
    screen.shows("0 running").await;
}

#[tokio::test]
async fn a_command_is_seen_to_its_end_before_it_is_approved() {
    let brig = Brig::ready().await;
    let mut screen = Screen::start(&brig, &[], (80, 24));
    let script = (0..60).map(|line| format!("echo line number {line}\n")).collect::<String>();
    let agent = brig.start(&["run", "sh", "-c", &script]);
    screen.asks("sh -c").await;
    screen.press("a").await;
    screen.shows("to be seen to its end before it can be approved").await;
    screen.press("a").await;
    screen.shows("look at it to its end first").await;
    assert_eq!(brig.waiting(1).await[0]["status"], "waiting");
    for _ in 0..20 {
        screen.press(" ").await;
    }
    screen.hides("to be seen to its end").await;
    // An end that has just appeared is not taken as seen yet.
    screen.approve(&brig).await;
    let said = agent.said().await;
    assert_eq!(said.code, 0);
    assert!(said.text().ends_with("line number 59\n"));
}

#[tokio::test]
async fn enter_opens_the_whole_proposal_and_keys_act_on_it() {
    let brig = Brig::ready().await;
    let mut screen = Screen::open(&brig);
    let agent = brig.start(&["run", "--reason", "to say it", "-e", "NAME=value", "--", "sh", "-c", "echo $NAME"]);
    let review = format!("─ Proposal {}", text(&brig.waiting(1).await[0], "id"));
    screen.asks("sh -c").await;
    assert!(screen.line("sh -c").unwrap().contains("+more"), "its line does not show the variable");
    screen.press(ENTER).await;
    for shown in [review.as_str(), "to say it", "NAME", "value", "65534"] {
        screen.shows(shown).await;
    }
    screen.press(ESCAPE).await;
    screen.hides(&review).await;
    screen.press(ENTER).await;
    screen.shows(&review).await;
    screen.reject().await;
    screen.press(ESCAPE).await;
    screen.hides("Reason, which the agent gets:").await;
    assert_eq!(brig.waiting(1).await.len(), 1, "it is left undecided");
    screen.press("G").await;
    screen.approve(&brig).await;
    assert_eq!(agent.said().await.all(), (0, "value\n", ""));
}

#[tokio::test]
async fn two_consoles_see_the_same() {
    let brig = Brig::ready().await;
    let mut first = Screen::open(&brig);
    let second = Screen::open(&brig);
    first.shows("2 consoles").await;
    second.shows("2 consoles").await;
    let row = brig.propose(&["echo", "seen by both"]).await;
    first.asks("echo 'seen by both'").await;
    second.asks("echo 'seen by both'").await;
    first.approve(&brig).await;
    for screen in [&first, &second] {
        screen.shows("exit 0").await;
        screen
            .is("the output", |all| all.lines().any(|line| line.contains("seen by both") && !line.contains("echo")))
            .await;
    }
    assert_eq!(brig.json(&["show", text(&row, "id")]).await["end"]["exit_code"], json!(0));
}

#[tokio::test]
async fn the_command_line_asks_at_a_terminal() {
    let brig = Brig::ready().await;
    let row = brig.propose(&["echo", "hello"]).await;
    let id = text(&row, "id");
    let mut screen = Screen::start(&brig, &["approve", id], (100, 50));
    screen.shows("Let it run? [y/N]").await;
    assert!(screen.text().contains("echo hello") && screen.text().contains(&text(&row, "digest")[..16]));
    screen.press("y\r").await;
    screen.shows("approved").await;
    assert!(screen.ended().await.success());
    assert_eq!(brig.brig(&["wait", id]).await.code, 0);
}
