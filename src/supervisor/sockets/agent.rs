//! What agents can ask: propose, look at their own, take back.

use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use brig_core::id::ProposalId;
use brig_core::machine::Answer;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Agent, Draft};
use hyper::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval, timeout, timeout_at};

use super::access::Peer;
use super::body::{Payload, Taken};
use super::describe::Route;
use super::follow::{self, Left, Lines, say};
use super::names::{not_found, own_proposal, unknown};
use super::reply::{self, Named, Options, Refusal};
use super::server::Services;
use crate::api::wire::{Done, FollowLine, ProfileRow, ProposalDetail};
use crate::journal::removed;
use crate::supervisor::message::{Query as Look, Request};
use crate::supervisor::view;

/// The longest that a request waits for a proposal to end, in milliseconds.
const LONGEST_WAIT_MS: u64 = 60_000;
/// How long an answer may take before the client is told what it waits for.
const PATIENCE: Duration = Duration::from_millis(250);

/// The agent socket's requests.
pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/proposals", "propose", "Propose", propose)
            .details(
                "Answers with the proposal in full once it is recorded, which can take as long as bringing the image \
                 does; with `follow=true` with lines until it is over. What is refused within 250 ms is answered with \
                 its HTTP status, followed or not. What takes longer begins its lines with notes, and a refusal then \
                 comes as a `problem` line under the status 200.",
            )
            .query::<ProposeOptions>()
            .body::<Draft>()
            .json::<ProposalDetail>()
            .lines::<FollowLine>()
            .refuses(&[Code::InvalidField, Code::UnknownProfile, Code::Loosens, Code::KeyConflict, Code::NotFound])
            .refuses(&[Code::JournalFailed, Code::LocalIo, Code::Unsupported, Code::ImageUnavailable])
            .refuses(&[Code::EngineUnreachable, Code::EngineTimeout, Code::EngineRefused, Code::EngineProtocol]),
        Route::get("/v1/proposals/{id}", "show", "Look at a proposal, or wait for its end", show)
            .details("The proposal in full. One that is no longer in memory is read from the journal.")
            .about_a_proposal()
            .query::<WaitOptions>()
            .json::<ProposalDetail>(),
        Route::get("/v1/proposals/{id}/output", "output", "Read what a run wrote, and follow it", output)
            .details(
                "The proposal, what was written, in order and without gaps, and with `follow` each change until its end.",
            )
            .about_a_proposal()
            .query::<OutputOptions>()
            .lines::<FollowLine>(),
        Route::post("/v1/proposals/{id}/withdraw", "withdraw", "Take a proposal back", withdraw)
            .details("One that waits becomes `withdrawn`; one that is approved or runs is killed. No body.")
            .about_a_proposal()
            .json::<Done>()
            .refuses(&[Code::NotWaiting]),
        Route::get("/v1/profiles", "profiles", "List what can be named as `profile`", profiles)
            .json::<Vec<ProfileRow>>(),
        Route::get("/v1/openapi.json", "openapi", "This description", document).json::<serde_json::Value>(),
    ]
}

/// What this socket answers to, for programs.
async fn document(
    State(services): State<Services>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    services.access.agent(peer, &headers)?;
    Ok(reply::ready_json(super::openapi::AGENT))
}

#[derive(Deserialize, JsonSchema)]
struct ProposeOptions {
    /// Answer with lines: what becomes of it, and its output.
    #[serde(default)]
    follow: bool,
    /// Withdraw it, or kill its run, if the client goes away while it follows.
    #[serde(default)]
    withdraw: bool,
}

