//! A registry of a test's own on loopback, which daemons trust without TLS, and a gate in front of it that can be shut.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::docker::{BOUND, daemon, until};

/// `ada:letmein`, as bcrypt.
const LOGIN: &str = "ada:$2y$05$abcdefghijklmnopqrstuuKwWV7ESJpzKzf9FQg57dBvMuv92X9HS\n";

/// The program of Debian's package `docker-registry`. What was pushed to it ends with it.
pub struct Registry {
    _process: Child,
    _directory: TempDir,
    pub address: SocketAddr,
    with_login: bool,
}

impl Registry {
    pub async fn start() -> Self {
        Self::launch(false).await
    }

    /// One that serves nobody but `ada`, whose password is `letmein`.
    pub async fn start_with_login() -> Self {
        Self::launch(true).await
    }

    async fn launch(with_login: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display().to_string();
        // Free now, and taken by nobody else but by bad luck.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut settings = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {place}/data\n\
             http:\n  addr: {address}\n"
        );
        if with_login {
            std::fs::write(directory.path().join("htpasswd"), LOGIN).unwrap();
            settings.push_str(&format!("auth:\n  htpasswd:\n    realm: tests\n    path: {place}/htpasswd\n"));
        }
        let file = directory.path().join("config.yml");
        std::fs::write(&file, settings).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("these tests need a registry: apt-get install docker-registry");
        until("the registry answers", BOUND, async || TcpStream::connect(address).await.is_ok()).await;
        Self { _process: process, _directory: directory, address, with_login }
    }

    /// Puts an image there that nobody else has, of this many bytes that cannot be made smaller. None of it stays on the
    /// daemon.
    pub async fn push(&self, name: &str, bytes: usize) {
        let docker = daemon();
        let id = import(&docker, bytes).await;
        // Another name of the same registry, so that what the test has pulled keeps its own.
        let repository = format!("localhost:{}/{name}", self.address.port());
        let options = TagImageOptionsBuilder::new().repo(&repository).tag("1").build();
        docker.tag_image(&id, Some(options)).await.unwrap();
        let login = self.with_login.then(|| DockerCredentials {
            username: Some("ada".to_owned()),
            password: Some("letmein".to_owned()),
            ..DockerCredentials::default()
        });
        let options = PushImageOptionsBuilder::new().tag("1").build();
        let pushed: Vec<_> = docker.push_image(&repository, Some(options), login).collect().await;
        for line in pushed {
            line.expect("the image is pushed");
        }
        docker.remove_image(&format!("{repository}:1"), None::<RemoveImageOptions>, None).await.unwrap();
    }
}

/// An image that cannot be anybody else's, without a name.
async fn import(docker: &Docker, bytes: usize) -> String {
    let mut content = vec![0; bytes];
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut random, &mut content).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes as u64);
    header.set_mode(0o444);
    archive.append_data(&mut header, "random", content.as_slice()).unwrap();
    let options = CreateImageOptionsBuilder::new().from_src("-").build();
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    let lines: Vec<_> = docker.create_image(Some(options), Some(body), None).collect().await;
    let status = lines.into_iter().filter_map(|line| line.unwrap().status);
    status.filter(|status| status.starts_with("sha256:")).last().expect("an identifier")
}

/// An image on the daemon that a test has caused to be there. Its name is gone with the test.
pub struct Named(pub String);

impl Drop for Named {
    fn drop(&mut self) {
        let name = self.0.clone();
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let docker = daemon();
                until("the test's image is removed", BOUND, async || {
                    match docker.remove_image(&name, None::<RemoveImageOptions>, None).await {
                        Err(bollard::errors::Error::DockerResponseServerError { status_code, .. }) => {
                            status_code == 404
                        }
                        _ => false,
                    }
                })
                .await;
            });
        });
        if removed.join().is_err() && !std::thread::panicking() {
            panic!("{} is left", self.0);
        }
    }
}

/// Hands bytes through to a registry, and stops doing so after some of them.
pub struct Gate {
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct State {
    /// Bytes that may still come from the registry.
    left: usize,
    /// What then happens.
    then: Then,
    /// It has happened.
    happened: bool,
}

/// What happens in the middle of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing more comes, until the gate is opened.
    Hold,
    /// The connection is cut, once. What comes later goes through.
    Cut,
}

impl Gate {
    pub async fn open(registry: &Registry, bytes: usize, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State { left: bytes, then, happened: false }));
        let (shared, target) = (Arc::clone(&state), registry.address);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(through(client, target, Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, task }
    }

    /// Waits until it has stopped something.
    pub async fn has_stopped(&self) {
        let mut seen = self.state.subscribe();
        tokio::time::timeout(BOUND, seen.wait_for(|state| state.happened)).await.expect("the gate stops").unwrap();
    }

    /// Lets everything through from now on.
    pub fn let_through(&self) {
        self.state.send_modify(|state| state.left = usize::MAX);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn through(client: TcpStream, target: SocketAddr, state: Arc<watch::Sender<State>>) {
    let Ok(registry) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_registry, mut to_registry) = registry.into_split();
    let asking = async { drop(tokio::io::copy(&mut from_client, &mut to_registry).await) };
    let answering = async {
        let mut piece = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from_registry.read(&mut piece).await {
            if !pass(&state, length).await || to_client.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}

/// Whether this many bytes may go on; waits where they are held.
async fn pass(state: &watch::Sender<State>, length: usize) -> bool {
    let mut cut = false;
    state.send_modify(|state| {
        if length <= state.left {
            state.left = state.left.saturating_sub(if state.left == usize::MAX { 0 } else { length });
            return;
        }
        cut = state.then == Then::Cut;
        state.left = if cut { usize::MAX } else { 0 };
        state.happened = true;
    });
    if cut {
        return false;
    }
    let mut seen = state.subscribe();
    let is_open = |state: &State| state.left > 0 || !state.happened;
    seen.wait_for(is_open).await.is_ok()
}

/// Long enough for what a daemon tries again by itself after five seconds.
pub const PATIENT: Duration = Duration::from_secs(120);
