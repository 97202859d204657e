//! Profiles: the shipped ones, compiled in, and the user's own, which come first.

mod build;
mod cage;
mod environment;
mod refused;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use brig_core::problem::{Code, Problem};
use brig_core::profile::{Approval, ApprovalMode, PoolPolicy, Profile};

use super::Places;
use super::read::{Section, Source};
use super::settings::{NAME_FORM, Settings, is_name};
use brig_core::nearest;

/// The profiles that come with brig.
pub const SHIPPED: [(&str, &str); 3] = [
    ("shell", include_str!("../../profiles/shell.toml")),
    ("node", include_str!("../../profiles/node.toml")),
    ("python", include_str!("../../profiles/python.toml")),
];

/// Keys of a profile, in the order in which a message lists them.
const KEYS: [&str; 21] = [
    "description",
    "image",
    "build",
    "image_fallback",
    "user",
    "working_dir",
    "environment",
    "volumes",
    "mem_limit",
    "cpus",
    "cpu_shares",
    "pids_limit",
    "ulimits",
    "network_mode",
    "runtime",
    "timeout",
    "scratch",
    "interpreter",
    "output",
    "pool",
    "approval",
];

/// Sandboxes of one profile at once, at most.
const POOL_LIMIT: u64 = brig_core::pool::POOL_LIMIT as u64;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;
const MIB: u64 = 1 << 20;

/// What a profile's file is read against.
pub struct Base<'a> {
    /// Where relative paths begin: the directory of the file. A shipped profile has none.
    pub directory: Option<&'a Path>,
    /// What `~/` is.
    pub home: Option<&'a Path>,
    /// Directories and files that no sandbox may see.
    pub kept_out: &'a [PathBuf],
}

impl Base<'_> {
    /// For profiles that are in no directory: every path in them is absolute.
    pub const NOWHERE: Self = Self { directory: None, home: None, kept_out: &[] };
}

/// Every profile there is, by name: the shipped ones, each replaced as a whole by the user's own file of its name.
///
/// # Errors
/// `config` for what is written in a file, or when the default profile is none of them; `local_io` when a file cannot be
/// read.
pub fn load(places: &Places, settings: &Settings) -> Result<Vec<Profile>, Problem> {
    let mut profiles = BTreeMap::new();
    for (name, text) in SHIPPED {
        profiles
            .insert(name.to_owned(), parse(name, &format!("profiles/{name}.toml (shipped)"), text, &Base::NOWHERE)?);
    }
    let directory = absolute(&places.profiles_dir())?;
    let (home, kept_out) = (places.home(), places.own_secrets());
    let base = Base { directory: Some(&directory), home, kept_out: &kept_out };
    for path in files(&places.profiles_dir())? {
        let name = name_of(&path)?;
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        profiles.insert(name.clone(), parse(&name, &path.display().to_string(), &text, &base)?);
    }
    if !profiles.contains_key(&settings.default_profile) {
        let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
        let place = settings.default_profile_at.as_deref().unwrap_or("brig.toml");
        let name = &settings.default_profile;
        let hint = nearest::hint(name, &known);
        return Err(Problem::new(
            Code::Config,
            format!("{place}: `default_profile`: there is no profile \"{name}\"{hint}"),
        )
        .help(format!(
            "there are: {}; add {}",
            known.join(", "),
            places.profiles_dir().join(format!("{name}.toml")).display()
        )));
    }
    Ok(profiles.into_values().collect())
}

