//! How many warm sandboxes the last leases ask for.
//!
//! While a sandbox is being made, as many leases come as there are in that time: runs a second times the seconds to arm one.
//! That many have to be there already, and some more, as they do not come evenly. More is wanted at once; less is wanted
//! only bit by bit, as what came once comes again.

use std::collections::VecDeque;

use crate::profile::PoolPolicy;
use crate::time::Mono;

/// Leases are counted in slots of this length, over this many of them and the current one: 10 s.
const SLOT_MS: u64 = 500;
const SLOTS: u64 = 20;
/// The last slots in which a burst shows before the 10 s are full of it, and how many leases make one.
const BURST_SLOTS: u64 = 4;
const BURST: u32 = 3;
/// What is wanted over the mean, in standard deviations of leases that come by themselves (a Poisson process): enough for
/// 93 in 100 such spans.
const SPARE: f64 = 1.5;
/// How often fewer are wanted than before, if fewer are needed, and what part of what is too much goes then.
const EASE_MS: u64 = 15_000;
const EASE_PART: u32 = 4;
/// How long after the last lease the pool falls from its target to its minimum.
pub const QUIET_MS: u64 = 60 * 60_000;
/// The weight of the newest time in the smoothed one, as a divisor.
const SMOOTHING: u64 = 4;

/// The leases of the last seconds, and what they ask for.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Leases by the number of their slot, the oldest first.
    slots: VecDeque<(u64, u32)>,
    /// Smoothed milliseconds to arm one, once one was.
    arming_ms: Option<u64>,
    last_lease: Option<Mono>,
    /// How many were needed, eased.
    level: u32,
    /// When that was raised or lowered.
    changed: Mono,
}

/// How many warm ones are wanted, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    /// How many.
    pub ready: u32,
    /// Why so many.
    pub why: Why,
}

/// Why so many are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Why {
    /// Nothing asks for more than the target.
    #[default]
    Rest,
    /// Nothing ran for an hour.
    Quiet,
    /// So many runs came a second, and so many seconds it takes to arm one.
    Demand {
        /// Runs a second.
        rate: f64,
        /// Seconds to arm one.
        arming: f64,
        /// How many that needs; more than are wanted where the maximum is less.
        needed: u32,
    },
    /// More was needed a while ago.
    Easing,
}

impl Demand {
    /// One was leased.
    pub fn leased(&mut self, now: Mono) {
        self.last_lease = Some(now);
        let slot = now.0 / SLOT_MS;
        match self.slots.back_mut() {
            Some((last, count)) if *last >= slot => *count = count.saturating_add(1),
            _ => self.slots.push_back((slot, 1)),
        }
        self.forget(slot);
    }

    /// One was armed, which took so many milliseconds.
    pub fn armed(&mut self, ms: u64) {
        let before = self.arming_ms.unwrap_or(ms);
        self.arming_ms = Some((before * (SMOOTHING - 1) + ms) / SMOOTHING);
    }

    /// How many are wanted at `now`. What was seen before `now` counts; asking more often changes nothing.
    pub fn look(&mut self, policy: PoolPolicy, now: Mono) -> Wanted {
        self.forget(now.0 / SLOT_MS);
        let (rate, arming) = (self.rate(now), self.arming());
        let needed = needed(rate * arming);
        self.ease(needed.min(policy.max), now);
        let quiet = now.since(self.last_lease.unwrap_or_default()) >= QUIET_MS;
        let rest = if quiet { policy.min } else { policy.target };
        let ready = self.level.max(rest).min(policy.max);
        let why = if needed > rest && needed >= ready {
            Why::Demand { rate, arming, needed }
        } else if ready > rest {
            Why::Easing
        } else if quiet && policy.min < policy.target {
            Why::Quiet
        } else {
            Why::Rest
        };
        Wanted { ready, why }
    }

