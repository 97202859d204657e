//! The part of a profile that makes the sandbox.

use std::collections::BTreeMap;

use brig_core::problem::Problem;
use brig_core::profile::{Build, Cage, Interpreter, Network, PREWARMED, Ulimit};

use super::{Base, MIB, build, environment, volumes};
use crate::config::read::{Item, Section};
use crate::config::settings::{NAME_FORM, is_name};
use crate::config::units;

/// Docker refuses less.
const LEAST_MEMORY: u64 = 6 * MIB;
/// 16 TiB: more is a slip.
const MOST_MEMORY: u64 = 16 << 40;
/// Init, and one program that starts nothing.
const LEAST_PIDS: u64 = 2;
/// Threads of gVisor's own count too; with fewer it fails in the middle of a run.
const LEAST_PIDS_GVISOR: u64 = 256;
/// The kernel's own limit (`PID_MAX_LIMIT`).
const MOST_PIDS: u64 = 4_194_304;
/// Directories that hold what every program needs, or that are not files at all.
pub(super) const TAKEN: [&str; 10] =
    ["/", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/usr", "/usr/bin", "/usr/lib"];
/// Trees in which nothing else can be mounted: the kernel's, brig's own, and `/tmp`, which is part of the scratch.
pub(super) const TAKEN_TREES: [&str; 5] = ["/proc", "/sys", "/dev", "/.brig", "/tmp"];

/// Limits of a process that a profile can set, as getrlimit(2) and Docker name them.
const ULIMITS: [&str; 14] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads it. The profile's name is part of that of an image that is built.
pub(super) fn read(root: &Section<'_>, profile: &str, base: &Base<'_>) -> Result<Cage, Problem> {
    let memory = match root.item("mem_limit") {
        Some(item) => item.size(LEAST_MEMORY..=MOST_MEMORY)?,
        None => 128 * MIB,
    };
    let runtime = root.item("runtime").map(|item| runtime(&item)).transpose()?;
    let (scratch_size, scratch_exec) = scratch(root, memory)?;
    let build = build::read(root, base)?;
    let working_dir = root.item("working_dir").map_or_else(|| Ok("/sandbox".to_owned()), |item| working_dir(&item))?;
    let environment = environment::read(root, base)?;
    Ok(Cage {
        image: image(root, profile, build.as_ref())?,
        build,
        userland_fallback: match root.item("image_fallback") {
            Some(item) => item.word(&[("none", false), ("userland", true)])?,
            None => false,
        },
        user: root.item("user").map_or_else(|| Ok("65534:65534".to_owned()), |item| user(&item))?,
        volumes: volumes::read(root, &working_dir, base)?,
        working_dir,
        environment: environment.variables,
        secrets: environment.secrets,
        interpreters: interpreters(root)?,
        memory,
        milli_cpus: root.item("cpus").map_or(Ok(1000), |item| cpus(&item))?,
        cpu_shares: match root.item("cpu_shares") {
            // The kernel's own bounds for `cpu.shares`.
            Some(item) => item.number(2..=262_144)?,
            None => 1024,
        },
        pids: pids(root, runtime.as_deref())?,
        ulimits: ulimits(root)?,
        network: network(root)?,
        runtime,
        scratch_size,
        scratch_exec,
    })
}

fn image(root: &Section<'_>, profile: &str, build: Option<&Build>) -> Result<String, Problem> {
    let example = "write an image's reference, as in image = \"busybox:1.37\"";
    let item = match (root.item("image"), build) {
        (None, None) => return Err(root.missing("image", &format!("{example}; or `build`, to build one"))),
        (None, Some(build)) => return Ok(build.reference(profile)),
        (Some(item), Some(_)) => {
            let help = "keep one of them: brig names what it builds after its content";
            return Err(item.problem("`build` is there as well", help));
        }
        (Some(item), None) => item,
    };
    let text = item.text()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/@-".contains(&b);
    if (1..=512).contains(&text.len()) && text.bytes().all(fits) && text.as_bytes()[0].is_ascii_alphanumeric() {
        return Ok(text.to_owned());
    }
    Err(item.problem(&format!("\"{text}\" is no reference of an image"), example))
}

fn user(item: &Item<'_>) -> Result<String, Problem> {
    let form = "write \"UID:GID\" in numbers, neither of them 0, as in \"65534:65534\"";
    let Ok(text) = item.text() else { return Err(item.wrong("\"UID:GID\" in quotes, as in \"65534:65534\"")) };
    let Some((uid, gid)) = text.split_once(':') else {
        let what = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            format!("\"{text}\" has no group, which would be 0")
        } else {
            format!("\"{text}\" is no user in numbers, and names mean something else in each image")
        };
        return Err(item.problem(&what, form));
    };
    for (what, text) in [("user", uid), ("group", gid)] {
        // 2^32 - 1 means "no change" to chown(2) and setuid(2).
        match text.parse::<u32>() {
            Ok(0) => {
                let why = format!("{what} 0 is root, and what runs in a sandbox never is");
                return Err(item.problem(&why, form));
            }
            Ok(number) if number < u32::MAX && number.to_string() == text => {}
            _ => return Err(item.problem(&format!("\"{text}\" is no {what} in numbers"), form)),
        }
    }
    Ok(text.to_owned())
}

