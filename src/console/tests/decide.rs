//! Deciding and killing: what a key does, and what it refuses to do.

use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::proposal::Status;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::Leave;
use super::super::fixtures::{Harness, detail, finished, proposal, story};
use super::super::msg::{Command, Msg, Target};
use crate::api::wire::{Choice, ProposalRow, SandboxRow, Update, VerdictRequest};

const SIZE: (u16, u16) = (100, 30);

fn verdict(commands: &[Command]) -> Option<(&str, &VerdictRequest)> {
    commands.iter().find_map(|command| match command {
        Command::Verdict(id, request) => Some((id.0.as_str(), request)),
        _ => None,
    })
}

fn killed(commands: &[Command]) -> Option<&Target> {
    commands.iter().find_map(|command| if let Command::Kill(target) = command { Some(target) } else { None })
}

fn row(id: &str) -> ProposalRow {
    story().proposals.into_iter().find(|row| row.id.0 == id).unwrap()
}

/// Opens a proposal whose text has so many lines.
fn open(harness: &mut Harness, id: &str, lines: usize) -> ProposalRow {
    harness.select(id);
    let commands = harness.press(KeyCode::Enter);
    assert!(commands.iter().any(|command| matches!(command, Command::Fetch(fetched) if fetched.0 == id)));
    let row = harness.state.proposal(&ProposalId(id.into())).unwrap().clone();
    let mut all = detail(&row, &["sh", "deploy.sh"]);
    all.files[0].content = "echo hello\n".repeat(lines).into();
    harness.send(Msg::Detail(row.id.clone(), Ok(Box::new(all))));
    row
}

#[test]
fn a_approves_what_is_wholly_visible_with_the_digest_that_was_shown() {
    let mut harness = Harness::with_story(SIZE);
    let commands = harness.key('a');
    let (id, request) = verdict(&commands).unwrap();
    assert_eq!((id, request.verdict), ("k3f9a1bc", Choice::Approved));
    assert_eq!(request.digest, row("k3f9a1bc").digest.hex());
    assert!(verdict(&harness.key('a')).is_none(), "one verdict is enough");
    assert!(harness.notice().contains("on its way"));
}

#[test]
fn what_has_just_appeared_is_not_approved() {
    let mut harness = Harness::new(SIZE);
    harness.update(Update::Snapshot(story()));
    assert!(verdict(&harness.key('a')).is_none());
    assert!(harness.notice().contains("look again"));
    harness.wait(299);
    assert!(verdict(&harness.key('a')).is_none());
    harness.wait(1);
    assert!(verdict(&harness.key('a')).is_some());
}

#[test]
fn what_has_just_moved_or_changed_is_not_approved() {
    let mut harness = Harness::with_story(SIZE);
    harness.select("5d0rj7tz");
    harness.update(Update::ProposalGone { id: ProposalId("k3f9a1bc".into()) });
    assert_eq!(harness.cursor(), "5d0rj7tz");
    assert!(verdict(&harness.key('a')).is_none(), "it is a line higher now");
    harness.wait(300);
    let changed = ProposalRow { digest: Hash::of(b"other"), ..row("5d0rj7tz") };
    harness.update(Update::Proposal(changed.clone()));
    assert!(verdict(&harness.key('a')).is_none(), "it is another one now");
    harness.wait(300);
    let commands = harness.key('a');
    assert_eq!(verdict(&commands).unwrap().1.digest, changed.digest.hex());
}

#[test]
fn what_is_behind_something_is_not_seen() {
    let mut harness = Harness::with_story(SIZE);
    harness.key('?');
    harness.wait(1000);
    harness.press(KeyCode::Esc);
    assert!(verdict(&harness.key('a')).is_none());
    harness.wait(300);
    assert!(verdict(&harness.key('a')).is_some());
}

#[test]
fn a_question_that_vanishes_gives_its_key_to_no_other() {
    let mut harness = Harness::with_story(SIZE);
    harness.update(Update::ProposalGone { id: ProposalId("k3f9a1bc".into()) });
    harness.wait(1000);
    assert_eq!(harness.cursor(), "");
    for key in ['a', 'r', 'x'] {
        assert!(harness.key(key).is_empty(), "{key}");
        assert!(harness.state.dialog.is_none());
    }
    harness.press(KeyCode::Down);
    assert_eq!(harness.cursor(), "5d0rj7tz", "the first step lands on what took its line");
}

