//! The last pane: what is selected. The output of a run, or what there is to say of a question, a sandbox or a pool.

use brig_core::problem::Code;
use brig_core::profile::ImageSource;
use brig_core::proposal::{OutputStream, RunEnd, Status};
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Painter, joined, words};
use crate::api::wire::{PoolRow, ProposalRow, SandboxRow, end_text, running_step};
use crate::console::layout;
use crate::console::output::Output;
use crate::console::state::{Link, Pane, State, Subject, has_run};
use crate::console::text::{age, bytes, bytes_long, decider, duration, left, shown, wrap, wrap_words};

/// Columns before a line of output: its stream's sign.
const GUTTER: u16 = 2;

pub fn draw(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let inside = layout::inner(area);
    match &state.subject {
        Subject::Proposal(id) => match state.proposal(id) {
            Some(row) if has_run(row) => return draw_run(state, row, area, painter),
            Some(row) => {
                painter.pane(state, Pane::Output, area, "Proposal", &row.id.0);
                return facts(inside, &proposal(row, state, painter), painter);
            }
            None => {}
        },
        Subject::Sandbox(id) => {
            if let Some(row) = state.sandbox(id) {
                painter.pane(state, Pane::Output, area, "Sandbox", &shown(&id.0));
                return facts(inside, &sandbox(row, state), painter);
            }
        }
        Subject::Pool(profile) => {
            if let Some(row) = state.pools.iter().find(|row| row.profile == *profile) {
                painter.pane(state, Pane::Output, area, "Pool", &shown(profile));
                return facts(inside, &pool(row, state, painter), painter);
            }
        }
        Subject::Nothing => {}
    }
    painter.pane(state, Pane::Output, area, "Output", "");
    if state.proposals.is_empty() && state.link == Link::Up {
        welcome(inside, painter);
    } else if state.link == Link::Up {
        painter.put(inside.x + GUTTER, inside.y, inside.width - GUTTER, "Nothing is selected.", painter.theme.dim);
    }
}

/// The next step for somebody who sees this for the first time.
fn welcome(area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let lines = [
        ("Nothing has been proposed yet. In another terminal:", Style::new()),
        ("", Style::new()),
        ("  brig run --reason \"look around\" -- ls -la /", theme.accent),
        ("", Style::new()),
        ("It waits above for you: a approves, r rejects, ? lists all keys.", theme.dim),
    ];
    // Where it is tight, the blank lines go.
    let tight = usize::from(area.height) < lines.len();
    let lines = lines.iter().filter(|(text, _)| !tight || !text.is_empty());
    for ((text, style), row) in lines.zip(area.rows()) {
        painter.put(row.x + GUTTER, row.y, row.width - GUTTER, text, *style);
    }
}

fn draw_run(state: &State, row: &ProposalRow, area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let output = state.output.as_ref().filter(|output| output.of == row.id);
    let dropped = output.map_or(0, |output| output.ring.dropped_bytes());
    let right = joined(&[
        &match dropped {
            0 => String::new(),
            _ => format!("{} before this left out", bytes(dropped)),
        },
        match output {
            Some(output) if output.top.is_some() => "scrolled",
            Some(output) if !output.complete => "following",
            _ => "",
        },
        &row.id.0,
    ]);
    painter.pane(state, Pane::Output, area, "Output", &right);
    let inside = layout::inner(area);
    let text_area = Rect { height: inside.height.saturating_sub(1), ..inside };
    let last = Rect { y: text_area.bottom(), height: 1, ..inside };
    if let Some(output) = output {
        draw_lines(output, text_area, painter);
        if output.ring.end() == 0 && output.complete {
            painter.put(inside.x + GUTTER, inside.y, inside.width - GUTTER, "It wrote nothing.", theme.dim);
        }
        if let Some(problem) = output.problem.as_ref().filter(|problem| problem.code == Code::Pruned) {
            let text = shown(&problem.message);
            painter.put(inside.x + GUTTER, inside.y, inside.width - GUTTER, &text, theme.dim);
        }
    }
    let problem = output.and_then(|output| output.problem.as_ref());
    let (text, style) = match (&row.end, problem) {
        (Some(end), _) => (end_line(end), if words::is_success(row) { theme.ok } else { theme.danger }),
        (None, Some(problem)) => (format!("output not readable: {}", shown(&problem.to_string())), theme.warn),
        (None, None) => (running_line(row, state), theme.info),
    };
    let used = painter.spans(last.x, last.y, last.width, &[("─ ", theme.border), (&text, style), (" ", style)]);
    // The command is known from above where there is room for both; here it only reminds.
    painter.put(last.x + used + 1, last.y, last.width.saturating_sub(used + 1), &row.command, theme.dim);
}

fn draw_lines(output: &Output, area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let width = area.width.saturating_sub(GUTTER);
    let first = output.first_line(usize::from(area.height));
    for (line, row) in output.ring.lines_from(first).zip(area.rows()) {
        let (sign, style) = match line.stream {
            _ if line.is_heading => ("─", theme.heading),
            OutputStream::Stdout => (" ", Style::new()),
            OutputStream::Stderr => ("!", theme.stderr),
        };
        painter.put(row.x, row.y, 1, sign, style);
        let text = line.text(output.left, usize::from(width));
        painter.put(row.x + GUTTER, row.y, width, skip_columns(&text, output.left), style);
    }
}

/// The text without its first `columns` columns, or one more where a wide character is across the border.
fn skip_columns(text: &str, columns: usize) -> &str {
    let first = wrap(text, columns.max(1));
    match (columns, first.first()) {
        (0, _) | (_, None) => text,
        (_, Some(first)) => &text[first.len()..],
    }
}

