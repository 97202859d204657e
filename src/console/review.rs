//! The whole of a proposal as lines of text: what would run comes first, what the agent says about it after that.
//!
//! Nothing is cut and nothing is left out. Everything that somebody else wrote stands behind a bar, so that it cannot pass
//! for one of the headings.

use brig_core::blob::Blob;
use brig_core::envelope::{File, Step};
use brig_core::id::ProposalId;
use brig_core::problem::Problem;
use brig_core::profile::{Cage, Network, Volume};
use brig_core::proposal::{Status, StepKind};
use brig_core::time::Mono;
use brig_core::visible;

use super::state::ARMING_MS;
use super::text::{decider, duration, moment, moment_after, shown, ulimits, wrap, wrap_words};
use crate::api::wire::{ProposalDetail, ProposalRow, end_text, step_end_text};
use crate::config::units::{cpus_text, duration_text, size_text};

/// Columns before the text of a section.
const INDENT: usize = 3;
/// Columns of prose, however wide the screen is: longer lines are hard to read.
const PROSE: usize = 100;
/// Rows of the review that are not its text: header, footer, and its frame.
const AROUND: u16 = 4;

/// A proposal that is looked at.
#[derive(Debug)]
pub struct Review {
    /// Which one.
    pub id: ProposalId,
    /// All of it, once it is here.
    pub detail: Option<Box<ProposalDetail>>,
    /// Why it is not here.
    pub problem: Option<Problem>,
    /// Its text, in lines that fit.
    pub lines: Vec<Line>,
    /// Lines above the screen.
    pub top: usize,
    width: usize,
    height: usize,
    /// Since when its last line has been on the screen; once it was, that stays, as long as the text is the same.
    end_since: Option<Mono>,
    end_seen: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What sort of line.
    pub kind: Kind,
    /// Visible text.
    pub text: String,
}

/// The sorts of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The name of a section.
    Heading,
    /// brig's own words.
    Plain,
    /// brig's own words, of less weight.
    Note,
    /// Something to beware of.
    Warning,
    /// The beginning of a line that will be used as it is.
    Content,
    /// More of that line.
    ContentMore,
    /// The agent's words.
    Claim,
}

impl Review {
    /// One whose content is still to come.
    #[must_use]
    pub fn new(id: ProposalId) -> Self {
        Self {
            id,
            detail: None,
            problem: None,
            lines: Vec::new(),
            top: 0,
            width: 0,
            height: 0,
            end_since: None,
            end_seen: false,
        }
    }

    /// Takes the content. Another content has to be seen again.
    pub fn load(&mut self, detail: Box<ProposalDetail>) {
        let same = self.detail.as_ref().is_some_and(|old| old.row.digest == detail.row.digest);
        if !same {
            (self.top, self.end_since, self.end_seen) = (0, None, false);
        }
        self.problem = None;
        self.detail = Some(detail);
        self.lines.clear();
    }

    /// Whether the end has been on the screen for long enough to have been seen.
    #[must_use]
    pub fn is_armed(&self, now: Mono) -> bool {
        self.end_seen && self.end_since.is_some_and(|since| now.since(since) >= ARMING_MS)
    }

    /// Whether the last line has been on the screen.
    #[must_use]
    pub fn was_seen_to_its_end(&self) -> bool {
        self.end_seen
    }

    /// Lines below the screen.
    #[must_use]
    pub fn below(&self) -> usize {
        self.lines.len().saturating_sub(self.top + self.height)
    }

    /// Lines on the screen.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Moves by lines.
    pub fn scroll(&mut self, by: isize) {
        self.top = self.top.saturating_add_signed(by).min(self.lines.len().saturating_sub(self.height));
    }

    /// Fits the text to the screen, and notes whether its end is on it. What is covered is not seen.
    pub fn settle(&mut self, (columns, rows): (u16, u16), now: Mono, covered: bool) {
        let Some(detail) = &self.detail else { return };
        let width = usize::from(columns.saturating_sub(4));
        self.height = usize::from(rows.saturating_sub(AROUND));
        if self.lines.is_empty() || width != self.width {
            self.lines = lines(detail, width);
            self.width = width;
        }
        self.top = self.top.min(self.lines.len().saturating_sub(self.height));
        if covered {
            // The moment begins anew when the text is back; that it had been seen stays true.
            self.end_since = None;
        } else if self.below() == 0 || self.end_seen {
            self.end_seen = true;
            self.end_since.get_or_insert(now);
        }
    }
}

