//! `brig run`: proposes a command and is that command, as far as whoever started it can tell.
//!
//! The supervisor is asked to withdraw what was proposed when this connection goes away, so whatever ends this process
//! ends the request too. A signal withdraws in so many words, so that its outcome can be told.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use brig_core::admission::MAX_PAYLOAD_BYTES;
use brig_core::blob::Blob;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{Draft, DraftStep, EndKind, OutputStream, Status};
use brig_core::visible;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::again::{Again, Repeats};
use super::completions::profiles;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{Tamer, json, remark, say, whisper};
use super::{steps, values};
use crate::api::client::Client;
use crate::api::wire::{FollowLine, ProposalDetail, ProposalRow, end_text, step_text};
use crate::console::text::decider;

/// How long a withdrawal may take before this process ends without knowing.
const WITHDRAWAL: Duration = Duration::from_secs(5);
/// How long of that the supervisor is asked to wait for the end, in milliseconds.
const LAST_WAIT_MS: u64 = 4_000;

/// Arguments of `brig run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it runs in; the default of brig.toml when left out
    #[arg(short, long, value_name = "NAME", add = profiles())]
    profile: Option<String>,
    /// Why, for the person who decides
    #[arg(short, long, default_value = "", hide_default_value = true)]
    reason: String,
    /// A shorter time than the profile's, as in 10s or 5m (a bare number is seconds)
    #[arg(short, long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<u64>,
    /// Less output than the profile's, as in 64k
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    output_limit: Option<u64>,
    /// A variable on top of the profile's
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// The directory to start in, as the sandbox knows it
    #[arg(short = 'C', long, value_name = "PATH")]
    cwd: Option<OsString>,
    /// Run code instead of a command, from this file (or - for the standard input); COMMAND then is its arguments
    #[arg(long, value_name = "FILE", conflicts_with_all = ["step", "steps"])]
    code: Option<PathBuf>,
    /// What the code is written in; the profile's only language when left out
    #[arg(short, long, value_name = "NAME", requires = "code")]
    language: Option<String>,
    /// Send the standard input, which is read to its end first: it is part of what is approved
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Print the identifier and do not wait; see `brig wait`
    #[arg(short, long)]
    detach: bool,
    /// Idempotency key: the same key with the same request is the same proposal
    #[arg(short, long)]
    key: Option<String>,
    /// Print the bytes as they are, even to a terminal
    #[arg(long)]
    raw: bool,
    /// A program with its arguments, quoted as one word; once for each step
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["steps", "command"])]
    step: Vec<OsString>,
    /// Steps from a file, or - for the standard input: {"steps": [{"argv": […]}]}, or the same in TOML
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "env", "cwd"])]
    steps: Option<OsString>,
    /// Let the steps after one that fails run all the same
    #[arg(long)]
    keep_going: bool,
    /// Program and arguments
    #[arg(
        required_unless_present_any = ["code", "step", "steps"],
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Proposes and, unless told to detach, follows to the end.
///
/// # Errors
/// What the supervisor answers.
pub async fn run(context: &Context, args: Args) -> Result<Exit, Stop> {
    let how = How { detach: args.detach, raw: args.raw };
    propose(context, &draft(args)?, how, None).await
}

/// How the one who proposes wants to be answered.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Print the identifier and do not wait.
    pub detach: bool,
    /// Print the bytes as they are, even to a terminal.
    pub raw: bool,
}

/// Proposes, in the name of whoever runs this, and unless told to detach, follows to the end.
///
/// # Errors
/// What the supervisor answers.
pub async fn propose(context: &Context, draft: &Draft, how: How, again: Option<Again>) -> Result<Exit, Stop> {
    let client = context.agent()?;
    if how.detach {
        let path = "/v1/proposals?follow=false&withdraw=false";
        let detail: ProposalDetail = patiently(client.post(path, draft)).await?;
        let repeats = again.map(|again| again.repeats(&detail));
        if context.json {
            json(&Proposed { row: &detail.row, repeats })?;
        } else {
            if let Some(words) = repeats.and_then(|repeats| repeats.words(&detail.row)) {
                remark(&words);
            }
            say(&detail.row.id.0)?;
        }
        return Ok(Exit::Done);
    }
    let headings = draft.steps.iter().map(heading).collect();
    let mut follower = Follower::new(client, context.json, Printer::new(how.raw), headings, again);
    let mut signals = Signals::new()?;
    let ended = tokio::select! {
        ended = follower.follow(draft) => ended,
        () = signals.next() => tokio::select! {
            ended = follower.withdraw() => ended,
            // Asked twice: the connection is gone with this process, and the supervisor withdraws by itself.
            () = signals.next() => Ok(()),
        },
    };
    follower.conclude(ended)
}

