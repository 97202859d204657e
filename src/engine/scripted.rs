//! An engine without a daemon: what happens is what was scripted.
//!
//! Its sandboxes are tasks that speak brig-init's own wire format and act a [`Script`] out; each call of the trait can be
//! made to fail, to be slow or to hang. So the supervisor can be tried against everything that a daemon may do to it, in
//! milliseconds, and on a clock that a test turns by hand: all time here is tokio's.

mod sandbox;
mod script;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, ImageSource, ResolvedImage, SandboxSpec};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Anew, ArmedSandbox, Engine, EngineEvent, EngineInfo, Owner, Progress, Sighting, StoredImage, Usage};
pub use sandbox::Served;
use sandbox::{FixedMeter, Piece, Sandbox};
pub use script::{Act, Script};

/// Pieces of output that a sandbox may be ahead of its reader; after that it waits, as behind a pipe.
const AHEAD: usize = 16;
/// Bytes of a request that a sandbox takes before anyone reads them, as a pipe does.
const PIPE_BYTES: usize = 64 << 10;
/// Events that may wait for whoever listens.
const EVENTS: usize = 1024;

/// The calls of [`Engine`] that can be meddled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Engine::info`].
    Info,
    /// [`Engine::resolve_image`].
    ResolveImage,
    /// [`Engine::arm`].
    Arm,
    /// [`Engine::kill`].
    Kill,
    /// [`Engine::sightings`].
    Sightings,
}

/// The engine, and the handle by which it is told what to do. Cheap to clone.
#[derive(Clone)]
pub struct ScriptedEngine {
    shared: Arc<Shared>,
}

/// What all sandboxes and calls share.
struct Shared {
    owner: Owner,
    host: String,
    inner: Mutex<Inner>,
    /// Counts what was told to the engine, so that whoever is held up looks again.
    told: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    meddling: HashMap<Call, Meddling>,
    scripts: HashMap<String, Script>,
    open_gates: BTreeSet<&'static str>,
    image: String,
    deaf: bool,
    mute: bool,
    pretends: bool,
    progress: Option<String>,
    listeners: Vec<mpsc::Sender<Result<EngineEvent, Problem>>>,
    next: u64,
    alive: BTreeMap<String, Alive>,
    planted: Vec<Sighting>,
    served: Vec<Served>,
    killed: Vec<String>,
}

#[derive(Default)]
struct Meddling {
    count: u64,
    failing: Option<Problem>,
    delay: Duration,
    held: bool,
}

struct Alive {
    sandbox: SandboxId,
    killed: watch::Sender<bool>,
}

impl ScriptedEngine {
    /// An engine on which everything works, for the supervisor `owner` on `host`.
    #[must_use]
    pub fn new(owner: Owner, host: &str) -> Self {
        let inner = Inner { image: "sha256:scripted".to_owned(), ..Inner::default() };
        let told = watch::Sender::new(0);
        Self { shared: Arc::new(Shared { owner, host: host.to_owned(), inner: Mutex::new(inner), told }) }
    }

    /// Makes a call fail until it is mended.
    pub fn fail(&self, call: Call, problem: Problem) {
        self.meddle(call, |it| it.failing = Some(problem));
    }

    /// Makes a call take this long.
    pub fn delay(&self, call: Call, delay: Duration) {
        self.meddle(call, |it| it.delay = delay);
    }

    /// Makes a call hang until it is mended.
    pub fn hold(&self, call: Call) {
        self.meddle(call, |it| it.held = true);
    }

    /// Makes a call work again, and lets those go on that hang in it.
    pub fn mend(&self, call: Call) {
        self.meddle(call, |it| *it = Meddling { count: it.count, ..Meddling::default() });
    }

