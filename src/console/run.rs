//! The loop: one `select`, keys before everything else, and a frame only when something has changed.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use brig_core::time::{Mono, Now, Wall};
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use super::frames::Frames;
use super::link::{self, Connection};
use super::msg::{Command, Msg};
use super::state::State;
use super::terminal::{self, Guard, Signals};
use super::theme::Theme;
use super::update::update;
use super::{Leave, Options, view};

/// Opens the console and returns when it has been left. The terminal is given back by then, whatever happened.
///
/// # Errors
/// When there is no terminal, or it fails.
pub async fn run(options: Options) -> anyhow::Result<Leave> {
    let theme = options.theme.for_terminal(options.color);
    let mut signals = Signals::new()?;
    let mut guard = Guard::take()?;
    terminal::end_after_signals()?;
    let (sender, messages) = mpsc::channel(link::QUEUE);
    let connection = Connection::start(options.client, sender);
    let size = guard.terminal.size()?;
    let clock = Clock { start: Instant::now() };
    let state = State::new(clock.now(), (size.width, size.height));
    let mut console = Console { theme, clock, state, connection, frames: Frames::default() };
    let left = console.work(&mut guard, &mut signals, messages).await;
    drop(guard);
    left
}

struct Console {
    theme: Theme,
    clock: Clock,
    state: State,
    connection: Connection,
    frames: Frames,
}

/// What woke the loop.
enum Wake {
    Message(Msg),
    Draw,
    Nothing,
    Leave(Leave),
}

impl Console {
    async fn work(
        &mut self,
        guard: &mut Guard,
        signals: &mut Signals,
        mut messages: mpsc::Receiver<Msg>,
    ) -> anyhow::Result<Leave> {
        let mut keys = EventStream::new();
        self.frames.request();
        loop {
            let now = Instant::now();
            let due = self.frames.due(now);
            if due.is_some_and(|due| due <= now) {
                self.draw(guard)?;
                continue;
            }
            let tick = self.state.changes_in().map(|ms| now + Duration::from_millis(ms));
            // Keys come before messages, so that no flood of those can delay them.
            let wake = tokio::select! {
                biased;
                number = signals.next() => Wake::Leave(Leave::Signal(number)),
                () = terminal::panicked() => bail!("a part of the console has failed; what runs goes on"),
                event = keys.next() => match event {
                    Some(event) => from_terminal(event?),
                    // The terminal has gone.
                    None => Wake::Leave(Leave::Keep),
                },
                () = at(due) => Wake::Draw,
                Some(msg) = messages.recv() => Wake::Message(msg),
                () = at(tick) => Wake::Message(Msg::Tick),
            };
            match wake {
                Wake::Message(msg) => {
                    if let Some(leave) = self.take(msg) {
                        return Ok(leave);
                    }
                }
                Wake::Leave(leave) => return Ok(leave),
                Wake::Draw | Wake::Nothing => {}
            }
        }
    }

    fn take(&mut self, msg: Msg) -> Option<Leave> {
        let effects = update(&mut self.state, msg, self.clock.now());
        if effects.redraw {
            self.frames.request();
        }
        let mut leave = None;
        for command in effects.commands {
            match command {
                Command::Leave(how) => leave = Some(how),
                other => self.connection.run(other),
            }
        }
        leave
    }

    fn draw(&mut self, guard: &mut Guard) -> anyhow::Result<()> {
        let (state, theme) = (&self.state, &self.theme);
        guard.terminal.draw(|frame| view::draw(state, theme, frame.buffer_mut()))?;
        self.frames.drawn(Instant::now());
        Ok(())
    }
}

fn from_terminal(event: Event) -> Wake {
    match event {
        Event::Key(key) => Wake::Message(Msg::Key(key)),
        Event::Paste(text) => Wake::Message(Msg::Paste(text)),
        Event::Resize(columns, rows) => Wake::Message(Msg::Resize(columns, rows)),
        Event::Mouse(_) | Event::FocusGained | Event::FocusLost => Wake::Nothing,
    }
}

/// Waits until then, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct Clock {
    start: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(mono), wall: Wall(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)) }
    }
}
