//! What the console knows and what its user is doing. Everything is bound to identifiers: no index survives a message.
//!
//! After every message [`State::settle`] brings the screen's side back in order: cursors stay on their items and, where
//! there is room to, on their lines of the screen.

use std::collections::BTreeMap;

use brig_core::id::{ProposalId, SandboxId};
use brig_core::problem::Problem;
use brig_core::profile::Hash;
use brig_core::proposal::Status;
use brig_core::time::{Mono, Now, Wall};
use tui_textarea::TextArea;

use super::layout::{self, Layout, QueueColumns};
use super::output::Output;
use super::review::Review;
use super::text;
use crate::api::wire::{Choice, PoolRow, ProposalRow, SandboxRow, SandboxState, SupervisorRow};

/// Milliseconds that an item must have been on the screen, unmoved, before a verdict on it counts: about what a person
/// needs to see that something is another than it was.
pub const ARMING_MS: u64 = 300;

/// Everything.
#[derive(Debug)]
pub struct State {
    /// The moment of the last message.
    pub now: Now,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// How it stands with the supervisor.
    pub link: Link,
    /// The supervisor's own row, once it was seen.
    pub supervisor: Option<SupervisorRow>,
    /// In the order in which they are shown.
    pub proposals: Vec<ProposalRow>,
    /// As above.
    pub sandboxes: Vec<SandboxRow>,
    /// As above.
    pub pools: Vec<PoolRow>,
    /// The pane that has the keys.
    pub focus: Pane,
    /// Where the user is in the queue.
    pub queue_list: List<ProposalId>,
    /// Where the user is among the sandboxes.
    pub sandbox_list: List<SandboxId>,
    /// Where the user is among the pools.
    pub pool_list: List<String>,
    /// What the last pane is about.
    pub subject: Subject,
    /// The output that is followed.
    pub output: Option<Output>,
    /// The proposal that is looked at as a whole.
    pub review: Option<Review>,
    /// What is in front of everything.
    pub dialog: Option<Dialog>,
    /// Verdicts that were sent and not answered yet.
    pub pending: BTreeMap<ProposalId, Choice>,
    /// Reasons that are on their way, to be edited again should they be refused.
    pub sent: Vec<Box<RejectDialog>>,
    /// Since when what is on the screen has been there.
    pub seen: BTreeMap<ProposalId, Seen>,
    /// A word to the user.
    pub notice: Option<Notice>,
    /// The supervisor was told to end.
    pub ending: bool,
}

/// How it stands with the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not reached yet.
    Connecting,
    /// What is shown is so.
    Up,
    /// What is shown was so.
    Lost {
        /// Since when.
        since: Now,
        /// Why.
        problem: Problem,
    },
}

/// The panes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Queue,
    Sandboxes,
    Pools,
    Output,
}

impl Pane {
    /// All of them, in the order of Tab.
    pub const ALL: [Self; 4] = [Self::Queue, Self::Sandboxes, Self::Pools, Self::Output];
}

/// What the last pane is about: what was selected last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Nothing,
    Proposal(ProposalId),
    Sandbox(SandboxId),
    Pool(String),
}

/// A line of the screen that a verdict may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    line: usize,
    digest: Hash,
    since: Mono,
}

/// What is in front of everything.
#[derive(Debug)]
pub enum Dialog {
    /// The keys, scrolled by so many lines.
    Help(usize),
    /// What shall become of what is open?
    Quit,
    /// The reason of a rejection.
    Reject(Box<RejectDialog>),
}

/// The editor for the reason of a rejection, bound to what it was opened for.
#[derive(Debug)]
pub struct RejectDialog {
    /// Which proposal.
    pub id: ProposalId,
    /// What it asked when it was looked at.
    pub digest: Hash,
    /// Its command, visible.
    pub command: String,
    /// The reason so far.
    pub editor: TextArea<'static>,
}

/// A word to the user, for some seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Visible text.
    pub text: String,
    /// What sort of word.
    pub tone: Tone,
    /// Until when.
    pub until: Mono,
}

/// What sort of word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Hint,
    Bad,
}

