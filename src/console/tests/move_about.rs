//! Moving: cursors stay on their items and their lines, whatever comes and goes.

use brig_core::id::ProposalId;
use crossterm::event::KeyCode;

use super::super::fixtures::{Harness, ago, proposal, story};
use super::super::msg::Msg;
use super::super::state::{Pane, Subject};
use crate::api::wire::{ProposalRow, Update};
use brig_core::proposal::OutputStream;

/// A queue of so many questions, the oldest first.
fn crowd(harness: &mut Harness, count: i64) {
    let mut snapshot = story();
    snapshot.proposals = (0..count).map(|at| question(at, 10_000 - at)).collect();
    harness.update(Update::Snapshot(snapshot));
}

fn question(at: i64, seconds: i64) -> ProposalRow {
    let row = proposal(&format!("q{at:07}"), "claude", "true", "count");
    ProposalRow { received_at: ago(seconds), ..row }
}

/// The line of the screen on which a text stands.
fn line_of(harness: &Harness, text: &str) -> usize {
    harness.text().lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}\n{}", harness.text()))
}

/// The line of the selected row of the queue, by its bar.
fn bar(harness: &Harness) -> usize {
    line_of(harness, "▌")
}

#[test]
fn the_line_under_the_cursor_stays_where_it_is_while_others_come_and_go() {
    let mut harness = Harness::new((100, 30));
    crowd(&mut harness, 40);
    for _ in 0..20 {
        harness.press(KeyCode::Down);
    }
    let (id, line) = (harness.cursor(), bar(&harness));
    assert_eq!(id, "q0000020");
    for at in [3, 5, 7, 25, 30] {
        harness.update(Update::ProposalGone { id: ProposalId(format!("q{at:07}")) });
        assert_eq!((harness.cursor(), bar(&harness)), (id.clone(), line), "{at} went");
    }
    for at in 100..110 {
        // Older than all others, so above them.
        harness.update(Update::Proposal(question(at, 20_000 + at)));
        assert_eq!((harness.cursor(), bar(&harness)), (id.clone(), line), "{at} came");
    }
    harness.send(Msg::Resize(80, 24));
    assert_eq!(harness.cursor(), id);
}

#[test]
fn nothing_that_arrives_takes_the_focus() {
    let mut harness = Harness::with_story((100, 30));
    harness.key('4');
    harness.update(Update::Proposal(question(1, 1)));
    harness.update(Update::Snapshot(story()));
    assert_eq!(harness.state.focus, Pane::Output);
    harness.key('?');
    harness.update(Update::Proposal(question(2, 1)));
    assert!(harness.state.dialog.is_some());
}

#[test]
fn keys_move_through_a_list() {
    let mut harness = Harness::new((100, 30));
    crowd(&mut harness, 40);
    let mut at = |code: KeyCode| {
        harness.press(code);
        harness.cursor()
    };
    let c = KeyCode::Char;
    assert_eq!(at(c('j')), "q0000001");
    assert_eq!(at(KeyCode::Down), "q0000002");
    assert_eq!(at(c('k')), "q0000001");
    assert_eq!(at(KeyCode::Up), "q0000000");
    assert_eq!(at(KeyCode::Up), "q0000000");
    assert_eq!(at(KeyCode::PageDown), "q0000006", "a page less one of 7 lines");
    assert_eq!(at(KeyCode::PageUp), "q0000000");
    assert_eq!(at(c('G')), "q0000039");
    assert_eq!(at(c('j')), "q0000039");
    assert_eq!(at(KeyCode::Home), "q0000000");
    assert_eq!(at(KeyCode::End), "q0000039");
    assert_eq!(at(c('g')), "q0000000");
}

#[test]
fn tab_and_numbers_turn_to_panes() {
    let mut harness = Harness::with_story((100, 30));
    let mut seen = Vec::new();
    for _ in 0..4 {
        harness.press(KeyCode::Tab);
        seen.push(harness.state.focus);
    }
    assert_eq!(seen, [Pane::Sandboxes, Pane::Pools, Pane::Output, Pane::Queue]);
    harness.press(KeyCode::BackTab);
    assert_eq!(harness.state.focus, Pane::Output);
    for (key, pane) in ['1', '2', '3', '4'].into_iter().zip(Pane::ALL) {
        harness.key(key);
        assert_eq!(harness.state.focus, pane);
    }
}

