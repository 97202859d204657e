//! What benchmarks share: a real supervisor with files of its own, containers driven by hand, and figures.

pub mod daemon;
pub mod figures;
pub mod floor;
pub mod supervisor;

use std::time::{Duration, Instant};

/// Goes into the labels and names of all that a benchmark makes by itself.
pub const INSTALL: &str = "bench";

/// Waits for something, at most a minute.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it did not come within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
