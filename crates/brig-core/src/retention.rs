//! How much is kept of what has happened, and which limit took something away.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How much is kept. What belongs to a proposal or a run that is not over is kept whatever these say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds for which the output of a run is kept after its end.
    pub output_age_ms: u64,
    /// Bytes of disk that the output of all runs may take.
    pub output_bytes: u64,
    /// Milliseconds for which an entry is kept.
    pub journal_age_ms: u64,
    /// Bytes of disk that all entries may take.
    pub journal_bytes: u64,
    /// Bytes of the file system that stay free: with less, nothing new is accepted and nothing new runs.
    pub keep_free: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            output_age_ms: 30 * DAY_MS,
            output_bytes: 4 << 30,
            journal_age_ms: 365 * DAY_MS,
            journal_bytes: 1 << 30,
            keep_free: 128 << 20,
        }
    }
}

/// The limit for whose sake something was removed, as it stood then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Limit {
    /// [`Retention::output_age_ms`].
    OutputAge {
        /// Milliseconds.
        ms: u64,
    },
    /// [`Retention::output_bytes`].
    OutputSize {
        /// Bytes.
        bytes: u64,
    },
    /// [`Retention::journal_age_ms`].
    JournalAge {
        /// Milliseconds.
        ms: u64,
    },
    /// [`Retention::journal_bytes`].
    JournalSize {
        /// Bytes.
        bytes: u64,
    },
}

/// What the journal takes of its disk. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// What the entries take.
    pub journal_bytes: u64,
    /// What they may take.
    pub journal_limit: u64,
    /// What the output of runs takes.
    pub output_bytes: u64,
    /// What it may take.
    pub output_limit: u64,
    /// The journal's files, with what is free in them.
    pub file_bytes: u64,
    /// What the file system has left for this user. Missing where it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// What of the file system has to stay free.
    pub keep_free: u64,
    /// What is nearly used up, for people. A journal that is kept at its limit is no reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}
