//! The arithmetic of pools: how many sandboxes to make now, and how long to wait after a failure. How many are wanted is
//! worked out in [`demand`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Code, Problem};
use crate::profile::PoolPolicy;
use crate::time::Mono;

pub mod demand;

/// Sandboxes of one profile at once, at most.
pub const POOL_LIMIT: u32 = 256;

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
/// Needed are the `ready` ones that are wanted and one for each who waits; a sandbox that is being made counts, as it will
/// serve whoever waits longest. Never more than `max` in all, and never more at once than there are free creators, as each
/// one slows all the others down (measured: 4.7 a second with one, 8.4 with sixteen, each taking eight times as long).
#[must_use]
pub fn to_make(ready: u32, max: u32, counts: Counts, free_creators: u32) -> u32 {
    let wanted = ready.saturating_add(counts.waiting);
    let have = counts.warm + counts.arming;
    let room = max.saturating_sub(have + counts.busy);
    wanted.saturating_sub(have).min(room).min(free_creators)
}

/// How many creators may be at work now, and when to look again though nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So many at once.
    pub creators: u32,
    /// In so many milliseconds.
    pub look_after_ms: Option<u64>,
}

/// How soon after its lease a run that goes on is left alone: hits are over in a few milliseconds, and making a sandbox
/// meanwhile would make them several times as slow.
pub const YOUNG_MS: u64 = 50;
/// How long after a lease more are expected: then one is made at a time.
pub const BUSY_MS: u64 = 1000;

/// How fast to fill a pool: `youngest_run` and `last_lease` are the milliseconds since the last lease of a run that goes on,
/// and of any, over all pools, as making a sandbox slows down whatever runs.
///
/// With somebody waiting, or less than a quarter of what is wanted, as fast as it goes: a miss costs a hundred hits. Else not while
/// a run has only just begun, and one at a time while runs come. The figures are in docs/performance.md.
#[must_use]
pub fn pace(creators: u32, counts: Counts, wanted: u32, youngest_run: Option<u64>, last_lease: Option<u64>) -> Pace {
    let low = counts.waiting > 0 || counts.warm.saturating_mul(4) < wanted;
    let young = youngest_run.and_then(|age| YOUNG_MS.checked_sub(age)).filter(|left| *left > 0);
    let busy = last_lease.and_then(|age| BUSY_MS.checked_sub(age)).filter(|left| *left > 0);
    match (young, busy) {
        _ if low => Pace { creators, look_after_ms: None },
        (Some(left), _) => Pace { creators: 0, look_after_ms: Some(left) },
        (None, Some(left)) => Pace { creators: creators.min(1), look_after_ms: Some(left) },
        (None, None) => Pace { creators, look_after_ms: None },
    }
}

/// What an operator can tell a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PoolOrder {
    /// Other numbers than the profile's. What is not named stays as it is.
    Set {
        /// See [`PoolPolicy::min`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<u32>,
        /// See [`PoolPolicy::target`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<u32>,
        /// See [`PoolPolicy::max`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u32>,
    },
    /// Remove what is unused and make none. Runs go on.
    Drain,
    /// Make none. What is warm is still leased.
    Pause,
    /// Take back a drain or a pause.
    Resume,
    /// Replace everything that is warm, one after the other.
    Recycle,
}

