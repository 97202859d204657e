//! What an agent asks, what is answered, and how it ends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::envelope::File;
use crate::profile::Hash;
use crate::time::Wall;

/// A proposal as an agent sends it, before admission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The profile's name; the default profile when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What shall run, in order; at least one step.
    pub steps: Vec<DraftStep>,
    /// Whether a step that fails lets the next one run.
    #[serde(default)]
    pub keep_going: bool,
    /// Standard input of the first step, complete.
    #[serde(default)]
    pub stdin: Blob,
    /// Files to write into the scratch first.
    #[serde(default)]
    pub files: Vec<File>,
    /// A shorter wall-clock limit than the profile's, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// A smaller output limit than the profile's, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<u64>,
    /// Why, in the agent's words.
    #[serde(default)]
    pub reason: String,
    /// Idempotency key: the same key with the same content answers with the same proposal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One step as an agent sends it: a program with its arguments, or code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftStep {
    /// Program and arguments; of code the arguments alone.
    #[serde(default)]
    pub argv: Vec<Blob>,
    /// Source text for one of the profile's interpreters, instead of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Blob>,
    /// What `code` is written in; the profile's only language when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Variables on top of the profile's.
    #[serde(default)]
    pub env: BTreeMap<String, Blob>,
    /// Working directory, absolute; the profile's when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Blob>,
}

/// Who proposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// The token's name, or else the peer's user name.
    pub name: String,
    /// The peer's user.
    pub uid: u32,
    /// The peer's process, where the socket tells.
    pub pid: Option<i32>,
    /// It runs as the operator's own user, so it could decide for itself by other means.
    pub is_operator_user: bool,
}

/// Who decides, kills and looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operator {
    /// The peer's user name.
    pub name: String,
    /// The peer's user.
    pub uid: u32,
}

/// What a policy said, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ruling {
    /// Allow or ask.
    pub effect: Judgement,
    /// The rule's name.
    pub rule: String,
    /// Why it decided so, for people.
    pub why: String,
}

impl Ruling {
    /// What is said of a proposal that was sent back: a person decides, whatever was ruled before.
    #[must_use]
    pub fn returned(why: &str) -> Self {
        Self { effect: Judgement::Ask, rule: "returned".into(), why: why.to_owned() }
    }
}

/// What a policy can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// It runs without a question.
    Allow,
    /// A person decides.
    Ask,
}

/// The one answer to a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// What was decided.
    pub kind: VerdictKind,
    /// Who or what decided.
    pub by: Decider,
    /// Why, in the decider's words. Given to the agent.
    #[serde(default)]
    pub reason: String,
    /// The digest that was decided on.
    pub digest: Hash,
    /// When.
    pub at: Wall,
}

/// What can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// It may run once, as it is.
    Approved,
    /// It does not run.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// The agent took it back.
    Withdrawn,
}

/// Who or what decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Decider {
    /// A person.
    Operator {
        /// Who.
        name: String,
        /// The user that the socket told.
        uid: u32,
    },
    /// A rule.
    Rule {
        /// Which.
        name: String,
    },
    /// The agent itself, by withdrawing.
    Agent,
    /// Time.
    Clock,
}

/// How a run ended. Every run has exactly one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunEnd {
    /// In one word.
    pub kind: EndKind,
    /// The exit status of the step that `step` names, where it exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended that step, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Who killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What else there is to know, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The step that was running when the run was stopped, else the first one that failed, else the last; from 0.
    #[serde(default)]
    pub step: u32,
    /// How each step ended, in order. Empty where there was only one, and where nobody saw the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepEnd>,
    /// What it used.
    pub usage: RunUsage,
    /// What it wrote.
    pub output: OutputSummary,
    /// When.
    pub at: Wall,
}

/// How one of several steps ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepEnd {
    /// In one word.
    pub kind: StepKind,
    /// The exit status, where it exited by itself; 126 or 127 where it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Microseconds that it took.
    pub wall_us: u64,
    /// Bytes kept of the standard output while it ran.
    pub stdout_bytes: u64,
    /// Bytes kept of the standard error while it ran.
    pub stderr_bytes: u64,
}