#[test]
fn a_on_what_is_cut_or_has_more_to_it_opens_it() {
    for (id, size) in [("w8n4c2xe", SIZE), ("b6y3q9ha", SIZE), ("5d0rj7tz", (60, 16))] {
        let mut harness = Harness::with_story(size);
        harness.select(id);
        harness.wait(1000);
        let commands = harness.key('a');
        assert!(verdict(&commands).is_none(), "{id}");
        assert!(commands.iter().any(|command| matches!(command, Command::Fetch(fetched) if fetched.0 == id)));
        assert_eq!(harness.state.review.as_ref().unwrap().id.0, id);
        assert!(harness.notice().contains("does not fit"));
    }
}

#[test]
fn a_review_has_to_be_seen_to_its_end() {
    let mut harness = Harness::with_story(SIZE);
    open(&mut harness, "b6y3q9ha", 100);
    harness.wait(1000);
    assert!(verdict(&harness.key('a')).is_none());
    assert!(harness.notice().contains("below"), "{}", harness.notice());
    harness.press(KeyCode::PageDown);
    harness.wait(1000);
    assert!(verdict(&harness.key('a')).is_none(), "a page is not the end");
    harness.key('G');
    assert!(verdict(&harness.key('a')).is_none(), "the end has just appeared");
    harness.wait(300);
    harness.key('g');
    let commands = harness.key('a');
    let (id, request) = verdict(&commands).unwrap();
    assert_eq!((id, &request.digest), ("b6y3q9ha", &row("b6y3q9ha").digest.hex()));
    assert!(harness.state.review.is_none());
}

#[test]
fn a_review_that_fits_needs_only_its_moment() {
    let mut harness = Harness::with_story((100, 60));
    open(&mut harness, "b6y3q9ha", 2);
    assert!(verdict(&harness.key('a')).is_none());
    harness.wait(300);
    assert!(verdict(&harness.key('a')).is_some());
}

#[test]
fn a_review_whose_proposal_changes_is_fetched_and_seen_anew() {
    let mut harness = Harness::with_story((100, 60));
    let old = open(&mut harness, "b6y3q9ha", 2);
    harness.wait(1000);
    let changed = ProposalRow { digest: Hash::of(b"other"), returned: Some("the image has changed".into()), ..old };
    let commands = harness.update(Update::Proposal(changed.clone()));
    assert!(matches!(commands.as_slice(), [Command::Fetch(_)]));
    assert!(verdict(&harness.key('a')).is_none());
    assert!(harness.notice().contains("changed"));
    harness.send(Msg::Detail(changed.id.clone(), Ok(Box::new(detail(&changed, &["ls"])))));
    assert!(verdict(&harness.key('a')).is_none(), "it has just appeared");
    harness.wait(300);
    let commands = harness.key('a');
    assert_eq!(verdict(&commands).unwrap().1.digest, changed.digest.hex());
}

#[test]
fn r_asks_for_a_reason_and_sends_it() {
    let mut harness = Harness::with_story(SIZE);
    assert!(harness.key('r').is_empty());
    assert!(harness.press(KeyCode::Enter).is_empty());
    assert!(harness.notice().contains("needs a reason"));
    harness.write("quit it: ax?");
    harness.send(Msg::Key(KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT)));
    harness.send(Msg::Paste("use\u{202e} ls\r\nplease".into()));
    let commands = harness.press(KeyCode::Enter);
    let (id, request) = verdict(&commands).unwrap();
    assert_eq!((id, request.verdict), ("k3f9a1bc", Choice::Rejected));
    assert_eq!(request.reason, "quit it: ax?\nuse\u{202e} ls\nplease", "as it was written");
    assert_eq!(request.digest, row("k3f9a1bc").digest.hex());
    assert!(harness.state.dialog.is_none());
}

/// What is typed and pasted: marks are only on the screen.
#[test]
fn a_reason_is_sent_as_it_was_written() {
    for text in ["don’t", "⟨x41⟩", "a⟨b", "c\u{301}url\t!", "⟨3×U+0020⟩", &format!("a{}b", " ".repeat(60))]
    {
        for paste in [true, false] {
            let mut harness = Harness::with_story(SIZE);
            harness.key('r');
            if paste {
                harness.send(Msg::Paste(text.into()));
            } else {
                harness.write(text);
            }
            assert!(!harness.text().contains('’'));
            let commands = harness.press(KeyCode::Enter);
            assert_eq!(verdict(&commands).unwrap().1.reason, text);
        }
    }
    let mut harness = Harness::with_story(SIZE);
    harness.key('r');
    harness.send(Msg::Paste("’one\rtwo\r\nthree\n\nfive".into()));
    for _ in 0.."five".len() + "\n\n".len() + "three\n".len() + "two\n".len() + "one".len() + 1 {
        harness.press(KeyCode::Backspace);
    }
    harness.write("!");
    let commands = harness.press(KeyCode::Enter);
    assert_eq!(verdict(&commands).unwrap().1.reason, "⟨U+2019!", "a mark that was edited is what it looks like");
}

