//! What comes in and what goes out.

use std::sync::Arc;

use crate::envelope::Envelope;
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::pool::PoolOrder;
use crate::problem::Problem;
use crate::profile::{Cage, Profile, ResolvedImage, SandboxSpec};
use crate::proposal::{Agent, Draft, Operator, RunEnd, RunReport, Verdict};
use crate::time::Wall;

/// Ties an answer to the request that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Everything that can happen.
#[derive(Debug)]
pub enum Event {
    /// An agent proposes.
    Propose {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The name that it gets if it is new.
        id: ProposalId,
        /// Who proposes.
        agent: Agent,
        /// What.
        draft: Box<Draft>,
    },
    /// An agent takes its proposal back. One that runs is killed.
    Withdraw {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Which proposal.
        id: ProposalId,
        /// Who.
        agent: Agent,
    },
    /// An operator decides.
    Decide {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Which proposal.
        id: ProposalId,
        /// At least 8 characters of the digest that was looked at.
        digest: String,
        /// What.
        choice: Choice,
        /// Why.
        reason: String,
        /// Who.
        operator: Operator,
    },
    /// An operator wants something dead.
    Kill {
        /// Who waits for the answer.
        ticket: Ticket,
        /// What.
        target: Target,
        /// Who.
        operator: Operator,
    },
    /// An operator tells a pool something.
    Steer {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The pool's profile.
        profile: String,
        /// What.
        order: PoolOrder,
        /// Who.
        operator: Operator,
    },
    /// Entries are durable, or could not be written.
    Recorded {
        /// Which ones.
        batch: u64,
        /// What went wrong.
        result: Result<(), Problem>,
    },
    /// Fetching an image goes on.
    ImageProgress {
        /// Whose.
        profile: String,
        /// Which try.
        request: u64,
        /// For people.
        line: String,
    },
    /// An image is there, or could not be had.
    ImageResolved {
        /// Whose.
        profile: String,
        /// Which try.
        request: u64,
        /// What it is.
        result: Result<ResolvedImage, Problem>,
    },
    /// A reference may mean another image now.
    ImageChanged {
        /// As the engine names it.
        reference: String,
    },
    /// A sandbox is armed, or could not be made and nothing of it is left.
    Armed {
        /// Which.
        sandbox: SandboxId,
        /// The engine's name for it.
        result: Result<String, Problem>,
    },
    /// The first byte of the request was written: the verdict is spent.
    Started {
        /// Where.
        sandbox: SandboxId,
    },
    /// The sandbox was dead before the first byte could be written: the verdict is not spent.
    Refused {
        /// Which.
        sandbox: SandboxId,
    },
    /// One of several steps has begun.
    StepBegan {
        /// Where.
        sandbox: SandboxId,
        /// Which, from 0.
        step: u32,
    },
    /// The run has written as much as it may.
    OutputFull {
        /// Where.
        sandbox: SandboxId,
    },
    /// The run has ended; its output has been handed to the journal.
    Ended {
        /// Where.
        sandbox: SandboxId,
        /// What was seen.
        report: RunReport,
    },
    /// The sandbox is no more. Comes last, and once.
    Gone {
        /// Which.
        sandbox: SandboxId,
        /// Why, where it has ended before a run and has said so.
        why: Option<Problem>,
    },
    /// A sandbox that nothing was asked of does not answer any more; it is being removed.
    Unwell {
        /// Which.
        sandbox: SandboxId,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The engine says that a sandbox has ended. If memory was the reason it has said so before.
    Died {
        /// Which, as the engine names it.
        engine_id: String,
    },
    /// The kernel killed something for want of memory.
    OutOfMemory {
        /// In which sandbox, as the engine names it.
        engine_id: String,
    },
    /// The engine answers.
    EngineUp,
    /// The engine does not answer.
    EngineDown {
        /// Why.
        problem: Problem,
    },
    /// The profiles were read anew.
    Profiles {
        /// All of them.
        profiles: Vec<Profile>,
    },
    /// The journal may take nothing new, as its limits or its disk are full, or it may again.
    JournalFull {
        /// Why not.
        problem: Option<Problem>,
    },
    /// Time has passed.
    Tick,
    /// The supervisor shall end.
    Shutdown,
}

/// What an operator can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It may run once.
    Approve,
    /// It does not run.
    Reject,
}

/// What an operator can kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The run of a proposal.
    Proposal(ProposalId),
    /// A sandbox, whatever is in it.
    Sandbox(SandboxId),
}

/// What went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The proposal is durable, or was so already under the same key.
    Accepted(ProposalId),
    /// It is done.
    Done,
}

/// Everything that can be asked of the world.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the one who asked.
    Answer {
        /// Who.
        ticket: Ticket,
        /// What.
        answer: Result<Answer, Problem>,
    },
    /// Make entries durable, all or none, then say [`Event::Recorded`].
    Record {
        /// How to name them then.
        batch: u64,
        /// When they happened, and what.
        entries: Vec<(Wall, Entry)>,
    },
    /// Make an image be there, then say [`Event::ImageResolved`].
    ResolveImage {
        /// For which profile.
        profile: String,
        /// Which try.
        request: u64,
        /// The cage that names it.
        cage: Box<Cage>,
    },
    /// Make a sandbox, then say [`Event::Armed`].
    Arm {
        /// Under which name.
        sandbox: SandboxId,
        /// From what.
        spec: Arc<SandboxSpec>,
    },
    /// Write the request to an armed sandbox, then say [`Event::Started`] or [`Event::Refused`], and later
    /// [`Event::Ended`].
    Launch {
        /// Where.
        sandbox: SandboxId,
        /// Which run.
        proposal: ProposalId,
        /// What.
        envelope: Arc<Envelope>,
    },
    /// End a sandbox at once, whatever it does.
    Kill {
        /// Which.
        sandbox: SandboxId,
    },
    /// Let go of an armed sandbox that nothing was written to, or of one whose run's end is recorded: it ends by itself.
    Discard {
        /// Which.
        sandbox: SandboxId,
    },
}

/// What is being recorded, and so what follows when it is.
#[derive(Debug)]
pub(super) enum Batch {
    /// A proposal, with its verdict where a rule allows it.
    Proposal {
        id: ProposalId,
        ticket: Ticket,
        /// Forgotten again should it not become durable.
        key: Option<(String, String)>,
        verdict: Option<Verdict>,
    },
    /// That a proposal was sent back to ask.
    Returned {
        id: ProposalId,
    },
    Verdict {
        id: ProposalId,
        ticket: Option<Ticket>,
        verdict: Verdict,
    },
    End {
        id: ProposalId,
        end: RunEnd,
    },
    /// What an operator tells a pool.
    Steer {
        ticket: Ticket,
        profile: String,
        order: PoolOrder,
        operator: Operator,
    },
    /// A try of a journal that failed.
    Gap,
    Other,
}
