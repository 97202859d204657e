//! The headless part that owns everything: `brig serve`.
//!
//! ```text
//!   agents ──► agent.sock ──┐                       ┌──► recorder ──► journal
//!                           ├─► mailbox ─► core ────┼──► keeper ────► engine      (one keeper a sandbox)
//! consoles ─► operator.sock ┘    ▲   (owns State)   └──► images ────► engine
//!                                └──── watcher, keepers, recorder: what happened
//! ```
//!
//! [`core`] is the only one that changes the state, and it never waits for anybody. Everyone else has a [`message::Mailbox`].

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use brig_core::id::ProposalId;
use brig_core::journal::Entry;
use brig_core::machine::{Config, State};
use brig_core::policy::Trust;
use brig_core::problem::{Code, Problem};
use brig_core::profile::Profile;
use brig_core::proposal::OutputSummary;
use brig_core::time::Wall;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::config::settings::{EngineSettings, TlsSettings};
use crate::config::{self, Places, Settings};
use crate::engine::docker::{DockerEngine, DockerSettings, TlsFiles};
use crate::engine::{Engine, Owner};
use crate::journal::{Journal, Reader, Recorded, Recovered};

mod clock;
mod core;
mod images;
mod keeper;
pub mod message;
pub mod meters;
pub mod outputs;
pub mod process;
mod recorder;
mod secrets;
pub mod sockets;
mod statistics;
mod transcript;
pub mod view;
pub mod watcher;

use self::clock::Clock;
use self::core::{Core, Identity};
use self::keeper::Tools;
use self::message::{Mailbox, Message};
use self::meters::Meters;
use self::outputs::Outputs;
use self::recorder::Recorder;
use self::sockets::{Access, Servers, Services};
use self::statistics::Statistics;

/// How long clients that are being answered may take to read that when the supervisor ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What a supervisor is started with.
pub struct Options {
    /// Where its files are.
    pub places: Places,
    /// `brig.toml`.
    pub settings: Settings,
    /// It ends with its last console.
    pub with_consoles: bool,
}

/// Where a supervisor that is ready is to be found.
pub struct Ready {
    /// For those who propose.
    pub agent_socket: PathBuf,
    /// For those who decide.
    pub operator_socket: PathBuf,
}

/// Runs a supervisor on Docker until it is told to end.
///
/// # Errors
/// What keeps it from starting: another supervisor on the same state, a journal or settings that cannot be read, sockets
/// that cannot be made. A daemon that is away is no such thing: it is waited for.
pub async fn serve(options: Options, ready: impl FnOnce(&Ready)) -> Result<(), Problem> {
    options.places.prepare()?;
    let lock = lock_state(&options.places)?;
    let owner = process::me()?;
    let settings = docker_settings(&options.places, &options.settings, options.places.install_id()?, owner);
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(settings)?);
    let served = serve_with(options, engine, owner, ready).await;
    drop(lock);
    served
}

/// What the Docker engine is told of an installation and its settings.
#[must_use]
pub fn docker_settings(places: &Places, settings: &Settings, install: String, owner: Owner) -> DockerSettings {
    let EngineSettings { address, context, tls } = settings.engine.clone();
    let tls = tls.map(|TlsSettings { ca, cert, key }| TlsFiles { ca, cert, key });
    let files = places.state_dir().to_owned();
    DockerSettings { install, files, host: process::host(), owner, address, context, tls }
}

/// Runs a supervisor on any engine. The caller holds the state directory's lock.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    options: Options,
    engine: Arc<dyn Engine>,
    owner: Owner,
    ready: impl FnOnce(&Ready),
) -> Result<(), Problem> {
    let Options { places, settings, with_consoles } = options;
    let profiles = config::profiles::load(&places, &settings)?;
    let (journal, recovered) = Journal::open(&places.journal())?;
    let started = Entry::Started { version: env!("CARGO_PKG_VERSION").to_owned(), pid: owner.pid };
    journal.record(vec![(clock::wall(), started)]).await?;
    journal.retain(settings.retention)?;
    let token = new_token()?;

    let (mailbox, inbox) = Mailbox::new();
    let (outputs, meters, consoles) = (Outputs::default(), Meters::default(), Arc::new(AtomicU32::new(0)));
    let services = Services {
        mailbox: mailbox.clone(),
        outputs: outputs.clone(),
        journal: journal.reader(),
        meters: meters.clone(),
        consoles: Arc::clone(&consoles),
        engine: Arc::clone(&engine),
        access: Arc::new(Access {
            uid: process::uid(),
            operator_token: token.clone(),
            agent_tokens: settings.agent_tokens.clone(),
        }),
    };
    // The sockets before the token: where another supervisor listens, its token must stay.
    let servers = Servers::bind(&places.agent_socket(), &places.operator_socket(), services)?;
    let traces = Traces([places.agent_socket(), places.operator_socket(), places.operator_token()]);
    write_token(&places.operator_token(), &token)?;

    let clock = Clock::start();
    let statistics = Statistics::new(journal.reader().statistics().await?, clock);
    let kept = kept_outputs(&recovered, &journal.reader()).await?;
    let (state, effects) = restored(&settings, profiles.clone(), recovered, &kept, &*engine, clock)?;
    let identity =
        Identity { owner, host: process::hostname(), started_at: clock::wall(), ends_with_consoles: with_consoles };
    let tools = Tools {
        engine: Arc::clone(&engine),
        journal: journal.clone(),
        outputs,
        meters: meters.clone(),
        mailbox: mailbox.clone(),
        statistics: statistics.clone(),
    };
    let recorder = Recorder::start(journal.clone(), mailbox.clone());
    let core = Core::new(state, clock, identity, inbox, tools, recorder);
    let came = Arc::new(Notify::new());
    let watchers = [
        tokio::spawn(watcher::engine(Arc::clone(&engine), mailbox.clone(), Arc::clone(&came))),
        tokio::spawn(watcher::reap(Arc::clone(&engine), mailbox.clone(), came, owner, process::host())),
        tokio::spawn(watcher::sample(engine, meters, mailbox.clone(), consoles)),
        tokio::spawn(watcher::disk(journal.usage(), mailbox.clone())),
        tokio::spawn(watcher::profiles(places.clone(), settings, profiles, journal.clone(), mailbox.clone())),
        tokio::spawn(statistics.clone().keep_now_and_then(journal.clone())),
        tokio::spawn(end_on_signals(mailbox)?),
    ];
    let (end_serving, ending) = tokio::sync::oneshot::channel();
    let mut serving = tokio::spawn(servers.serve(ending));
    ready(&Ready { agent_socket: places.agent_socket(), operator_socket: places.operator_socket() });
    core.run(effects).await;

    for watcher in watchers {
        watcher.abort();
    }
    // Everyone is told how it ended before the process is gone, if they listen.
    drop(end_serving);
    if tokio::time::timeout(LAST_ANSWERS, &mut serving).await.is_err() {
        serving.abort();
    }
    drop(traces);
    statistics.keep(&journal).await;
    let stopped = journal.record(vec![(clock::wall(), Entry::Stopped {})]).await;
    journal.close().await;
    stopped
}

