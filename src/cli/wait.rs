//! `brig wait`: until proposals are over.

use std::time::{Duration, Instant};

use brig_core::problem::Problem;
use futures_util::future::join_all;

use super::completions::proposals;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output::{json, say};
use super::queue::outcome;
use super::values;
use crate::api::client::Client;
use crate::api::wire::{ProposalDetail, ProposalRow};

/// The longest time for which the supervisor holds one question.
const HOLD: Duration = Duration::from_secs(60);

/// Arguments of `brig wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait no longer than this, as in 30s or 5m (a bare number is seconds)
    #[arg(short, long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<u64>,
    /// The proposals
    #[arg(required = true, value_name = "ID", value_parser = values::id, add = proposals())]
    ids: Vec<String>,
}

/// Waits for all of them at once.
///
/// # Errors
/// What the supervisor answers.
pub async fn wait(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let client = context.agent()?;
    let until = args.timeout.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    let all = join_all(args.ids.iter().map(|id| over(&client, id, until))).await;
    let rows = all.into_iter().collect::<Result<Vec<ProposalRow>, Problem>>()?;
    if context.json {
        json(&rows)?;
    } else {
        let lines: String = rows.iter().map(|row| format!("{} {}\n", row.id, outcome(row))).collect();
        say(&lines)?;
    }
    let exits = rows.iter().map(Exit::of_proposal);
    Ok(exits.into_iter().find(|exit| exit.code() != 0).unwrap_or(Exit::Done))
}

/// Asks again and again: each question is held by the supervisor until something happens, but never for ever.
async fn over(client: &Client, id: &str, until: Option<Instant>) -> Result<ProposalRow, Problem> {
    loop {
        let left = until.map_or(HOLD, |until| until.saturating_duration_since(Instant::now()).min(HOLD));
        let path = format!("/v1/proposals/{id}?wait_ms={}", left.as_millis());
        let row = client.get::<ProposalDetail>(&path).await?.row;
        if row.status.is_final() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok(row);
        }
    }
}
