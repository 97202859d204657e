//! Requests with what there is to know about them. A socket's router and its OpenAPI document are made of the same
//! table, so there is no request without a description; and in debug builds an answer that the description does not have
//! fails, so that every test looks for one.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use brig_core::problem::Code;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::server::Services;

/// Makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// How a value is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value.
    Json,
    /// One value a line.
    Lines,
}

/// What any request can be refused with, on either socket.
const ALWAYS: [Code; 4] = [Code::WrongToken, Code::WrongUser, Code::ShuttingDown, Code::Internal];

/// A request: how it is asked, what it answers, and what does so.
pub struct Route {
    /// `get` or `post`.
    pub method: &'static str,
    /// As the router matches it.
    pub path: &'static str,
    /// For programs that are made of the document; no two of a socket have the same.
    pub name: &'static str,
    /// In one line.
    pub summary: &'static str,
    /// What else there is to know.
    pub details: &'static str,
    /// What the `{…}` in the path is.
    pub subject: Option<&'static str>,
    /// What may follow the `?`: an object, each of whose fields is a parameter.
    pub query: Option<SchemaOf>,
    /// What is sent.
    pub body: Option<SchemaOf>,
    /// What is answered under the status 200.
    pub answers: Vec<(Form, SchemaOf)>,
    /// What it can be refused with.
    pub refusals: Vec<Code>,
    handler: MethodRouter<Services>,
}

impl Route {
    /// A request that looks.
    pub fn get<H, T>(path: &'static str, name: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Services>,
        T: 'static,
    {
        Self::new("get", path, name, summary, get(handler))
    }

    /// A request that changes something.
    pub fn post<H, T>(path: &'static str, name: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Services>,
        T: 'static,
    {
        Self::new("post", path, name, summary, post(handler))
    }

    fn new(
        method: &'static str,
        path: &'static str,
        name: &'static str,
        summary: &'static str,
        handler: MethodRouter<Services>,
    ) -> Self {
        Self {
            method,
            path,
            name,
            summary,
            details: "",
            subject: None,
            query: None,
            body: None,
            answers: Vec::new(),
            refusals: ALWAYS.to_vec(),
            handler,
        }
    }

    /// What else there is to know, as Markdown.
    pub const fn details(mut self, details: &'static str) -> Self {
        self.details = details;
        self
    }

    /// The `{…}` in the path names this.
    pub fn about(mut self, subject: &'static str) -> Self {
        self.subject = Some(subject);
        self.refuses(&[Code::Malformed, Code::NotFound])
    }

    /// The `{…}` in the path names a proposal, in memory or in the journal.
    pub fn about_a_proposal(self) -> Self {
        self.about("The proposal's `id`, or the first letters of it where they fit no other that is remembered.")
            .refuses(&[Code::Ambiguous, Code::JournalFailed])
    }

    /// The fields of `T` may follow the `?`.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self.refuses(&[Code::Malformed])
    }

    /// A `T` is sent.
    pub fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(SchemaGenerator::subschema_for::<T>);
        self.refuses(&[Code::Malformed, Code::TooLarge, Code::QueueFull])
    }

    /// A `T` is answered.
    pub fn json<T: JsonSchema>(mut self) -> Self {
        self.answers.push((Form::Json, SchemaGenerator::subschema_for::<T>));
        self
    }

    /// A `T` a line is answered.
    pub fn lines<T: JsonSchema>(mut self) -> Self {
        self.answers.push((Form::Lines, SchemaGenerator::subschema_for::<T>));
        self
    }

    /// It can be refused with these as well.
    pub fn refuses(mut self, codes: &[Code]) -> Self {
        for code in codes {
            if !self.refusals.contains(code) {
                self.refusals.push(*code);
            }
        }
        self
    }
}

/// Serves what the table has.
pub fn router(routes: Vec<Route>) -> Router<Services> {
    routes.into_iter().fold(Router::new(), |router, Route { path, name, refusals, handler, .. }| {
        let checked = map_response(move |response: Response| {
            if let Some(code) = response.extensions().get::<Code>() {
                debug_assert!(
                    refusals.contains(code),
                    "`{name}` was refused with `{code}`, which its route does not say"
                );
            }
            std::future::ready(response)
        });
        router.route(path, handler.route_layer(checked))
    })
}