/// A pool's numbers with those that an operator has set in place of its own.
///
/// # Errors
/// `invalid_field` when nothing is set, or the numbers do not fit each other or their range.
pub fn set(policy: PoolPolicy, min: Option<u32>, target: Option<u32>, max: Option<u32>) -> Result<PoolPolicy, Problem> {
    let wrong = |message: String, help: String| Err(Problem::new(Code::InvalidField, message).help(help));
    if min.is_none() && target.is_none() && max.is_none() {
        return wrong("none of min, target and max is given".to_owned(), "give at least one of them".to_owned());
    }
    let set = PoolPolicy {
        min: min.unwrap_or(policy.min),
        target: target.unwrap_or(policy.target),
        max: max.unwrap_or(policy.max),
        ..policy
    };
    if set.max == 0 || set.max > POOL_LIMIT {
        return wrong(format!("max is {}", set.max), format!("it is a number from 1 to {POOL_LIMIT}"));
    }
    if set.min > set.target {
        let help = format!("a number up to {} for min, or a target of at least {}", set.target, set.min);
        return wrong(format!("min would be {} and target {}, which is less", set.min, set.target), help);
    }
    if set.target > set.max {
        let help = format!("a number up to {} for target, or a max of at least {}", set.max, set.target);
        return wrong(format!("target would be {} and max {}, which is less", set.target, set.max), help);
    }
    Ok(set)
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

    const POLICY: PoolPolicy = PoolPolicy { min: 1, target: 2, max: 5, max_age_ms: 1000 };

    #[test]
    fn an_empty_pool_is_filled_to_its_target() {
        assert_eq!(to_make(2, 5, Counts::default(), 8), 2);
        assert_eq!(to_make(2, 5, Counts { arming: 2, ..Counts::default() }, 8), 0);
        assert_eq!(to_make(2, 5, Counts { warm: 1, arming: 1, busy: 3, waiting: 0 }, 8), 0);
    }

    #[test]
    fn each_who_waits_gets_one_on_top() {
        assert_eq!(to_make(2, 5, Counts { waiting: 2, ..Counts::default() }, 8), 4);
        assert_eq!(to_make(2, 5, Counts { waiting: 2, arming: 1, ..Counts::default() }, 8), 3);
    }

    #[test]
    fn neither_max_nor_the_creators_are_exceeded() {
        assert_eq!(to_make(2, 5, Counts { waiting: 100, busy: 4, ..Counts::default() }, 8), 1);
        assert_eq!(to_make(2, 5, Counts { waiting: 100, busy: 9, ..Counts::default() }, 8), 0);
        assert_eq!(to_make(2, 5, Counts { waiting: 3, ..Counts::default() }, 1), 1);
    }

    #[test]
    fn a_pool_of_zero_makes_only_what_is_waited_for() {
        assert_eq!(to_make(0, 5, Counts::default(), 8), 0);
        assert_eq!(to_make(0, 5, Counts { waiting: 1, ..Counts::default() }, 8), 1);
    }

    #[test]
    fn filling_keeps_away_from_runs_that_have_just_begun_unless_the_pool_is_low() {
        let some = Counts { warm: 1, busy: 1, ..Counts::default() };
        let paced = |counts, youngest, last| {
            let pace = pace(4, counts, 4, youngest, last);
            (pace.creators, pace.look_after_ms)
        };
        assert_eq!(paced(some, Some(0), Some(0)), (0, Some(50)));
        assert_eq!(paced(some, Some(49), Some(49)), (0, Some(1)));
        assert_eq!(paced(some, Some(50), Some(50)), (1, Some(950)), "the run goes on, and so does filling");
        assert_eq!(paced(some, None, Some(3)), (1, Some(997)), "the run has ended");
        assert_eq!(paced(some, Some(9000), Some(1000)), (4, None));
        assert_eq!(paced(some, None, None), (4, None));
        let low = Counts { warm: 0, busy: 1, ..Counts::default() };
        assert_eq!(paced(low, Some(0), Some(0)), (4, None));
        assert_eq!(paced(Counts { waiting: 1, ..some }, Some(0), Some(0)), (4, None));
    }

    #[test]
    fn numbers_that_are_set_fit_each_other_or_are_refused() {
        let set = |min, target, max| super::set(POLICY, min, target, max);
        assert_eq!(set(None, Some(4), None).unwrap(), PoolPolicy { target: 4, ..POLICY });
        assert_eq!(set(Some(9), Some(9), Some(256)).unwrap(), PoolPolicy { min: 9, target: 9, max: 256, ..POLICY });
        for (min, target, max, words) in [
            (None, None, None, "none of min, target and max is given"),
            (Some(3), None, None, "min would be 3 and target 2, which is less"),
            (None, Some(0), None, "min would be 1 and target 0, which is less"),
            (None, Some(6), None, "target would be 6 and max 5, which is less"),
            (None, None, Some(1), "target would be 2 and max 1, which is less"),
            (None, None, Some(0), "max is 0"),
            (None, None, Some(257), "max is 257"),
        ] {
            let problem = set(min, target, max).unwrap_err();
            assert_eq!((problem.code, problem.message.as_str()), (Code::InvalidField, words));
            assert!(!problem.help.is_empty());
        }
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
