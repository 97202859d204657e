//! A list of sandboxes that is kept up to date on a terminal: `brig top`, and `brig ps --watch`.
//!
//! Far less than the console, and for those who only look: a table, drawn anew at each look. Nothing waits for the
//! supervisor: keys and signals are heeded at once, and a list that cannot be had any more says since when.

use std::cmp::Reverse;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use brig_core::problem::{Code, Problem};
use brig_core::visible;
use clap::ValueEnum;
use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::color::{self, Colour};
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{Screen, now_ms, span};
use super::ps;
use super::table::Table;
use crate::api::wire::{SandboxRow, SandboxState};
use crate::console::terminal::{Signals, Taken, end_after_signals};
use crate::console::text::cut;

/// By what the list of `brig top` is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Most CPU first
    #[default]
    Cpu,
    /// Most memory first
    Memory,
    /// What has changed last first
    Time,
}

/// Which list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As the supervisor lists them.
    Ps,
    /// Sorted.
    Top(Sort),
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Which list.
    pub kind: Kind,
    /// Only what runs.
    pub running: bool,
}

impl List {
    /// The rows that are wanted, in their order.
    #[must_use]
    pub fn arranged(self, mut rows: Vec<SandboxRow>) -> Vec<SandboxRow> {
        rows.retain(|row| !self.running || row.state == SandboxState::Running);
        // Stable, so that what uses the same does not change places from look to look.
        match self.kind {
            Kind::Ps => {}
            Kind::Top(Sort::Cpu) => rows.sort_by(|a, b| cpu(b).total_cmp(&cpu(a))),
            Kind::Top(Sort::Memory) => rows.sort_by_key(|row| Reverse(row.usage.map_or(0, |usage| usage.memory))),
            Kind::Top(Sort::Time) => rows.sort_by_key(|row| Reverse(row.since)),
        }
        rows
    }

    /// The table of arranged rows.
    #[must_use]
    pub fn table(self, rows: &[SandboxRow], now: i64) -> Table {
        if self.kind == Kind::Ps {
            return ps::table(rows, now);
        }
        let mut table = Table::new(&["ID", "STATE", "PROFILE", "CPU", "MEMORY", "PIDS", "SINCE", "LEFT", "COMMAND"]);
        for row in rows {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let usage = row.usage;
            let cells = vec![
                // What a run is called by whoever would kill it.
                row.proposal.as_ref().map_or_else(|| row.id.to_string(), ToString::to_string),
                row.state.text().to_owned(),
                row.profile.clone(),
                or_dash(usage.and_then(|usage| usage.cpu_percent).map(|percent| format!("{percent:.0}%"))),
                or_dash(usage.map(|usage| ps::round_size(usage.memory))),
                or_dash(usage.map(|usage| usage.pids.to_string())),
                span(now - row.since.0),
                or_dash(row.deadline_at.map(|at| span(at.0 - now))),
                row.command.clone().unwrap_or_default(),
            ];
            table.coloured_row(cells, 1, color::of_sandbox(row.state));
        }
        table
    }
}

fn cpu(row: &SandboxRow) -> f64 {
    row.usage.and_then(|usage| usage.cpu_percent).unwrap_or(-1.0)
}

/// Whether somebody is at both ends of a terminal.
#[must_use]
pub fn is_possible(context: &Context) -> bool {
    context.screen.is_terminal() && io::stdin().is_terminal()
}

/// Shows the list until somebody leaves.
///
/// # Errors
/// What the supervisor answers to the first look, and that the terminal cannot be used.
pub async fn watch(context: &Context, list: List, every_ms: u64) -> Result<Exit, Stop> {
    let client = context.operator()?;
    let look = || async { patiently(client.get::<Vec<SandboxRow>>("/v1/sandboxes")).await };
    // What is wrong from the beginning is better said where it stays.
    let mut shown = Shown { list, every_ms, rows: look().await?, looked_at: now_ms(), problem: None };
    let unusable =
        |error: &dyn std::fmt::Display| Problem::new(Code::LocalIo, format!("the terminal cannot be used: {error:#}"));
    let mut signals = Signals::new().map_err(|error| unusable(&error))?;
    let taken = Taken::take().map_err(|error| unusable(&error))?;
    end_after_signals().map_err(|error| unusable(&error))?;
    let mut keys = EventStream::new();
    let every = Duration::from_millis(every_ms);
    let mut next = Instant::now() + every;
    let mut looking = None;
    let exit = loop {
        shown.draw(context.screen.colour)?;
        tokio::select! {
            biased;
            number = signals.next() => break Exit::Program(u8::try_from(128 + number).unwrap_or(u8::MAX)),
            key = keys.next() => match key {
                Some(Ok(event)) => if shown.leaves(&event) { break Exit::Done },
                Some(Err(_)) | None => break Exit::Done,
            },
            answer = async { match looking.as_mut() { Some(answer) => answer.await, None => std::future::pending().await } } => {
                looking = None;
                next = Instant::now() + every;
                shown.take(answer);
            }
            () = tokio::time::sleep_until(next), if looking.is_none() => looking = Some(Box::pin(look())),
        }
    };
    drop(taken);
    Ok(exit)
}

