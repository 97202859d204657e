//! The fence: what init writes on each stream when nothing of the run is alive any more.

use super::bytes::{Reader, put_count};
use super::error::{Problem, WireError};
use super::request::MAX_STEPS;
use super::{NONCE_LEN, Nonce, WIRE_VERSION};

/// The length of what comes before a fence's body, nonce included.
pub const FENCE_HEAD_LEN: usize = NONCE_LEN + 4;
/// The longest message in a [`Trailer`], in bytes.
pub const MAX_MESSAGE: usize = 256;
/// The longest fence in bytes. It is less than PIPE_BUF, so that a pipe takes it whole.
pub const FENCE_MAX_LEN: usize = FENCE_HEAD_LEN + TRAILER_FIXED_LEN + MAX_STEPS * STEP_LEN + MAX_MESSAGE;

const TRAILER_FIXED_LEN: usize = 48;
const STEP_LEN: usize = 16;
const STDOUT_BODY_LEN: usize = 8;

/// The stream that a fence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// The end of a stream.
///
/// | offset | size | what |
/// | --- | --- | --- |
/// | 0 | 32 | the nonce of the request |
/// | 32 | 1 | version, 1 |
/// | 33 | 1 | 1 on stdout, 2 on stderr |
/// | 34 | 2 | length of the body that follows |
///
/// The body on stdout is a u64: the length of the artifacts that follow, for now always 0. The body on stderr is a
/// [`Trailer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// The end of stdout.
    Stdout {
        /// This many bytes of artifacts follow.
        artifacts: u64,
    },
    /// The end of stderr, and how the run ended.
    Stderr(Trailer),
}

/// How a run ended.
///
/// | offset | size | what |
/// | --- | --- | --- |
/// | 0 | 1 | [`How`]: 1 exited, 2 signalled, 3 not started |
/// | 1 | 1 | [`Why`]: 1 finished, 2 deadline, 3 cancelled, 4 file failed, 5 bad request |
/// | 2 | 2 | reserved, 0 |
/// | 4 | 4 | exit status 0 to 255, signal number 1 to 127, or errno, signed |
/// | 8 | 4 | step |
/// | 12 | 4 | how many steps follow, at most [`MAX_STEPS`](super::MAX_STEPS) |
/// | 16 | 8 | cpu_us |
/// | 24 | 8 | peak_memory |
/// | 32 | 8 | oom_kills |
/// | 40 | 8 | wall_us |
/// | 48 | 16 each | the steps: [`How`] as above, 3 bytes of 0, its number as above, wall_us |
/// | then | at most [`MAX_MESSAGE`] | message, to the end of the body |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// How the step ended that `step` names.
    pub how: How,
    /// Why the run ended.
    pub why: Why,
    /// Which step this is about, counted from 0: the one that was running when the run was stopped, or else the first
    /// one that failed, or else the last.
    pub step: u32,
    /// How the steps ended that were begun, those that could not be started included; the others did not run.
    pub steps: Vec<StepEnd>,
    /// CPU time of everything in the sandbox since the request, in microseconds.
    pub cpu_us: u64,
    /// The most memory that the sandbox had at any time, init and page cache included, in bytes; without a cgroup the
    /// biggest single process.
    pub peak_memory: u64,
    /// How many processes the kernel killed for want of memory since the request. It can be above 0 in a run that
    /// exited with 0.
    pub oom_kills: u64,
    /// From the arrival of the request to the death of the last process, in microseconds.
    pub wall_us: u64,
    /// What went wrong, as in `execve /bin/nope: No such file or directory`; often empty. It can contain bytes that
    /// the agent chose, so it is as untrusted as any output.
    pub message: Vec<u8>,
}

/// The end of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEnd {
    /// How.
    pub how: How,
    /// How long it took, in microseconds.
    pub wall_us: u64,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// A signal with this number, 1 to 127, killed it.
    Signalled(i32),
    /// It was never started, because of this errno; 0 where there is none.
    NotStarted(i32),
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// By itself: each step that was to run has ended, or could not be started.
    Finished = 1,
    /// The deadline passed, and everything was killed.
    Deadline = 2,
    /// The owner said CANCEL, and everything was killed.
    Cancelled = 3,
    /// A file could not be written, so that no step began.
    FileFailed = 4,
    /// The body of the request is wrong, so that no step began.
    BadRequest = 5,
}

impl Fence {
    /// The stream that this fence belongs on.
    pub fn stream(&self) -> Stream {
        match self {
            Fence::Stdout { .. } => Stream::Stdout,
            Fence::Stderr(_) => Stream::Stderr,
        }
    }

    /// Encodes the whole fence; a message that is too long is cut at [`MAX_MESSAGE`].
    pub fn encode(&self, nonce: &Nonce) -> Vec<u8> {
        let mut out = Vec::with_capacity(FENCE_MAX_LEN);
        out.extend_from_slice(nonce);
        out.extend_from_slice(&[WIRE_VERSION, self.stream() as u8, 0, 0]);
        match self {
            Fence::Stdout { artifacts } => out.extend_from_slice(&artifacts.to_le_bytes()),
            Fence::Stderr(trailer) => trailer.put(&mut out),
        }
        let [low, high, ..] = (out.len() - FENCE_HEAD_LEN).to_le_bytes();
        out[NONCE_LEN + 2] = low;
        out[NONCE_LEN + 3] = high;
        out
    }

