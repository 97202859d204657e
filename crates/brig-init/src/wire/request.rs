//! REQUEST: everything that a run is made of.

use std::collections::HashSet;

use super::bytes::{Reader, put_blob, put_count};
use super::error::{Problem, WireError};
use super::header::{HEADER_LEN, Header, Kind, MAX_BODY};
use super::mark::{SECRET_LEN, Secret, TAG_LEN};
use super::{NONCE_LEN, Nonce};

/// The longest deadline in milliseconds: 24 hours.
pub const MAX_DEADLINE_MS: u64 = 24 * 60 * 60 * 1000;
/// The most steps in a request.
pub const MAX_STEPS: usize = 64;
/// The most arguments of a step.
pub const MAX_ARGS: usize = 65_536;
/// The most environment variables of a step.
pub const MAX_ENV: usize = 16_384;
/// The most files in a request.
pub const MAX_FILES: usize = 16_384;
/// The longest path in bytes: the kernel's PATH_MAX without the NUL byte.
pub const MAX_PATH: usize = 4095;

const FLAG_KEEP_GOING: u8 = 1;
const MODE_BITS: u32 = 0o777;

/// What is to run. It borrows, so that neither the owner nor init holds big contents twice.
///
/// The body, one field after another. `blob` is a u32 length and that many bytes, `string` is a blob without NUL
/// bytes, `list of` is a u32 count and that many elements.
///
/// | field | type |
/// | --- | --- |
/// | nonce | 32 bytes |
/// | deadline_ms | u64, 1 to [`MAX_DEADLINE_MS`] |
/// | flags | u8; bit 0 is keep_going, the others are 0 |
/// | rlimits | list of: u8 [`Resource`], u64 value; no resource twice |
/// | steps | list of 1 to [`MAX_STEPS`]: argv, list of 1 to [`MAX_ARGS`] strings, the first not empty; env, list of at most [`MAX_ENV`] (string name, string value), names not empty, without `=`, none twice; cwd, string, an absolute path; a u8, which is 1 when code follows and else 0; code: language, string, not empty; path, string, an absolute path; source, blob |
/// | marks | list of either nothing, or one less than the steps: two secrets of 16 bytes, for stdout and stderr; no secret twice |
/// | files | list of at most [`MAX_FILES`]: path, string; mode, u32, at most 0o777; content, blob |
/// | stdin | blob |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What init puts in front of its fences. It comes first, so that even a body that is wrong further on can be
    /// answered with a fence.
    pub nonce: Nonce,
    /// After this many milliseconds from the arrival of the request everything is killed.
    pub deadline_ms: u64,
    /// Whether the steps after one that failed run all the same.
    pub keep_going: bool,
    /// Limits for each process. A value above the inherited limit leaves that as it is: limits are never raised.
    pub rlimits: Vec<Rlimit>,
    /// What to run, one after another.
    pub steps: Vec<Step<'a>>,
    /// For each step but the first, what makes the marks before it, on stdout and on stderr. When there are none, no marks
    /// are written.
    pub marks: Vec<[Secret; 2]>,
    /// What to write before the first step begins.
    pub files: Vec<File<'a>>,
    /// The complete stdin of the first step; the others get an empty one.
    pub stdin: &'a [u8],
}

/// One program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// The program and its arguments. A program without a slash is looked up in the `PATH` of `env`, and if there is
    /// none in `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`. It must be something that the kernel
    /// can execute: a script needs its `#!` line.
    pub argv: Vec<&'a [u8]>,
    /// The complete environment, in this order: nothing is inherited.
    pub env: Vec<(&'a [u8], &'a [u8])>,
    /// The working directory, an absolute path.
    pub cwd: &'a [u8],
    /// The source that `argv` runs: written to its path right before the step begins.
    pub code: Option<Code<'a>>,
}

/// Source text, and where it lies when it runs.
///
/// If it is the first step's, an interpreter that was started at arming for this language and this path runs it, where
/// nothing could tell the difference; else `argv` is started as that of any step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code<'a> {
    /// As the profile calls it.
    pub language: &'a [u8],
    /// An absolute path, where there must be nothing yet. It is one of the arguments.
    pub path: &'a [u8],
    /// All of it.
    pub source: &'a [u8],
}

/// A file to be written before the first step begins. It must not exist; directories on the way to it are created,
/// and symbolic links on the way are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// Where; a relative path begins at the first step's `cwd`. `..` is not allowed in it.
    pub path: &'a [u8],
    /// The permission bits, exactly: no umask is applied.
    pub mode: u32,
    /// The complete content.
    pub content: &'a [u8],
}

