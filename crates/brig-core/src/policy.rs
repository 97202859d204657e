//! Policy: what may run without a question.
//!
//! So far a profile's `approval.mode` is the only rule. It never lets an agent through that runs as the operator's own user
//! unless the operator has said so, as such an agent could decide for itself by other means.

use crate::profile::{ApprovalMode, Profile};
use crate::proposal::{Agent, Judgement, Ruling};

/// What the operator has said about agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// An agent that runs as the operator's own user may be allowed by rule.
    pub allow_own_user: bool,
}

/// Judges a proposal of `agent` under `profile`.
#[must_use]
pub fn judge(profile: &Profile, agent: &Agent, trust: Trust) -> Ruling {
    let ruling = |effect, rule: &str, why: &str| Ruling { effect, rule: rule.into(), why: why.into() };
    match profile.approval.mode {
        ApprovalMode::Ask => ruling(Judgement::Ask, "profile-asks", "this profile asks for every proposal"),
        ApprovalMode::Auto if agent.is_operator_user && !trust.allow_own_user => ruling(
            Judgement::Ask,
            "own-user",
            "the agent runs as the operator's own user, which no rule lets through unless brig.toml says \
             `[agents] allow_own_user = true`",
        ),
        ApprovalMode::Auto => ruling(Judgement::Allow, "profile-auto", "this profile approves every proposal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn an_agent_of_the_operators_own_user_is_asked_unless_trusted() {
        let mut profile = fixtures::profile();
        let own = Agent { name: "me".into(), uid: 1000, pid: None, is_operator_user: true };
        let other = Agent { is_operator_user: false, ..own.clone() };
        assert_eq!(judge(&profile, &other, Trust::default()).effect, Judgement::Ask);
        profile.approval.mode = ApprovalMode::Auto;
        assert_eq!(judge(&profile, &other, Trust::default()).effect, Judgement::Allow);
        assert_eq!(judge(&profile, &own, Trust::default()).rule, "own-user");
        assert_eq!(judge(&profile, &own, Trust { allow_own_user: true }).effect, Judgement::Allow);
    }
}
