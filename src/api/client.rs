//! A client of either socket: HTTP over a Unix socket, one connection a request.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use brig_core::problem::{Code, Problem};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::wire::ErrorBody;

/// An answer that comes as one value a line.
pub type Lines<T> = Pin<Box<dyn Stream<Item = Result<T, Problem>> + Send>>;

/// Speaks with a supervisor on one of its sockets.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    token: Token,
}

/// What is shown with every request.
#[derive(Clone, Debug)]
enum Token {
    Nothing,
    Text(String),
    /// What this file holds at that moment.
    File(PathBuf),
}

impl Client {
    /// A client of `socket`, which sends `token` with every request.
    #[must_use]
    pub fn new(socket: &Path, token: Option<String>) -> Self {
        Self { socket: socket.to_owned(), token: token.map_or(Token::Nothing, Token::Text) }
    }

    /// A client of `socket`, which sends with every request the token that `file` holds then. A supervisor that was
    /// started again has a new one, and a client that outlives the one before must not go on with the old.
    #[must_use]
    pub fn with_token_file(socket: &Path, file: &Path) -> Self {
        Self { socket: socket.to_owned(), token: Token::File(file.to_owned()) }
    }

    /// Asks for a value.
    ///
    /// # Errors
    /// `no_supervisor` when nobody listens, else what the supervisor answers.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        whole(response).await
    }

    /// Sends a value and reads the answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let response = self.send(Method::POST, path, json(body)?).await?;
        whole(response).await
    }

    /// Asks for a stream of lines, which end when the supervisor ends them.
    ///
    /// # Errors
    /// As [`Client::get`]; a line that fails is the stream's last.
    pub async fn follow<T: DeserializeOwned>(&self, path: &str) -> Result<Lines<T>, Problem> {
        Ok(lines(checked(self.send(Method::GET, path, Bytes::new()).await?).await?))
    }

    /// Sends a value and reads lines as the answer. Dropping the stream closes the connection.
    ///
    /// # Errors
    /// As [`Client::follow`].
    pub async fn post_and_follow<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Lines<T>, Problem> {
        let body = json(body)?;
        Ok(lines(checked(self.send(Method::POST, path, body).await?).await?))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Problem> {
        let connection = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(connection)).await.map_err(|error| broken(&error))?;
        // Ends by itself when both the sender and the response's body are gone.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "brig");
        if let Some(token) = self.token() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|error| broken(&error))?;
        sender.send_request(request).await.map_err(|error| broken(&error))
    }

    fn token(&self) -> Option<String> {
        match &self.token {
            Token::Nothing => None,
            Token::Text(token) => Some(token.clone()),
            // Without one the supervisor says what is wrong.
            Token::File(path) => std::fs::read_to_string(path).ok().map(|token| token.trim().to_owned()),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Problem {
        let socket = self.socket.display();
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return Problem::new(Code::WrongUser, format!("may not use {socket}: {error}"))
                .help("ask its owner to let your user or group in");
        }
        Problem::new(Code::NoSupervisor, format!("no supervisor answers at {socket}: {error}"))
            .help("start one with `brig serve`, or open the console with `brig`")
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| broken(&error))
}

async fn checked(response: Response<Incoming>) -> Result<Response<Incoming>, Problem> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
    Err(serde_json::from_slice::<ErrorBody>(&body).map_or_else(
        |_| broken(&format!("it answered {status}: {}", brig_core::visible::line(&body))),
        |body| body.error,
    ))
}

async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Problem> {
    let body = checked(response).await?.into_body().collect().await.map_err(|error| broken(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| broken(&error))
}

/// The body as one value a line. A body that ends in the middle of a line, or breaks, ends with a problem.
fn lines<T: DeserializeOwned>(response: Response<Incoming>) -> Lines<T> {
    let start = LineState { body: response.into_body(), buffer: Vec::new(), read: 0, failed: false };
    Box::pin(stream::unfold(start, |mut state| async move {
        if state.failed {
            return None;
        }
        let item = state.next().await?;
        state.failed = item.is_err();
        Some((item.and_then(|line| serde_json::from_slice(&line).map_err(|error| broken(&error))), state))
    }))
}

struct LineState {
    body: Incoming,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were given out already.
    read: usize,
    failed: bool,
}

impl LineState {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Problem>> {
        let mut searched = self.read;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let line = self.buffer[self.read..searched + at].to_vec();
                self.read = searched + at + 1;
                return Some(Ok(line));
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            searched = self.buffer.len();
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Some(Err(broken(&error))),
                None if self.buffer.is_empty() => return None,
                None => return Some(Err(broken(&"the answer ended in the middle of a line"))),
            }
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::NoSupervisor, format!("the connection to the supervisor broke: {error}"))
        .help("it may have ended; see `brig ps`, and its log in the state directory")
}