fn draft(mut args: Args) -> Result<Draft, Stop> {
    let (mut steps, keep_going) = steps_of(&mut args)?;
    for text in args.env {
        let variable = values::variable(&text)
            .map_err(|what| Stop::Usage(Problem::new(Code::Malformed, format!("--env: {what}"))))?;
        for step in &mut steps {
            step.env.insert(variable.name.clone(), variable.value.clone());
        }
    }
    if let Some(cwd) = args.cwd.map(values::blob) {
        steps.iter_mut().for_each(|step| step.cwd = Some(cwd.clone()));
    }
    Ok(Draft {
        profile: args.profile,
        steps,
        keep_going,
        stdin: if args.stdin { read_stdin()? } else { Blob::default() },
        timeout_ms: args.timeout,
        output_limit: args.output_limit,
        reason: args.reason,
        key: args.key,
        ..Draft::default()
    })
}

/// What runs, in whichever way it was given, and whether it goes on after a failure.
fn steps_of(args: &mut Args) -> Result<(Vec<DraftStep>, bool), Stop> {
    let (mut steps, mut keep_going) = (Vec::new(), args.keep_going);
    let both = |option: &str| {
        let problem = Problem::new(Code::Malformed, format!("{option} - and --stdin both want the standard input"));
        Stop::Usage(problem.help(format!("write what {option} reads to a file, and name that")))
    };
    if args.stdin && args.code.as_ref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(both("--code"));
    }
    if let Some(path) = &args.steps {
        if args.stdin && path == "-" {
            return Err(both("--steps"));
        }
        let file = steps::of_file(path)?;
        (steps, keep_going) = (file.steps, keep_going || file.keep_going);
    } else if !args.step.is_empty() {
        steps = steps::of_texts(&args.step)?;
    } else {
        let argv = std::mem::take(&mut args.command).into_iter().map(values::blob).collect();
        let code = args.code.as_deref().map(code).transpose()?;
        steps.push(DraftStep { argv, code, language: args.language.take(), ..DraftStep::default() });
    }
    Ok((steps, keep_going))
}

fn code(path: &Path) -> Result<Blob, Problem> {
    if path.as_os_str() == "-" {
        return read_stdin();
    }
    let name = visible::line(path.as_os_str().as_encoded_bytes());
    let unreadable = |error| Problem::new(Code::LocalIo, format!("cannot read {name}: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_PAYLOAD_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        let message = format!("{name} has more than {MAX_PAYLOAD_BYTES} bytes");
        return Err(Problem::new(Code::TooLarge, message).help("code is part of what is approved; send less of it"));
    }
    Ok(Blob(bytes))
}

/// The whole standard input, but never more than a proposal may hold.
fn read_stdin() -> Result<Blob, Problem> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        whisper("reading the standard input, end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    let limit = MAX_PAYLOAD_BYTES as u64;
    stdin
        .lock()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::new(Code::LocalIo, format!("cannot read the standard input: {error}")))?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(Problem::new(
            Code::TooLarge,
            format!("the standard input has more than {MAX_PAYLOAD_BYTES} bytes"),
        )
        .help("standard input is part of what is approved; send less of it"));
    }
    Ok(Blob(bytes))
}

/// What is known of the proposal so far. It outlives the following, which a signal cuts off.
struct Follower {
    client: Client,
    json: bool,
    printer: Printer,
    row: Option<ProposalRow>,
    /// What this repeats, until it is known how far it is the same.
    again: Option<Again>,
    repeats: Option<Repeats>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The same by step, for `--json`.
    by_step: Vec<[Vec<u8>; 2]>,
    /// What the steps are, where there are several.
    headings: Vec<String>,
    /// How many of them were said to have begun.
    begun: usize,
    withdrawn: bool,
}

