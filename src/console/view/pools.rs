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
    numbers: [Column; 7],
    note: Column,
}

impl Columns {
    fn new(width: u16) -> Self {
        let mut columns = layout::Columns::new(width, 2);
        let wide = width >= 60;
        Self {
            profile: columns.take(if width >= 34 { 10 } else { 8 }),
            gauge: columns.take(GAUGE),
            ready: columns.take(5),
            state: columns.take(if width >= 34 { 8 } else { 0 }),
            numbers: [3, 4, 4, 4, 5, 5, 4].map(|width| columns.take(if wide { width } else { 0 })),
            // A few letters of a sentence would only be noise.
            note: columns.take(if columns.left() >= 14 { columns.left() } else { 0 }),
        }
    }
}

pub fn draw(state: &State, area: Rect, painter: &mut Painter<'_>) {
    let columns = Columns::new(layout::inner(area).width);
    let beyond = beyond(state.pools.len(), state.pool_list.top, state.height_of(Pane::Pools));
    painter.pane(state, Pane::Pools, area, "Pools", &beyond);
    let [arming, leased, waiting, hits, half, most, failures] = columns.numbers;
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
            (hits, "HIT%", true),
            (half, "P50", true),
            (most, "P95", true),
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
    let plain = if matches!(pool.state, PoolState::Idle | PoolState::Draining | PoolState::Drained) {
        theme.dim
    } else {
        Style::new()
    };
    painter.cell(row, columns.profile, &shown_in(&pool.profile, columns.profile.width), plain);
    let unwell = matches!(pool.state, PoolState::Away | PoolState::Failing | PoolState::Image);
    if columns.state.width == 0 && unwell {
        // No room for the state's own column, and the word says more than an empty gauge.
        let column = Column { width: columns.gauge.width + columns.ready.width + 1, ..columns.gauge };
        painter.cell(row, column, pool.state.text(), style);
    } else {
        painter.cell(row, columns.gauge, &gauge(pool), style);
        painter.cell(row, columns.ready, &format!("{}/{}", pool.ready, pool.wanted), plain);
        painter.cell(row, columns.state, pool.state.text(), style);
    }
    let [arming, leased, waiting, hits, half, most, failures] = columns.numbers;
    for (column, number) in [(arming, pool.arming), (leased, pool.leased), (waiting, pool.waiting)] {
        painter.number(row, column, &number.to_string(), if number == 0 { theme.dim } else { plain });
    }
    let runs = pool.hits + pool.misses;
    let share = (runs > 0).then(|| pool.hits.saturating_mul(100) / runs);
    painter.number(row, hits, &share.map_or_else(String::new, |share| format!("{share}%")), plain);
    let first_byte = pool.latency.first_byte.hour;
    for (column, us) in [(half, first_byte.map(|it| it.p50_us)), (most, first_byte.map(|it| it.p95_us))] {
        painter.number(row, column, &us.map_or_else(String::new, short_time), plain);
    }
    let style = if pool.failures == 0 { theme.dim } else { theme.danger };
    painter.number(row, failures, &pool.failures.to_string(), style);
    let note = match (&pool.progress, &pool.last_error, pool.state) {
        (Some(progress), ..) => progress,
        (None, Some(error), PoolState::Failing) => &error.message,
        _ => &pool.reason,
    };
    let note = shown_in(note, columns.note.width);
    painter.cell(row, columns.note, &note, theme.dim);
}

/// As many blocks as are wanted, up to the gauge's width; filled as far as they are ready.
fn gauge(pool: &PoolRow) -> String {
    let blocks = pool.wanted.min(u32::from(GAUGE));
    let filled = match pool.wanted {
        0 => 0,
        target if target <= blocks => pool.ready.min(blocks),
        target => pool.ready.min(target) * blocks / target,
    };
    (0..blocks).map(|at| if at < filled { '■' } else { '□' }).collect()
}

/// Microseconds in five letters at most, as in `3.1ms`.
fn short_time(us: u64) -> String {
    match us {
        0..1000 => format!("{us}µs"),
        1000..9950 => format!("{}.{}ms", (us + 50) / 1000, (us + 50) / 100 % 10),
        9950..999_500 => format!("{}ms", (us + 500) / 1000),
        999_500..9_950_000 => format!("{}.{}s", (us + 50_000) / 1_000_000, (us + 50_000) / 100_000 % 10),
        _ => format!("{}s", us.saturating_add(500_000) / 1_000_000),
    }
}
