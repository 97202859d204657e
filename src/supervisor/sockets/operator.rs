//! What operators can ask: look at everything, decide, kill, end the supervisor.

use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::response::Response;
use brig_core::id::SandboxId;
use brig_core::machine::{Choice as Decision, Event, Target};
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Operator, Status};
use hyper::http::request::Parts;
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::Peer;
use super::agent::{OutputOptions, detail, stream_output};
use super::body::Payload;
use super::describe::Route;
use super::follow;
use super::history::history;
use super::images;
use super::names::any_proposal;
use super::reply::{self, Named, Options, Refusal};
use super::server::Services;
use crate::api::wire::{
    Choice, Done, FollowLine, History, HistoryRequest, PoolOrder, PoolRow, ProposalDetail, ProposalRow, SandboxRow,
    Snapshot, Update, VerdictRequest,
};
use crate::supervisor::message::{Message, Query as Look, Request};
use crate::supervisor::watcher;
use brig_core::nearest;

/// The operator socket's requests.
pub fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/v1/snapshot", "snapshot", "Look at everything at one moment", snapshot)
            .details(
                "The oldest proposal first. Of the proposals that are over, the last 200 are remembered; older ones are \
                 read from the journal when they are asked for by their `id`.",
            )
            .json::<Snapshot>(),
        Route::get("/v1/events", "events", "Follow everything that changes", events)
            .details(
                "A snapshot, then every change, until the client goes away. Whoever holds this open counts as a console.",
            )
            .lines::<Update>(),
        Route::get("/v1/history", "history", "Find proposals of any age, the newest first", history)
            .details(
                "Out of the journal's index: what is set narrows the answer, and what is not known is refused. The last \
                 proposal of a page, as `before`, gives the next one.",
            )
            .query::<HistoryRequest>()
            .json::<History>()
            .refuses(&[Code::InvalidField, Code::NotFound, Code::Ambiguous, Code::JournalFailed]),
        Route::get("/v1/sandboxes", "sandboxes", "List the sandboxes, with their usage as it is now", sandboxes)
            .json::<Vec<SandboxRow>>(),
        Route::get("/v1/proposals", "proposals", "List the proposals that are remembered, the oldest first", proposals)
            .query::<ListOptions>()
            .json::<Vec<ProposalRow>>(),
        Route::get("/v1/proposals/{id}", "show", "Look at a proposal", show)
            .details("The proposal in full. One that is no longer in memory is read from the journal.")
            .about_a_proposal()
            .json::<ProposalDetail>(),
        Route::get("/v1/proposals/{id}/output", "output", "Read what a run wrote, and follow it", output)
            .details(
                "The proposal, what was written, in order and without gaps, and with `follow` each change until its end.",
            )
            .about_a_proposal()
            .query::<OutputOptions>()
            .lines::<FollowLine>(),
        Route::post("/v1/proposals/{id}/verdict", "verdict", "Decide", verdict)
            .details("Answers with the proposal in full, once the verdict is durable. A verdict is given once.")
            .about_a_proposal()
            .body::<VerdictRequest>()
            .json::<ProposalDetail>()
            .refuses(&[Code::InvalidField, Code::DigestMismatch, Code::NotWaiting]),
        Route::post("/v1/proposals/{id}/kill", "kill_run", "Kill a run, or take back an approval", kill_run)
            .details("Answers at once; the end follows. No body.")
            .about_a_proposal()
            .json::<Done>()
            .refuses(&[Code::NotRunning]),
        Route::post("/v1/sandboxes/{id}/kill", "kill_sandbox", "Kill a sandbox, whatever is in it", kill_sandbox)
            .details("Answers at once; the end follows. No body.")
            .about("The sandbox's whole `id`.")
            .json::<Done>()
            .refuses(&[Code::NotRunning]),
        Route::post("/v1/pools/{profile}", "steer_pool", "Tell a pool something", steer_pool)
            .details(
                "Answers with the pool, once the order is in the journal and holds. What is set lasts until the supervisor \
                 ends or the profile's file changes; a pause or a drain until it is taken back, or the supervisor's end.",
            )
            .about("The profile's name.")
            .body::<PoolOrder>()
            .json::<PoolRow>()
            .refuses(&[Code::InvalidField, Code::UnknownProfile, Code::ShuttingDown]),
        Route::post("/v1/shutdown", "shutdown", "End the supervisor", shutdown)
            .details(
                "What runs is killed, sandboxes are thrown away, what waits goes on waiting in the journal. No body. \
                 Answers at once; it has ended when its sockets are gone, after 8 seconds at the latest.",
            )
            .json::<Done>(),
        Route::get("/v1/openapi.json", "openapi", "This description", document).json::<serde_json::Value>(),
    ];
    routes.extend(images::routes());
    routes
}

/// What this socket answers to, for programs.
async fn document(_: Asker) -> Response {
    reply::ready_json(super::openapi::OPERATOR)
}

/// The operator who asks: a request that takes this is refused to everybody else, before its body is read.
pub struct Asker(pub Operator);

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

async fn sandboxes(State(services): State<Services>, _: Asker) -> Result<Response, Refusal> {
    watcher::read_usage(&services.meters, &services.mailbox).await;
    Ok(reply::json(&services.mailbox.query(Look::Sandboxes).await?))
}

async fn events(State(services): State<Services>, _: Asker) -> Response {
    let (lines, stream) = follow::channel();
    tokio::spawn(follow::everything(services, lines));
    reply::lines(stream)
}

#[derive(Deserialize, JsonSchema)]
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
    let id = any_proposal(&services, &id).await?;
    Ok(reply::json(&detail(&services, &id).await?))
}

async fn output(
    State(services): State<Services>,
    _: Asker,
    Named(id): Named,
    Options(options): Options<OutputOptions>,
) -> Result<Response, Refusal> {
    let id = any_proposal(&services, &id).await?;
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
    let id = any_proposal(&services, &id).await?;
    services.mailbox.request(Request::Decide { id: id.clone(), digest, choice, reason, operator }).await?;
    Ok(reply::json(&detail(&services, &id).await?))
}

async fn kill_run(
    State(services): State<Services>,
    Asker(operator): Asker,
    Named(id): Named,
) -> Result<Response, Refusal> {
    let target = Target::Proposal(any_proposal(&services, &id).await?);
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

async fn steer_pool(
    State(services): State<Services>,
    Asker(operator): Asker,
    Named(profile): Named,
    body: Payload,
) -> Result<Response, Refusal> {
    let (order, _) = body.read::<PoolOrder>()?;
    let request = Request::Steer { profile: profile.clone(), order, operator };
    match services.mailbox.request(request).await {
        Err(problem) if problem.code == Code::UnknownProfile => {
            return Err(meant(&services, &profile, problem).await.into());
        }
        answer => answer?,
    };
    let row: Option<PoolRow> = services.mailbox.query(|reply| Look::Pool(Some(profile), reply)).await?;
    let gone = || Problem::new(Code::UnknownProfile, "the profile was removed meanwhile");
    Ok(reply::json(&row.ok_or_else(gone)?))
}

/// The same problem, with the name that was probably meant.
async fn meant(services: &Services, name: &str, mut problem: Problem) -> Problem {
    if let Ok(profiles) = services.mailbox.query(Look::Profiles).await {
        let known: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        problem.message.push_str(&nearest::hint(name, &known));
    }
    problem
}

async fn shutdown(State(services): State<Services>, Asker(operator): Asker) -> Response {
    tracing::info!("{} ends the supervisor", operator.name);
    services.mailbox.send(Message::Event(Event::Shutdown)).await;
    reply::json(&Done {})
}
