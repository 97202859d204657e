//! How long things take in each pool: kept while the supervisor runs, and over its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brig_core::histogram::{Histogram, Times};

use super::clock::Clock;
use crate::api::wire::Latency;
use crate::journal::{Count, Journal};
use crate::sync::lock;

/// How often they are written while anything has changed. At the supervisor's end they are written as well, so only one that
/// is killed loses this much.
const KEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// The times of all pools. Cheap to clone.
#[derive(Clone)]
pub struct Statistics {
    all: Arc<Mutex<BTreeMap<String, PoolTimes>>>,
    clock: Clock,
}

/// The times of one pool.
#[derive(Default)]
struct PoolTimes {
    first_byte: Times,
    overhead: Times,
    arming: Times,
    /// Something was counted since they were written last.
    changed: bool,
}

impl Statistics {
    /// With what was kept before.
    pub fn new(kept: Vec<Count>, clock: Clock) -> Self {
        let mut buckets: BTreeMap<(String, String), Vec<(u16, u64)>> = BTreeMap::new();
        for it in kept {
            buckets.entry((it.pool, it.measure)).or_default().push((it.bucket, it.count));
        }
        let mut all: BTreeMap<String, PoolTimes> = BTreeMap::new();
        for ((pool, measure), buckets) in buckets {
            if let Some((_, times)) =
                all.entry(pool).or_default().measures().into_iter().find(|(name, _)| *name == measure)
            {
                *times = Times::of(Histogram::of(buckets));
            }
        }
        Self { all: Arc::new(Mutex::new(all)), clock }
    }

    /// A sandbox was armed, which took so long.
    pub fn armed(&self, pool: &str, took: Duration) {
        self.change(pool, |times, now| times.arming.record(us(took), now));
    }

    /// A run wrote its first byte so long after it was leased a sandbox.
    pub fn first_byte(&self, pool: &str, took: Duration) {
        self.change(pool, |times, now| times.first_byte.record(us(took), now));
    }

    /// From its lease to its end a run took so much longer than its program.
    pub fn overhead(&self, pool: &str, took: Duration) {
        self.change(pool, |times, now| times.overhead.record(us(took), now));
    }

    /// What is known of a pool.
    pub fn latency(&self, pool: &str) -> Latency {
        let now = self.clock.now().mono;
        lock(&self.all).get_mut(pool).map_or_else(Latency::default, |times| Latency {
            first_byte: times.first_byte.spread(now),
            overhead: times.overhead.spread(now),
            arming: times.arming.spread(now),
        })
    }

    /// Writes them now and then, for ever.
    pub async fn keep_now_and_then(self, journal: Journal) {
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            self.keep(&journal).await;
        }
    }

    /// Writes what has changed.
    pub async fn keep(&self, journal: &Journal) {
        let counts = self.changed();
        if !counts.is_empty() {
            journal.keep_statistics(counts).await;
        }
    }

    fn changed(&self) -> Vec<Count> {
        let mut counts = Vec::new();
        for (pool, times) in lock(&self.all).iter_mut().filter(|(_, times)| times.changed) {
            times.changed = false;
            for (measure, times) in times.measures() {
                let of_bucket =
                    |(bucket, count)| Count { pool: pool.clone(), measure: measure.to_owned(), bucket, count };
                counts.extend(times.ever().buckets().map(of_bucket));
            }
        }
        counts
    }

    fn change(&self, pool: &str, record: impl FnOnce(&mut PoolTimes, brig_core::time::Mono)) {
        let now = self.clock.now().mono;
        let mut all = lock(&self.all);
        // Found by its borrowed name first: there is one new pool, and then a thousand runs of it.
        if !all.contains_key(pool) {
            all.insert(pool.to_owned(), PoolTimes::default());
        }
        if let Some(times) = all.get_mut(pool) {
            record(times, now);
            times.changed = true;
        }
    }
}

impl PoolTimes {
    /// Each measure under the name that it is kept by.
    fn measures(&mut self) -> [(&'static str, &mut Times); 3] {
        [("first-byte", &mut self.first_byte), ("overhead", &mut self.overhead), ("arming", &mut self.arming)]
    }
}

fn us(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
