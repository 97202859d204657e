//! Tasks that look: at the engine, at what was left over, at what is used, and at the profiles' files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use brig_core::machine::Event;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Build, Hash, Profile};
use brig_core::retention::Usage;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep, timeout};

use super::message::{Mailbox, Message};
use super::meters::Meters;
use super::process;
use crate::config::{self, Places, Settings};
use crate::context;
use crate::engine::{Engine, Owner, Sighting};
use crate::journal::Journal;

/// How long the engine is left alone after it was away, at first and at most.
const ENGINE_PAUSE: Duration = Duration::from_millis(250);
const ENGINE_LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often an engine that says nothing is asked whether it is still there.
const ENGINE_PULSE: Duration = Duration::from_secs(10);
/// How often leftovers are looked for, and how soon the first two looks follow each other.
const REAP_EVERY: Duration = Duration::from_secs(30);
const REAP_SOON: Duration = Duration::from_secs(2);
/// How often usage is read while a console is open.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How often the profiles' files are looked at.
const CONFIG_EVERY: Duration = Duration::from_secs(2);

/// Watches the engine for ever: tells when it comes, what it tells, and when it goes.
pub async fn engine(engine: Arc<dyn Engine>, mailbox: Mailbox, came: Arc<Notify>) {
    let mut pause = ENGINE_PAUSE;
    let mut logged = None;
    loop {
        let problem = match engine.info().await {
            Ok(info) => {
                (pause, logged) = (ENGINE_PAUSE, None);
                mailbox.send(Message::EngineUp(info)).await;
                came.notify_one();
                listen(&*engine, &mailbox).await
            }
            Err(problem) => problem,
        };
        // Once for each reason: it is tried for as long as it takes.
        if logged.as_ref() != Some(&problem) {
            tracing::warn!("engine: {problem}");
            logged = Some(problem.clone());
        }
        mailbox.event(Event::EngineDown { problem }).await;
        sleep(pause).await;
        pause = (pause * 2).min(ENGINE_LONGEST_PAUSE);
    }
}

/// Passes on what the engine tells, until it is lost.
async fn listen(engine: &dyn Engine, mailbox: &Mailbox) -> Problem {
    let mut events = engine.events();
    loop {
        match timeout(ENGINE_PULSE, events.next()).await {
            Ok(Some(Ok(event))) => mailbox.send(Message::Engine(event)).await,
            Ok(Some(Err(problem))) => return problem,
            Ok(None) => return Problem::new(Code::EngineUnreachable, "the engine's events have ended"),
            Err(_) => {
                if let Err(problem) = engine.info().await {
                    return problem;
                }
            }
        }
    }
}

/// Removes what carries our labels and belongs to nobody who lives. Something is removed when it was seen twice: what is
/// being made or removed right now is seen once.
pub async fn reap(engine: Arc<dyn Engine>, mailbox: Mailbox, came: Arc<Notify>, me: Owner, host: String) {
    let mut suspects: HashSet<String> = HashSet::new();
    let mut pause = REAP_SOON;
    loop {
        if let Ok(sightings) = engine.sightings().await {
            let leftovers = leftovers(sightings, &mailbox, me, &host).await;
            let (again, new): (Vec<_>, Vec<_>) = leftovers.into_iter().partition(|id| suspects.contains(id));
            for id in again {
                match engine.kill(&id).await {
                    Ok(()) => tracing::info!("removed {id}, which an earlier supervisor has left"),
                    Err(problem) => tracing::warn!("cannot remove {id}, which is left over: {problem}"),
                }
            }
            suspects = new.into_iter().collect();
        }
        // An engine that comes back may have what it could not be told to remove.
        let came_back = timeout(pause, came.notified()).await.is_ok();
        pause = if suspects.is_empty() && !came_back { REAP_EVERY } else { REAP_SOON };
    }
}

