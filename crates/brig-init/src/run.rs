//! One run: its steps one after another, and whatever may stop them.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use brig_init::wire::{self, Fence, How, Nonce, Request, StepEnd, Why};

use crate::exec::{Child, Program, Source};
use crate::fatal::Fatal;
use crate::files;
use crate::inbox::Heard;
use crate::outcome::{Outcome, complain, explain, how_it_ended, micros};
use crate::plan::Plan;
use crate::reap::{self, Children, Left};
use crate::station::{Outlet, Station};
use crate::sys;
use crate::warm::{Chosen, Warmed};

/// What a step that was stopped is killed with.
const SIGKILL: i32 = 9;

/// Does what the body of a request says, and writes both fences when nothing of it is alive any more.
///
/// # Errors
/// When there is no use in a fence, or no nonce for one. Something may be alive then.
pub fn answer(station: &mut Station, warm: Warmed, body: Vec<u8>) -> Result<(), Fatal> {
    let begun = Instant::now();
    station.meters.begin();
    let decoded = Request::decode(&body);
    let mut chosen = decoded.as_ref().ok().and_then(|request| warm.choose(request));
    let _kept = chosen.as_mut().and_then(Chosen::keep);
    let (nonce, plan, deadline) = match &decoded {
        Ok(request) => {
            let deadline = begun + Duration::from_millis(request.deadline_ms);
            (request.nonce, Plan::prepare(request, chosen.as_ref().map(Chosen::stdin)), deadline)
        }
        Err(error) => match Request::nonce_of(&body) {
            Some(nonce) => (nonce, Err(bad_request(error.to_string())), begun),
            None => return Err(Fatal::Protocol(error.clone())),
        },
    };
    drop(decoded);
    // Up to 64 MiB, which count against the sandbox's memory.
    drop(body);
    let outcome = match plan {
        Ok(plan) => run_steps(station, &plan, chosen, deadline)?,
        Err(outcome) => outcome,
    };
    reap::everything(station, &mut Children::none())?;
    let trailer = outcome.into_trailer(station.meters.read(), begun.elapsed());
    write_fences(station, &nonce, trailer)?;
    station.linger();
    Ok(())
}

fn bad_request(message: String) -> Outcome {
    Outcome { how: How::NotStarted(0), why: Why::BadRequest, step: 0, steps: Vec::new(), message: message.into_bytes() }
}

/// Both are tried, whatever becomes of the first.
fn write_fences(station: &mut Station, nonce: &Nonce, trailer: brig_init::wire::Trailer) -> Result<(), Fatal> {
    let stdout = Fence::Stdout { artifacts: 0 }.encode(nonce);
    let stderr = Fence::Stderr(trailer).encode(nonce);
    let first = match station.deliver(Outlet::Stdout, &stdout) {
        Err(Fatal::Undelivered(stream)) => Err(Fatal::Undelivered(stream)),
        result => return result.and_then(|()| station.deliver(Outlet::Stderr, &stderr)),
    };
    station.deliver(Outlet::Stderr, &stderr)?;
    first
}

fn run_steps(
    station: &mut Station,
    plan: &Plan,
    mut chosen: Option<Chosen>,
    deadline: Instant,
) -> Result<Outcome, Fatal> {
    let mut told: Option<Outcome> = None;
    let mut steps = Vec::with_capacity(plan.steps.len());
    // The first step has no mark before it.
    let marks = std::iter::once(None).chain(plan.marks.iter().map(Some)).chain(std::iter::repeat(None));
    let mut stdin = &plan.stdin;
    for ((number, program), marks) in (0..).zip(&plan.steps).zip(marks) {
        let begun = Instant::now();
        let stopped = marks.map_or(Ok(None), |marks| station.mark(marks, deadline))?;
        let mut outcome = match stopped {
            None => run_step(station, program, stdin, chosen.take(), deadline)?,
            Some(why) => step_outcome(How::Signalled(SIGKILL), why, Vec::new()),
        };
        stdin = &plan.empty;
        outcome.step = number;
        steps.push(StepEnd { how: outcome.how, wall_us: micros(begun.elapsed()) });
        let goes_on = outcome.why == Why::Finished && (plan.keep_going || !outcome.has_failed());
        // The first failure is worth more than a later end, but a run that was stopped was stopped here.
        let earlier = told.take().filter(|earlier| earlier.has_failed() && outcome.why == Why::Finished);
        told = Some(earlier.unwrap_or(outcome));
        if !goes_on {
            break;
        }
    }
    // The wire format has at least one step.
    let outcome = told.unwrap_or_else(|| bad_request("no steps".to_owned()));
    Ok(Outcome { steps, ..outcome })
}

fn run_step(
    station: &mut Station,
    program: &Program,
    stdin: &OwnedFd,
    chosen: Option<Chosen>,
    deadline: Instant,
) -> Result<Outcome, Fatal> {
    if let Some(Source { path, content }) = &program.source
        && let Err(error) = files::write(&wire::File { path, mode: 0o644, content }, c"/")
    {
        let errno = error.raw_os_error().unwrap_or(sys::EINVAL);
        return Ok(step_outcome(How::NotStarted(errno), Why::Finished, complain("create", path, errno)));
    }
    let started = match chosen {
        Some(chosen) => Ok(chosen.release()),
        None => program.start(stdin),
    };
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let message = complain("fork", b"", errno);
            return Ok(step_outcome(How::NotStarted(errno), Why::Finished, message));
        }
    };
    let mut children = Children::watching(child.pid);
    let why = wait_for_end(station, &mut children, deadline)?;
    if why != Why::Finished {
        reap::everything(station, &mut children)?;
    }
    Ok(end_of(&child, &children, program, why))
}

/// Waits until the watched child has ended, or something stops the run.
fn wait_for_end(station: &mut Station, children: &mut Children, deadline: Instant) -> Result<Why, Fatal> {
    loop {
        let left = children.reap();
        if children.main_status().is_some() {
            return Ok(Why::Finished);
        }
        let time_left = deadline.saturating_duration_since(Instant::now());
        if time_left.is_zero() {
            return Ok(Why::Deadline);
        }
        let timeout = if left == Left::More { Duration::ZERO } else { time_left };
        if station.wait(timeout)? == Heard::Cancel {
            return Ok(Why::Cancelled);
        }
    }
}

fn end_of(child: &Child, children: &Children, program: &Program, why: Why) -> Outcome {
    if let Some((stage, errno)) = child.failure() {
        let name = program.argv.first().map_or(b"".as_slice(), |name| name.as_bytes());
        let message = explain(stage, name, program.cwd.as_bytes(), errno);
        return step_outcome(How::NotStarted(errno), why, message);
    }
    let how = children.main_status().map_or(How::Signalled(SIGKILL), how_it_ended);
    step_outcome(how, why, Vec::new())
}

fn step_outcome(how: How, why: Why, message: Vec<u8>) -> Outcome {
    Outcome { how, why, step: 0, steps: Vec::new(), message }
}
