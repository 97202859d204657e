//! Durations as histograms: bounded memory, however many there were, and a known error.
//!
//! A bucket is a sixteenth of a power of two wide, and stands for its middle: so what is read out is within 1/32 (3.1%) of
//! what was put in. Below 32 µs it is exact; above 71 minutes (2^32 µs) it is counted as that. There are 464 buckets, and only
//! those that were hit take memory.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Mono;

/// Buckets to a power of two, as its logarithm.
const PRECISION: u32 = 4;
/// The longest that is told from longer ones, in microseconds.
const LONGEST_US: u64 = (1 << 32) - 1;
/// How long a slot of the last hour is.
const SLOT_MS: u64 = 5 * 60_000;
/// How many there are: the current one is not over, so together they are the last 55 to 60 minutes.
const SLOTS: u64 = 12;

/// How often durations of each size were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: BTreeMap<u16, u64>,
    total: u64,
}

impl Histogram {
    /// One with these counts by bucket, as [`Histogram::buckets`] gave them. Buckets that there are not are left out.
    #[must_use]
    pub fn of(buckets: impl IntoIterator<Item = (u16, u64)>) -> Self {
        let mut histogram = Self::default();
        for (bucket, count) in buckets {
            if bucket <= bucket_of(LONGEST_US) && count > 0 {
                histogram.add(bucket, count);
            }
        }
        histogram
    }

    /// Counts a duration.
    pub fn record(&mut self, us: u64) {
        self.add(bucket_of(us), 1);
    }

    /// The buckets that were hit, and how often.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        self.counts.iter().map(|(bucket, count)| (*bucket, *count))
    }

    /// Count and percentiles (nearest rank). `None` where nothing was counted.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let at = |percent: u64| {
            let rank = (self.total.saturating_mul(percent)).div_ceil(100).max(1);
            let mut seen = 0;
            self.counts.iter().find_map(|(bucket, count)| {
                seen += count;
                (seen >= rank).then(|| middle_of(*bucket))
            })
        };
        Some(Summary { count: self.total, p50_us: at(50)?, p95_us: at(95)?, p99_us: at(99)? })
    }

    fn add(&mut self, bucket: u16, count: u64) {
        let known = self.counts.entry(bucket).or_default();
        *known = known.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    fn subtract(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            if let Some(known) = self.counts.get_mut(&bucket) {
                *known = known.saturating_sub(count);
                if *known == 0 {
                    self.counts.remove(&bucket);
                }
            }
        }
        self.total = self.counts.values().sum();
    }
}

/// What is read out of a histogram: each value within 1/32 of what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Half of them took at most this, in microseconds.
    pub p50_us: u64,
    /// 95 in 100 took at most this, in microseconds.
    pub p95_us: u64,
    /// 99 in 100 took at most this, in microseconds.
    pub p99_us: u64,
}

/// Durations of one kind: those of the last hour, and all.
#[derive(Clone, Debug, Default)]
pub struct Times {
    ever: Histogram,
    hour: Histogram,
    /// The slots of the last hour by number, the oldest first. Their sum is `hour`.
    slots: VecDeque<(u64, Histogram)>,
}

impl Times {
    /// With what was counted before.
    #[must_use]
    pub fn of(ever: Histogram) -> Self {
        Self { ever, ..Self::default() }
    }

    /// Counts a duration.
    pub fn record(&mut self, us: u64, now: Mono) {
        self.forget(now);
        let number = now.0 / SLOT_MS;
        if self.slots.back().is_none_or(|(last, _)| *last < number) {
            self.slots.push_back((number, Histogram::default()));
        }
        if let Some((_, slot)) = self.slots.back_mut() {
            slot.record(us);
        }
        self.hour.record(us);
        self.ever.record(us);
    }

    /// All there were.
    #[must_use]
    pub const fn ever(&self) -> &Histogram {
        &self.ever
    }

    /// The last hour's and all, as far as there are any.
    pub fn spread(&mut self, now: Mono) -> Spread {
        self.forget(now);
        Spread { hour: self.hour.summary(), ever: self.ever.summary() }
    }

