//! Runs from their lease to their one end.

use super::event::Batch;
use super::proposals::unknown;
use super::sandbox::SandboxState;
use super::{Effect, Phase, State, Target, Timer};
use crate::id::{ProposalId, SandboxId};
use crate::journal::Entry;
use crate::problem::{Code, Problem};
use crate::proposal::{
    EndKind, Operator, Outcome, OutputSummary, RunEnd, RunReport, RunUsage, StepEnd, StepHow, StepKind, StepReport,
};
use crate::time::Now;

/// How long after a run's deadline the supervisor ends it itself, should init not have done so: a run that is starved by
/// its own CPU quota dies late.
const BACKSTOP_MS: u64 = 2000;
/// How long to wait for the engine to say why a sandbox ended without a word.
const LAST_WORDS_MS: u64 = 300;
/// Who ends what is approved when the supervisor ends.
pub(super) const SHUTDOWN: &str = "the supervisor, which was told to end";

/// `ENOENT`: no such program.
const ENOENT: i32 = 2;
/// `SIGKILL`.
const SIGKILL: i32 = 9;

impl State {
    pub(super) fn started(&mut self, sandbox: &SandboxId, now: Now) {
        let Some(it) = self.sandboxes.get_mut(sandbox).filter(|it| it.state == SandboxState::Leased) else { return };
        it.state = SandboxState::Running;
        it.since = now;
        let Some(id) = it.proposal.clone() else { return };
        if let Some(proposal) = self.proposals.get(&id) {
            let at = now.mono.plus(proposal.envelope.deadline_ms).plus(BACKSTOP_MS);
            self.wake_at(at, Timer::Backstop(sandbox.clone()));
        }
        self.set_phase(&id, Phase::Running);
        self.touch(sandbox);
    }

    /// The sandbox died between its lease and the first byte: the verdict is not spent, and the run takes another one.
    pub(super) fn refused(&mut self, sandbox: &SandboxId, now: Now) {
        let Some(it) = self.sandboxes.get_mut(sandbox).filter(|it| it.state == SandboxState::Leased) else { return };
        it.state = SandboxState::Ending;
        it.since = now;
        let Some(id) = it.proposal.take() else { return };
        let killed_by = it.killed_by.clone();
        let profile = it.profile.clone();
        self.touch(sandbox);
        if let Some(by) = killed_by {
            self.end_without_run(&id, EndKind::Killed, "before it started", Some(by), now);
            return;
        }
        if let Some(proposal) = self.proposals.get_mut(&id) {
            proposal.run = None;
        }
        self.set_phase(&id, Phase::Granted { cold: true });
        if let Some(pool) = self.pools.get_mut(&profile) {
            pool.waiting.push_front(id.clone());
        }
        self.extend_expiry(&id, now);
        self.catch_up(&id, now);
    }

    /// A step began. Its proposal's row says so, and nothing else: what is durable of it is in the run's end.
    pub(super) fn step_began(&mut self, sandbox: &SandboxId, step: u32) {
        let running = self.sandboxes.get(sandbox).filter(|it| it.state == SandboxState::Running);
        if let Some(id) = running.and_then(|it| it.proposal.clone())
            && let Some(run) = self.proposals.get_mut(&id).and_then(|it| it.run.as_mut())
            && (run.step + 1..run.steps).contains(&step)
        {
            run.step = step;
            self.changes.proposals.insert(id);
            self.touch(sandbox);
        }
    }

    pub(super) fn output_full(&mut self, sandbox: &SandboxId) {
        if let Some(it) = self.sandboxes.get_mut(sandbox)
            && matches!(it.state, SandboxState::Leased | SandboxState::Running)
        {
            it.output_full = true;
            self.effects.push(Effect::Kill { sandbox: sandbox.clone() });
        }
    }

    pub(super) fn backstop(&mut self, sandbox: &SandboxId) {
        if let Some(it) = self.sandboxes.get_mut(sandbox)
            && it.state == SandboxState::Running
            && it.last_report.is_none()
        {
            it.past_deadline = true;
            self.effects.push(Effect::Kill { sandbox: sandbox.clone() });
        }
    }

    pub(super) fn out_of_memory(&mut self, engine_id: &str) {
        if let Some(id) = self.by_engine_id.get(engine_id)
            && let Some(it) = self.sandboxes.get_mut(id)
        {
            it.out_of_memory = true;
        }
    }

