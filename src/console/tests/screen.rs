//! What is on the screen: at every size, with every theme, with hostile text, and in which colours.

use brig_core::envelope;
use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{ImageSource, Interpreter, SecretSource, Volume};
use brig_core::retention::Usage;
use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::super::fixtures::{Harness, ago, detail, proposal, story, story_output, text_of, theme};
use super::super::keymap::{self, Context};
use super::super::msg::Msg;
use crate::api::wire::{ProposalRow, Since, Update};
use brig_core::proposal::OutputStream;

const SIZES: [(u16, u16); 5] = [(60, 16), (80, 24), (100, 30), (120, 40), (200, 60)];

/// Every character that a screen may hold: nothing that moves a cursor, changes direction or hides.
fn assert_harmless(buffer: &Buffer) {
    for cell in &buffer.content {
        for character in cell.symbol().chars() {
            let hidden =
                matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            assert!(!character.is_control() && !hidden, "{:?}", cell.symbol());
        }
    }
}

#[test]
fn every_size_shows_what_matters() {
    for size in SIZES {
        let harness = Harness::with_story(size);
        let text = harness.text();
        for part in [
            "brig 0.1.0",
            "4 waiting",
            "2 running",
            "1 Queue",
            "2 Sandboxes",
            "3 Pools",
            "4 Proposal",
            "ls -la /",
            "14:18",
        ] {
            assert!(text.contains(part), "{size:?} lacks {part}:\n{text}");
        }
        for part in ["a approve", "? help", "q quit", "running", "34%", "0:39", "failing", "2 Sandboxes"] {
            assert!(text.contains(part), "{size:?} lacks {part}:\n{text}");
        }
    }
    let text = Harness::with_story((200, 60)).text();
    for part in ["26M/64M", "3/64", "k3f9-17", "look around", "exit 2", "killed", "rejected", "HIT%", "98%"] {
        assert!(text.contains(part), "lacks {part}:\n{text}");
    }
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    for size in [(59, 24), (80, 15), (20, 5), (3, 1), (1, 1)] {
        let harness = Harness::with_story(size);
        let text = harness.text();
        assert!(size.0 < 30 || text.contains("brig needs 60 × 16"), "{text}");
    }
    let mut harness = Harness::with_story((20, 5));
    harness.key('q');
    harness.key('k');
}

#[test]
fn an_empty_console_tells_the_next_step() {
    for size in SIZES {
        let mut harness = Harness::new(size);
        assert!(harness.text().contains("brig"));
        let mut snapshot = story();
        snapshot.proposals.clear();
        harness.update(Update::Snapshot(snapshot));
        harness.key('1');
        let text = harness.text();
        assert!(size.1 < 24 || text.contains("brig run --reason \"look around\" -- ls -la /"), "{text}");
    }
}

/// Agents, programs and files write what they like; the screen holds nothing of it that is not visible.
#[test]
fn hostile_text_is_harmless_everywhere() {
    let nasty = format!("\x1b[2J\x1b]0;owned\x07\u{202e}txt\u{200b}\r\n\u{9b}31m日本🙂e\u{301}{}", "x".repeat(100_000));
    for size in SIZES {
        let mut harness = Harness::new(size);
        let mut snapshot = story();
        let mut row = ProposalRow {
            command: brig_core::visible::line(nasty.as_bytes()).chars().take(512).collect(),
            profile: nasty.clone(),
            reason: nasty.clone(),
            returned: Some(nasty.clone()),
            ..proposal("k3f9a1bc", &nasty, "", "")
        };
        row.ruling.why.clone_from(&nasty);
        snapshot.proposals[0] = row.clone();
        let problem = Problem::new(Code::Internal, nasty.clone()).help(nasty.clone());
        snapshot.pools[0].last_error = Some(problem.clone());
        snapshot.pools[0].progress = Some(nasty.clone());
        snapshot.pools[0].description.clone_from(&nasty);
        snapshot.supervisor.host.clone_from(&nasty);
        snapshot.supervisor.engine_problem = Some(Since { problem: problem.clone(), since: ago(3) });
        harness.update(Update::Snapshot(snapshot));
        let theme = theme("dark");
        let check = |harness: &Harness| assert_harmless(&harness.draw(&theme));
        check(&harness);
        harness.key('3');
        check(&harness);
        harness.select("9vq2m0ke");
        let output = vec![
            (0, OutputStream::Stdout, nasty.clone().into_bytes()),
            (0, OutputStream::Stderr, nasty.clone().into_bytes()),
        ];
        harness.send(Msg::Output(ProposalId("9vq2m0ke".into()), output));
        check(&harness);
        assert!(text_of(&harness.draw(&theme)).contains("⟨U+001B⟩"), "shown, not dropped");
        harness.key('4');
        harness.key('l');
        check(&harness);
        harness.select("k3f9a1bc");
        harness.wait(1000);
        harness.key('r');
        harness.write(&nasty[..40]);
        harness.send(Msg::Paste(nasty.clone()));
        check(&harness);
        harness.press(KeyCode::Esc);
        harness.press(KeyCode::Enter);
        let mut all = detail(&row, &["sh", "-c", &nasty]);
        all.stdin = nasty.clone().into();
        all.full_reason.clone_from(&nasty);
        harness.send(Msg::Detail(row.id.clone(), Ok(Box::new(all))));
        check(&harness);
        harness.key('G');
        check(&harness);
        harness.send(Msg::Detail(row.id.clone(), Err(problem.clone())));
        harness.send(Msg::Lost(problem));
        check(&harness);
    }
}

