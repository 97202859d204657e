//! Answers, and the requests that are read by hand so that what is wrong with them is said well.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::response::{IntoResponse, Response};
use brig_core::problem::{Code, Problem};
use brig_core::visible;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::wire::ErrorBody;

/// A problem, as an answer.
#[derive(Debug)]
pub struct Refusal(pub Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.0.code;
        // The code goes along for `describe::router` to look at.
        (status(code), axum::Extension(code), axum::Json(ErrorBody { error: self.0 })).into_response()
    }
}

/// The HTTP status of a problem. Programs go by the code; the status is for those who only know HTTP.
pub const fn status(code: Code) -> StatusCode {
    match code {
        Code::Malformed | Code::InvalidField | Code::Loosens | Code::UnknownProfile | Code::Ambiguous => {
            StatusCode::BAD_REQUEST
        }
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Pruned => StatusCode::GONE,
        Code::KeyConflict | Code::DigestMismatch | Code::NotWaiting | Code::NotRunning => StatusCode::CONFLICT,
        Code::WrongToken => StatusCode::UNAUTHORIZED,
        Code::WrongUser => StatusCode::FORBIDDEN,
        Code::ShuttingDown
        | Code::JournalFailed
        | Code::NoSupervisor
        | Code::AlreadyRunning
        | Code::EngineUnreachable
        | Code::EngineTimeout
        | Code::ImageUnavailable
        | Code::SecretMissing => StatusCode::SERVICE_UNAVAILABLE,
        Code::EngineRefused | Code::EngineProtocol | Code::InterpreterFailed | Code::Unsupported => {
            StatusCode::BAD_GATEWAY
        }
        Code::Config | Code::LocalIo | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A value, as an answer.
pub fn json(value: &impl Serialize) -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], crate::api::ndjson(value)).into_response()
}

/// What is written as JSON already, as an answer.
pub fn ready_json(text: &'static str) -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Lines, as an answer that goes on for as long as there are any.
pub fn lines(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    (StatusCode::OK, [(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Reads a request's body.
///
/// # Errors
/// `malformed`, with the place and what was expected there.
pub fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(Code::Malformed, format!("the request's body is not what is expected here: {error}"))
            .help("docs/api.md shows each request")
    })
}

/// What stands after the `?` of a request.
pub struct Options<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Options<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, services: &S) -> Result<Self, Refusal> {
        let Query(options) = Query::from_request_parts(parts, services)
            .await
            .map_err(|error| malformed(&format!("what follows the `?` cannot be read: {}", error.body_text())))?;
        Ok(Self(options))
    }
}

/// The name in the path of a request.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, services: &S) -> Result<Self, Refusal> {
        let Path(name) = Path::from_request_parts(parts, services)
            .await
            .map_err(|error| malformed(&format!("the name in the path cannot be read: {}", error.body_text())))?;
        Ok(Self(name))
    }
}

fn malformed(what: &str) -> Problem {
    Problem::new(Code::Malformed, visible::line(what.as_bytes())).help("docs/api.md shows each request")
}