#[test]
fn turning_to_a_list_selects_something_there_if_nothing_is() {
    let mut harness = Harness::with_story((100, 30));
    let first = story().sandboxes.remove(0);
    harness.update(Update::SandboxGone { id: first.id });
    assert!(harness.state.sandbox_list.cursor.is_none(), "what vanished gives its cursor to no other by itself");
    harness.key('2');
    assert_eq!(harness.state.sandbox_list.cursor.as_ref().map(|id| id.0.as_str()), Some("k3f9-18"));
}

#[test]
fn the_last_pane_shows_what_was_selected_last() {
    let mut harness = Harness::with_story((100, 30));
    harness.key('2');
    assert_eq!(harness.state.subject, Subject::Proposal(ProposalId("9vq2m0ke".into())), "the sandbox's run");
    harness.key('G');
    assert!(matches!(harness.state.subject, Subject::Sandbox(_)), "a warm one");
    assert!(harness.text().contains("engine id"));
    harness.key('3');
    assert!(harness.text().contains("the registry does not answer"));
    harness.key('4');
    assert_eq!(harness.state.subject, Subject::Pool("node".into()));
}

#[test]
fn output_scrolls_back_and_follows_again() {
    let mut harness = Harness::with_story((100, 30));
    harness.select("9vq2m0ke");
    let id = ProposalId("9vq2m0ke".into());
    let lines: String = (0..500).map(|at| format!("line {at}\n")).collect();
    harness.send(Msg::Output(id.clone(), vec![(0, OutputStream::Stdout, lines.into_bytes())]));
    assert!(harness.text().contains("line 499"));
    harness.key('4');
    harness.press(KeyCode::PageUp);
    assert!(!harness.text().contains("line 499") && harness.text().contains("scrolled"));
    harness.key('g');
    assert!(harness.text().contains("line 0"));
    harness.send(Msg::Output(id.clone(), vec![(0, OutputStream::Stdout, b"more\n".to_vec())]));
    assert!(harness.text().contains("line 0"), "what arrives moves nothing");
    harness.key('G');
    assert!(harness.text().contains("more"));
    harness.send(Msg::Output(
        id,
        vec![(0, OutputStream::Stdout, format!("{}FIN\n", "0123456789".repeat(20)).into_bytes())],
    ));
    assert!(!harness.text().contains("FIN"));
    for _ in 0..10 {
        harness.key('l');
    }
    assert!(harness.text().contains("FIN"));
    for _ in 0..10 {
        harness.press(KeyCode::Left);
    }
    assert!(!harness.text().contains("FIN"));
}

#[test]
fn help_opens_scrolls_and_closes() {
    let mut harness = Harness::with_story((80, 24));
    harness.key('?');
    assert!(harness.text().contains("kill the selected run or sandbox"));
    assert!(!harness.text().contains("kill what runs, end the supervisor"));
    for _ in 0..10 {
        harness.press(KeyCode::PageDown);
    }
    assert!(harness.text().contains("kill what runs, end the supervisor"));
    harness.key('q');
    assert!(harness.state.dialog.is_none());
}

#[test]
fn a_cursor_that_nobody_has_put_anywhere_goes_to_the_first_question() {
    let over = || {
        let mut row = question(1, 100);
        row.status = brig_core::proposal::Status::Rejected;
        row
    };
    let mut snapshot = story();
    snapshot.proposals = vec![over()];
    let mut harness = Harness::new((100, 30));
    harness.update(Update::Snapshot(snapshot.clone()));
    assert_eq!(harness.cursor(), "q0000001");
    harness.update(Update::Proposal(question(2, 1)));
    assert_eq!(harness.cursor(), "q0000002", "it rested on what is over");
    harness.update(Update::Proposal(question(3, 50)));
    assert_eq!(harness.cursor(), "q0000002", "an older question does not take it from one that waits");

    let mut placed = Harness::new((100, 30));
    placed.update(Update::Snapshot(snapshot));
    placed.key('j');
    placed.update(Update::Proposal(question(2, 1)));
    assert_eq!(placed.cursor(), "q0000001", "its user has put it there");
}
