//! Zombies, and the end of everything.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::fatal::Fatal;
use crate::station::Station;
use crate::sys::{self, Pid, Reaped, Status};

/// How long everything may take to die. A fork bomb under a CPU quota of a tenth of a core was measured at 2.6 s.
const KILL_LIMIT: Duration = Duration::from_secs(60);
/// How long processes that are not ours to reap (entered from outside) may take to vanish.
const STRANGERS_LIMIT: Duration = Duration::from_secs(1);
/// How long to wait for the next death before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How many zombies are reaped before the caller may look at its clock and its owner.
const AT_ONCE: usize = 256;

/// All children of init, own and adopted, and the one whose end matters.
pub struct Children {
    main: Option<Pid>,
    main_status: Option<Status>,
}

/// Who is left after reaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Nobody,
    Somebody,
    /// There may be more to reap right now.
    More,
}

impl Children {
    /// Nobody's end matters.
    pub fn none() -> Children {
        Children {
            main: None,
            main_status: None,
        }
    }

    /// The end of this one matters.
    pub fn watching(main: Pid) -> Children {
        Children {
            main: Some(main),
            main_status: None,
        }
    }

    /// How the watched one ended, if it has.
    pub fn main_status(&self) -> Option<Status> {
        self.main_status
    }

    /// Takes away what is dead.
    pub fn reap(&mut self) -> Left {
        for _ in 0..AT_ONCE {
            match sys::reap_one() {
                Ok(Reaped::Child(pid, status)) if self.main == Some(pid) => {
                    self.main_status = Some(status)
                }
                Ok(Reaped::Child(..)) => {}
                Ok(Reaped::NotYet) => return Left::Somebody,
                Ok(Reaped::Nobody) => return Left::Nobody,
                Err(_) => return Left::More,
            }
        }
        Left::More
    }
}

/// Kills and reaps until nobody is left.
///
/// # Errors
/// [`Fatal::Unkillable`] when that takes too long: somebody is still there, perhaps stuck in the kernel.
pub fn everything(station: &Station, children: &mut Children) -> Result<(), Fatal> {
    let begun = Instant::now();
    let mut alone_since = None;
    loop {
        let somebody_killed = if std::process::id() == 1 {
            sys::kill_namespace()
        } else {
            kill_descendants()
        };
        match children.reap() {
            Left::Nobody if !somebody_killed => return Ok(()),
            // Everybody of ours is gone, and yet there was somebody: perhaps the one that was just reaped.
            Left::Nobody => {
                let since: Instant = *alone_since.get_or_insert_with(Instant::now);
                if since.elapsed() > STRANGERS_LIMIT {
                    return Ok(());
                }
                if since.elapsed() > LOOK_AGAIN {
                    station.wait_for_children(LOOK_AGAIN);
                }
            }
            Left::Somebody => station.wait_for_children(LOOK_AGAIN),
            Left::More => {}
        }
        if begun.elapsed() > KILL_LIMIT {
            return Err(Fatal::Unkillable);
        }
    }
}

/// What an ordinary process does in the place of killing a whole PID namespace: it kills whom it has made, directly or
/// not, as `/proc` shows it. As it is a subreaper, nobody can leave that tree. False when there was nobody.
fn kill_descendants() -> bool {
    let parents = parents();
    let own = std::process::id().cast_signed();
    let mut found = false;
    for (pid, parent) in &parents {
        if is_descendant(*pid, own, &parents) {
            found = true;
            // A process whose parent is still the same one is still the same process, or a sibling that deserves the
            // same; one whose parent has died meanwhile is ours now, and the next look finds it.
            sys::kill_pinned(*pid, || parent_of(*pid) == Some(*parent));
        }
    }
    found
}

fn is_descendant(pid: Pid, ancestor: Pid, parents: &HashMap<Pid, Pid>) -> bool {
    let mut current = pid;
    // The look at /proc is not one moment, so that there might be a circle in it.
    for _ in 0..parents.len() {
        match parents.get(&current) {
            Some(parent) if *parent == ancestor => return true,
            Some(parent) => current = *parent,
            None => return false,
        }
    }
    false
}

fn parents() -> HashMap<Pid, Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent_of(pid)?))
        })
        .collect()
}

/// The parent of a process, from `/proc/<pid>/stat`: the second field after the name, which is in parentheses and may
/// have any bytes in it.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    str::from_utf8(&stat[after_name..])
        .ok()?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