async fn leftovers(sightings: Vec<Sighting>, mailbox: &Mailbox, me: Owner, host: &str) -> Vec<String> {
    let (reply, unknown) = tokio::sync::oneshot::channel();
    mailbox.send(Message::Unknown(sightings, reply)).await;
    let Ok(unknown) = unknown.await else { return Vec::new() };
    let is_left = |it: &Sighting| match it.owner {
        // Whose process identifiers mean nothing here is not ours to judge.
        _ if it.host != host => false,
        Some(owner) => owner == me || !process::is_alive(owner),
        None => false,
    };
    unknown.into_iter().filter(is_left).map(|it| it.engine_id).collect()
}

/// Reads what sandboxes use, while anybody looks.
pub async fn sample(engine: Arc<dyn Engine>, meters: Meters, mailbox: Mailbox, consoles: Arc<AtomicU32>) {
    let mut ticks = interval(SAMPLE_EVERY);
    loop {
        ticks.tick().await;
        let looks = consoles.load(Ordering::Relaxed) > 0;
        meters.listen(&engine, looks);
        if looks {
            read_usage(&meters, &mailbox).await;
        }
    }
}

/// Reads what all sandboxes use, once, and tells the state's task.
pub async fn read_usage(meters: &Meters, mailbox: &Mailbox) {
    let meters = meters.clone();
    if let Ok(usage) = tokio::task::spawn_blocking(move || meters.read()).await {
        mailbox.send(Message::Usage(usage)).await;
    }
}

/// Tells what the journal takes, whenever that has changed.
pub async fn disk(mut usage: watch::Receiver<Option<(Usage, Option<Problem>)>>, mailbox: Mailbox) {
    while usage.changed().await.is_ok() {
        let seen = usage.borrow_and_update().clone();
        if let Some((usage, problem)) = seen {
            mailbox.send(Message::Disk(usage, problem)).await;
        }
    }
}

/// Reads the profiles and how much is kept anew whenever one of their files has changed, or one of those that images are
/// built from. What is wrong keeps what was. The other settings hold from the start on.
pub async fn profiles(places: Places, settings: Settings, profiles: Vec<Profile>, journal: Journal, mailbox: Mailbox) {
    let mut retention = settings.retention;
    let mut builds = builds_of(&profiles);
    let mut seen = look(&places, &builds).await;
    loop {
        sleep(CONFIG_EVERY).await;
        let now = look(&places, &builds).await;
        if now == seen {
            continue;
        }
        seen = now;
        let (reading, with) = (places.clone(), settings.clone());
        let read = move || Ok((Settings::load(&reading)?, config::profiles::load(&reading, &with)?));
        let Ok(loaded) = spawn_blocking(read).await else { continue };
        match loaded {
            Ok((new, profiles)) => {
                if new.retention != retention && journal.retain(new.retention).is_ok() {
                    retention = new.retention;
                    tracing::info!("what is kept has new limits");
                }
                tracing::info!("profiles were read anew");
                let now = builds_of(&profiles);
                if now != builds {
                    builds = now;
                    seen = look(&places, &builds).await;
                }
                mailbox.send(Message::ConfigProblem(None)).await;
                mailbox.event(Event::Profiles { profiles }).await;
            }
            Err(problem) => {
                tracing::warn!("profiles: {problem}");
                mailbox.send(Message::ConfigProblem(Some(problem))).await;
            }
        }
    }
}

fn builds_of(profiles: &[Profile]) -> Vec<Build> {
    profiles.iter().filter_map(|profile| profile.cage.build.clone()).collect()
}

/// What can be seen of the files without reading them.
async fn look(places: &Places, builds: &[Build]) -> (Fingerprint, Vec<Option<Hash>>) {
    let (places, builds) = (places.clone(), builds.to_vec());
    let looking = spawn_blocking(move || (fingerprint(&places), builds.iter().map(context::glance).collect()));
    looking.await.unwrap_or_default()
}

type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

fn fingerprint(places: &Places) -> Fingerprint {
    let profiles = std::fs::read_dir(places.profiles_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Fingerprint = profiles
        .chain([places.brig_toml()])
        .filter_map(|path| {
            let facts = std::fs::metadata(&path).ok()?;
            Some((path, facts.modified().ok(), facts.len()))
        })
        .collect();
    files.sort();
    files
}