/// All of a proposal, wrapped to `width` columns. What is approved is taken apart by name, so that nothing of it can be
/// forgotten here.
#[must_use]
pub fn lines(detail: &ProposalDetail, width: usize) -> Vec<Line> {
    let ProposalDetail {
        row,
        full_reason,
        steps,
        keep_going,
        stdin,
        files,
        timeout_ms,
        output_limit,
        cage,
        image_id,
        output_pruned,
    } = detail;
    let mut out = Writer { lines: Vec::new(), width: width.saturating_sub(INDENT).max(8) };
    if let Some(why) = &row.returned {
        out.heading("Sent back to ask");
        out.words(Kind::Warning, &shown(why));
    }
    commands(steps, *keep_going, &mut out);
    if !stdin.0.is_empty() {
        out.heading(&format!("Standard input of the first step, {}", size_text(stdin.0.len() as u64)));
        out.file(&stdin.0);
    }
    for File { path, mode, content } in files {
        let size = size_text(content.0.len() as u64);
        out.heading(&format!("File {}, mode {mode:03o}, {size}", visible::line(&path.0)));
        out.file(&content.0);
    }
    out.heading("What it can touch");
    reach(cage, &row.profile, &mut out);
    let (time, output) = (duration_text(*timeout_ms), size_text(*output_limit));
    out.words(
        Kind::Plain,
        &format!("It is ended after {time} of time or {output} of output. Image {}.", shown(image_id)),
    );
    claims(row, full_reason, &mut out);
    facts(row, &mut out);
    if let Some(pruned) = output_pruned {
        out.words(Kind::Plain, &format!("Its output was {}.", shown(pruned)));
    }
    out.lines
}

fn commands(steps: &[Step], keep_going: bool, out: &mut Writer) {
    let count = steps.len();
    for (at, Step { argv, code, env, cwd }) in steps.iter().enumerate() {
        out.heading(&match count {
            1 => "Command".to_owned(),
            _ => format!("Step {} of {count}", at + 1),
        });
        match code {
            None => out.content(&quoted_command(argv)),
            Some(code) => {
                out.words(Kind::Note, &format!("Code in {}:", shown(&code.language)));
                out.file(&code.source.0);
                if !argv.is_empty() {
                    out.words(Kind::Note, "with the arguments");
                    out.content(&quoted_command(argv));
                }
            }
        }
        out.words(Kind::Note, &format!("in {}", visible::line(&cwd.0)));
        out.variables("with the variables", env.iter().map(|(name, value)| (name.0.as_slice(), value.0.as_slice())));
    }
    if count > 1 {
        let rule = if keep_going { "goes on after a step that fails" } else { "stops at the first step that fails" };
        out.words(Kind::Note, &format!("It {rule}."));
    }
}

/// The command for a content line: quoted, with the line ends of its arguments kept, so that a script inside of `sh -c`
/// is read line by line.
fn quoted_command(argv: &[Blob]) -> Vec<u8> {
    argv.iter().map(|word| visible::quoted(&word.0)).collect::<Vec<_>>().join(&b' ')
}

fn claims(row: &ProposalRow, full_reason: &str, out: &mut Writer) {
    out.heading("Why, in the agent's words");
    if full_reason.is_empty() {
        out.words(Kind::Note, "It gave no reason.");
    }
    for line in visible::lines(full_reason.as_bytes()) {
        for part in wrap_words(&line, out.width.saturating_sub(2).min(PROSE)) {
            out.push(Kind::Claim, part);
        }
    }
    out.heading("Who asks");
    let pid = row.agent.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    out.words(Kind::Plain, &format!("{}, user {}{pid}", shown(&row.agent.name), row.agent.uid));
    if row.agent.is_operator_user {
        let text = "It runs as your own user, so nothing but its good will keeps it from deciding for itself.";
        out.words(Kind::Warning, text);
    }
}

fn facts(row: &ProposalRow, out: &mut Writer) {
    out.heading("Rule");
    out.words(Kind::Plain, &format!("{}: {}", shown(&row.ruling.rule), shown(&row.ruling.why)));
    if let Some(verdict) = &row.verdict {
        out.heading("Verdict");
        let at = moment_after(row.received_at, verdict.at);
        out.words(Kind::Plain, &format!("{} by {} at {at}", verdict.kind.text(), decider(&verdict.by)));
        if !verdict.reason.is_empty() {
            out.content(verdict.reason.as_bytes());
        }
    }
    if let Some(end) = &row.end {
        out.heading("End");
        out.words(Kind::Plain, &format!("{} at {}", shown(&end_text(end)), moment_after(row.received_at, end.at)));
        for (at, step) in end.steps.iter().enumerate() {
            let took = match step.kind {
                StepKind::Skipped | StepKind::Lost => String::new(),
                _ => format!(" after {}", duration(step.wall_us / 1000)),
            };
            out.words(Kind::Plain, &format!("Step {}: {}{took}", at + 1, shown(&step_end_text(step))));
        }
    }
    out.heading("Proposal");
    let expires = match row.status {
        Status::Waiting => format!(", expires {}", moment_after(row.received_at, row.expires_at)),
        _ => String::new(),
    };
    out.words(Kind::Plain, &format!("{}, received {}{expires}", row.id, moment(row.received_at)));
    out.heading("Digest");
    out.words(Kind::Note, &row.digest.hex());
    if row.status == Status::Waiting {
        out.words(Kind::Note, "A verdict is on exactly this, and on nothing else.");
    }
}