fn working_dir(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.text()?;
    let help = "write the whole path of a directory that programs do not need, as in \"/sandbox\"";
    if text.len() > 255 || text.contains(char::is_control) {
        return Err(item.problem("it is no path of at most 255 characters", help));
    }
    if TAKEN.contains(&text) || TAKEN_TREES.iter().any(|tree| within(text, tree)) {
        return Err(item.problem(&format!("the scratch would cover \"{text}\""), help));
    }
    if !is_plain_path(text) {
        return Err(item.problem(&format!("\"{text}\" is no absolute path without \"..\" and needless slashes"), help));
    }
    Ok(text.to_owned())
}

/// Whether it is absolute and has no `.`, `..`, needless slashes or control characters.
pub(super) fn is_plain_path(text: &str) -> bool {
    let parts = text.strip_prefix('/').map(|rest| rest.split('/'));
    let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
    text.len() <= 255 && parts.is_some_and(|mut parts| !parts.any(odd))
}

/// Whether `path` is `tree` or in it.
pub(super) fn within(path: &str, tree: &str) -> bool {
    path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn cpus(item: &Item<'_>) -> Result<u64, Problem> {
    let help = "write CPUs from 0.01 to 1024, as in 0.5, or 0 for no quota";
    let milli = item.scalar().and_then(units::milli_cpus);
    match milli {
        None => Err(item.problem("this is no number of CPUs", help)),
        Some(milli) if milli == 0 || (10..=1_024_000).contains(&milli) => Ok(milli),
        Some(_) => Err(item.problem(&format!("{} is out of range", item.scalar().unwrap_or_default()), help)),
    }
}

fn pids(root: &Section<'_>, runtime: Option<&str>) -> Result<u64, Problem> {
    let gvisor = runtime.is_some_and(|runtime| runtime.starts_with("runsc"));
    let Some(item) = root.item("pids_limit") else {
        return Ok(if gvisor { 512 } else { 64 });
    };
    let pids = item.number(LEAST_PIDS..=MOST_PIDS)?;
    if gvisor && pids < LEAST_PIDS_GVISOR {
        return Err(item.problem(
            &format!("{pids} is too few for the runtime, whose own threads count too"),
            format!("write at least {LEAST_PIDS_GVISOR}"),
        ));
    }
    Ok(pids)
}

fn ulimits(root: &Section<'_>) -> Result<BTreeMap<String, Ulimit>, Problem> {
    let mut limits = BTreeMap::from([
        ("core".to_owned(), Ulimit { soft: 0, hard: 0 }),
        ("nofile".to_owned(), Ulimit { soft: 1024, hard: 1024 }),
    ]);
    let Some(section) = root.section("ulimits")? else { return Ok(limits) };
    let nproc = "it counts every process of that user on the machine, in other sandboxes too: use pids_limit";
    section.only(&ULIMITS, &[("nproc", nproc)])?;
    for (name, item) in section.items() {
        let limit = if item.is_table() {
            let both = item.table()?;
            both.only(&["soft", "hard"], &[])?;
            let one = |key: &str| match both.item(key) {
                Some(item) => ulimit(&item),
                None => Err(item.problem(&format!("`{key}` is missing"), "write { soft = 1024, hard = 1024 }")),
            };
            Ulimit { soft: one("soft")?, hard: one("hard")? }
        } else {
            let both = ulimit(&item)?;
            Ulimit { soft: both, hard: both }
        };
        if limit.soft > limit.hard {
            return Err(item.problem(
                &format!("soft {} is over hard {}", limit.soft, limit.hard),
                "write a soft limit that is at most the hard one",
            ));
        }
        limits.insert(name.to_owned(), limit);
    }
    Ok(limits)
}

/// A limit that is none (`-1`) is not taken: without the key, the daemon's own limit stays.
fn ulimit(item: &Item<'_>) -> Result<u64, Problem> {
    item.number(0..=i64::MAX.unsigned_abs())
}

fn interpreters(root: &Section<'_>) -> Result<BTreeMap<String, Interpreter>, Problem> {
    let mut all = BTreeMap::new();
    let Some(section) = root.section("interpreter")? else { return Ok(all) };
    for (language, item) in section.items() {
        if !is_name(language) {
            return Err(item.problem(&format!("\"{language}\" is no name of a language"), NAME_FORM));
        }
        let table = item.table()?;
        table.only(&["command", "prewarm"], &[])?;
        let prewarm = match table.item("prewarm") {
            Some(item) => {
                let prewarm = item.flag()?;
                if prewarm && !PREWARMED.contains(&language) {
                    return Err(item.problem(
                        &format!("brig cannot start an interpreter of {language} before its code is there"),
                        format!("leave it out, or write false: it can do that for {}", PREWARMED.join(" and ")),
                    ));
                }
                prewarm
            }
            None => false,
        };
        let Some(command) = table.item("command") else {
            return Err(item.problem("`command` is missing", COMMAND_FORM));
        };
        all.insert(language.to_owned(), Interpreter { command: words(&command)?, prewarm });
    }
    Ok(all)
}

const COMMAND_FORM: &str = "write the program and its arguments as a list, as in command = [\"python3\", \"-I\"]; the code's file follows them";

fn words(item: &Item<'_>) -> Result<Vec<String>, Problem> {
    let Some(list) = item.list() else { return Err(item.problem("this is no list", COMMAND_FORM)) };
    let words = list.iter().map(|word| Ok(word.text()?.to_owned())).collect::<Result<Vec<_>, Problem>>()?;
    match words.first() {
        None => Err(item.problem("it is empty", COMMAND_FORM)),
        Some(program) if program.is_empty() => Err(item.problem("it names no program", COMMAND_FORM)),
        _ if words.len() > 64 || words.iter().any(|word| word.len() > 4096 || word.contains('\0')) => {
            Err(item.problem("it has more than 64 words, or one that is too long or has a NUL", COMMAND_FORM))
        }
        Some(_) => Ok(words),
    }
}

fn network(root: &Section<'_>) -> Result<Network, Problem> {
    let Some(item) = root.item("network_mode") else { return Ok(Network::None) };
    match item.text()? {
        "none" => Ok(Network::None),
        other => Err(item.problem(
            &format!("\"{other}\" is not there: sandboxes reach no network today"),
            "allowed: \"none\"; others are planned",
        )),
    }
}

fn runtime(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.text()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(item.problem(
        &format!("\"{text}\" is no name of a runtime"),
        "write a name that `docker info` lists, as in \"runsc\"",
    ))
}

fn scratch(root: &Section<'_>, memory: u64) -> Result<(u64, bool), Problem> {
    let mut size = (64 * MIB).min(memory / 2);
    let mut exec = true;
    let Some(section) = super::only_keys(root, "scratch", &["size", "exec"])? else { return Ok((size, exec)) };
    if let Some(item) = section.item("size") {
        size = item.size(64 << 10..=MOST_MEMORY)?;
        // A scratch that is full should say "no space left"; one that is larger than the memory kills the run instead.
        if size > memory {
            return Err(item.problem(
                &format!("{} is over `mem_limit`, and what is in the scratch counts as memory", units::size_text(size)),
                format!("write at most {}, or a larger mem_limit", units::size_text(memory)),
            ));
        }
    }
    if let Some(item) = section.item("exec") {
        exec = item.flag()?;
    }
    Ok((size, exec))
}
