//! Numbers out of samples.

use std::time::Duration;

/// The value below which this share of the samples lies (nearest rank).
pub fn at(samples: &mut [f64], share: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((samples.len() - 1) as f64 * share).round() as usize;
    samples[index]
}

pub fn median(samples: &mut [f64]) -> f64 {
    at(samples, 0.5)
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A number of things, as one to divide.
pub fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The processes that wanted a processor over the last minute: figures mean nothing without it.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
