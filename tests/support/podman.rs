//! A Podman of a test's own: its service, its storage, its containers. All of it ends with the test.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use brig::engine::docker::{DockerEngine, DockerSettings};
use brig::engine::{ArmedSandbox, Engine as _};
use brig_core::id::SandboxId;
use brig_core::problem::Problem;
use brig_core::profile::{Cage, SandboxSpec};
use tempfile::TempDir;

use super::docker::{settings, until};

/// The service. Without a `podman` of Debian's and `runc`, the tests fail.
pub struct Podman {
    dir: TempDir,
    service: Child,
}

impl Podman {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("brig-podman-").tempdir_in("/tmp").unwrap();
        let mut command = podman(&dir);
        command.args(["system", "service", "--time", "0"]).arg(format!("unix://{}", socket(&dir).display()));
        let log = File::create(dir.path().join("log")).unwrap();
        let service = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let podman = Self { service: service.expect("these tests need podman and runc"), dir };
        let begun = Instant::now();
        while UnixStream::connect(socket(&podman.dir)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "podman does not listen: {}", podman.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        podman
    }

    pub fn address(&self) -> String {
        format!("unix://{}", socket(&self.dir).display())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs a command of Podman's own, without the service, and gives back what it printed.
    pub fn says(&self, args: &[&str]) -> String {
        let said = podman(&self.dir).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(said.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// Identifiers of all containers, whatever their state.
    pub fn containers(&self) -> Vec<String> {
        self.says(&["ps", "--all", "--quiet", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// Waits until there is no container.
    pub async fn gone(&self, bound: Duration) -> Duration {
        let begun = Instant::now();
        until("the sandboxes are gone", bound, async || self.containers().is_empty()).await;
        begun.elapsed()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("podman said: {}", self.log());
        }
        for args in [["rm", "--all", "--force", "--time=0"].as_slice(), &["volume", "rm", "--all", "--force"]] {
            let _ = podman(&self.dir).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
        }
        let _ = self.service.kill();
        let _ = self.service.wait();
        // The storage mounts its own directory onto itself, and leaves it so; a test has mounted the other.
        // What tidies up after a container may still be at work, and is why it is tried again.
        let begun = Instant::now();
        loop {
            for mounted in ["root/overlay", "data/below"] {
                let _ = Command::new("umount").arg(self.path(mounted)).stderr(Stdio::null()).status();
            }
            let removed = std::fs::remove_dir_all(self.dir.path());
            if removed.is_ok() || !self.dir.path().exists() || begun.elapsed() > Duration::from_secs(10) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("podman.sock")
}

/// `crun`, which Debian's Podman takes by itself, does not start where both versions of control groups are mounted.
fn podman(dir: &TempDir) -> Command {
    let mut command = Command::new("podman");
    for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        command.arg(option).arg(dir.path().join(name));
    }
    command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
    command.args(["--storage-driver", "overlay"]);
    command
}

/// An engine on a Podman of its own.
pub struct Bed {
    pub engine: DockerEngine,
    pub podman: Podman,
    next: AtomicU32,
}

impl Bed {
    pub fn new() -> Self {
        let podman = Podman::start();
        let engine = engine_on(&podman);
        Self { engine, podman, next: AtomicU32::new(0) }
    }

    pub fn id(&self) -> SandboxId {
        SandboxId(format!("t{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    pub async fn try_arm(&self, cage: Cage) -> Result<ArmedSandbox, Problem> {
        let image = self.engine.resolve_image(&cage, &|_| ()).await.expect("the image of the cage");
        let engine_fingerprint = self.engine.fingerprint();
        let spec = SandboxSpec { profile: "tests".to_owned(), cage, image, engine_fingerprint };
        self.engine.arm(&self.id(), Arc::new(spec)).await
    }

    pub async fn arm(&self, cage: Cage) -> ArmedSandbox {
        self.try_arm(cage).await.expect("an armed sandbox")
    }
}

fn engine_on(podman: &Podman) -> DockerEngine {
    let files = podman.path("files");
    std::fs::create_dir_all(&files).unwrap();
    DockerEngine::connect(DockerSettings { files, ..settings("test", Some(&podman.address())) }).unwrap()
}