/// What is on the screen.
struct Shown {
    list: List,
    every_ms: u64,
    rows: Vec<SandboxRow>,
    looked_at: i64,
    problem: Option<Problem>,
}

impl Shown {
    fn take(&mut self, answer: Result<Vec<SandboxRow>, Problem>) {
        match answer {
            Ok(rows) => (self.rows, self.looked_at, self.problem) = (rows, now_ms(), None),
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Heeds a key. Whether it was one to leave by.
    fn leaves(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let sorted = |sort| matches!(self.list.kind, Kind::Top(_)).then_some(Kind::Top(sort));
        let kind = match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('c') => sorted(Sort::Cpu),
            KeyCode::Char('m') => sorted(Sort::Memory),
            KeyCode::Char('t') => sorted(Sort::Time),
            KeyCode::Char('r') => {
                self.list.running = !self.list.running;
                None
            }
            _ => None,
        };
        self.list.kind = kind.unwrap_or(self.list.kind);
        false
    }

    /// Draws over what is there, in one piece, so that nothing flickers.
    fn draw(&self, colour: bool) -> io::Result<()> {
        let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
        let lines = self.lines(now_ms(), usize::from(columns), usize::from(rows), colour);
        let screen = format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"));
        let mut out = io::stdout().lock();
        out.write_all(screen.as_bytes())?;
        out.flush()
    }

    /// At most `height` lines of at most `width` columns.
    fn lines(&self, now: i64, width: usize, height: usize, colour: bool) -> Vec<String> {
        let rows = self.list.arranged(self.rows.clone());
        let paint = |text: String, with: Colour| if colour { with.paint(&text) } else { text };
        let mut lines = vec![cut(&self.summary(), width).0];
        lines.push(match &self.problem {
            Some(problem) => {
                let old = span(now - self.looked_at);
                let message = visible::line(problem.message.as_bytes());
                paint(cut(&format!("this is {old} old: {message}"), width).0, Colour::Red)
            }
            None => paint(cut(&self.keys(), width).0, Colour::Dim),
        });
        let screen = Screen { width: Some(width), colour };
        let table = self.list.table(&rows, now).render(screen);
        lines.extend(table.lines().map(str::to_owned));
        if lines.len() > height {
            let hidden = lines.len() - height + 1;
            lines.truncate(height.saturating_sub(1));
            lines.push(cut(&format!("… {hidden} more"), width).0);
        }
        lines.truncate(height);
        lines
    }

    fn summary(&self) -> String {
        let count = |state| self.rows.iter().filter(|row| row.state == state).count();
        let usages = || self.rows.iter().filter_map(|row| row.usage);
        let cpu: f64 = usages().filter_map(|usage| usage.cpu_percent).sum();
        let memory = ps::round_size(usages().map(|usage| usage.memory).sum());
        let (running, warm) = (count(SandboxState::Running), count(SandboxState::Warm));
        let other = self.rows.len() - running - warm;
        format!("brig  {running} running, {warm} warm, {other} other  CPU {cpu:.0}%  memory {memory}")
    }

    fn keys(&self) -> String {
        let every = crate::config::units::duration_text(self.every_ms);
        let only = if self.list.running { "r all" } else { "r running only" };
        match self.list.kind {
            Kind::Ps => format!("every {every}  {only}  q leave"),
            Kind::Top(sort) => {
                let by = sort.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
                format!("every {every}, by {by}  c cpu  m memory  t time  {only}  q leave")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use brig_core::id::{ProposalId, SandboxId};
    use brig_core::time::Wall;
    use crossterm::event::KeyEvent;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;
    use crate::api::wire::UsageRow;

    fn sandbox(number: u64, cpu: Option<f64>, memory: u64) -> SandboxRow {
        let runs = cpu.is_some();
        SandboxRow {
            id: SandboxId(format!("k3f9-{number}")),
            engine_id: "e".into(),
            state: if runs { SandboxState::Running } else { SandboxState::Warm },
            profile: "shell".into(),
            proposal: runs.then(|| ProposalId(format!("propos{number:02}"))),
            command: runs.then(|| "sh -c 'while true; do echo a long command 日本語; done'".into()),
            since: Wall(1_000 * number.cast_signed()),
            deadline_at: runs.then_some(Wall(90_000)),
            killed_by: None,
            step: None,
            steps: None,
            usage: Some(UsageRow {
                cpu_percent: cpu,
                memory,
                memory_limit: 128 << 20,
                pids: 2,
                pids_limit: 64,
                io_read: 0,
                io_write: 0,
            }),
        }
    }

    fn shown(kind: Kind) -> Shown {
        let rows = vec![
            sandbox(1, Some(5.0), 3 << 20),
            sandbox(2, None, 1 << 20),
            sandbox(3, Some(99.6), 2 << 20),
            sandbox(4, Some(5.0), 9 << 20),
        ];
        Shown { list: List { kind, running: false }, every_ms: 1_000, rows, looked_at: 60_000, problem: None }
    }

    fn order(shown: &Shown) -> Vec<String> {
        let lines = shown.lines(60_000, 200, 50, false);
        lines[3..].iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    fn press(shown: &mut Shown, key: char) -> bool {
        shown.leaves(&Event::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)))
    }

    #[test]
    fn keys_sort_and_narrow_the_list_and_leave() {
        let mut top = shown(Kind::Top(Sort::Cpu));
        assert_eq!(order(&top), ["propos03", "propos01", "propos04", "k3f9-2"]);
        assert!(!press(&mut top, 'm'));
        assert_eq!(order(&top), ["propos04", "propos01", "propos03", "k3f9-2"]);
        press(&mut top, 't');
        assert_eq!(order(&top), ["propos04", "propos03", "k3f9-2", "propos01"]);
        press(&mut top, 'r');
        assert_eq!(order(&top), ["propos04", "propos03", "propos01"]);
        assert!(press(&mut top, 'q'));
        let control = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(top.leaves(&control) && top.leaves(&Event::Key(KeyEvent::from(KeyCode::Esc))));
        let mut ps = shown(Kind::Ps);
        press(&mut ps, 'm');
        assert_eq!(order(&ps), ["k3f9-1", "k3f9-2", "k3f9-3", "k3f9-4"]);
    }

    #[test]
    fn it_fits_every_screen_and_says_what_it_leaves_out() {
        for (kind, width, height) in
            [(Kind::Top(Sort::Cpu), 80, 24), (Kind::Ps, 80, 24), (Kind::Ps, 20, 5), (Kind::Ps, 1, 1)]
        {
            let lines = shown(kind).lines(60_000, width, height, false);
            assert!(lines.len() <= height && lines.iter().all(|line| line.width() <= width), "{lines:#?}");
        }
        let lines = shown(Kind::Top(Sort::Cpu)).lines(60_000, 80, 24, false);
        assert_eq!(lines[0], "brig  3 running, 1 warm, 0 other  CPU 110%  memory 15m");
        assert_eq!(lines[2], "ID        STATE    PROFILE  CPU   MEMORY  PIDS  SINCE  LEFT  COMMAND");
        assert_eq!(lines[3], "propos03  running  shell    100%  2m      2     57s    30s   sh -c 'while true;…");
        assert_eq!(lines.len(), 7);
        assert_eq!(shown(Kind::Ps).lines(60_000, 80, 5, false)[4], "… 3 more");
    }

    #[test]
    fn a_list_that_is_old_says_so() {
        let mut top = shown(Kind::Top(Sort::Cpu));
        top.take(Err(Problem::new(Code::NoSupervisor, "nobody\x1b answers")));
        let lines = top.lines(73_000, 80, 24, false);
        assert_eq!(lines[1], "this is 13s old: nobody⟨U+001B⟩ answers");
        assert!(lines.len() == 7);
        top.take(Ok(Vec::new()));
        assert!(top.lines(73_000, 80, 24, false)[1].ends_with("q leave"));
    }
}