async fn propose(
    State(services): State<Services>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Options(options): Options<ProposeOptions>,
    headers: HeaderMap,
    body: Payload,
) -> Result<Response, Refusal> {
    let agent = services.access.agent(peer, &headers)?;
    let (draft, room) = body.read::<Box<Draft>>()?;
    let id = crate::api::new_id()?;
    if !options.follow {
        let request = services.mailbox.request(Request::Propose { id, agent: agent.clone(), draft });
        let mut request = std::pin::pin!(request);
        let answer = timeout(PATIENCE, &mut request).await;
        drop(room);
        let known = accepted(match answer {
            Ok(answer) => answer?,
            Err(_) => request.await?,
        })?;
        return Ok(reply::json(&own(&services, &agent, &known).await?));
    }
    let (lines, stream) = follow::channel();
    let (begin, begun) = oneshot::channel();
    let conversation = Conversation { services, agent, id, lines, withdraw: options.withdraw };
    // A task of its own, so that a client that goes away at any moment is noticed, and its wish heeded.
    tokio::spawn(conversation.lead(draft, room, begin));
    match begun.await {
        Ok(Err(problem)) => Err(problem.into()),
        Ok(Ok(())) | Err(_) => Ok(reply::lines(stream)),
    }
}

/// A client that proposes and follows in one request.
struct Conversation {
    services: Services,
    agent: Agent,
    id: ProposalId,
    lines: Lines,
    withdraw: bool,
}

impl Conversation {
    async fn lead(mut self, draft: Box<Draft>, room: Taken, begin: oneshot::Sender<Result<(), Problem>>) {
        let followed = match self.ask(draft, room, begin).await {
            Ok(true) => follow::proposal(&self.services, &self.id, 0, true, &self.lines).await,
            Ok(false) => Ok(()),
            Err(left) => Err(left),
        };
        if let (Err(Left), true) = (followed, self.withdraw) {
            let request = Request::Withdraw { id: self.id.clone(), agent: self.agent.clone() };
            if let Err(problem) = self.services.mailbox.request(request).await {
                tracing::debug!("{} could not be withdrawn: {problem}", self.id);
            }
        }
    }

    /// Proposes. True when it was accepted, under the name that it has from then on: another one where its key was known.
    /// False when the client was told why not.
    async fn ask(
        &mut self,
        draft: Box<Draft>,
        room: Taken,
        begin: oneshot::Sender<Result<(), Problem>>,
    ) -> Result<bool, Left> {
        let (profile, mailbox) = (draft.profile.clone(), self.services.mailbox.clone());
        let request = Request::Propose { id: self.id.clone(), agent: self.agent.clone(), draft };
        let mut answer = std::pin::pin!(mailbox.request(request));
        let quick = tokio::select! {
            biased;
            answer = &mut answer => Some(answer),
            () = self.lines.closed() => return Err(Left),
            () = tokio::time::sleep(PATIENCE) => None,
        };
        // It has been looked at by now, and what it takes is the queue's: others may be read while it waits.
        drop(room);
        match quick.map(|answer| answer.and_then(accepted)) {
            Some(Ok(id)) => {
                self.id = id;
                begin.send(Ok(())).map(|()| true).map_err(|_| Left)
            }
            Some(Err(problem)) => begin.send(Err(problem)).map(|()| false).map_err(|_| Left),
            None => {
                begin.send(Ok(())).map_err(|_| Left)?;
                let answer = tokio::select! {
                    biased;
                    answer = answer => answer,
                    Left = self.tell_progress(profile) => return Err(Left),
                };
                match answer.and_then(accepted) {
                    Ok(id) => {
                        self.id = id;
                        Ok(true)
                    }
                    Err(problem) => say(&self.lines, &FollowLine::Problem(problem)).await.map(|()| false),
                }
            }
        }
    }