/// A limit for each process of the run, soft and hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// How much, in the resource's own unit.
    pub value: u64,
}

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The size of a core file, in bytes.
    Core = 1,
    /// CPU time, in seconds.
    CpuSeconds = 2,
    /// The size of a file that is written, in bytes.
    FileSize = 3,
    /// The number of open files, plus one.
    OpenFiles = 4,
}

impl<'a> Request<'a> {
    /// Encodes the whole message, header included.
    ///
    /// # Errors
    /// When [`Request::decode`] would refuse the body; a decoder and an encoder that disagree cannot exist.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let length = self.body_len();
        if length > MAX_BODY {
            let problem = Problem::TooLong { length: length as u64, limit: MAX_BODY as u64 };
            return Err(WireError { field: "request", at: 0, problem });
        }
        let mut out = Vec::with_capacity(HEADER_LEN + length);
        out.extend_from_slice(&Header { kind: Kind::Request, length }.encode());
        self.put_body(&mut out);
        Request::decode(&out[HEADER_LEN..])?;
        Ok(out)
    }

    /// Decodes a body.
    ///
    /// # Errors
    /// When anything in it is not as [`Request`] describes it.
    pub fn decode(body: &'a [u8]) -> Result<Request<'a>, WireError> {
        let mut reader = Reader::new(body);
        let nonce = reader.array("nonce")?;
        let deadline_ms = reader.u64("deadline")?;
        if deadline_ms == 0 || deadline_ms > MAX_DEADLINE_MS {
            return Err(reader.error_before(8, "deadline", Problem::Value(deadline_ms)));
        }
        let flags = reader.u8("flags")?;
        if flags & !FLAG_KEEP_GOING != 0 {
            return Err(reader.error_before(1, "flags", Problem::Value(flags.into())));
        }
        let rlimits = rlimits(&mut reader)?;
        let steps = list(&mut reader, MAX_STEPS, "steps", step)?;
        if steps.is_empty() {
            return Err(reader.error_before(4, "steps", Problem::Empty));
        }
        let marks = marks(&mut reader, steps.len(), &nonce)?;
        let files = list(&mut reader, MAX_FILES, "files", file)?;
        let stdin = reader.blob(MAX_BODY, "stdin")?;
        reader.finish("request")?;
        Ok(Request { nonce, deadline_ms, keep_going: flags != 0, rlimits, steps, marks, files, stdin })
    }

    /// The nonce of a body that may be wrong further on, so that it can be answered.
    pub fn nonce_of(body: &[u8]) -> Option<Nonce> {
        body.first_chunk::<NONCE_LEN>().copied()
    }

    fn body_len(&self) -> usize {
        let blob = |bytes: &[u8]| 4 + bytes.len();
        let steps = self.steps.iter().map(|step| {
            let argv: usize = step.argv.iter().map(|arg| blob(arg)).sum();
            let env: usize = step.env.iter().map(|(name, value)| blob(name) + blob(value)).sum();
            let code = step.code.map_or(0, |code| blob(code.language) + blob(code.path) + blob(code.source));
            4 + argv + 4 + env + blob(step.cwd) + 1 + code
        });
        let files = self.files.iter().map(|file| blob(file.path) + 4 + blob(file.content));
        let fixed = NONCE_LEN + 8 + 1 + 4 + 9 * self.rlimits.len() + 4 + 4 + 2 * SECRET_LEN * self.marks.len() + 4;
        fixed + steps.sum::<usize>() + files.sum::<usize>() + blob(self.stdin)
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.deadline_ms.to_le_bytes());
        out.push(if self.keep_going { FLAG_KEEP_GOING } else { 0 });
        put_count(out, self.rlimits.len());
        for limit in &self.rlimits {
            out.push(limit.resource as u8);
            out.extend_from_slice(&limit.value.to_le_bytes());
        }
        put_count(out, self.steps.len());
        for step in &self.steps {
            put_count(out, step.argv.len());
            step.argv.iter().for_each(|arg| put_blob(out, arg));
            put_count(out, step.env.len());
            for (name, value) in &step.env {
                put_blob(out, name);
                put_blob(out, value);
            }
            put_blob(out, step.cwd);
            out.push(step.code.is_some().into());
            if let Some(Code { language, path, source }) = step.code {
                [language, path, source].into_iter().for_each(|bytes| put_blob(out, bytes));
            }
        }
        put_count(out, self.marks.len());
        self.marks.iter().flatten().for_each(|secret| out.extend_from_slice(secret));
        put_count(out, self.files.len());
        for file in &self.files {
            put_blob(out, file.path);
            out.extend_from_slice(&file.mode.to_le_bytes());
            put_blob(out, file.content);
        }
        put_blob(out, self.stdin);
    }
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    limit: usize,
    field: &'static str,
    element: impl Fn(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = reader.count(limit, field)?;
    // Nothing is reserved for the count: only what is really there takes memory.
    (0..count).map(|_| element(reader)).collect()
}

