//! A message and the state go in, commands come out. No terminal, no connection, no clock.

use brig_core::id::ProposalId;
use brig_core::problem::Problem;
use brig_core::proposal::Status;
use brig_core::time::Now;

use super::actions;
use super::keymap::Context;
use super::msg::{Command, Msg, Target};
use super::output::Output;
use super::state::{Dialog, Link, State, Tone, has_run};
use super::text::shown;
use super::{Leave, keymap};
use crate::api::wire::{Choice, ProposalDetail, ProposalRow, SandboxRow, Snapshot, Update};

/// What a message led to.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be done, in this order.
    pub commands: Vec<Command>,
    /// Whether the screen may be another one now.
    pub redraw: bool,
}

/// Takes one message.
pub fn update(state: &mut State, msg: Msg, now: Now) -> Effects {
    state.now = now;
    let mut effects = Effects { commands: Vec::new(), redraw: true };
    let out = &mut effects.commands;
    match msg {
        Msg::Key(key) => actions::key(state, key, out),
        Msg::Paste(text) => actions::paste(state, &text),
        Msg::Resize(columns, rows) => {
            state.size = (columns, rows);
            // Lines are elsewhere now, and more or less of each is visible.
            state.seen.clear();
        }
        Msg::Tick => {}
        Msg::Update(update) => effects.redraw = apply(state, *update, out),
        Msg::Lost(problem) => lost(state, problem, out),
        Msg::Detail(id, result) => detail(state, &id, result),
        Msg::Output(id, chunks) => {
            let Some(output) = state.output.as_mut().filter(|output| output.of == id) else {
                return Effects::default();
            };
            output.problem = None;
            for (step, stream, bytes) in chunks {
                output.ring.push(step, stream, &bytes);
            }
        }
        Msg::OutputState(id, result) => {
            if let Some(output) = state.output.as_mut().filter(|output| output.of == id) {
                output.complete = result.is_ok();
                output.problem = result.err();
            }
        }
        Msg::VerdictDone(id, choice, result) => verdict_done(state, &id, choice, result),
        Msg::KillDone(target, result) => kill_done(state, &target, result),
        Msg::ShutdownDone(result) => shutdown_done(state, result, out),
    }
    state.settle();
    follow(state, out);
    effects
}

/// Where the keys go.
#[must_use]
pub fn context(state: &State) -> keymap::Context {
    match &state.dialog {
        Some(Dialog::Help(_)) => Context::Help,
        Some(Dialog::Quit) => Context::Quit,
        Some(Dialog::Reject(_)) => Context::Reject,
        None if state.review.is_some() => Context::Review,
        None => Context::Dashboard,
    }
}

/// Takes what the supervisor says is new. Returns whether anything is.
fn apply(state: &mut State, update: Update, out: &mut Vec<Command>) -> bool {
    match update {
        Update::Snapshot(snapshot) => {
            take_snapshot(state, snapshot, out);
            return true;
        }
        Update::Proposal(row) => {
            reviewed_changed(state, &row, out);
            replace(&mut state.proposals, row, |a, b| a.id == b.id);
        }
        Update::ProposalGone { id } => {
            state.proposals.retain(|row| row.id != id);
            state.pending.remove(&id);
        }
        Update::Sandbox(row) => replace(&mut state.sandboxes, row, |a: &SandboxRow, b| a.id == b.id),
        Update::SandboxGone { id } => state.sandboxes.retain(|row| row.id != id),
        Update::Pool(row) => replace(&mut state.pools, row, |a, b| a.profile == b.profile),
        Update::PoolGone { profile } => state.pools.retain(|row| row.profile != profile),
        Update::Supervisor(row) => state.supervisor = Some(row),
        Update::Alive => return false,
    }
    state.sort();
    true
}

