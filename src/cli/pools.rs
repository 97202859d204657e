//! `brig pools`: how many sandboxes are warm, and what keeps them from being so.

use std::time::{Duration, Instant};

use brig_core::problem::{Code, Problem};
use brig_core::visible;

use super::color;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, now_ms, remark, say, span};
use super::table::Table;
use super::values;
use crate::api::wire::{PoolOrder, PoolRow, PoolState, Snapshot, Summary};

/// How often it is looked whether a drained or recycled pool is done.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `brig pools`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    order: Option<Order>,
}

#[derive(Debug, clap::Subcommand)]
enum Order {
    /// Set other numbers than the profile's
    Set {
        #[command(flatten)]
        pool: Pool,
        /// Ready when nothing has run for an hour
        #[arg(long, value_name = "N")]
        min: Option<u32>,
        /// Ready at rest
        #[arg(long, value_name = "N")]
        target: Option<u32>,
        /// At once, whatever they do
        #[arg(long, value_name = "N")]
        max: Option<u32>,
    },
    /// Remove what is unused and make none, until `resume`; runs go on
    Drain {
        #[command(flatten)]
        pool: Pool,
        #[command(flatten)]
        patience: Patience,
    },
    /// Make none until `resume`; what is warm is still used
    Pause(Pool),
    /// Take back a pause or a drain
    Resume(Pool),
    /// Replace all that are warm, one after the other
    Recycle {
        #[command(flatten)]
        pool: Pool,
        #[command(flatten)]
        patience: Patience,
    },
}

#[derive(Debug, clap::Args)]
struct Pool {
    /// The pool's profile
    #[arg(value_name = "PROFILE", value_parser = values::profile)]
    profile: String,
}

#[derive(Debug, clap::Args)]
struct Patience {
    /// Wait no longer than this until it is done (a bare number is seconds)
    #[arg(short, long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    timeout: u64,
}

/// Lists the pools, or steers one.
///
/// # Errors
/// What the supervisor answers.
pub async fn pools(context: &Context, args: Args) -> Result<Exit, Stop> {
    match args.order {
        None => list(context).await,
        Some(order) => steer(context, order).await,
    }
}

async fn steer(context: &Context, order: Order) -> Result<Exit, Stop> {
    let (profile, order, patience) = match order {
        Order::Set { pool, min, target, max } => (pool.profile, PoolOrder::Set { min, target, max }, None),
        Order::Drain { pool, patience } => (pool.profile, PoolOrder::Drain, Some(patience)),
        Order::Pause(pool) => (pool.profile, PoolOrder::Pause, None),
        Order::Resume(pool) => (pool.profile, PoolOrder::Resume, None),
        Order::Recycle { pool, patience } => (pool.profile, PoolOrder::Recycle, Some(patience)),
    };
    let client = context.operator()?;
    let mut row: PoolRow = patiently(client.post(&format!("/v1/pools/{profile}"), &order)).await?;
    if let Some(patience) = patience {
        row = until_done(context, row, order, patience.timeout).await?;
    }
    if context.json {
        json(&row)?;
    } else {
        say(&outcome(&row, order))?;
    }
    Ok(Exit::Done)
}

/// Waits until a drain has removed what was unused, or all that was warm is replaced. Runs are not waited for: they go on.
async fn until_done(context: &Context, mut row: PoolRow, order: PoolOrder, timeout: u64) -> Result<PoolRow, Stop> {
    let until = Instant::now() + Duration::from_millis(timeout);
    let profile = row.profile.clone();
    loop {
        let left = match order {
            PoolOrder::Drain => row.ready + row.arming,
            _ => row.replacing.as_ref().map_or(0, |it| it.left),
        };
        let taken_back = order == PoolOrder::Drain && !matches!(row.state, PoolState::Draining | PoolState::Drained);
        if left == 0 || taken_back {
            return Ok(row);
        }
        if Instant::now() >= until {
            let what = if order == PoolOrder::Drain { "removed" } else { "replaced" };
            let message = format!("{left} sandboxes of pool {profile} are still to be {what}");
            return Err(Problem::new(Code::EngineTimeout, message)
                .help(format!("it goes on; `brig pools` shows how far it is. Now: {}", line(&row.reason)))
                .into());
        }
        tokio::time::sleep(LOOK).await;
        let snapshot: Snapshot = context.ask("/v1/snapshot").await?;
        let gone = || Problem::new(Code::UnknownProfile, format!("profile `{profile}` was removed meanwhile"));
        row = snapshot.pools.into_iter().find(|pool| pool.profile == profile).ok_or_else(gone)?;
    }
}