/// Where the user is in a list.
#[derive(Clone, Debug)]
pub struct List<I> {
    /// The item under the cursor. Nothing when it has gone: the cursor never goes to another one by itself.
    pub cursor: Option<I>,
    /// Items above the screen.
    pub top: usize,
    /// The cursor's line on the screen.
    line: usize,
    started: bool,
    /// The user has put the cursor where it is.
    placed: bool,
}

impl<I> Default for List<I> {
    fn default() -> Self {
        Self { cursor: None, top: 0, line: 0, started: false, placed: false }
    }
}

impl<I: Clone + PartialEq> List<I> {
    fn index<T>(&self, items: &[T], id: impl Fn(&T) -> &I) -> Option<usize> {
        let cursor = self.cursor.as_ref()?;
        items.iter().position(|item| id(item) == cursor)
    }

    /// Keeps the cursor on its item, and the item on its line of the screen where that can be.
    fn settle<T>(&mut self, items: &[T], height: usize, id: impl Fn(&T) -> &I) {
        if items.is_empty() {
            *self = Self::default();
            return;
        }
        if !self.started {
            self.cursor = items.first().map(&id).cloned();
            self.started = true;
        }
        let index = self.index(items, &id);
        if index.is_none() {
            self.cursor = None;
        }
        let last_top = items.len().saturating_sub(height);
        let index = index.unwrap_or(self.top + self.line);
        self.line = self.line.min(height.saturating_sub(1));
        self.top = index.saturating_sub(self.line).min(last_top);
        self.line = index.saturating_sub(self.top).min(height.saturating_sub(1));
    }

    /// Moves the cursor by `by` items, and the screen after it.
    pub fn go<T>(&mut self, items: &[T], height: usize, by: isize, id: impl Fn(&T) -> &I) {
        // Where the item under the cursor has gone, the first step down lands on what has taken its line.
        let from = match self.index(items, &id) {
            Some(index) => index.saturating_add_signed(by),
            None if by > 0 => (self.top + self.line).saturating_add_signed(by - 1),
            None => (self.top + self.line).saturating_add_signed(by),
        };
        self.go_to(items, height, from, id);
    }

    /// The user has something to do with the item under the cursor: it stays where it is.
    pub const fn hold(&mut self) {
        self.placed = true;
    }

    /// Puts the cursor on the item at `index`, or the last one.
    pub fn go_to<T>(&mut self, items: &[T], height: usize, index: usize, id: impl Fn(&T) -> &I) {
        let index = index.min(items.len().saturating_sub(1));
        self.cursor = items.get(index).map(&id).cloned();
        self.placed = true;
        if index < self.top {
            self.top = index;
        } else if index >= self.top + height {
            self.top = index + 1 - height.max(1);
        }
        self.line = index.saturating_sub(self.top);
    }
}

impl State {
    /// Nothing known yet.
    #[must_use]
    pub fn new(now: Now, size: (u16, u16)) -> Self {
        Self {
            now,
            size,
            link: Link::Connecting,
            supervisor: None,
            proposals: Vec::new(),
            sandboxes: Vec::new(),
            pools: Vec::new(),
            focus: Pane::Queue,
            queue_list: List::default(),
            sandbox_list: List::default(),
            pool_list: List::default(),
            subject: Subject::Nothing,
            output: None,
            review: None,
            dialog: None,
            pending: BTreeMap::new(),
            sent: Vec::new(),
            seen: BTreeMap::new(),
            notice: None,
            ending: false,
        }
    }

