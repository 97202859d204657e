//! `brig withdraw`: an agent takes back what it asked.

use super::completions::proposals;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, say};
use super::values;
use crate::api::wire::ProposalDetail;

/// Arguments of `brig withdraw`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The proposal
    #[arg(value_parser = values::id, add = proposals())]
    id: String,
}

/// Takes a proposal back; one that runs already is killed.
///
/// # Errors
/// What the supervisor answers.
pub async fn withdraw(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let client = context.agent()?;
    let path = format!("/v1/proposals/{}", args.id);
    // What is answered says only that it was done.
    patiently(client.post::<serde_json::Value>(&format!("{path}/withdraw"), &serde_json::json!({}))).await?;
    let detail: ProposalDetail = patiently(client.get(&path)).await?;
    if context.json {
        json(&detail.row)?;
    } else {
        say(&format!("{} {}", detail.row.id, super::queue::outcome(&detail.row)))?;
    }
    Ok(Exit::Done)
}
