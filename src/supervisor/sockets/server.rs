//! The two sockets and what serves them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse as _, Response};
use brig_core::problem::{Code, Problem};
use futures_util::FutureExt as _;
use hyper::{Method, StatusCode, Uri};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::access::{Access, Peer};
use super::listener::Bounded;
use super::reply::Refusal;
use super::{agent, operator};
use crate::journal::Reader;
use crate::supervisor::message::Mailbox;
use crate::supervisor::meters::Meters;
use crate::supervisor::outputs::Outputs;
use crate::supervisor::process;

/// Bytes of a request's body: what admission takes at most, in base64, with room for the rest.
const BODY_LIMIT: usize = 16 << 20;

/// Connections at once on each of the sockets; who comes later waits.
const AGENT_CONNECTIONS: usize = 1024;
const OPERATOR_CONNECTIONS: usize = 128;

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
        Ok(Self {
            agent: (bind(agent, 0o666)?, limited(agent::routes()).with_state(services.clone())),
            operator: (bind(operator, 0o600)?, limited(operator::routes()).with_state(services)),
        })
    }

    /// Serves both until `end` comes, and then until those who are being answered have been.
    pub async fn serve(self, end: oneshot::Receiver<()>) {
        let end = end.map(drop).shared();
        // Half of the files that may be open for those who propose, an eighth for those who decide; the rest is for the
        // journal, the engine and the cgroups.
        let files = process::open_files();
        let serve = |(listener, router): (UnixListener, Router), places| {
            let listener = Bounded::new(listener, places);
            let router = router.into_make_service_with_connect_info::<Peer>();
            axum::serve(listener, router).with_graceful_shutdown(end.clone()).into_future()
        };
        let agent = serve(self.agent, AGENT_CONNECTIONS.min(files / 2));
        let operator = serve(self.operator, OPERATOR_CONNECTIONS.min(files / 8));
        let (agent, operator) = tokio::join!(agent, operator);
        if let Err(error) = agent.and(operator) {
            tracing::error!("a socket can no longer be served: {error}");
        }
    }
}

fn limited(routes: Router<Services>) -> Router<Services> {
    routes.fallback(no_such).method_not_allowed_fallback(not_so).layer(DefaultBodyLimit::max(BODY_LIMIT))
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

/// A body that is too large or broke off, in our words.
pub fn read(body: Result<bytes::Bytes, BytesRejection>) -> Result<bytes::Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        hyper::StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::TooLarge, format!("the request's body is over {BODY_LIMIT} bytes"))
                .help("send less, or let the sandbox make the data")
        }
        _ => Problem::new(Code::Malformed, format!("the request's body could not be read: {rejection}")),
    })
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
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}