#[test]
fn nothing_of_a_proposal_is_left_out_of_its_review() {
    let row = proposal("k3f9a1bc", "claude", "sh", "because");
    let mut all = detail(&row, &["sh", "-c", &"y".repeat(5000)]);
    all.steps.push(all.steps[0].clone());
    all.stdin = format!("{}\n\tlast", "z".repeat(777)).into();
    for width in [56, 96, 196] {
        let lines = super::super::review::lines(&all, width);
        assert!(lines.iter().all(|line| super::super::text::width(&line.text) <= width), "{width}");
        let text: String = lines.iter().map(|line| line.text.as_str()).collect();
        let prose: String = lines.iter().flat_map(|line| [line.text.as_str(), " "]).collect();
        assert!(text.contains(&"z".repeat(777)) && text.matches(&"y".repeat(5000)).count() == 2);
        for part in [
            "Step 2 of 2",
            "TARGET=staging",
            "deploy.sh",
            "mode 755",
            "without network",
            "where that cannot be had",
            "0.125 CPU with weight 512",
            "16777217b in /sandbox",
            "nofile 64 (at most 128)",
            "HOME=/sandbox",
            "1m of time or 8m of output",
            "because",
            &row.digest.hex()[..50],
            "⟨U+0009⟩last",
        ] {
            assert!(text.contains(part) || prose.contains(part), "lacks {part}");
        }
        let position = |part: &str| text.find(part).unwrap();
        assert!(position("Step 1") < position("because"), "the agent's words come after the command");
    }
}

#[test]
fn what_a_run_is_lent_is_in_its_review() {
    let row = proposal("k3f9a1bc", "claude", "python: print(1)", "because");
    let mut all = detail(&row, &["--verbose"]);
    all.steps[0].code = Some(envelope::Code { language: "python".into(), source: "import os\nprint(1)".into() });
    all.cage.secrets.insert("TOKEN".into(), SecretSource::File("/etc/token".into()));
    all.cage.volumes.push(Volume { source: "/srv/data".into(), target: "/data".into() });
    let interpreter = Interpreter { command: vec!["python3".into(), "-I".into()], prewarm: true };
    all.cage.interpreters.insert("python".into(), interpreter);
    let lines = super::super::review::lines(&all, 96);
    let prose: String = lines.iter().flat_map(|line| [line.text.as_str(), " "]).collect();
    for part in [
        "Code in python:",
        "print(1)",
        "with the arguments --verbose",
        "the secret TOKEN, taken from the file /etc/token",
        "It can read /srv/data of the host, mounted at /data",
        "What is mounted can change after the approval",
        "Code in python is run by python3 -I, which has been started before",
    ] {
        assert!(prose.contains(part), "lacks {part}: {prose}");
    }
    assert!(!prose.contains("Nothing of this machine is mounted"), "{prose}");
}

#[test]
fn help_lists_every_binding() {
    let mut harness = Harness::with_story((120, 80));
    harness.key('?');
    let text = harness.text();
    for (context, name) in Context::ALL {
        assert!(text.contains(name));
        for binding in keymap::bindings(*context) {
            let listed = text.lines().any(|line| line.contains(&binding.all_keys()) && line.contains(binding.help));
            assert!(listed, "{} {}", binding.all_keys(), binding.help);
        }
    }
}

