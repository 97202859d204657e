//! An engine of a test's own on the real daemon, and the end of everything it made.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use brig::engine::docker::{DockerEngine, DockerSettings};
use brig::engine::{ArmedSandbox, Engine, Owner};
use brig_core::id::SandboxId;
use brig_core::problem::Problem;
use brig_core::profile::{Cage, Interpreter, Network, ResolvedImage, SandboxSpec};
use brig_core::proposal::OutputStream;
use brig_init::wire::{Fence, FenceFinder, Found, Request, Step, Stream, Trailer};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

/// Longer than anything here takes on a machine that is busy with other things.
pub const BOUND: Duration = Duration::from_secs(60);

/// An installation that exists for one test. What it made is removed with it.
pub struct Bed {
    pub engine: DockerEngine,
    pub install: String,
    pub docker: Docker,
    next: AtomicU32,
}

impl Bed {
    pub fn new() -> Self {
        static BEDS: AtomicU32 = AtomicU32::new(0);
        let bed = BEDS.fetch_add(1, Ordering::Relaxed);
        let install = format!("test-{}-{bed}", std::process::id());
        let engine = DockerEngine::connect(settings(&install, None)).unwrap();
        Self { engine, install, docker: daemon(), next: AtomicU32::new(0) }
    }

    /// A second supervisor of the same installation.
    pub fn sibling(&self) -> DockerEngine {
        DockerEngine::connect(settings(&self.install, None)).unwrap()
    }

    pub fn id(&self) -> SandboxId {
        SandboxId(format!("t{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// The specification of a cage, with its image resolved.
    pub async fn spec(&self, cage: Cage) -> Arc<SandboxSpec> {
        let is_shared = cage.image == self::cage().image;
        let image = if is_shared {
            self.image().await
        } else {
            self.engine.resolve_image(&cage, &|_| ()).await.expect("the image of the cage")
        };
        let engine_fingerprint = self.engine.fingerprint();
        Arc::new(SandboxSpec { profile: "tests".to_owned(), cage, image, engine_fingerprint })
    }

    /// Made of this machine's userland, once for all tests, as no registry is wanted for testing.
    pub async fn image(&self) -> ResolvedImage {
        static IMAGE: OnceLock<ResolvedImage> = OnceLock::new();
        if let Some(image) = IMAGE.get() {
            return image.clone();
        }
        let image = self.engine.resolve_image(&cage(), &|_| ()).await.expect("the image of the tests");
        IMAGE.get_or_init(|| image).clone()
    }

    pub async fn arm(&self, cage: Cage) -> ArmedSandbox {
        self.try_arm(cage).await.expect("an armed sandbox")
    }

    pub async fn try_arm(&self, cage: Cage) -> Result<ArmedSandbox, Problem> {
        let spec = self.spec(cage).await;
        self.engine.arm(&self.id(), spec).await
    }

    /// Identifiers of this installation's containers, whatever their state.
    pub async fn containers(&self) -> Vec<String> {
        containers(&self.docker, &self.install).await
    }

    /// Waits until none of this installation's containers is left, and says how long that took.
    pub async fn gone(&self, bound: Duration) -> Duration {
        let begun = Instant::now();
        until("the sandboxes are gone", bound, async || self.containers().await.is_empty()).await;
        begun.elapsed()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let install = self.install.clone();
        // The test's runtime may be in the middle of a panic: the cleaning has one of its own.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clean(&install));
        });
        if cleaned.join().is_err() && !std::thread::panicking() {
            panic!("something of {} is left", self.install);
        }
    }
}

async fn clean(install: &str) {
    let docker = daemon();
    let begun = Instant::now();
    until("everything is removed", BOUND, async || {
        for container in containers(&docker, install).await {
            // Most end and are removed by themselves, as their owner is gone; force at that moment confuses the daemon.
            if begun.elapsed() < Duration::from_secs(5) {
                break;
            }
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let _ = docker.remove_container(&container, Some(options)).await;
        }
        let volumes = volumes(&docker, install).await;
        for volume in &volumes {
            let _ = docker.remove_volume(volume, Some(RemoveVolumeOptionsBuilder::new().build())).await;
        }
        volumes.is_empty() && containers(&docker, install).await.is_empty()
    })
    .await;
    remove_built(&docker, install).await;
}

/// Removes the images that were built. Those of the machine's own programs are every test's.
pub async fn remove_built(docker: &Docker, install: &str) {
    let filters = HashMap::from([("label", vec![format!("brig.image={install}"), "brig.build".to_owned()])]);
    until("the images that were built are removed", BOUND, async || {
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = docker.list_images(Some(options)).await.unwrap_or_default();
        for image in &images {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let _ = docker.remove_image(&image.id, Some(options), None).await;
        }
        images.is_empty()
    })
    .await;
}

pub fn settings(install: &str, address: Option<&str>) -> DockerSettings {
    DockerSettings {
        install: install.to_owned(),
        files: std::env::temp_dir(),
        host: "test-host".to_owned(),
        owner: Owner { pid: std::process::id(), started: 42 },
        address: address.map(str::to_owned),
        context: None,
        tls: None,
    }
}

/// The daemon, as the engine finds it. Without one, the tests fail.
pub fn daemon() -> Docker {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => Docker::connect_with_host(&host),
        Err(_) => Docker::connect_with_unix("unix:///var/run/docker.sock", 120, bollard::API_DEFAULT_VERSION),
    }
    .expect("these tests need a Docker daemon")
}

