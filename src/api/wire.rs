//! Everything that goes over the sockets, as it goes over them.
//!
//! Times are milliseconds since 1970-01-01T00:00:00Z. Text that an agent or a program chose is in fields of its own, raw:
//! whoever shows it makes it visible (`brig_core::visible`). The one exception is `command`, which is already visible, as
//! it exists only to be shown.

use brig_core::envelope::{Envelope, File, Step};
use brig_core::id::{ProposalId, SandboxId};
use brig_core::problem::Problem;
use brig_core::profile::{Cage, Hash, ImageSource};
use brig_core::proposal::{Agent, OutputStream, Ruling, RunEnd, Status, StepEnd, StepKind, Verdict, VerdictKind};
use brig_core::time::Wall;
use brig_core::{blob::Blob, proposal::EndKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::EngineInfo;

pub use brig_core::histogram::{Spread, Summary};
pub use brig_core::machine::{PoolState, SandboxState};
pub use brig_core::pool::PoolOrder;

/// Every answer that is no success, under its HTTP status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: Problem,
}

/// A proposal as it stands in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalRow {
    /// Its name, and its run's.
    pub id: ProposalId,
    /// Names exactly what is asked. A verdict carries it.
    pub digest: Hash,
    /// Where it stands.
    pub status: Status,
    /// The profile's name.
    pub profile: String,
    /// The command on one line, made visible, at most 512 characters of it.
    pub command: String,
    /// Whether `command` is all that would run: one step, uncut, with no variables, standard input or files.
    pub command_is_all: bool,
    /// Why, in the agent's words, at most 512 characters of it.
    pub reason: String,
    /// Who asks.
    pub agent: Agent,
    /// What policy said.
    pub ruling: Ruling,
    /// Why it was sent back to ask, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<String>,
    /// When it came.
    pub received_at: Wall,
    /// When it ends as expired, if nobody decides.
    pub expires_at: Wall,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Its run, once it was handed to a sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRow>,
    /// How its run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
}

/// The run of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRow {
    /// Where it runs or ran.
    pub sandbox: SandboxId,
    /// The sandbox was made for it, as none was warm.
    pub cold: bool,
    /// When it was handed over.
    pub started_at: Wall,
    /// When its time is up.
    pub deadline_at: Wall,
    /// The step that runs or ran last, as far as its output has told; from 0. After the end, the end says more.
    pub step: u32,
    /// How many steps there are.
    pub steps: u32,
}

/// A proposal with all that it would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalDetail {
    /// As in a list.
    #[serde(flatten)]
    pub row: ProposalRow,
    /// The reason in full.
    pub full_reason: String,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// Whether a step that fails lets the next one run.
    pub keep_going: bool,
    /// Standard input of the first step.
    pub stdin: Blob,
    /// Files that are written first.
    pub files: Vec<File>,
    /// Wall-clock limit in milliseconds.
    pub timeout_ms: u64,
    /// Output limit in bytes.
    pub output_limit: u64,
    /// What it runs in.
    pub cage: Cage,
    /// The image, as the daemon knows it.
    pub image_id: String,
    /// When and by which limit its output was removed, for people, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_pruned: Option<String>,
}

impl ProposalDetail {
    /// A row with its envelope.
    #[must_use]
    pub fn new(row: ProposalRow, full_reason: String, envelope: &Envelope) -> Self {
        Self {
            row,
            full_reason,
            steps: envelope.steps.clone(),
            keep_going: envelope.keep_going,
            stdin: envelope.stdin.clone(),
            files: envelope.files.clone(),
            timeout_ms: envelope.deadline_ms,
            output_limit: envelope.output_limit,
            cage: envelope.cage.clone(),
            image_id: envelope.image_id.clone(),
            output_pruned: None,
        }
    }
}

/// The most proposals that a page of the history has.
pub const HISTORY_LIMIT: usize = 1_000;

/// The query of `GET /v1/history`: which proposals somebody looks for. What is not set lets all of them through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryRequest {
    /// Words, each of which is in the command or in the reason, in upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Proposed by this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// For this profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictKind>,
    /// How its run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndKind>,
    /// Decided, or killed, by this operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Came at this moment or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Wall>,
    /// Came before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Wall>,
    /// Came before this proposal, whose name may be shortened: the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At most so many of them: 50 when it is not set, and never more than [`HISTORY_LIMIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of the history, the newest proposal first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The proposals.
    pub proposals: Vec<ProposalRow>,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxRow {
    /// brig's name for it.
    pub id: SandboxId,
    /// The engine's name for it, empty until it has one.
    pub engine_id: String,
    /// Where it stands.
    pub state: SandboxState,
    /// The profile's name.
    pub profile: String,
    /// The proposal that runs in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<ProposalId>,
    /// The command that runs in it, as in [`ProposalRow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Since when it is in this state.
    pub since: Wall,
    /// When its run's time is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Wall>,
    /// The step that runs in it, as in [`RunRow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// How many steps there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Who asked for it to be killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_by: Option<String>,
    /// What it uses, where that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageRow>,
}