impl Follower {
    fn new(client: Client, json: bool, printer: Printer, headings: Vec<String>, again: Option<Again>) -> Self {
        Self {
            client,
            json,
            printer,
            row: None,
            again,
            repeats: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            by_step: vec![[Vec::new(), Vec::new()]; headings.len()],
            headings,
            begun: 0,
            withdrawn: false,
        }
    }

    async fn follow(&mut self, draft: &Draft) -> Result<(), Stop> {
        let path = "/v1/proposals?follow=true&withdraw=true";
        let mut lines = self.client.post_and_follow::<FollowLine>(path, draft).await?;
        while let Some(line) = lines.next().await {
            match line? {
                FollowLine::Proposal(row) => {
                    self.compare(&row).await?;
                    let step = row.run.as_ref().filter(|_| row.status == Status::Running).map(|run| run.step);
                    self.tell(*row);
                    if let Some(step) = step {
                        self.tell_step(step).await?;
                    }
                }
                FollowLine::Output { stream, step, data, .. } if self.json => self.collect(stream, step, &data.0),
                FollowLine::Output { stream, step, data, .. } => {
                    self.tell_step(step).await?;
                    self.printer.print(stream, &data.0).await?;
                }
                FollowLine::Note { text } => whisper(&visible::line(text.as_bytes())),
                FollowLine::Problem(problem) => return Err(problem.into()),
                FollowLine::Alive => {}
            }
        }
        self.printer.finish().await
    }

    /// Says, once, how what was proposed again differs from what it was.
    async fn compare(&mut self, row: &ProposalRow) -> Result<(), Stop> {
        let Some(again) = self.again.take() else { return Ok(()) };
        let new = patiently(self.client.get(&format!("/v1/proposals/{}", row.id))).await?;
        let repeats = again.repeats(&new);
        if let Some(words) = repeats.words(row).filter(|_| !self.json) {
            remark(&words);
        }
        self.repeats = Some(repeats);
        Ok(())
    }

    /// Says what has changed to somebody who watches.
    fn tell(&mut self, row: ProposalRow) {
        let before = self.row.as_ref().map(|row| row.status);
        if before != Some(row.status) {
            let id = &row.id;
            match row.status {
                Status::Waiting => whisper(&format!("{id} waits for the operator (digest {})", &row.digest.hex()[..8])),
                Status::Approved => {
                    let by = row.verdict.as_ref().map(|verdict| decider(&verdict.by)).unwrap_or_default();
                    whisper(&format!("{id} approved by {by}"));
                }
                _ => {}
            }
        }
        self.row = Some(row);
    }

    /// Says which step has begun, each one once. What comes late of an earlier one, on the other stream, has no heading.
    async fn tell_step(&mut self, step: u32) -> Result<(), Stop> {
        let count = self.headings.len();
        while count > 1 && self.begun <= step as usize && self.begun < count {
            if !self.json {
                let step = step_text(u32::try_from(self.begun).unwrap_or(u32::MAX), count);
                self.printer.heading(&format!("{step}: {}", self.headings[self.begun])).await?;
            }
            self.begun += 1;
        }
        Ok(())
    }

    fn collect(&mut self, stream: OutputStream, step: u32, bytes: &[u8]) {
        let (all, index) = match stream {
            OutputStream::Stdout => (&mut self.stdout, 0),
            OutputStream::Stderr => (&mut self.stderr, 1),
        };
        all.extend_from_slice(bytes);
        if self.by_step.len() > 1
            && let Some(own) = self.by_step.get_mut(step as usize)
        {
            own[index].extend_from_slice(bytes);
        }
    }

    async fn withdraw(&mut self) -> Result<(), Stop> {
        let Some(id) = self.row.as_ref().map(|row| row.id.clone()) else {
            self.withdrawn = true;
            return Ok(());
        };
        let path = format!("/v1/proposals/{id}");
        let client = self.client.clone();
        let asked = async {
            // It may be over already: then what it has become is the answer.
            let _ = client.post::<serde_json::Value>(&format!("{path}/withdraw"), &serde_json::json!({})).await;
            client.get::<ProposalDetail>(&format!("{path}?wait_ms={LAST_WAIT_MS}")).await
        };
        let detail = tokio::time::timeout(WITHDRAWAL, asked).await;
        self.withdrawn = true;
        if let Ok(detail) = detail {
            self.row = Some(detail?.row);
        }
        Ok(())
    }

