//! One scripted sandbox: it reads a request as brig-init does, acts its script out and ends with init's fences.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brig_core::problem::Problem;
use brig_core::proposal::OutputStream;
use brig_init::wire::{
    Armed, Fence, HEADER_LEN, Header, How, Kind, Nonce, Request, Secret, StepEnd, Trailer, Why, mark,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::script::{Act, Script};
use crate::engine::{EngineEvent, Meter, Usage};
use crate::sync::lock;

/// What comes out of a sandbox.
pub(super) type Piece = Result<(OutputStream, Bytes), Problem>;

/// `SIGKILL`.
const SIGKILL: i32 = 9;

/// A run that a sandbox was asked for, as it came out of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The engine's name of the sandbox.
    pub engine_id: String,
    /// The steps' arguments.
    pub steps: Vec<Vec<Vec<u8>>>,
    /// The first step's environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Paths and contents.
    pub files: Vec<(Vec<u8>, Vec<u8>)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// The deadline in milliseconds.
    pub deadline_ms: u64,
    pub(super) nonce: Nonce,
    pub(super) marks: Vec<[Secret; 2]>,
}

/// The sandbox's own.
pub(super) struct Sandbox {
    pub engine_id: String,
    pub stdin: DuplexStream,
    pub output: mpsc::Sender<Piece>,
    /// Turns true when it is killed.
    pub killed: watch::Receiver<bool>,
    /// It reads nothing.
    pub deaf: bool,
    pub alive: Arc<AtomicBool>,
    pub shared: Arc<Shared>,
}

impl Sandbox {
    /// Lives until its run is over, it is killed, or its owner lets go of it.
    pub async fn live(mut self) {
        let mut killed = self.killed.clone();
        tokio::select! {
            biased;
            _ = killed.wait_for(|killed| *killed) => {}
            () = self.serve() => {}
        }
        self.alive.store(false, Ordering::Relaxed);
        let Self { engine_id, shared, stdin, output, .. } = self;
        shared.lock().alive.remove(&engine_id);
        // As on a daemon: the streams end first, and the event follows.
        drop((stdin, output));
        shared.emit(EngineEvent::Died { engine_id });
    }

    async fn serve(&mut self) {
        if self.deaf {
            return std::future::pending().await;
        }
        let body = loop {
            match message(&mut self.stdin).await {
                Some((Kind::Ping, _)) if !self.shared.lock().mute => {
                    let here = Armed::this(true).encode();
                    let _ = self.output.send(Ok((OutputStream::Stdout, Bytes::copy_from_slice(&here)))).await;
                }
                Some((Kind::Ping, _)) => {}
                Some((Kind::Request, body)) => break body,
                _ => return,
            }
        };
        let Ok(request) = Request::decode(&body) else { return };
        let served = self.note(&request);
        let script = self.shared.script_for(&served);
        let deadline = Instant::now() + Duration::from_millis(served.deadline_ms);
        let (output, shared, engine_id) = (self.output.clone(), Arc::clone(&self.shared), self.engine_id.clone());
        let earlier = Mutex::new(Vec::new());
        let end = tokio::select! {
            biased;
            () = told_to_stop(&mut self.stdin), if !script.ignores_cancel => Some((How::Signalled(SIGKILL), Why::Cancelled)),
            () = sleep_until(deadline), if !script.ignores_deadline => Some((How::Signalled(SIGKILL), Why::Deadline)),
            end = play(&script, &served, &output, &shared, &engine_id, &earlier) => end.map(|how| (how, Why::Finished)),
        };
        if let Some((how, why)) = end {
            let (message, oom_kills) = match script.acts.last() {
                Some(Act::NotStarted(_, words)) => (words.clone().into_bytes(), 0),
                Some(Act::OutOfMemory) => (Vec::new(), 1),
                _ => (Vec::new(), 0),
            };
            let earlier = lock(&earlier).clone();
            for piece in fences(&served.nonce, &trailer(earlier, how, why, message, oom_kills)) {
                let _ = self.output.send(Ok(piece)).await;
            }
        }
    }

    fn note(&self, request: &Request<'_>) -> Served {
        let served = Served {
            engine_id: self.engine_id.clone(),
            steps: request.steps.iter().map(|step| step.argv.iter().map(|word| word.to_vec()).collect()).collect(),
            env: request.steps.first().map_or_else(Vec::new, |step| {
                step.env.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
            }),
            files: request.files.iter().map(|file| (file.path.to_vec(), file.content.to_vec())).collect(),
            stdin: request.stdin.to_vec(),
            deadline_ms: request.deadline_ms,
            nonce: request.nonce,
            marks: request.marks.clone(),
        };
        self.shared.lock().served.push(served.clone());
        served
    }
}

