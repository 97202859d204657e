//! `volumes`: what sandboxes can read of the host, in the short form of Compose files, `SOURCE:TARGET:ro`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use brig_core::problem::Problem;
use brig_core::profile::Volume;

use super::Base;
use super::cage::{TAKEN, TAKEN_TREES, is_plain_path, within};
use crate::config::read::{Item, Section};

/// In one profile.
const MOST: usize = 32;
const FORM: &str = "write \"SOURCE:TARGET:ro\", as in \"./data:/data:ro\"";
/// Directories of the host that hold sockets of daemons, devices or the kernel's own files: to read them is to reach
/// them. What is above one of them contains it.
const HOST_TREES: [&str; 7] = ["/proc", "/sys", "/dev", "/run", "/var/run", "/var/lib/docker", "/var/lib/containers"];

pub(super) fn read(root: &Section<'_>, working_dir: &str, base: &Base<'_>) -> Result<Vec<Volume>, Problem> {
    let Some(item) = root.item("volumes") else { return Ok(Vec::new()) };
    let Some(list) = item.list() else { return Err(item.wrong("a list, as in [\"./data:/data:ro\"]")) };
    if list.len() > MOST {
        return Err(item.problem(&format!("{} volumes are too many", list.len()), format!("write at most {MOST}")));
    }
    let mut volumes: Vec<Volume> = Vec::new();
    for item in list {
        let volume = one(&item, working_dir, base)?;
        if volumes.iter().any(|other| other.target == volume.target) {
            return Err(item.problem(&format!("something is mounted at {} already", volume.target), "keep one of them"));
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

fn one(item: &Item<'_>, working_dir: &str, base: &Base<'_>) -> Result<Volume, Problem> {
    if item.is_table() {
        return Err(item.problem("the long form is not read here", FORM));
    }
    let text = item.text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target) = match parts.as_slice() {
        [source, target, "ro"] => (*source, *target),
        [source, target] => return Err(writable(item, &format!("\"{text}\" would be writable"), source, target)),
        [source, target, mode] => {
            return Err(writable(item, &format!("\"{mode}\" is no mode that is taken here"), source, target));
        }
        _ => return Err(item.problem(&format!("\"{text}\" is no volume"), FORM)),
    };
    let source = source_path(item, source, base)?;
    check_target(item, target, working_dir)?;
    Ok(Volume { source, target: target.to_owned() })
}

/// Whatever is not read-only.
fn writable(item: &Item<'_>, what: &str, source: &str, target: &str) -> Problem {
    item.problem(
        what,
        format!(
            "write \"{source}:{target}:ro\": what is mounted can only be read, and the only writable place is the \
             scratch ([scratch], at working_dir and /tmp), which is gone after the run"
        ),
    )
}

/// The absolute path on the host, with every link on the way followed.
fn source_path(item: &Item<'_>, text: &str, base: &Base<'_>) -> Result<String, Problem> {
    let path = if text == "." || text == ".." || text.starts_with("./") || text.starts_with("../") {
        match base.directory {
            Some(directory) => directory.join(text),
            None => return Err(item.problem("a shipped profile has no directory of its own", "write an absolute path")),
        }
    } else if let Some(rest) = text.strip_prefix("~/") {
        match base.home {
            Some(home) => home.join(rest),
            None => return Err(item.problem("there is no home directory here (HOME)", "write an absolute path")),
        }
    } else if text.starts_with('/') {
        PathBuf::from(text)
    } else {
        return Err(item.problem(
            &format!("\"{text}\" would be a named volume, which brig does not mount"),
            "write a path that begins with ./, ../, ~/ or /, as in \"./data:/data:ro\"",
        ));
    };
    let path = tidy(&path);
    // What is not there, or is on another machine, is said by the engine when it is mounted.
    let path = path.canonicalize().unwrap_or(path);
    let Some(text) = path.to_str().filter(|text| !text.contains([':', '\0']) && !text.contains(char::is_control))
    else {
        return Err(item.problem(
            &format!("the path {} cannot be spelled in a volume", path.display()),
            "use a path of text, without a colon",
        ));
    };
    if let Some(kept) = kept_out(&path, base) {
        return Err(item.problem(
            &format!("{text} cannot be mounted: {kept}"),
            "mount the directory with the data and nothing else, as in \"./data:/data:ro\"",
        ));
    }
    Ok(text.to_owned())
}

/// Without `.` and `..`, which need no file system to be resolved here, as links are followed afterwards.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(tidy.pop()),
            other => tidy.push(other),
        }
    }
    tidy
}

/// Why a path must not be seen in a sandbox, if it must not. A socket can be connected to through a mount that is
/// read-only, so what holds sockets, or is above it, stays out.
fn kept_out(path: &Path, base: &Base<'_>) -> Option<String> {
    if path == Path::new("/") {
        return Some("it is all of the host".to_owned());
    }
    let touches = |other: &Path| path.starts_with(other) || other.starts_with(path);
    if let Some(tree) = HOST_TREES.iter().find(|tree| touches(Path::new(tree))) {
        return Some(format!("it has to do with {tree}, which holds sockets, devices or other containers"));
    }
    // By what it is as well: a bind mount is another name that no link tells of.
    let own = base.kept_out.iter().find(|own| touches(own) || holds(path, own) || holds(own, path))?;
    Some(format!("brig's own files and sockets are in {}", own.display()))
}

/// Whether one of the directories above `inner`, or itself, is `outer` by another name.
fn holds(outer: &Path, inner: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|it| (it.dev(), it.ino()));
    identity(outer).is_some_and(|outer| inner.ancestors().any(|above| identity(above) == Some(outer)))
}

fn check_target(item: &Item<'_>, target: &str, working_dir: &str) -> Result<(), Problem> {
    let help = "write the whole path of a directory that programs do not need, as in \"/data\"";
    if !is_plain_path(target) {
        return Err(
            item.problem(&format!("\"{target}\" is no absolute path without \"..\" and needless slashes"), help)
        );
    }
    if TAKEN.contains(&target) || TAKEN_TREES.iter().any(|tree| within(target, tree)) || within(working_dir, target) {
        return Err(item.problem(&format!("a mount at \"{target}\" would cover what is there"), help));
    }
    Ok(())
}
