//! What makes sandboxes. The supervisor knows this trait and nothing of what is behind it.
//!
//! An engine is asked whether it is there, to make this image be there, to arm a sandbox, what one uses, to kill one, what
//! of ours is still around, and which images there are. Every call is bounded in time by the engine itself. No word of Docker's appears here: an engine
//! without a daemon has to fit behind the same trait.

use std::pin::Pin;
use std::sync::Arc;

use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, ResolvedImage, SandboxSpec};
use brig_core::proposal::OutputStream;
use brig_core::time::Wall;
use brig_core::visible;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

pub mod docker;
pub mod scripted;

/// Makes, watches and ends sandboxes.
pub trait Engine: Send + Sync + 'static {
    /// Goes into each sandbox's configuration hash: init's hash and the version of the create request.
    fn fingerprint(&self) -> String;

    /// Asks the engine who it is. Fails with `engine_unreachable`, `engine_timeout` or `unsupported`.
    fn info(&self) -> BoxFuture<'_, Result<EngineInfo, Problem>>;

    /// Makes the cage's image be there, pulling or making it where needed, and says what it is.
    /// `progress` is called with short lines for people, as often as they change.
    fn resolve_image<'a>(
        &'a self,
        cage: &'a Cage,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ResolvedImage, Problem>>;

    /// Pulls the cage's image although one is there, or builds it where its content has changed, or as `anew` says. Unlike
    /// [`Engine::resolve_image`] it never takes anything in its place.
    fn bring_image<'a>(
        &'a self,
        cage: &'a Cage,
        anew: Anew,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ResolvedImage, Problem>>;

    /// What there is under a name or an identifier, if anything.
    fn find_image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<StoredImage>, Problem>>;

    /// The images that this installation has made.
    fn made_images(&self) -> BoxFuture<'_, Result<Vec<StoredImage>, Problem>>;

    /// Removes an image that this installation has made. One that is used, is somebody else's or was named by somebody is
    /// left and the reason given; one that is gone is no error.
    fn remove_image<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Problem>>;

    /// Creates a sandbox, attaches to it, starts it and waits until its init says that it is armed.
    /// On failure nothing is left behind.
    fn arm<'a>(&'a self, id: &'a SandboxId, spec: Arc<SandboxSpec>) -> BoxFuture<'a, Result<ArmedSandbox, Problem>>;

    /// What a sandbox that came without a meter uses, as often as the engine tells it; ends when that cannot be told (any
    /// more). It costs the engine something for as long as it is followed: only for what somebody looks at.
    fn usage<'a>(&'a self, engine_id: &'a str) -> BoxStream<'a, Usage>;

    /// Kills a sandbox at once, whatever it does: lifts the CPU quota, then kills. One that is gone is no error.
    fn kill<'a>(&'a self, engine_id: &'a str) -> BoxFuture<'a, Result<(), Problem>>;

    /// Everything on the engine that carries this installation's labels, dead or alive, whoever started it.
    fn sightings(&self) -> BoxFuture<'_, Result<Vec<Sighting>, Problem>>;

    /// What happens on the engine from the first poll on: look at the sightings after that. The stream ends, or yields a problem and ends, when it is lost.
    fn events(&self) -> BoxStream<'_, Result<EngineEvent, Problem>>;
}

/// What an image is built with although nothing of it has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anew {
    /// Nothing is taken from the builds before.
    pub no_cache: bool,
    /// The newest base is pulled.
    pub pull: bool,
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The engine's content identifier.
    pub id: String,
    /// Its names.
    pub references: Vec<String>,
    /// What it takes on disk, with what it shares with others.
    pub bytes: u64,
    /// When it was made.
    pub created: Option<Wall>,
}

/// Receives lines about what takes long.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Who the engine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineInfo {
    /// As in `Docker 20.10.24`.
    pub name: String,
    /// As in `1.41`.
    pub api_version: String,
    /// Where it was reached, as in `unix:///var/run/docker.sock`.
    pub address: String,
    /// `1` or `2`.
    pub cgroup_version: u8,
    /// CPUs it can use.
    pub cpus: u32,
    /// Bytes of memory it has.
    pub memory: u64,
}

/// A sandbox whose init waits for its request.
pub struct ArmedSandbox {
    /// The engine's own name for it.
    pub engine_id: String,
    /// Init's standard input. Dropping it is the death of the owner: init kills everything and exits.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// What comes after the armed mark. Ends when the sandbox has ended.
    pub output: BoxStream<'static, Result<(OutputStream, Bytes), Problem>>,
    /// Reads what it uses, where that can be read from here.
    pub meter: Option<Box<dyn Meter>>,
}

