//! What operators can ask: look at everything, decide, kill, end the supervisor.

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::response::Response;
use axum::routing::{get, post};
use brig_core::id::{ProposalId, SandboxId};
use brig_core::machine::{Choice as Decision, Event, Target};
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Operator, Status};
use hyper::http::request::Parts;
use serde::Deserialize;

use super::access::Peer;
use super::agent::{OutputOptions, detail, stream_output};
use super::body::Payload;
use super::follow::{self, not_found};
use super::reply::{self, Named, Options, Refusal};
use super::server::Services;
use crate::api::wire::{Choice, Done, ProposalRow, Snapshot, VerdictRequest};
use crate::supervisor::message::{Message, Query as Look, Request};
use crate::supervisor::watcher;

/// How many proposals a shortened name may fit before the answer stops counting.
const CANDIDATES: usize = 5;

/// The operator socket's requests.
pub fn routes() -> Router<Services> {
    Router::new()
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/events", get(events))
        .route("/v1/proposals", get(proposals))
        .route("/v1/proposals/{id}", get(show))
        .route("/v1/proposals/{id}/output", get(output))
        .route("/v1/proposals/{id}/verdict", post(verdict))
        .route("/v1/proposals/{id}/kill", post(kill_run))
        .route("/v1/sandboxes/{id}/kill", post(kill_sandbox))
        .route("/v1/shutdown", post(shutdown))
}

/// The operator who asks: a request that takes this is refused to everybody else, before its body is read.
struct Asker(Operator);

impl FromRequestParts<Services> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Refusal> {
        let ConnectInfo(peer) = ConnectInfo::<Peer>::from_request_parts(parts, services)
            .await
            .map_err(|error| Problem::new(Code::Internal, format!("the peer is not known: {error}")))?;
        Ok(Self(services.access.operator(peer, &parts.headers)?))
    }
}

async fn snapshot(State(services): State<Services>, _: Asker) -> Result<Response, Refusal> {
    Ok(reply::json(&look(&services).await?))
}

/// Everything, with usage as it is now.
async fn look(services: &Services) -> Result<Snapshot, Problem> {
    services.meters.asked();
    watcher::read_usage(&services.meters, &services.mailbox).await;
    services.mailbox.query(Look::Snapshot).await
}

async fn events(State(services): State<Services>, _: Asker) -> Response {
    let (lines, stream) = follow::channel();
    tokio::spawn(follow::everything(services, lines));
    reply::lines(stream)
}

#[derive(Deserialize)]
struct ListOptions {
    /// Only those that stand so.
    status: Option<Status>,
}

async fn proposals(
    State(services): State<Services>,
    _: Asker,
    Options(options): Options<ListOptions>,
) -> Result<Response, Refusal> {
    let rows = services.mailbox.query(Look::Snapshot).await?.proposals;
    let wanted = |row: &ProposalRow| options.status.is_none_or(|status| row.status == status);
    Ok(reply::json(&rows.into_iter().filter(wanted).collect::<Vec<_>>()))
}

async fn show(State(services): State<Services>, _: Asker, Named(id): Named) -> Result<Response, Refusal> {
    let id = proposal_named(&services, &id).await?;
    Ok(reply::json(&detail(&services, &id).await?))
}

async fn output(
    State(services): State<Services>,
    _: Asker,
    Named(id): Named,
    Options(options): Options<OutputOptions>,
) -> Result<Response, Refusal> {
    let id = proposal_named(&services, &id).await?;
    Ok(stream_output(services, id, options.from, options.follow))
}

async fn verdict(
    State(services): State<Services>,
    Asker(operator): Asker,
    Named(id): Named,
    body: Payload,
) -> Result<Response, Refusal> {
    let (VerdictRequest { digest, verdict, reason }, _) = body.read()?;
    let choice = match verdict {
        Choice::Approved => Decision::Approve,
        Choice::Rejected => Decision::Reject,
    };
    let id = proposal_named(&services, &id).await?;
    services.mailbox.request(Request::Decide { id: id.clone(), digest, choice, reason, operator }).await?;
    Ok(reply::json(&detail(&services, &id).await?))
}

async fn kill_run(
    State(services): State<Services>,
    Asker(operator): Asker,
    Named(id): Named,
) -> Result<Response, Refusal> {
    let target = Target::Proposal(proposal_named(&services, &id).await?);
    services.mailbox.request(Request::Kill { target, operator }).await?;
    Ok(reply::json(&Done {}))
}

async fn kill_sandbox(
    State(services): State<Services>,
    Asker(operator): Asker,
    Named(id): Named,
) -> Result<Response, Refusal> {
    // Its whole name alone: sandboxes are numbered, so the name of one that is gone is the beginning of others'.
    let sandbox = SandboxId(id);
    services.mailbox.request(Request::Kill { target: Target::Sandbox(sandbox), operator }).await?;
    Ok(reply::json(&Done {}))
}

async fn shutdown(State(services): State<Services>, Asker(operator): Asker) -> Response {
    tracing::info!("{} ends the supervisor", operator.name);
    services.mailbox.send(Message::Event(Event::Shutdown)).await;
    reply::json(&Done {})
}

/// The one proposal whose name begins so.
async fn proposal_named(services: &Services, prefix: &str) -> Result<ProposalId, Problem> {
    let prefix = prefix.to_ascii_lowercase();
    let (mut named, _) = services.mailbox.query(|reply| Look::Named(prefix.clone(), reply)).await?;
    if named.iter().all(|id| id.0 != prefix) {
        named.extend(services.journal.ids_with_prefix(&prefix, CANDIDATES).await?);
    }
    named.sort();
    named.dedup();
    match named.as_slice() {
        [] => Err(not_found(&ProposalId(prefix))),
        [one] => Ok(one.clone()),
        many => {
            let some: Vec<_> = many.iter().take(CANDIDATES).map(ToString::to_string).collect();
            let shown = brig_core::visible::line(prefix.as_bytes());
            Err(Problem::new(Code::Ambiguous, format!("`{shown}` fits {}", some.join(", ")))
                .help("give more of its letters"))
        }
    }
}
