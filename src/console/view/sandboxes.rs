//! The sandboxes and what they use; what runs first, what is warm below.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Painter, beyond, headings, joined, on_screen, words};
use crate::api::wire::{SandboxRow, SandboxState, UsageRow};
use crate::console::layout::{self, Column};
use crate::console::state::{Pane, State};
use crate::console::text::{bytes, left, shown_in};

struct Columns {
    state: Column,
    profile: Column,
    cpu: Column,
    memory: Column,
    pids: Column,
    left: Column,
    id: Column,
    command: Column,
    /// Memory and processes with their limits.
    with_limits: bool,
}

impl Columns {
    fn new(width: u16) -> Self {
        let mut columns = layout::Columns::new(width, 3);
        let (wide, middle) = (width >= 70, width >= 44);
        Self {
            state: columns.take(8),
            profile: columns.take(if wide { 8 } else { 0 }),
            cpu: columns.take(5),
            memory: columns.take(match (wide, middle) {
                (true, _) => 11,
                (_, true) => 5,
                _ => 0,
            }),
            pids: columns.take(match (wide, middle) {
                (true, _) => 7,
                (_, true) => 4,
                _ => 0,
            }),
            left: columns.take(5),
            // A blank more, as numbers end where words begin.
            id: columns.skip(1).take(if wide { 8 } else { 0 }),
            command: columns.take(columns.left()),
            with_limits: wide,
        }
    }
}

pub fn draw(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let columns = Columns::new(layout::inner(area).width);
    let warm = state.sandboxes.iter().filter(|row| row.state == SandboxState::Warm).count();
    let running = state.sandboxes.iter().filter(|row| row.state == SandboxState::Running).count();
    let words = [(running, "running"), (warm, "warm")].map(|(count, word)| match count {
        0 => String::new(),
        _ => format!("{count} {word}"),
    });
    let beyond = beyond(state.sandboxes.len(), state.sandbox_list.top, state.height_of(Pane::Sandboxes));
    painter.pane(state, Pane::Sandboxes, area, "Sandboxes", &joined(&[&words[0], &words[1], &beyond]));
    let rows = headings(
        painter,
        area,
        &[
            (columns.state, "STATE", false),
            (columns.profile, "PROFILE", false),
            (columns.cpu, "CPU", true),
            (columns.memory, if columns.with_limits { "MEMORY" } else { "MEM" }, true),
            (columns.pids, "PIDS", true),
            (columns.left, "LEFT", true),
            (columns.id, "ID", false),
            (columns.command, "COMMAND", false),
        ],
    );
    if state.sandboxes.is_empty() && state.supervisor.is_some() {
        painter.put(rows.x + 3, rows.y, rows.width - 3, "No sandboxes.", painter.theme.dim);
    }
    for (sandbox, row) in on_screen(&state.sandboxes, state.sandbox_list.top, rows) {
        draw_row(state, sandbox, &columns, row, painter);
        if state.sandbox_list.cursor.as_ref() == Some(&sandbox.id) {
            painter.select(row, state.focus == Pane::Sandboxes);
        }
    }
}

fn draw_row(state: &State, sandbox: &SandboxRow, columns: &Columns, row: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let busy = matches!(sandbox.state, SandboxState::Running | SandboxState::Leased);
    let base = if busy { Style::new() } else { theme.dim };
    let (sign, sign_style) = words::sandbox(sandbox.state, theme);
    painter.put(row.x + 1, row.y, 1, sign, sign_style);
    let word = match (&sandbox.killed_by, sandbox.state) {
        (Some(_), SandboxState::Running | SandboxState::Ending) => "killing",
        _ => sandbox.state.text(),
    };
    painter.cell(row, columns.state, word, base);
    painter.cell(row, columns.profile, &shown_in(&sandbox.profile, columns.profile.width), base);
    if let Some(usage) = &sandbox.usage {
        draw_usage(usage, base, columns, row, painter);
    }
    if let Some(deadline) = sandbox.deadline_at {
        let ms = deadline.0 - state.now.wall.0;
        let style = if ms < 10_000 { theme.warn } else { base };
        painter.number(row, columns.left, &left(ms), style);
    }
    painter.cell(row, columns.id, &shown_in(&sandbox.id.0, columns.id.width), theme.dim);
    painter.cell(row, columns.command, sandbox.command.as_deref().unwrap_or(""), base);
}

fn draw_usage(usage: &UsageRow, base: Style, columns: &Columns, row: Rect, painter: &mut Painter<'_>) {
    let warn = painter.theme.warn;
    let near = |used: u64, limit: u64| if limit > 0 && used.saturating_mul(10) >= limit * 9 { warn } else { base };
    if let Some(cpu) = usage.cpu_percent {
        let style = if cpu >= 90.0 { warn } else { base };
        painter.number(row, columns.cpu, &format!("{cpu:.0}%"), style);
    }
    let limited = |used: String, limit: String| if columns.with_limits { format!("{used}/{limit}") } else { used };
    let memory = limited(bytes(usage.memory), bytes(usage.memory_limit));
    painter.number(row, columns.memory, &memory, near(usage.memory, usage.memory_limit));
    let pids = limited(usage.pids.to_string(), usage.pids_limit.to_string());
    painter.number(row, columns.pids, &pids, near(usage.pids, usage.pids_limit));
}
