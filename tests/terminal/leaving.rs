//! How a console ends, and what it leaves.

use rustix::process::Signal;

use crate::support::brig::{BOUND, Brig, text};
use crate::support::docker::until;
use crate::support::screen::{CTRL_C, ESCAPE, Screen};

#[tokio::test]
async fn the_last_console_ends_a_supervisor_that_a_console_started() {
    let brig = Brig::new();
    let mut screen = Screen::open(&brig);
    screen.shows("1/1").await;
    assert!(screen.is_raw());
    assert_eq!(brig.containers().await.len(), 1);
    screen.press("q").await;
    assert_eq!(screen.ended().await.code(), Some(0));
    until("the supervisor has ended", BOUND, async || brig.supervisor().is_none()).await;
    until("its sandboxes are gone", BOUND, async || brig.containers().await.is_empty()).await;
}

#[tokio::test]
async fn with_something_open_quitting_asks() {
    let brig = Brig::new();
    let mut screen = Screen::open(&brig);
    screen.shows("1/1").await;
    let row = brig.propose(&["sleep", "600"]).await;
    screen.asks("sleep 600").await;
    screen.press("q").await;
    screen.shows("0 runs, 1 question open.").await;
    screen.press(ESCAPE).await;
    screen.hides("1 question open.").await;
    screen.approve(&brig).await;
    screen.shows("1 running").await;
    screen.press(CTRL_C).await;
    screen.shows("1 run, 0 questions open.").await;
    screen.press("k").await;
    assert_eq!(screen.ended().await.code(), Some(0));
    assert_eq!(brig.json(&["show", text(&row, "id")]).await["status"], "running", "it goes on");

    let mut screen = Screen::open(&brig);
    screen.shows("1 running").await;
    screen.press("q").await;
    screen.shows("1 run, 0 questions open.").await;
    screen.press("s").await;
    assert_eq!(screen.ended().await.code(), Some(0));
    until("the supervisor has ended", BOUND, async || brig.supervisor().is_none()).await;
}

#[tokio::test]
async fn a_supervisor_of_its_own_goes_on_without_consoles() {
    let brig = Brig::ready().await;
    let mut screen = Screen::open(&brig);
    screen.shows("1/1").await;
    brig.propose(&["true"]).await;
    screen.asks("true").await;
    screen.press("q").await;
    assert_eq!(screen.ended().await.code(), Some(0), "nothing is lost, so nothing is asked");
    brig.waiting(1).await;
}

#[tokio::test]
async fn signals_give_the_terminal_back() {
    let brig = Brig::ready().await;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let screen = Screen::open(&brig);
        screen.shows("1/1").await;
        assert!(screen.is_raw());
        screen.signal(signal);
        assert_eq!(screen.ended().await.code(), Some(128 + signal.as_raw()));
    }
}

#[tokio::test]
async fn a_console_whose_supervisor_is_killed_says_so_and_its_keys_live() {
    let mut brig = Brig::ready().await;
    let mut screen = Screen::open(&brig);
    let row = brig.propose(&["echo", "back again"]).await;
    screen.asks("echo 'back again'").await;
    brig.kill_supervisor().await;
    screen.shows("supervisor lost since").await;
    screen.press("a").await;
    screen.shows("nothing can be decided").await;
    screen.press("?").await;
    screen.shows("─ Keys").await;
    screen.press(ESCAPE).await;
    screen.hides("─ Keys").await;

    brig.serve().await;
    screen.hides("supervisor lost").await;
    screen.asks("echo 'back again'").await;
    screen.approve(&brig).await;
    assert_eq!(brig.brig(&["wait", text(&row, "id")]).await.code, 0);

    brig.kill_supervisor().await;
    screen.shows("supervisor lost since").await;
    screen.press("q").await;
    assert_eq!(screen.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_console_that_is_killed_touches_no_run() {
    let brig = Brig::ready().await;
    let mut screen = Screen::open(&brig);
    let mut agent = brig.start(&["run", "sh", "-c", "echo begun; sleep 600"]);
    screen.asks("sh -c").await;
    screen.approve(&brig).await;
    agent.prints("begun").await;
    screen.signal(Signal::KILL);
    until("no console is open", BOUND, async || {
        let client = brig.operator();
        let snapshot: brig::api::wire::Snapshot = client.get("/v1/snapshot").await.unwrap();
        snapshot.supervisor.consoles == 0
    })
    .await;
    let running = brig.rows(&["ps", "--running"]).await;
    assert_eq!(running.len(), 1);
    let killed = brig.brig(&["kill", text(&running[0], "proposal")]).await;
    assert_eq!(killed.code, 0, "{killed:?}");
    assert_eq!(agent.said().await.code, 113);
}