/// Reads one profile from the text of a file that people know as `file`. Paths in it begin in `directory`; what brig ships
/// is in none.
///
/// # Errors
/// `config`, with file, line and column.
pub fn parse(name: &str, file: &str, text: &str, base: &Base<'_>) -> Result<Profile, Problem> {
    let document = Source { name: file, text }.parse()?;
    let root = document.root();
    root.only(&KEYS, &refused::REFUSED)?;
    Ok(Profile {
        name: name.to_owned(),
        description: description(&root)?,
        cage: cage::read(&root, name, base)?,
        timeout_ms: match root.item("timeout") {
            Some(item) => item.duration(1..=DAY)?,
            None => MINUTE,
        },
        output_limit: match only_keys(&root, "output", &["limit"])?.and_then(|output| output.item("limit")) {
            Some(item) => item.size(1..=1024 * MIB)?,
            None => 8 * MIB,
        },
        pool: pool(&root)?,
        approval: approval(&root)?,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    std::path::absolute(path).map_err(|error| unreadable(path, &error))
}

fn description(root: &Section<'_>) -> Result<String, Problem> {
    let Some(item) = root.item("description") else { return Ok(String::new()) };
    let text = item.text()?;
    if text.chars().count() > 200 || text.contains(char::is_control) {
        return Err(item.problem(
            "it is no single line of at most 200 characters",
            "write one short line; the rest can be a # comment",
        ));
    }
    Ok(text.to_owned())
}

fn pool(root: &Section<'_>) -> Result<PoolPolicy, Problem> {
    let mut policy = PoolPolicy { min: 0, target: 0, max: 8, max_age_ms: 30 * MINUTE };
    let Some(section) = only_keys(root, "pool", &["min", "target", "max", "max_age"])? else { return Ok(policy) };
    let number = |key| section.item(key).map(|item| item.number(0..=POOL_LIMIT)).transpose();
    // The one that is not there is as the other: without a target the minimum is what waits at rest.
    let (min, target) = (number("min")?, number("target")?);
    let target = target.or(min).unwrap_or(0);
    let min = min.unwrap_or(target);
    if min > target
        && let Some(item) = section.item("min")
    {
        return Err(item.problem(
            &format!("{min} is more than `pool.target`, which is {target}"),
            format!("write a whole number from 0 to {target}, or a larger target"),
        ));
    }
    let max = match section.item("max") {
        None => (4 * target).clamp(8, POOL_LIMIT),
        Some(item) => {
            let max = item.number(1..=POOL_LIMIT)?;
            if max < target {
                return Err(item.problem(
                    &format!("{max} is less than `pool.target`, which is {target}"),
                    format!("write a whole number from {target} to {POOL_LIMIT}, or a smaller target"),
                ));
            }
            max
        }
    };
    policy.min = u32::try_from(min).unwrap_or(0);
    policy.target = u32::try_from(target).unwrap_or(0);
    policy.max = u32::try_from(max).unwrap_or(8);
    if let Some(item) = section.item("max_age") {
        policy.max_age_ms = item.duration(SECOND..=7 * DAY)?;
    }
    Ok(policy)
}

fn approval(root: &Section<'_>) -> Result<Approval, Problem> {
    let mut approval = Approval { mode: ApprovalMode::Ask, expires_ms: 15 * MINUTE };
    let Some(section) = only_keys(root, "approval", &["mode", "expires"])? else { return Ok(approval) };
    if let Some(item) = section.item("mode") {
        approval.mode = item.word(&[("ask", ApprovalMode::Ask), ("auto", ApprovalMode::Auto)])?;
    }
    if let Some(item) = section.item("expires") {
        approval.expires_ms = item.duration(SECOND..=7 * DAY)?;
    }
    Ok(approval)
}

/// A table that has these keys and no others.
fn only_keys<'a>(root: &Section<'a>, table: &str, keys: &[&str]) -> Result<Option<Section<'a>>, Problem> {
    let section = root.section(table)?;
    if let Some(section) = &section {
        section.only(keys, &[])?;
    }
    Ok(section)
}

/// The directory's `*.toml`, in order. Without the directory there are none; editors' hidden files are passed over.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> Result<String, Problem> {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if is_name(stem) => Ok(stem.to_owned()),
        _ => Err(Problem::new(Code::Config, format!("{}: the file's name cannot be a profile's name", path.display()))
            .help(format!("{NAME_FORM}; rename the file, as in python.toml"))),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(Code::LocalIo, format!("cannot read {}: {error}", path.display()))
        .help("make it readable for the user that runs the supervisor")
}

#[cfg(test)]
mod tests;
