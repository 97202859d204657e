//! Becoming another program: fork, and in the child everything up to `execve`.
//!
//! `std::process::Command` is not used, for three reasons. Its `spawn` waits until the child has executed: a process
//! of an earlier step could stop the child with SIGSTOP in that moment, and the deadline would never be looked at. It
//! sorts the environment. And it ends in `execvp`, which hands a file that is no executable to `/bin/sh`: that is not
//! what was approved.
#![allow(unsafe_code, reason = "fork and execve have no safe form; what the child may do is stated at each place")]

use std::ffi::{CString, c_char, c_int, c_long, c_uint};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use brig_init::wire::Resource;

use crate::sys::{self, Pid, check};

const SIG_SETMASK: c_int = 2;
const LAST_SIGNAL: c_int = 64;
#[cfg(target_arch = "x86_64")]
const SYS_RT_SIGACTION: c_long = 13;
#[cfg(target_arch = "aarch64")]
const SYS_RT_SIGACTION: c_long = 134;
/// The size of the kernel's own signal set in bytes.
const KERNEL_SET: usize = 8;
const SYS_CLOSE_RANGE: c_long = 436;
const CLOSE_RANGE_CLOEXEC: c_uint = 4;
const F_DUPFD_CLOEXEC: c_int = 1030;
/// More descriptors than these no program gets.
const MOST_MORE: usize = 2;
/// Above all places that a program's descriptors have.
const ABOVE: c_int = 16;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;

#[repr(C)]
#[derive(Default)]
struct Limits {
    soft: u64,
    hard: u64,
}

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn chdir(path: *const c_char) -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    fn fork() -> Pid;
    fn getrlimit(resource: c_uint, limits: *mut Limits) -> c_int;
    fn setrlimit(resource: c_uint, limits: *const Limits) -> c_int;
    fn setsid() -> Pid;
    fn sigprocmask(how: c_int, set: *const sys::SignalSet, old: *mut sys::SignalSet) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

/// Everything that `execve` wants, made before the fork.
pub struct Program {
    /// Where the program may be, to be tried in this order.
    pub candidates: Vec<CString>,
    pub argv: Vec<CString>,
    /// `NAME=value`, in the order of the request.
    pub env: Vec<CString>,
    pub cwd: CString,
    /// For each process; never above what is inherited.
    pub rlimits: Vec<(Resource, u64)>,
    /// What is to be there before it starts.
    pub source: Option<Source>,
}

/// Source text, and where the program expects it.
pub struct Source {
    pub path: Vec<u8>,
    pub content: Vec<u8>,
}

/// What a child could not do on its way to being the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Stdin = 1,
    Rlimit = 2,
    Chdir = 3,
    Execve = 4,
}

/// A child on its way to being the program.
pub struct Child {
    pub pid: Pid,
    report: OwnedFd,
}

impl Program {
    /// Starts it, with this as its stdin and init's own stdout and stderr.
    ///
    /// # Errors
    /// When there is no pipe or no process to be had; everything later is told by [`Child::failure`].
    pub fn start(&self, stdin: &OwnedFd) -> io::Result<Child> {
        self.start_with(stdin, &[])
    }

    /// The same, with more descriptors, which it gets as 3 and so on.
    ///
    /// # Errors
    /// As for [`Program::start`].
    pub fn start_with(&self, stdin: &OwnedFd, more: &[&OwnedFd]) -> io::Result<Child> {
        let (report, child_report) = sys::pipe()?;
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        // SAFETY: this process has one thread, so that the child's memory is in a consistent state. The child only
        // makes system calls, with pointers that were made above, and never comes back from `become_program`.
        let pid = unsafe { fork() };
        if pid == 0 {
            // SAFETY: this is the child of the fork above; both arrays end in a null pointer.
            unsafe { self.become_program(stdin.as_raw_fd(), more, child_report.as_raw_fd(), &argv, &env) }
        }
        Ok(Child { pid: check(pid)?, report })
    }

    /// # Safety
    /// To be called in a forked child only; `argv` and `env` end in null and point to strings that live on.
    unsafe fn become_program(
        &self,
        stdin: RawFd,
        more: &[&OwnedFd],
        report: RawFd,
        argv: &[*const c_char],
        env: &[*const c_char],
    ) -> ! {
        // What the program gets must not be put in its place.
        // SAFETY: it makes a new descriptor, above those that the program gets.
        let report = unsafe { fcntl(report, F_DUPFD_CLOEXEC, ABOVE) };
        // SAFETY: as for this function.
        let (stage, errno) = unsafe { self.prepare(stdin, more) }
            .map_or_else(|failure| failure, |()| (Stage::Execve, unsafe { self.execute(argv, env) }));
        let [a, b, c, d] = errno.to_le_bytes();
        let _ = sys::write(report, &[stage as u8, a, b, c, d]);
        // SAFETY: it ends this process without running anything that the parent has registered.
        unsafe { _exit(127) }
    }

