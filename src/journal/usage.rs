//! What the journal takes, and what of the disk is left.

use std::path::Path;

use brig_core::problem::{Code, Problem};
use brig_core::retention::{Retention, Usage};
use rusqlite::Connection;

use super::kept::Kept;
use super::problems::Trouble;
use super::prune;
use super::writer::Head;
use crate::config::units::size_text;

/// Looks at what is kept. The second is why nothing new may begin, where that is so once all has been removed that can
/// be.
pub(super) fn look(
    connection: &Connection,
    path: &Path,
    head: &Head,
    kept: &Kept,
    retention: &Retention,
) -> Result<(Usage, Option<Problem>), Trouble> {
    let (journal_bytes, output_bytes) = (kept.entries(head), kept.output());
    let mut usage = Usage {
        journal_bytes,
        journal_limit: retention.journal_bytes,
        output_bytes,
        output_limit: retention.output_bytes,
        file_bytes: file_bytes(path),
        free_bytes: free_bytes(path),
        keep_free: retention.keep_free,
        warning: None,
    };
    let held = held_entries(connection, head, kept)?;
    usage.warning = warning(&usage, held, kept.live());
    let full = full(&usage, path);
    Ok((usage, full))
}

/// What the entries take that cannot be removed, as they come after the beginning of a proposal that is not over.
fn held_entries(connection: &Connection, head: &Head, kept: &Kept) -> Result<u64, Trouble> {
    let Some(first) = prune::oldest_open(connection)? else { return Ok(0) };
    let sql = "SELECT total FROM entries WHERE number < ?1 ORDER BY number DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([super::entry::signed(first)])?;
    let before = rows.next()?.map_or(Ok(kept.before), |row| super::entry::unsigned(row, 0))?;
    Ok(head.total.saturating_sub(before))
}

fn full(usage: &Usage, path: &Path) -> Option<Problem> {
    let problem = |message: String, help: &str| Some(Problem::new(Code::JournalFailed, message).help(help));
    if let Some(free) = usage.free_bytes.filter(|free| *free < usage.keep_free) {
        let (place, keep) = (path.parent().unwrap_or(path).display(), size_text(usage.keep_free));
        return problem(
            format!("the disk of {place} has {} left, and {keep} have to stay free", rough(free)),
            "make room on it, or set [retention] keep_free in brig.toml; it goes on by itself",
        );
    }
    for (what, have, most, key, help) in [
        ("entries take", usage.journal_bytes, usage.journal_limit, "journal_size", "decide or end the oldest of them"),
        ("output takes", usage.output_bytes, usage.output_limit, "output_size", "wait for them or end them"),
    ] {
        if have > most {
            return problem(
                format!(
                    "the journal's {what} {} of at most {}, and none can be removed for what is not over yet",
                    rough(have),
                    size_text(most)
                ),
                &format!("{help}, or raise [retention] {key} in brig.toml; it goes on by itself"),
            );
        }
    }
    None
}

/// Only what pruning cannot help with: a journal that is kept at its limit is one that does what it shall.
fn warning(usage: &Usage, held: u64, live: u64) -> Option<String> {
    let near = |have: u64, most: u64| have > most / 4 * 3;
    if let Some(free) = usage.free_bytes.filter(|free| *free < usage.keep_free.saturating_mul(2)) {
        return Some(format!("the journal's disk has {} left, and stops at {}", rough(free), rough(usage.keep_free)));
    }
    if near(held, usage.journal_limit) {
        return Some(format!(
            "entries since the oldest open proposal take {} of {}",
            rough(held),
            rough(usage.journal_limit)
        ));
    }
    near(live, usage.output_limit)
        .then(|| format!("output of what runs takes {} of {}", rough(live), rough(usage.output_limit)))
}

/// The journal's files. One that is not there takes nothing.
pub(super) fn file_bytes(path: &Path) -> u64 {
    let size = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        std::fs::metadata(name).map_or(0, |facts| facts.len())
    };
    size("") + size("-wal")
}

/// What the file system has left for this user.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Bytes for people, in whole units.
fn rough(bytes: u64) -> String {
    for (unit, size) in [("g", 1_u64 << 30), ("m", 1 << 20), ("k", 1 << 10)] {
        if bytes >= 10 * size {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}b")
}
