//! What was proposed so far, and what became of it: found by the journal's index, and read from the journal.

use axum::extract::State;
use axum::response::Response;
use brig_core::problem::{Code, Problem};

use super::follow;
use super::names::any_proposal;
use super::operator::Asker;
use super::reply::{self, Options, Refusal};
use super::server::Services;
use crate::api::wire::{HISTORY_LIMIT, History, HistoryRequest};
use crate::journal::Filter;
use crate::supervisor::view;

/// Proposals on a page whose length was not asked for.
const PAGE: usize = 50;

/// Answers with a page. Proposals are read one after another, so that no more than one of them, whose input may be large,
/// is in memory.
pub async fn history(
    State(services): State<Services>,
    _: Asker,
    Options(request): Options<HistoryRequest>,
) -> Result<Response, Refusal> {
    let limit = request.limit.unwrap_or(PAGE);
    if !(1..=HISTORY_LIMIT).contains(&limit) {
        return Err(Problem::new(Code::InvalidField, format!("limit is {limit}"))
            .help(format!("it is from 1 to {HISTORY_LIMIT}; `before` gives the next page"))
            .into());
    }
    let before = match &request.before {
        Some(name) => Some(any_proposal(&services, name).await?),
        None => None,
    };
    let words = request.text.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let HistoryRequest { agent, profile, status, verdict, end, operator, since, until, .. } = request;
    let filter = Filter { words, agent, profile, status, verdict, end, operator, since, until, before };
    let mut ids = services.journal.history(filter, limit + 1).await?;
    let more = ids.len() > limit;
    ids.truncate(limit);
    let mut proposals = Vec::new();
    for id in &ids {
        proposals.extend(follow::read(&services, id).await?.as_ref().map(view::proposal_row));
    }
    Ok(reply::json(&History { proposals, more }))
}
