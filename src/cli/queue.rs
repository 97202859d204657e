//! `brig queue`: what waits, and with `--all` what became of the rest.

use brig_core::visible;

use super::color;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output::{json, now_ms, remark, say, span};
use super::table::Table;
use crate::api::wire::{ProposalRow, Snapshot, end_text, running_step};

/// Arguments of `brig queue`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Finished, running and refused proposals too, as far as they are remembered
    #[arg(short, long)]
    all: bool,
}

/// Lists the queue.
///
/// # Errors
/// What the supervisor answers.
pub async fn queue(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let rows: Vec<ProposalRow> = if args.all {
        context.ask::<Snapshot>("/v1/snapshot").await?.proposals
    } else {
        context.ask("/v1/proposals?status=waiting").await?
    };
    if context.json {
        json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        remark(if args.all { "no proposals" } else { "nothing waits for a verdict" });
        return Ok(Exit::Done);
    }
    let now = now_ms();
    let mut table = if args.all {
        Table::new(&["ID", "STATUS", "PROFILE", "AGENT", "AGE", "COMMAND"])
    } else {
        Table::new(&["ID", "DIGEST", "PROFILE", "AGENT", "WAITS", "EXPIRES", "COMMAND"])
    };
    for row in &rows {
        let id = row.id.to_string();
        let agent = visible::line(row.agent.name.as_bytes());
        let age = span(now - row.received_at.0);
        if args.all {
            let cells = vec![id, outcome(row), row.profile.clone(), agent, age, command(row)];
            table.coloured_row(cells, 1, color::of_proposal(row));
        } else {
            let expires = span(row.expires_at.0 - now);
            let digest = row.digest.hex()[..8].to_owned();
            table.row(vec![id, digest, row.profile.clone(), agent, age, expires, command(row)]);
        }
    }
    say(&table.render(context.screen))?;
    Ok(Exit::Done)
}

/// The status, or how the run ended.
#[must_use]
pub fn outcome(row: &ProposalRow) -> String {
    let running = || match running_step(row) {
        Some(step) => format!("{}, {step}", row.status.text()),
        None => row.status.text().to_owned(),
    };
    let text = row.end.as_ref().map_or_else(running, end_text);
    visible::line(text.as_bytes())
}

/// The command, with a mark in front where there is more to it than the line shows.
#[must_use]
pub fn command(row: &ProposalRow) -> String {
    if row.command_is_all { row.command.clone() } else { format!("(more) {}", row.command) }
}
