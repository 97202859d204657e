//! What the state looks like. Pure functions of the state and the theme into a buffer of cells.
//!
//! All text goes through [`Painter::put`], which cuts it to its column and sets marks apart. Text from the wire has gone
//! through `brig_core::visible` before that, as ratatui drops control characters without a word and lets others through.

pub mod dialog;
pub mod footer;
pub mod header;
pub mod help;
pub mod output;
pub mod pools;
pub mod queue;
pub mod review;
pub mod sandboxes;
pub mod words;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Block, BorderType, Clear, Widget as _};

use super::layout::{self, Column, SMALLEST};
use super::state::{Dialog, Link, Pane, State};
use super::text;
use super::theme::Theme;

/// Draws everything.
pub fn draw(state: &State, theme: &Theme, buffer: &mut Buffer) {
    let area = buffer.area;
    buffer.set_style(area, theme.text);
    // The terminal has another size than the state knows of: that will be told in a moment, and drawn then.
    if (area.width, area.height) != state.size {
        return;
    }
    let mut painter = Painter { buffer, theme };
    let Some(layout) = state.layout() else {
        return too_small(state, &mut painter);
    };
    header::draw(state, &layout, &mut painter);
    match &state.review {
        Some(review) => review::draw(state, review, layout.body, &mut painter),
        None => {
            queue::draw(state, layout.queue, &mut painter);
            sandboxes::draw(state, layout.sandboxes, &mut painter);
            pools::draw(state, layout.pools, &mut painter);
            output::draw(state, layout.output, &mut painter);
        }
    }
    if state.link != Link::Up && state.supervisor.is_some() {
        // What is old is not shown as if it were so now.
        painter.restyle(layout.body, theme.dim);
    }
    match &state.dialog {
        Some(Dialog::Help(top)) => help::draw(*top, layout.body, &mut painter),
        Some(Dialog::Quit) => dialog::quit(state, layout.body, &mut painter),
        Some(Dialog::Reject(reject)) => dialog::reject(reject, layout.body, &mut painter),
        None => {}
    }
    footer::draw(state, layout.footer, &mut painter);
}

fn too_small(state: &State, painter: &mut Painter<'_>) {
    let (width, height) = state.size;
    let middle = height / 2;
    let lines = [
        format!("brig needs {} × {}", SMALLEST.0, SMALLEST.1),
        format!("this terminal has {width} × {height}"),
        "make it larger, or press q".to_owned(),
    ];
    let first = middle.saturating_sub(1);
    for (y, line) in (first..).zip(lines) {
        let columns = u16::try_from(text::width(&line)).unwrap_or(width);
        painter.put(width.saturating_sub(columns) / 2, y, width, &line, Style::new());
    }
}

/// Puts text into cells.
pub struct Painter<'a> {
    buffer: &'a mut Buffer,
    /// What things look like.
    pub theme: &'a Theme,
}

