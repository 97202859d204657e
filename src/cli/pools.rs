//! `brig pools`: how many sandboxes are warm, and what keeps them from being so.

use brig_core::visible;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output::{json, now_ms, remark, say, span};
use super::table::Table;
use crate::api::wire::{PoolRow, Snapshot};

/// Lists the pools.
///
/// # Errors
/// What the supervisor answers.
pub async fn pools(context: &Context) -> Result<Exit, Stop> {
    let snapshot: Snapshot = context.ask("/v1/snapshot").await?;
    if context.json {
        json(&snapshot.pools)?;
        return Ok(Exit::Done);
    }
    let heading =
        ["PROFILE", "STATE", "READY", "TARGET", "ARMING", "LEASED", "MAX", "HITS", "MISSES", "FAILURES", "IMAGE"];
    let mut table = Table::new(&heading);
    for pool in &snapshot.pools {
        let mut cells = vec![pool.profile.clone(), pool.state.text().to_owned()];
        cells.extend([pool.ready, pool.target, pool.arming, pool.leased, pool.max].map(|count| count.to_string()));
        cells.extend([pool.hits, pool.misses, pool.failures].map(|count| count.to_string()));
        cells.push(image(pool));
        table.row(cells);
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
    for pool in &snapshot.pools {
        if let Some(problem) = &pool.last_error {
            let retry = pool.retry_at.map_or_else(String::new, |at| format!("; tried again in {}", span(at.0 - now)));
            remark(&format!("{}: {}{retry}", pool.profile, line(&problem.to_string())));
        }
    }
    Ok(Exit::Done)
}

/// The image, where it is from, or what is being done to have it.
fn image(pool: &PoolRow) -> String {
    use brig_core::profile::ImageSource;
    let source = match pool.image_source {
        Some(ImageSource::Userland) => " (made of this machine's own programs)",
        Some(ImageSource::Pulled) => " (pulled)",
        Some(ImageSource::Local) | None => "",
    };
    let progress = pool.progress.as_deref().map_or_else(String::new, |text| format!(": {}", line(text)));
    format!("{}{source}{progress}", line(&pool.image))
}

fn line(text: &str) -> String {
    visible::line(text.as_bytes())
}
