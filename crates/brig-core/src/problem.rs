//! What went wrong, in the one shape that every surface shows: the API, the command line, the console and the journal.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A failure that somebody has to understand: a stable code for programs, a sentence for people, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
pub struct Problem {
    /// Stable, for programs.
    pub code: Code,
    /// What is wrong and where, as one sentence without a full stop.
    pub message: String,
    /// What would be right, or what to do next. Empty when there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

impl Problem {
    /// A problem without help; see [`Problem::help`].
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: String::new() }
    }

    /// The same problem with a word on what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, " ({})", self.help)?;
        }
        Ok(())
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Stable codes of problems. A code never changes its meaning; new ones are added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[schemars(rename = "ProblemCode")]
        pub enum Code { $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)+ }

        impl Code {
            /// Every code there is, in the order of their documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as programs see it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// The request is not of the form that the API describes.
    Malformed = "malformed",
    /// A part of the proposal is over its limit.
    TooLarge = "too_large",
    /// A field has a value that can never be right (a NUL byte, an empty argv, a time of zero).
    InvalidField = "invalid_field",
    /// No profile has this name.
    UnknownProfile = "unknown_profile",
    /// A request would loosen what the profile sets.
    Loosens = "loosens",
    /// The queue of waiting proposals is full.
    QueueFull = "queue_full",
    /// The same idempotency key came with another content.
    KeyConflict = "key_conflict",
    /// Nothing with this identifier is known, or not to the one who asks.
    NotFound = "not_found",
    /// The identifier fits more than one thing.
    Ambiguous = "ambiguous",
    /// The digest is not the proposal's: what was looked at is not what is here now.
    DigestMismatch = "digest_mismatch",
    /// It has been decided already, or it is over.
    NotWaiting = "not_waiting",
    /// It is not running, so it cannot be killed.
    NotRunning = "not_running",
    /// The token is missing or wrong.
    WrongToken = "wrong_token",
    /// The peer is another user, and not one of those who may.
    WrongUser = "wrong_user",
    /// No supervisor answers on its socket.
    NoSupervisor = "no_supervisor",
    /// Another supervisor holds this state directory.
    AlreadyRunning = "already_running",
    /// The supervisor is ending.
    ShuttingDown = "shutting_down",
    /// The journal cannot be written, so nothing new runs.
    JournalFailed = "journal_failed",
    /// It was removed by a limit on what is kept.
    Pruned = "pruned",
    /// A settings file is wrong.
    Config = "config",
    /// A file or a socket of brig's own cannot be made or read.
    LocalIo = "local_io",
    /// The daemon cannot be reached.
    EngineUnreachable = "engine_unreachable",
    /// The daemon did not answer in time.
    EngineTimeout = "engine_timeout",
    /// The daemon refused what it was asked.
    EngineRefused = "engine_refused",
    /// The daemon or the sandbox answered what cannot be understood.
    EngineProtocol = "engine_protocol",
    /// An interpreter that a profile wants in advance cannot be started, or ended while it waited.
    InterpreterFailed = "interpreter_failed",
    /// The image is not here and cannot be brought here.
    ImageUnavailable = "image_unavailable",
    /// A secret that the profile names cannot be had.
    SecretMissing = "secret_missing",
    /// The daemon's processor or version is not one that brig works with.
    Unsupported = "unsupported",
    /// brig itself is wrong.
    Internal = "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