fn running_line(row: &ProposalRow, state: &State) -> String {
    match &row.run {
        Some(run) => {
            let start = if run.cold { "cold start" } else { "warm start" };
            let ago = age(state.now.wall.0 - run.started_at.0);
            let step = running_step(row).map_or_else(String::new, |step| format!("{step}, "));
            format!("{step}running for {ago}, {} left, {start}", left(run.deadline_at.0 - state.now.wall.0))
        }
        None => row.status.text().to_owned(),
    }
}

fn end_line(end: &RunEnd) -> String {
    let usage = &end.usage;
    let mut text = format!("{} after {}", shown(&end_text(end)), duration(usage.wall_us / 1000));
    text.push_str(&format!(", {} of CPU, {} at most", duration(usage.cpu_us / 1000), bytes_long(usage.peak_memory)));
    if usage.oom_kills > 0 {
        text.push_str(", out of memory during the run");
    }
    if end.output.dropped_bytes > 0 {
        text.push_str(&format!(", {} not kept", bytes_long(end.output.dropped_bytes)));
    }
    text
}

/// A name, a text, and how it looks.
type Fact = (&'static str, String, Style);

fn facts(area: Rect, facts: &[Fact], painter: &mut Painter<'_>) {
    const NAME: u16 = 11;
    let width = usize::from(area.width.saturating_sub(GUTTER + NAME + 1)).max(8);
    let mut rows = area.rows();
    for (name, text, style) in facts.iter().filter(|(_, text, _)| !text.is_empty()) {
        for (at, part) in wrap_words(text, width).iter().enumerate() {
            let Some(row) = rows.next() else { return };
            if at == 0 {
                painter.put(row.x + GUTTER, row.y, NAME, name, painter.theme.heading);
            }
            painter.put(row.x + GUTTER + NAME, row.y, row.width - GUTTER - NAME, part, *style);
        }
    }
}

fn proposal(row: &ProposalRow, state: &State, painter: &Painter<'_>) -> Vec<Fact> {
    let theme = painter.theme;
    let more = match (row.status, state.is_wholly_visible(row)) {
        (Status::Waiting, true) => "a approves, r rejects, Enter shows all of it".to_owned(),
        (Status::Waiting, false) => "more than its line shows: Enter opens it, then a or r".to_owned(),
        _ => String::new(),
    };
    let agent = if row.agent.is_operator_user { ", which runs as your own user" } else { "" };
    let verdict = row.verdict.as_ref().map(|verdict| {
        let reason = if verdict.reason.is_empty() { String::new() } else { format!(": {}", shown(&verdict.reason)) };
        format!("{} by {}{reason}", verdict.kind.text(), decider(&verdict.by))
    });
    vec![
        ("command", row.command.clone(), Style::new()),
        ("verdict", verdict.unwrap_or_default(), theme.warn),
        ("returned", row.returned.as_deref().map(shown).unwrap_or_default(), theme.warn),
        ("reason", shown(&row.reason), theme.agent),
        ("agent", format!("{}, user {}{agent}", shown(&row.agent.name), row.agent.uid), Style::new()),
        ("rule", format!("{}: {}", shown(&row.ruling.rule), shown(&row.ruling.why)), theme.dim),
        ("next", more, theme.accent),
    ]
}

fn sandbox(row: &SandboxRow, state: &State) -> Vec<Fact> {
    let usage = row.usage.map(|usage| {
        let io = format!("{} read, {} written", bytes_long(usage.io_read), bytes_long(usage.io_write));
        format!("{} of {} memory; {io}", bytes_long(usage.memory), bytes_long(usage.memory_limit))
    });
    let since = age(state.now.wall.0 - row.since.0);
    vec![
        ("state", format!("{} since {since}", row.state.text()), Style::new()),
        ("profile", shown(&row.profile), Style::new()),
        ("engine id", shown(&row.engine_id), Style::new()),
        ("usage", usage.unwrap_or_default(), Style::new()),
        ("killed by", row.killed_by.as_deref().map(shown).unwrap_or_default(), Style::new()),
    ]
}

fn pool(row: &PoolRow, state: &State, painter: &Painter<'_>) -> Vec<Fact> {
    let theme = painter.theme;
    let source = match row.image_source {
        Some(ImageSource::Local) => ", which the engine had",
        Some(ImageSource::Pulled) => ", pulled",
        Some(ImageSource::Built) => ", built",
        Some(ImageSource::Userland) => ", in its place one made from this machine's userland",
        None => "",
    };
    let retry = row.retry_at.map(|at| format!(", next try in {}", left(at.0 - state.now.wall.0)));
    let error = row.last_error.as_ref().map(|error| shown(&error.to_string())).unwrap_or_default();
    vec![
        ("state", format!("{}{}", row.state.text(), retry.unwrap_or_default()), words::pool(row.state, theme)),
        ("now", row.progress.as_deref().map(shown).unwrap_or_default(), theme.info),
        ("error", error, theme.danger),
        ("why", shown(&row.reason), Style::new()),
        ("about", shown(&row.description), Style::new()),
        ("image", format!("{}{source}", shown(&row.image)), Style::new()),
        (
            "sandboxes",
            format!(
                "{} ready of {} wanted, {} arming, {} in use, {} at most",
                row.ready, row.wanted, row.arming, row.leased, row.max
            ),
            Style::new(),
        ),
        (
            "runs",
            format!("{} warm, {} cold, {} waiting; {} failures", row.hits, row.misses, row.waiting, row.failures),
            Style::new(),
        ),
    ]
}
