//! `brig logs`: what a run wrote.

use brig_core::problem::{Code, Problem};
use futures_util::StreamExt as _;

use super::completions::proposals;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::json;
use super::run::Printer;
use super::values;
use crate::api::wire::FollowLine;

/// Arguments of `brig logs`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig logs -f k3f9               what it writes, until it is over\n",
    "  brig logs k3f9 2> /dev/null     what it wrote to its standard output\n\n",
    "`brig export` writes it as a file.",
))]
pub struct Args {
    /// Go on until the run is over
    #[arg(short, long)]
    follow: bool,
    /// Print the bytes as they are, even to a terminal
    #[arg(long)]
    raw: bool,
    /// The proposal
    #[arg(value_parser = values::id, add = proposals())]
    id: String,
}

/// Prints what is there, and what comes.
///
/// # Errors
/// What the supervisor answers.
pub async fn logs(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let client = context.reader()?;
    let path = format!("/v1/proposals/{}/output?from=0&follow={}", args.id, args.follow);
    let mut lines = patiently(client.follow::<FollowLine>(&path)).await?;
    let mut printer = Printer::new(args.raw);
    let mut all = Vec::new();
    let mut expected = 0;
    while let Some(line) = lines.next().await {
        let line = line?;
        let (seq, stream, data) = match &line {
            FollowLine::Output { seq, stream, data, .. } => (seq, stream, data),
            FollowLine::Problem(problem) => return Err(problem.clone().into()),
            FollowLine::Proposal(_) | FollowLine::Note { .. } | FollowLine::Alive => continue,
        };
        if *seq != expected {
            return Err(
                Problem::new(Code::Internal, format!("the output has a gap: piece {expected} is missing")).into()
            );
        }
        expected += 1;
        if context.json && args.follow {
            json(&line)?;
        } else if context.json {
            all.push(line);
        } else {
            printer.print(*stream, &data.0).await?;
        }
    }
    if context.json && !args.follow {
        json(&all)?;
    }
    printer.finish().await?;
    Ok(Exit::Done)
}