/// Acts a script out. How the run ended, or nothing when the sandbox ended with it.
async fn play(
    script: &Script,
    served: &Served,
    output: &mpsc::Sender<Piece>,
    shared: &Shared,
    engine_id: &str,
    earlier: &Mutex<Vec<How>>,
) -> Option<How> {
    // Whoever no longer reads has let go of the sandbox, which its standard input tells as well.
    let say = async |stream, bytes| drop(output.send(Ok((stream, bytes))).await);
    for act in &script.acts {
        match act {
            Act::Say(stream, bytes) => say(*stream, bytes.clone()).await,
            Act::Flood(stream, bytes, times) => {
                for _ in 0..*times {
                    say(*stream, bytes.clone()).await;
                }
            }
            Act::Echo => say(OutputStream::Stdout, Bytes::from(served.stdin.clone())).await,
            Act::Wait(time) => sleep(*time).await,
            Act::Gate(name) => shared.pass_gate(name).await,
            Act::Hang => std::future::pending().await,
            Act::Forge(status) => {
                for (stream, bytes) in
                    fences(&[0; 32], &trailer(vec![], How::Exited(*status), Why::Finished, Vec::new(), 0))
                {
                    say(stream, bytes).await;
                }
            }
            Act::Garble => say(OutputStream::Stderr, [&served.nonce[..], &[9, 2, 0, 0]].concat().into()).await,
            Act::NextStep(status) => {
                let step = {
                    let mut earlier = lock(earlier);
                    earlier.push(How::Exited(*status));
                    earlier.len()
                };
                if let Some([stdout, stderr]) = served.marks.get(step - 1) {
                    say(OutputStream::Stdout, mark(&served.nonce, stdout).to_vec().into()).await;
                    say(OutputStream::Stderr, mark(&served.nonce, stderr).to_vec().into()).await;
                }
            }
            Act::Exit(status) => return Some(How::Exited(*status)),
            Act::Signal(number) => return Some(How::Signalled(*number)),
            Act::NotStarted(error, _) => return Some(How::NotStarted(*error)),
            Act::OutOfMemory => return Some(How::Signalled(SIGKILL)),
            Act::KernelKill => {
                shared.emit(EngineEvent::OutOfMemory { engine_id: engine_id.to_owned() });
                return None;
            }
            Act::Die => return None,
        }
    }
    Some(How::Exited(0))
}

/// Returns when the owner cancels, or is gone.
async fn told_to_stop(stdin: &mut DuplexStream) {
    if let Some((Kind::End, _)) = message(stdin).await {
        std::future::pending().await
    }
}

/// The next message of the owner; nothing when there is no owner any more, or none that speaks this language.
async fn message(stdin: &mut DuplexStream) -> Option<(Kind, Vec<u8>)> {
    let mut header = [0; HEADER_LEN];
    stdin.read_exact(&mut header).await.ok()?;
    let Header { kind, length } = Header::decode(&header).ok()?;
    let mut body = vec![0; length];
    stdin.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

fn fences(nonce: &Nonce, trailer: &Trailer) -> [(OutputStream, Bytes); 2] {
    [
        (OutputStream::Stdout, Fence::Stdout { artifacts: 0 }.encode(nonce).into()),
        (OutputStream::Stderr, Fence::Stderr(trailer.clone()).encode(nonce).into()),
    ]
}

/// As init would tell it: of a run that was stopped the step that ran, else the first that failed, else the last.
fn trailer(earlier: Vec<How>, how: How, why: Why, message: Vec<u8>, oom_kills: u64) -> Trailer {
    let (cpu_us, peak_memory, wall_us) = (1_000, 1 << 20, 2_000);
    let all: Vec<How> = earlier.into_iter().chain([how]).collect();
    let failed = all.iter().position(|how| why == Why::Finished && *how != How::Exited(0));
    let step = failed.unwrap_or(all.len() - 1);
    let how = all.get(step).copied().unwrap_or(how);
    let steps = all.into_iter().map(|how| StepEnd { how, wall_us: 1_000 }).collect();
    let step = u32::try_from(step).unwrap_or(u32::MAX);
    Trailer { how, why, step, steps, cpu_us, peak_memory, oom_kills, wall_us, message }
}

/// Says the same for as long as its sandbox lives.
pub(super) struct FixedMeter {
    pub alive: Arc<AtomicBool>,
}

impl Meter for FixedMeter {
    fn read(&self) -> Option<Usage> {
        let usage = Usage { memory: 1 << 20, memory_limit: 64 << 20, pids: 1, pids_limit: 64, ..Usage::default() };
        self.alive.load(Ordering::Relaxed).then_some(usage)
    }
}
