//! `brig man`: the manual pages, made from what `--help` says.

use std::path::{Path, PathBuf};

use brig_core::problem::{Code, Problem};
use clap::Command;
use clap_mangen::Man;
use schemars::JsonSchema;
use serde::Serialize;

use super::exit::{Exit, Stop};
use super::output::{json, say};

/// Arguments of `brig man`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig man | man -l -                         read it\n",
    "  brig man \"$DESTDIR/usr/share/man/man1\"      install all pages: brig.1, brig-run.1, and so on\n",
))]
pub struct Args {
    /// Write the pages of brig and of all its commands into this directory; without it, brig's own is printed
    directory: Option<PathBuf>,
}

/// What `man --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Manual {
    /// The pages.
    pages: Vec<Page>,
}

/// A manual page.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page {
    /// Its file's name, as in `brig-run.1`.
    name: String,
    /// Where it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The page itself, where it was not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Writes or prints manual pages.
///
/// # Errors
/// `local_io` when a page cannot be written.
pub fn man(as_json: bool, args: &Args, command: Command) -> Result<Exit, Stop> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(directory) = &args.directory else {
        let page = String::from_utf8_lossy(&page(&command)?).into_owned();
        if as_json {
            json(&Manual { pages: vec![Page { name: "brig.1".to_owned(), file: None, text: Some(page) }] })?;
        } else {
            say(&page)?;
        }
        return Ok(Exit::Done);
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    let mut written = Vec::new();
    for (name, page) in pages(&command)? {
        let path = directory.join(&name);
        std::fs::write(&path, page).map_err(|error| failed(&path, &error))?;
        written.push(Page { name, file: Some(path.display().to_string()), text: None });
    }
    if as_json {
        json(&Manual { pages: written })?;
    } else {
        let files: Vec<String> = written.into_iter().filter_map(|page| page.file).collect();
        say(&files.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// All pages with the names of their files, commands of commands too.
fn pages(command: &Command) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    let mut pages = vec![(Man::new(command.clone()).get_filename(), page(command)?)];
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages.extend(self::pages(inner)?);
    }
    Ok(pages)
}

fn page(command: &Command) -> Result<Vec<u8>, Stop> {
    let mut page = Vec::new();
    Man::new(command.clone()).manual("brig").render(&mut page)?;
    Ok(page)
}

fn failed(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(Code::LocalIo, format!("cannot write {}: {error}", path.display()))
        .help("name a directory that this user may write to")
}