    /// The engine has nothing more to say of it: a run that ended without a word need not wait for that.
    pub(super) fn died(&mut self, engine_id: &str, now: Now) {
        let Some(id) = self.by_engine_id.get(engine_id).cloned() else { return };
        if let Some(it) = self.sandboxes.get_mut(&id) {
            it.died = true;
        }
        self.conclude_lost(&id, now);
    }

    /// An operator wants something dead.
    pub(super) fn kill(&mut self, target: &Target, operator: &Operator, now: Now) -> Result<(), Problem> {
        match target {
            Target::Proposal(id) => self.kill_by_operator(id, operator, now),
            Target::Sandbox(id) => {
                let Some(it) = self.sandboxes.get_mut(id) else {
                    let shown = crate::visible::line(id.0.as_bytes());
                    return Err(Problem::new(Code::NotFound, format!("there is no sandbox `{shown}`"))
                        .help("`brig ps` lists those that there are"));
                };
                if let Some(proposal) = it.proposal.clone()
                    && it.state != SandboxState::Ending
                {
                    return self.kill_by_operator(&proposal, operator, now);
                }
                match it.state {
                    SandboxState::Creating => {
                        return Err(Problem::new(Code::NotRunning, format!("sandbox {id} is still being made"))
                            .help("try again in a moment"));
                    }
                    SandboxState::Ending => {}
                    _ => {
                        it.state = SandboxState::Ending;
                        it.since = now;
                        it.killed_by = Some(operator.name.clone());
                    }
                }
                self.effects.push(Effect::Kill { sandbox: id.clone() });
                self.touch(id);
                Ok(())
            }
        }
    }

    fn kill_by_operator(&mut self, id: &ProposalId, operator: &Operator, now: Now) -> Result<(), Problem> {
        let asked_before = self
            .proposal(id)
            .and_then(|it| it.run.as_ref())
            .and_then(|run| self.sandboxes.get(&run.sandbox))
            .is_some_and(|it| it.killed_by.is_some());
        if asked_before {
            // It is recorded once who wanted it dead; the order is given again all the same.
            return self.kill_run(id, &operator.name, now);
        }
        let entry = vec![(now.wall, Entry::KillRequested { id: id.clone(), operator: operator.clone() })];
        if self.proposal(id).is_some_and(|it| matches!(it.phase, Phase::Granted { .. })) {
            // It ends within this event, and nothing is recorded of it after its end.
            self.record(Batch::Other, entry);
            return self.kill_run(id, &operator.name, now);
        }
        self.kill_run(id, &operator.name, now)?;
        self.record(Batch::Other, entry);
        Ok(())
    }

    /// Ends a run, or takes back an approved proposal that has not begun to run.
    pub(super) fn kill_run(&mut self, id: &ProposalId, by: &str, now: Now) -> Result<(), Problem> {
        let proposal = self.proposal(id).ok_or_else(|| unknown(id))?;
        match (proposal.phase, &proposal.run) {
            (Phase::Granted { .. }, _) => {
                self.end_without_run(id, EndKind::Killed, "before it started", Some(by.to_owned()), now);
                Ok(())
            }
            (Phase::Launching | Phase::Running, Some(run)) => {
                let sandbox = run.sandbox.clone();
                if let Some(it) = self.sandboxes.get_mut(&sandbox) {
                    it.killed_by.get_or_insert_with(|| by.to_owned());
                }
                self.effects.push(Effect::Kill { sandbox: sandbox.clone() });
                self.touch(&sandbox);
                Ok(())
            }
            (Phase::Waiting | Phase::Deciding, _) => {
                Err(Problem::new(Code::NotRunning, format!("proposal {id} waits for its verdict")).help("reject it"))
            }
            _ => Err(Problem::new(Code::NotRunning, format!("proposal {id} has ended already"))),
        }
    }

    pub(super) fn ended(&mut self, sandbox: &SandboxId, report: RunReport, now: Now) {
        let Some(it) = self.sandboxes.get_mut(sandbox) else { return };
        if !matches!(it.state, SandboxState::Leased | SandboxState::Running) {
            return;
        }
        let explained = it.killed_by.is_some() || it.output_full || it.past_deadline || it.out_of_memory || it.died;
        if matches!(report.outcome, Outcome::Lost(_)) && !explained {
            it.last_report = Some(report);
            self.wake_at(now.mono.plus(LAST_WORDS_MS), Timer::Conclude(sandbox.clone()));
            return;
        }
        self.conclude(sandbox, report, now);
    }

