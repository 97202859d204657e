//! The questions, the oldest first; below them what became of others.

use brig_core::proposal::Status;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Painter, beyond, headings, joined, on_screen, words};
use crate::api::wire::{Choice, ProposalRow};
use crate::console::layout::{self, QueueColumns};
use crate::console::state::{Pane, State};
use crate::console::text::{cut, shown_in};

pub fn draw(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let columns = QueueColumns::new(layout::inner(area).width);
    let height = state.height_of(Pane::Queue);
    let waiting = match state.waiting() {
        0 => String::new(),
        waiting => format!("{waiting} waiting"),
    };
    let right = joined(&[&waiting, &beyond(state.proposals.len(), state.queue_list.top, height)]);
    painter.pane(state, Pane::Queue, area, "Queue", &right);
    let rows = headings(
        painter,
        area,
        &[
            (columns.age, "AGE", true),
            (columns.left, "LEFT/END", false),
            (columns.agent, "AGENT", false),
            (columns.profile, "PROFILE", false),
            (columns.command, "COMMAND", false),
            (columns.reason, "REASON", false),
        ],
    );
    if state.proposals.is_empty() && state.supervisor.is_some() {
        painter.put(
            rows.x + 3,
            rows.y,
            rows.width - 3,
            "No questions. What agents propose appears here.",
            painter.theme.dim,
        );
    }
    for (proposal, row) in on_screen(&state.proposals, state.queue_list.top, rows) {
        draw_row(state, proposal, &columns, row, painter);
        if state.queue_list.cursor.as_ref() == Some(&proposal.id) {
            painter.select(row, state.focus == Pane::Queue);
        }
    }
}

fn draw_row(state: &State, proposal: &ProposalRow, columns: &QueueColumns, row: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let over = proposal.status.is_final();
    let base = if over { theme.dim } else { Style::new() };
    let (sign, sign_style) = match (proposal.status, state.pending.get(&proposal.id)) {
        (Status::Waiting, Some(Choice::Approved | Choice::Rejected)) => ("…", theme.info),
        // A question that has just come or moved: keys do not act on it yet.
        (Status::Waiting, None) if !state.seen.is_empty() && !state.is_armed(proposal) => ("·", theme.waiting),
        _ => words::sign(proposal, theme),
    };
    painter.put(row.x + 1, row.y, 1, sign, sign_style);
    painter.number(row, columns.age, &words::since(proposal, state.now), base);
    let hurry = proposal.status == Status::Waiting && proposal.expires_at.0 - state.now.wall.0 < 60_000;
    let left_style = match proposal.status {
        Status::Waiting if hurry => theme.warn,
        Status::Finished if words::is_success(proposal) => theme.ok,
        Status::Finished => theme.danger,
        _ => base,
    };
    painter.cell(row, columns.left, &words::left_or_end(proposal, state.now), left_style);
    painter.cell(
        row,
        columns.agent,
        &shown_in(&proposal.agent.name, columns.agent.width),
        if over { base } else { theme.agent },
    );
    painter.cell(row, columns.profile, &shown_in(&proposal.profile, columns.profile.width), base);
    draw_command(proposal, columns, row, base, painter);
    painter.cell(
        row,
        columns.reason,
        &shown_in(&proposal.reason, columns.reason.width),
        if over { base } else { theme.agent },
    );
}

/// The command; where there is more to it than a line can show, that is said, in the same place for whatever reason.
fn draw_command(proposal: &ProposalRow, columns: &QueueColumns, row: Rect, base: Style, painter: &mut Painter<'_>) {
    const MORE: &str = " +more";
    let width = columns.command.width;
    let (_, is_cut) = cut(&proposal.command, usize::from(width));
    let more = !proposal.command_is_all && !is_cut;
    let room = if more { width.saturating_sub(MORE.len() as u16) } else { width };
    let used = painter.put(row.x + columns.command.x, row.y, room, &proposal.command, base);
    if more {
        painter.put(row.x + columns.command.x + used, row.y, width - used, MORE, painter.theme.warn);
    }
}
