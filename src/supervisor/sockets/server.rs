//! The two sockets and what serves them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use brig_core::problem::{Code, Problem};
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::access::Access;
use super::describe::router;
use super::listener::{Bounded, Connection, Places};
use super::reply::Refusal;
use super::{agent, operator};
use crate::engine::Engine;
use crate::journal::Reader;
use crate::supervisor::message::Mailbox;
use crate::supervisor::meters::Meters;
use crate::supervisor::outputs::Outputs;
use crate::supervisor::process;

/// Connections at once on each of the sockets. Nobody but the operator reaches the operator's, so all of it is for one.
const AGENTS: Places = Places { all: 1024, each: 256 };
const OPERATORS: Places = Places { all: 128, each: 128 };
/// How long a request's head may take to come: from the connection, or from the answer before it.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// What requests are served with.
#[derive(Clone)]
pub struct Services {
    /// Reaches the state.
    pub mailbox: Mailbox,
    /// What runs write.
    pub outputs: Outputs,
    /// What was recorded.
    pub journal: Reader,
    /// What sandboxes use.
    pub meters: Meters,
    /// Consoles that are open.
    pub consoles: Arc<AtomicU32>,
    /// What has the images.
    pub engine: Arc<dyn Engine>,
    /// Who may what.
    pub access: Arc<Access>,
}

/// The bound sockets.
pub struct Servers {
    agent: (UnixListener, Router),
    operator: (UnixListener, Router),
}

impl Servers {
    /// Binds both sockets. The operator's is for its user alone. The agents' is for whoever can reach it: its directory is
    /// for the operator's user alone as well, until that lets a group in with `chgrp` and `chmod g+x`.
    ///
    /// # Errors
    /// `local_io`, naming the socket.
    pub fn bind(agent: &Path, operator: &Path, services: Services) -> Result<Self, Problem> {
        let agents = bind(agent, 0o666)?;
        let operators = bind(operator, 0o600).inspect_err(|_| {
            // Where one cannot be made, none is left. That it is gone already is as good.
            let _ = fs::remove_file(agent);
        })?;
        Ok(Self {
            agent: (agents, complete(router(agent::routes())).with_state(services.clone())),
            operator: (operators, complete(router(operator::routes())).with_state(services)),
        })
    }

    /// Serves both until `end` comes, and then until those who are being answered have been.
    pub async fn serve(self, end: oneshot::Receiver<()>) {
        let end = end.map(drop).shared();
        // Half of the files that may be open for those who propose, an eighth for those who decide; the rest is for the
        // journal, the engine and the cgroups.
        let files = process::open_files();
        let agents = at_most(AGENTS, files / 2);
        let operators = at_most(OPERATORS, files / 8);
        tokio::join!(
            serve(Bounded::new(self.agent.0, agents), self.agent.1, end.clone()),
            serve(Bounded::new(self.operator.0, operators), self.operator.1, end),
        );
    }
}

/// The places that so many files are enough for, in the same proportion.
fn at_most(Places { all, each }: Places, files: usize) -> Places {
    let fewer = all.min(files).max(1);
    Places { all: fewer, each: (each * fewer / all).max(1) }
}

/// Serves a socket until `end` comes, and then until those who are being answered have been.
async fn serve(mut listener: Bounded, router: Router, end: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            connection = listener.accept() => answer(connection, &router, &connections),
            () = &mut end => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Answers what comes over a connection, in a task of its own. axum's own way to serve knows no time-outs.
fn answer(connection: Connection, router: &Router, connections: &GracefulShutdown) {
    let Connection { stream, peer, room, places } = connection;
    let router = TowerToHyperService::new(router.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(room.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that breaks off, or is too slow, is its own loss.
        let _ = connection.await;
        drop(places);
    });
}

fn complete(routes: Router<Services>) -> Router<Services> {
    routes.fallback(no_such).method_not_allowed_fallback(not_so)
}

async fn no_such(method: Method, uri: Uri) -> Refusal {
    let asked = brig_core::visible::line(uri.path().as_bytes());
    Refusal(
        Problem::new(Code::NotFound, format!("there is no {method} {asked} here"))
            .help("docs/api.md lists what there is"),
    )
}

async fn not_so(method: Method, uri: Uri) -> Response {
    let asked = brig_core::visible::line(uri.path().as_bytes());
    let problem = Problem::new(Code::Malformed, format!("{asked} cannot be asked with {method}"))
        .help("docs/api.md lists what there is");
    (StatusCode::METHOD_NOT_ALLOWED, Refusal(problem)).into_response()
}

/// Binds a socket, in place of one that a supervisor has left: who calls this holds the state's lock.
fn bind(path: &Path, mode: u32) -> Result<UnixListener, Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(Code::LocalIo, format!("cannot make the socket {}: {error}", path.display()))
            .help("BRIG_RUNTIME_DIR says where the sockets are")
    };
    let left = fs::symlink_metadata(path).is_ok();
    if left {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Problem::new(
                Code::AlreadyRunning,
                format!("another supervisor listens on {}", path.display()),
            )
            .help("set BRIG_RUNTIME_DIR to another directory, or end that supervisor with `brig stop`"));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode)) {
        let _ = fs::remove_file(path);
        return Err(failed(error));
    }
    Ok(listener)
}
