//! What operators tell a pool: other numbers, a pause, a drain, that everything warm be replaced.
//!
//! An order is followed when it is durable, and not before: who did what can be read in the journal. What was set lasts until
//! the supervisor ends or the profile's file changes; a pause or a drain lasts until it is taken back or the supervisor
//! ends, as the reason for it is seldom in that file.

use std::collections::BTreeSet;

use super::event::Batch;
use super::sandbox::SandboxState;
use super::{State, Ticket};
use crate::id::SandboxId;
use crate::journal::Entry;
use crate::pool::{self, PoolOrder};
use crate::problem::{Code, Problem};
use crate::profile::PoolPolicy;
use crate::proposal::Operator;
use crate::time::{Now, Wall};

/// What operators have told a pool, as far as it still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// None are made.
    pub hold: Option<Hold>,
    /// Numbers in place of the profile's.
    pub set: Option<SetByHand>,
    /// What is still to be replaced.
    pub replacing: Option<Replacing>,
}

/// A pause, or a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What is unused is removed as well.
    pub drains: bool,
    /// Who said so.
    pub by: String,
    /// Since when.
    pub since: Wall,
}

/// Numbers in place of the profile's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetByHand {
    /// The numbers.
    pub policy: PoolPolicy,
    /// Who set them.
    pub by: String,
    /// Since when.
    pub since: Wall,
}

/// Warm sandboxes that are replaced one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacing {
    /// Those that are left.
    pub left: BTreeSet<SandboxId>,
    /// Who said so.
    pub by: String,
    /// Since when.
    pub since: Wall,
}

impl Steering {
    /// Whether what is unused is removed.
    pub(super) fn drains(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.drains)
    }

    /// Whether a sandbox is one of those to be replaced.
    pub(super) fn replaces(&self, id: &SandboxId) -> bool {
        self.replacing.as_ref().is_some_and(|it| it.left.contains(id))
    }

    /// Whether any are left to be replaced.
    pub(super) const fn is_replacing(&self) -> bool {
        self.replacing.is_some()
    }

    /// A sandbox is no longer warm, so there is nothing to replace.
    pub(super) fn forget(&mut self, id: &SandboxId) {
        if let Some(replacing) = &mut self.replacing {
            replacing.left.remove(id);
            if replacing.left.is_empty() {
                self.replacing = None;
            }
        }
    }

    /// The profile says something else now: it says the numbers again.
    pub(super) fn profile_changed(&mut self) {
        self.set = None;
    }
}

impl State {
    /// An operator tells a pool something: it is recorded first.
    pub(super) fn steer(
        &mut self,
        ticket: Ticket,
        profile: &str,
        order: PoolOrder,
        operator: Operator,
        now: Now,
    ) -> Result<(), Problem> {
        self.check_order(profile, order)?;
        let profile = profile.to_owned();
        let entry = Entry::PoolOrdered { profile: profile.clone(), order, operator: operator.clone() };
        self.record(Batch::Steer { ticket, profile, order, operator }, vec![(now.wall, entry)]);
        Ok(())
    }

    /// What speaks against an order. Looked at again when it is durable, as the pool may be another one by then.
    fn check_order(&self, profile: &str, order: PoolOrder) -> Result<(), Problem> {
        let Some(pool) = self.pools.get(profile).filter(|pool| !pool.removed) else {
            let shown = crate::visible::line(profile.as_bytes());
            return Err(Problem::new(Code::UnknownProfile, format!("there is no profile `{shown}`"))
                .help("`brig pools` lists those that there are"));
        };
        if self.stopping {
            return Err(Problem::new(Code::ShuttingDown, "the supervisor is ending"));
        }
        match order {
            PoolOrder::Set { min, target, max } => pool::set(pool.policy(), min, target, max).map(drop),
            PoolOrder::Recycle if pool.steering.hold.is_some() => {
                let message =
                    format!("pool {profile} is paused or drained, so nothing can take the place of what is warm");
                Err(Problem::new(Code::InvalidField, message).help(format!("`brig pools resume {profile}` first")))
            }
            PoolOrder::Recycle | PoolOrder::Drain | PoolOrder::Pause | PoolOrder::Resume => Ok(()),
        }
    }

    /// An order is durable: it holds from now on. Giving one again changes nothing but who said so last.
    pub(super) fn follow_order(
        &mut self,
        profile: &str,
        order: PoolOrder,
        operator: Operator,
        now: Now,
    ) -> Result<(), Problem> {
        self.check_order(profile, order)?;
        let Some(pool) = self.pools.get_mut(profile) else { return Ok(()) };
        let (by, since) = (operator.name, now.wall);
        match order {
            PoolOrder::Set { min, target, max } => {
                let policy = pool::set(pool.policy(), min, target, max)?;
                pool.steering.set = Some(SetByHand { policy, by, since });
                // Who wants some warm means that they be warm, asked for or not.
                pool.active |= policy.target > 0;
            }
            PoolOrder::Drain | PoolOrder::Pause => {
                pool.steering.hold = Some(Hold { drains: order == PoolOrder::Drain, by, since });
                pool.steering.replacing = None;
            }
            PoolOrder::Resume => {
                pool.steering.hold = None;
                pool.backoff.try_now();
            }
            PoolOrder::Recycle => {
                let sandboxes = &self.sandboxes;
                let warm = |id: &&SandboxId| sandboxes.get(*id).is_some_and(|it| it.state == SandboxState::Warm);
                let left: BTreeSet<SandboxId> = pool.members.iter().filter(warm).cloned().collect();
                pool.steering.replacing = (!left.is_empty()).then_some(Replacing { left, by, since });
            }
        }
        self.changes.pools.insert(profile.to_owned());
        Ok(())
    }
}
