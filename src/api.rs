//! How others speak with the supervisor: HTTP and JSON on two Unix sockets.
//!
//! What goes over them is in [`wire`], and nothing else is; [`client`] is what the command line and the console use. What
//! serves them is a part of the supervisor (`supervisor/sockets`).

use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use bytes::Bytes;
use serde::Serialize;

pub mod client;
pub mod described;
pub mod wire;

/// A new name for a proposal.
///
/// # Errors
/// When the system has no randomness.
pub fn new_id() -> Result<ProposalId, Problem> {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new(Code::Internal, format!("the system has no randomness: {error}")))?;
    Ok(ProposalId::from_random(bytes))
}

/// A value as a line of its own.
#[must_use]
pub fn ndjson(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!("a line cannot be written as JSON: {error}");
        b"{}".to_vec()
    });
    line.push(b'\n');
    line.into()
}
