//! `brig stop`: ends the supervisor.

use std::time::{Duration, Instant};

use brig_core::problem::{Code, Problem};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, say};
use super::values;
use crate::api::wire::Snapshot;

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Arguments of `brig stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait no longer than this for its end (a bare number is seconds)
    #[arg(short, long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    timeout: u64,
}

/// What `stop --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Stopped {
    /// It has ended.
    stopped: bool,
}

/// Asks the supervisor to end, and waits until it has.
///
/// # Errors
/// What the supervisor answers, or that it does not end in time.
pub async fn stop(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let client = context.operator()?;
    patiently(client.post::<serde_json::Value>("/v1/shutdown", &serde_json::json!({}))).await?;
    let until = Instant::now() + Duration::from_millis(args.timeout);
    while patiently(client.get::<Snapshot>("/v1/snapshot")).await.err().is_none_or(|p| p.code != Code::NoSupervisor) {
        if Instant::now() >= until {
            return Err(Problem::new(Code::ShuttingDown, "the supervisor has not ended yet")
                .help("it is throwing its sandboxes away; see its log in the state directory")
                .into());
        }
        tokio::time::sleep(LOOK).await;
    }
    if context.json {
        json(&Stopped { stopped: true })?;
    } else {
        say("stopped")?;
    }
    Ok(Exit::Done)
}