/// What a sandbox that has ended before its request has left on its stderr, as a problem: init's own last line, and what
/// came before it. `None` when it has said nothing.
#[must_use]
pub fn last_words(stderr: &[u8]) -> Option<Problem> {
    const LONGEST: usize = 400;
    let mut lines: Vec<String> = visible::lines(stderr).filter(|line| !line.trim().is_empty()).collect();
    let at = lines.iter().rposition(|line| line.starts_with("brig-init: "));
    let verdict = at.map(|at| lines.remove(at)).map(|line| line["brig-init: ".len()..].to_owned());
    // The end of it: an interpreter names the error in its last line.
    let words = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let begin = words.char_indices().rev().nth(LONGEST - 1).map_or(0, |(at, _)| at);
    let cut = if begin > 0 { "…" } else { "" };
    let words = format!("{cut}{}", words[begin..].trim_end_matches('.'));
    match (verdict, words.is_empty()) {
        (None, true) => None,
        (None, false) => Some(Problem::new(Code::EngineProtocol, words)),
        (Some(verdict), _) => {
            let is_interpreter = verdict.starts_with("the interpreter of ");
            let message = if words.is_empty() { verdict } else { format!("{verdict}: {words}") };
            Some(if is_interpreter {
                Problem::new(Code::InterpreterFailed, message)
                    .help("look at `command` of that [interpreter], and whether the image has it; without `prewarm = true` it is started with the code")
            } else {
                Problem::new(Code::EngineProtocol, message)
            })
        }
    }
}

/// Keeps the end of what a sandbox that has no request says on its stderr.
pub fn remember(stderr: &mut Vec<u8>, bytes: &[u8]) {
    const MOST: usize = 4096;
    stderr.extend_from_slice(&bytes[bytes.len().saturating_sub(MOST)..]);
    stderr.drain(..stderr.len().saturating_sub(MOST));
}

/// Reads what one sandbox uses. Cheap (under a millisecond), blocking, and never a call to a daemon.
pub trait Meter: Send + Sync {
    /// The counters as they are now; `None` when the sandbox is gone.
    fn read(&self) -> Option<Usage>;
}

/// Counters of one sandbox, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of CPU time, all processes together.
    pub cpu_us: u64,
    /// Bytes of memory in use now.
    pub memory: u64,
    /// Bytes of memory that it may use.
    pub memory_limit: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Processes and threads that it may have.
    pub pids_limit: u64,
    /// Bytes read from and written to block devices.
    pub io_read: u64,
    /// Bytes written to block devices.
    pub io_write: u64,
}

/// Something on the engine that carries our labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The engine's own name for it.
    pub engine_id: String,
    /// The sandbox that it was made as.
    pub sandbox: Option<SandboxId>,
    /// The supervisor that made it: process identifier and start time, as its labels say.
    pub owner: Option<Owner>,
    /// The host whose process identifiers those are.
    pub host: String,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Process identifier.
    pub pid: u32,
    /// Clock ticks from boot to its start, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// What an engine tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// A sandbox of this installation has ended.
    Died {
        /// Which one.
        engine_id: String,
    },
    /// The kernel killed something in a sandbox of this installation for want of memory.
    OutOfMemory {
        /// Which one.
        engine_id: String,
    },
    /// A reference may mean another image now.
    ImageChanged {
        /// As the daemon names it.
        reference: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_inits_and_those_of_whom_it_speaks() {
        let said = b"Traceback:\n  x\nImportError: no \x1b[2K\nbrig-init: the interpreter of python ended\n";
        let problem = last_words(said).unwrap();
        assert_eq!(problem.code, Code::InterpreterFailed);
        assert_eq!(
            problem.message,
            "the interpreter of python ended: Traceback: x ImportError: no \u{27e8}U+001B\u{27e9}[2K"
        );
        assert_eq!(last_words(b"brig-init: no\n").unwrap().code, Code::EngineProtocol);
        assert_eq!(last_words(b"exec format error\n").unwrap().message, "exec format error");
        assert_eq!(last_words(b" \n"), None);
        let long = last_words(&[b"x".repeat(5000), b"\nthe end".to_vec()].concat()).unwrap().message;
        assert!(long.starts_with('\u{2026}') && long.ends_with("the end") && long.len() < 450, "{long}");
    }

    #[test]
    fn only_the_end_is_remembered() {
        let mut all = Vec::new();
        for _ in 0..3 {
            remember(&mut all, &[b'x'; 3000]);
        }
        remember(&mut all, b"end");
        assert!(all.len() == 4096 && all.ends_with(b"xend"));
    }
}
