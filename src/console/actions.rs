//! What the keys do.

use brig_core::admission::MAX_REASON_BYTES;
use brig_core::proposal::Status;
use brig_core::visible;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tui_textarea::TextArea;

use super::Leave;
use super::keymap::{self, Action};
use super::msg::{Command, Target};
use super::review::Review;
use super::state::{Dialog, Link, List, Pane, RejectDialog, State, Subject, Tone};
use super::update::context;
use crate::api::wire::{Choice, ProposalRow, SandboxState, VerdictRequest};

/// Columns that a sideways step moves the output by.
const SIDEWAYS: usize = 16;
/// Bytes of a paste; what is longer belongs into no reason, and is refused as a whole rather than cut.
const PASTE_MAX: usize = 16 * MAX_REASON_BYTES;

/// Takes a key.
pub fn key(state: &mut State, event: KeyEvent, out: &mut Vec<Command>) {
    let context = context(state);
    match keymap::lookup(context, event) {
        Some(action) => act(state, action, out),
        None if context == keymap::Context::Reject => write(state, event),
        None => {}
    }
}

/// Takes pasted text. Only an editor wants it.
pub fn paste(state: &mut State, text: &str) {
    let Some(Dialog::Reject(dialog)) = &mut state.dialog else { return };
    if text.len() > PASTE_MAX {
        return state.say(Tone::Bad, format!("not pasted: a reason has at most {MAX_REASON_BYTES} bytes"));
    }
    // Terminals send line ends as `\r`, `\n` or both.
    for (at, line) in text.replace("\r\n", "\n").split(['\r', '\n']).enumerate() {
        if at > 0 {
            dialog.editor.insert_newline();
        }
        // The editor draws what it holds, so nothing hidden gets into it. Words go one by one, as a long run of blanks is
        // layout here.
        let words: Vec<String> = line.split(' ').map(|word| visible::line(word.as_bytes())).collect();
        dialog.editor.insert_str(words.join(" "));
    }
}

fn act(state: &mut State, action: Action, out: &mut Vec<Command>) {
    match action {
        Action::Up => step(state, -1),
        Action::Down => step(state, 1),
        Action::PageUp => step(state, -page(state)),
        Action::PageDown => step(state, page(state)),
        Action::First => step(state, isize::MIN / 2),
        Action::Last => step(state, isize::MAX / 2),
        Action::Left => sideways(state, false),
        Action::Right => sideways(state, true),
        Action::NextPane => turn(state, 1),
        Action::PreviousPane => turn(state, Pane::ALL.len() - 1),
        Action::Focus(pane) => focus(state, pane),
        Action::NextQuestion => next_question(state),
        Action::Open => open(state, out),
        Action::Approve => approve(state, out),
        Action::Reject => reject(state),
        Action::Kill => kill(state, out),
        Action::Help => state.dialog = Some(Dialog::Help(0)),
        Action::Close if state.dialog.is_some() => state.dialog = None,
        Action::Close => state.review = None,
        Action::Send => send_reason(state, out),
        Action::NewLine => {
            if let Some(Dialog::Reject(dialog)) = &mut state.dialog {
                dialog.editor.insert_newline();
            }
        }
        Action::Quit => quit(state, out),
        Action::Keep | Action::Leave => out.push(Command::Leave(Leave::Keep)),
        Action::StopAll => {
            state.dialog = None;
            state.ending = true;
            out.push(Command::Shutdown);
        }
    }
}

/// Lines that a page is: all but one, so that the eye keeps its place.
fn page(state: &State) -> isize {
    let height = match (&state.dialog, &state.review) {
        (Some(_), _) => usize::from(state.size.1 / 2),
        (None, Some(review)) => review.height(),
        (None, None) => state.height_of(state.focus),
    };
    isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1)
}

fn step(state: &mut State, by: isize) {
    if let Some(Dialog::Help(top)) = &mut state.dialog {
        let last = super::view::help::last_top(state.size);
        *top = top.saturating_add_signed(by).min(last);
        return;
    }
    if let Some(review) = &mut state.review {
        review.scroll(by);
        return;
    }
    let height = state.height_of(state.focus);
    match state.focus {
        Pane::Queue => state.queue_list.go(&state.proposals, height, by, |row| &row.id),
        Pane::Sandboxes => state.sandbox_list.go(&state.sandboxes, height, by, |row| &row.id),
        Pane::Pools => state.pool_list.go(&state.pools, height, by, |row| &row.profile),
        Pane::Output => {
            if let Some(output) = &mut state.output {
                // The end of a run has a line of its own below its output.
                output.scroll(by as i64, height.saturating_sub(1));
            }
        }
    }
}

fn sideways(state: &mut State, right: bool) {
    let Some(output) = state.output.as_mut().filter(|_| state.focus == Pane::Output) else { return };
    output.left = if right { output.left + SIDEWAYS } else { output.left.saturating_sub(SIDEWAYS) };
}

