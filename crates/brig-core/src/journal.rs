//! What is recorded, and the hash chain that holds it together.
//!
//! An entry is one JSON object, its `kind` first. The chain: `hash(n) = SHA-256(encode("brig-journal-1", hash(n-1), n, at,
//! body))`, with 32 zero bytes before the first. A record that is changed, removed or put elsewhere breaks every hash after
//! it. Output is kept beside the entries; the end of a run carries its hashes, so the chain covers it too.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encoding::Encoder;
use crate::envelope::Envelope;
use crate::id::{ProposalId, SandboxId};
use crate::pool::PoolOrder;
use crate::problem::Problem;
use crate::profile::Hash;
use crate::proposal::{Agent, Operator, Ruling, RunEnd, Verdict};
use crate::retention::Limit;
use crate::time::Wall;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// A supervisor began.
    Started {
        /// brig's version.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// A proposal was admitted.
    Proposed {
        /// Its name.
        id: ProposalId,
        /// Who asks.
        agent: Agent,
        /// Why, in the agent's words.
        reason: String,
        /// The idempotency key, if it came with one.
        key: Option<String>,
        /// The hash of the draft, by which a repeated key is told from a conflicting one.
        draft_hash: Hash,
        /// What shall run.
        envelope: Arc<Envelope>,
        /// Its digest.
        digest: Hash,
        /// What policy said.
        ruling: Ruling,
        /// When it expires.
        expires_at: Wall,
    },
    /// A proposal was sent back to ask: what it would run in is no longer what it was.
    Returned {
        /// Its name.
        id: ProposalId,
        /// What changed.
        why: String,
        /// What shall run now.
        envelope: Arc<Envelope>,
        /// Its new digest.
        digest: Hash,
    },
    /// The one verdict.
    Decided {
        /// On which proposal.
        id: ProposalId,
        /// What, by whom, when.
        verdict: Verdict,
    },
    /// The request was handed to a sandbox.
    Launched {
        /// Which proposal.
        id: ProposalId,
        /// In which sandbox.
        sandbox: SandboxId,
        /// The engine's name for it.
        engine_id: String,
        /// It was made for this run, as none was warm.
        cold: bool,
    },
    /// An operator wants it dead.
    KillRequested {
        /// Which proposal.
        id: ProposalId,
        /// Who.
        operator: Operator,
    },
    /// An operator told a pool something.
    PoolOrdered {
        /// The pool's profile.
        profile: String,
        /// What.
        order: PoolOrder,
        /// Who.
        operator: Operator,
    },
    /// The one end of a run.
    Ended {
        /// Which proposal.
        id: ProposalId,
        /// How.
        end: RunEnd,
    },
    /// The journal could not be written for a while. What happened meanwhile was refused, or is missing.
    Gap {
        /// Why.
        problem: Problem,
        /// Since when.
        since: Wall,
    },
    /// The output of runs that are over is being removed. That they wrote it, and its hashes, stay in their ends.
    OutputPruned {
        /// Whose.
        runs: Vec<PrunedRun>,
        /// Why.
        limit: Limit,
    },
    /// The oldest entries were removed together with the making of this one, which carries the chain on: what is left
    /// begins after the entry `through`.
    JournalPruned {
        /// The number of the last one that was removed.
        through: u64,
        /// Its hash.
        hash: Hash,
        /// How many were removed with it.
        entries: u64,
        /// Why.
        limit: Limit,
    },
    /// A supervisor ended in good order.
    Stopped {},
}

/// A run whose output was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedRun {
    /// Its proposal.
    pub id: ProposalId,
    /// The number of the entry that is its end.
    pub ended: u64,
    /// Bytes of disk that its output took.
    pub bytes: u64,
}

impl Entry {
    /// The proposal that it is about, if it is about one.
    #[must_use]
    pub const fn proposal(&self) -> Option<&ProposalId> {
        match self {
            Self::Proposed { id, .. }
            | Self::Returned { id, .. }
            | Self::Decided { id, .. }
            | Self::Launched { id, .. }
            | Self::KillRequested { id, .. }
            | Self::Ended { id, .. } => Some(id),
            Self::Started { .. }
            | Self::PoolOrdered { .. }
            | Self::Gap { .. }
            | Self::OutputPruned { .. }
            | Self::JournalPruned { .. }
            | Self::Stopped {} => None,
        }
    }

    /// Whether nothing more will be recorded about its proposal.
    #[must_use]
    pub fn closes(&self) -> bool {
        match self {
            Self::Ended { .. } => true,
            Self::Decided { verdict, .. } => verdict.kind != crate::proposal::VerdictKind::Approved,
            _ => false,
        }
    }

    /// The bytes that are kept and hashed.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which no value of this type is known to do.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what [`Entry::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are not an entry that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// The hash before the first entry.
pub const GENESIS: Hash = Hash([0; 32]);

/// The hash of entry `number` (from 1), recorded `at`, whose bytes are `body`, after an entry with the hash `previous`.
#[must_use]
pub fn link(previous: &Hash, number: u64, at: Wall, body: &[u8]) -> Hash {
    let mut out = Encoder::new(b"brig-journal-1");
    out.bytes(&previous.0).u64(number).u64(at.0.cast_unsigned()).bytes(body);
    out.hash()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_depends_on_all_it_names() {
        let base = link(&GENESIS, 1, Wall(5), b"{}");
        assert_eq!(base.hex(), "b8ed1ec362cc3aef2134a77176ceff0daba66243d3c903c78db3be4c3b7e0fed");
        assert_ne!(base, link(&base, 1, Wall(5), b"{}"));
        assert_ne!(base, link(&GENESIS, 2, Wall(5), b"{}"));
        assert_ne!(base, link(&GENESIS, 1, Wall(6), b"{}"));
        assert_ne!(base, link(&GENESIS, 1, Wall(5), b"{ }"));
    }

    #[test]
    fn entries_come_back_as_they_went() {
        let entry = Entry::Started { version: "1".into(), pid: 7 };
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(bytes, br#"{"kind":"started","version":"1","pid":7}"#);
        assert_eq!(Entry::from_bytes(&bytes).unwrap(), entry);
    }
}