/// The cage in sentences.
fn reach(cage: &Cage, profile: &str, out: &mut Writer) {
    let Cage {
        image,
        build,
        userland_fallback,
        user,
        working_dir,
        environment,
        secrets,
        volumes,
        interpreters,
        memory,
        milli_cpus,
        cpu_shares,
        pids,
        ulimits: limits,
        network,
        runtime,
        scratch_size,
        scratch_exec,
    } = cage;
    let network = match network {
        Network::None => "without network",
    };
    let exec = if *scratch_exec { "" } else { ", where nothing can be executed" };
    let cpu = match milli_cpus {
        0 => "CPUs without quota".to_owned(),
        milli => format!("{} CPU", cpus_text(*milli)),
    };
    let runtime = runtime.as_deref().map(|name| format!(" under {}", shown(name))).unwrap_or_default();
    let or_else =
        if *userland_fallback { " (or, where that cannot be had, of this machine's own programs)" } else { "" };
    let built =
        build.as_ref().map(|build| format!(", built from {}", shown(&build.context.text()))).unwrap_or_default();
    let text = format!(
        "Profile {}: a throw-away sandbox of {}{built}{or_else}{runtime}, as user {}, {network}; it can write {} in {} and a \
         quarter of that in /tmp{exec}, and has {} of memory, {cpu} with weight {cpu_shares}, and {pids} processes. \
         Limits of each process: {}.",
        shown(profile),
        shown(image),
        shown(user),
        size_text(*scratch_size),
        shown(working_dir),
        size_text(*memory),
        ulimits(limits),
    );
    out.words(Kind::Plain, &text);
    let variables = environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    out.variables("Every step has the profile's variables", variables);
    mounts(volumes, out);
    for (name, source) in secrets {
        let text = format!("Every step has the secret {}, taken from {}.", shown(name), shown(&source.text()));
        out.words(Kind::Warning, &text);
    }
    for (language, interpreter) in interpreters {
        let warm = if interpreter.prewarm { ", which has been started before" } else { "" };
        let text = format!("Code in {} is run by {}{warm}.", shown(language), shown(&interpreter.command.join(" ")));
        out.words(Kind::Plain, &text);
    }
}

fn mounts(volumes: &[Volume], out: &mut Writer) {
    if volumes.is_empty() {
        return out.words(Kind::Plain, "Nothing of this machine is mounted.");
    }
    for Volume { source, target } in volumes {
        out.words(Kind::Plain, &format!("It can read {} of the host, mounted at {}.", shown(source), shown(target)));
    }
    out.words(Kind::Warning, "What is mounted can change after the approval: no digest covers its content.");
}

struct Writer {
    lines: Vec<Line>,
    width: usize,
}

impl Writer {
    fn push(&mut self, kind: Kind, text: String) {
        self.lines.push(Line { kind, text });
    }

    fn heading(&mut self, text: &str) {
        if !self.lines.is_empty() {
            self.push(Kind::Plain, String::new());
        }
        // A heading may carry a path, so it is wrapped as well.
        for part in wrap(text, self.width) {
            self.push(Kind::Heading, part.to_owned());
        }
    }

    fn words(&mut self, kind: Kind, text: &str) {
        for part in wrap_words(text, self.width.min(PROSE)) {
            self.push(kind, part);
        }
    }

    fn variables<'a>(&mut self, note: &str, all: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        for (at, (name, value)) in all.enumerate() {
            if at == 0 {
                self.words(Kind::Note, note);
            }
            self.content(&[name, b"=", &visible::quoted(value)].concat());
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        for line in visible::lines(bytes) {
            for (at, part) in wrap(&line, self.width.saturating_sub(2)).into_iter().enumerate() {
                self.push(if at == 0 { Kind::Content } else { Kind::ContentMore }, part.to_owned());
            }
        }
    }

    /// Content where the last line's end, or its lack, matters too.
    fn file(&mut self, bytes: &[u8]) {
        self.content(bytes);
        if bytes.last().is_some_and(|&byte| byte != b'\n') {
            self.words(Kind::Note, "without a line end at its end");
        }
    }
}
