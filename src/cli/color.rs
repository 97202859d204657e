//! Whether there are colours, decided here and nowhere else; and the few that tables and errors have.
//!
//! A colour never says anything alone: the word that has it says the same.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use brig_core::proposal::{EndKind, Status};
use clap::ValueEnum;

use crate::api::wire::{PoolState, ProposalRow, SandboxState};
use crate::console::ColorChoice;

/// What `--color` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// To a terminal, unless the environment says otherwise
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

static WHEN: OnceLock<When> = OnceLock::new();

/// Keeps what `--color` said for the whole process, as errors are told from everywhere. The first word counts.
pub fn choose(when: When) {
    let _ = WHEN.set(when);
}

/// Whether the standard output has colours.
#[must_use]
pub fn on_stdout() -> bool {
    wanted(when(), &env, io::stdout().is_terminal())
}

/// Whether the standard error has colours.
#[must_use]
pub fn on_stderr() -> bool {
    wanted(when(), &env, io::stderr().is_terminal())
}

/// The colours of the console, which is always at a terminal.
#[must_use]
pub fn of_console() -> ColorChoice {
    if wanted(when(), &env, true) { ColorChoice::of_terminal() } else { ColorChoice::None }
}

/// For what the parser of arguments prints by itself, before it is known what they are.
#[must_use]
pub fn of_arguments(arguments: &[OsString]) -> clap::ColorChoice {
    let own = arguments.iter().take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
    let own: Vec<&str> = own.collect();
    let said = own.iter().enumerate().find_map(|(at, argument)| match argument.strip_prefix("--color") {
        Some("") => own.get(at + 1).copied(),
        Some(value) => value.strip_prefix('='),
        None => None,
    });
    match said.and_then(|word| When::from_str(word, true).ok()) {
        Some(When::Always) => clap::ColorChoice::Always,
        Some(When::Never) => clap::ColorChoice::Never,
        // It looks at the same variables.
        Some(When::Auto) | None => clap::ColorChoice::Auto,
    }
}

fn when() -> When {
    WHEN.get().copied().unwrap_or_default()
}

fn env(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_default()
}

/// An option on the command line is nearer than a variable. `NO_COLOR` (<https://no-color.org>) is stronger than
/// `CLICOLOR_FORCE` (<https://bixense.com/clicolors/>), which is stronger than what the output is.
fn wanted(when: When, env: &dyn Fn(&str) -> OsString, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if !env("NO_COLOR").is_empty() => false,
        When::Auto if !env("CLICOLOR_FORCE").is_empty() && env("CLICOLOR_FORCE") != "0" => true,
        When::Auto => is_terminal && env("CLICOLOR") != "0" && !env("TERM").is_empty() && env("TERM") != "dumb",
    }
}

/// The colours there are: of the terminal's own sixteen, so that they fit its background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Green,
    /// Somebody has to do something, or something is on its way.
    Yellow,
    /// It went wrong, or was ended.
    Red,
    /// It goes on.
    Cyan,
    /// Of no importance.
    Dim,
    /// An error's first word.
    Alarm,
}

impl Colour {
    /// The text in this colour, as it is written to a terminal.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Cyan => "36",
            Self::Dim => "2",
            Self::Alarm => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a proposal has come to.
#[must_use]
pub fn of_proposal(row: &ProposalRow) -> Colour {
    match (row.status, &row.end) {
        (Status::Finished, Some(end)) if end.kind == EndKind::Exited && end.exit_code == Some(0) => Colour::Green,
        (Status::Finished | Status::Rejected, _) => Colour::Red,
        (Status::Waiting, _) => Colour::Yellow,
        (Status::Running | Status::Approved, _) => Colour::Cyan,
        (Status::Arriving | Status::Expired | Status::Withdrawn, _) => Colour::Dim,
    }
}

/// What a sandbox does.
#[must_use]
pub const fn of_sandbox(state: SandboxState) -> Colour {
    match state {
        SandboxState::Running => Colour::Cyan,
        SandboxState::Warm => Colour::Green,
        _ => Colour::Dim,
    }
}

/// How a pool is.
#[must_use]
pub const fn of_pool(state: PoolState) -> Colour {
    match state {
        PoolState::Ready => Colour::Green,
        PoolState::Failing | PoolState::Away => Colour::Red,
        PoolState::Idle => Colour::Dim,
        _ => Colour::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_decides() {
        let with = |variables: &'static [(&'static str, &'static str)]| {
            move |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|it| it.1.into()).unwrap_or_default()
            }
        };
        for (when, variables, terminal, colour) in [
            (When::Auto, &[("TERM", "xterm")][..], true, true),
            (When::Auto, &[("TERM", "xterm")], false, false),
            (When::Auto, &[("TERM", "dumb")], true, false),
            (When::Auto, &[], true, false),
            (When::Auto, &[("TERM", "xterm"), ("NO_COLOR", "1")], true, false),
            (When::Auto, &[("TERM", "xterm"), ("NO_COLOR", "")], true, true),
            (When::Auto, &[("TERM", "xterm"), ("CLICOLOR", "0")], true, false),
            (When::Auto, &[("CLICOLOR_FORCE", "1")], false, true),
            (When::Auto, &[("CLICOLOR_FORCE", "0")], false, false),
            (When::Auto, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
            (When::Always, &[("NO_COLOR", "1"), ("TERM", "dumb")], false, true),
            (When::Never, &[("TERM", "xterm"), ("CLICOLOR_FORCE", "1")], true, false),
        ] {
            assert_eq!(wanted(when, &with(variables), terminal), colour, "{when:?} {variables:?} {terminal}");
        }
    }

    #[test]
    fn what_belongs_to_a_command_is_not_brigs() {
        let of = |words: &[&str]| of_arguments(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["brig", "--color", "never", "x"]), clap::ColorChoice::Never);
        assert_eq!(of(&["brig", "x", "--color=always"]), clap::ColorChoice::Always);
        assert_eq!(of(&["brig", "run", "--", "ls", "--color=always"]), clap::ColorChoice::Auto);
        assert_eq!(of(&["brig", "--color", "pink"]), clap::ColorChoice::Auto);
        assert_eq!(of(&["brig", "--color"]), clap::ColorChoice::Auto);
    }
}