    /// Reads what comes after the nonce in a head, and says how long the body is.
    pub(super) fn decode_head(head: [u8; 4], expected: Stream) -> Result<usize, WireError> {
        let [version, stream, low, high] = head;
        let error = |at, field, value| Err(WireError { field, at: NONCE_LEN + at, problem: Problem::Value(value) });
        if version != WIRE_VERSION {
            return error(0, "fence version", version.into());
        }
        if stream != expected as u8 {
            return error(1, "fence stream", stream.into());
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        let plausible = match expected {
            Stream::Stdout => length == STDOUT_BODY_LEN,
            Stream::Stderr => (TRAILER_FIXED_LEN..=FENCE_MAX_LEN - FENCE_HEAD_LEN).contains(&length),
        };
        if plausible { Ok(length) } else { error(2, "fence length", length as u64) }
    }

    pub(super) fn decode_body(body: &[u8], stream: Stream) -> Result<Fence, WireError> {
        let mut reader = Reader::new(body);
        match stream {
            Stream::Stdout => {
                let artifacts = reader.u64("fence artifacts")?;
                reader.finish("fence")?;
                Ok(Fence::Stdout { artifacts })
            }
            Stream::Stderr => Ok(Fence::Stderr(Trailer::decode(reader)?)),
        }
    }
}

impl Trailer {
    fn put(&self, out: &mut Vec<u8>) {
        let (how, code) = self.how.numbers();
        out.extend_from_slice(&[how, self.why as u8, 0, 0]);
        out.extend_from_slice(&code.to_le_bytes());
        out.extend_from_slice(&self.step.to_le_bytes());
        put_count(out, self.steps.len().min(MAX_STEPS));
        for number in [self.cpu_us, self.peak_memory, self.oom_kills, self.wall_us] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for step in self.steps.iter().take(MAX_STEPS) {
            let (how, code) = step.how.numbers();
            out.extend_from_slice(&[how, 0, 0, 0]);
            out.extend_from_slice(&code.to_le_bytes());
            out.extend_from_slice(&step.wall_us.to_le_bytes());
        }
        out.extend_from_slice(&self.message[..self.message.len().min(MAX_MESSAGE)]);
    }

    fn decode(mut reader: Reader<'_>) -> Result<Trailer, WireError> {
        let how = reader.u8("trailer how")?;
        let why = match reader.u8("trailer why")? {
            1 => Why::Finished,
            2 => Why::Deadline,
            3 => Why::Cancelled,
            4 => Why::FileFailed,
            5 => Why::BadRequest,
            other => {
                return Err(reader.error_before(1, "trailer why", Problem::Value(other.into())));
            }
        };
        let reserved = reader.u16("trailer reserved")?;
        if reserved != 0 {
            return Err(reader.error_before(2, "trailer reserved", Problem::Value(reserved.into())));
        }
        let code = reader.i32("trailer code")?;
        let how = How::of_numbers(how, code, &reader)?;
        let step = reader.u32("trailer step")?;
        let count = reader.count(MAX_STEPS, "trailer steps")?;
        let trailer = Trailer {
            how,
            why,
            step,
            cpu_us: reader.u64("trailer cpu")?,
            peak_memory: reader.u64("trailer memory")?,
            oom_kills: reader.u64("trailer oom kills")?,
            wall_us: reader.u64("trailer wall clock")?,
            steps: (0..count).map(|_| StepEnd::decode(&mut reader)).collect::<Result<_, _>>()?,
            message: reader.rest().to_vec(),
        };
        if trailer.message.len() > MAX_MESSAGE {
            let problem = Problem::TooLong { length: trailer.message.len() as u64, limit: MAX_MESSAGE as u64 };
            return Err(reader.error_before(trailer.message.len(), "trailer message", problem));
        }
        Ok(trailer)
    }
}

impl StepEnd {
    fn decode(reader: &mut Reader<'_>) -> Result<StepEnd, WireError> {
        let [how, reserved @ ..] = reader.array::<4>("step how")?;
        if reserved != [0; 3] {
            return Err(reader.error_before(3, "step reserved", Problem::Value(reserved[0].into())));
        }
        let code = reader.i32("step code")?;
        Ok(StepEnd { how: How::of_numbers(how, code, reader)?, wall_us: reader.u64("step wall clock")? })
    }
}

impl How {
    fn numbers(self) -> (u8, i32) {
        match self {
            How::Exited(status) => (1, status),
            How::Signalled(signal) => (2, signal),
            How::NotStarted(errno) => (3, errno),
        }
    }

    /// From eight bytes that were just read: the kind, three others, and the number.
    fn of_numbers(how: u8, code: i32, reader: &Reader<'_>) -> Result<How, WireError> {
        match (how, code) {
            (1, 0..=255) => Ok(How::Exited(code)),
            (2, 1..=127) => Ok(How::Signalled(code)),
            (3, 0..) => Ok(How::NotStarted(code)),
            (1..=3, _) => {
                let problem = Problem::Value(u64::from(code.cast_unsigned()));
                Err(reader.error_before(4, "trailer code", problem))
            }
            _ => Err(reader.error_before(8, "trailer how", Problem::Value(how.into()))),
        }
    }
}