fn take_snapshot(state: &mut State, snapshot: Snapshot, out: &mut Vec<Command>) {
    let was_lost = matches!(state.link, Link::Lost { .. });
    if was_lost {
        state.say(Tone::Good, "the supervisor is back");
    }
    state.link = Link::Up;
    state.supervisor = Some(snapshot.supervisor);
    state.proposals = snapshot.proposals;
    state.sandboxes = snapshot.sandboxes;
    state.pools = snapshot.pools;
    state.pending.retain(|id, _| state.proposals.iter().any(|row| row.id == *id));
    state.sort();
    if let Some(row) = state.review.as_ref().and_then(|review| state.proposal(&review.id)).cloned() {
        reviewed_changed(state, &row, out);
    }
}

/// A proposal that is looked at has changed: its content is fetched again, so that what is shown is what is.
fn reviewed_changed(state: &State, row: &ProposalRow, out: &mut Vec<Command>) {
    let Some(review) = state.review.as_ref().filter(|review| review.id == row.id) else { return };
    if review.detail.as_ref().is_none_or(|detail| detail.row != *row) {
        out.push(Command::Fetch(row.id.clone()));
    }
}

fn replace<T>(rows: &mut Vec<T>, row: T, same: impl Fn(&T, &T) -> bool) {
    match rows.iter_mut().find(|old| same(old, &row)) {
        Some(old) => *old = row,
        None => rows.push(row),
    }
}

fn lost(state: &mut State, problem: Problem, out: &mut Vec<Command>) {
    if state.ending {
        // It was told to end, and now it has.
        out.push(Command::Leave(Leave::Stopped));
        return;
    }
    let since = match &state.link {
        Link::Lost { since, .. } => *since,
        Link::Up | Link::Connecting => state.now,
    };
    state.link = Link::Lost { since, problem };
    state.pending.clear();
}

fn detail(state: &mut State, id: &ProposalId, result: Result<Box<ProposalDetail>, Problem>) {
    let Some(review) = state.review.as_mut().filter(|review| review.id == *id) else { return };
    match result {
        Ok(detail) => review.load(detail),
        Err(problem) => review.problem = Some(problem),
    }
}

fn verdict_done(state: &mut State, id: &ProposalId, choice: Choice, result: Result<(), Problem>) {
    state.pending.remove(id);
    let sent = match choice {
        Choice::Approved => None,
        Choice::Rejected => state.sent.iter().position(|sent| sent.id == *id).map(|at| state.sent.remove(at)),
    };
    match result {
        Ok(()) => {
            let word = match choice {
                Choice::Approved => "approved",
                Choice::Rejected => "rejected",
            };
            state.say(Tone::Good, format!("{word} {id}"));
        }
        Err(problem) => {
            state.say(Tone::Bad, format!("{id} was not decided: {}", shown(&problem.to_string())));
            let waits = state.proposal(id).is_some_and(|row| row.status == Status::Waiting);
            if let Some(dialog) = sent.filter(|_| waits && state.dialog.is_none()) {
                state.dialog = Some(Dialog::Reject(dialog));
            }
        }
    }
}

fn kill_done(state: &mut State, target: &Target, result: Result<(), Problem>) {
    let name = match target {
        Target::Run(id) => format!("run {id}"),
        Target::Sandbox(id) => format!("sandbox {id}"),
    };
    match result {
        Ok(()) => state.say(Tone::Good, format!("{name} is being killed")),
        Err(problem) => state.say(Tone::Bad, format!("{name} was not killed: {}", shown(&problem.to_string()))),
    }
}

fn shutdown_done(state: &mut State, result: Result<(), Problem>, out: &mut Vec<Command>) {
    match result {
        Ok(()) => out.push(Command::Leave(Leave::Stopped)),
        Err(problem) => {
            state.ending = false;
            state.say(Tone::Bad, format!("it was not stopped: {}", shown(&problem.to_string())));
        }
    }
}

/// Follows the output of what is selected, and of nothing else.
fn follow(state: &mut State, out: &mut Vec<Command>) {
    let wanted = state.subject_run().filter(|row| has_run(row)).map(|row| row.id.clone());
    let current = state.output.as_ref().map(|output| &output.of);
    if wanted.as_ref() != current {
        state.output = wanted.clone().map(Output::new);
        out.push(Command::Follow(wanted));
    }
}
