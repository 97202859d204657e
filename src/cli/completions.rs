//! `brig completions`: what a shell asks brig for when Tab is pressed; profiles and proposals are those of this moment.

use std::time::Duration;

use brig_core::problem::{Code, Problem};
use clap::ValueEnum;
use clap::builder::StyledStr;
use clap_complete::env::Shells;
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output::{json, say};
use crate::api::wire::{History, ProfileRow, ProposalRow, Snapshot};

/// How long a supervisor may take to answer somebody who has pressed Tab.
const PATIENCE: Duration = Duration::from_millis(500);
/// Proposals that are offered.
const OFFERED: usize = 100;

/// The variable with which a shell's script asks; it says for which shell.
pub const VARIABLE: &str = "BRIG_COMPLETE";

/// Arguments of `brig completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  bash:        brig completions bash > ~/.local/share/bash-completion/completions/brig\n",
    "  zsh:         brig completions zsh > \"${fpath[1]}/_brig\"\n",
    "  fish:        brig completions fish > ~/.config/fish/completions/brig.fish\n",
    "  elvish:      eval (brig completions elvish | slurp)\n",
    "  powershell:  brig completions powershell | Out-String | Invoke-Expression\n\n",
    "The script asks `brig` for what fits, so it has to be in the PATH and of the same version.",
))]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// The shells there are scripts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "their names")]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

/// What `completions --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Script {
    /// The shell.
    shell: &'static str,
    /// What it has to read.
    script: String,
}

/// Prints the script.
///
/// # Errors
/// [`Stop::Pipe`] when nobody reads.
pub fn completions(as_json: bool, args: &Args) -> Result<Exit, Stop> {
    let shell = args.shell.name();
    let shells = Shells::builtins();
    let mut script = Vec::new();
    let written =
        shells.completer(shell).map(|it| it.write_registration(VARIABLE, "brig", "brig", "brig", &mut script));
    match written {
        Some(Ok(())) => {}
        Some(Err(error)) => return Err(error.into()),
        None => return Err(Problem::new(Code::Internal, format!("there is no script for {shell}")).into()),
    }
    let script = String::from_utf8_lossy(&script).into_owned();
    if as_json {
        json(&Script { shell, script })?;
    } else {
        say(&script)?;
    }
    Ok(Exit::Done)
}

/// Offers the names of profiles.
pub fn profiles() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let known = asked(async |context: &Context| context.agent()?.get::<Vec<ProfileRow>>("/v1/profiles").await);
        known.unwrap_or_default().iter().map(|profile| offered(&profile.name, &profile.description)).collect()
    })
}

/// Offers proposals, the newest first.
pub fn proposals() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let page = format!("/v1/history?limit={OFFERED}");
        let known = asked(async |context: &Context| context.operator()?.get::<History>(&page).await);
        all(known.map(|known| known.proposals).unwrap_or_default().iter())
    })
}

/// Offers the proposals that wait for a verdict, the oldest first.
pub fn waiting() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let path = "/v1/proposals?status=waiting";
        let known = asked(async |context: &Context| context.operator()?.get::<Vec<ProposalRow>>(path).await);
        all(known.unwrap_or_default().iter().take(OFFERED))
    })
}

/// Offers what runs.
pub fn running() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let known = asked(async |context: &Context| context.operator()?.get::<Snapshot>("/v1/snapshot").await);
        let sandboxes = known.map(|known| known.sandboxes).unwrap_or_default();
        let run = |(at, row): (usize, &crate::api::wire::SandboxRow)| {
            let id = row.proposal.as_ref()?;
            Some(offered(&id.0, &row.profile).display_order(Some(at)))
        };
        sandboxes.iter().enumerate().filter_map(run).take(OFFERED).collect()
    })
}

fn all<'a>(rows: impl Iterator<Item = &'a ProposalRow>) -> Vec<CompletionCandidate> {
    let words = |row: &ProposalRow| format!("{} {}", row.profile, super::queue::outcome(row));
    rows.enumerate().map(|(at, row)| offered(&row.id.0, &words(row)).display_order(Some(at))).collect()
}

/// A name and a few words about it. A shell prints them, so nothing of what an agent wrote is among them.
fn offered(name: &str, words: &str) -> CompletionCandidate {
    let words = brig_core::visible::line(words.as_bytes());
    CompletionCandidate::new(name).help(Some(StyledStr::from(words)))
}

/// Asks, shortly. Where there is no answer there is nothing to offer, and nobody to tell why.
fn asked<T>(ask: impl AsyncFnOnce(&Context) -> Result<T, Problem>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let context = Context::from_env(false).ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(&context)).await });
    runtime.shutdown_background();
    answer.ok()?.ok()
}
