//! Looks at everything that brig needs, and says how to mend what is not so: `brig doctor`.
//!
//! It starts nothing, changes nothing and leaves nothing behind, and works with a supervisor and without.

use brig_core::problem::Problem;
use brig_core::profile::Profile;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Places, Settings, profiles};
use crate::console::theme::Theme;
use crate::engine::Owner;
use crate::engine::docker::{DockerEngine, EngineFacts};
use crate::supervisor;

mod engine;
mod files;
mod process;

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Diagnosis")]
pub struct Report {
    /// Whether nothing failed.
    pub ok: bool,
    /// What the daemon says of itself, where one was reached.
    pub engine: Option<EngineFacts>,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// What it is part of: `engine`, `images`, `files`, `settings`, `supervisor` or `process`.
    pub area: &'static str,
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub message: String,
    /// How to mend it; empty where there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CheckStatus")]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// brig works, but not as well as it could, or not for long.
    Warning,
    /// Something that brig is for does not work.
    Failed,
}

impl Check {
    fn new(area: &'static str, what: impl Into<String>, status: Status, message: impl Into<String>) -> Self {
        Self { area, what: what.into(), status, message: message.into(), help: String::new() }
    }

    fn ok(area: &'static str, what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(area, what, Status::Ok, message)
    }

    fn warning(area: &'static str, what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(area, what, Status::Warning, message)
    }

    fn failed(area: &'static str, what: impl Into<String>, problem: &Problem) -> Self {
        Self::new(area, what, Status::Failed, problem.message.clone()).help(problem.help.clone())
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// Looks at everything.
pub async fn examine(places: &Places) -> Report {
    let mut checks = Vec::new();
    let (settings, profiles) = settings(places, &mut checks);
    let found = match connect(places, &settings) {
        Ok(docker) => engine::examine(&docker, &profiles, &mut checks).await,
        Err(problem) => {
            checks.push(Check::failed("engine", "daemon", &problem));
            engine::Found::default()
        }
    };
    process::supervisor(places, found.address.as_deref(), &mut checks).await;
    files::examine(places, &mut checks).await;
    process::examine(&mut checks);
    // The daemon is what most people look for.
    checks.sort_by_key(|check| AREAS.iter().position(|area| *area == check.area));
    Report { ok: checks.iter().all(|check| check.status != Status::Failed), engine: found.facts, checks }
}

/// In the order in which they are shown.
const AREAS: [&str; 6] = ["engine", "images", "settings", "supervisor", "files", "process"];

/// The settings and the profiles, as far as they can be read.
fn settings(places: &Places, checks: &mut Vec<Check>) -> (Settings, Vec<Profile>) {
    let file = places.brig_toml();
    let settings = match Settings::load(places) {
        Ok(settings) => {
            let message =
                if file.exists() { file.display().to_string() } else { "none: every key has its default".into() };
            checks.push(Check::ok("settings", "brig.toml", message));
            settings
        }
        Err(problem) => {
            checks.push(Check::failed("settings", "brig.toml", &problem));
            Settings::default()
        }
    };
    match Theme::load(&settings.theme, &places.themes_dir()) {
        Ok(_) => checks.push(Check::ok("settings", "theme", settings.theme.clone())),
        Err(problem) => checks.push(Check::failed("settings", "theme", &problem)),
    }
    match profiles::load(places, &settings) {
        Ok(profiles) => {
            let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
            checks.push(Check::ok("settings", "profiles", names.join(", ")));
            (settings, profiles)
        }
        Err(problem) => {
            checks.push(Check::failed("settings", "profiles", &problem));
            (settings, Vec::new())
        }
    }
}

/// The engine as a supervisor would take it. Nothing is connected yet.
fn connect(places: &Places, settings: &Settings) -> Result<DockerEngine, Problem> {
    // An installation that has not begun yet does not begin here.
    let install = if places.install_file().exists() { places.install_id()? } else { "doctor".to_owned() };
    let owner = Owner { pid: std::process::id(), started: 0 };
    DockerEngine::connect(supervisor::docker_settings(places, settings, install, owner))
}
