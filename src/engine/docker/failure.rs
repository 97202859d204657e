//! The one place where what goes wrong with a daemon becomes a [`Problem`], and where calls are bounded in time.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::time::Duration;

use bollard::errors::Error;
use brig_core::problem::{Code, Problem};

use super::address::Address;

/// A failed call: what it means, and the daemon's own status for those who expect some of them.
#[derive(Debug)]
pub struct Failure {
    /// The HTTP status, when the daemon answered.
    pub status: Option<u16>,
    /// What it means.
    pub problem: Problem,
}

impl Failure {
    /// Whether the daemon says that the thing is not there.
    pub fn is_gone(&self) -> bool {
        self.status == Some(404)
    }

    /// Whether the daemon says that the thing is not in the state for that, or that the name is taken.
    pub fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        failure.problem
    }
}

/// Runs one call to the daemon for at most `limit`. `what` completes "cannot …".
pub async fn bounded<T>(
    address: &Address,
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(address, what, &error)),
        Err(_) => Err(Failure { status: None, problem: too_late(address, what, limit) }),
    }
}

/// What it means that nothing came for `limit`.
pub fn too_late(address: &Address, what: &str, limit: Duration) -> Problem {
    let message = format!("cannot {what}: the daemon at {address} did not answer within {} s", limit.as_secs_f32());
    Problem::new(Code::EngineTimeout, message)
        .help("see whether `docker info` answers; restart the daemon when it does not")
}

/// What an error of the client library means.
pub fn explain(address: &Address, what: &str, error: &Error) -> Failure {
    match error {
        Error::DockerResponseServerError { status_code, message } => Failure {
            status: Some(*status_code),
            problem: Problem::new(Code::EngineRefused, format!("cannot {what}: the daemon says: {}", tidy(message))),
        },
        Error::DockerStreamError { error } => {
            plain(Code::EngineRefused, what, &format!("the daemon says: {}", tidy(error)))
        }
        Error::RequestTimeoutError => {
            plain(Code::EngineTimeout, what, &format!("the daemon at {address} did not answer"))
        }
        Error::SocketNotFoundError(path) => Failure {
            status: None,
            problem: Problem::new(Code::EngineUnreachable, format!("cannot {what}: there is no socket at {path}"))
                .help(START),
        },
        other => match io_error(other) {
            Some(error) if let Some(known) = known(error) => {
                let message = format!("cannot {what}: the daemon at {address} is not reached: {}", known.message);
                Failure { status: None, problem: Problem::new(known.code, message).help(known.help.clone()) }
            }
            Some(error) => Failure { status: None, problem: unreachable(address, what, error) },
            None if is_connection(other) => {
                plain(Code::EngineUnreachable, what, &format!("the daemon at {address} hung up: {}", innermost(other)))
            }
            None => plain(
                Code::EngineProtocol,
                what,
                &format!("the daemon's answer is not understood: {}", innermost(other)),
            ),
        },
    }
}

const START: &str = "start Docker (`systemctl start docker`), or set DOCKER_HOST to where it listens";

fn plain(code: Code, what: &str, reason: &str) -> Failure {
    Failure { status: None, problem: Problem::new(code, format!("cannot {what}: {reason}")) }
}

fn unreachable(address: &Address, what: &str, error: &io::Error) -> Problem {
    let (reason, help) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such socket".to_owned(), START),
        io::ErrorKind::ConnectionRefused => ("nobody listens there".to_owned(), START),
        io::ErrorKind::PermissionDenied => (
            "this user may not connect".to_owned(),
            "add the user to the group `docker` (`usermod -aG docker NAME`, then log in again); \
             that group is as mighty as root",
        ),
        _ => (error.to_string(), START),
    };
    Problem::new(Code::EngineUnreachable, format!("cannot {what}: the daemon at {address} is not reached: {reason}"))
        .help(help)
}

/// Whether the connection itself is what failed, rather than what came over it.
fn is_connection(error: &Error) -> bool {
    match error {
        Error::HyperLegacyError { .. } => true,
        Error::HyperResponseError { err } => err.is_closed() || err.is_incomplete_message() || err.is_canceled(),
        _ => false,
    }
}

/// What the connection's own part has found out already.
fn known(error: &io::Error) -> Option<&Problem> {
    error.get_ref()?.downcast_ref()
}

fn io_error(error: &Error) -> Option<&io::Error> {
    if let Error::IOError { err } = error {
        return Some(err);
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn innermost(error: &Error) -> String {
    let mut last: &dyn StdError = error;
    while let Some(next) = last.source() {
        last = next;
    }
    tidy(&last.to_string())
}

/// A daemon's message as one bounded line.
pub fn tidy(message: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address::Unix("/nowhere.sock".to_owned())
    }

    fn from_io(kind: io::ErrorKind) -> Problem {
        explain(&address(), "list the sandboxes", &Error::from(io::Error::from(kind))).problem
    }

    #[test]
    fn a_daemon_that_is_away_comes_with_what_to_do() {
        let cases = [
            (io::ErrorKind::NotFound, "start Docker"),
            (io::ErrorKind::ConnectionRefused, "start Docker"),
            (io::ErrorKind::PermissionDenied, "group `docker`"),
        ];
        for (kind, help) in cases {
            let problem = from_io(kind);
            assert_eq!(problem.code, Code::EngineUnreachable);
            assert!(problem.help.contains(help), "{problem}");
            assert!(problem.message.contains("unix:///nowhere.sock"), "{problem}");
        }
    }

    #[test]
    fn the_daemons_own_words_are_kept_on_one_line() {
        let message = format!("no\nsuch   image: {}.", "x".repeat(1000));
        let error = Error::DockerResponseServerError { status_code: 404, message };
        let failure = explain(&address(), "create a sandbox", &error);
        assert!(failure.is_gone() && !failure.is_conflict());
        assert_eq!(failure.problem.code, Code::EngineRefused);
        assert!(failure.problem.message.contains("no such image"), "{}", failure.problem);
        assert!(failure.problem.message.len() < 500);
    }

    #[test]
    fn an_answer_that_is_no_json_is_a_protocol_problem() {
        let error = Error::JsonDataError { message: "expected value".to_owned(), column: 1 };
        assert_eq!(explain(&address(), "ask", &error).problem.code, Code::EngineProtocol);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_in_time_and_says_what_it_was() {
        let limit = Duration::from_secs(10);
        let hangs = std::future::pending::<Result<(), Error>>();
        let failure = bounded(&address(), "start a sandbox", limit, hangs).await.unwrap_err();
        assert_eq!(failure.problem.code, Code::EngineTimeout);
        assert!(failure.problem.message.contains("start a sandbox"), "{}", failure.problem);
    }
}
