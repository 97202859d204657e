//! `brig doctor`: everything that brig needs, how it is, and how to mend it.

use brig_core::visible;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output::{json, say};
use crate::doctor::{self, Report, Status};

/// Looks at everything.
///
/// # Errors
/// Only when the answer cannot be written.
pub async fn doctor(context: &Context) -> Result<Exit, Stop> {
    let report = doctor::examine(&context.places).await;
    if context.json {
        json(&report)?;
    } else {
        say(&text(&report))?;
    }
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut area = "";
    for check in &report.checks {
        if check.area != area {
            area = check.area;
            text.push_str(&format!("{area}\n"));
        }
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
        };
        // A daemon, a file and the environment chose some of these words.
        let [what, message, help] = [&check.what, &check.message, &check.help].map(|it| visible::line(it.as_bytes()));
        text.push_str(&format!("  {status:<8}{what}: {message}\n"));
        if !help.is_empty() && check.status != Status::Ok {
            text.push_str(&format!("          {help}\n"));
        }
    }
    let count = |status| report.checks.iter().filter(|check| check.status == status).count();
    let (failed, warnings) = (count(Status::Failed), count(Status::Warning));
    text.push_str(&match (failed, warnings) {
        (0, 0) => "all is well\n".to_owned(),
        (0, warnings) => format!("it works, with {warnings} {}\n", plural(warnings, "warning")),
        (failed, _) => format!("{failed} {} failed\n", plural(failed, "check")),
    });
    text
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
