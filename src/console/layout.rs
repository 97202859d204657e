//! Where things are, as a function of the terminal's size alone. The state asks here as well as the views, as what may be
//! approved depends on what is visible.
//!
//! Nothing here depends on how many rows there are: a pane that grows with its content would move the lines of others.

use ratatui::layout::Rect;

/// The smallest screen that everything fits on.
pub const SMALLEST: (u16, u16) = (60, 16);
/// From this width on there are two columns of panes.
const WIDE: u16 = 150;

/// Rectangles of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// One line at the top.
    pub header: Rect,
    /// One line below it, empty if there is nothing to say.
    pub notes: Rect,
    /// Everything between those and the footer.
    pub body: Rect,
    /// The panes, frames included.
    pub queue: Rect,
    /// As above.
    pub sandboxes: Rect,
    /// As above.
    pub pools: Rect,
    /// As above.
    pub output: Rect,
    /// One line at the bottom.
    pub footer: Rect,
}

impl Layout {
    /// The layout of a screen; nothing if it is too small.
    #[must_use]
    pub fn new((width, height): (u16, u16), has_notes: bool) -> Option<Self> {
        if width < SMALLEST.0 || height < SMALLEST.1 {
            return None;
        }
        let notes_height = u16::from(has_notes);
        let header = Rect::new(0, 0, width, 1);
        let notes = Rect::new(0, 1, width, notes_height);
        let body = Rect::new(0, 1 + notes_height, width, height - 2 - notes_height);
        let footer = Rect::new(0, height - 1, width, 1);
        let part = |whole: u16, percent: u16| u16::try_from(u32::from(whole) * u32::from(percent) / 100).unwrap_or(0);
        let (queue, sandboxes, pools, output);
        if width >= WIDE {
            let (left, right) = split_columns(body, part(body.width, 55));
            (queue, output) = split_rows(left, part(left.height, 42));
            (sandboxes, pools) = split_rows(right, part(right.height, 62));
        } else {
            let (top, rest) = split_rows(body, part(body.height, 37).max(4));
            let (middle, bottom) = split_rows(rest, part(body.height, 28).max(4));
            queue = top;
            output = bottom;
            (sandboxes, pools) = split_columns(middle, part(body.width, 64));
        }
        Some(Self { header, notes, body, queue, sandboxes, pools, output, footer })
    }
}

fn split_rows(area: Rect, height: u16) -> (Rect, Rect) {
    let top = Rect { height, ..area };
    (top, Rect { y: area.y + height, height: area.height - height, ..area })
}

fn split_columns(area: Rect, width: u16) -> (Rect, Rect) {
    let left = Rect { width, ..area };
    (left, Rect { x: area.x + width, width: area.width - width, ..area })
}

/// What is inside of a pane's frame.
#[must_use]
pub fn inner(pane: Rect) -> Rect {
    Rect { x: pane.x + 1, y: pane.y + 1, width: pane.width.saturating_sub(2), height: pane.height.saturating_sub(2) }
}

/// The rows of a list inside of its frame, and whether the names of its columns are above them.
#[must_use]
pub fn rows(pane: Rect) -> (Rect, bool) {
    let inside = inner(pane);
    let headings = inside.height >= 3;
    (Rect { y: inside.y + u16::from(headings), height: inside.height - u16::from(headings), ..inside }, headings)
}

/// A column: where it begins within its row, and how wide it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// From the row's left.
    pub x: u16,
    /// 0 if there is no room for it.
    pub width: u16,
}

/// Columns from left to right, with a blank between them.
pub struct Columns {
    next: u16,
    width: u16,
}

impl Columns {
    /// Columns in a row of `width`, after `start` columns for the cursor's mark.
    #[must_use]
    pub fn new(width: u16, start: u16) -> Self {
        Self { next: start, width }
    }

    /// The next one, at most `width` wide.
    pub fn take(&mut self, width: u16) -> Column {
        let column = Column { x: self.next, width: width.min(self.left()) };
        self.next += width + u16::from(width > 0);
        column
    }

    /// Leaves some columns blank.
    pub fn skip(&mut self, width: u16) -> &mut Self {
        self.next += width;
        self
    }

    /// What is left of the row.
    #[must_use]
    pub fn left(&self) -> u16 {
        self.width.saturating_sub(self.next)
    }
}

/// The columns of the queue.
pub struct QueueColumns {
    pub age: Column,
    pub left: Column,
    pub agent: Column,
    pub profile: Column,
    pub command: Column,
    pub reason: Column,
}

impl QueueColumns {
    /// Those of a row of `width`.
    #[must_use]
    pub fn new(width: u16) -> Self {
        let mut columns = Columns::new(width, 3);
        let age = columns.take(4);
        let left = columns.take(9);
        let agent = columns.take(match width {
            0..96 => 8,
            96..106 => 9,
            _ => 12,
        });
        let profile = columns.take(match width {
            0..66 => 0,
            66..106 => 7,
            _ => 10,
        });
        let reason_width = if width >= 96 { columns.left() * 2 / 5 } else { 0 };
        let command_width = columns.left() - reason_width - u16::from(reason_width > 0);
        let command = columns.take(command_width);
        let reason = columns.take(reason_width);
        Self { age, left, agent, profile, command, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_fill_the_screen_and_never_overlap() {
        for width in [60, 80, 100, 149, 150, 200, 400] {
            for height in [16, 24, 30, 60, 200] {
                for notes in [false, true] {
                    let layout = Layout::new((width, height), notes).unwrap();
                    let panes = [layout.queue, layout.sandboxes, layout.pools, layout.output];
                    let area: u32 = panes.iter().map(|pane| pane.area()).sum();
                    assert_eq!(area, layout.body.area(), "{width}x{height}");
                    assert!(panes.iter().all(|pane| pane.height >= 4 && pane.width >= 20), "{width}x{height}");
                    for (at, pane) in panes.iter().enumerate() {
                        assert!(panes[at + 1..].iter().all(|other| !pane.intersects(*other)));
                    }
                }
            }
        }
        assert_eq!(Layout::new((59, 40), false), None);
        assert_eq!(Layout::new((60, 15), false), None);
    }

    #[test]
    fn the_queues_columns_stay_within_their_row() {
        for width in 58..400 {
            let columns = QueueColumns::new(width);
            for column in [columns.age, columns.left, columns.agent, columns.profile, columns.command, columns.reason] {
                assert!(column.width == 0 || column.x + column.width <= width, "{column:?} in {width}");
            }
            assert!(columns.command.width >= 30, "{width}");
        }
    }
}
