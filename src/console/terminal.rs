//! The terminal, taken and given back: on every way out, after a panic and before its message too.

use std::io::{self, IsTerminal as _, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brig_core::problem::{Code, Problem};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Whether the terminal is ours at the moment. It is given back once, by whoever comes first.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Told after a panic on whatever thread.
static PANICKED: Notify = Notify::const_new();

/// The terminal, taken; given back when dropped.
#[derive(Debug)]
pub struct Taken(());

impl Taken {
    /// Takes the terminal: raw, on its second screen, pasted text told from keys.
    ///
    /// # Errors
    /// When there is no terminal, or it cannot be set so. It is as it was then.
    pub fn take() -> anyhow::Result<Self> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(Problem::new(Code::LocalIo, "the console needs a terminal, and this is none")
                .help("without one, use `brig serve`, `brig queue` and `brig approve`")
                .into());
        }
        give_back_on_panic();
        TAKEN.store(true, Ordering::SeqCst);
        Self::set_up()
            .inspect_err(|_| give_back())
            .map_err(|error| Problem::new(Code::LocalIo, format!("it cannot be set up: {error}")).into())
    }

    fn set_up() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
        Ok(Self(()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Holds the terminal for what is drawn by views; gives it back when dropped.
pub struct Guard {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
    _taken: Taken,
}

impl Guard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// As [`Taken::take`].
    pub fn take() -> anyhow::Result<Self> {
        let taken = Taken::take()?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, _taken: taken })
    }
}

/// Gives the terminal back, if it was taken. Errors are of no use here: where the terminal has gone, nothing is left to
/// give back.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

fn give_back_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let was_taken = TAKEN.load(Ordering::SeqCst);
            give_back();
            before(info);
            if was_taken {
                PANICKED.notify_one();
            }
        }));
    });
}

/// Ends after a panic on another thread. The terminal was given back then, so the console must not draw any more.
pub async fn panicked() {
    PANICKED.notified().await;
}

/// How long leaving may take after a signal: a terminal that nobody reads any more holds up whoever writes to it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends the process should a signal not lead to an end in good order.
///
/// # Errors
/// When the system refuses to listen for signals.
pub fn end_after_signals() -> io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        let number = signals.next().await;
        tokio::time::sleep(PATIENCE).await;
        // The modes can be given back without writing anything.
        let _ = disable_raw_mode();
        std::process::exit(128 + number);
    });
    Ok(())
}

/// The signals that ask a console to end.
pub struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The number of the next one.
    pub async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
        };
        kind.as_raw_value()
    }
}