    /// The engine had its chance to say why.
    pub(super) fn conclude_lost(&mut self, sandbox: &SandboxId, now: Now) {
        if let Some(report) = self.sandboxes.get_mut(sandbox).and_then(|it| it.last_report.take()) {
            self.conclude(sandbox, report, now);
        }
    }

    /// The sandbox is no more. Its keeper has said so after everything else.
    pub(super) fn gone(&mut self, sandbox: &SandboxId, why: Option<Problem>, now: Now) {
        let Some(it) = self.sandboxes.get_mut(sandbox) else { return };
        if it.last_report.is_some() {
            it.gone = true;
            return;
        }
        match it.state {
            SandboxState::Creating | SandboxState::Warm => self.died_unused(sandbox, why, now),
            // Its keeper says how the run ended before it says this; should it not have, the run still gets its end.
            SandboxState::Leased | SandboxState::Running => {
                let outcome = Outcome::Lost("the sandbox went away during the run".to_owned());
                let (usage, output) = (RunUsage::default(), OutputSummary::default());
                self.conclude(
                    sandbox,
                    RunReport { outcome, step: 0, full_at: None, steps: Vec::new(), usage, output },
                    now,
                );
            }
            SandboxState::Ending => {}
        }
        self.remove_sandbox(sandbox);
    }

    fn conclude(&mut self, sandbox: &SandboxId, report: RunReport, now: Now) {
        let Some(it) = self.sandboxes.get_mut(sandbox) else { return };
        it.state = SandboxState::Ending;
        it.since = now;
        it.last_report = None;
        let is_gone = it.gone;
        let judged = judge(report.outcome, &report.usage, it);
        let steps = it
            .proposal
            .as_ref()
            .and_then(|id| self.proposals.get(id))
            .and_then(|proposal| proposal.run.as_ref())
            .map_or_else(Vec::new, |run| step_ends(report.steps, report.step, run.steps, judged.kind));
        let full_at = report.full_at.filter(|_| judged.kind == EndKind::Output);
        let end = RunEnd {
            kind: judged.kind,
            exit_code: judged.exit_code,
            signal: judged.signal,
            by: it.killed_by.clone().filter(|_| judged.kind == EndKind::Killed),
            note: judged.note,
            step: full_at.unwrap_or(report.step),
            steps,
            usage: report.usage,
            output: report.output,
            at: now.wall,
        };
        if let Some(id) = it.proposal.clone() {
            self.record_end(&id, end, now);
        }
        self.touch(sandbox);
        if is_gone {
            self.remove_sandbox(sandbox);
        }
    }

    /// Ends a proposal that was approved and never reached a sandbox.
    pub(super) fn end_without_run(&mut self, id: &ProposalId, kind: EndKind, note: &str, by: Option<String>, now: Now) {
        self.end_unseen(id, kind, note, by, OutputSummary::default(), now);
    }

    /// Ends a run whose end nobody saw, with the output that is kept of it.
    pub(super) fn end_unseen(
        &mut self,
        id: &ProposalId,
        kind: EndKind,
        note: &str,
        by: Option<String>,
        output: OutputSummary,
        now: Now,
    ) {
        if let Some(proposal) = self.proposals.get(id)
            && let Some(pool) = self.pools.get_mut(&proposal.envelope.profile)
        {
            pool.waiting.retain(|waiting| waiting != id);
        }
        let end = RunEnd {
            kind,
            exit_code: None,
            signal: None,
            by,
            note: note.to_owned(),
            step: 0,
            steps: Vec::new(),
            usage: RunUsage::default(),
            output,
            at: now.wall,
        };
        self.record_end(id, end, now);
    }

    fn record_end(&mut self, id: &ProposalId, end: RunEnd, now: Now) {
        self.set_phase(id, Phase::Concluding);
        let entry = Entry::Ended { id: id.clone(), end: end.clone() };
        self.record(Batch::End { id: id.clone(), end }, vec![(now.wall, entry)]);
    }