    /// The last words, and the exit.
    fn conclude(self, ended: Result<(), Stop>) -> Result<Exit, Stop> {
        ended?;
        let Some(row) = self.row else {
            if self.withdrawn {
                let exit_status = Exit::Withdrawn.code();
                if self.json {
                    json(&Outcome::Unrecorded { id: (), status: Status::Withdrawn, exit_status })?;
                } else {
                    remark("withdrawn before it was recorded");
                }
                return Ok(Exit::Withdrawn);
            }
            return Err(cut_off("it").into());
        };
        let exit = match Exit::of_proposal(&row) {
            Exit::Pending if self.withdrawn => Exit::Withdrawn,
            // The supervisor ended the answer although the proposal is not over: it has ended itself.
            Exit::Pending => return Err(cut_off(&row.id.0).into()),
            exit => exit,
        };
        if self.json {
            let (stdout, stderr) = (Blob(self.stdout), Blob(self.stderr));
            let step_output = match self.by_step.len() {
                0 | 1 => Vec::new(),
                _ => self.by_step.into_iter().map(StepOutput::new).collect(),
            };
            json(&Outcome::Known {
                row: &row,
                repeats: self.repeats,
                stdout,
                stderr,
                step_output,
                exit_status: exit.code(),
            })?;
        } else if !row.status.is_final() {
            remark(&format!("{} withdrawn; it was {} when last seen", row.id, row.status.text()));
        } else if let Some(words) = last_words(&row) {
            remark(&words);
        }
        Ok(exit)
    }
}

/// What `run --detach --json` prints, and `again` with it.
#[derive(Serialize, JsonSchema)]
pub struct Proposed<'a> {
    /// The proposal.
    #[serde(flatten)]
    row: &'a ProposalRow,
    /// Of `brig again`: how far it is the same.
    #[serde(flatten)]
    repeats: Option<Repeats>,
}

/// What `run --json` prints.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Outcome<'a> {
    /// What became of the proposal.
    Known {
        /// The proposal, as it is at the end.
        #[serde(flatten)]
        row: &'a ProposalRow,
        /// Of `brig again`: how far it is the same.
        #[serde(flatten)]
        repeats: Option<Repeats>,
        /// All that it wrote on its standard output.
        stdout: Blob,
        /// All that it wrote on its standard error.
        stderr: Blob,
        /// The same of each step, where there are several.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        step_output: Vec<StepOutput>,
        /// What `brig run` exits with.
        exit_status: u8,
    },
    /// It was taken back before it was recorded, so it has no name.
    Unrecorded {
        /// There is none.
        id: (),
        /// That it was withdrawn.
        status: Status,
        /// What `brig run` exits with.
        exit_status: u8,
    },
}

/// What was written while one step ran.
#[derive(Serialize, JsonSchema)]
pub struct StepOutput {
    /// On the standard output.
    stdout: Blob,
    /// On the standard error.
    stderr: Blob,
}

impl StepOutput {
    fn new([stdout, stderr]: [Vec<u8>; 2]) -> Self {
        Self { stdout: Blob(stdout), stderr: Blob(stderr) }
    }
}

/// A step on one line.
fn heading(step: &DraftStep) -> String {
    const CHARACTERS: usize = 120;
    let text = match &step.code {
        Some(_) => {
            let language = step.language.as_deref().unwrap_or("the profile's language");
            format!("code in {}", visible::line(language.as_bytes()))
        }
        None => visible::command([step.argv.as_slice()]),
    };
    text.chars().take(CHARACTERS).collect()
}

fn cut_off(id: &str) -> Problem {
    Problem::new(Code::NoSupervisor, format!("the supervisor ended before {id} was over"))
        .help("start it again with `brig serve`; `brig wait` then tells what became of it")
}

/// Why there is no program's status, or what else there is to know about its end; nothing where it simply ended.
fn last_words(row: &ProposalRow) -> Option<String> {
    let id = &row.id;
    let text = match (&row.end, &row.verdict) {
        (Some(end), _) if end.kind == EndKind::Exited && end.note.is_empty() => return None,
        (Some(end), _) => end_text(end),
        (None, Some(verdict)) => {
            let reason = if verdict.reason.is_empty() { String::new() } else { format!(": {}", verdict.reason) };
            format!("{} by {}{reason}", verdict.kind.text(), decider(&verdict.by))
        }
        (None, None) => row.status.text().to_owned(),
    };
    Some(visible::line(format!("{id} {text}").as_bytes()))
}

