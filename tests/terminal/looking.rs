//! What is to be seen, at any size.

use crate::support::brig::{BOUND, Brig, text};
use crate::support::docker::until;
use crate::support::proxy::Proxy;
use crate::support::screen::{CTRL_C, ESCAPE, Screen, TAB};

#[tokio::test]
async fn help_lists_every_key_and_panes_take_turns() {
    let brig = Brig::ready().await;
    let mut screen = Screen::start(&brig, &[], (120, 80));
    screen.shows("No questions.").await;
    screen.press("?").await;
    for binding in brig::console::keymap::TABLE {
        screen.shows(binding.help).await;
    }
    screen.press(ESCAPE).await;
    screen.hides("─ Keys").await;

    // Only the sandboxes' pane offers to kill what does not run.
    let kill = |all: &str| all.lines().last().is_some_and(|line| line.contains("x kill"));
    screen.is("the queue has the focus", |all| !kill(all)).await;
    screen.press(TAB).await;
    screen.is("the sandboxes have the focus", kill).await;
    screen.press(TAB).await;
    screen.is("the pools have the focus", |all| !kill(all)).await;
    screen.press("2").await;
    screen.is("the sandboxes have the focus", kill).await;
    let warm = brig.rows(&["ps"]).await.remove(0);
    screen.press("x").await;
    screen.hides(text(&warm, "id")).await;
    brig.pool_is_full().await;
}

#[tokio::test]
async fn every_size_shows_what_fits_and_says_when_nothing_does() {
    let brig = Brig::ready().await;
    let mut screen = Screen::start(&brig, &[], (80, 24));
    brig.propose(&["echo", "hello"]).await;
    screen.asks("echo hello").await;
    for size in [(60, 16), (200, 60), (80, 24)] {
        screen.resize(size);
        screen.asks("echo hello").await;
        screen.shows("Queue").await;
        screen.shows("Pools").await;
        screen.shows("quit").await;
    }
    screen.resize((50, 10));
    screen.shows("60").await;
    assert!(!screen.text().contains("echo hello"), "{}", screen.text());
    screen.press("a").await;
    assert_eq!(brig.waiting(1).await.len(), 1, "what is not seen is not approved");
    screen.resize((80, 24));
    screen.asks("echo hello").await;
    assert_eq!(brig.waiting(1).await.len(), 1);
    screen.resize((50, 10));
    screen.shows("60").await;
    screen.press(CTRL_C).await;
    assert_eq!(screen.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_runs_is_shown_with_what_it_uses() {
    let brig = Brig::ready().await;
    let screen = Screen::start(&brig, &[], (160, 40));
    brig.begin(&["sh", "-c", "while :; do :; done"]).await;
    screen.shows("1 running").await;
    screen
        .is("what it uses", |all| {
            all.lines().any(|line| {
                line.contains("running") && line.contains("/128") && line.contains("2/64") && has_percent(line)
            })
        })
        .await;
}

#[tokio::test]
async fn a_daemon_that_is_away_is_shown_with_since_when_and_comes_back() {
    let mut brig = Brig::new();
    let socket = brig.path("docker.sock");
    brig.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let mut screen = Screen::open(&brig);
    screen.shows("engine away since").await;
    screen.shows("away").await;
    screen.press("?").await;
    screen.shows("─ Keys").await;
    screen.press(ESCAPE).await;
    screen.hides("─ Keys").await;
    let proxy = Proxy::open(&socket);
    screen.hides("engine away").await;
    screen.shows("1/1").await;
    screen.press("q").await;
    assert_eq!(screen.ended().await.code(), Some(0));
    until("the supervisor has ended", BOUND, async || brig.supervisor().is_none()).await;
    proxy.cut().await;
}

fn has_percent(line: &str) -> bool {
    line.split('%')
        .next()
        .is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()) && !before.ends_with(" 0"))
}
