//! The bodies of requests: how large each may be, how long it may take, and how much of them there may be at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use brig_core::problem::{Code, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::reply::{self, Refusal};

/// Bytes of a request's body: what admission takes at most, in base64, with room for the rest.
const LIMIT: usize = 16 << 20;
/// Bytes of bodies on one socket at once.
const ALL: usize = 64 << 20;
/// Bytes of bodies of one user at once: one of the largest, or many small ones.
const EACH: usize = LIMIT;
/// How long a body may take to come, and to wait for room.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for bodies, and which part of it is one user's.
#[derive(Clone)]
pub struct Room {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Room that is taken. It is free again with this.
pub type Taken = [OwnedSemaphorePermit; 2];

impl Room {
    /// All the room of a socket.
    pub fn for_all() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), own: Arc::new(Semaphore::new(EACH)) }
    }

    /// Room for one more user.
    pub fn for_one(&self) -> Self {
        Self { all: Arc::clone(&self.all), own: Arc::new(Semaphore::new(EACH)) }
    }

    /// Waits for room: first for the user's own, so that who waits for that is in nobody else's way. All of a body's room
    /// is taken at once; bodies that had each a part of it could wait for one another.
    async fn take(&self, bytes: usize) -> Option<Taken> {
        let bytes = u32::try_from(bytes).ok()?;
        let own = Arc::clone(&self.own).acquire_many_owned(bytes).await.ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(bytes).await.ok()?;
        Some([own, all])
    }
}

/// A body that was read, and the room that it takes: to be kept until what was in it has been handed on.
pub struct Payload(Bytes, Taken);

impl Payload {
    /// What is in it, which takes the same room.
    ///
    /// # Errors
    /// As [`reply::body`].
    pub fn read<T: DeserializeOwned>(self) -> Result<(T, Taken), Problem> {
        Ok((reply::body(&self.0)?, self.1))
    }
}

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let until = Instant::now() + PATIENCE;
        let room = request.extensions().get::<Room>().cloned();
        let room = room.ok_or_else(|| Problem::new(Code::Internal, "there is no room for this request's body"))?;
        let body = request.into_body();
        let taken = timeout_at(until, room.take(bytes_of(&body))).await.ok().flatten().ok_or_else(|| {
            Problem::new(Code::QueueFull, "too many bytes of requests are being read already")
                .help("try again, and send fewer large requests at once")
        })?;
        let read = timeout_at(until, Limited::new(body, LIMIT).collect()).await.map_err(|_| {
            let seconds = PATIENCE.as_secs();
            Problem::new(Code::Malformed, format!("the request's body did not come within {seconds} s"))
                .help("send the whole body at once")
        })?;
        match read {
            Ok(read) => Ok(Self(read.to_bytes(), taken)),
            Err(error) if error.is::<LengthLimitError>() => {
                let problem = Problem::new(Code::TooLarge, format!("the request's body is over {LIMIT} bytes"));
                Err(problem.help("send less, or let the sandbox make the data").into())
            }
            Err(error) => {
                Err(Problem::new(Code::Malformed, format!("the request's body could not be read: {error}")).into())
            }
        }
    }
}

/// The most that is read of a body: what it says of itself, up to the limit.
fn bytes_of(body: &Body) -> usize {
    body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok()).map_or(LIMIT, |bytes| bytes.min(LIMIT))
}