fn rlimits(reader: &mut Reader<'_>) -> Result<Vec<Rlimit>, WireError> {
    let mut seen = HashSet::new();
    list(reader, 4, "rlimits", |reader| {
        let resource = match reader.u8("rlimit resource")? {
            1 => Resource::Core,
            2 => Resource::CpuSeconds,
            3 => Resource::FileSize,
            4 => Resource::OpenFiles,
            other => {
                return Err(reader.error_before(1, "rlimit resource", Problem::Value(other.into())));
            }
        };
        let value = reader.u64("rlimit value")?;
        Ok(Rlimit { resource, value })
    })?
    .into_iter()
    .map(|limit| match seen.insert(limit.resource) {
        true => Ok(limit),
        false => Err(reader.error_before(0, "rlimits", Problem::Duplicate)),
    })
    .collect()
}

fn step<'a>(reader: &mut Reader<'a>) -> Result<Step<'a>, WireError> {
    let argv = list(reader, MAX_ARGS, "step argv", |reader| reader.string(MAX_BODY, "step argv"))?;
    if argv.first().is_none_or(|program| program.is_empty()) {
        return Err(reader.error_before(0, "step argv", Problem::Empty));
    }
    let env = list(reader, MAX_ENV, "step env", variable)?;
    let mut names = HashSet::new();
    if !env.iter().all(|(name, _)| names.insert(*name)) {
        return Err(reader.error_before(0, "step env", Problem::Duplicate));
    }
    let cwd = reader.string(MAX_PATH, "step cwd")?;
    if cwd.first() != Some(&b'/') {
        return Err(reader.error_before(cwd.len(), "step cwd", Problem::NotAbsolute));
    }
    let code = match reader.u8("step code")? {
        0 => None,
        1 => Some(code(reader)?),
        other => return Err(reader.error_before(1, "step code", Problem::Value(other.into()))),
    };
    Ok(Step { argv, env, cwd, code })
}

fn code<'a>(reader: &mut Reader<'a>) -> Result<Code<'a>, WireError> {
    let language = reader.string(MAX_PATH, "code language")?;
    if language.is_empty() {
        return Err(reader.error_before(0, "code language", Problem::Empty));
    }
    let path = plain_path(reader, "code path")?;
    if path.first() != Some(&b'/') {
        return Err(reader.error_before(path.len(), "code path", Problem::NotAbsolute));
    }
    Ok(Code { language, path, source: reader.blob(MAX_BODY, "code source")? })
}

fn marks(reader: &mut Reader<'_>, steps: usize, nonce: &Nonce) -> Result<Vec<[Secret; 2]>, WireError> {
    let marks = list(reader, MAX_STEPS, "marks", |reader| Ok([reader.array("mark")?, reader.array("mark")?]))?;
    if !marks.is_empty() && marks.len() + 1 != steps {
        return Err(reader.error_before(0, "marks", Problem::Value(marks.len() as u64)));
    }
    let mut seen: HashSet<&[u8]> = HashSet::from([&nonce[TAG_LEN..]]);
    match marks.iter().flatten().all(|secret| seen.insert(secret)) {
        true => Ok(marks),
        false => Err(reader.error_before(0, "marks", Problem::Duplicate)),
    }
}

fn variable<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), WireError> {
    let name = reader.string(MAX_BODY, "step env name")?;
    if name.is_empty() {
        return Err(reader.error_before(0, "step env name", Problem::Empty));
    }
    if name.contains(&b'=') {
        return Err(reader.error_before(name.len(), "step env name", Problem::EqualsSign));
    }
    Ok((name, reader.string(MAX_BODY, "step env value")?))
}

fn file<'a>(reader: &mut Reader<'a>) -> Result<File<'a>, WireError> {
    let path = plain_path(reader, "file path")?;
    let mode = reader.u32("file mode")?;
    if mode & !MODE_BITS != 0 {
        return Err(reader.error_before(4, "file mode", Problem::Value(mode.into())));
    }
    Ok(File { path, mode, content: reader.blob(MAX_BODY, "file content")? })
}

/// A path that plainly names a file below its beginning.
fn plain_path<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], WireError> {
    let path = reader.string(MAX_PATH, field)?;
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if last.is_empty() || last == b"." || path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err(reader.error_before(path.len(), field, Problem::NotPlain));
    }
    Ok(path)
}
