//! The engine and its images: what has to be known before a proposal can be admitted, and who waits for it.

use std::sync::Arc;

use super::pools::Arrival;
use super::{Effect, EngineState, State};
use crate::id::ProposalId;
use crate::problem::{Code, Problem};
use crate::profile::{Profile, ResolvedImage};
use crate::proposal::Agent;
use crate::time::Now;

impl State {
    /// Lets a proposal wait for its admission; with a known image that is over within this event.
    pub(super) fn join_pool(&mut self, profile: &Arc<Profile>, arrival: Arrival, now: Now) {
        let name = profile.name.clone();
        let Some(pool) = self.pools.get_mut(&name) else { return };
        pool.active = true;
        // Somebody waits for the image now, so that it is tried at once, however it went before.
        if pool.spec.is_none() {
            pool.backoff.try_now();
        }
        pool.arrivals.push_back(arrival);
        self.changes.pools.insert(name.clone());
        if let EngineState::Down { problem, .. } = self.engine.clone()
            && self.pools.get(&name).is_some_and(|pool| pool.spec.is_none())
        {
            self.refuse_arrivals(&name, &problem);
        }
        self.admit_arrivals(&name, now);
    }

    pub(super) fn admit_arrivals(&mut self, name: &str, now: Now) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let Some((spec, _)) = pool.spec.clone() else { return };
        let profile = Arc::clone(&pool.profile);
        for arrival in std::mem::take(&mut pool.arrivals) {
            self.admit(arrival, &profile, &spec, now);
        }
    }

    /// Turns away one that has arrived and is not recorded. Says whether there was such a one.
    pub(super) fn withdraw_arrival(&mut self, id: &ProposalId, agent: &Agent) -> bool {
        for pool in self.pools.values_mut() {
            let its = |arrival: &Arrival| arrival.id == *id && arrival.agent.name == agent.name;
            if let Some(at) = pool.arrivals.iter().position(its) {
                let Some(arrival) = pool.arrivals.remove(at) else { return false };
                let gone = Problem::new(Code::NotFound, "it was withdrawn before it was recorded");
                self.turn_away(arrival.ticket, &arrival.id, &arrival.agent, arrival.draft.key, gone);
                return true;
            }
        }
        false
    }

    pub(super) fn refuse_arrivals(&mut self, name: &str, problem: &Problem) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        for arrival in std::mem::take(&mut pool.arrivals) {
            self.turn_away(arrival.ticket, &arrival.id, &arrival.agent, arrival.draft.key, problem.clone());
        }
    }

    pub(super) fn engine_up(&mut self) {
        self.engine = EngineState::Up;
        self.changes.supervisor = true;
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            self.changes.pools.insert(name.clone());
            let Some(pool) = self.pools.get_mut(&name) else { continue };
            pool.backoff.try_now();
            // The image may be another one than before.
            if pool.active {
                self.resolve(&name);
            }
        }
    }

    pub(super) fn engine_down(&mut self, problem: Problem, now: Now) {
        self.changes.supervisor = true;
        let since = match &self.engine {
            EngineState::Down { since, .. } => *since,
            _ => now.wall,
        };
        self.engine = EngineState::Down { problem: problem.clone(), since };
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            self.refuse_arrivals(&name, &problem);
            self.changes.pools.insert(name);
        }
    }

    pub(super) fn resolve(&mut self, name: &str) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        self.next_request += 1;
        pool.image.request = self.next_request;
        pool.image.progress = Some("looking for the image".to_owned());
        self.changes.pools.insert(name.to_owned());
        self.effects.push(Effect::ResolveImage {
            profile: name.to_owned(),
            request: self.next_request,
            cage: Box::new(pool.profile.cage.clone()),
        });
    }

    pub(super) fn image_progress(&mut self, name: &str, request: u64, line: String) {
        if let Some(pool) = self.pools.get_mut(name)
            && pool.image.request == request
            // A line can come late, when it is over already.
            && pool.image.progress.is_some()
        {
            pool.image.progress = Some(line);
            self.changes.pools.insert(name.to_owned());
        }
    }

    pub(super) fn image_changed(&mut self, reference: &str) {
        let names: Vec<_> = self.pools.keys().cloned().collect();
        for name in names {
            let Some(pool) = self.pools.get_mut(&name) else { continue };
            if !pool.active || !may_be(&pool.profile.cage.image, reference) {
                continue;
            }
            if pool.image.progress.is_some() {
                // What is being looked for may be the image before the change.
                pool.image.look_again = true;
            } else {
                self.resolve(&name);
            }
        }
    }

    pub(super) fn image_resolved(
        &mut self,
        name: &str,
        request: u64,
        result: Result<ResolvedImage, Problem>,
        now: Now,
    ) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        if pool.image.request != request || pool.image.progress.is_none() {
            return;
        }
        pool.image.progress = None;
        let look_again = std::mem::take(&mut pool.image.look_again);
        self.changes.pools.insert(name.to_owned());
        match result {
            Ok(image) => {
                // Whether sandboxes can be made from it is not known yet: failures in a row stay counted.
                pool.backoff.try_now();
                pool.last_error = None;
                // One that is found again came here as it came the first time.
                if pool.image.resolved.as_ref().is_none_or(|known| known.id != image.id) {
                    pool.image.resolved = Some(image);
                }
                self.remake_spec(name, now);
                self.admit_arrivals(name, now);
            }
            Err(problem) => {
                // What is warm stays so: an image that cannot be had now does not spoil what was made from it.
                self.count_failure(name, problem.clone(), now);
                self.refuse_arrivals(name, &problem);
            }
        }
        if look_again {
            self.resolve(name);
        }
    }
}

/// Whether an image that a profile names may be the one that an engine names. Engines leave out the registry that they
/// take by default, and `latest`. Where it is another one after all, it is looked at once more than needed.
fn may_be(image: &str, named: &str) -> bool {
    let untagged = |reference: &str| reference.strip_suffix(":latest").unwrap_or(reference).to_owned();
    let (image, named) = (untagged(image), untagged(named));
    image == named || image.ends_with(&format!("/{named}"))
}
