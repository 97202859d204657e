//! Sandboxes as containers of a Docker daemon.
//!
//! The reader's path: [`create`] says what a sandbox is, [`arm`] brings one up, [`end`] takes one down. [`link`] is
//! the connection and [`failure`] what can go wrong with it. Nothing outside this folder names a type of the client
//! library, and nothing in it decides anything: it does what it is asked and reports what it sees.

mod address;
mod arm;
mod attach;
mod build;
mod contexts;
mod create;
mod credentials;
mod dial;
mod end;
mod examine;
mod failure;
mod images;
mod init_volume;
mod link;
mod locate;
mod meter;
mod podman;
mod seccomp;
mod ssh;
mod stats;
mod stock;
mod tls;
mod userland;
mod watch;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, Hash, ResolvedImage, SandboxSpec};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::sync::OnceCell;

use self::address::Address;
pub use self::address::TlsFiles;
pub use self::examine::{EngineFacts, ImageFound, Whereabouts};
use self::images::ImageFacts;
use self::link::Link;
use crate::sync::lock;

use super::{Anew, ArmedSandbox, Engine, EngineEvent, EngineInfo, Owner, Progress, Sighting, StoredImage, Usage};

/// Init, as it runs in every sandbox.
static INIT: &[u8] = include_bytes!(env!("BRIG_INIT_PATH"));
static INIT_HASH: LazyLock<Hash> = LazyLock::new(|| Hash::of(INIT));

/// Whose sandboxes these are, and where the daemon is.
#[derive(Clone, Debug)]
pub struct DockerSettings {
    /// Names the installation: the prefix of everything that is made, and what leftovers are recognized by. 1 to 32 of
    /// `a-z`, `0-9`, `-`.
    pub install: String,
    /// A directory of this user's alone, for files that a service on this machine reads.
    pub files: PathBuf,
    /// Names the host whose process identifiers `owner` speaks of.
    pub host: String,
    /// The supervisor.
    pub owner: Owner,
    /// The daemon's address as `DOCKER_HOST` spells it. Where neither this nor `context` is set, the daemon is found
    /// as the `docker` command finds it, and then Podman's usual sockets are looked at.
    pub address: Option<String>,
    /// The docker context that names the daemon.
    pub context: Option<String>,
    /// With these, `address` is encrypted.
    pub tls: Option<TlsFiles>,
}

/// Makes, watches and ends sandboxes on one Docker daemon. Cheap to clone.
#[derive(Clone)]
pub struct DockerEngine {
    shared: Arc<Shared>,
}

/// What all calls share.
struct Shared {
    settings: DockerSettings,
    address: Address,
    /// Who said that the daemon is there.
    origin: String,
    /// Empty until the daemon was reached for the first time.
    link: OnceCell<Link>,
    /// Whether init's volume was seen to hold init. Held while somebody looks.
    init_volume: tokio::sync::Mutex<bool>,
    /// What is known about images, by their identifier, which is their content.
    images: Mutex<HashMap<String, Arc<ImageFacts>>>,
    /// Sandboxes without a CPU quota: nothing to lift when they are killed.
    unthrottled: Mutex<HashSet<String>>,
    seccomp: String,
}

impl DockerEngine {
    /// Prepares an engine. No daemon is asked for anything yet: one that is away shows in [`Engine::info`].
    ///
    /// # Errors
    /// When the installation's name or the address is not of the right form, or brig has no system call table for this
    /// processor.
    pub fn connect(settings: DockerSettings) -> Result<Self, Problem> {
        check_install(&settings.install)?;
        let located = locate::locate(&settings, &|name| std::env::var(name).ok())?;
        let processor = std::env::consts::ARCH;
        let seccomp = seccomp::profile(processor).ok_or_else(|| {
            Problem::new(Code::Unsupported, format!("brig has no table of system calls for {processor}"))
                .help("x86_64 and aarch64 are what it was made for")
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                address: located.address,
                origin: located.origin,
                link: OnceCell::new(),
                init_volume: tokio::sync::Mutex::default(),
                images: Mutex::default(),
                unthrottled: Mutex::default(),
                seccomp: seccomp.to_string(),
            }),
        })
    }

    /// Removes the volumes with init that this installation has made, of this version and of older ones. Those that
    /// are in use stay, and no failure is reported: what stays is removed the next time.
    pub async fn remove_init_volume(&self) {
        if let Ok(link) = self.shared.link().await {
            init_volume::remove_all(&self.shared.settings, link, None).await;
        }
    }
}

impl Shared {
    /// The daemon, reached and checked at the first use that succeeds. Bounded as a whole: many may wait here for one
    /// after the other to find out that it does not answer.
    async fn link(&self) -> Result<&Link, Problem> {
        const LONGEST: Duration = Duration::from_secs(15);
        let reaching = self.link.get_or_try_init(|| Box::pin(Link::establish(&self.address)));
        match tokio::time::timeout(LONGEST, reaching).await {
            Ok(reached) => reached,
            Err(_) => Err(failure::too_late(&self.address, "reach the daemon", LONGEST)),
        }
    }
}

