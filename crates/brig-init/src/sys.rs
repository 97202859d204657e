//! The system calls that std has no safe function for, each behind one that is safe to call.
//!
//! They are declared here rather than taken from the `libc` crate, because brig's build script compiles this program
//! with plain `rustc` and no dependencies. Numbers are those of Linux on `x86_64` and `aarch64`.
#![allow(
    unsafe_code,
    reason = "std has no safe functions for these calls; nothing outside of this file and `exec.rs` is unsafe"
)]

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("brig-init is for Linux on x86_64 and aarch64: its constants are theirs");

/// A process id.
pub type Pid = i32;

pub const STDIN: RawFd = 0;
pub const STDOUT: RawFd = 1;
pub const STDERR: RawFd = 2;

pub const ECHILD: i32 = 10;
pub const EINTR: i32 = 4;
pub const EINVAL: i32 = 22;
pub const ELOOP: i32 = 40;
pub const ENOTDIR: i32 = 20;

const O_WRONLY: c_int = 0o1;
const O_CREAT: c_int = 0o100;
const O_EXCL: c_int = 0o200;
pub const O_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2_000_000;
const O_PATH: c_int = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: c_int = 0o200_000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: c_int = 0o400_000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: c_int = 0o40_000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: c_int = 0o100_000;

const SIGKILL: c_int = 9;
const SIGCHLD: c_int = 17;
const SIG_SETMASK: c_int = 2;
const WNOHANG: c_int = 1;
const PR_SET_DUMPABLE: c_int = 4;
const PR_SET_CHILD_SUBREAPER: c_int = 36;
const MFD_CLOEXEC: c_uint = 1;
const MFD_NOEXEC_SEAL: c_uint = 8;
const RUSAGE_CHILDREN: c_int = -1;
const SYS_PIDFD_SEND_SIGNAL: c_long = 424;
const SYS_PIDFD_OPEN: c_long = 434;

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;

/// As in `<poll.h>`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    fd: c_int,
    events: i16,
    revents: i16,
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// As `sigset_t` of glibc and musl: 1024 bits.
#[repr(C)]
pub(crate) struct SignalSet([c_ulong; 16]);

impl SignalSet {
    pub(crate) const EMPTY: SignalSet = SignalSet([0; 16]);
}

#[repr(C)]
#[derive(Default)]
struct Timeval {
    seconds: i64,
    microseconds: i64,
}

#[repr(C)]
#[derive(Default)]
struct Rusage {
    user: Timeval,
    system: Timeval,
    max_rss_kib: c_long,
    others: [c_long; 13],
}

