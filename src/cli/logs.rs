//! `brig logs`: what a run wrote.

use brig_core::problem::{Code, Problem};
use futures_util::StreamExt as _;

use super::completions::proposals;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::json;
use super::run::Printer;
use super::values;
use crate::api::wire::{FollowLine, step_text};

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
    /// Only what was written while this step ran, counted from 1
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    step: Option<u32>,
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
    let (mut expected, mut count, mut headed) = (0, 0, None);
    while let Some(line) = lines.next().await {
        let line = line?;
        let (seq, stream, step, data) = match &line {
            FollowLine::Output { seq, stream, step, data, .. } => (seq, stream, *step, data),
            FollowLine::Problem(problem) => return Err(problem.clone().into()),
            FollowLine::Proposal(row) => {
                if let Some(run) = &row.run {
                    count = run.steps;
                    there_is(args.step, count, &row.id.0)?;
                }
                continue;
            }
            FollowLine::Note { .. } | FollowLine::Alive => continue,
        };
        if *seq != expected {
            return Err(
                Problem::new(Code::Internal, format!("the output has a gap: piece {expected} is missing")).into()
            );
        }
        expected += 1;
        if args.step.is_some_and(|wanted| wanted - 1 != step) {
            continue;
        }
        if context.json && args.follow {
            json(&line)?;
        } else if context.json {
            all.push(line);
        } else {
            if args.step.is_none() && count > 1 && headed.is_none_or(|last| last < step) {
                printer.heading(&step_text(step, count as usize)).await?;
                headed = Some(step);
            }
            printer.print(*stream, &data.0).await?;
        }
    }
    if context.json && !args.follow {
        json(&all)?;
    }
    printer.finish().await?;
    Ok(Exit::Done)
}

/// Says so when a step is asked for that is none of its.
fn there_is(wanted: Option<u32>, count: u32, id: &str) -> Result<(), Stop> {
    match wanted {
        Some(step) if step > count => {
            let steps = if count == 1 { "one step".to_owned() } else { format!("{count} steps") };
            let problem = Problem::new(Code::Malformed, format!("there is no step {step}: {id} has {steps}"));
            Err(Stop::Usage(problem.help("`brig show` lists them, counted from 1")))
        }
        _ => Ok(()),
    }
}
