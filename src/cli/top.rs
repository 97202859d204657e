//! `brig top`: the sandboxes, those first that use most.

use std::time::Duration;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::live::{self, Kind, List};
use super::output::{json, now_ms, remark, say};
use super::values;
use crate::api::wire::{SandboxRow, SandboxState};

/// Arguments of `brig top`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Keys:\n",
    "  q, Esc, Ctrl-C   leave\n",
    "  c, m, t          sort by CPU, by memory, by time since the last change\n",
    "  r                only what runs, or all\n\n",
    "100% is one core. Where there is no terminal, the list is printed once.",
))]
pub struct Args {
    /// By what it is sorted
    #[arg(short, long, value_enum, default_value_t)]
    sort: live::Sort,
    /// Only those that run something
    #[arg(short, long)]
    running: bool,
    /// How often it is looked (a bare number is seconds)
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = values::interval)]
    every: u64,
}

/// Shows the list until somebody leaves, or prints it once.
///
/// # Errors
/// What the supervisor answers.
pub async fn top(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let list = List { kind: Kind::Top(args.sort), running: args.running };
    if !context.json && live::is_possible(context) {
        return live::watch(context, list, args.every).await;
    }
    let mut rows: Vec<SandboxRow> = context.ask("/v1/sandboxes").await?;
    let first_look = |row: &SandboxRow| {
        row.state == SandboxState::Running && row.usage.is_some_and(|usage| usage.cpu_percent.is_none())
    };
    if rows.iter().any(first_look) {
        // What a sandbox uses of the CPU is known from the second look on.
        tokio::time::sleep(Duration::from_millis(args.every.min(1_000))).await;
        rows = context.ask("/v1/sandboxes").await?;
    }
    let rows = list.arranged(rows);
    if context.json {
        json(&rows)?;
    } else if rows.is_empty() {
        remark("no sandboxes");
    } else {
        say(&list.table(&rows, now_ms()).render(context.screen))?;
    }
    Ok(Exit::Done)
}