    /// Tells what is being done about the image, until the client goes away.
    async fn tell_progress(&self, profile: Option<String>) -> Left {
        let mut told = String::new();
        let mut ticks = interval(PATIENCE);
        loop {
            tokio::select! {
                () = self.lines.closed() => return Left,
                _ = ticks.tick() => {}
            }
            let pool = self.services.mailbox.query(|reply| Look::Pool(profile.clone(), reply)).await;
            let text = pool.ok().flatten().and_then(|pool| pool.progress).unwrap_or_default();
            if text != told && !text.is_empty() {
                told.clone_from(&text);
                if say(&self.lines, &FollowLine::Note { text }).await.is_err() {
                    return Left;
                }
            }
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct WaitOptions {
    /// Milliseconds to wait for its end, at most a minute; what it is then is answered.
    #[serde(default)]
    wait_ms: u64,
}

async fn show(
    State(services): State<Services>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(id): Named,
    Options(options): Options<WaitOptions>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let agent = services.access.agent(peer, &headers)?;
    let id = own_proposal(&services, &agent, &id).await?;
    let until = Instant::now() + Duration::from_millis(options.wait_ms.min(LONGEST_WAIT_MS));
    if let Some(mut row) = services.mailbox.query(|reply| Look::Follow(id.clone(), reply)).await? {
        // An elapsed wait answers with what there is, and so does a supervisor that ends.
        let _ = timeout_at(until, row.wait_for(|row| row.status.is_final())).await;
    }
    Ok(reply::json(&own(&services, &agent, &id).await?))
}

/// What of a run's output is asked for, on either socket.
#[derive(Deserialize, JsonSchema)]
pub struct OutputOptions {
    /// The number of the first chunk.
    #[serde(default)]
    pub from: u64,
    /// Go on until its end.
    #[serde(default)]
    pub follow: bool,
}

async fn output(
    State(services): State<Services>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(id): Named,
    Options(options): Options<OutputOptions>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let agent = services.access.agent(peer, &headers)?;
    let id = own_proposal(&services, &agent, &id).await?;
    Ok(stream_output(services, id, options.from, options.follow))
}

/// Answers with a proposal's lines.
pub fn stream_output(services: Services, id: ProposalId, from: u64, live: bool) -> Response {
    let (lines, stream) = follow::channel();
    tokio::spawn(async move {
        // A client that leaves changes nothing.
        let _ = follow::proposal(&services, &id, from, live, &lines).await;
    });
    reply::lines(stream)
}

async fn withdraw(
    State(services): State<Services>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let agent = services.access.agent(peer, &headers)?;
    let id = own_proposal(&services, &agent, &id).await?;
    services.mailbox.request(Request::Withdraw { id, agent }).await?;
    Ok(reply::json(&Done {}))
}

async fn profiles(
    State(services): State<Services>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    services.access.agent(peer, &headers)?;
    Ok(reply::json(&services.mailbox.query(Look::Profiles).await?))
}

fn accepted(answer: Answer) -> Result<ProposalId, Problem> {
    match answer {
        Answer::Accepted(id) => Ok(id),
        Answer::Done => Err(Problem::new(Code::Internal, "a proposal was answered with nothing")),
    }
}

/// One of the agent's own proposals. Those of others are as good as not there.
async fn own(services: &Services, agent: &Agent, id: &ProposalId) -> Result<ProposalDetail, Problem> {
    let detail = detail(services, id).await?;
    if detail.row.agent.name != agent.name {
        return Err(not_found(id));
    }
    Ok(detail)
}

/// A proposal, from memory or from the journal.
pub async fn detail(services: &Services, id: &ProposalId) -> Result<ProposalDetail, Problem> {
    let mut detail = match services.mailbox.query(|reply| Look::Proposal(id.clone(), reply)).await? {
        Some(detail) => detail,
        None => match follow::read(services, id).await? {
            Some(proposal) => view::proposal_detail(&proposal),
            None => return Err(unknown(services, id).await),
        },
    };
    if detail.row.end.is_some() {
        // Where the journal cannot be read, the rest is worth more than a refusal.
        detail.output_pruned = services.journal.pruned(id).await.ok().flatten().map(|(at, limit)| removed(at, &limit));
    }
    Ok(detail)
}