    /// When to look again though nothing happens: fewer may be wanted then.
    #[must_use]
    pub fn next_look(&self, policy: PoolPolicy, now: Mono) -> Option<Mono> {
        let eased = (self.level > policy.min).then(|| self.changed.plus(EASE_MS));
        let quiet = (policy.min < policy.target).then(|| self.last_lease.unwrap_or_default().plus(QUIET_MS));
        [eased, quiet].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Runs a second: over ten seconds, or over the last two where a burst has come in them.
    fn rate(&self, now: Mono) -> f64 {
        let slot = now.0 / SLOT_MS;
        let within = |slots: u64| -> u32 {
            self.slots.iter().filter(|(at, _)| at + slots >= slot).fold(0, |sum, (_, count)| sum.saturating_add(*count))
        };
        let over = |slots: u64, count: u32| f64::from(count) / seconds_of(slots * SLOT_MS);
        // The current slot is not over: on top of the ten seconds, and within the two.
        let (all, last) = (within(SLOTS), within(BURST_SLOTS - 1));
        let steady = over(SLOTS, all);
        if last >= BURST { steady.max(over(BURST_SLOTS, last)) } else { steady }
    }

    /// Seconds to arm one.
    fn arming(&self) -> f64 {
        seconds_of(self.arming_ms.unwrap_or(0))
    }

    fn ease(&mut self, needed: u32, now: Mono) {
        if needed >= self.level {
            (self.level, self.changed) = (needed, now);
            return;
        }
        while self.level > needed && now.since(self.changed) >= EASE_MS {
            self.level -= ((self.level - needed) / EASE_PART).max(1);
            self.changed = self.changed.plus(EASE_MS);
        }
    }

    fn forget(&mut self, slot: u64) {
        while self.slots.front().is_some_and(|(first, _)| first + SLOTS < slot) {
            self.slots.pop_front();
        }
    }
}

impl Wanted {
    /// The number and its reason as one sentence, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let ready = self.ready;
        match self.why {
            Why::Rest => format!("{ready} ready wanted: the target at rest"),
            Why::Quiet => format!("{ready} ready wanted: the minimum, as nothing ran for an hour"),
            Why::Easing => format!("{ready} ready wanted: there were more runs a while ago"),
            Why::Demand { rate, arming, needed } if needed > ready => {
                format!(
                    "{ready} ready wanted, the maximum: {rate:.1} runs a second, {arming:.1} s to arm one, need {needed}"
                )
            }
            Why::Demand { rate, arming, .. } => {
                format!("{ready} ready wanted: {rate:.1} runs a second, {arming:.1} s to arm one")
            }
        }
    }
}

/// How many cover what comes while one is being armed, where `mean` come on the average.
fn needed(mean: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and held at the limit")]
    let needed = (mean + SPARE * mean.sqrt()).ceil().min(f64::from(super::POOL_LIMIT)) as u32;
    needed
}

