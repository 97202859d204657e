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
        Children { main: None, main_status: None }
    }

    /// The end of this one matters.
    pub fn watching(main: Pid) -> Children {
        Children { main: Some(main), main_status: None }
    }

    /// How the watched one ended, if it has.
    pub fn main_status(&self) -> Option<Status> {
        self.main_status
    }

    /// Takes away what is dead.
    pub fn reap(&mut self) -> Left {
        for _ in 0..AT_ONCE {
            match sys::reap_one() {
                Ok(Reaped::Child(pid, status)) if self.main == Some(pid) => self.main_status = Some(status),
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
    let is_pid_1 = std::process::id() == 1;
    let mut alone_since = None;
    loop {
        // A subreaper without children has no descendants, so that it need not look at /proc. PID 1 may have strangers
        // in its namespace, entered from outside.
        if !is_pid_1 && children.reap() == Left::Nobody {
            return Ok(());
        }
        let somebody_killed = if is_pid_1 { sys::kill_namespace() } else { kill_descendants() };
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
///
/// Parents come before their children: a shell whose command was killed first would go on to its next one.
fn kill_descendants() -> bool {
    let parents = parents();
    let own = std::process::id().cast_signed();
    let mut descendants: Vec<(usize, Pid, Pid)> =
        parents.iter().filter_map(|(pid, parent)| Some((generation(*pid, own, &parents)?, *pid, *parent))).collect();
    descendants.sort_unstable();
    for (_, pid, parent) in &descendants {
        // Between the look at /proc and now the process may have gone and its id may belong to a stranger. One whose
        // parent is still the same, or by now is this process, is of ours.
        sys::kill_pinned(*pid, || parent_of(*pid).is_some_and(|now| now == *parent || now == own));
    }
    !descendants.is_empty()
}

/// How many generations below the ancestor a process is: 1 for its children, nothing for strangers.
fn generation(pid: Pid, ancestor: Pid, parents: &HashMap<Pid, Pid>) -> Option<usize> {
    let mut current = pid;
    // The look at /proc is not one moment, so that there might be a circle in it.
    for generation in 1..=parents.len() {
        match parents.get(&current) {
            Some(parent) if *parent == ancestor => return Some(generation),
            Some(parent) => current = *parent,
            None => return None,
        }
    }
    None
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
    str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}
