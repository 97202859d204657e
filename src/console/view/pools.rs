//! The pools: how many are ready of how many wanted, and how well that works.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Painter, beyond, headings, on_screen, words};
use crate::api::wire::{PoolRow, PoolState};
use crate::console::layout::{self, Column};
use crate::console::state::{Pane, State};
use crate::console::text::shown_in;

/// Columns of the gauge.
const GAUGE: u16 = 5;

struct Columns {
    profile: Column,
    gauge: Column,
    ready: Column,
    state: Column,
    numbers: [Column; 6],
    note: Column,
}

impl Columns {
    fn new(width: u16) -> Self {
        let mut columns = layout::Columns::new(width, 2);
        let wide = width >= 60;
        let small = if wide { 5 } else { 0 };
        Self {
            profile: columns.take(if width >= 34 { 10 } else { 8 }),
            gauge: columns.take(GAUGE),
            ready: columns.take(5),
            state: columns.take(if width >= 34 { 8 } else { 0 }),
            numbers: [small; 6].map(|width| columns.take(width)),
            // A few letters of a sentence would only be noise.
            note: columns.take(if columns.left() >= 14 { columns.left() } else { 0 }),
        }
    }
}

pub fn draw(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let columns = Columns::new(layout::inner(area).width);
    let beyond = beyond(state.pools.len(), state.pool_list.top, state.height_of(Pane::Pools));
    painter.pane(state, Pane::Pools, area, "Pools", &beyond);
    let [arming, leased, waiting, hits, misses, failures] = columns.numbers;
    let rows = headings(
        painter,
        area,
        &[
            (columns.profile, "PROFILE", false),
            (columns.gauge, "READY", false),
            (columns.state, "STATE", false),
            (arming, "ARM", true),
            (leased, "USED", true),
            (waiting, "WAIT", true),
            (hits, "HIT", true),
            (misses, "MISS", true),
            (failures, "FAIL", true),
        ],
    );
    if state.pools.is_empty() && state.supervisor.is_some() {
        painter.put(rows.x + 2, rows.y, rows.width - 2, "No pools.", painter.theme.dim);
    }
    for (pool, row) in on_screen(&state.pools, state.pool_list.top, rows) {
        draw_row(pool, &columns, row, painter);
        if state.pool_list.cursor.as_ref() == Some(&pool.profile) {
            painter.select(row, state.focus == Pane::Pools);
        }
    }
}

fn draw_row(pool: &PoolRow, columns: &Columns, row: Rect, painter: &mut Painter<'_>) {
    let theme = painter.theme;
    let style = words::pool(pool.state, theme);
    let plain = if matches!(pool.state, PoolState::Idle | PoolState::Draining) { theme.dim } else { Style::new() };
    painter.cell(row, columns.profile, &shown_in(&pool.profile, columns.profile.width), plain);
    let unwell = matches!(pool.state, PoolState::Away | PoolState::Failing | PoolState::Image);
    if columns.state.width == 0 && unwell {
        // No room for the state's own column, and the word says more than an empty gauge.
        let column = Column { width: columns.gauge.width + columns.ready.width + 1, ..columns.gauge };
        painter.cell(row, column, pool.state.text(), style);
    } else {
        painter.cell(row, columns.gauge, &gauge(pool), style);
        painter.cell(row, columns.ready, &format!("{}/{}", pool.ready, pool.target), plain);
        painter.cell(row, columns.state, pool.state.text(), style);
    }
    let numbers = [
        u64::from(pool.arming),
        u64::from(pool.leased),
        u64::from(pool.waiting),
        pool.hits,
        pool.misses,
        pool.failures,
    ];
    for (at, (column, number)) in columns.numbers.into_iter().zip(numbers).enumerate() {
        let style = match (at, number) {
            (_, 0) => theme.dim,
            (5, _) => theme.danger,
            _ => plain,
        };
        painter.number(row, column, &number.to_string(), style);
    }
    let note = match (&pool.progress, &pool.last_error, pool.state) {
        (Some(progress), ..) => shown_in(progress, columns.note.width),
        (None, Some(error), PoolState::Failing) => shown_in(&error.message, columns.note.width),
        _ => String::new(),
    };
    painter.cell(row, columns.note, &note, theme.dim);
}

/// As many blocks as are wanted, up to the gauge's width; filled as far as they are ready.
fn gauge(pool: &PoolRow) -> String {
    let blocks = pool.target.min(u32::from(GAUGE));
    let filled = match pool.target {
        0 => 0,
        target if target <= blocks => pool.ready.min(blocks),
        target => pool.ready.min(target) * blocks / target,
    };
    (0..blocks).map(|at| if at < filled { '■' } else { '□' }).collect()
}