    fn forget(&mut self, now: Mono) {
        let number = now.0 / SLOT_MS;
        while self.slots.front().is_some_and(|(first, _)| first + SLOTS <= number) {
            if let Some((_, slot)) = self.slots.pop_front() {
                self.hour.subtract(&slot);
            }
        }
    }
}

/// How durations of one kind are spread. A part is missing where there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Over the last 55 to 60 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<Summary>,
    /// Over all time, restarts included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ever: Option<Summary>,
}

fn bucket_of(us: u64) -> u16 {
    let us = us.min(LONGEST_US);
    let power = us.checked_ilog2().unwrap_or(0).max(PRECISION);
    let shift = power - PRECISION;
    // In the first power of two of buckets, which is exact, and below it, this is the value itself.
    let bucket = u64::from(shift << PRECISION) + (us >> shift);
    u16::try_from(bucket).unwrap_or(u16::MAX)
}

fn middle_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> PRECISION).saturating_sub(1);
    let low = (bucket - (shift << PRECISION)) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_within_a_thirty_second_of_what_was_put_in() {
        let mut us = 0_u64;
        while us < LONGEST_US {
            let (read, exact) = (middle_of(bucket_of(us)), us);
            assert!(read.abs_diff(exact) * 32 <= exact, "{exact} is read as {read}");
            us += 1 + us / 97;
        }
        assert!((0..32).all(|us| middle_of(bucket_of(us)) == us), "short ones are exact");
        assert_eq!(bucket_of(u64::MAX), bucket_of(LONGEST_US));
        assert_eq!(bucket_of(LONGEST_US), 463);
    }

    #[test]
    fn longer_ones_are_never_in_an_earlier_bucket() {
        let buckets: Vec<u16> = (0..100_000).map(bucket_of).collect();
        assert!(buckets.is_sorted());
        assert!(buckets.windows(2).all(|pair| pair[1] - pair[0] <= 1), "no bucket is left out");
    }

    #[test]
    fn percentiles_are_those_of_the_values_themselves() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.summary(), None);
        let mut values: Vec<u64> = (0..1000_u64).map(|at| (at * 7919) % 100_003).collect();
        values.iter().for_each(|us| histogram.record(*us));
        values.sort_unstable();
        let found = histogram.summary().unwrap();
        assert_eq!(found.count, 1000);
        for (read, exact) in [(found.p50_us, values[499]), (found.p95_us, values[949]), (found.p99_us, values[989])] {
            assert!(read.abs_diff(exact) * 32 <= exact, "{exact} is read as {read}");
        }
        let one = Histogram::of([(bucket_of(900), 1)]).summary().unwrap();
        assert_eq!((one.p50_us, one.p99_us), (middle_of(bucket_of(900)), middle_of(bucket_of(900))));
    }

    #[test]
    fn the_last_hour_forgets_and_ever_does_not() {
        let mut times = Times::default();
        times.record(100, Mono(0));
        times.record(200, Mono(30 * 60_000));
        let counts = |times: &mut Times, minute: u64| {
            let spread = times.spread(Mono(minute * 60_000));
            (spread.hour.map_or(0, |it| it.count), spread.ever.map_or(0, |it| it.count))
        };
        assert_eq!(counts(&mut times, 59), (2, 2));
        assert_eq!(counts(&mut times, 60), (1, 2));
        assert_eq!(counts(&mut times, 90), (0, 2));
        times.record(300, Mono(91 * 60_000));
        assert_eq!(counts(&mut times, 92), (1, 3));
        assert_eq!(times.hour.summary().unwrap().p50_us, middle_of(bucket_of(300)), "the old ones are out of the sum");
    }

    #[test]
    fn a_histogram_comes_back_from_its_buckets() {
        let mut times = Times::default();
        (0..5000).for_each(|us| times.record(us * us, Mono(us)));
        assert_eq!(&Histogram::of(times.ever().buckets()), times.ever());
        assert!(times.ever().buckets().count() < 464);
        assert_eq!(Histogram::of([(9999, 3), (4, 0)]), Histogram::default(), "what is no bucket is left out");
    }
}
