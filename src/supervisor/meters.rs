//! What sandboxes use, read from where the engine keeps it; or told by the engine, where that is out of reach.
//!
//! Being told costs the engine something. So it is asked only about sandboxes that run something, and only while somebody
//! looks: a console, or whoever asks for everything again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brig_core::id::SandboxId;
use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use crate::api::wire::UsageRow;
use crate::engine::{Engine, Meter, Usage};
use crate::sync::lock;

/// Two looks nearer to each other than this give the CPU share of the look before: it would be mostly noise.
const SHORTEST: f64 = 0.1;
/// Who has asked for everything is looking for so long after that.
const LOOKING: Duration = Duration::from_secs(5);
/// An engine that tells nothing more is left alone for so long.
const SILENT: Duration = Duration::from_secs(5);

/// The meters of all sandboxes that there are.
#[derive(Clone, Default)]
pub struct Meters {
    all: Arc<Mutex<HashMap<SandboxId, Metered>>>,
    /// When somebody asked for everything.
    asked: Arc<Mutex<Option<Instant>>>,
}

enum Metered {
    /// Read from here.
    Here(Box<dyn Meter>, Gauge),
    /// Told by the engine.
    Told(Told),
}

/// A sandbox that runs something, and what the engine tells of it.
struct Told {
    engine_id: String,
    /// Listens while somebody looks.
    listener: Option<JoinHandle<()>>,
    latest: Arc<Mutex<Option<UsageRow>>>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Default)]
struct Gauge {
    last: Option<(Instant, Usage)>,
    cpu_percent: Option<f64>,
}

impl Meters {
    /// Begins to read a sandbox. It is read at once, so that the next look knows its CPU share.
    pub fn add(&self, id: SandboxId, meter: Box<dyn Meter>) {
        let mut gauge = Gauge::default();
        if let Some(usage) = meter.read() {
            gauge.take(usage);
        }
        lock(&self.all).insert(id, Metered::Here(meter, gauge));
    }

    /// A sandbox without a meter runs something from now on.
    pub fn add_running(&self, id: &SandboxId, engine_id: &str) {
        let mut all = lock(&self.all);
        let told = || Told { engine_id: engine_id.to_owned(), listener: None, latest: Arc::default() };
        all.entry(id.clone()).or_insert_with(|| Metered::Told(told()));
    }

    /// Forgets a sandbox.
    pub fn remove(&self, id: &SandboxId) {
        lock(&self.all).remove(id);
    }

    /// Somebody has asked for everything, and may do so again.
    pub fn asked(&self) {
        *lock(&self.asked) = Some(Instant::now());
    }

    /// Listens to the engine, or stops that, as somebody looks or nobody does.
    pub fn listen(&self, engine: &Arc<dyn Engine>, consoles: bool) {
        let looks = consoles || lock(&self.asked).is_some_and(|asked| asked.elapsed() < LOOKING);
        for metered in lock(&self.all).values_mut() {
            match metered {
                Metered::Told(told) if looks => told.listen(engine),
                Metered::Told(told) => told.stop(),
                Metered::Here(..) => {}
            }
        }
    }

    /// Reads all of them. Blocks for about 0.2 ms each.
    pub fn read(&self) -> Vec<(SandboxId, UsageRow)> {
        lock(&self.all).iter_mut().filter_map(|(id, metered)| Some((id.clone(), metered.read()?))).collect()
    }
}

impl Metered {
    fn read(&mut self) -> Option<UsageRow> {
        match self {
            Self::Here(meter, gauge) => Some(gauge.take(meter.read()?)),
            Self::Told(told) => *lock(&told.latest),
        }
    }
}

impl Told {
    fn listen(&mut self, engine: &Arc<dyn Engine>) {
        if self.listener.as_ref().is_some_and(|listener| !listener.is_finished()) {
            return;
        }
        let (engine, engine_id, latest) = (Arc::clone(engine), self.engine_id.clone(), Arc::clone(&self.latest));
        self.listener = Some(tokio::spawn(async move {
            let mut gauge = Gauge::default();
            let mut told = engine.usage(&engine_id);
            while let Some(usage) = told.next().await {
                *lock(&latest) = Some(gauge.take(usage));
            }
            tokio::time::sleep(SILENT).await;
        }));
    }

    /// What it told last is old from now on.
    fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
            *lock(&self.latest) = None;
        }
    }
}

impl Gauge {
    /// Takes in what was read or told just now.
    fn take(&mut self, usage: Usage) -> UsageRow {
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
        UsageRow {
            cpu_percent: self.cpu_percent,
            memory: usage.memory,
            memory_limit: usage.memory_limit,
            pids: usage.pids,
            pids_limit: usage.pids_limit,
            io_read: usage.io_read,
            io_write: usage.io_write,
        }
    }
}
