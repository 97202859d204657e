//! The one place that waits: for the owner, for dead children, and for the clock.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use brig_init::wire::{MARK_LEN, Why};

use crate::fatal::Fatal;
use crate::inbox::{Heard, Inbox};
use crate::outlets::Outlets;
use crate::sys::{self, PollFd};
use crate::usage::Meters;

/// How long a stream may take no byte at all of what init itself has to say.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How long the owner may hold on to a sandbox whose run has ended.
const LINGER: Duration = Duration::from_millis(300);

/// What an armed init has at hand.
pub struct Station {
    inbox: Inbox,
    signals: OwnedFd,
    pub meters: Meters,
    outlets: Outlets,
}

impl Station {
    pub fn new(signals: OwnedFd, meters: Meters, outlets: Outlets) -> Station {
        Station { inbox: Inbox::new(), signals, meters, outlets }
    }

    /// Waits until the owner says something, a child dies or the time is over.
    pub fn wait(&mut self, timeout: Duration) -> Result<Heard, Fatal> {
        self.wait_also(-1, timeout)
    }

    /// The same, until something can be read from another descriptor too.
    pub fn wait_also(&mut self, other: RawFd, timeout: Duration) -> Result<Heard, Fatal> {
        let mut fds =
            [PollFd::readable(self.inbox.fd()), PollFd::readable(self.signals.as_raw_fd()), PollFd::readable(other)];
        sys::poll(&mut fds, timeout).map_err(|error| Fatal::Setup("ppoll", error))?;
        self.drain_signals(&fds[1]);
        if fds[0].is_ready() { self.inbox.listen() } else { Ok(Heard::Nothing) }
    }

    /// Waits until a child dies or the time is over, whatever the owner says meanwhile.
    pub fn wait_for_children(&self, timeout: Duration) {
        let mut fds = [PollFd::readable(self.signals.as_raw_fd())];
        // Without a working poll the caller's loop still ends, at its own limit.
        let _ = sys::poll(&mut fds, timeout);
        self.drain_signals(&fds[0]);
    }

    /// Writes all of this on a stream of init's own, and goes on noticing the end of the owner.
    ///
    /// A stream that cannot be written any more because its reader is gone counts as written: there is nobody left to
    /// tell. Whether the descriptor blocks is unknown, as its flags are shared with every program that had it; since
    /// all of it is shorter than PIPE_BUF, a write after a successful poll does not block.
    pub fn deliver(&mut self, stream: Outlet, mut bytes: &[u8]) -> Result<(), Fatal> {
        let mut give_up = Instant::now() + WRITE_LIMIT;
        while !bytes.is_empty() {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fatal::Undelivered(stream.name()));
            }
            let mut fds = [PollFd::writable(stream.fd()), PollFd::readable(self.inbox.fd_in_a_run())];
            sys::poll(&mut fds, left).map_err(|error| Fatal::Setup("ppoll", error))?;
            if fds[0].is_ready() {
                match sys::write(stream.fd(), bytes) {
                    Ok(count) => {
                        bytes = &bytes[count..];
                        give_up = Instant::now() + WRITE_LIMIT;
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                            return Ok(());
                        }
                        _ => return Err(Fatal::Undelivered(stream.name())),
                    },
                }
            }
            // Too late for a CANCEL to change anything; the owner's end still counts.
            if fds[1].is_ready() {
                self.inbox.listen()?;
            }
        }
        Ok(())
    }

    /// Writes a mark on stdout and then one on stderr, while programs of earlier steps may be alive and writing. Nothing
    /// when both are written, or when nobody reads a stream any more; else why the run was stopped meanwhile.
    pub fn mark(&mut self, marks: &[[u8; MARK_LEN]; 2], deadline: Instant) -> Result<Option<Why>, Fatal> {
        for (fd, mark) in self.outlets.descriptors().into_iter().zip(marks) {
            let mut left = mark.as_slice();
            while !left.is_empty() {
                let time_left = deadline.saturating_duration_since(Instant::now());
                if time_left.is_zero() {
                    return Ok(Some(Why::Deadline));
                }
                let mut fds = [PollFd::writable(fd), PollFd::readable(self.inbox.fd())];
                sys::poll(&mut fds, time_left).map_err(|error| Fatal::Setup("ppoll", error))?;
                if fds[1].is_ready() && self.inbox.listen()? == Heard::Cancel {
                    return Ok(Some(Why::Cancelled));
                }
                if fds[0].is_ready() {
                    match sys::write(fd, left) {
                        Ok(count) => left = &left[count..],
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                        // Without a mark the output of the step counts as that of the one before.
                        Err(_) => break,
                    }
                }
            }
        }
        Ok(None)
    }

    /// Waits until the owner lets go, or has had its time to. When PID 1 exits, the whole container is taken down, which
    /// is work for the machine: the owner decides when that begins, so that it does not hold up what it does with the
    /// result.
    pub fn linger(&mut self) {
        let mut fds = [PollFd::readable(self.inbox.fd_in_a_run())];
        if self.inbox.fd_in_a_run() >= 0 && sys::poll(&mut fds, LINGER).is_ok() && fds[0].is_ready() {
            // Whatever it says or does not say: there is nothing left to be done about it.
            let _ = self.inbox.listen();
        }
    }

    fn drain_signals(&self, polled: &PollFd) {
        // Each record is of 128 bytes. What they say does not matter, as waitpid knows better; only that they are
        // gone, so that the next one is noticed.
        let mut records = [0; 1024];
        if polled.is_ready() {
            while sys::read(self.signals.as_raw_fd(), &mut records).is_ok_and(|count| count == records.len()) {}
        }
    }
}

/// A stream that init writes on.
#[derive(Debug, Clone, Copy)]
pub enum Outlet {
    Stdout,
    Stderr,
}

impl Outlet {
    fn fd(self) -> i32 {
        match self {
            Outlet::Stdout => sys::STDOUT,
            Outlet::Stderr => sys::STDERR,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Outlet::Stdout => "stdout",
            Outlet::Stderr => "stderr",
        }
    }
}

/// Says one line on stderr if there is room for it at once: init must not hang for the sake of a message.
pub fn say(line: &str) {
    let mut fds = [PollFd::writable(sys::STDERR)];
    if sys::poll(&mut fds, Duration::from_millis(100)).is_ok() && fds[0].is_ready() {
        let _ = sys::write(sys::STDERR, line.as_bytes());
    }
}
