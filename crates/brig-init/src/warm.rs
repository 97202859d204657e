//! Interpreters that are started before it is known what they run: their own start and their imports, which take longer
//! than most programs, are over when the request comes.
//!
//! Such a one is started with a bootstrap of ours, with the sandbox's own stdout and stderr, with an empty file in memory
//! as its stdin, and with two more descriptors: 3 is a connection with init, 4 another empty file in memory. It writes one
//! byte on 3 when it is ready, and reads one from there when all of this is there: in the file of its stdin the run's,
//! in 4 the working directory, the path of the source, the count of its arguments, these, and the environment (each with
//! a NUL after it), and at the path the source. Then it closes both, and becomes what it would have been without all that.
//!
//! Only a first step can have it. A program of an earlier step would be of the same user as the interpreter that waits, and
//! could do with it what it likes. What the interpreter is not told this way, it has read when it was started: a request
//! that has another value for one of those variables is given a fresh one.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use brig_init::wire::{Request, Step};

use crate::exec::{Child, Program};
use crate::fatal::Fatal;
use crate::inbox::Heard;
use crate::outcome::explain;
use crate::plan::candidates;
use crate::station::Station;
use crate::sys::{self, Reaped, Status};

/// How long one may take to be ready, on a machine that is busy with other things.
const READY_LIMIT: Duration = Duration::from_secs(20);

const PYTHON: &str = include_str!("bootstrap/python.py");
const NODE: &str = include_str!("bootstrap/node.js");

/// The beginnings of variables' names that programs look at when they start: their own, the loader's and those of the C
/// library.
const READ_AT_START: [&[u8]; 9] =
    [b"PYTHON", b"NODE", b"LD_", b"LC_", b"LANG", b"MALLOC_", b"GLIBC_", b"UV_", b"OPENSSL_"];

/// The interpreters that wait.
#[derive(Default)]
pub struct Warmed(Vec<Warm>);

struct Warm {
    wanted: Wanted,
    env: Vec<Vec<u8>>,
    child: Child,
    link: OwnedFd,
    request: OwnedFd,
    stdin: OwnedFd,
    /// Node loads it from a file, in each of its worker threads anew.
    bootstrap: Option<Bootstrap>,
    ready: bool,
}

/// One interpreter, as the command line says it: `--interpreter LANGUAGE FILE COUNT WORD…`.
struct Wanted {
    language: Vec<u8>,
    /// Where the source will be.
    file: Vec<u8>,
    command: Vec<Vec<u8>>,
}

/// The one that runs the first step.
pub struct Chosen(Warm);

/// A file that is there for as long as init is.
pub struct Bootstrap(String);

