//! What sandboxes use, read from where the engine keeps it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use brig_core::id::SandboxId;

use crate::api::wire::UsageRow;
use crate::engine::{Meter, Usage};
use crate::sync::lock;

/// Two looks nearer to each other than this give the CPU share of the look before: it would be mostly noise.
const SHORTEST: f64 = 0.1;

/// The meters of all sandboxes that there are.
#[derive(Clone, Default)]
pub struct Meters {
    all: Arc<Mutex<HashMap<SandboxId, Gauge>>>,
}

struct Gauge {
    meter: Box<dyn Meter>,
    last: Option<(Instant, Usage)>,
    cpu_percent: Option<f64>,
}

impl Meters {
    /// Begins to read a sandbox. It is read at once, so that the next look knows its CPU share.
    pub fn add(&self, id: SandboxId, meter: Box<dyn Meter>) {
        let last = meter.read().map(|usage| (Instant::now(), usage));
        self.lock().insert(id, Gauge { meter, last, cpu_percent: None });
    }

    /// Forgets a sandbox.
    pub fn remove(&self, id: &SandboxId) {
        self.lock().remove(id);
    }

    /// Reads all of them. Blocks for about 0.2 ms each.
    pub fn read(&self) -> Vec<(SandboxId, UsageRow)> {
        self.lock().iter_mut().filter_map(|(id, gauge)| Some((id.clone(), gauge.read()?))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SandboxId, Gauge>> {
        lock(&self.all)
    }
}

impl Gauge {
    fn read(&mut self) -> Option<UsageRow> {
        let usage = self.meter.read()?;
        let now = Instant::now();
        if let Some((then, before)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64();
            if seconds >= SHORTEST {
                #[expect(clippy::cast_precision_loss, reason = "microseconds of one look are far below 2^52")]
                let used = usage.cpu_us.saturating_sub(before.cpu_us) as f64 / 1e6;
                self.cpu_percent = Some(100.0 * used / seconds);
                self.last = Some((now, usage));
            }
        } else {
            self.last = Some((now, usage));
        }
        Some(UsageRow {
            cpu_percent: self.cpu_percent,
            memory: usage.memory,
            memory_limit: usage.memory_limit,
            pids: usage.pids,
            pids_limit: usage.pids_limit,
            io_read: usage.io_read,
            io_write: usage.io_write,
        })
    }
}