#[test]
fn a_reason_that_is_too_long_stays_to_be_shortened() {
    let mut harness = Harness::with_story(SIZE);
    harness.key('r');
    harness.send(Msg::Paste("é".repeat(2048)));
    harness.write("!");
    assert!(verdict(&harness.press(KeyCode::Enter)).is_none());
    assert!(harness.notice().contains("4097 bytes"), "{}", harness.notice());
    harness.send(Msg::Paste("x".repeat(1 << 20)));
    assert!(harness.notice().contains("not pasted"), "{}", harness.notice());
    harness.press(KeyCode::Backspace);
    assert_eq!(verdict(&harness.press(KeyCode::Enter)).unwrap().1.reason, "é".repeat(2048));
}

#[test]
fn a_reason_that_is_refused_is_not_lost() {
    let mut harness = Harness::with_story(SIZE);
    harness.key('r');
    harness.write("no");
    harness.press(KeyCode::Enter);
    let id = ProposalId("k3f9a1bc".into());
    let refused = || Err(Problem::new(Code::Internal, "the journal cannot be written"));
    harness.send(Msg::VerdictDone(id.clone(), Choice::Rejected, refused()));
    assert!(harness.notice().contains("journal"), "{}", harness.notice());
    harness.write(", thanks");
    assert_eq!(verdict(&harness.press(KeyCode::Enter)).unwrap().1.reason, "no, thanks");
    harness.update(Update::Proposal(ProposalRow { status: Status::Withdrawn, ..row("k3f9a1bc") }));
    harness.send(Msg::VerdictDone(id, Choice::Rejected, refused()));
    assert!(harness.state.dialog.is_none() && harness.state.sent.is_empty(), "there is nobody to tell any more");
}

#[test]
fn escape_leaves_a_rejection_undecided() {
    let mut harness = Harness::with_story(SIZE);
    harness.key('r');
    harness.write("no");
    assert!(harness.press(KeyCode::Esc).is_empty());
    assert!(harness.state.dialog.is_none() && harness.state.pending.is_empty());
}

#[test]
fn a_rejection_is_bound_to_what_it_was_opened_for() {
    let mut harness = Harness::with_story(SIZE);
    harness.key('r');
    harness.write("no");
    harness.update(Update::Proposal(ProposalRow { status: Status::Withdrawn, ..row("k3f9a1bc") }));
    assert!(verdict(&harness.press(KeyCode::Enter)).is_none());
    assert!(harness.notice().contains("withdrawn"), "{}", harness.notice());

    let mut harness = Harness::with_story(SIZE);
    harness.key('r');
    harness.write("no");
    harness.update(Update::Proposal(ProposalRow { digest: Hash::of(b"other"), ..row("k3f9a1bc") }));
    assert!(verdict(&harness.press(KeyCode::Enter)).is_none());
    assert!(harness.notice().contains("changed"));
}

#[test]
fn a_refused_verdict_says_why() {
    let mut harness = Harness::with_story(SIZE);
    harness.key('a');
    let problem = Problem::new(Code::NotWaiting, "k3f9a1bc was approved by bert a moment ago");
    harness.send(Msg::VerdictDone(ProposalId("k3f9a1bc".into()), Choice::Approved, Err(problem)));
    assert!(harness.notice().contains("approved by bert"));
    assert!(harness.text().contains("approved by bert"));
    assert!(harness.state.pending.is_empty());
}

#[test]
fn verdicts_are_given_only_where_the_question_is_looked_at() {
    let mut harness = Harness::with_story(SIZE);
    for pane in ['2', '3', '4'] {
        harness.key(pane);
        assert!(verdict(&harness.key('a')).is_none(), "pane {pane}");
        harness.key('r');
        assert!(harness.state.dialog.is_none(), "pane {pane}");
    }
    harness.select("c4m8z1vd");
    assert!(verdict(&harness.key('a')).is_none());
    assert!(harness.notice().contains("finished"));
}

#[test]
fn x_kills_at_once_what_is_under_the_cursor() {
    let mut harness = Harness::with_story(SIZE);
    harness.select("9vq2m0ke");
    assert_eq!(killed(&harness.key('x')), Some(&Target::Run(ProposalId("9vq2m0ke".into()))));
    harness.key('2');
    harness.press(KeyCode::Down);
    let first: SandboxRow = story().sandboxes.remove(0);
    harness.update(Update::SandboxGone { id: first.id });
    let commands = harness.key('x');
    assert!(matches!(killed(&commands), Some(Target::Sandbox(id)) if id.0 == "k3f9-18"), "{commands:?}");
    harness.key('4');
    assert_eq!(killed(&harness.key('x')), Some(&Target::Run(ProposalId("t7hxc41w".into()))));
    harness.select("k3f9a1bc");
    assert!(killed(&harness.key('x')).is_none());
    assert!(harness.notice().contains("nothing that runs"));
}

