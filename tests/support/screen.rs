//! A terminal as a person has it: keys go in, and what is seen is what the bytes that come out make of a screen.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};

use pty_process::{OwnedWritePty, Size};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::brig::{BOUND, Brig, binary};
use super::docker::until;

pub const ENTER: &str = "\r";
pub const ESCAPE: &str = "\x1b";
pub const CTRL_C: &str = "\x03";
pub const TAB: &str = "\t";

/// A terminal with a program in it.
pub struct Screen {
    child: Child,
    keys: OwnedWritePty,
    /// To ask for its modes when the program has gone, too.
    terminal: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Screen {
    /// Opens a console in a terminal of 120x36.
    pub fn open(brig: &Brig) -> Self {
        Self::start(brig, &[], (120, 36))
    }

    pub fn start(brig: &Brig, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let terminal = pty.as_fd().try_clone_to_owned().unwrap();
        let command = pty_process::Command::new(binary()).args(args).env_clear().envs(brig.env());
        let child = command.current_dir(brig.path("home")).kill_on_drop(true).spawn(pts).unwrap();
        let seen = Arc::new(Mutex::new(Seen { parser: new_parser((columns, rows)), raw: Vec::new() }));
        let (mut output, keys) = pty.into_split();
        let sees = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            // It ends with an error when nobody has the terminal open any more.
            while let Ok(count @ 1..) = output.read(&mut buffer).await {
                let mut seen = sees.lock().unwrap();
                seen.raw.extend_from_slice(&buffer[..count]);
                seen.parser.process(&buffer[..count]);
            }
        });
        Self { child, keys, terminal, seen }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// What is on the screen, line by line.
    pub fn text(&self) -> String {
        self.seen().parser.screen().contents()
    }

    /// Every byte that the terminal was sent so far.
    pub fn raw(&self) -> Vec<u8> {
        self.seen().raw.clone()
    }

    /// The line with this text.
    pub fn line(&self, text: &str) -> Option<String> {
        self.text().lines().find(|line| line.contains(text)).map(str::to_owned)
    }

    /// Waits until the screen is as wanted.
    pub async fn is(&self, name: &str, wanted: impl Fn(&str) -> bool) {
        let begun = std::time::Instant::now();
        while !wanted(&self.text()) {
            assert!(begun.elapsed() < BOUND, "not within {BOUND:?}: {name}; the screen is\n{}", self.text());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub async fn shows(&self, text: &str) {
        self.is(text, |screen| screen.contains(text)).await;
    }

    pub async fn hides(&self, text: &str) {
        self.is(&format!("no {text:?}"), |screen| !screen.contains(text)).await;
    }

    /// Waits until the question with this text on its line can be decided.
    pub async fn asks(&self, text: &str) {
        self.is(&format!("? before {text}"), |screen| {
            screen.lines().any(|line| line.contains(text) && line.contains('?') && line.find('?') < line.find(text))
        })
        .await;
    }

    /// Goes to the question and presses `a` until nothing waits any more. What has just appeared or moved is not approved at once.
    pub async fn approve(&mut self, brig: &Brig) {
        let begun = std::time::Instant::now();
        while !brig.rows(&["queue"]).await.is_empty() {
            assert!(begun.elapsed() < BOUND, "it is not approved; the screen is\n{}", self.text());
            self.press("na").await;
        }
    }

    /// Goes to the next question and presses `r` until the reason is asked for.
    pub async fn reject(&mut self) {
        let is_asked = |screen: &str| screen.contains("Reason, which the agent gets:");
        let begun = std::time::Instant::now();
        while !is_asked(&self.text()) {
            assert!(begun.elapsed() < BOUND, "no reason is asked for; the screen is\n{}", self.text());
            self.hides("look again").await;
            self.press("nr").await;
            self.is("an answer to r", |screen| is_asked(screen) || screen.contains("look again")).await;
        }
    }

    pub async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    pub fn resize(&mut self, (columns, rows): (u16, u16)) {
        {
            // What was on it is drawn anew.
            let mut seen = self.seen();
            seen.parser = new_parser((columns, rows));
            let alternate = b"\x1b[?1049h\x1b[?25l\x1b[?2004h";
            seen.parser.process(alternate);
        }
        self.keys.resize(Size::new(rows, columns)).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().expect("it has not ended").cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the program's end and checks that the terminal was given back.
    pub async fn ended(mut self) -> ExitStatus {
        let status = tokio::time::timeout(BOUND, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end; the screen is\n{}", self.text())).unwrap();
        assert!(!self.is_raw(), "the terminal is left raw");
        until("the terminal is given back", BOUND, async || {
            let seen = self.seen();
            let screen = seen.parser.screen();
            !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
        })
        .await;
        status
    }
}

fn new_parser((columns, rows): (u16, u16)) -> vt100::Parser {
    let size = |count: u16| std::num::NonZeroU16::new(count).unwrap();
    vt100::Parser::new(size(rows), size(columns), 0)
}
