//! `build`: what a profile's image is built from, in the spelling of Compose files.

use std::collections::BTreeMap;
use std::path::Path;

use brig_core::problem::{Code, Problem};
use brig_core::profile::{Build, Context};

use super::Base;
use super::environment::{check_name, checked};
use crate::config::read::{Item, Refusal, Section};
use crate::context;

const KEYS: [&str; 4] = ["context", "dockerfile", "args", "target"];
const IN_FILE: &str = "write it into the Dockerfile. Leave the key out";
const ELSEWHERE: &str = "brig builds with what every daemon has, for its own processor. Leave the key out";
const REFUSED: [Refusal; 14] = [
    ("dockerfile_inline", "write a Dockerfile beside the profile, and name its directory as the context"),
    ("labels", IN_FILE),
    ("entitlements", ELSEWHERE),
    ("privileged", ELSEWHERE),
    ("network", ELSEWHERE),
    ("ssh", ELSEWHERE),
    ("secrets", ELSEWHERE),
    ("platforms", ELSEWHERE),
    ("cache_from", ELSEWHERE),
    ("cache_to", ELSEWHERE),
    ("additional_contexts", ELSEWHERE),
    ("no_cache", "write `brig image build --no-cache` when it is wanted"),
    ("pull", "write `brig image build --pull` when it is wanted"),
    ("tags", "brig names what it builds after its content. Leave the key out"),
];

/// Reads the key.
pub(super) fn read(root: &Section<'_>, base: &Base<'_>) -> Result<Option<Build>, Problem> {
    let directory = base.directory;
    let Some(item) = root.item("build") else { return Ok(None) };
    let example =
        "write a directory, as in \".\", or a table, as in { context = \".\", args = { BASE = \"alpine:3\" } }";
    let (context, place, dockerfile, args, target) = if item.is_table() {
        let table = item.table()?;
        table.only(&KEYS, &REFUSED)?;
        let Some(place) = table.item("context") else { return Err(item.problem("`context` is missing", example)) };
        (
            find(&place, directory)?,
            place,
            table.item("dockerfile").map_or_else(|| Ok("Dockerfile".to_owned()), |item| dockerfile(&item))?,
            table.item("args").map_or_else(|| Ok(BTreeMap::new()), |item| args(&item))?,
            table.item("target").map(|item| target(&item)).transpose()?,
        )
    } else if item.text().is_ok() {
        (find(&item, directory)?, item.clone(), "Dockerfile".to_owned(), BTreeMap::new(), None)
    } else {
        return Err(item.wrong("a directory or a table, as in \".\" or { context = \".\" }"));
    };
    let content = context::read(&context, &dockerfile)
        .map_err(|problem| Problem { code: Code::Config, ..place.problem(&problem.message, problem.help) })?
        .content;
    Ok(Some(Build { context, dockerfile, args, target, content }))
}

/// The directory beside the profile's file, or what brig ships under that name where there is none.
fn find(item: &Item<'_>, directory: Option<&Path>) -> Result<Context, Problem> {
    let text = item.text()?;
    if text.contains("://") || text.starts_with("git@") {
        return Err(item.problem(
            &format!("\"{text}\" is no directory, and brig fetches nothing to build from"),
            "clone it beside the profile, and write the directory's path",
        ));
    }
    let name = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    let shipped = context::SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    let found = directory.map(|directory| directory.join(text));
    if let Some(Ok(path)) = found.as_ref().map(|path| path.canonicalize())
        && path.is_dir()
    {
        let Some(path) = path.to_str() else { return Err(item.problem("its path is no UTF-8", "rename it")) };
        return Ok(Context::Directory(path.to_owned()));
    }
    if let Some((name, _)) = shipped {
        return Ok(Context::Shipped((*name).to_owned()));
    }
    let shown = found.map_or_else(|| text.to_owned(), |path| path.display().to_string());
    Err(item.problem(
        &format!("there is no directory {shown}"),
        "write the path of a directory with a Dockerfile; a relative one begins where the profile's file is",
    ))
}

fn dockerfile(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.text()?;
    let name = text.strip_prefix("./").unwrap_or(text);
    if name.is_empty() || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(item.problem(
            &format!("\"{text}\" is no file in the context"),
            "write its path below the context, as in \"Dockerfile\"",
        ));
    }
    Ok(name.to_owned())
}

fn args(item: &Item<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let form = "a table or a list, as in { BASE = \"alpine:3\" } or [\"BASE=alpine:3\"]";
    let mut all = BTreeMap::new();
    if let Some(list) = item.list() {
        for item in list {
            let Some((name, value)) = item.text()?.split_once('=') else { return Err(item.wrong(form)) };
            check_name(&item, name)?;
            all.insert(name.to_owned(), checked(&item, value)?);
        }
    } else if item.is_table() {
        for (name, item) in item.table()?.items() {
            check_name(&item, name)?;
            all.insert(name.to_owned(), checked(&item, item.scalar().ok_or_else(|| item.wrong("a text in quotes"))?)?);
        }
    } else {
        return Err(item.wrong(form));
    }
    Ok(all)
}

fn target(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.text()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=128).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(item.problem(&format!("\"{text}\" is no name of a stage"), "write what follows AS in one of its FROM lines"))
}
