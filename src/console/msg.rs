//! Everything that can happen to the console, and everything that it can ask for. Both are closed: there is no other way in
//! or out of the state.

use brig_core::id::{ProposalId, SandboxId};
use brig_core::problem::Problem;
use crossterm::event::KeyEvent;

use super::Leave;
use crate::api::wire::{Choice, ProposalDetail, Update, VerdictRequest};
use brig_core::proposal::OutputStream;

/// Something happened.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
    /// Time has gone by: something on the screen depends on it.
    Tick,
    /// The supervisor said what is new.
    Update(Box<Update>),
    /// The supervisor does not answer. Trying goes on.
    Lost(Problem),
    /// A whole proposal was fetched, or could not be.
    Detail(ProposalId, Result<Box<ProposalDetail>, Problem>),
    /// A run wrote something, while one of its steps ran.
    Output(ProposalId, Vec<(u32, OutputStream, Vec<u8>)>),
    /// A run's output is complete, or cannot be read at the moment.
    OutputState(ProposalId, Result<(), Problem>),
    /// A verdict was answered.
    VerdictDone(ProposalId, Choice, Result<(), Problem>),
    /// A kill was answered.
    KillDone(Target, Result<(), Problem>),
    /// The request to shut down was answered.
    ShutdownDone(Result<(), Problem>),
}

/// What is to be done outside of the state. None of it is waited for.
#[derive(Debug)]
pub enum Command {
    /// Decide.
    Verdict(ProposalId, VerdictRequest),
    /// Kill.
    Kill(Target),
    /// Fetch the whole of a proposal.
    Fetch(ProposalId),
    /// Follow this run's output from its beginning, and no other.
    Follow(Option<ProposalId>),
    /// End the supervisor and everything in it.
    Shutdown,
    /// Give the terminal back and go.
    Leave(Leave),
}

/// What can be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A run, by its proposal.
    Run(ProposalId),
    /// A sandbox, whatever it does.
    Sandbox(SandboxId),
}