fn turn(state: &mut State, by: usize) {
    let at = Pane::ALL.iter().position(|pane| *pane == state.focus).unwrap_or(0);
    focus(state, Pane::ALL[(at + by) % Pane::ALL.len()]);
}

/// Turns to a pane. Who turns to a list whose selected item has gone meanwhile wants to select one there.
fn focus(state: &mut State, pane: Pane) {
    state.focus = pane;
    let nothing_selected = match pane {
        Pane::Queue => state.queue_list.cursor.is_none(),
        Pane::Sandboxes => state.sandbox_list.cursor.is_none(),
        Pane::Pools => state.pool_list.cursor.is_none(),
        Pane::Output => false,
    };
    if nothing_selected {
        step(state, 0);
    }
}

fn next_question(state: &mut State) {
    let waiting = state.waiting();
    if waiting == 0 {
        state.say(Tone::Hint, "no question waits");
        return;
    }
    // Questions are the first rows of the queue.
    let cursor = state.queue_list.cursor.as_ref();
    let at = state.proposals[..waiting].iter().position(|row| Some(&row.id) == cursor);
    let next = at.map_or(0, |at| (at + 1) % waiting);
    let height = state.height_of(Pane::Queue);
    state.focus = Pane::Queue;
    let list: &mut List<_> = &mut state.queue_list;
    list.go_to(&state.proposals, height, next, |row| &row.id);
}

/// The proposal that keys are about at the moment.
fn selected(state: &State) -> Option<&ProposalRow> {
    if let Some(review) = &state.review {
        return state.proposal(&review.id);
    }
    match state.focus {
        Pane::Queue => state.queue_list.cursor.as_ref().and_then(|id| state.proposal(id)),
        Pane::Sandboxes => {
            let sandbox = state.sandbox_list.cursor.as_ref().and_then(|id| state.sandbox(id))?;
            sandbox.proposal.as_ref().and_then(|id| state.proposal(id))
        }
        Pane::Pools => None,
        Pane::Output => match &state.subject {
            Subject::Proposal(id) => state.proposal(id),
            _ => None,
        },
    }
}

fn open(state: &mut State, out: &mut Vec<Command>) {
    let Some(id) = selected(state).map(|row| row.id.clone()) else {
        state.say(Tone::Hint, "no proposal is selected");
        return;
    };
    state.review = Some(Review::new(id.clone()));
    out.push(Command::Fetch(id));
}

/// The proposal that a verdict may be on, or why there is none.
fn to_decide(state: &State) -> Result<&ProposalRow, String> {
    if state.link != Link::Up {
        return Err("the supervisor is away: nothing can be decided".into());
    }
    let row = selected(state).ok_or("no question is selected")?;
    if row.status != Status::Waiting {
        let others = if state.waiting() > 0 { "; n goes to the next question" } else { "" };
        return Err(format!("{} does not wait: it is {}{others}", row.id, row.status.text()));
    }
    if state.pending.contains_key(&row.id) {
        return Err(format!("the verdict on {} is on its way", row.id));
    }
    // In the other panes the question's line may be out of sight, so its cursor is not what the user looks at.
    if state.review.is_none() && state.focus != Pane::Queue {
        return Err("go to the queue (1) or open the proposal (Enter) to decide".into());
    }
    Ok(row)
}

fn approve(state: &mut State, out: &mut Vec<Command>) {
    let row = match to_decide(state) {
        Ok(row) => row.clone(),
        Err(why) => return state.say(Tone::Hint, why),
    };
    let digest = match &state.review {
        Some(review) => {
            let Some(detail) = &review.detail else { return state.say(Tone::Hint, "it is not here yet") };
            if detail.row.digest != row.digest {
                return state.say(Tone::Bad, "it has changed: look again");
            }
            if !review.was_seen_to_its_end() {
                let below = super::text::count(review.below(), "line");
                return state.say(Tone::Hint, format!("look at it to its end first: {below} below"));
            }
            if !review.is_armed(state.now.mono) {
                return state.say(Tone::Hint, "its end has just appeared: look again");
            }
            detail.row.digest
        }
        None if !state.is_armed(&row) => return state.say(Tone::Hint, "it has just appeared or moved: look again"),
        None if !state.is_wholly_visible(&row) => {
            open(state, out);
            return state.say(Tone::Hint, "it does not fit on its line: here it is as a whole");
        }
        None => row.digest,
    };
    state.review = None;
    // Whoever lets something run wants to see what becomes of it.
    state.queue_list.hold();
    state.pending.insert(row.id.clone(), Choice::Approved);
    let request = VerdictRequest { digest: digest.hex(), verdict: Choice::Approved, reason: String::new() };
    out.push(Command::Verdict(row.id, request));
}

