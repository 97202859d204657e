//! `brig image`: the images of the profiles, and those that brig has made.

use brig_core::problem::{Code, Problem};
use brig_core::profile::ImageSource;
use brig_core::visible;
use clap::Subcommand;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, now_ms, remark, say, span};
use super::table::Table;
use crate::api::client::Client;
use crate::api::wire::{BringImage, Bringing, ImageLine, ImageRow, PruneImages, Pruned};

/// Arguments of `brig image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the profiles' images, and those that brig has made and no profile uses
    Ls,
    /// Pull the images of profiles, newer ones too; without names, of all that have `image`
    ///
    /// A registry's login is the one that the docker client of the supervisor's user has (`docker login`). With --json
    /// one object a line: {profile, type, …}, where type is progress, done or problem.
    Pull {
        /// Profiles
        profiles: Vec<String>,
    },
    /// Build the images of profiles, where their content has changed; without names, of all that have `build`
    ///
    /// With --json one object a line: {profile, type, …}, where type is progress, done or problem.
    Build {
        /// Build although nothing has changed, and take nothing from earlier builds
        #[arg(long)]
        no_cache: bool,
        /// Build although nothing has changed, from the newest base
        #[arg(long)]
        pull: bool,
        /// Profiles
        profiles: Vec<String>,
    },
    /// Remove the images that brig has made and no profile uses
    Prune {
        /// Only say which these are
        #[arg(long)]
        dry_run: bool,
    },
}

/// What is built although nothing has changed.
#[derive(Clone, Copy, Default)]
struct Anew {
    no_cache: bool,
    pull: bool,
}

