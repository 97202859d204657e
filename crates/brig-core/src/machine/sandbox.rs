//! One sandbox, as the state knows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ProposalId;
use crate::profile::Hash;
use crate::proposal::RunReport;
use crate::time::{Mono, Now};

/// One sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The profile's name.
    pub profile: String,
    /// The engine's name for it, empty until it has one.
    pub engine_id: String,
    /// Where it stands.
    pub state: SandboxState,
    /// What runs in it.
    pub proposal: Option<ProposalId>,
    /// Since when it is in this state.
    pub since: Now,
    /// When it was leased, once it was.
    pub(super) leased: Mono,
    /// Who asked for it to be killed.
    pub killed_by: Option<String>,
    pub(super) config_hash: Hash,
    pub(super) output_full: bool,
    pub(super) past_deadline: bool,
    pub(super) out_of_memory: bool,
    /// The engine has said that it ended.
    pub(super) died: bool,
    /// A report without a word of init's, held back until the engine had its chance to say why.
    pub(super) last_report: Option<RunReport>,
    /// It was gone while its report was held back.
    pub(super) gone: bool,
}

/// The states of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// Being made.
    Creating,
    /// Armed and unused.
    Warm,
    /// Granted to a run whose request has not been written yet.
    Leased,
    /// Its run is going on.
    Running,
    /// Its run has ended, or it is being thrown away.
    Ending,
}

impl SandboxState {
    /// The word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Warm => "warm",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Ending => "ending",
        }
    }
}