    /// Where things are; nothing if the terminal is too small.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        Layout::new(self.size, super::view::header::has_notes(self))
    }

    /// The rows that a pane has for its items.
    #[must_use]
    pub fn height_of(&self, pane: Pane) -> usize {
        let Some(layout) = self.layout() else { return 0 };
        usize::from(match pane {
            Pane::Queue => layout::rows(layout.queue).0.height,
            Pane::Sandboxes => layout::rows(layout.sandboxes).0.height,
            Pane::Pools => layout::rows(layout.pools).0.height,
            Pane::Output => layout::inner(layout.output).height,
        })
    }

    /// The proposal of this name.
    #[must_use]
    pub fn proposal(&self, id: &ProposalId) -> Option<&ProposalRow> {
        self.proposals.iter().find(|row| row.id == *id)
    }

    /// The sandbox of this name.
    #[must_use]
    pub fn sandbox(&self, id: &SandboxId) -> Option<&SandboxRow> {
        self.sandboxes.iter().find(|row| row.id == *id)
    }

    /// How many questions wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.proposals.iter().filter(|row| row.status == Status::Waiting).count()
    }

    /// How many runs go on or are about to.
    #[must_use]
    pub fn running(&self) -> usize {
        self.proposals.iter().filter(|row| matches!(row.status, Status::Running | Status::Approved)).count()
    }

    /// Whether a verdict on this proposal, given on the dashboard, would be about what its user sees.
    #[must_use]
    pub fn is_armed(&self, row: &ProposalRow) -> bool {
        let seen = self.seen.get(&row.id);
        seen.is_some_and(|seen| seen.digest == row.digest && self.now.mono.since(seen.since) >= ARMING_MS)
    }

    /// Whether all that this proposal would do is on its line of the queue.
    #[must_use]
    pub fn is_wholly_visible(&self, row: &ProposalRow) -> bool {
        let Some(layout) = self.layout() else { return false };
        let columns = QueueColumns::new(layout::inner(layout.queue).width);
        row.command_is_all && text::fits(&row.command, usize::from(columns.command.width))
    }

    /// The run that the last pane is about.
    #[must_use]
    pub fn subject_run(&self) -> Option<&ProposalRow> {
        let Subject::Proposal(id) = &self.subject else { return None };
        self.proposal(id).filter(|row| has_run(row))
    }

    /// Milliseconds until time alone makes the screen another one; nothing if it never does.
    #[must_use]
    pub fn changes_in(&self) -> Option<u64> {
        let until = |moment: Mono| moment.since(self.now.mono).max(1);
        let arming = self.seen.values().map(|seen| seen.since.plus(ARMING_MS)).filter(|armed| *armed > self.now.mono);
        let arming = arming.map(until).min();
        let notice = self.notice.as_ref().map(|notice| until(notice.until));
        let second = 1000 - u64::try_from(self.now.wall.0.rem_euclid(1000)).unwrap_or(0);
        let clock = if self.shows_seconds() {
            Some(second)
        } else {
            // Ages in minutes and hours.
            (!self.proposals.is_empty()).then_some(30_000)
        };
        [arming, notice, clock].into_iter().flatten().min()
    }

    /// Whether something on the screen counts seconds.
    fn shows_seconds(&self) -> bool {
        let troubled = self.supervisor.as_ref().is_some_and(|row| {
            row.engine_problem.is_some() || row.journal_problem.is_some() || row.config_problem.is_some()
        });
        let recent = |moment: Wall| self.now.wall.0 - moment.0 < 60_000;
        let shown = self.proposals.iter().skip(self.queue_list.top).take(self.height_of(Pane::Queue));
        troubled
            || matches!(self.link, Link::Lost { .. })
            || shown.into_iter().any(|row| !row.status.is_final() || recent(ended_at(row)))
            || self.sandboxes.iter().any(|row| row.deadline_at.is_some())
            || matches!(&self.subject, Subject::Pool(_) | Subject::Sandbox(_))
            || self.review.is_some()
    }

    /// Says something to the user.
    pub fn say(&mut self, tone: Tone, text: impl Into<String>) {
        let seconds = if tone == Tone::Bad { 10 } else { 5 };
        self.notice = Some(Notice { text: text.into(), tone, until: self.now.mono.plus(seconds * 1000) });
    }

    /// Puts the lists in their order: questions first, the oldest of them first; then what goes on; then what is over,
    /// the latest first, so that what has just ended is next to what is going on.
    pub fn sort(&mut self) {
        let order = |row: &ProposalRow| match row.status {
            Status::Waiting => (0, row.received_at.0),
            Status::Arriving | Status::Approved | Status::Running => (1, row.received_at.0),
            _ => (2, -ended_at(row).0),
        };
        self.proposals.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.id.cmp(&b.id)));
        let order = |row: &SandboxRow| {
            let rank = match row.state {
                SandboxState::Running | SandboxState::Leased => 0,
                SandboxState::Ending => 1,
                SandboxState::Creating => 2,
                SandboxState::Warm => 3,
            };
            (rank, row.since.0)
        };
        self.sandboxes.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.id.cmp(&b.id)));
        self.pools.sort_by(|a, b| a.profile.cmp(&b.profile));
    }

    /// Brings the screen's side back in order after anything has changed.
    pub fn settle(&mut self) {
        let [queue, sandboxes, pools] = [Pane::Queue, Pane::Sandboxes, Pane::Pools].map(|pane| self.height_of(pane));
        self.offer_question();
        self.queue_list.settle(&self.proposals, queue, |row| &row.id);
        self.sandbox_list.settle(&self.sandboxes, sandboxes, |row| &row.id);
        self.pool_list.settle(&self.pools, pools, |row| &row.profile);
        self.settle_subject();
        self.settle_seen(queue);
        if self.notice.as_ref().is_some_and(|notice| notice.until <= self.now.mono) {
            self.notice = None;
        }
        let size = self.size;
        if let Some(review) = &mut self.review {
            review.settle(size, self.now.mono, self.dialog.is_some());
        }
    }

    /// Puts a cursor that rests on something that is over, where no user has put it, on the first question that comes.
    fn offer_question(&mut self) {
        let list = &self.queue_list;
        if list.placed || self.review.is_some() || self.dialog.is_some() {
            return;
        }
        // What has vanished may have been about to get a key: nothing takes its place by itself.
        let rests = list.cursor.as_ref().is_some_and(|id| self.proposal(id).is_some_and(|row| row.status.is_final()));
        let question = self.proposals.iter().find(|row| row.status == Status::Waiting);
        if rests && let Some(question) = question {
            self.queue_list.cursor = Some(question.id.clone());
        }
    }

    fn settle_subject(&mut self) {
        let subject =
            match self.focus {
                Pane::Queue => self.queue_list.cursor.clone().map(Subject::Proposal),
                Pane::Sandboxes => self.sandbox_list.cursor.as_ref().and_then(|id| self.sandbox(id)).map(|row| {
                    row.proposal.clone().map_or_else(|| Subject::Sandbox(row.id.clone()), Subject::Proposal)
                }),
                Pane::Pools => self.pool_list.cursor.clone().map(Subject::Pool),
                Pane::Output => None,
            };
        // Where nothing is selected, what was looked at stays.
        if let Some(subject) = subject {
            self.subject = subject;
        }
    }

    /// Notes since when each line of the queue has been where it is. What is behind something else is not seen.
    fn settle_seen(&mut self, height: usize) {
        if self.review.is_some() || self.dialog.is_some() || self.link != Link::Up {
            self.seen.clear();
            return;
        }
        let before = std::mem::take(&mut self.seen);
        let on_screen = self.proposals.iter().skip(self.queue_list.top).take(height).enumerate();
        for (line, row) in on_screen.filter(|(_, row)| row.status == Status::Waiting) {
            let same = |seen: &&Seen| seen.line == line && seen.digest == row.digest;
            let since = before.get(&row.id).filter(same).map_or(self.now.mono, |seen| seen.since);
            self.seen.insert(row.id.clone(), Seen { line, digest: row.digest, since });
        }
    }
}

/// Whether a proposal came as far as a sandbox.
#[must_use]
pub fn has_run(row: &ProposalRow) -> bool {
    row.run.is_some() || matches!(row.status, Status::Running | Status::Finished)
}

/// When a proposal was over, as far as it is.
#[must_use]
pub fn ended_at(row: &ProposalRow) -> Wall {
    let end = row.end.as_ref().map(|end| end.at);
    end.or_else(|| row.verdict.as_ref().map(|verdict| verdict.at)).unwrap_or(row.received_at)
}