impl Bootstrap {
    fn write(path: String) -> io::Result<Bootstrap> {
        let file = Bootstrap(path);
        fs::write(&file.0, NODE)?;
        Ok(file)
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Warmed {
    /// Whether none is waited with.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts those that the command line names, in the environment that it gives with `--env NAME=VALUE`.
    ///
    /// # Errors
    /// When the command line is none of ours, or a process cannot be had.
    pub fn start(&mut self, arguments: impl Iterator<Item = OsString>) -> Result<(), Fatal> {
        let (env, wanted) = parse(&mut arguments.map(OsString::into_vec))
            .ok_or_else(|| Fatal::Interpreter("which language? The command line is not understood".to_owned()))?;
        for wanted in wanted {
            let warm = Warm::start(wanted, env.clone())?;
            self.0.push(warm);
        }
        Ok(())
    }

    /// Waits until all have said that they are ready.
    ///
    /// # Errors
    /// When one has ended instead, or takes too long, or the owner goes away.
    pub fn wait_until_ready(&mut self, station: &mut Station) -> Result<(), Fatal> {
        let give_up = Instant::now() + READY_LIMIT;
        while let Some(warm) = self.0.iter().find(|warm| !warm.ready) {
            self.check()?;
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = READY_LIMIT.as_secs();
                return Err(Fatal::Interpreter(format!("{} was not ready within {seconds} s", warm.name())));
            }
            if station.wait_also(warm.link.as_raw_fd(), left)? == Heard::Goodbye {
                return Err(Fatal::OwnerGone);
            }
            self.0.iter_mut().for_each(Warm::hear);
        }
        Ok(())
    }

    /// Reaps what is dead.
    ///
    /// # Errors
    /// [`Fatal::Interpreter`], when one of these is among it.
    pub fn check(&self) -> Result<(), Fatal> {
        while let Ok(Reaped::Child(pid, status)) = sys::reap_one() {
            if let Some(warm) = self.0.iter().find(|warm| warm.child.pid == pid) {
                return Err(Fatal::Interpreter(warm.last_words(status)));
            }
        }
        Ok(())
    }

    /// The one for the first step of a request, made ready to go; all others are killed.
    pub fn choose(mut self, request: &Request<'_>) -> Option<Chosen> {
        let first = request.steps.first()?;
        let fits = |warm: &Warm| request.rlimits.is_empty() && warm.fits(first);
        let at = self.0.iter().position(fits);
        let chosen = at.map(|at| self.0.swap_remove(at));
        for other in &self.0 {
            sys::kill_child(other.child.pid);
        }
        let chosen = chosen?;
        if sys::fill(&chosen.request, &chosen.briefing(first)).is_err() {
            sys::kill_child(chosen.child.pid);
            return None;
        }
        Some(Chosen(chosen))
    }
}

impl Warm {
    fn start(wanted: Wanted, env: Vec<Vec<u8>>) -> Result<Warm, Fatal> {
        let setup = |error| Fatal::Setup("an interpreter", error);
        let mut argv = wanted.command.clone();
        let mut bootstrap = None;
        match wanted.language.as_slice() {
            b"python" => argv.extend([b"-c".to_vec(), PYTHON.into()]),
            b"node" => {
                let path = format!("/tmp/.brig-{}.js", std::process::id());
                argv.extend([b"--require".to_vec(), path.clone().into(), wanted.file.clone()]);
                bootstrap = Some(Bootstrap::write(path).map_err(setup)?);
            }
            _ => return Err(Fatal::Interpreter(format!("{} has no bootstrap", wanted.name()))),
        }
        let (link, theirs) = sys::connected().map_err(setup)?;
        let request = sys::memory_file(c"request").map_err(setup)?;
        let stdin = sys::memory_file(c"stdin").map_err(setup)?;
        let path = env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
        let name = argv.first().map(Vec::as_slice).unwrap_or_default();
        let strings = |all: &[Vec<u8>]| all.iter().map(|one| CString::new(one.as_slice())).collect::<Result<_, _>>();
        let program = || {
            let (argv, env) = (strings(&argv)?, strings(&env)?);
            let (candidates, cwd) = (candidates(name, path)?, c".".to_owned());
            Ok(Program { candidates, argv, env, cwd, rlimits: Vec::new(), source: None })
        };
        let program: Program = program().map_err(|error: std::ffi::NulError| setup(error.into()))?;
        let child = program.start_with(&stdin, &[&theirs, &request]).map_err(setup)?;
        Ok(Warm { wanted, env, child, link, request, stdin, bootstrap, ready: false })
    }

    fn name(&self) -> String {
        self.wanted.name()
    }

    /// Notices the word that it is ready. Its end is no such word, and is noticed elsewhere.
    fn hear(&mut self) {
        let mut fds = [sys::PollFd::readable(self.link.as_raw_fd())];
        if self.ready || sys::poll(&mut fds, Duration::ZERO).is_err() || !fds[0].is_ready() {
            return;
        }
        let mut word = [0];
        self.ready = sys::read(self.link.as_raw_fd(), &mut word).is_ok_and(|count| count == 1);
    }

    fn last_words(&self, status: Status) -> String {
        let name = self.name();
        if let Some((stage, errno)) = self.child.failure() {
            let program = self.wanted.command.first().map(Vec::as_slice).unwrap_or_default();
            let why = explain(stage, program, b".", errno);
            return format!("{name} could not be started: {}", String::from_utf8_lossy(&why));
        }
        match status {
            Status::Exited(status) => format!("{name} ended with exit status {status} before any request"),
            Status::Signalled(signal) => format!("{name} was ended by signal {signal} before any request"),
        }
    }

