//! An owner for one init, and what it takes to look at it.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use brig_init::wire::{
    ARMED_LEN, Armed, ArmedFinder, ArmedScan, Fence, FenceFinder, Found, How, Nonce, Request, Secret, Step, Stream,
    Trailer, Why,
};

/// How long anything may take that should be there at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub const PATH: (&[u8], &[u8]) = (b"PATH", b"/usr/local/bin:/usr/bin:/bin");

/// A running init whose ARMED was read. When dropped, it and all that it runs are gone.
pub struct Init {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
}

/// What became of a run.
#[derive(Debug)]
pub struct Ended {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub trailer: Trailer,
    pub status: ExitStatus,
}

impl Init {
    pub fn armed() -> Init {
        Init::armed_with(&[])
    }

    pub fn armed_with(arguments: &[&[u8]]) -> Init {
        let mut init = Init::spawn(command().args(arguments.iter().map(|bytes| OsStr::from_bytes(bytes))));
        let mut bytes = [0; ARMED_LEN];
        init.child.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        let mut finder = ArmedFinder::new();
        let armed = Armed { is_pid_1: false, ..Armed::this(false) };
        assert_eq!(finder.push(&bytes), ArmedScan::Armed(armed, b""));
        init
    }

    pub fn spawn(command: &mut Command) -> Init {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Init { child, stdin }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn hang_up(&mut self) {
        drop(self.stdin.take());
    }

    /// Reads stdout until it has this many lines, and gives the last.
    pub fn line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("init exits", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Reads both streams to their fences and waits for the exit.
    pub fn end(self, nonce: Nonce) -> Ended {
        self.end_of_steps(nonce, &[]).0
    }

    /// As [`Init::end`]; with what each stream had from each step.
    pub fn end_of_steps(mut self, nonce: Nonce, marks: &[[Secret; 2]]) -> (Ended, [Vec<Vec<u8>>; 2]) {
        let mut stdout = self.child.stdout.take().unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        let mut finder = FenceFinder::with_marks(nonce, Stream::Stdout, marks);
        let reader = std::thread::spawn(move || steps_to_fence(&mut stdout, &mut finder));
        let mut finder = FenceFinder::with_marks(nonce, Stream::Stderr, marks);
        let (errs, trailer) = steps_to_fence(&mut stderr, &mut finder);
        let (outs, fence) = reader.join().unwrap();
        assert_eq!(fence, Fence::Stdout { artifacts: 0 });
        let Fence::Stderr(trailer) = trailer else { panic!("{trailer:?}") };
        self.exit_code();
        let status = self.child.wait().unwrap();
        (Ended { stdout: outs.concat(), stderr: errs.concat(), trailer, status }, [outs, errs])
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // The end of stdin makes init kill what it runs; killing init itself would let that go free.
        self.hang_up();
        drop(self.child.stdout.take());
        drop(self.child.stderr.take());
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Init with three pipes, and an environment of its own that must not reach any program.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brig-init"));
    command.env("BRIG_TEST_SECRET", "of init").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everything up to the fence, and the fence; nothing may come after it.
pub fn to_fence(stream: &mut impl Read, nonce: Nonce, which: Stream) -> (Vec<u8>, Fence) {
    let (steps, fence) = steps_to_fence(stream, &mut FenceFinder::new(nonce, which));
    (steps.concat(), fence)
}

/// Everything up to the fence, by the steps that the marks tell, and the fence; nothing may come after it.
pub fn steps_to_fence(stream: &mut impl Read, finder: &mut FenceFinder) -> (Vec<Vec<u8>>, Fence) {
    let (mut steps, mut fence) = (vec![Vec::new()], None);
    let mut chunk = vec![0; 8192];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        if count == 0 {
            let text = String::from_utf8_lossy(&steps.concat()).into_owned();
            return (steps, fence.unwrap_or_else(|| panic!("no fence after {text:?}")));
        }
        let mut left = &chunk[..count];
        while !left.is_empty() {
            let scan = finder.push(left);
            for output in scan.output {
                steps.last_mut().unwrap().extend_from_slice(output);
            }
            match scan.found {
                Some(Found::Mark(step)) => steps.resize(step as usize + 1, Vec::new()),
                Some(Found::Fence(found)) => fence = Some(found.unwrap()),
                None => {}
            }
            assert!(fence.is_none() || scan.rest.is_empty(), "after the fence");
            left = scan.rest;
        }
    }
}

pub fn nonce() -> Nonce {
    let mut nonce = [0; 32];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut nonce).unwrap();
    nonce
}

pub fn shell(script: &str) -> Step<'_> {
    Step { argv: vec![b"sh", b"-c", script.as_bytes()], env: vec![PATH], cwd: b"/", code: None }
}

pub fn request(steps: Vec<Step<'_>>) -> Request<'_> {
    Request {
        nonce: nonce(),
        deadline_ms: 60_000,
        keep_going: false,
        rlimits: vec![],
        steps,
        marks: vec![],
        files: vec![],
        stdin: b"",
    }
}

/// Sends one request to a fresh init and waits for its end.
pub fn run(request: &Request<'_>) -> Ended {
    let mut init = Init::armed();
    init.send(&request.encode().unwrap());
    let ended = init.end(request.nonce);
    assert_eq!(ended.status.code(), Some(0), "signal {:?}", ended.status.signal());
    ended
}

/// Sends one request with marks to a fresh init, and gives each stream by step.
pub fn run_marked<'a>(request: &Request<'a>) -> (Ended, [Vec<Vec<u8>>; 2]) {
    let marks: Vec<[Secret; 2]> = request.steps[1..].iter().map(|_| [secret(), secret()]).collect();
    let mut init = Init::armed();
    init.send(&Request { marks: marks.clone(), ..request.clone() }.encode().unwrap());
    init.end_of_steps(request.nonce, &marks)
}

pub fn secret() -> Secret {
    *nonce().first_chunk().unwrap()
}

/// Runs a script that is to exit with 0, and gives what it wrote on stdout.
pub fn output_of(request: &Request<'_>) -> String {
    let ended = run(request);
    assert_eq!((ended.trailer.how, ended.trailer.why), (How::Exited(0), Why::Finished), "{ended:?}");
    String::from_utf8(ended.stdout).unwrap()
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A number that no other process has in its arguments: `sleep` takes it as its seconds.
pub fn mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:03}", 300_000 + std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How many processes have the mark as an argument.
pub fn marked(mark: &str) -> usize {
    let has_mark = |entry: &fs::DirEntry| {
        // What is no process has no such file.
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(has_mark).count()
}

/// A directory that goes away.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        let path = std::env::temp_dir().join(format!("brig-init-test-{}", mark()));
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_os_str().as_encoded_bytes()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