unsafe extern "C" {
    fn getrusage(who: c_int, usage: *mut Rusage) -> c_int;
    fn kill(pid: Pid, signal: c_int) -> c_int;
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    fn mkdirat(directory: c_int, path: *const c_char, mode: c_uint) -> c_int;
    fn openat(directory: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int;
    fn ppoll(fds: *mut PollFd, count: c_ulong, timeout: *const Timespec, mask: *const SignalSet) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    #[link_name = "read"]
    fn c_read(fd: c_int, buffer: *mut u8, length: usize) -> isize;
    fn pwrite(fd: c_int, buffer: *const u8, length: usize, offset: i64) -> isize;
    fn sigaddset(set: *mut SignalSet, signal: c_int) -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn signalfd(fd: c_int, mask: *const SignalSet, flags: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, ends: *mut c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn waitpid(pid: Pid, status: *mut c_int, options: c_int) -> Pid;
    #[link_name = "write"]
    fn c_write(fd: c_int, buffer: *const u8, length: usize) -> isize;
}

/// Reads once; 0 is the end.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for writes of its length for the time of the call.
    let count = unsafe { c_read(fd, buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Writes once, perhaps only a part.
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for reads of its length for the time of the call.
    let count = unsafe { c_write(fd, bytes.as_ptr(), bytes.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

impl PollFd {
    /// Waits for something to read, or the end; a negative descriptor is never ready.
    pub fn readable(fd: RawFd) -> PollFd {
        PollFd { fd, events: POLLIN, revents: 0 }
    }

    /// Waits for room to write, or an error.
    pub fn writable(fd: RawFd) -> PollFd {
        PollFd { fd, events: POLLOUT, revents: 0 }
    }

    /// Whether a read or a write would not block; errors and hang-ups count, as the next call reports them.
    pub fn is_ready(&self) -> bool {
        self.revents != 0
    }
}

/// Waits until one is ready or the time is over. A signal may end it early, with nothing ready.
pub fn poll(fds: &mut [PollFd], timeout: Duration) -> io::Result<()> {
    let timeout = Timespec {
        seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: timeout.subsec_nanos().into(),
    };
    // SAFETY: the array and the time are valid for the call; a null mask leaves the signal mask alone.
    let result = unsafe { ppoll(fds.as_mut_ptr(), fds.len() as c_ulong, &raw const timeout, std::ptr::null()) };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(EINTR) {
        return Err(error);
    }
    fds.iter_mut().for_each(|fd| fd.revents = 0);
    Ok(())
}

/// Closes `/proc/self/mem`, `environ`, `fd`, `maps` and ptrace to other processes of the same user.
pub fn become_undumpable() -> io::Result<()> {
    // SAFETY: this option takes one integer and touches no memory of ours.
    check(unsafe { prctl(PR_SET_DUMPABLE, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) }).map(drop)
}

/// Makes orphans among the descendants children of this process, as they are of PID 1.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this option takes one integer and touches no memory of ours.
    check(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) }).map(drop)
}

/// A descriptor that is readable when a child has died. SIGCHLD is blocked from now on, and nothing else is.
pub fn child_signals() -> io::Result<OwnedFd> {
    let mut set = SignalSet::EMPTY;
    // SAFETY: the set is valid memory of the size that libc expects, and all zeros is the empty set. The default
    // handler is set first, because an inherited SIG_IGN would make the kernel throw the statuses away.
    unsafe {
        signal(SIGCHLD, 0);
        check(sigaddset(&raw mut set, SIGCHLD))?;
        check(sigprocmask(SIG_SETMASK, &raw const set, std::ptr::null_mut()))?;
        owned(signalfd(-1, &raw const set, O_CLOEXEC | O_NONBLOCK))
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Signalled(i32),
}

/// What there was to reap.
pub enum Reaped {
    /// This child, which is gone now.
    Child(Pid, Status),
    /// There are children, all alive.
    NotYet,
    /// There are no children.
    Nobody,
}

/// Takes the status of one dead child, without waiting for one.
pub fn reap_one() -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: the status is valid for a write.
    let pid = unsafe { waitpid(-1, &raw mut status, WNOHANG) };
    match pid {
        0 => Ok(Reaped::NotYet),
        1.. => Ok(Reaped::Child(
            pid,
            match status & 0x7f {
                0 => Status::Exited((status >> 8) & 0xff),
                signal => Status::Signalled(signal),
            },
        )),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(ECHILD) => Ok(Reaped::Nobody),
            error => Err(error),
        },
    }
}

/// Kills everything in the PID namespace but this process, which must be its PID 1: for another process this would
/// kill all that its user has, so then it does nothing. False when there was nobody to kill.
pub fn kill_namespace() -> bool {
    if std::process::id() != 1 {
        return false;
    }
    // SAFETY: kill touches no memory, and the line above says that only this namespace is meant.
    unsafe { kill(-1, SIGKILL) == 0 }
}

/// Kills one process, if `still_meant` holds after the process was pinned: so never one that got the same id since.
pub fn kill_pinned(pid: Pid, still_meant: impl FnOnce() -> bool) {
    // SAFETY: both calls take integers and a null pointer, which pidfd_send_signal allows.
    unsafe {
        let Ok(pinned) = owned(syscall(SYS_PIDFD_OPEN, pid, 0 as c_uint) as c_int) else {
            return;
        };
        if still_meant() {
            syscall(SYS_PIDFD_SEND_SIGNAL, pinned.as_raw_fd(), SIGKILL, std::ptr::null::<u8>(), 0 as c_uint);
        }
    }
}

/// An empty file in memory, as far as possible one that cannot be executed.
pub fn memory_file(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in NUL. Kernels before 6.3 do not know the second flag, and say EINVAL.
    unsafe {
        match owned(memfd_create(name.as_ptr(), MFD_CLOEXEC | MFD_NOEXEC_SEAL)) {
            Err(error) if error.raw_os_error() == Some(EINVAL) => owned(memfd_create(name.as_ptr(), MFD_CLOEXEC)),
            result => result,
        }
    }
}

/// A pipe whose ends never block and are closed by execve: the end to read from, and the one to write to.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for both descriptors, and after success both are ours alone.
    unsafe {
        check(pipe2(ends.as_mut_ptr(), O_CLOEXEC | O_NONBLOCK))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Two connected ends, each of which can be read and written, blocks, and is closed by execve.
pub fn connected() -> io::Result<(OwnedFd, OwnedFd)> {
    const AF_UNIX: c_int = 1;
    const SOCK_STREAM: c_int = 1;
    let mut ends = [-1; 2];
    // SAFETY: the array has room for both descriptors, and after success both are ours alone.
    unsafe {
        check(socketpair(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0, ends.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Writes all of it at the file's beginning, and leaves alone where those who share the descriptor read on.
pub fn fill(file: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    while !bytes.is_empty() {
        // SAFETY: the buffer is valid for reads of its length for the time of the call.
        let count = unsafe { pwrite(file.as_raw_fd(), bytes.as_ptr(), bytes.len(), at) };
        match usize::try_from(count).map_err(|_| io::Error::last_os_error()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                at += i64::try_from(count).unwrap_or(i64::MAX);
            }
            Err(error) if error.raw_os_error() == Some(EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Kills a child that has not been reaped: so never a stranger.
pub fn kill_child(pid: Pid) {
    // SAFETY: kill touches no memory, and the caller says whose id it is.
    unsafe { kill(pid, SIGKILL) };
}

/// Opens a directory to walk on from it, and does not follow a symbolic link in its last part.
pub fn open_directory(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    // SAFETY: the name ends in NUL.
    unsafe { owned(openat(parent.as_raw_fd(), name.as_ptr(), flags)) }
}

/// Opens the directory that a path leads to, as `chdir` would.
pub fn open_start(path: &CStr) -> io::Result<OwnedFd> {
    const AT_FDCWD: c_int = -100;
    // SAFETY: the path ends in NUL.
    unsafe { owned(openat(AT_FDCWD, path.as_ptr(), O_PATH | O_DIRECTORY | O_CLOEXEC)) }
}

/// Makes a directory.
pub fn make_directory(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends in NUL.
    unsafe { check(mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o755)).map(drop) }
}

/// Creates a file to write to, which must not exist in any form, a dangling symbolic link included.
pub fn create_file(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    // SAFETY: the name ends in NUL.
    unsafe { owned(openat(parent.as_raw_fd(), name.as_ptr(), flags, 0o600 as c_uint)) }
}

/// Of all descendants that were reaped: CPU time in microseconds, and the most memory that one had, in bytes.
pub fn usage_of_children() -> (u64, u64) {
    let mut usage = Rusage::default();
    // SAFETY: the structure is valid for a write and of the size that the kernel fills.
    if unsafe { getrusage(RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return (0, 0);
    }
    let micros = |time: &Timeval| time.seconds * 1_000_000 + time.microseconds;
    let cpu = micros(&usage.user) + micros(&usage.system);
    (cpu.max(0).cast_unsigned(), usage.max_rss_kib.max(0).cast_unsigned() * 1024)
}

/// What a libc call that answers -1 on failure came to.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes the descriptor that a libc call has answered with.
///
/// # Safety
/// When not negative it must be a new descriptor that nothing else owns.
unsafe fn owned(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the caller says that it is new.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}
