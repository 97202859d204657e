//! The first line: which brig, on what engine, and how much is going on. Below it, what is wrong.

use brig_core::profile::ImageSource;
use ratatui::style::Style;

use super::Painter;
use crate::api::wire::Since;
use crate::console::layout::Layout;
use crate::console::state::{Link, State};
use crate::console::text::{age, count, shown, width};
use crate::console::theme::Theme;

/// Whether there is something to say below the first line.
pub fn has_notes(state: &State) -> bool {
    matches!(state.link, Link::Lost { .. })
        || state.supervisor.as_ref().is_some_and(|row| {
            row.engine_problem.is_some()
                || row.journal_problem.is_some()
                || row.config_problem.is_some()
                || row.disk.as_ref().is_some_and(|disk| disk.warning.is_some())
        })
}

pub fn draw(state: &State, layout: &Layout, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let area = layout.header;
    let right = counts(state);
    let right_width = right.iter().map(|(text, _)| width(text) + 2).sum::<usize>().max(1) - 1;
    let mut x = area.width.saturating_sub(u16::try_from(right_width).unwrap_or(0));
    let room = x.saturating_sub(3);
    for (at, (text, style)) in right.iter().enumerate() {
        x += if at == 0 { 0 } else { 2 };
        x += painter.put(x, area.y, area.width - x, text, style.to_owned()(theme));
    }
    let mut parts: Vec<(String, Style)> = vec![("brig".into(), theme.accent)];
    if let Some(row) = &state.supervisor {
        parts.push((format!(" {}", shown(&row.version)), theme.dim));
        match &row.engine {
            Some(engine) => parts.push((format!("   {}", shown(&engine.name)), Style::new())),
            None if row.engine_problem.is_none() => parts.push(("   looking for the engine".into(), theme.dim)),
            None => {}
        }
        parts.push((format!("   {}", shown(&row.host)), theme.dim));
    } else if state.link == Link::Connecting {
        parts.push(("   reaching the supervisor".into(), theme.dim));
    }
    if state.pools.iter().any(|pool| pool.image_source == Some(ImageSource::Userland)) {
        let long = "   userland image made from this machine";
        let used: usize = 1 + parts.iter().map(|(text, _)| width(text)).sum::<usize>();
        let fits = used + width(long) <= usize::from(room);
        parts.push((if fits { long } else { "   userland image" }.into(), theme.info));
    }
    // A part that does not fit as a whole is left out: half a host name is worth nothing.
    let mut used = 1;
    for (text, style) in parts {
        let columns = u16::try_from(width(&text)).unwrap_or(u16::MAX);
        if columns > room.saturating_sub(used) {
            break;
        }
        used += painter.put(used, area.y, columns, &text, style);
    }
    if layout.notes.height > 0 {
        draw_notes(state, layout, painter);
    }
}

type Look = fn(&Theme) -> Style;

fn counts(state: &State) -> Vec<(String, Look)> {
    let (waiting, running) = (state.waiting(), state.running());
    let waiting_look: Look = if waiting > 0 { |theme| theme.waiting } else { |theme| theme.dim };
    let running_look: Look = if running > 0 { |theme| theme.info } else { |theme| theme.dim };
    let consoles = state.supervisor.as_ref().map_or(0, |row| row.consoles);
    let mut parts = Vec::new();
    if state.supervisor.is_some() {
        parts.push((format!("{waiting} waiting"), waiting_look));
        parts.push((format!("{running} running"), running_look));
        parts.push((count(consoles as usize, "console"), (|theme| theme.dim) as Look));
    }
    parts
}

/// The gravest first; the others follow as far as there is room.
fn draw_notes(state: &State, layout: &Layout, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let mut notes: Vec<(String, Style)> = Vec::new();
    if let Link::Lost { since, problem } = &state.link {
        let ago = age(state.now.wall.0 - since.wall.0);
        let what = if state.supervisor.is_some() { "supervisor lost" } else { "no supervisor" };
        notes.push((format!("! {what} since {ago}: {}", shown(&problem.to_string())), theme.danger));
    }
    if let Some(row) = &state.supervisor {
        let mut note = |what: &str, since: &Option<Since>, style| {
            if let Some(Since { problem, since }) = since {
                let ago = age(state.now.wall.0 - since.0);
                notes.push((format!("! {what} since {ago}: {}", shown(&problem.to_string())), style));
            }
        };
        note("nothing new runs", &row.journal_problem, theme.danger);
        note("engine away", &row.engine_problem, theme.danger);
        note("settings not in force", &row.config_problem, theme.warn);
        // What is full already is said by what does not run.
        let warning = row.disk.as_ref().and_then(|disk| disk.warning.as_ref());
        if let Some(warning) = warning.filter(|_| row.journal_problem.is_none()) {
            notes.push((format!("! {}", shown(warning)), theme.warn));
        }
    }
    let area = layout.notes;
    let mut used = 1;
    for (text, style) in notes {
        used += painter.put(used, area.y, area.width.saturating_sub(used + 1), &text, style) + 3;
        if used + 12 > area.width {
            break;
        }
    }
}