impl Painter<'_> {
    /// Writes visible text into at most `width` columns, with `…` where it is cut and marks set apart. Returns the columns
    /// that it took.
    pub fn put(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() {
            return 0;
        }
        let width = width.min(area.right() - x);
        let (text, _) = text::cut(text, usize::from(width));
        let mut used = 0;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (plain, mark) = rest.split_at(rest.find('⟨').unwrap_or(rest.len()));
            let (mark, after) = mark.split_at(mark.find('⟩').map_or(mark.len(), |at| at + '⟩'.len_utf8()));
            for (part, style) in [(plain, style), (mark, style.patch(self.theme.mark))] {
                let (end, _) = self.buffer.set_stringn(x + used, y, part, usize::from(width - used), style);
                used = end - x;
            }
            rest = after;
        }
        used
    }

    /// Writes several texts one after the other.
    pub fn spans(&mut self, x: u16, y: u16, width: u16, spans: &[(&str, Style)]) -> u16 {
        spans.iter().fold(0, |used, (text, style)| used + self.put(x + used, y, width - used, text, *style))
    }

    /// Writes text that ends at the column `right`, which is not part of it.
    pub fn put_right(&mut self, right: u16, y: u16, width: u16, text: &str, style: Style) {
        let columns = u16::try_from(text::width(text)).unwrap_or(width).min(width);
        self.put(right.saturating_sub(columns), y, columns, text, style);
    }

    /// Writes into a column of a row.
    pub fn cell(&mut self, row: Rect, column: Column, text: &str, style: Style) {
        self.put(row.x + column.x, row.y, column.width, text, style);
    }

    /// Writes into a column of a row, at its right, as numbers are read.
    pub fn number(&mut self, row: Rect, column: Column, text: &str, style: Style) {
        self.put_right(row.x + column.x + column.width, row.y, column.width, text, style);
    }

    /// Changes how a part looks, and leaves what it says.
    pub fn restyle(&mut self, area: Rect, style: Style) {
        self.buffer.set_style(area.intersection(self.buffer.area), style);
    }

    /// Empties a part and puts a frame around it.
    pub fn window(&mut self, area: Rect, title: &str) {
        Clear.render(area, self.buffer);
        self.restyle(area, self.theme.text);
        self.block(area, self.theme.border_focused);
        self.put(area.x + 2, area.y, area.width - 4, &format!(" {title} "), self.theme.title_focused);
    }

    /// The frame of a pane. The one that has the keys has its title set as a badge, which needs no colour.
    pub fn pane(&mut self, state: &State, pane: Pane, area: Rect, name: &str, right: &str) {
        let focused = state.focus == pane;
        let (border, title) = match focused {
            true => (self.theme.border_focused, self.theme.title_focused),
            false => (self.theme.border, self.theme.title),
        };
        self.block(area, border);
        let number = Pane::ALL.iter().position(|other| *other == pane).unwrap_or(0) + 1;
        let used = self.put(area.x + 2, area.y, area.width - 4, &format!(" {number} {name} "), title);
        let room = area.width.saturating_sub(used + 6);
        if !right.is_empty() && room > 8 {
            self.put_right(area.right() - 2, area.y, room, &format!(" {right} "), self.theme.title);
        }
    }

    fn block(&mut self, area: Rect, style: Style) {
        Block::bordered().border_type(BorderType::Rounded).border_style(style).render(area, self.buffer);
    }

    /// Marks the row under the cursor: a bar at its left and a background.
    fn select(&mut self, row: Rect, focused: bool) {
        let style = if focused { self.theme.selection } else { self.theme.selection_unfocused };
        self.restyle(row, style);
        let bar = if focused { "▌" } else { "▏" };
        self.put(row.x, row.y, 1, bar, style.patch(self.theme.border_focused));
    }

    /// What the buffer is drawn with where a widget of another crate is used.
    pub fn buffer(&mut self) -> &mut Buffer {
        self.buffer
    }
}

/// The rows of a list that are on the screen: each item with its row.
fn on_screen<T>(items: &[T], top: usize, area: Rect) -> impl Iterator<Item = (&T, Rect)> {
    items.iter().skip(top).zip(area.rows())
}

/// The names of the columns, if there is room for them, and the rows below.
fn headings(painter: &mut Painter<'_>, pane: Rect, names: &[(Column, &str, bool)]) -> Rect {
    let (rows, has_headings) = layout::rows(pane);
    if has_headings {
        let row = Rect { height: 1, ..layout::inner(pane) };
        for &(column, name, is_number) in names.iter().filter(|(column, ..)| column.width > 0) {
            if is_number {
                painter.number(row, column, name, painter.theme.heading);
            } else {
                painter.cell(row, column, name, painter.theme.heading);
            }
        }
    }
    rows
}

/// What is above and below the screen, in a few columns, or nothing.
fn beyond(items: usize, top: usize, height: usize) -> String {
    match (top, items.saturating_sub(top + height)) {
        (0, 0) => String::new(),
        (0, below) => format!("↓{below}"),
        (above, 0) => format!("↑{above}"),
        (above, below) => format!("↑{above} ↓{below}"),
    }
}

/// Joins what is not empty.
fn joined(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" · ")
}