/// The state, with what the journal knew.
fn restored(
    settings: &Settings,
    profiles: Vec<Profile>,
    recovered: Recovered,
    kept: &BTreeMap<ProposalId, OutputSummary>,
    engine: &dyn Engine,
    clock: Clock,
) -> Result<(State, Vec<brig_core::machine::Effect>), Problem> {
    let config = Config {
        default_profile: settings.default_profile.clone(),
        queue_limit: usize::try_from(settings.queue_limit).unwrap_or(usize::MAX),
        creators: settings.pool_creators,
        trust: Trust { allow_own_user: settings.allow_own_user },
        boot: boot_name()?,
        engine_fingerprint: engine.fingerprint(),
    };
    let mut state = State::new(config, profiles);
    let entries =
        |recorded: Vec<Recorded>| -> Vec<(Wall, Entry)> { recorded.into_iter().map(|it| (it.at, it.entry)).collect() };
    let known: Vec<_> = recovered.recent.into_iter().chain(recovered.open).map(entries).collect();
    let effects = state.restore(&known, kept, recovered.keys, clock.now());
    Ok((state, effects))
}

/// What is kept of the output of runs that the supervisor before did not see the end of.
async fn kept_outputs(recovered: &Recovered, journal: &Reader) -> Result<BTreeMap<ProposalId, OutputSummary>, Problem> {
    let mut kept = BTreeMap::new();
    for id in recovered.open.iter().flatten().filter_map(|recorded| match &recorded.entry {
        // Not those whose launch is recorded: that is recorded beside, and may have failed where output did not.
        Entry::Decided { id, .. } => Some(id),
        _ => None,
    }) {
        kept.insert(id.clone(), journal.output_summary(id).await?);
    }
    Ok(kept)
}

/// Four letters that tell the sandboxes of this start from those of others.
fn boot_name() -> Result<String, Problem> {
    Ok(crate::api::new_id()?.0.chars().take(4).collect())
}

/// Holds the state directory for as long as the file is open.
fn lock_state(places: &Places) -> Result<File, Problem> {
    let path = places.lock();
    let failed =
        |error: &dyn std::fmt::Display| Problem::new(Code::LocalIo, format!("cannot lock {}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {
            // For people who look into the file; the lock itself is what counts.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            Err(Problem::new(
                Code::AlreadyRunning,
                format!("a supervisor (process {}) already uses {}", holder.trim(), places.state_dir().display()),
            )
            .help("use it, end it with `brig stop`, or set BRIG_STATE_DIR and BRIG_RUNTIME_DIR for another one"))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// A token: who has it, and is the right user, may decide.
fn new_token() -> Result<String, Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new(Code::Internal, format!("the system has no randomness: {error}")))?;
    Ok(brig_core::profile::Hash(bytes).hex())
}

/// Writes the token where only this user can read it.
fn write_token(path: &Path, token: &str) -> Result<(), Problem> {
    let failed = |error| Problem::new(Code::LocalIo, format!("cannot make {}: {error}", path.display()));
    // One that an earlier supervisor has left, if any.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(token.as_bytes()).map_err(failed)
}

/// Files that are there while a supervisor is.
struct Traces([PathBuf; 3]);

impl Drop for Traces {
    fn drop(&mut self) {
        for left in &self.0 {
            // It is ours, as the lock is; that it is gone already is as good.
            let _ = std::fs::remove_file(left);
        }
    }
}

/// Ends the supervisor in good order when it is told to by a signal.
fn end_on_signals(mailbox: Mailbox) -> Result<impl Future<Output = ()> + Send, Problem> {
    let listen =
        |kind| signal(kind).map_err(|error| Problem::new(Code::LocalIo, format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt, mut hangup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        mailbox.send(Message::Event(brig_core::machine::Event::Shutdown)).await;
    })
}