    /// Whether this one is as good as a fresh one for the step.
    fn fits(&self, step: &Step<'_>) -> bool {
        let Some(code) = step.code else { return false };
        let Wanted { language, file, command } = &self.wanted;
        let words = step.argv.iter().copied();
        let mut expected = command.iter().map(Vec::as_slice).chain([file.as_slice()]);
        let is_same = code.language == language && code.path == file;
        let is_text = |bytes: &[u8]| str::from_utf8(bytes).is_ok();
        is_same
            && words.take(command.len() + 1).eq(expected.by_ref())
            && step.argv.iter().all(|word| is_text(word))
            && step.env.iter().all(|(name, value)| is_text(name) && is_text(value))
            && is_text(step.cwd)
            // Without its working directory it could not be started, which is for a fresh one to say.
            && CString::new(step.cwd).is_ok_and(|cwd| sys::open_start(&cwd).is_ok())
            && self.start_variables(step)
    }

    /// Whether what is read at the start of a program is the same as it was then.
    fn start_variables(&self, step: &Step<'_>) -> bool {
        let read_at_start = |name: &[u8]| READ_AT_START.iter().any(|beginning| name.starts_with(beginning));
        let now = step.env.iter().map(|(name, value)| [name, b"=".as_slice(), value].concat());
        let mut now: Vec<Vec<u8>> = now.filter(|variable| read_at_start(variable)).collect();
        let mut then: Vec<Vec<u8>> = self.env.iter().filter(|variable| read_at_start(variable)).cloned().collect();
        now.sort_unstable();
        then.sort_unstable();
        // The home, where a user's own packages lie, unless it was told not to look for them.
        let home = step.env.iter().find(|(name, _)| *name == b"HOME").map(|(_, value)| *value);
        now == then && home == self.env.iter().find_map(|variable| variable.strip_prefix(b"HOME="))
    }

    fn briefing(&self, step: &Step<'_>) -> Vec<u8> {
        let arguments = step.argv.get(self.wanted.command.len() + 1..).unwrap_or_default();
        let count = arguments.len().to_string();
        let mut out = Vec::new();
        for word in [step.cwd, &self.wanted.file, count.as_bytes()].iter().chain(arguments) {
            out.extend_from_slice(word);
            out.push(0);
        }
        for (name, value) in &step.env {
            out.extend_from_slice(&[name, b"=".as_slice(), value, b"\0"].concat());
        }
        out
    }
}

impl Wanted {
    fn name(&self) -> String {
        String::from_utf8_lossy(&self.language).into_owned()
    }
}

impl Chosen {
    /// The file that it has as its stdin.
    pub fn stdin(&self) -> &OwnedFd {
        &self.0.stdin
    }

    /// What has to be there for as long as it runs.
    pub fn keep(&mut self) -> Option<Bootstrap> {
        self.0.bootstrap.take()
    }

    /// Lets it go. From here on it is a program like any other.
    pub fn release(self) -> Child {
        // One that has died has no use for the word, and its end will be the step's.
        let _ = sys::write(self.0.link.as_raw_fd(), b"g");
        self.0.child
    }
}

/// The environment, and who is wanted. Nothing for a command line that is none of ours.
fn parse(arguments: &mut impl Iterator<Item = Vec<u8>>) -> Option<(Vec<Vec<u8>>, Vec<Wanted>)> {
    let (mut env, mut wanted) = (Vec::new(), Vec::new());
    while let Some(option) = arguments.next() {
        match option.as_slice() {
            b"--env" => env.push(arguments.next()?),
            b"--interpreter" => {
                let (language, file) = (arguments.next()?, arguments.next()?);
                let count: usize = String::from_utf8(arguments.next()?).ok()?.parse().ok()?;
                let command: Vec<Vec<u8>> = arguments.by_ref().take(count).collect();
                if command.is_empty() || command.len() < count {
                    return None;
                }
                wanted.push(Wanted { language, file, command });
            }
            _ => return None,
        }
    }
    Some((env, wanted))
}