    /// # Safety
    /// To be called in a forked child only.
    unsafe fn prepare(&self, stdin: RawFd, more: &[&OwnedFd]) -> Result<(), (Stage, i32)> {
        let at = |stage| move |error: io::Error| (stage, error.raw_os_error().unwrap_or(0));
        // The kernel's `struct sigaction` with the default handler, which is all zeros and of 32 bytes at most.
        let default = [0_u64; 4];
        let none_blocked = sys::SignalSet::EMPTY;
        // SAFETY: system calls on this process alone, and the signal set outlives its call.
        unsafe {
            // It fails only for the leader of a process group, which a new child never is.
            setsid();
            // What init ignores or blocks is none of the program's business. SIGKILL and SIGSTOP refuse, rightly. It
            // is not libc's `signal`, because that leaves out two which libc uses itself, and which init may have
            // inherited as ignored.
            for number in 1..=LAST_SIGNAL {
                syscall(SYS_RT_SIGACTION, number, default.as_ptr(), ptr::null_mut::<u64>(), KERNEL_SET);
            }
            sigprocmask(SIG_SETMASK, &raw const none_blocked, ptr::null_mut());
            check(dup2(stdin, 0)).map_err(at(Stage::Stdin))?;
            // Once out of the way of each other, and then to their places.
            let mut places = [0; MOST_MORE];
            for (place, fd) in places.iter_mut().zip(more) {
                *place = check(fcntl(fd.as_raw_fd(), F_DUPFD_CLOEXEC, ABOVE)).map_err(at(Stage::Stdin))?;
            }
            let mut next = 3;
            for place in places.iter().take(more.len()) {
                check(dup2(*place, next)).map_err(at(Stage::Stdin))?;
                next += 1;
            }
            // Everything that init opened is closed by execve; this is for what init itself has inherited. Kernels
            // before 5.11 do not know it, and there it stays as it is.
            syscall(SYS_CLOSE_RANGE, next as c_uint, c_uint::MAX, CLOSE_RANGE_CLOEXEC);
            for (resource, value) in &self.rlimits {
                lower_limit(*resource, *value).map_err(at(Stage::Rlimit))?;
            }
            check(chdir(self.cwd.as_ptr())).map_err(at(Stage::Chdir))?;
        }
        Ok(())
    }

    /// Tries each candidate as a shell would: one that is not there is passed over, one that may not be executed is
    /// remembered, anything else is final. Comes back only with an errno.
    ///
    /// # Safety
    /// As for [`Program::become_program`].
    unsafe fn execute(&self, argv: &[*const c_char], env: &[*const c_char]) -> i32 {
        let mut answer = ENOENT;
        for candidate in &self.candidates {
            // SAFETY: all strings end in NUL and both arrays in null.
            unsafe { execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
                ENOENT | sys::ENOTDIR => {}
                EACCES => answer = EACCES,
                other => return other,
            }
        }
        answer
    }
}

impl Child {
    /// To be asked when the child is dead: what it could not do, and the errno, if it never became the program.
    pub fn failure(&self) -> Option<(Stage, i32)> {
        let mut report = [0; 5];
        let [stage, errno @ ..] = match sys::read(self.report.as_raw_fd(), &mut report) {
            Ok(5) => report,
            // The end: execve has closed the pipe. Or a child that was killed before it could say anything.
            _ => return None,
        };
        let stage = match stage {
            1 => Stage::Stdin,
            2 => Stage::Rlimit,
            3 => Stage::Chdir,
            _ => Stage::Execve,
        };
        Some((stage, i32::from_le_bytes(errno)))
    }
}

/// Lowers both limits to the value; one that is lower already stays.
unsafe fn lower_limit(resource: Resource, value: u64) -> io::Result<()> {
    let number = match resource {
        Resource::CpuSeconds => 0,
        Resource::FileSize => 1,
        Resource::Core => 4,
        Resource::OpenFiles => 7,
    };
    let mut limits = Limits::default();
    // SAFETY: the structure is valid for both calls and as the kernel has it.
    unsafe {
        check(getrlimit(number, &raw mut limits))?;
        limits = Limits { soft: limits.soft.min(value), hard: limits.hard.min(value) };
        check(setrlimit(number, &raw const limits)).map(drop)
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}
