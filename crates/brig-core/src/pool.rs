//! The arithmetic of pools: how many sandboxes to make now, and how long to wait after a failure.

use crate::profile::PoolPolicy;
use crate::time::Mono;

/// The sandboxes of one pool, counted by state, and those who wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Armed and unused.
    pub warm: u32,
    /// Being made.
    pub arming: u32,
    /// Leased, running or ending.
    pub busy: u32,
    /// Approved proposals without a sandbox.
    pub waiting: u32,
}

/// How many sandboxes to begin to make now.
///
/// Wanted are the target at rest and one for each who waits; a sandbox that is being made counts, as it will serve whoever
/// waits longest. Never more than `max` in all, and never more at once than there are free creators, as each one slows all
/// the others down (measured: 4.7 a second with one, 8.4 with sixteen, each taking eight times as long).
#[must_use]
pub fn to_make(policy: PoolPolicy, counts: Counts, free_creators: u32) -> u32 {
    let wanted = policy.target.saturating_add(counts.waiting);
    let have = counts.warm + counts.arming;
    let room = policy.max.saturating_sub(have + counts.busy);
    wanted.saturating_sub(have).min(room).min(free_creators)
}

/// How long to leave something alone that keeps failing: 1 s, then twice as long each time, up to a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    until: Option<Mono>,
}

/// The longest pause between two tries, in milliseconds.
pub const LONGEST_PAUSE_MS: u64 = 60_000;

impl Backoff {
    /// It failed at `now`: when it may be tried again.
    pub fn failed(&mut self, now: Mono) -> Mono {
        let pause = 1000_u64.checked_shl(self.failures.min(16)).unwrap_or(LONGEST_PAUSE_MS).min(LONGEST_PAUSE_MS);
        self.failures = self.failures.saturating_add(1);
        let until = now.plus(pause);
        self.until = Some(until);
        until
    }

    /// It worked: the next failure begins anew.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// It may be tried at once, though it failed: what stood in the way may be gone.
    pub fn try_now(&mut self) {
        self.until = None;
    }

    /// Until when it is left alone, if it is at `now`.
    #[must_use]
    pub fn waits(&self, now: Mono) -> Option<Mono> {
        self.until.filter(|&until| until > now)
    }

    /// Failures in a row.
    #[cfg(test)]
    const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: PoolPolicy = PoolPolicy { target: 2, max: 5, max_age_ms: 1000 };

    #[test]
    fn an_empty_pool_is_filled_to_its_target() {
        assert_eq!(to_make(POLICY, Counts::default(), 8), 2);
        assert_eq!(to_make(POLICY, Counts { arming: 2, ..Counts::default() }, 8), 0);
        assert_eq!(to_make(POLICY, Counts { warm: 1, arming: 1, busy: 3, waiting: 0 }, 8), 0);
    }

    #[test]
    fn each_who_waits_gets_one_on_top() {
        assert_eq!(to_make(POLICY, Counts { waiting: 2, ..Counts::default() }, 8), 4);
        assert_eq!(to_make(POLICY, Counts { waiting: 2, arming: 1, ..Counts::default() }, 8), 3);
    }

    #[test]
    fn neither_max_nor_the_creators_are_exceeded() {
        assert_eq!(to_make(POLICY, Counts { waiting: 100, busy: 4, ..Counts::default() }, 8), 1);
        assert_eq!(to_make(POLICY, Counts { waiting: 100, busy: 9, ..Counts::default() }, 8), 0);
        assert_eq!(to_make(POLICY, Counts { waiting: 3, ..Counts::default() }, 1), 1);
    }

    #[test]
    fn a_pool_of_zero_makes_only_what_is_waited_for() {
        let none = PoolPolicy { target: 0, ..POLICY };
        assert_eq!(to_make(none, Counts::default(), 8), 0);
        assert_eq!(to_make(none, Counts { waiting: 1, ..Counts::default() }, 8), 1);
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let now = Mono(10);
        let pauses: Vec<u64> = (0..9).map(|_| backoff.failed(now).since(now)).collect();
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert_eq!(backoff.waits(now), Some(Mono(60_010)));
        assert_eq!(backoff.waits(Mono(60_010)), None);
        backoff.worked();
        assert_eq!((backoff.failures(), backoff.waits(now)), (0, None));
        assert_eq!(backoff.failed(now), Mono(1010));
    }
}
