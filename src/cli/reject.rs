//! `brig reject`: the agent gets the reason.

use brig_core::problem::{Code, Problem};

use super::approve::decide;
use super::completions::waiting;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::values;
use crate::api::wire::{Choice, ProposalDetail};

/// Arguments of `brig reject`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Why; given to the agent, so that it can do better
    #[arg(short, long)]
    reason: String,
    /// The digest that was looked at, at least its first 8 digits; without it, whatever waits under this identifier
    #[arg(short, long, value_parser = values::digest)]
    digest: Option<String>,
    /// The proposal
    #[arg(value_parser = values::id, add = waiting())]
    id: String,
}

/// Rejects a proposal.
///
/// # Errors
/// `invalid_field` for an empty reason, else what the supervisor answers.
pub async fn reject(context: &Context, args: &Args) -> Result<Exit, Stop> {
    if args.reason.trim().is_empty() {
        let problem = Problem::new(Code::InvalidField, "the reason is empty");
        return Err(Stop::Usage(problem.help("say in a few words why, as in --reason 'use the staging host'")));
    }
    let client = context.operator()?;
    let digest = match &args.digest {
        Some(digest) => digest.clone(),
        None => patiently(client.get::<ProposalDetail>(&format!("/v1/proposals/{}", args.id))).await?.row.digest.hex(),
    };
    decide(context, &client, &args.id, Choice::Rejected, digest, args.reason.clone()).await
}
