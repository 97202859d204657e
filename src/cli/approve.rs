//! `brig approve`: the dangerous direction, so it shows all of it first, or wants to know what was looked at.

use std::io::{self, IsTerminal as _, Write as _};

use brig_core::problem::{Code, Problem};
use brig_core::proposal::Status;

use super::completions::waiting;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, say};
use super::{show, values};
use crate::api::client::Client;
use crate::api::wire::{Choice, ProposalDetail, VerdictRequest};

/// Arguments of `brig approve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig approve k3f9                       show it, and ask\n",
    "  brig approve k3f9 --digest 1a2b3c4d     where there is no terminal: what was looked at before\n",
))]
pub struct Args {
    /// The digest that was looked at, at least its first 8 digits; needed where there is no terminal to ask at
    #[arg(short, long, value_parser = values::digest)]
    digest: Option<String>,
    /// The proposal
    #[arg(value_parser = values::id, add = waiting())]
    id: String,
}

/// Approves a proposal: by its digest, or after showing it and asking.
///
/// # Errors
/// `malformed` without a terminal and without a digest, else what the supervisor answers.
pub async fn approve(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let client = context.operator()?;
    let digest = match &args.digest {
        Some(digest) => digest.clone(),
        None if context.json || !context.screen.is_terminal() || !io::stdin().is_terminal() => {
            return Err(Stop::Usage(unseen(&args.id)));
        }
        None => match ask(&client, &args.id).await? {
            Some(digest) => digest,
            None => {
                say("not approved; it waits as before")?;
                return Ok(Exit::Failed);
            }
        },
    };
    decide(context, &client, &args.id, Choice::Approved, digest, String::new()).await
}

/// Sends a verdict and says what it led to.
///
/// # Errors
/// What the supervisor answers.
pub async fn decide(
    context: &Context,
    client: &Client,
    id: &str,
    verdict: Choice,
    digest: String,
    reason: String,
) -> Result<Exit, Stop> {
    let path = format!("/v1/proposals/{id}");
    let request = VerdictRequest { digest, verdict, reason };
    patiently(client.post::<serde_json::Value>(&format!("{path}/verdict"), &request)).await?;
    if context.json {
        json(&patiently(client.get::<ProposalDetail>(&path)).await?.row)?;
    } else {
        let word = match verdict {
            Choice::Approved => "approved",
            Choice::Rejected => "rejected",
        };
        say(&format!("{id} {word}"))?;
    }
    Ok(Exit::Done)
}

/// The digest of what was shown, when the answer was yes. Anything but yes is no.
async fn ask(client: &Client, id: &str) -> Result<Option<String>, Stop> {
    let detail: ProposalDetail = patiently(client.get(&format!("/v1/proposals/{id}"))).await?;
    if detail.row.status != Status::Waiting {
        let status = super::queue::outcome(&detail.row);
        return Err(
            Problem::new(Code::NotWaiting, format!("proposal {} does not wait: {status}", detail.row.id)).into()
        );
    }
    let text = show::text(&detail);
    say(&text)?;
    let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    if rows > 0 && text.lines().count() >= rows {
        say(&format!("({} lines: scroll up to see the beginning)", text.lines().count()))?;
    }
    // What was typed before all of it was on the screen answers another question.
    let _ = rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush);
    let mut stdout = io::stdout();
    write!(stdout, "Let it run? [y/N] ")?;
    stdout.flush()?;
    // On a thread of its own, which nobody waits for at the end.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))?.unwrap_or_default();
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(yes.then(|| detail.row.digest.hex()))
}

fn unseen(id: &str) -> Problem {
    Problem::new(Code::Malformed, "without a terminal to ask at, approving needs --digest").help(format!(
        "look at it with `brig show {id}`, then: brig approve {id} --digest FIRST-8-DIGITS-OF-ITS-DIGEST"
    ))
}