fn seconds_of(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: PoolPolicy = PoolPolicy { min: 1, target: 2, max: 20, max_age_ms: 1000 };

    /// Leases every `every` milliseconds from `from` until `until`.
    fn steady(demand: &mut Demand, from: u64, until: u64, every: u64) {
        let mut at = from;
        while at < until {
            demand.leased(Mono(at));
            at += every;
        }
    }

    fn armed_in(ms: u64) -> Demand {
        let mut demand = Demand::default();
        demand.armed(ms);
        demand
    }

    #[test]
    fn at_rest_the_target_is_wanted_and_after_an_hour_the_minimum() {
        let mut demand = armed_in(900);
        assert_eq!(demand.look(POLICY, Mono(0)), Wanted { ready: 2, why: Why::Rest });
        assert_eq!(demand.next_look(POLICY, Mono(0)), Some(Mono(QUIET_MS)));
        let quiet = demand.look(POLICY, Mono(QUIET_MS));
        assert_eq!(quiet, Wanted { ready: 1, why: Why::Quiet });
        assert_eq!(quiet.sentence(), "1 ready wanted: the minimum, as nothing ran for an hour");
        demand.leased(Mono(QUIET_MS + 1));
        assert_eq!(demand.look(POLICY, Mono(QUIET_MS + 1)).ready, 2, "one run brings the target back");
    }

    #[test]
    fn steady_demand_is_covered_and_the_sentence_says_so() {
        let mut demand = armed_in(900);
        steady(&mut demand, 0, 30_000, 476);
        let wanted = demand.look(POLICY, Mono(30_000));
        assert_eq!(wanted.sentence(), "4 ready wanted: 2.1 runs a second, 0.9 s to arm one");
    }

    #[test]
    fn a_burst_is_met_at_once_and_forgotten_slowly() {
        let mut demand = armed_in(1000);
        (0..8).for_each(|_| demand.leased(Mono(100)));
        let burst = demand.look(POLICY, Mono(100)).ready;
        assert_eq!(burst, 7, "4 a second for a second, and half as many to spare");
        let mut before = burst;
        let mut now = Mono(100);
        while let Some(next) = demand.next_look(PoolPolicy { min: 2, ..POLICY }, now) {
            now = next;
            let wanted = demand.look(POLICY, now);
            assert!(before - wanted.ready <= 1 + before / EASE_PART, "from {before} to {}", wanted.ready);
            before = wanted.ready;
        }
        assert_eq!(before, 2);
        assert!((60_000..180_000).contains(&now.0), "it took {now:?}");
    }

    #[test]
    fn what_is_over_the_maximum_is_said() {
        let mut demand = armed_in(900);
        steady(&mut demand, 0, 10_000, 103);
        let wanted = demand.look(PoolPolicy { max: 6, ..POLICY }, Mono(10_000));
        let words = "6 ready wanted, the maximum: 9.8 runs a second, 0.9 s to arm one, need 14";
        assert_eq!(wanted.sentence(), words);
    }

    /// Whatever comes and whenever it is looked at: within its bounds, no less than what is needed now, never less by
    /// more than a step, and the same however often it is asked.
    #[test]
    fn any_demand_keeps_within_bounds() {
        let mut dice = 1_u64;
        let mut roll = move |limit: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % limit
        };
        for _ in 0..200 {
            let target = u32::try_from(roll(6)).unwrap();
            let policy =
                PoolPolicy { min: target / 2, target, max: target + 1 + u32::try_from(roll(20)).unwrap(), ..POLICY };
            let (mut demand, mut now) = (Demand::default(), Mono(0));
            let mut before: Option<(u32, Mono)> = None;
            for _ in 0..300 {
                match roll(6) {
                    0 => demand.armed(roll(3000)),
                    1 => now = now.plus(roll(40_000)),
                    2 => (0..roll(10)).for_each(|_| demand.leased(now)),
                    _ => {
                        demand.leased(now);
                        now = now.plus(roll(700));
                    }
                }
                let wanted = demand.look(policy, now);
                assert!((policy.min..=policy.max).contains(&wanted.ready), "{wanted:?} of {policy:?}");
                assert!(wanted.ready >= needed(demand.rate(now) * demand.arming()).min(policy.max));
                assert_eq!(demand.look(policy, now), wanted, "asking changes nothing");
                assert!(demand.slots.len() <= 21);
                assert!(demand.next_look(policy, now).is_none_or(|next| next > now));
                if let Some((ready, at)) = before {
                    let steps = u32::try_from(now.since(at) / EASE_MS + 1).unwrap();
                    let most = (0..steps).fold(ready, |left, _| left.saturating_sub(1 + left / EASE_PART));
                    assert!(
                        wanted.ready >= most || wanted.why == Why::Quiet,
                        "{ready} became {} within {steps} steps",
                        wanted.ready
                    );
                }
                before = Some((wanted.ready, now));
            }
        }
    }
}
