//! A door to the real daemon that can be shut.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// Listens on a socket and hands everything through to the daemon, until it is cut.
pub struct Proxy {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Proxy {
    pub fn open(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(through(client));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { path: path.to_owned(), task }
    }

    /// Ends every connection, and takes no more.
    pub async fn cut(self) {
        self.task.abort();
        let _ = self.task.await;
        std::fs::remove_file(&self.path).unwrap();
    }
}

async fn through(client: UnixStream) {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    match host.split_once("://") {
        Some(("unix", path)) => join(client, UnixStream::connect(path).await).await,
        Some((_, address)) => join(client, TcpStream::connect(address).await).await,
        None => panic!("DOCKER_HOST is {host}"),
    }
}

async fn join<S: AsyncRead + AsyncWrite + Unpin>(mut client: UnixStream, daemon: std::io::Result<S>) {
    let mut daemon = daemon.expect("these tests need a Docker daemon");
    // How it ends is the business of both ends.
    let _ = copy_bidirectional(&mut client, &mut daemon).await;
}