pub async fn containers(docker: &Docker, install: &str) -> Vec<String> {
    let options = ListContainersOptionsBuilder::new().all(true).filters(&ours(install)).build();
    let listed = docker.list_containers(Some(options)).await.expect("these tests need a Docker daemon");
    let mut ids = Vec::new();
    for container in listed {
        let id = container.id.unwrap();
        // Docker 20.10 can keep a container that is gone in its list for ever, as being removed.
        let is_removing = container.state == Some(ContainerSummaryStateEnum::REMOVING);
        let is_ghost = is_removing && docker.inspect_container(&id, None::<InspectContainerOptions>).await.is_err();
        if !is_ghost {
            ids.push(id);
        }
    }
    ids
}

pub async fn volumes(docker: &Docker, install: &str) -> Vec<String> {
    let options = ListVolumesOptionsBuilder::new().filters(&ours(install)).build();
    let listed = docker.list_volumes(Some(options)).await.expect("these tests need a Docker daemon");
    listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect()
}

fn ours(install: &str) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![format!("brig.install={install}")])])
}

/// A name that no registry has, so that the userland of this machine is used.
pub fn cage() -> Cage {
    Cage {
        image: "brig.invalid/tests:1".to_owned(),
        build: None,
        userland_fallback: true,
        user: "65534:65534".to_owned(),
        working_dir: "/sandbox".to_owned(),
        environment: BTreeMap::new(),
        memory: 128 << 20,
        milli_cpus: 0,
        cpu_shares: 512,
        pids: 64,
        ulimits: BTreeMap::new(),
        network: Network::None,
        runtime: None,
        scratch_size: 16 << 20,
        secrets: BTreeMap::new(),
        volumes: Vec::new(),
        interpreters: BTreeMap::from([(
            "python".to_owned(),
            Interpreter { command: vec!["python3".to_owned(), "-I".to_owned()], prewarm: false },
        )]),
        scratch_exec: true,
    }
}

/// Waits for a condition, looking often, and fails after `bound` with its name.
pub async fn until(name: &str, bound: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < bound, "not within {bound:?}: {name}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a run wrote, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub trailer: Trailer,
    pub took: Duration,
}

pub const NONCE: [u8; 32] = *b"a nonce that is only for testing";

/// The request to run `argv`.
pub fn request(argv: &[&str], stdin: &[u8], deadline_ms: u64) -> Vec<u8> {
    let step = Step {
        argv: argv.iter().map(|argument| argument.as_bytes()).collect(),
        env: vec![(b"PATH", b"/usr/local/bin:/usr/bin"), (b"HOME", b"/sandbox")],
        cwd: b"/sandbox",
        code: None,
    };
    let request = Request {
        nonce: NONCE,
        deadline_ms,
        keep_going: false,
        rlimits: vec![],
        steps: vec![step],
        marks: vec![],
        files: vec![],
        stdin,
    };
    request.encode().unwrap()
}

/// Runs `argv` to both fences.
pub async fn run(sandbox: &mut ArmedSandbox, argv: &[&str], stdin: &[u8]) -> Ran {
    send(sandbox, &request(argv, stdin, 50_000)).await
}

/// Sends a request, and waits for both fences.
pub async fn send(sandbox: &mut ArmedSandbox, request: &[u8]) -> Ran {
    let begun = Instant::now();
    sandbox.stdin.write_all(request).await.unwrap();
    sandbox.stdin.flush().await.unwrap();
    let running = fences(sandbox);
    let (stdout, stderr, trailer) = tokio::time::timeout(BOUND, running).await.expect("an end within the bound");
    Ran { stdout, stderr, trailer, took: begun.elapsed() }
}

async fn fences(sandbox: &mut ArmedSandbox) -> (String, String, Trailer) {
    let mut finders = [FenceFinder::new(NONCE, Stream::Stdout), FenceFinder::new(NONCE, Stream::Stderr)];
    let mut texts = [Vec::new(), Vec::new()];
    let mut trailer = None;
    while !finders.iter().all(FenceFinder::is_over) {
        let (stream, bytes) = sandbox.output.next().await.expect("both fences before the end").expect("output");
        let at = usize::from(stream == OutputStream::Stderr);
        let scan = finders[at].push(&bytes);
        for piece in scan.output {
            texts[at].extend_from_slice(piece);
        }
        if let Some(Found::Fence(fence)) = scan.found
            && let Fence::Stderr(found) = fence.expect("a fence of this version")
        {
            trailer = Some(found);
        }
    }
    let [stdout, stderr] = texts.map(|text| String::from_utf8(text).unwrap());
    (stdout, stderr, trailer.expect("a trailer"))
}
