//! Processes and users, told apart and named.

use std::fs;

use brig_core::problem::{Code, Problem};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::engine::Owner;

/// This process.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn me() -> Result<Owner, Problem> {
    let pid = std::process::id();
    let started = started(pid).ok_or_else(|| {
        Problem::new(Code::LocalIo, format!("cannot read /proc/{pid}/stat")).help("brig needs Linux with /proc mounted")
    })?;
    Ok(Owner { pid, started })
}

/// Whether a process is still there, and not another one that got its number.
pub fn is_alive(owner: Owner) -> bool {
    started(owner.pid) == Some(owner.started)
}

/// Field 22 of `/proc/PID/stat`. The name before it is in parentheses and may have anything in it, these too.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 2;
    let fields = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    // The state, field 3, is the first one here.
    fields.split(' ').nth(22 - 3)?.parse().ok()
}

/// Names the host and its space of process identifiers: two machines, or two containers on one, are different here.
pub fn host() -> String {
    let machine = fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default();
    let machine = if machine.is_empty() { hostname() } else { machine };
    let space = fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    let digits: String = space.chars().filter(char::is_ascii_digit).collect();
    format!("{machine}-{digits}")
}

/// The machine's name, for people.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The user of this process.
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// How many files this process may have open: as many as it can be allowed without asking anybody, up to 65,536.
pub fn open_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(1 << 16);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    usize::try_from(limit.current.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
}

/// A user's name, from the local user database; `uid 1000` where it has none.
pub fn user_name(uid: u32) -> String {
    let wanted = uid.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        (uid == wanted).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let me = me().unwrap();
        assert!(is_alive(me));
        assert!(!is_alive(Owner { started: me.started + 1, ..me }));
        assert!(!is_alive(Owner { pid: u32::MAX, ..me }));
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "uid 4000000000");
    }
}
