//! Profiles that come, change and go, and what that means for those who wait under them.

use std::sync::Arc;

use super::pools::{ImageState, Pool};
use super::runs::SHUTDOWN;
use super::{Phase, State};
use crate::id::ProposalId;
use crate::problem::{Code, Problem};
use crate::profile::{Profile, SandboxSpec};
use crate::proposal::{Decider, EndKind, VerdictKind};
use crate::time::Now;

impl State {
    /// Takes in all profiles there are now. What has changed drains, and what waits for it is asked anew.
    pub(super) fn set_profiles(&mut self, profiles: Vec<Profile>, now: Now) {
        self.profiles = profiles.into_iter().map(|profile| (profile.name.clone(), Arc::new(profile))).collect();
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            if !self.profiles.contains_key(&name) {
                self.remove_profile(&name, now);
            }
        }
        for (name, profile) in self.profiles.clone() {
            self.changes.pools.insert(name.clone());
            let active = name == self.config.default_profile;
            let Some(pool) = self.pools.get_mut(&name) else {
                self.pools.insert(name, Pool::new(profile, active));
                continue;
            };
            let before = std::mem::replace(&mut pool.profile, Arc::clone(&profile));
            pool.profile_hash = profile.content_hash();
            pool.removed = false;
            if before != profile {
                pool.steering.profile_changed();
            }
            pool.backoff.try_now();
            if before.cage.image != profile.cage.image
                || before.cage.build != profile.cage.build
                || before.cage.userland_fallback != profile.cage.userland_fallback
                || before.cage.interpreters != profile.cage.interpreters
            {
                // The interpreters count, as an image of the machine's own programs holds those that are named.
                // Without the number of the try that may be going on: its answer is about another image.
                pool.image = ImageState::default();
                pool.spec = None;
            }
            let unknown = pool.spec.is_none();
            self.remake_spec(&name, now);
            if unknown && before.cage != profile.cage {
                self.discard_warm(Some(&name), now);
            }
        }
    }

    pub(super) fn remove_profile(&mut self, name: &str, now: Now) {
        let gone = Problem::new(Code::UnknownProfile, format!("profile `{name}` was removed"));
        self.refuse_arrivals(name, &gone);
        if let Some(pool) = self.pools.get_mut(name) {
            pool.removed = true;
        }
        self.changes.pools.insert(name.to_owned());
        for id in self.open_under(name) {
            self.catch_up(&id, now);
        }
    }

    /// Whether a profile is there to run anything under.
    pub(super) fn has_profile(&self, name: &str) -> bool {
        self.pools.get(name).is_some_and(|pool| !pool.removed)
    }

    /// Looks whether what a proposal waits for, a verdict or a sandbox, is still what there is: its profile may have
    /// gone or changed, now or while something of it was being recorded.
    pub(super) fn catch_up(&mut self, id: &ProposalId, now: Now) {
        let Some(proposal) = self.proposals.get(id) else { return };
        let name = proposal.envelope.profile.clone();
        let phase = proposal.phase;
        if matches!(phase, Phase::Granted { .. }) && self.stopping {
            return self.end_without_run(id, EndKind::Killed, "before it started", Some(SHUTDOWN.to_owned()), now);
        }
        if !self.has_profile(&name) {
            let gone = format!("profile `{name}` was removed");
            match phase {
                Phase::Waiting => {
                    let by = Decider::Rule { name: "profile-removed".into() };
                    self.give_verdict(id, VerdictKind::Rejected, by, gone, None, now);
                }
                Phase::Granted { .. } => self.end_without_run(id, EndKind::Lost, &gone, None, now),
                _ => {}
            }
            return;
        }
        if let Some(why) = self.outdated(id) {
            self.unqueue(&name, id);
            self.return_to_ask(id, why, now);
        }
    }

    /// What has changed since a proposal that waits was admitted, where that is known.
    pub(super) fn outdated(&self, id: &ProposalId) -> Option<&'static str> {
        let proposal = self.proposals.get(id)?;
        let pool = self.pools.get(&proposal.envelope.profile)?;
        let (spec, hash) = pool.spec.as_ref()?;
        if !matches!(proposal.phase, Phase::Waiting | Phase::Granted { .. }) {
            None
        } else if proposal.envelope.profile_hash != pool.profile_hash {
            Some("the profile has changed")
        } else if proposal.envelope.image_id != spec.image.id {
            Some("the image has changed")
        } else if proposal.envelope.config_hash != *hash {
            Some("what brig makes sandboxes from has changed")
        } else {
            None
        }
    }

    /// Those that wait for a verdict or a sandbox under a profile, the oldest first.
    pub(super) fn open_under(&self, profile: &str) -> Vec<ProposalId> {
        let open = self.order.values().filter_map(|id| self.proposals.get(id)).filter(|proposal| {
            proposal.envelope.profile == profile && matches!(proposal.phase, Phase::Waiting | Phase::Granted { .. })
        });
        open.map(|proposal| proposal.id.clone()).collect()
    }

    /// Works out what sandboxes are made from now, and asks anew about what was meant for another.
    pub(super) fn remake_spec(&mut self, name: &str, now: Now) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let Some(image) = pool.image.resolved.clone() else { return };
        let spec = SandboxSpec {
            profile: name.to_owned(),
            cage: pool.profile.cage.clone(),
            image,
            engine_fingerprint: self.config.engine_fingerprint.clone(),
        };
        let hash = spec.config_hash();
        pool.spec = Some((Arc::new(spec), hash));
        for id in self.open_under(name) {
            if let Some(why) = self.outdated(&id) {
                self.return_to_ask(&id, why, now);
            }
        }
        // Once for all that were returned, as there may be many.
        let proposals = &self.proposals;
        let is_granted =
            |id: &ProposalId| proposals.get(id).is_some_and(|it| matches!(it.phase, Phase::Granted { .. }));
        if let Some(pool) = self.pools.get_mut(name) {
            pool.waiting.retain(is_granted);
        }
    }

    pub(super) fn unqueue(&mut self, name: &str, id: &ProposalId) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.waiting.retain(|waiting| waiting != id);
        }
    }

    /// Keeps a pool warm from now on.
    pub(super) fn activate(&mut self, name: &str) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.active = true;
        }
    }
}