    /// How often a call was made.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.shared.lock().meddling.get(&call).map_or(0, |it| it.count)
    }

    /// What a run does whose first step's program is `program`. Others exit with 0 at once.
    pub fn script(&self, program: &str, script: Script) {
        self.shared.lock().scripts.insert(program.to_owned(), script);
    }

    /// Opens a gate that scripts wait at, for good.
    pub fn open(&self, gate: &'static str) {
        self.shared.lock().open_gates.insert(gate);
        self.shared.tell();
    }

    /// What every image reference means from now on.
    pub fn set_image(&self, id: &str) {
        id.clone_into(&mut self.shared.lock().image);
    }

    /// Says a line to those who wait for an image that is being held up.
    pub fn progress(&self, line: &str) {
        self.shared.lock().progress = Some(line.to_owned());
        self.shared.tell();
    }

    /// Tells something to whoever listens.
    pub fn emit(&self, event: EngineEvent) {
        self.shared.emit(event);
    }

    /// Ends the stream of events, as a daemon does that goes away.
    pub fn break_events(&self, problem: &Problem) {
        for listener in std::mem::take(&mut self.shared.lock().listeners) {
            // One that is full is so far behind that it will see the end of its stream instead.
            let _ = listener.try_send(Err(problem.clone()));
        }
    }

    /// Lets something be seen on the engine that is none of its sandboxes.
    pub fn plant(&self, sighting: Sighting) {
        self.shared.lock().planted.push(sighting);
    }

    /// Whether sandboxes that are made from now on read nothing of what they are sent.
    pub fn deafen(&self, deaf: bool) {
        self.shared.lock().deaf = deaf;
    }

    /// Whether sandboxes do not answer when they are asked whether they are there.
    pub fn mute(&self, mute: bool) {
        self.shared.lock().mute = mute;
    }

    /// Whether kills change nothing from now on, though the engine says that they worked.
    pub fn pretend_to_kill(&self, pretend: bool) {
        self.shared.lock().pretends = pretend;
    }

    /// Ends a sandbox without a word.
    pub fn crash(&self, engine_id: &str) {
        self.shared.end(engine_id);
    }

    /// The engine's names of the sandboxes that there are.
    #[must_use]
    pub fn alive(&self) -> Vec<String> {
        self.shared.lock().alive.keys().cloned().collect()
    }

    /// Everything that sandboxes were asked to run, the first one first.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        self.shared.lock().served.clone()
    }

    /// What was killed by a call, the first one first.
    #[must_use]
    pub fn killed(&self) -> Vec<String> {
        self.shared.lock().killed.clone()
    }

    fn meddle(&self, call: Call, change: impl FnOnce(&mut Meddling)) {
        change(self.shared.lock().meddling.entry(call).or_default());
        self.shared.tell();
    }
}

impl Engine for ScriptedEngine {
    fn fingerprint(&self) -> String {
        "scripted".to_owned()
    }

    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, Problem>> {
        async {
            self.shared.pass(Call::Info).await?;
            let (name, address) = ("Scripted 1".to_owned(), "scripted:".to_owned());
            Ok(EngineInfo { name, api_version: "1".to_owned(), address, cgroup_version: 2, cpus: 2, memory: 1 << 30 })
        }
        .boxed()
    }

    fn resolve_image<'a>(
        &'a self,
        _: &'a Cage,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ResolvedImage, Problem>> {
        async move {
            let mut told = self.shared.told.subscribe();
            let mut passing = std::pin::pin!(self.shared.pass(Call::ResolveImage));
            loop {
                if let Some(line) = self.shared.lock().progress.clone() {
                    progress(&line);
                }
                tokio::select! {
                    passed = &mut passing => break passed?,
                    _ = told.changed() => {}
                }
            }
            let mut inner = self.shared.lock();
            inner.progress = None;
            Ok(ResolvedImage { id: inner.image.clone(), source: ImageSource::Local })
        }
        .boxed()
    }

    fn bring_image<'a>(
        &'a self,
        cage: &'a Cage,
        _: Anew,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ResolvedImage, Problem>> {
        self.resolve_image(cage, progress)
    }

    fn find_image<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<StoredImage>, Problem>> {
        let id = self.shared.lock().image.clone();
        let image = StoredImage { id, references: vec!["scripted".to_owned()], bytes: 1, created: None };
        async move { Ok(Some(image)) }.boxed()
    }

    fn made_images(&self) -> BoxFuture<'_, Result<Vec<StoredImage>, Problem>> {
        // Its one image is nobody's making.
        async { Ok(Vec::new()) }.boxed()
    }

    fn remove_image<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Problem>> {
        async move { Err(Problem::new(Code::EngineRefused, format!("{id} was not made by this brig"))) }.boxed()
    }

    fn arm<'a>(&'a self, id: &'a SandboxId, _: Arc<SandboxSpec>) -> BoxFuture<'a, Result<ArmedSandbox, Problem>> {
        async move {
            self.shared.pass(Call::Arm).await?;
            Ok(self.shared.make(id))
        }
        .boxed()
    }

    fn usage<'a>(&'a self, _: &'a str) -> BoxStream<'a, Usage> {
        let tick = |count: u64| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Usage { cpu_us: count, ..Usage::default() }, count + 1))
        };
        stream::unfold(1, tick).boxed()
    }

    fn kill<'a>(&'a self, engine_id: &'a str) -> BoxFuture<'a, Result<(), Problem>> {
        async move {
            self.shared.pass(Call::Kill).await?;
            let mut inner = self.shared.lock();
            inner.killed.push(engine_id.to_owned());
            if inner.pretends {
                return Ok(());
            }
            inner.planted.retain(|it| it.engine_id != engine_id);
            drop(inner);
            self.shared.end(engine_id);
            Ok(())
        }
        .boxed()
    }

    fn sightings(&self) -> BoxFuture<'_, Result<Vec<Sighting>, Problem>> {
        async {
            self.shared.pass(Call::Sightings).await?;
            let inner = self.shared.lock();
            let own = inner.alive.iter().map(|(engine_id, alive)| Sighting {
                engine_id: engine_id.clone(),
                sandbox: Some(alive.sandbox.clone()),
                owner: Some(self.shared.owner),
                host: self.shared.host.clone(),
            });
            Ok(own.chain(inner.planted.iter().cloned()).collect())
        }
        .boxed()
    }

    fn events(&self) -> BoxStream<'_, Result<EngineEvent, Problem>> {
        let (listener, events) = mpsc::channel(EVENTS);
        self.shared.lock().listeners.push(listener);
        stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) }).boxed()
    }
}