/// The footer promises only what the key would do.
#[test]
fn the_footer_shows_what_can_be_done() {
    let footer = |harness: &Harness| harness.text().lines().last().unwrap().to_owned();
    let mut harness = Harness::with_story((80, 24));
    assert!(footer(&harness).contains("a approve") && !footer(&harness).contains("x kill"));
    harness.select("9vq2m0ke");
    assert!(!footer(&harness).contains("a approve") && footer(&harness).contains("x kill"));
    harness.key('q');
    assert!(footer(&harness).contains("s stop everything"));
}

#[test]
fn troubles_are_said_with_their_age() {
    let mut harness = Harness::with_story((140, 30));
    let mut row = super::super::fixtures::supervisor();
    let since = |message: &str| Some(Since { problem: Problem::new(Code::EngineUnreachable, message), since: ago(12) });
    row.journal_problem = since("the disk is full");
    row.engine = None;
    row.engine_problem = since("connection refused");
    harness.update(Update::Supervisor(row));
    let text = harness.text();
    assert!(text.contains("nothing new runs since 12s: the disk is full"), "{text}");
    assert!(text.contains("engine away since 12s: connection refused"), "{text}");
    let mut pool = story().pools.remove(0);
    pool.image_source = Some(ImageSource::Userland);
    harness.update(Update::Pool(pool));
    assert!(harness.text().contains("userland image made from this machine"));
    harness.send(Msg::Resize(80, 24));
    assert!(harness.text().contains("userland image "));
}

#[test]
fn a_disk_that_is_nearly_full_is_a_warning_and_one_that_is_not_takes_no_line() {
    let mut harness = Harness::with_story((100, 30));
    let before = harness.text();
    let mut row = super::super::fixtures::supervisor();
    let mut disk = Usage {
        journal_bytes: 1 << 30,
        journal_limit: 1 << 30,
        output_bytes: 4 << 30,
        output_limit: 4 << 30,
        file_bytes: 5 << 30,
        free_bytes: Some(100 << 30),
        keep_free: 1 << 27,
        warning: None,
    };
    row.disk = Some(disk.clone());
    harness.update(Update::Supervisor(row.clone()));
    assert_eq!(harness.text(), before, "what is kept at its limits is nothing to worry about");
    disk.warning = Some("the journal's disk has 200m left, and stops at 128m".into());
    row.disk = Some(disk);
    harness.update(Update::Supervisor(row));
    assert!(harness.text().contains("! the journal's disk has 200m left"), "{}", harness.text());
}

#[test]
fn a_lost_supervisor_leaves_gray_what_it_said() {
    let mut harness = Harness::with_story((100, 30));
    harness.send(Msg::Lost(Problem::new(Code::NoSupervisor, "it has ended the connection")));
    let theme = theme("dark");
    let buffer = harness.draw(&theme);
    assert!(text_of(&buffer).contains("supervisor lost since 0s: it has ended the connection"));
    assert!(text_of(&buffer).contains("ls -la /"), "what was known stays");
    let (x, y) = find(&buffer, "ls -la /");
    assert_eq!(buffer[(x, y)].fg, theme.dim.fg.unwrap());
}

fn find(buffer: &Buffer, text: &str) -> (u16, u16) {
    let first: Vec<String> = text.chars().map(String::from).collect();
    for y in 0..buffer.area.height {
        for x in 0..buffer.area.width.saturating_sub(u16::try_from(first.len()).unwrap()) {
            if (x..).zip(&first).all(|(x, symbol)| buffer[(x, y)].symbol() == symbol) {
                return (x, y);
            }
        }
    }
    panic!("{text} is not on the screen:\n{}", text_of(buffer));
}

