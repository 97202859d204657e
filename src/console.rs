//! The terminal UI. It is only ever a client of the supervisor: it can crash, hang or be killed, and no run notices.
//!
//! ```text
//! keys, terminal ─┐                                   ┌─▶ view ─▶ buffer ─▶ terminal
//! link ───────────┼─▶ Msg ─▶ update(state, msg, now) ─┤
//! time ───────────┘                                   └─▶ Command ─▶ link ─▶ supervisor
//! ```
//!
//! State, update and view know nothing of terminals, connections and clocks; only [`run`], [`link`] and [`terminal`] do.

pub mod actions;
#[cfg(test)]
mod fixtures;
pub mod frames;
pub mod keymap;
pub mod layout;
pub mod link;
pub mod msg;
pub mod output;
pub mod review;
mod run;
pub mod state;
#[cfg(test)]
mod svg;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod text;
pub mod theme;
pub mod update;
pub mod view;

pub use run::run;

use crate::api::client::Client;

/// What a console needs.
#[derive(Debug)]
pub struct Options {
    /// Speaks with the supervisor on the operator socket.
    pub client: Client,
    /// What things look like.
    pub theme: theme::Theme,
    /// How much of the theme the terminal can show.
    pub color: ColorChoice,
}

/// How many colours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorChoice {
    /// All of them.
    True,
    /// 256.
    Indexed,
    /// None: differences are shown by modifiers.
    None,
}

impl ColorChoice {
    /// How many the terminal has, as `TERM` and `COLORTERM` say.
    #[must_use]
    pub fn of_terminal() -> Self {
        let value = |name| std::env::var_os(name).unwrap_or_default();
        let all = value("COLORTERM") == "truecolor" || value("COLORTERM") == "24bit" || value("TERM") == "xterm-direct";
        if all { Self::True } else { Self::Indexed }
    }
}

/// How a console was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The supervisor does what it does without this console: it goes on, or ends with its last one.
    Keep,
    /// The supervisor was told to end, and has said that it will.
    Stopped,
    /// A signal of this number asked for it; the supervisor goes on as with `Keep`. The terminal has been given back.
    Signal(i32),
}
