//! All keys, made from the keymap.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Painter;
use crate::console::keymap::{self, Context};
use crate::console::layout::inner;
use crate::console::text::width;

/// Rows around the text: header, footer, frame.
const AROUND: usize = 4;

/// A heading, or keys and what they do.
enum Line {
    Heading(&'static str),
    Keys(String, &'static str),
    Blank,
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for (context, name) in Context::ALL {
        if !lines.is_empty() {
            lines.push(Line::Blank);
        }
        lines.push(Line::Heading(name));
        lines.extend(keymap::bindings(*context).map(|binding| Line::Keys(binding.all_keys(), binding.help)));
    }
    lines
}

/// How far it can be scrolled.
#[must_use]
pub fn last_top((_, rows): (u16, u16)) -> usize {
    lines().len().saturating_sub(usize::from(rows).saturating_sub(AROUND))
}

pub fn draw(top: usize, area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    painter.window(area, "Keys");
    let lines = lines();
    let inside = inner(area);
    let keys_width = lines.iter().map(|line| if let Line::Keys(keys, _) = line { width(keys) } else { 0 }).max();
    let keys_width = u16::try_from(keys_width.unwrap_or(0)).unwrap_or(16);
    for (line, row) in lines.iter().skip(top).zip(inside.rows()) {
        match line {
            Line::Heading(name) => {
                painter.put(row.x + 1, row.y, row.width - 2, name, theme.accent);
            }
            Line::Keys(keys, help) => {
                painter.put(row.x + 3, row.y, keys_width, keys, theme.key);
                painter.put(
                    row.x + 6 + keys_width,
                    row.y,
                    row.width.saturating_sub(7 + keys_width),
                    help,
                    Style::new(),
                );
            }
            Line::Blank => {}
        }
    }
    let below = lines.len().saturating_sub(top + usize::from(inside.height));
    if below > 0 {
        painter.put_right(area.right() - 2, area.bottom() - 1, 20, &format!(" ↓{below} "), theme.title);
    }
}