/// The ways in which one of several steps ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// By itself, by exit or by signal.
    Exited,
    /// With the run, which was stopped while it ran; why is in the run's end.
    Stopped,
    /// It did not run.
    Skipped,
    /// Nobody knows. Never a success.
    Lost,
}

/// The ways in which a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndKind {
    /// By itself, by exit or by signal.
    Exited,
    /// Its time was up.
    Deadline,
    /// An operator killed it.
    Killed,
    /// It wrote more than it may.
    Output,
    /// The kernel killed it for want of memory.
    Memory,
    /// Nobody knows. Never a success.
    Lost,
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunUsage {
    /// Microseconds from the request's arrival in the sandbox to the end of its last process.
    pub wall_us: u64,
    /// Microseconds of CPU time.
    pub cpu_us: u64,
    /// Most bytes of memory at once.
    pub peak_memory: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a run wrote: the journal's hash chain covers the output through these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputSummary {
    /// Bytes kept of the standard output.
    pub stdout_bytes: u64,
    /// Bytes kept of the standard error.
    pub stderr_bytes: u64,
    /// Bytes over the limit that were not kept.
    pub dropped_bytes: u64,
    /// SHA-256 of what was kept of the standard output.
    pub stdout_hash: Hash,
    /// SHA-256 of what was kept of the standard error.
    pub stderr_hash: Hash,
}

impl Default for OutputSummary {
    fn default() -> Self {
        let nothing = Hash::of(b"");
        Self { stdout_bytes: 0, stderr_bytes: 0, dropped_bytes: 0, stdout_hash: nothing, stderr_hash: nothing }
    }
}

/// What the sandbox's keeper saw of a run, before anyone has said why it ended so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// What init said, or nothing when the sandbox ended without a word.
    pub outcome: Outcome,
    /// As in [`RunEnd::step`].
    pub step: u32,
    /// The step whose output reached the limit, if one did.
    pub full_at: Option<u32>,
    /// What was seen of the steps that began, in order; where only later ones were seen, of those before too.
    pub steps: Vec<StepReport>,
    /// What it used, as far as known.
    pub usage: RunUsage,
    /// What it wrote.
    pub output: OutputSummary,
}

/// What was seen of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// How it ended by itself; nothing where it did not, or where nobody has said so.
    pub how: Option<StepHow>,
    /// Microseconds that it took.
    pub wall_us: u64,
    /// Bytes kept of the standard output.
    pub stdout_bytes: u64,
    /// Bytes kept of the standard error.
    pub stderr_bytes: u64,
}

/// How a step ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepHow {
    /// It exited with this status.
    Exited(i32),
    /// It was ended by this signal.
    Signalled(i32),
    /// It could not be started: the system's error number and words.
    NotStarted(i32, String),
}

/// What init said of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The step that decided it exited with this status.
    Exited(i32),
    /// The step that decided it was ended by this signal.
    Signalled(i32),
    /// The program could not be started: the system's error number and words.
    NotStarted(i32, String),
    /// Init's own timer fired.
    Deadline,
    /// Init was told to stop.
    Cancelled,
    /// Both fences never came: what was seen instead.
    Lost(String),
}

/// The status of a proposal in one word, as every surface says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its image is being fetched, or it is being recorded.
    Arriving,
    /// It waits for an operator.
    Waiting,
    /// It is approved and waits for a sandbox.
    Approved,
    /// It runs.
    Running,
    /// It ran, and has ended; how is in its end.
    Finished,
    /// It was rejected.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// The agent took it back.
    Withdrawn,
}

impl Status {
    /// Whether nothing more will happen to it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Rejected | Self::Expired | Self::Withdrawn)
    }

    /// The word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl EndKind {
    /// The word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Deadline => "deadline",
            Self::Killed => "killed",
            Self::Output => "output",
            Self::Memory => "memory",
            Self::Lost => "lost",
        }
    }
}

impl StepKind {
    /// The words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Stopped => "stopped with the run",
            Self::Skipped => "not run",
            Self::Lost => "lost",
        }
    }
}

impl VerdictKind {
    /// The word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}