/// What an order came to, for people.
fn outcome(row: &PoolRow, order: PoolOrder) -> String {
    let profile = &row.profile;
    let waiting = match row.waiting {
        0 => String::new(),
        n => format!("; approved and waiting for a sandbox: {n}"),
    };
    match order {
        PoolOrder::Set { .. } => {
            let lasts = "until the supervisor ends or the profile's file changes";
            format!("{profile}: min {}, target {}, max {}, {lasts}", row.min, row.target, row.max)
        }
        PoolOrder::Drain if matches!(row.state, PoolState::Draining | PoolState::Drained) => {
            let runs = match row.leased {
                0 => "and none is in use".to_owned(),
                n => format!("and {n} more end by themselves"),
            };
            format!("{profile} is drained: no unused sandbox is left, {runs}{waiting}")
        }
        PoolOrder::Drain => format!("{profile}: the drain was taken back"),
        PoolOrder::Pause => {
            format!("{profile} is paused: {} ready may still be used, and none are made{waiting}", row.ready)
        }
        PoolOrder::Resume => format!("{profile}: {}", line(&row.reason)),
        PoolOrder::Recycle => format!("{profile}: all that were warm are replaced; {} ready", row.ready),
    }
}

async fn list(context: &Context) -> Result<Exit, Stop> {
    let snapshot: Snapshot = context.ask("/v1/snapshot").await?;
    if context.json {
        json(&snapshot.pools)?;
        return Ok(Exit::Done);
    }
    let heading =
        ["PROFILE", "STATE", "READY", "WANTED", "ARMING", "LEASED", "MAX", "HITS", "P50", "P95", "FAILURES", "IMAGE"];
    let mut table = Table::new(&heading);
    for pool in &snapshot.pools {
        let mut cells = vec![pool.profile.clone(), pool.state.text().to_owned()];
        cells.extend([pool.ready, pool.wanted, pool.arming, pool.leased, pool.max].map(|count| count.to_string()));
        cells.push(hits(pool));
        let first_byte = pool.latency.first_byte.hour;
        cells.extend([time(first_byte, |it| it.p50_us), time(first_byte, |it| it.p95_us)]);
        cells.push(pool.failures.to_string());
        cells.push(image(pool));
        table.coloured_row(cells, 1, color::of_pool(pool.state));
    }
    say(&table.render(context.screen))?;
    let now = now_ms();
    if let Some(away) = &snapshot.supervisor.engine_problem {
        remark(&format!("the engine is away for {}: {}", span(now - away.since.0), line(&away.problem.to_string())));
    }
    if let Some(failed) = &snapshot.supervisor.journal_problem {
        let problem = line(&failed.problem.to_string());
        remark(&format!("nothing new runs for {}: {problem}", span(now - failed.since.0)));
    }
    if let Some(wrong) = &snapshot.supervisor.config_problem {
        remark(&format!("the profiles before the last change are in force: {}", line(&wrong.problem.to_string())));
    }
    for pool in snapshot.pools.iter().filter(|pool| pool.state != PoolState::Idle) {
        remark(&format!("{}: {}", pool.profile, steered(pool, now)));
    }
    for pool in &snapshot.pools {
        if let Some(problem) = &pool.last_error {
            let retry = pool.retry_at.map_or_else(String::new, |at| format!("; tried again in {}", span(at.0 - now)));
            remark(&format!("{}: {}{retry}", pool.profile, line(&problem.to_string())));
        }
    }
    Ok(Exit::Done)
}

/// How many are wanted and why, and what operators have to do with it.
fn steered(pool: &PoolRow, now: i64) -> String {
    let mut words = line(&pool.reason);
    if let Some(held) = &pool.held {
        words = format!("{words} {} ago; `brig pools resume {}` takes it back", span(now - held.since.0), pool.profile);
    }
    if let Some(set) = &pool.set {
        let numbers = format!("min {}, target {}, max {}", pool.min, pool.target, pool.max);
        words = format!("{words}; {numbers} set by {} {} ago", line(&set.by), span(now - set.since.0));
    }
    if let Some(replacing) = &pool.replacing {
        words = format!("{words}; {} still to be replaced, as {} asked", replacing.left, line(&replacing.by));
    }
    words
}

/// Runs that found a warm sandbox, of all.
fn hits(pool: &PoolRow) -> String {
    format!("{}/{}", pool.hits, pool.hits + pool.misses)
}

/// A time of the last hour in milliseconds.
fn time(summary: Option<Summary>, pick: impl Fn(&Summary) -> u64) -> String {
    let shown = |us: u64| {
        if us < 9950 {
            format!("{}.{} ms", (us + 50) / 1000, (us + 50) / 100 % 10)
        } else {
            format!("{} ms", (us + 500) / 1000)
        }
    };
    summary.map_or_else(|| "-".to_owned(), |it| shown(pick(&it)))
}

/// The image, where it is from, or what is being done to have it.
fn image(pool: &PoolRow) -> String {
    use brig_core::profile::ImageSource;
    let source = match pool.image_source {
        Some(ImageSource::Userland) => " (made of this machine's own programs)",
        Some(ImageSource::Pulled) => " (pulled)",
        Some(ImageSource::Built) => " (built)",
        Some(ImageSource::Local) | None => "",
    };
    let progress = pool.progress.as_deref().map_or_else(String::new, |text| format!(": {}", line(text)));
    format!("{}{source}{progress}", line(&pool.image))
}

fn line(text: &str) -> String {
    visible::line(text.as_bytes())
}
