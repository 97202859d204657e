//! What stands in front of everything and wants an answer.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget as _;

use super::Painter;
use crate::console::keymap::{self, Context};
use crate::console::layout::inner;
use crate::console::state::{RejectDialog, State};
use crate::console::text::count;

/// A part in the middle.
fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width.saturating_sub(4)), height.min(area.height));
    Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height)
}

/// What shall become of what is open?
pub fn quit(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let window = middle(area, 66, 9);
    painter.window(window, "Quit");
    let inside = inner(window);
    let open = format!("{}, {} open.", count(state.running(), "run"), count(state.waiting(), "question"));
    painter.put(inside.x + 2, inside.y + 1, inside.width - 3, &open, painter.theme.warn);
    let lines = keymap::bindings(Context::Quit).filter(|line| !line.hint.is_empty());
    for (y, line) in (inside.y + 3..).zip(lines) {
        painter.put(inside.x + 2, y, 5, &line.first_key(), painter.theme.key);
        painter.put(inside.x + 7, y, inside.width.saturating_sub(8), line.help, Style::new());
    }
}

/// The reason of a rejection.
pub fn reject(dialog: &RejectDialog, area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let window = middle(area, 76, 9);
    painter.window(window, &format!("Reject {}", dialog.id));
    let inside = inner(window);
    let room = inside.width.saturating_sub(3);
    painter.put(inside.x + 2, inside.y, room, &dialog.command, Style::new());
    painter.put(inside.x + 2, inside.y + 2, room, "Reason, which the agent gets:", theme.heading);
    let editor = Rect { x: inside.x + 2, y: inside.y + 3, width: room, height: inside.height.saturating_sub(3) };
    let mut area = dialog.editor.clone();
    area.set_style(theme.text);
    area.set_cursor_line_style(theme.text);
    area.set_cursor_style(theme.text.add_modifier(ratatui::style::Modifier::REVERSED));
    area.render(editor, painter.buffer());
}
