//! `brig kill`: the safe direction, so it asks nothing.

use brig_core::problem::{Code, Problem};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, patiently};
use super::exit::{Exit, Stop, report};
use super::output::{json, say};
use super::values;
use crate::api::client::Client;

/// Arguments of `brig kill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Proposals that run, or sandboxes
    #[arg(required = true, value_name = "ID", value_parser = values::id)]
    ids: Vec<String>,
}

/// What became of one of them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Killed<'a> {
    /// As it was given.
    id: &'a str,
    /// It is on its way; its end follows.
    being_killed: bool,
    /// Why it is not being killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

/// Kills each of them; one that fails does not keep the others alive.
///
/// # Errors
/// That the operator's socket cannot be used at all.
pub async fn kill(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let client = context.operator()?;
    let mut exit = Exit::Done;
    let mut all = Vec::new();
    for id in &args.ids {
        let error = one(&client, id).await.err();
        if error.as_ref().is_some_and(|problem| problem.code == Code::NoSupervisor) {
            // The others would only hear the same.
            return Err(error.map_or(Stop::Pipe, Stop::Problem));
        }
        if !context.json {
            match &error {
                None => say(&format!("{id} is being killed"))?,
                Some(problem) => drop(report(problem.clone().into(), false)),
            }
        }
        if error.is_some() {
            exit = Exit::Failed;
        }
        all.push(Killed { id, being_killed: error.is_none(), error });
    }
    if context.json {
        json(&all)?;
    }
    Ok(exit)
}

/// A sandbox's name has a hyphen, a proposal's has none. Only a proposal's may be shortened.
async fn one(client: &Client, id: &str) -> Result<(), Problem> {
    let nothing = serde_json::json!({});
    let sandbox = format!("/v1/sandboxes/{id}/kill");
    if !id.contains('-') {
        let proposal = format!("/v1/proposals/{id}/kill");
        match patiently(client.post::<serde_json::Value>(&proposal, &nothing)).await {
            Err(problem) if problem.code == Code::NotFound => {
                let second = patiently(client.post::<serde_json::Value>(&sandbox, &nothing)).await;
                // Not found twice: the first answer names what people mostly mean.
                return second.map(drop).map_err(|other| if other.code == Code::NotFound { problem } else { other });
            }
            other => return other.map(drop),
        }
    }
    patiently(client.post::<serde_json::Value>(&sandbox, &nothing)).await.map(drop)
}