/// What a sandbox uses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// Percent of one core since the last look: 100 is one core. Absent at the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of memory that it may use.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processes and threads that it may have.
    pub pids_limit: u64,
    /// Bytes read from block devices.
    pub io_read: u64,
    /// Bytes written to block devices.
    pub io_write: u64,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolRow {
    /// The profile's name.
    pub profile: String,
    /// The profile's description.
    pub description: String,
    /// Where it stands.
    pub state: PoolState,
    /// The image's reference.
    pub image: String,
    /// Where the image came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_source: Option<ImageSource>,
    /// What is being done to have the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Sandboxes that wait for a request.
    pub ready: u32,
    /// Sandboxes being made.
    pub arming: u32,
    /// Sandboxes granted or running.
    pub leased: u32,
    /// How many shall be ready when nothing has run for an hour.
    pub min: u32,
    /// How many shall be ready at rest.
    pub target: u32,
    /// How many there may be at once.
    pub max: u32,
    /// How many shall be ready now: `target`, and more while there is more demand.
    pub wanted: u32,
    /// Why so many, for people.
    pub reason: String,
    /// Who has set `min`, `target` and `max` in place of the profile's, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<ByRow>,
    /// Who has paused or drained it (see `state`), and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<ByRow>,
    /// What is warm and still to be replaced, as an operator has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacing: Option<ReplacingRow>,
    /// Approved proposals that wait for a sandbox.
    pub waiting: u32,
    /// Runs that found a warm sandbox.
    pub hits: u64,
    /// Runs that had to wait for one to be made.
    pub misses: u64,
    /// Sandboxes that could not be made, or died unused.
    pub failures: u64,
    /// The last of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Problem>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Wall>,
    /// How long things take in it.
    #[serde(default)]
    pub latency: Latency,
}

/// How long things take in a pool: microseconds, each within 1/32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// From the lease of a warm sandbox to the first byte that the program wrote.
    pub first_byte: Spread,
    /// From the lease to the end of the run, without the time that its program took.
    pub overhead: Spread,
    /// To make a sandbox, until it waits for its request.
    pub arming: Spread,
}

/// An operator, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByRow {
    /// Who.
    pub by: String,
    /// Since when.
    pub since: Wall,
}

/// What is still to be replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplacingRow {
    /// How many.
    pub left: u32,
    /// Who asked for it.
    pub by: String,
    /// Since when.
    pub since: Wall,
}

/// The supervisor itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SupervisorRow {
    /// brig's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The machine it runs on.
    pub host: String,
    /// When it began.
    pub started_at: Wall,
    /// The profile of proposals that name none.
    pub default_profile: String,
    /// The engine, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineInfo>,
    /// Why the engine is away, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_problem: Option<Since>,
    /// Why the journal cannot be written, and since when. Nothing new runs then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_problem: Option<Since>,
    /// What the journal takes, and may take. Missing until it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<brig_core::retention::Usage>,
    /// What is wrong with the settings that were changed last; the ones before are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_problem: Option<Since>,
    /// Whether it ends with its last console.
    pub ends_with_consoles: bool,
    /// Consoles that are open.
    pub consoles: u32,
}

/// A problem that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Since {
    /// What it is.
    pub problem: Problem,
    /// When it began.
    pub since: Wall,
}

/// Everything an operator sees, at one moment. The oldest proposal first; finished ones as far as they are remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The supervisor.
    pub supervisor: SupervisorRow,
    /// The queue, and what became of it.
    pub proposals: Vec<ProposalRow>,
    /// The sandboxes.
    pub sandboxes: Vec<SandboxRow>,
    /// The pools.
    pub pools: Vec<PoolRow>,
}

/// A line of `GET /v1/events`. The first line is a snapshot, and so is one that follows a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Update {
    /// All of it, replacing what was known.
    Snapshot(Snapshot),
    /// A proposal is new or has changed.
    Proposal(ProposalRow),
    /// A finished proposal is no longer remembered.
    ProposalGone {
        /// Which one.
        id: ProposalId,
    },
    /// A sandbox is new or has changed, or its usage was read.
    Sandbox(SandboxRow),
    /// A sandbox was removed.
    SandboxGone {
        /// Which one.
        id: SandboxId,
    },
    /// A pool is new or has changed.
    Pool(PoolRow),
    /// A pool was removed.
    PoolGone {
        /// Its profile.
        profile: String,
    },
    /// The supervisor's own row has changed.
    Supervisor(SupervisorRow),
    /// Nothing has happened for a while; the connection is alive.
    Alive,
}

/// A line of a proposal's output, `GET /v1/proposals/ID/output`, or of `POST /v1/proposals?follow=true`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FollowLine {
    /// The proposal's row: at the beginning, at each change, and as the last line.
    Proposal(Box<ProposalRow>),
    /// Bytes that the program wrote.
    Output {
        /// Counts up from 0 without gaps; `?from=N` begins there.
        seq: u64,
        /// When they came.
        at: Wall,
        /// On which stream.
        stream: OutputStream,
        /// While which step of the run, from 0.
        step: u32,
        /// The bytes.
        data: Blob,
    },
    /// What is being done before the proposal can be recorded, for people, as in `pulling busybox: 1.2 of 2.1 MB`.
    Note {
        /// The words.
        text: String,
    },
    /// It was turned away after the answer had begun. The last line.
    Problem(Problem),
    /// Nothing has happened for a while; the connection is alive.
    Alive,
}

