//! Init's own way to the two streams while programs run.
//!
//! Descriptors 1 and 2 are shared with every program: one of them may have made them block, and then a write for which a
//! poll has just found room waits all the same, if a program of an earlier step took that room. While it waits no deadline
//! is looked at. So each stream that is a pipe is opened once more, which gives a description of init's own that never
//! blocks. Where that is not possible (no pipe, no `/proc`), the shared descriptor has to do: the owner ends a run that is
//! late.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use crate::sys;

/// Both streams, as far as they could be opened again.
pub struct Outlets {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Outlets {
    /// Opens them, which has to happen before becoming undumpable: after that `/proc/self/fd` is root's.
    pub fn open() -> Outlets {
        Outlets { stdout: reopen("/proc/self/fd/1"), stderr: reopen("/proc/self/fd/2") }
    }

    /// What to write on, stdout first.
    pub fn descriptors(&self) -> [i32; 2] {
        let descriptor = |own: &Option<File>, shared| own.as_ref().map_or(shared, AsRawFd::as_raw_fd);
        [descriptor(&self.stdout, sys::STDOUT), descriptor(&self.stderr, sys::STDERR)]
    }
}

fn reopen(path: &str) -> Option<File> {
    // Opened again, a file would be written from its beginning.
    fs::metadata(path).ok().filter(|it| it.file_type().is_fifo())?;
    OpenOptions::new().write(true).custom_flags(sys::O_NONBLOCK).open(path).ok()
}