/// The stream up to its first problem, which ends it.
fn until_problem<T: Send + 'static>(
    stream: BoxStream<'static, Result<T, Problem>>,
) -> BoxStream<'static, Result<T, Problem>> {
    let step = |stream: Option<BoxStream<'static, Result<T, Problem>>>| async move {
        let mut stream = stream?;
        let item = stream.next().await?;
        let rest = item.is_ok().then_some(stream);
        Some((item, rest))
    };
    futures_util::stream::unfold(Some(stream), step).boxed()
}

fn check_install(install: &str) -> Result<(), Problem> {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if (1..=32).contains(&install.len()) && install.chars().all(fits) && !install.starts_with('-') {
        return Ok(());
    }
    Err(Problem::new(Code::Config, format!("`{install}` cannot name an installation"))
        .help("1 to 32 of a-z, 0-9 and -, beginning with a letter or a digit"))
}

impl Engine for DockerEngine {
    fn fingerprint(&self) -> String {
        let seccomp = Hash::of(self.shared.seccomp.as_bytes()).hex();
        format!("docker request {}, init {}, seccomp {seccomp}", create::REQUEST_VERSION, INIT_HASH.hex())
    }

    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, Problem>> {
        async move {
            if !self.shared.link.initialized() {
                return Ok(self.shared.link().await?.info.clone());
            }
            self.shared.link().await?.ask().await
        }
        .boxed()
    }

    fn resolve_image<'a>(
        &'a self,
        cage: &'a Cage,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ResolvedImage, Problem>> {
        images::resolve(&self.shared, cage, progress).boxed()
    }

    fn bring_image<'a>(
        &'a self,
        cage: &'a Cage,
        anew: Anew,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ResolvedImage, Problem>> {
        images::bring(&self.shared, cage, anew, progress).boxed()
    }

    fn find_image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<StoredImage>, Problem>> {
        async move { stock::find(self.shared.link().await?, reference).await }.boxed()
    }

    fn made_images(&self) -> BoxFuture<'_, Result<Vec<StoredImage>, Problem>> {
        async move { stock::made(self.shared.link().await?, &self.shared.settings.install).await }.boxed()
    }

    fn remove_image<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Problem>> {
        async move { stock::remove(self.shared.link().await?, &self.shared.settings.install, id).await }.boxed()
    }

    fn arm<'a>(&'a self, id: &'a SandboxId, spec: Arc<SandboxSpec>) -> BoxFuture<'a, Result<ArmedSandbox, Problem>> {
        arm::arm(&self.shared, id, spec).boxed()
    }

    fn usage<'a>(&'a self, engine_id: &'a str) -> BoxStream<'a, Usage> {
        stats::usage(&self.shared, engine_id)
    }

    fn kill<'a>(&'a self, engine_id: &'a str) -> BoxFuture<'a, Result<(), Problem>> {
        end::kill(&self.shared, engine_id).boxed()
    }

    fn sightings(&self) -> BoxFuture<'_, Result<Vec<Sighting>, Problem>> {
        watch::sightings(&self.shared).boxed()
    }

    fn events(&self) -> BoxStream<'_, Result<EngineEvent, Problem>> {
        watch::events(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(install: &str, address: &str) -> Result<DockerEngine, Problem> {
        DockerEngine::connect(DockerSettings {
            install: install.to_owned(),
            files: "/nowhere".into(),
            host: "here".to_owned(),
            owner: Owner { pid: 1, started: 1 },
            address: Some(address.to_owned()),
            context: None,
            tls: None,
        })
    }

    #[test]
    fn an_installation_has_a_name_that_a_container_can_have() {
        assert!(connect("home-1", "unix:///x").is_ok());
        for name in ["", "-a", "A", "a/b", "a b", &"a".repeat(33)] {
            assert_eq!(connect(name, "unix:///x").err().map(|problem| problem.code), Some(Code::Config), "{name}");
        }
    }

    #[tokio::test]
    async fn a_daemon_that_is_away_shows_when_it_is_asked() {
        let engine = connect("away", "unix:///nowhere/docker.sock").unwrap();
        let problem = engine.info().await.unwrap_err();
        assert_eq!(problem.code, Code::EngineUnreachable);
        assert!(problem.message.contains("/nowhere/docker.sock"), "{problem}");
        assert!(problem.help.contains("DOCKER_HOST"), "{problem}");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_first_problem_even_if_nothing_follows() {
        let problem = || Problem::new(Code::EngineUnreachable, "gone");
        let items = futures_util::stream::iter([Ok(1), Err(problem())]).chain(futures_util::stream::pending());
        let seen: Vec<_> = until_problem(items.boxed()).collect().await;
        assert_eq!(seen, [Ok(1), Err(problem())]);
    }

    #[test]
    fn the_fingerprint_names_init_and_does_not_change_by_itself() {
        let engine = connect("a", "unix:///x").unwrap();
        assert_eq!(engine.fingerprint(), connect("b", "tcp://y:1").unwrap().fingerprint());
        assert!(engine.fingerprint().contains(&INIT_HASH.hex()));
    }
}