/// `POST /v1/proposals/ID/verdict`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictRequest {
    /// At least the first 8 characters of the digest that was looked at.
    pub digest: String,
    /// Approve or reject.
    pub verdict: Choice,
    /// Given to the agent. Needed to reject.
    #[serde(default)]
    pub reason: String,
}

/// What an operator can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// It may run once.
    Approved,
    /// It does not run.
    Rejected,
}

/// An image, in `GET /v1/images`: that of a profile, or one that brig has made and no profile uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageRow {
    /// The profile that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its reference, as the profile names it or brig has named it.
    pub image: String,
    /// What it is built from, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_from: Option<String>,
    /// The engine's identifier, when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it came from, once the profile's pool has looked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImageSource>,
    /// What is being done to have it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Bytes on disk, with what it shares with other images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Wall>,
    /// Sandboxes that there are of the profile.
    pub sandboxes: u32,
}

/// `POST /v1/images/bring`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BringImage {
    /// The profile whose image is meant.
    pub profile: String,
    /// Pull or build.
    pub how: Bringing,
    /// Build although nothing has changed, and take nothing from earlier builds.
    #[serde(default)]
    pub no_cache: bool,
    /// Build although nothing has changed, from the newest base.
    #[serde(default)]
    pub pull: bool,
}

/// How an image is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bringing {
    /// From its registry.
    Pull,
    /// From what the profile's `build` names.
    Build,
}

/// A line of the answer to [`BringImage`]. The last is `done` or `problem`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ImageLine {
    /// What is being done, for people; may hold what a program of the build wrote.
    Progress {
        /// One line.
        line: String,
    },
    /// The image is there.
    Done {
        /// The engine's identifier.
        id: String,
        /// Where it came from.
        source: ImageSource,
    },
    /// It is not.
    Problem(Problem),
}

/// `POST /v1/images/prune`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneImages {
    /// Only say what would be removed.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// What is gone, or would be.
    pub removed: Vec<RemovedImage>,
    /// What no profile uses and stays nevertheless.
    pub kept: Vec<KeptImage>,
    /// Bytes of what is gone, with what it shared with images that stay.
    pub bytes: u64,
}

/// An image that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedImage {
    /// Its reference.
    pub image: String,
    /// The engine's identifier.
    pub id: String,
    /// Bytes on disk, with what it shared with others.
    pub bytes: u64,
}

/// An image that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptImage {
    /// Its reference.
    pub image: String,
    /// The engine's identifier.
    pub id: String,
    /// What keeps it.
    pub why: String,
}

/// Everything that a request can answer where there is nothing to say: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}

/// A profile as agents see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileRow {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Whether proposals that name none get it.
    pub is_default: bool,
    /// A run's wall-clock limit in milliseconds.
    pub timeout_ms: u64,
    /// A run's output limit in bytes.
    pub output_limit: u64,
}

/// The end of a run in a few words, for people, as in `exited 0`, `killed by anna` or `deadline in step 2 of 3`.
#[must_use]
pub fn end_text(end: &RunEnd) -> String {
    let mut text = match (end.kind, end.exit_code, end.signal, &end.by) {
        (EndKind::Exited, Some(code), _, _) => format!("exited {code}"),
        (EndKind::Exited, None, Some(signal), _) => format!("ended by signal {signal}"),
        (EndKind::Killed, _, _, Some(by)) => format!("killed by {by}"),
        (kind, ..) => kind.text().to_owned(),
    };
    if !end.steps.is_empty() && (end.kind, end.exit_code) != (EndKind::Exited, Some(0)) {
        text = format!("{text} in {}", step_text(end.step, end.steps.len()));
    }
    if !end.note.is_empty() {
        text = format!("{text}: {}", end.note);
    }
    text
}

/// A step's place, for people, as in `step 2 of 5`.
#[must_use]
pub fn step_text(step: u32, of: usize) -> String {
    format!("step {} of {of}", u64::from(step) + 1)
}

/// The step that runs, for people, where there are several.
#[must_use]
pub fn running_step(row: &ProposalRow) -> Option<String> {
    let run = row.run.as_ref().filter(|run| run.steps > 1 && row.status == Status::Running)?;
    Some(step_text(run.step, run.steps as usize))
}

/// How one of several steps ended, for people, as in `exited 3` or `not run`.
#[must_use]
pub fn step_end_text(end: &StepEnd) -> String {
    let text = match (end.kind, end.exit_code, end.signal) {
        (StepKind::Exited, Some(code), _) => format!("exited {code}"),
        (StepKind::Exited, None, Some(signal)) => format!("ended by signal {signal}"),
        (kind, ..) => kind.text().to_owned(),
    };
    if end.note.is_empty() { text } else { format!("{text}: {}", end.note) }
}
