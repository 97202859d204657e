//! Names of things. None is made here: the caller makes them and hands them in.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names one proposal, and the run that it may lead to: a proposal has at most one run.
///
/// Eight characters of Crockford's base 32 in lower case, made by the supervisor from 40 random bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9a-hjkmnp-tv-z]{8}$"))]
pub struct ProposalId(pub String);

impl ProposalId {
    /// The alphabet of identifiers: Crockford's base 32, which has no letter that is read as a digit.
    const ALPHABET: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

    /// Characters of an identifier.
    pub const LENGTH: usize = 8;

    /// Spells 40 bits as an identifier.
    #[must_use]
    pub fn from_random(bytes: [u8; 5]) -> Self {
        let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let letter = |at: u32| char::from(Self::ALPHABET[usize::try_from(bits >> (35 - 5 * at) & 31).unwrap_or(0)]);
        Self((0..Self::LENGTH as u32).map(letter).collect())
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one sandbox: the supervisor's start, then a number that counts up in it, as in `k3f9-17`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9a-hjkmnp-tv-z]{4}-[0-9]+$"))]
pub struct SandboxId(pub String);

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_bits_are_eight_letters() {
        assert_eq!(ProposalId::from_random([0; 5]).0, "00000000");
        assert_eq!(ProposalId::from_random([0xff; 5]).0, "zzzzzzzz");
        assert_eq!(ProposalId::from_random([0x08, 0x42, 0x10, 0x84, 0x21]).0, "11111111");
    }
}
