//! What every command has at hand: the places, the sockets, and how to answer.

use std::future::Future;
use std::io;
use std::time::Duration;

use brig_core::problem::{Code, Problem};
use serde::de::DeserializeOwned;

use super::output::Screen;
use crate::api::client::Client;
use crate::config::Places;

/// How long a command waits for an answer that needs nobody's decision.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every command has at hand.
#[derive(Debug)]
pub struct Context {
    /// Where the files and sockets are.
    pub places: Places,
    /// Whether to answer with JSON.
    pub json: bool,
    /// What the standard output is.
    pub screen: Screen,
}

impl Context {
    /// As the process's environment says.
    ///
    /// # Errors
    /// As [`Places::from_env`].
    pub fn from_env(json: bool) -> Result<Self, Problem> {
        Ok(Self { places: Places::from_env()?, json, screen: Screen::of_stdout() })
    }

    /// A client of the socket for those who propose.
    ///
    /// # Errors
    /// `wrong_token` when `BRIG_AGENT_TOKEN` holds what no header can carry.
    pub fn agent(&self) -> Result<Client, Problem> {
        let token = match std::env::var("BRIG_AGENT_TOKEN") {
            Ok(token) if token.is_empty() => None,
            Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Some(token),
            Err(std::env::VarError::NotPresent) => None,
            _ => {
                return Err(Problem::new(Code::WrongToken, "BRIG_AGENT_TOKEN has characters that no token has")
                    .help("set it to the token as it was given to you, without blanks and line ends"));
            }
        };
        Ok(Client::new(&self.places.agent_socket(), token))
    }

    /// A client of the socket for those who decide.
    ///
    /// # Errors
    /// `wrong_user` when the token may not be read, `local_io` when it cannot be.
    pub fn operator(&self) -> Result<Client, Problem> {
        let path = self.places.operator_token();
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Problem::new(Code::WrongUser, format!("may not read {}: {error}", path.display()))
                    .help("only operators decide; an agent uses run, wait, withdraw, show and logs"));
            }
            // Without a supervisor there is no token either, and the socket's own answer says that better.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Problem::new(Code::LocalIo, format!("cannot read {}: {error}", path.display())));
            }
            Ok(_) | Err(_) => {}
        }
        Ok(Client::with_token_file(&self.places.operator_socket(), &path))
    }

    /// A client that may read: the operator's, or the agent's for those who are not operators.
    ///
    /// # Errors
    /// As [`Context::agent`] and [`Context::operator`].
    pub fn reader(&self) -> Result<Client, Problem> {
        match self.operator() {
            Err(problem) if problem.code == Code::WrongUser => self.agent(),
            other => other,
        }
    }

    /// Asks the operator's socket for a value.
    ///
    /// # Errors
    /// What the supervisor answers, or that it does not in time.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let client = self.operator()?;
        patiently(client.get(path)).await
    }
}

/// Bounds a request that needs nobody's decision.
///
/// # Errors
/// `no_supervisor` when the time is up, else the request's own.
pub async fn patiently<T>(request: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(PATIENCE, request).await.unwrap_or_else(|_| {
        Err(Problem::new(Code::NoSupervisor, format!("the supervisor did not answer within {} s", PATIENCE.as_secs()))
            .help("it is there, but does not move; see its log in the state directory"))
    })
}
