//! `brig ps`: the sandboxes.

use super::color;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::live::{self, Kind, List};
use super::output::{json, now_ms, remark, say, span};
use super::table::Table;
use super::values;
use crate::api::wire::{SandboxRow, SandboxState, step_text};
use crate::config::units::size_text;

/// Arguments of `brig ps`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig ps -r              what runs\n",
    "  brig ps --watch         the same list, kept up to date; q leaves\n",
))]
pub struct Args {
    /// Only those that run something
    #[arg(short, long)]
    running: bool,
    /// Keep the list up to date until q is pressed; where there is no terminal it is printed once
    #[arg(short, long)]
    pub watch: bool,
    /// How often it is looked, with --watch (a bare number is seconds)
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::interval)]
    every: u64,
}

/// Lists the sandboxes.
///
/// # Errors
/// What the supervisor answers.
pub async fn ps(context: &Context, args: &Args) -> Result<Exit, Stop> {
    if args.watch && !context.json && live::is_possible(context) {
        let list = List { kind: Kind::Ps, running: args.running };
        return live::watch(context, list, args.every).await;
    }
    let mut rows: Vec<SandboxRow> = context.ask("/v1/sandboxes").await?;
    rows.retain(|row| !args.running || row.state == SandboxState::Running);
    if context.json {
        json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        remark("no sandboxes");
        return Ok(Exit::Done);
    }
    say(&table(&rows, now_ms()).render(context.screen))?;
    Ok(Exit::Done)
}

/// The sandboxes with all that is known of them.
#[must_use]
pub fn table(rows: &[SandboxRow], now: i64) -> Table {
    let mut table =
        Table::new(&["ID", "STATE", "PROFILE", "SINCE", "LEFT", "CPU", "MEMORY", "PIDS", "PROPOSAL", "COMMAND"]);
    for row in rows {
        table.coloured_row(cells(row, now), 1, color::of_sandbox(row.state));
    }
    table
}

fn cells(row: &SandboxRow, now: i64) -> Vec<String> {
    let usage = |text: &dyn Fn(crate::api::wire::UsageRow) -> String| row.usage.map_or_else(|| "-".to_owned(), text);
    vec![
        row.id.to_string(),
        row.state.text().to_owned(),
        row.profile.clone(),
        span(now - row.since.0),
        row.deadline_at.map_or_else(|| "-".to_owned(), |at| span(at.0 - now)),
        usage(&|usage| usage.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0}%"))),
        usage(&|usage| format!("{}/{}", round_size(usage.memory), size_text(usage.memory_limit))),
        usage(&|usage| format!("{}/{}", usage.pids, usage.pids_limit)),
        row.proposal.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        command(row),
    ]
}

/// The command; where it has several steps, which of them runs.
fn command(row: &SandboxRow) -> String {
    let command = row.command.clone().unwrap_or_default();
    match (row.step, row.steps) {
        (Some(step), Some(steps)) if steps > 1 && row.state == SandboxState::Running => {
            format!("({}) {command}", step_text(step, steps as usize))
        }
        _ => command,
    }
}

/// A size for comparing: in its unit, without what is smaller.
#[must_use]
pub fn round_size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}b"),
        1024..1_048_576 => format!("{}k", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{}m", bytes >> 20),
        _ => format!("{:.1}g", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::round_size;

    #[test]
    fn sizes_are_rounded_down_to_their_unit() {
        for (bytes, text) in [(1, "1b"), (2047, "1k"), (5 << 20, "5m"), (3 << 29, "1.5g")] {
            assert_eq!(round_size(bytes), text);
        }
    }
}
