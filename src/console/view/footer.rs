//! The last line: a word to the user, or else the keys that matter now.

use ratatui::layout::Rect;

use super::Painter;
use crate::console::state::{State, Tone};
use crate::console::text::width;
use crate::console::update::context;
use crate::console::{actions, keymap};

pub fn draw(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    if state.ending {
        painter.put(1, area.y, area.width - 2, "stopping everything … (Ctrl-C leaves now)", theme.warn);
        return;
    }
    if let Some(notice) = &state.notice {
        let (sign, style) = match notice.tone {
            Tone::Good => ("✓ ", theme.ok),
            Tone::Hint => ("» ", theme.warn),
            Tone::Bad => ("! ", theme.danger),
        };
        painter.spans(1, area.y, area.width - 2, &[(sign, style), (&notice.text, style)]);
        return;
    }
    let mut x = 1;
    for binding in keymap::bindings(context(state)).filter(|binding| !binding.hint.is_empty()) {
        if !actions::is_possible(state, binding.action) {
            continue;
        }
        let key = binding.first_key();
        let columns = u16::try_from(width(&key) + 1 + width(binding.hint)).unwrap_or(0);
        if x + columns >= area.width {
            continue;
        }
        painter.spans(x, area.y, columns, &[(&key, theme.key), (" ", theme.dim), (binding.hint, theme.dim)]);
        x += columns + 3;
    }
}
