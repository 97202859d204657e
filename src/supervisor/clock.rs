//! The clocks, read here and handed to the core.

use std::time::{SystemTime, UNIX_EPOCH};

use brig_core::time::{Mono, Now, Wall};
use tokio::time::Instant;

/// The time of day.
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Counts from the supervisor's start. Tokio's own clock, so that tests can turn it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// Begins to count.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// This moment.
    pub fn now(self) -> Now {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono: Mono(since), wall: wall() }
    }

    /// A moment of the core's, as one to sleep until.
    pub fn instant(self, mono: Mono) -> Instant {
        self.began + std::time::Duration::from_millis(mono.0)
    }
}
