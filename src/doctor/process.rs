//! The supervisor, if there is one, and what this process was given: a terminal, and file descriptors.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use brig_core::problem::{Code, Problem};
use rustix::process::{Resource, getrlimit};
use rustix::termios::tcgetwinsize;

use super::{Check, Status};
use crate::api::client::Client;
use crate::api::wire::{Since, Snapshot, SupervisorRow};
use crate::config::Places;

/// A supervisor that takes longer than this to answer does not move.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the console is made for.
const COLUMNS: u16 = 80;
const LINES: u16 = 24;
/// Each sandbox and each client takes some.
const FEW_FILES: u64 = 1024;

/// Looks at the supervisor. `address` is where one that starts now would look for the daemon.
pub async fn supervisor(places: &Places, address: Option<&str>, checks: &mut Vec<Check>) {
    let (area, what) = ("supervisor", "supervisor");
    let socket = places.operator_socket();
    if !socket.exists() {
        let message = "none runs; `brig` starts one, and so does `brig serve`";
        return checks.push(Check::ok(area, what, message));
    }
    let client = Client::with_token_file(&socket, &places.operator_token());
    let asked = tokio::time::timeout(PATIENCE, client.get::<Snapshot>("/v1/snapshot")).await;
    let late = || Problem::new(Code::NoSupervisor, format!("{} does not answer", socket.display()));
    let row = match asked.unwrap_or_else(|_| Err(late())) {
        Ok(snapshot) => snapshot.supervisor,
        Err(problem) if problem.code == Code::NoSupervisor => {
            let message = format!("one has left its socket {} behind, and does not answer", socket.display());
            let help = "start one (`brig serve`): it takes its place";
            return checks.push(Check::warning(area, what, message).help(help));
        }
        Err(problem) => return checks.push(Check::failed(area, what, &problem)),
    };
    checks.push(version(&row));
    for (what, trouble) in [
        ("its engine", &row.engine_problem),
        ("its journal", &row.journal_problem),
        ("its settings", &row.config_problem),
    ] {
        if let Some(Since { problem, .. }) = trouble {
            checks.push(Check::failed(area, what, problem));
        }
    }
    if let (Some(engine), Some(address)) = (&row.engine, address)
        && engine.address != address
    {
        let message = format!("it uses the daemon at {}, and one that starts now would use {address}", engine.address);
        checks.push(
            Check::warning(area, "its daemon", message).help("`brig stop`, then start it anew, if that is meant"),
        );
    }
}

fn version(row: &SupervisorRow) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    if row.version == own {
        return Check::ok("supervisor", "supervisor", format!("process {} runs, version {own} as this brig", row.pid));
    }
    let message = format!("process {} is version {}, this brig is {own}", row.pid, row.version);
    Check::warning("supervisor", "supervisor", message).help("`brig stop`, then start it anew")
}

/// Looks at what this process was given.
pub fn examine(checks: &mut Vec<Check>) {
    checks.push(terminal());
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    checks.push(if files < FEW_FILES {
        let message = format!("{files} file descriptors are few for many sandboxes and consoles");
        Check::warning("process", "files", message)
            .help(format!("`ulimit -n {FEW_FILES}` or more, where brig is started"))
    } else if files == u64::MAX {
        Check::ok("process", "files", "no limit on file descriptors")
    } else {
        Check::ok("process", "files", format!("up to {files} file descriptors"))
    });
}

fn terminal() -> Check {
    let (area, what) = ("process", "terminal");
    if !io::stdout().is_terminal() {
        return Check::ok(area, what, "the standard output is none: not looked at");
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let size = tcgetwinsize(io::stdout()).map_or((0, 0), |size| (size.ws_col, size.ws_row));
    judge(size, variable("TERM").as_deref(), colours(&variable), is_utf8(&variable))
}

fn judge((columns, lines): (u16, u16), term: Option<&str>, colours: &str, is_utf8: bool) -> Check {
    let (area, what) = ("process", "terminal");
    let found = format!("{columns}x{lines}, {colours}");
    if term.is_none_or(|term| term == "dumb") {
        let message = "TERM says nothing about this terminal: the console may not be drawn";
        return Check::new(area, what, Status::Warning, message).help("set TERM, as in TERM=xterm-256color");
    }
    if !is_utf8 {
        let message = format!("{found}, and the locale is not UTF-8: lines and marks may be garbled");
        return Check::warning(area, what, message).help("set LANG, as in LANG=C.UTF-8");
    }
    if columns < COLUMNS || lines < LINES {
        let message = format!("{found}: smaller than {COLUMNS}x{LINES}, so the console leaves things out");
        return Check::warning(area, what, message).help("make the window larger");
    }
    Check::ok(area, what, format!("{found}, UTF-8"))
}

fn colours(variable: &dyn Fn(&str) -> Option<String>) -> &'static str {
    if variable("NO_COLOR").is_some() {
        return "no colours (NO_COLOR)";
    }
    match variable("COLORTERM").as_deref() {
        Some("truecolor" | "24bit") => "all colours",
        _ => "256 colours",
    }
}

/// The first of these that is set decides, see setlocale(3).
fn is_utf8(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_is_too_small_or_garbles_is_said_to_be_so() {
        let judged = |size, term, utf8| judge(size, term, "all colours", utf8).status;
        assert_eq!(judged((80, 24), Some("xterm"), true), Status::Ok);
        assert_eq!(judged((79, 24), Some("xterm"), true), Status::Warning);
        assert_eq!(judged((80, 24), Some("xterm"), false), Status::Warning);
        assert_eq!(judged((80, 24), Some("dumb"), true), Status::Warning);
    }

    #[test]
    fn the_first_locale_that_is_set_decides() {
        let of = |all: &[(&str, &str)]| {
            is_utf8(&|name| all.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(of(&[("LANG", "de_DE.UTF-8")]) && of(&[("LC_ALL", "C.utf8"), ("LANG", "C")]));
        assert!(!of(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]) && !of(&[]));
    }
}
