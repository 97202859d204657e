//! Which proposal a name means: it may be shortened to what is unique, and one that is nearly right is told.

use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::Agent;
use brig_core::{nearest, visible};

use super::server::Services;
use crate::journal::removed;
use crate::supervisor::message::Query as Look;

/// How many proposals a shortened name may fit before the answer stops counting.
const CANDIDATES: usize = 5;
/// Letters at the beginning that a mistyped name must have in common with the one that was meant, where the journal or an
/// agent asks: so nobody can make the state's task go through all of its proposals letter by letter.
const SURE_LETTERS: usize = 2;
/// Names of the journal that are compared with a mistyped one.
const NEIGHBOURS: usize = 2_000;

/// The one proposal whose name begins so.
///
/// # Errors
/// `not_found`, with the name that is nearly the same; `ambiguous`, with those that it fits.
pub async fn any_proposal(services: &Services, name: &str) -> Result<ProposalId, Problem> {
    resolve(services, name, None).await
}

/// The agent's one proposal whose name begins so. Those of others are as good as not there.
///
/// # Errors
/// As [`any_proposal`].
pub async fn own_proposal(services: &Services, agent: &Agent, name: &str) -> Result<ProposalId, Problem> {
    resolve(services, name, Some(&agent.name)).await
}

async fn resolve(services: &Services, name: &str, agent: Option<&str>) -> Result<ProposalId, Problem> {
    let prefix = as_meant(name);
    let mut fit = Vec::new();
    if !prefix.is_empty() {
        fit = remembered(services, &prefix, agent).await?;
        if fit.iter().all(|id| id.0 != prefix) {
            fit.extend(recorded(services, &prefix, agent, CANDIDATES).await?);
        }
        fit.sort();
        fit.dedup();
    }
    match fit.as_slice() {
        [] => Err(match nearly(services, &prefix, agent).await? {
            Some(other) => not_found(&ProposalId(name.to_owned())).help(format!("did you mean `{other}`?")),
            None => unknown(services, &ProposalId(name.to_owned())).await,
        }),
        [one] => Ok(one.clone()),
        // A whole name is the beginning of no other.
        many => match many.iter().find(|id| id.0 == prefix) {
            Some(whole) => Ok(whole.clone()),
            None => Err(ambiguous(name, many)),
        },
    }
}

/// As Crockford's alphabet is read: no letter is a digit's double, and case means nothing.
fn as_meant(name: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    name.chars().map(letter).collect()
}

async fn remembered(services: &Services, prefix: &str, agent: Option<&str>) -> Result<Vec<ProposalId>, Problem> {
    let named = services.mailbox.query(|reply| Look::Named(prefix.to_owned(), reply)).await?;
    let own = |whose: &str| agent.is_none_or(|agent| agent == whose);
    Ok(named.into_iter().filter(|(_, whose)| own(whose)).map(|(id, _)| id).collect())
}

async fn recorded(
    services: &Services,
    prefix: &str,
    agent: Option<&str>,
    limit: usize,
) -> Result<Vec<ProposalId>, Problem> {
    match agent {
        None => services.journal.ids_with_prefix(prefix, limit).await,
        Some(agent) => services.journal.ids_of_agent(agent, prefix, limit).await,
    }
}

/// The known name that a mistyped whole one was probably meant to be.
async fn nearly(services: &Services, name: &str, agent: Option<&str>) -> Result<Option<ProposalId>, Problem> {
    if name.len() + 1 < ProposalId::LENGTH || name.len() > ProposalId::LENGTH + 1 {
        return Ok(None);
    }
    let Some(sure) = name.get(..SURE_LETTERS) else { return Ok(None) };
    let mut known = remembered(services, if agent.is_some() { sure } else { "" }, agent).await?;
    known.extend(recorded(services, sure, agent, NEIGHBOURS).await?);
    let words: Vec<&str> = known.iter().map(|id| id.0.as_str()).collect();
    Ok(nearest::nearest(name, &words).map(|found| ProposalId(found.to_owned())))
}

fn ambiguous(name: &str, fit: &[ProposalId]) -> Problem {
    let some: Vec<_> = fit.iter().take(CANDIDATES).map(ToString::to_string).collect();
    let more = if fit.len() >= CANDIDATES { " and maybe more" } else { "" };
    let shown = visible::line(name.as_bytes());
    Problem::new(Code::Ambiguous, format!("`{shown}` fits {}{more}", some.join(", "))).help("give more of its letters")
}

/// Nothing is known under this name, and whether that may be as it is too old.
pub async fn unknown(services: &Services, id: &ProposalId) -> Problem {
    let problem = not_found(id);
    match services.journal.cut().await {
        Ok(Some((at, limit))) => {
            let help = format!("the oldest proposals were {}; {}", removed(at, &limit), problem.help);
            problem.help(help)
        }
        _ => problem,
    }
}

/// Nothing is known under this name.
pub fn not_found(id: &ProposalId) -> Problem {
    let shown = visible::line(id.0.as_bytes());
    Problem::new(Code::NotFound, format!("there is no proposal `{shown}`"))
        .help("`brig queue` lists those that wait, `brig history` all of them")
}