/// Does what was asked about images.
///
/// # Errors
/// What the supervisor answers.
pub async fn image(context: &Context, args: Args) -> Result<Exit, Stop> {
    match args.command {
        Command::Ls => list(context).await,
        Command::Pull { profiles } => bring(context, profiles, Bringing::Pull, Anew::default()).await,
        Command::Build { no_cache, pull, profiles } => {
            bring(context, profiles, Bringing::Build, Anew { no_cache, pull }).await
        }
        Command::Prune { dry_run } => prune(context, dry_run).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Stop> {
    let rows: Vec<ImageRow> = context.ask("/v1/images").await?;
    if context.json {
        json(&rows)?;
        return Ok(Exit::Done);
    }
    let now = now_ms();
    let mut table = Table::new(&["PROFILE", "IMAGE", "ID", "SOURCE", "SIZE", "AGE", "USED BY"]);
    for row in &rows {
        table.row(cells(row, now));
    }
    say(&table.render(context.screen))?;
    Ok(Exit::Done)
}

fn cells(row: &ImageRow, now: i64) -> Vec<String> {
    let dash = || "-".to_owned();
    let source = match (row.source, &row.progress) {
        (_, Some(progress)) => line(progress),
        (Some(source), None) => source_text(source).to_owned(),
        (None, None) if row.profile.is_none() => "brig".to_owned(),
        (None, None) if row.id.is_none() => "not here yet".to_owned(),
        (None, None) => "not used yet".to_owned(),
    };
    vec![
        row.profile.as_deref().map_or_else(dash, line),
        line(&row.image),
        row.id.as_deref().map_or_else(dash, |id| line(id).trim_start_matches("sha256:").chars().take(12).collect()),
        source,
        row.bytes.map_or_else(dash, megabytes),
        row.created.map_or_else(dash, |at| span(now - at.0)),
        match (row.sandboxes, &row.profile) {
            (0, None) => "no profile".to_owned(),
            (0, Some(_)) => "no sandbox".to_owned(),
            (1, _) => "1 sandbox".to_owned(),
            (many, _) => format!("{many} sandboxes"),
        },
    ]
}

fn source_text(source: ImageSource) -> &'static str {
    match source {
        ImageSource::Local => "local",
        ImageSource::Pulled => "pulled",
        ImageSource::Built => "built",
        ImageSource::Userland => "this machine's programs",
    }
}

/// As Docker's own client counts: in powers of 1000.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// What is told of one profile's image, for programs.
#[derive(Serialize, JsonSchema)]
pub struct Told {
    /// The profile's name.
    profile: String,
    /// What there is to tell.
    #[serde(flatten)]
    line: ImageLine,
}

async fn bring(context: &Context, profiles: Vec<String>, how: Bringing, anew: Anew) -> Result<Exit, Stop> {
    let client = context.operator()?;
    let all = profiles.is_empty();
    let profiles = if all { of_all(&client, how).await? } else { profiles };
    if profiles.is_empty() {
        let (what, key) = if how == Bringing::Pull { ("pulled", "image") } else { ("built", "build") };
        remark(&format!("no profile has `{key}`: nothing is {what}"));
    }
    let mut failed = None;
    for profile in &profiles {
        let request = BringImage { profile: profile.clone(), how, no_cache: anew.no_cache, pull: anew.pull };
        if let Err(problem) = one(context, &client, &request).await? {
            // Where all were meant, one that fails does not keep the others from being brought.
            if all && !context.json {
                remark(&format!("{profile}: {}", line(&problem.to_string())));
            }
            failed = Some(problem);
            if !all {
                break;
            }
        }
    }
    match failed {
        None => Ok(Exit::Done),
        // Said already, with the others.
        Some(_) if all || context.json => Ok(Exit::Failed),
        Some(problem) => Err(problem.into()),
    }
}

async fn of_all(client: &Client, how: Bringing) -> Result<Vec<String>, Problem> {
    let rows: Vec<ImageRow> = patiently(client.get("/v1/images")).await?;
    let fits = |row: &ImageRow| row.built_from.is_some() == (how == Bringing::Build);
    Ok(rows.into_iter().filter(fits).filter_map(|row| row.profile).collect())
}

async fn one(context: &Context, client: &Client, request: &BringImage) -> Result<Result<(), Problem>, Stop> {
    let mut lines = match patiently(client.post_and_follow::<ImageLine>("/v1/images/bring", request)).await {
        Ok(lines) => lines,
        Err(problem) => return told(context, request, problem),
    };
    while let Some(next) = lines.next().await {
        let next = match next {
            Ok(next) => next,
            Err(problem) => return told(context, request, problem),
        };
        if let ImageLine::Problem(problem) = next {
            return told(context, request, problem);
        }
        if context.json {
            json(&Told { profile: request.profile.clone(), line: next.clone() })?;
        }
        match next {
            ImageLine::Progress { line: text } if !context.json => say(&format!("{}\n", line(&text)))?,
            ImageLine::Done { id, source } => {
                if !context.json {
                    say(&format!("{}: {} ({})\n", request.profile, line(&id), source_text(source)))?;
                }
                return Ok(Ok(()));
            }
            _ => {}
        }
    }
    let broken = "the supervisor ended before the image was there";
    told(context, request, Problem::new(Code::NoSupervisor, broken))
}

/// With `--json` a problem is a line as well.
fn told(context: &Context, request: &BringImage, problem: Problem) -> Result<Result<(), Problem>, Stop> {
    if context.json {
        json(&Told { profile: request.profile.clone(), line: ImageLine::Problem(problem.clone()) })?;
    }
    Ok(Err(problem))
}

async fn prune(context: &Context, dry_run: bool) -> Result<Exit, Stop> {
    let client = context.operator()?;
    // Removing takes a daemon seconds for each image.
    let pruned: Pruned = client.post("/v1/images/prune", &PruneImages { dry_run }).await?;
    if context.json {
        json(&pruned)?;
        return Ok(Exit::Done);
    }
    for image in &pruned.removed {
        say(&format!("{}  {}\n", line(&image.image), megabytes(image.bytes)))?;
    }
    for image in &pruned.kept {
        remark(&format!("{} stays: {}", line(&image.image), line(&image.why)));
    }
    let what = if dry_run { "would be removed" } else { "removed" };
    let count = pruned.removed.len();
    let images = if count == 1 { "image" } else { "images" };
    let shared = if count == 0 { "" } else { ", less what other images share with them" };
    say(&format!("{count} {images} {what}, {}{shared}\n", megabytes(pruned.bytes)))?;
    Ok(Exit::Done)
}

fn line(text: &str) -> String {
    visible::line(text.as_bytes())
}
