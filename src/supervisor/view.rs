//! Rows for those who look, made from the state.

use brig_core::id::SandboxId;
use brig_core::machine::{EngineState, Pool, Proposal, Sandbox, State};
use brig_core::time::Now;

use super::message::ProfileImage;
use crate::api::wire::{
    ByRow, Latency, PoolRow, ProfileRow, ProposalDetail, ProposalRow, ReplacingRow, RunRow, SandboxRow, Since, UsageRow,
};

/// Characters of a reason that a row carries.
const REASON_CHARACTERS: usize = 512;

/// A proposal's row.
pub fn proposal_row(proposal: &Proposal) -> ProposalRow {
    let envelope = &proposal.envelope;
    ProposalRow {
        id: proposal.id.clone(),
        digest: proposal.digest,
        status: proposal.status(),
        profile: envelope.profile.clone(),
        command: proposal.command.clone(),
        command_is_all: proposal.command_is_all,
        reason: proposal.reason.chars().take(REASON_CHARACTERS).collect(),
        agent: proposal.agent.clone(),
        ruling: proposal.ruling.clone(),
        returned: proposal.returned.clone(),
        received_at: proposal.received_at,
        expires_at: proposal.expires_at,
        verdict: proposal.verdict.clone(),
        run: proposal.run.as_ref().map(|run| RunRow {
            sandbox: run.sandbox.clone(),
            cold: run.cold,
            started_at: run.started_at,
            deadline_at: run.deadline_at,
            step: run.step,
            steps: run.steps,
        }),
        end: proposal.end.clone(),
    }
}

/// A proposal's row with all that it would do.
pub fn proposal_detail(proposal: &Proposal) -> ProposalDetail {
    ProposalDetail::new(proposal_row(proposal), proposal.reason.clone(), &proposal.envelope)
}

/// A sandbox's row.
pub fn sandbox_row(state: &State, id: &SandboxId, sandbox: &Sandbox, usage: Option<UsageRow>) -> SandboxRow {
    let proposal = sandbox.proposal.as_ref().and_then(|id| state.proposal(id));
    SandboxRow {
        id: id.clone(),
        engine_id: sandbox.engine_id.clone(),
        state: sandbox.state,
        profile: sandbox.profile.clone(),
        proposal: sandbox.proposal.clone(),
        command: proposal.map(|proposal| proposal.command.clone()),
        since: sandbox.since.wall,
        deadline_at: proposal.and_then(|proposal| proposal.run.as_ref()).map(|run| run.deadline_at),
        step: proposal.and_then(|proposal| proposal.run.as_ref()).map(|run| run.step),
        steps: proposal.and_then(|proposal| proposal.run.as_ref()).map(|run| run.steps),
        killed_by: sandbox.killed_by.clone(),
        usage,
    }
}

/// A pool's row.
pub fn pool_row(state: &State, pool: &Pool, latency: Latency, now: Now) -> PoolRow {
    let (counts, policy, steering) = (state.counts(pool), pool.policy(), pool.steering());
    PoolRow {
        profile: pool.profile.name.clone(),
        description: pool.profile.description.clone(),
        state: state.pool_state(pool, now),
        image: pool.profile.cage.image.clone(),
        image_source: pool.image.resolved.as_ref().map(|image| image.source),
        progress: pool.image.progress.clone(),
        ready: counts.warm,
        arming: counts.arming,
        leased: counts.busy,
        min: policy.min,
        target: policy.target,
        max: policy.max,
        wanted: pool.wanted().ready,
        reason: reason(state, pool),
        set: steering.set.as_ref().map(|it| ByRow { by: it.by.clone(), since: it.since }),
        held: steering.hold.as_ref().map(|it| ByRow { by: it.by.clone(), since: it.since }),
        replacing: steering.replacing.as_ref().map(|it| ReplacingRow {
            left: u32::try_from(it.left.len()).unwrap_or(u32::MAX),
            by: it.by.clone(),
            since: it.since,
        }),
        waiting: counts.waiting,
        hits: pool.hits,
        misses: pool.misses,
        failures: pool.failures,
        last_error: pool.last_error.clone(),
        retry_at: pool.retries_at(now),
        latency,
    }
}

/// Why a pool wants as many warm ones as it does, in one sentence for people.
fn reason(state: &State, pool: &Pool) -> String {
    let is_gone = state.profiles().all(|profile| profile.name != pool.profile.name);
    match &pool.steering().hold {
        _ if is_gone => "none wanted: its profile is gone".to_owned(),
        Some(hold) if hold.drains => format!("none wanted: drained by {}", hold.by),
        Some(hold) => format!("none are made: paused by {}", hold.by),
        None if !pool.is_active() => "none wanted: not used yet".to_owned(),
        None => pool.wanted().sentence(),
    }
}

/// The images that profiles name.
pub fn profile_images(state: &State) -> Vec<ProfileImage> {
    let image = |pool: &Pool| {
        let counts = state.counts(pool);
        ProfileImage {
            profile: pool.profile.name.clone(),
            cage: pool.profile.cage.clone(),
            resolved: pool.image.resolved.clone(),
            progress: pool.image.progress.clone(),
            sandboxes: counts.warm + counts.arming + counts.busy,
        }
    };
    state.pools().map(image).collect()
}

/// The profiles, as agents see them.
pub fn profile_rows(state: &State) -> Vec<ProfileRow> {
    let row = |profile: &std::sync::Arc<brig_core::profile::Profile>| ProfileRow {
        name: profile.name.clone(),
        description: profile.description.clone(),
        is_default: profile.name == state.config().default_profile,
        timeout_ms: profile.timeout_ms,
        output_limit: profile.output_limit,
    };
    state.profiles().map(row).collect()
}

/// Why the engine is away, if it is.
pub fn engine_problem(state: &State) -> Option<Since> {
    match state.engine() {
        EngineState::Down { problem, since } => Some(Since { problem: problem.clone(), since: *since }),
        EngineState::Up | EngineState::Unknown => None,
    }
}

/// Why the journal cannot be written, if it cannot.
pub fn journal_problem(state: &State) -> Option<Since> {
    state.journal_problem().map(|(problem, since)| Since { problem: problem.clone(), since: *since })
}
