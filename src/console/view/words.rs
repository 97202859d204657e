//! The words and signs for states, the same in every view.

use brig_core::proposal::{EndKind, RunEnd, Status};
use brig_core::time::Now;
use ratatui::style::Style;

use crate::api::wire::{PoolState, ProposalRow, SandboxState};
use crate::console::state::ended_at;
use crate::console::text::{age, left};
use crate::console::theme::Theme;

/// A sign of one column, and how it looks. Signs differ, so that the colour is only a help.
pub fn sign(row: &ProposalRow, theme: &Theme) -> (&'static str, Style) {
    match row.status {
        Status::Waiting => ("?", theme.waiting),
        Status::Arriving | Status::Approved => ("…", theme.info),
        Status::Running => ("▸", theme.info),
        Status::Finished if is_success(row) => ("✓", theme.ok),
        Status::Finished => ("✗", theme.danger),
        Status::Rejected | Status::Expired | Status::Withdrawn => ("–", theme.dim),
    }
}

/// Whether its run ended as one hopes.
pub fn is_success(row: &ProposalRow) -> bool {
    row.end.as_ref().is_some_and(|end| end.kind == EndKind::Exited && end.exit_code == Some(0))
}

/// How long a proposal waits, runs, or is over.
pub fn since(row: &ProposalRow, now: Now) -> String {
    let from = match (&row.run, row.status) {
        (Some(run), Status::Running) => run.started_at,
        (_, status) if status.is_final() => ended_at(row),
        _ => row.received_at,
    };
    age(now.wall.0 - from.0)
}

/// The time that is left to it, or how it ended, in at most 9 columns.
pub fn left_or_end(row: &ProposalRow, now: Now) -> String {
    let time = |until: i64| format!("{:>5}", left(until - now.wall.0));
    match (row.status, &row.run, &row.end) {
        (Status::Waiting, ..) => time(row.expires_at.0),
        (Status::Running, Some(run), _) => time(run.deadline_at.0),
        (Status::Finished, _, Some(end)) => end_word(end),
        (status, ..) => status.text().to_owned(),
    }
}

fn end_word(end: &RunEnd) -> String {
    match (end.kind, end.exit_code, end.signal) {
        (EndKind::Exited, Some(code), _) => format!("exit {code}"),
        (EndKind::Exited, None, Some(signal)) => format!("signal {signal}"),
        (kind, ..) => kind.text().to_owned(),
    }
}

/// How a sandbox's state looks.
pub fn sandbox(state: SandboxState, theme: &Theme) -> (&'static str, Style) {
    match state {
        SandboxState::Running => ("▸", theme.info),
        SandboxState::Leased => ("…", theme.info),
        SandboxState::Ending => ("×", theme.dim),
        SandboxState::Creating => ("+", theme.dim),
        SandboxState::Warm => ("·", theme.dim),
    }
}

/// How a pool's state looks.
pub fn pool(state: PoolState, theme: &Theme) -> Style {
    match state {
        PoolState::Ready => theme.ok,
        PoolState::Idle | PoolState::Draining | PoolState::Drained => theme.dim,
        PoolState::Paused => theme.warn,
        PoolState::Filling | PoolState::Image => theme.info,
        PoolState::Away | PoolState::Failing => theme.danger,
    }
}