#[test]
fn n_goes_from_question_to_question() {
    let mut harness = Harness::with_story(SIZE);
    harness.select("c4m8z1vd");
    let mut seen = Vec::new();
    for _ in 0..5 {
        harness.key('n');
        seen.push(harness.cursor());
    }
    assert_eq!(seen, ["k3f9a1bc", "5d0rj7tz", "w8n4c2xe", "b6y3q9ha", "k3f9a1bc"]);
}

#[test]
fn quitting_asks_only_if_something_would_be_left_open() {
    let mut harness = Harness::with_story(SIZE);
    assert!(harness.key('q').is_empty());
    assert!(harness.text().contains("2 runs, 4 questions open"));
    harness.press(KeyCode::Esc);
    assert!(harness.state.dialog.is_none());
    harness.key('q');
    assert!(matches!(harness.key('k').as_slice(), [Command::Leave(Leave::Keep)]));

    for change in [
        |story: &mut crate::api::wire::Snapshot| story.supervisor.ends_with_consoles = false,
        |story: &mut crate::api::wire::Snapshot| story.supervisor.consoles = 2,
        |story: &mut crate::api::wire::Snapshot| story.proposals.retain(|row| row.status.is_final()),
    ] {
        let mut harness = Harness::new(SIZE);
        let mut snapshot = story();
        change(&mut snapshot);
        harness.update(Update::Snapshot(snapshot));
        let commands = harness.key('q');
        assert!(commands.iter().any(|command| matches!(command, Command::Leave(Leave::Keep))), "{commands:?}");
    }
}

#[test]
fn stopping_everything_ends_when_the_supervisor_says_so_or_is_gone() {
    for answer in
        [Msg::ShutdownDone(Ok(())), Msg::Lost(Problem::new(Code::NoSupervisor, "it has ended the connection"))]
    {
        let mut harness = Harness::with_story(SIZE);
        harness.key('q');
        assert!(matches!(harness.key('s').as_slice(), [Command::Shutdown]));
        assert!(matches!(harness.send(answer).as_slice(), [Command::Leave(Leave::Stopped)]));
    }
    let mut harness = Harness::with_story(SIZE);
    harness.key('q');
    harness.key('s');
    assert!(matches!(harness.ctrl('c').as_slice(), [Command::Leave(_)]), "a supervisor that hangs keeps nobody");
}

#[test]
fn a_lost_supervisor_takes_no_verdicts_and_keeps_nobody() {
    let mut harness = Harness::with_story(SIZE);
    harness.send(Msg::Lost(Problem::new(Code::NoSupervisor, "it has ended the connection")));
    assert!(verdict(&harness.key('a')).is_none());
    assert!(harness.notice().contains("away"));
    harness.press(KeyCode::Down);
    assert_eq!(harness.cursor(), "5d0rj7tz", "keys are alive");
    assert!(matches!(harness.key('q').as_slice(), [Command::Leave(Leave::Keep)]));
    harness.update(Update::Snapshot(story()));
    assert_eq!(harness.cursor(), "5d0rj7tz");
    assert!(harness.notice().contains("back"));
}

#[test]
fn output_is_followed_for_what_is_selected_and_for_nothing_else() {
    let follows = |commands: Vec<Command>| {
        commands.into_iter().find_map(|command| match command {
            Command::Follow(id) => Some(id.map(|id| id.0)),
            _ => None,
        })
    };
    let mut harness = Harness::with_story(SIZE);
    harness.select("9vq2m0ke");
    assert_eq!(harness.state.output.as_ref().unwrap().of.0, "9vq2m0ke");
    harness.key('g');
    assert!(harness.state.output.is_none());
    // Once approved it runs, and what it writes comes without a key.
    let runs =
        finished(proposal("k3f9a1bc", "claude", "ls -la /", ""), brig_core::proposal::EndKind::Exited, Some(0), 0);
    assert_eq!(follows(harness.update(Update::Proposal(runs))), Some(Some("k3f9a1bc".into())));
    assert_eq!(harness.cursor(), "k3f9a1bc");
    assert_eq!(follows(harness.update(Update::Alive)), None);
    harness.send(Msg::Output(ProposalId("9vq2m0ke".into()), super::super::fixtures::story_output()));
    assert_eq!(harness.state.output.as_ref().unwrap().ring.end(), 0, "what comes late for another one is not mixed in");
}