/// Prints what a program writes, each stream to its own: as it is to a pipe or a file; to a terminal made harmless, as
/// it could else take the terminal over.
#[derive(Debug, Default)]
pub struct Printer {
    stdout: Option<Tamer>,
    stderr: Option<Tamer>,
    /// The last byte that went to a terminal was no line end.
    inside_a_line: bool,
}

impl Printer {
    /// Looks at the two streams; `raw` takes terminals for files.
    #[must_use]
    pub fn new(raw: bool) -> Self {
        let tamer = |terminal: bool| (terminal && !raw).then(Tamer::default);
        Self { stdout: tamer(io::stdout().is_terminal()), stderr: tamer(io::stderr().is_terminal()), ..Self::default() }
    }

    /// Prints a piece.
    ///
    /// # Errors
    /// [`Stop::Pipe`] when nobody reads.
    pub async fn print(&mut self, stream: OutputStream, bytes: &[u8]) -> Result<(), Stop> {
        let tamer = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let is_terminal = match stream {
            OutputStream::Stdout => io::stdout().is_terminal(),
            OutputStream::Stderr => io::stderr().is_terminal(),
        };
        if is_terminal && let Some(last) = bytes.last() {
            self.inside_a_line = *last != b'\n';
        }
        let tame = tamer.as_mut().map(|tamer| tamer.tame(bytes));
        write(stream, tame.as_ref().map_or(bytes, String::as_bytes)).await
    }

    /// Says what comes next, on a line of its own, to somebody who watches: nothing where the standard error is no terminal.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub async fn heading(&mut self, text: &str) -> Result<(), Stop> {
        if io::stderr().is_terminal() {
            let line_end = if std::mem::take(&mut self.inside_a_line) { "\n" } else { "" };
            write(OutputStream::Stderr, format!("{line_end}brig: {text}\n").as_bytes()).await?;
        }
        Ok(())
    }

    /// Prints what was kept back.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub async fn finish(&mut self) -> Result<(), Stop> {
        for (stream, tamer) in [(OutputStream::Stdout, &mut self.stdout), (OutputStream::Stderr, &mut self.stderr)] {
            if let Some(tamer) = tamer {
                write(stream, tamer.finish().as_bytes()).await?;
            }
        }
        Ok(())
    }
}

/// Not in this thread: a reader that is stopped must not keep a signal from being seen.
async fn write(stream: OutputStream, bytes: &[u8]) -> Result<(), Stop> {
    match stream {
        OutputStream::Stdout => {
            let mut out = tokio::io::stdout();
            out.write_all(bytes).await?;
            Ok(out.flush().await?)
        }
        OutputStream::Stderr => {
            let mut out = tokio::io::stderr();
            out.write_all(bytes).await?;
            Ok(out.flush().await?)
        }
    }
}

/// Ends when a signal comes that means: not any more. Where signals cannot be heard, none does.
pub async fn interrupted() {
    match Signals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// The signals that mean: not any more.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self, Problem> {
        let listen = |kind| {
            signal(kind).map_err(|error| Problem::new(Code::LocalIo, format!("cannot listen for signals: {error}")))
        };
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use brig_core::proposal::{Verdict, VerdictKind};
    use brig_core::time::Wall;

    use super::*;
    use crate::cli::fixtures;

    #[test]
    fn the_last_words_say_what_the_exit_code_cannot() {
        let mut row = fixtures::proposal("k3");
        row.status = Status::Rejected;
        row.verdict = Some(Verdict {
            kind: VerdictKind::Rejected,
            by: brig_core::proposal::Decider::Operator { name: "anna".into(), uid: 1 },
            reason: "use \x1b[2Kstaging".into(),
            digest: row.digest,
            at: Wall(0),
        });
        assert_eq!(last_words(&row).unwrap(), "k3 rejected by anna: use ⟨U+001B⟩[2Kstaging");
        row.end = Some(fixtures::end(EndKind::Deadline));
        assert_eq!(last_words(&row).unwrap(), "k3 deadline");
        row.end = Some(fixtures::end(EndKind::Exited));
        assert_eq!(last_words(&row), None);
    }
}
