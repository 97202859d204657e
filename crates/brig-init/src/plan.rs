//! From a request to what can be started: files written, stdin in memory, strings ended with NUL.

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

use brig_init::wire::{How, MARK_LEN, Request, Step, Why, mark};

use crate::exec::{Program, Source};
use crate::files;
use crate::outcome::{Outcome, complain};
use crate::sys;

/// The search path of a step whose environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A request made ready. It borrows nothing, so that the request's memory can be given back before the run.
pub struct Plan {
    pub steps: Vec<Program>,
    pub keep_going: bool,
    /// What to write on both streams before each step but the first; nothing where no marks are wanted.
    pub marks: Vec<[[u8; MARK_LEN]; 2]>,
    /// For the first step.
    pub stdin: OwnedFd,
    /// For all others.
    pub empty: OwnedFd,
}

impl Plan {
    /// Does everything that comes before the first step. The stdin is put into a file that is there already, if one is.
    ///
    /// # Errors
    /// The outcome of a run that could not begin.
    pub fn prepare(request: &Request<'_>, stdin: Option<&OwnedFd>) -> Result<Plan, Outcome> {
        let steps: Result<Vec<Program>, NulError> = request.steps.iter().map(|step| program(step, request)).collect();
        // The wire format has no NUL bytes in these, so that this is only for the type's sake.
        let steps = steps.map_err(|error| refused(Why::BadRequest, "request", b"", &error.into()))?;
        for file in &request.files {
            let cwd = steps.first().map(|step| step.cwd.as_c_str()).unwrap_or(c"/");
            files::write(file, cwd).map_err(|error| refused(Why::FileFailed, "create", file.path, &error))?;
        }
        let unavailable = |error: io::Error| refused(Why::Finished, "stdin", b"", &error);
        let empty: OwnedFd = File::open("/dev/null").map_err(unavailable)?.into();
        let stdin = match stdin {
            Some(file) => {
                sys::fill(file, request.stdin).map_err(unavailable)?;
                file.try_clone().map_err(unavailable)?
            }
            None if request.stdin.is_empty() => empty.try_clone().map_err(unavailable)?,
            None => in_memory(request.stdin).map_err(unavailable)?,
        };
        let marks = request.marks.iter().map(|pair| pair.map(|secret| mark(&request.nonce, &secret))).collect();
        Ok(Plan { steps, keep_going: request.keep_going, marks, stdin, empty })
    }
}

fn refused(why: Why, call: &str, name: &[u8], error: &io::Error) -> Outcome {
    let errno = error.raw_os_error().unwrap_or(sys::EINVAL);
    let message = complain(call, name, errno);
    Outcome { how: How::NotStarted(errno), why, step: 0, steps: Vec::new(), message }
}

/// A complete stdin, as a file in memory that is read from its beginning.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(sys::memory_file(c"stdin")?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn program(step: &Step<'_>, request: &Request<'_>) -> Result<Program, NulError> {
    let env = step.env.iter().map(|(name, value)| CString::new([name, b"=".as_slice(), value].concat()));
    let path = step.env.iter().find(|(name, _)| *name == b"PATH").map(|(_, value)| *value);
    Ok(Program {
        candidates: candidates(step.argv.first().copied().unwrap_or_default(), path)?,
        argv: step.argv.iter().map(|arg| CString::new(*arg)).collect::<Result<_, _>>()?,
        env: env.collect::<Result<_, _>>()?,
        cwd: CString::new(step.cwd)?,
        rlimits: request.rlimits.iter().map(|limit| (limit.resource, limit.value)).collect(),
        source: step.code.map(|code| Source { path: code.path.to_vec(), content: code.source.to_vec() }),
    })
}

/// Where the program may be. An empty part of PATH means the working directory, as it does in a shell.
pub fn candidates(name: &[u8], path: Option<&[u8]>) -> Result<Vec<CString>, NulError> {
    if name.contains(&b'/') {
        return Ok(vec![CString::new(name)?]);
    }
    path.unwrap_or(DEFAULT_PATH)
        .split(|byte| *byte == b':')
        .map(|directory| {
            let directory = if directory.is_empty() { b".".as_slice() } else { directory };
            CString::new([directory, b"/", name].concat())
        })
        .collect()
}