fn reject(state: &mut State) {
    let row = match to_decide(state) {
        Ok(row) => row.clone(),
        Err(why) => return state.say(Tone::Hint, why),
    };
    if state.review.is_none() && !state.is_armed(&row) {
        return state.say(Tone::Hint, "it has just appeared or moved: look again");
    }
    let mut editor = TextArea::default();
    editor.set_wrap_mode(tui_textarea::WrapMode::WordOrGlyph);
    let dialog = RejectDialog { id: row.id, digest: row.digest, command: row.command, editor };
    state.dialog = Some(Dialog::Reject(Box::new(dialog)));
}

fn send_reason(state: &mut State, out: &mut Vec<Command>) {
    let Some(Dialog::Reject(dialog)) = &state.dialog else { return };
    let reason = as_written(&dialog.editor.lines().join("\n")).trim().to_owned();
    let (id, digest) = (dialog.id.clone(), dialog.digest);
    if reason.is_empty() {
        return state.say(Tone::Hint, "the agent needs a reason: say what is wrong, or what to do instead");
    }
    if reason.len() > MAX_REASON_BYTES {
        let text = format!("the reason has {} bytes, and at most {MAX_REASON_BYTES} are taken", reason.len());
        return state.say(Tone::Bad, text);
    }
    let status = state.proposal(&id).map(|row| (row.status, row.digest));
    match status {
        _ if state.link != Link::Up => return state.say(Tone::Bad, "the supervisor is away: nothing can be decided"),
        Some((Status::Waiting, now)) if now != digest => {
            state.dialog = None;
            return state.say(Tone::Bad, "it has changed since: look again");
        }
        Some((Status::Waiting, _)) => {}
        _ => {
            state.dialog = None;
            let word = status.map_or("gone", |(status, _)| status.text());
            return state.say(Tone::Bad, format!("{id} no longer waits: it is {word}"));
        }
    }
    if let Some(Dialog::Reject(dialog)) = state.dialog.take() {
        state.sent.push(dialog);
    }
    state.review = None;
    state.pending.insert(id.clone(), Choice::Rejected);
    out.push(Command::Verdict(id, VerdictRequest { digest: digest.hex(), verdict: Choice::Rejected, reason }));
}

/// What was typed and pasted, of what the editor shows of it. Where the marks were edited so that they are none any more,
/// it is the text itself, and so it is where a mark has a count, which nothing that came in has.
fn as_written(shown: &str) -> String {
    let mut marks = shown.split('⟨').skip(1).filter_map(|rest| rest.split('⟩').next());
    let bytes = if marks.any(|mark| mark.contains('×')) { None } else { visible::bytes_of(shown) };
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| shown.to_owned())
}

fn write(state: &mut State, event: KeyEvent) {
    let Some(Dialog::Reject(dialog)) = &mut state.dialog else { return };
    if event.kind == KeyEventKind::Release {
        return;
    }
    let plain = event.modifiers.difference(KeyModifiers::SHIFT).is_empty();
    match event.code {
        KeyCode::Char(character) if plain => {
            dialog.editor.insert_str(visible::line(character.to_string().as_bytes()));
        }
        _ => {
            dialog.editor.input(event);
        }
    }
}

/// Whether there is something at the moment that this action is for. The footer shows no others.
#[must_use]
pub fn is_possible(state: &State, action: Action) -> bool {
    match action {
        Action::Approve | Action::Reject => to_decide(state).is_ok(),
        Action::Kill => to_kill(state).is_some(),
        Action::Open => selected(state).is_some(),
        Action::NextQuestion => state.waiting() > 0,
        _ => true,
    }
}

fn to_kill(state: &State) -> Option<Target> {
    if state.review.is_none() && state.focus == Pane::Sandboxes {
        let sandbox = state.sandbox_list.cursor.as_ref().and_then(|id| state.sandbox(id));
        sandbox.filter(|row| row.state != SandboxState::Creating).map(|row| Target::Sandbox(row.id.clone()))
    } else {
        let row = selected(state).filter(|row| matches!(row.status, Status::Running | Status::Approved));
        row.map(|row| Target::Run(row.id.clone()))
    }
}

fn kill(state: &mut State, out: &mut Vec<Command>) {
    match to_kill(state) {
        Some(target) => out.push(Command::Kill(target)),
        None => state.say(Tone::Hint, "nothing that runs is selected"),
    }
}

fn quit(state: &mut State, out: &mut Vec<Command>) {
    let asks = state.link == Link::Up
        && !state.ending
        && state.supervisor.as_ref().is_some_and(|row| row.ends_with_consoles && row.consoles <= 1)
        && state.running() + state.waiting() > 0;
    if asks {
        state.dialog = Some(Dialog::Quit);
    } else {
        out.push(Command::Leave(Leave::Keep));
    }
}