impl Shared {
    /// Fails, waits or hangs as a call was told to.
    async fn pass(&self, call: Call) -> Result<(), Problem> {
        let mut told = self.told.subscribe();
        let delay = {
            let mut inner = self.lock();
            let meddling = inner.meddling.entry(call).or_default();
            meddling.count += 1;
            meddling.delay
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        loop {
            {
                let mut inner = self.lock();
                let meddling = inner.meddling.entry(call).or_default();
                if !meddling.held {
                    let problem = meddling.failing.clone();
                    return problem.map_or(Ok(()), Err);
                }
            }
            if told.changed().await.is_err() {
                return Err(Problem::new(Code::EngineUnreachable, "the scripted engine is gone"));
            }
        }
    }

    async fn pass_gate(&self, gate: &'static str) {
        let mut told = self.told.subscribe();
        // The engine cannot go while this borrows it, so the wait ends with the gate's opening alone.
        let _ = told.wait_for(|_| self.lock().open_gates.contains(gate)).await;
    }

    fn make(self: &Arc<Self>, id: &SandboxId) -> ArmedSandbox {
        let (stdin, owners_end) = tokio::io::duplex(PIPE_BYTES);
        let (output, pieces) = mpsc::channel::<Piece>(AHEAD);
        let (kill, killed) = watch::channel(false);
        let (engine_id, deaf) = {
            let mut inner = self.lock();
            inner.next += 1;
            let engine_id = format!("scripted-{:04}", inner.next);
            inner.alive.insert(engine_id.clone(), Alive { sandbox: id.clone(), killed: kill });
            (engine_id, inner.deaf)
        };
        let alive = Arc::new(AtomicBool::new(true));
        let (meter, shared) = (FixedMeter { alive: Arc::clone(&alive) }, Arc::clone(self));
        tokio::spawn(Sandbox { engine_id: engine_id.clone(), stdin, output, killed, deaf, alive, shared }.live());
        ArmedSandbox {
            engine_id,
            stdin: Box::pin(owners_end),
            output: stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) }).boxed(),
            meter: Some(Box::new(meter)),
        }
    }

    fn script_for(&self, served: &Served) -> Script {
        let program = served.steps.first().and_then(|argv| argv.first()).map(|it| String::from_utf8_lossy(it));
        self.lock().scripts.get(program.unwrap_or_default().as_ref()).cloned().unwrap_or_default()
    }

    fn end(&self, engine_id: &str) {
        if let Some(alive) = self.lock().alive.get(engine_id) {
            alive.killed.send_replace(true);
        }
    }

    fn emit(&self, event: EngineEvent) {
        // Who has gone, or no longer reads, is forgotten and sees the end of the stream.
        self.lock().listeners.retain(|listener| listener.try_send(Ok(event.clone())).is_ok());
    }

    fn tell(&self) {
        self.told.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
