//! The whole of one proposal, over all panes.

use brig_core::proposal::Status;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Painter, joined};
use crate::console::layout::inner;
use crate::console::review::{Kind, Review};
use crate::console::state::State;
use crate::console::text::{count, left, shown};

pub fn draw(state: &State, review: &Review, area: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    painter.window(area, &format!("Proposal {}", review.id));
    let row = state.proposal(&review.id);
    let status = row.map_or_else(String::new, |row| match row.status {
        Status::Waiting => format!("expires in {}", left(row.expires_at.0 - state.now.wall.0)),
        status => status.text().to_owned(),
    });
    let below = match review.below() {
        0 => String::new(),
        below => format!("{} below", count(below, "line")),
    };
    let right = joined(&[&below, &status]);
    painter.put_right(area.right() - 2, area.y, area.width / 2, &format!(" {right} "), theme.title);
    let inside = inner(area);
    if review.detail.is_none() {
        let text =
            review.problem.as_ref().map_or_else(|| "fetching it …".to_owned(), |problem| shown(&problem.to_string()));
        painter.put(inside.x + 1, inside.y, inside.width - 2, &text, theme.dim);
        return;
    }
    for (line, row) in review.lines.iter().skip(review.top).zip(inside.rows()) {
        let (bar, style) = match line.kind {
            Kind::Heading => ("", theme.accent),
            Kind::Plain => ("  ", Style::new()),
            Kind::Note => ("  ", theme.dim),
            Kind::Warning => ("  ", theme.warn),
            Kind::Content => ("  │ ", Style::new()),
            Kind::ContentMore => ("  ┆ ", Style::new()),
            Kind::Claim => ("  │ ", theme.agent),
        };
        painter.spans(row.x + 1, row.y, row.width - 1, &[(bar, theme.border_focused), (&line.text, style)]);
    }
    let end = joined(&[end_word(review, row.is_some_and(|row| row.status == Status::Waiting))]);
    painter.put_right(area.right() - 2, area.bottom() - 1, area.width - 4, &end, theme.warn);
}

/// Why it cannot be approved yet.
fn end_word(review: &Review, waits: bool) -> &'static str {
    if waits && !review.was_seen_to_its_end() { " to be seen to its end before it can be approved " } else { "" }
}