/// Colour is a help, never the only sign: what it says is also in words, signs or modifiers.
#[test]
fn colours_mean_what_they_say() {
    let mut harness = Harness::with_story((200, 60));
    let dark = theme("dark");
    let buffer = harness.draw(&dark);
    let at = |text: &str| buffer[find(&buffer, text)].clone();
    assert_eq!(at("exit 2").fg, dark.danger.fg.unwrap());
    assert_eq!(at("exit 0").fg, dark.ok.fg.unwrap());
    assert_eq!(at("+more").fg, dark.warn.fg.unwrap());
    assert_eq!(at("198%").fg, dark.warn.fg.unwrap());
    assert_eq!(at("failing").fg, dark.danger.fg.unwrap());
    let selected = at("ls -la /");
    assert_eq!(selected.bg, dark.selection.bg.unwrap());
    assert!(selected.modifier.contains(Modifier::BOLD));
    assert_eq!(at("1 Queue").bg, dark.title_focused.bg.unwrap());
    assert_eq!(at("2 Sandboxes").bg, dark.text.bg.unwrap());
    let reason = at("find the commit");
    assert!(reason.modifier.contains(Modifier::ITALIC), "the agent's words look like words");

    harness.select("c4m8z1vd");
    let id = ProposalId("c4m8z1vd".into());
    harness.send(Msg::Output(id, story_output()));
    let buffer = harness.draw(&dark);
    let (x, y) = find(&buffer, "cat: /etc/motd");
    assert_eq!(buffer[(x, y)].fg, dark.stderr.fg.unwrap());
    assert_eq!(buffer[(x - 2, y)].symbol(), "!", "stderr has a sign besides its colour");
    let mark = &buffer[find(&buffer, "⟨U+001B⟩")];
    assert_eq!(mark.fg, dark.mark.fg.unwrap());
}

#[test]
fn without_colour_there_is_none_and_the_selection_is_seen() {
    let mut harness = Harness::with_story((100, 30));
    let none = theme("none");
    let buffer = harness.draw(&none);
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(buffer[find(&buffer, "ls -la /")].modifier.contains(Modifier::REVERSED));
    assert!(buffer[find(&buffer, "1 Queue")].modifier.contains(Modifier::REVERSED));
    harness.key('r');
    let buffer = harness.draw(&none);
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
}

/// What has just come is told from what keys act on.
#[test]
fn a_question_that_is_not_armed_yet_looks_so() {
    let mut harness = Harness::new((100, 30));
    harness.update(Update::Snapshot(story()));
    assert!(harness.text().lines().any(|line| line.contains("▌·") && line.contains("ls -la /")));
    harness.wait(300);
    assert!(harness.text().lines().any(|line| line.contains("▌?") && line.contains("ls -la /")));
}

/// A flood costs the screen nothing: a megabyte a message, and a key between them.
#[test]
fn a_flood_of_output_leaves_keys_alive_and_memory_bounded() {
    let mut harness = Harness::with_story((200, 60));
    harness.select("9vq2m0ke");
    let id = ProposalId("9vq2m0ke".into());
    let chunk = b"all work and no play\n".repeat(3000);
    for _ in 0..200 {
        harness.send(Msg::Output(id.clone(), vec![(0, OutputStream::Stdout, chunk.clone())]));
        harness.key('2');
        harness.key('1');
        let _ = harness.draw(&theme("none"));
    }
    let output = harness.state.output.as_ref().unwrap();
    assert!(output.ring.cost() <= super::super::output::RING_BYTES + (64 << 10));
    assert!(harness.text().contains("left out"));
}

#[test]
fn a_thousand_sandboxes_and_ten_thousand_proposals_are_drawn_row_by_row() {
    let mut harness = Harness::new((200, 60));
    let mut snapshot = story();
    let row = snapshot.proposals[0].clone();
    snapshot.proposals =
        (0..10_000).map(|at| ProposalRow { id: ProposalId(format!("p{at:07}")), ..row.clone() }).collect();
    harness.update(Update::Snapshot(snapshot));
    harness.key('G');
    let text = harness.text();
    assert!(text.contains("10000 waiting") && text.contains("↑"), "{text}");
}

/// Time alone wakes the console only while something on the screen counts.
#[test]
fn an_idle_console_sleeps() {
    let mut harness = Harness::new((100, 30));
    assert_eq!(harness.state.changes_in(), None);
    let mut snapshot = story();
    snapshot.proposals.clear();
    snapshot.sandboxes.retain(|row| row.deadline_at.is_none());
    harness.update(Update::Snapshot(snapshot));
    assert_eq!(harness.state.changes_in(), None);
    harness.update(Update::Snapshot(story()));
    assert_eq!(harness.state.changes_in(), Some(300), "a question is about to be armed");
    harness.wait(300);
    assert_eq!(harness.state.changes_in(), Some(1000));
}