    /// The supervisor ends: what runs is killed, and what was approved and did not begin is ended.
    pub(super) fn stop_runs(&mut self, now: Now) {
        for pool in self.pools.values_mut() {
            pool.waiting.clear();
        }
        let open = self
            .proposals
            .values()
            .filter(|it| matches!(it.phase, Phase::Granted { .. } | Phase::Launching | Phase::Running));
        for id in open.map(|proposal| proposal.id.clone()).collect::<Vec<_>>() {
            // It is one of those that can be killed, so this cannot fail.
            let _ = self.kill_run(&id, SHUTDOWN, now);
        }
    }
}

/// How each of several steps ended, from what was seen of them. `last` is the one that was running when the run was
/// stopped, if it was.
fn step_ends(reports: Vec<StepReport>, last: u32, count: u32, end: EndKind) -> Vec<StepEnd> {
    if count < 2 {
        return Vec::new();
    }
    let reports = reports.into_iter().map(Some).chain(std::iter::repeat(None));
    (0..count)
        .zip(reports)
        .map(|(step, report)| {
            let has_begun = report.is_some();
            let StepReport { how, wall_us, stdout_bytes, stderr_bytes } = report.unwrap_or_default();
            let kind = match how {
                Some(_) => StepKind::Exited,
                None if !has_begun => StepKind::Skipped,
                None if step < last || end == EndKind::Lost => StepKind::Lost,
                None => StepKind::Stopped,
            };
            let (exit_code, signal, note) = match how {
                Some(StepHow::Exited(code)) => (Some(code), None, String::new()),
                Some(StepHow::Signalled(signal)) => (None, Some(signal), String::new()),
                Some(StepHow::NotStarted(error, words)) => (Some(not_started(error)), None, words),
                None => (None, None, String::new()),
            };
            StepEnd { kind, exit_code, signal, note, wall_us, stdout_bytes, stderr_bytes }
        })
        .collect()
}

/// The statuses by which shells tell a program that is not there from one that cannot be run.
const fn not_started(error: i32) -> i32 {
    if error == ENOENT { 127 } else { 126 }
}

struct Judged {
    kind: EndKind,
    exit_code: Option<i32>,
    signal: Option<i32>,
    note: String,
}

/// Why a run ended, from what init said and what the supervisor knows. A missing word is never a success.
fn judge(outcome: Outcome, usage: &RunUsage, sandbox: &super::Sandbox) -> Judged {
    let judged = |kind, note: &str| Judged { kind, exit_code: None, signal: None, note: note.to_owned() };
    let was_ended = matches!(outcome, Outcome::Signalled(SIGKILL) | Outcome::Cancelled | Outcome::Lost(_));
    if was_ended && sandbox.killed_by.is_some() {
        return judged(EndKind::Killed, "");
    }
    // Even where it exited by itself before the kill came: what was kept of its output is not all of it.
    if sandbox.output_full {
        return judged(EndKind::Output, "it wrote more than it may");
    }
    if was_ended && sandbox.past_deadline {
        return judged(EndKind::Deadline, "");
    }
    let oom = match usage.oom_kills {
        0 => String::new(),
        1 => "out of memory during the run: 1 process was killed".to_owned(),
        n => format!("out of memory during the run: {n} processes were killed"),
    };
    match outcome {
        Outcome::Exited(code) => Judged { exit_code: Some(code), ..judged(EndKind::Exited, &oom) },
        Outcome::Signalled(SIGKILL) if usage.oom_kills > 0 => {
            Judged { signal: Some(SIGKILL), ..judged(EndKind::Memory, "it needed more memory than it may have") }
        }
        Outcome::Signalled(signal) => Judged { signal: Some(signal), ..judged(EndKind::Exited, &oom) },
        Outcome::NotStarted(error, what) => {
            Judged { exit_code: Some(not_started(error)), ..judged(EndKind::Exited, &what) }
        }
        Outcome::Deadline => judged(EndKind::Deadline, &oom),
        Outcome::Cancelled => judged(EndKind::Lost, "it was cancelled, and nobody is known to have asked for that"),
        Outcome::Lost(_) if sandbox.out_of_memory => {
            judged(EndKind::Memory, "the whole sandbox was killed for want of memory")
        }
        Outcome::Lost(why) => judged(EndKind::Lost, &why),
    }
}
