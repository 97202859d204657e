//! `brig export`: what a run wrote, as a file for others.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::OutputStream;
use clap::ValueEnum;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::completions::proposals;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, remark};
use super::values;
use crate::api::wire::{FollowLine, ProposalRow};

mod cast;
mod text;

/// Arguments of `brig export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig export k3f9                                       what it wrote, each line with its stream\n",
    "  brig export k3f9 --format raw --stream stdout -o out   the bytes of its standard output\n",
    "  brig export k3f9 --format asciicast -o run.cast        to be played by `asciinema play run.cast`\n",
))]
pub struct Args {
    /// What is written
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Which of its two streams
    #[arg(short, long, value_enum, default_value_t = Which::Both)]
    stream: Which,
    /// Write this file, which must not be there yet, instead of to the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long, requires = "output")]
    force: bool,
    /// The proposal whose run it is
    #[arg(value_name = "RUN", value_parser = values::id, add = proposals())]
    id: String,
}

/// What is written of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The bytes as the program wrote them; both streams in the order in which they came
    Raw,
    /// Lines, each behind the name of its stream, with everything made visible that could act on a terminal
    Text,
    /// A recording in version 2 of asciinema's format, made harmless
    Asciicast,
}

/// Streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Its standard output
    Stdout,
    /// Its standard error
    Stderr,
    /// Both
    Both,
}

impl Which {
    fn has(self, stream: OutputStream) -> bool {
        match self {
            Self::Both => true,
            Self::Stdout => stream == OutputStream::Stdout,
            Self::Stderr => stream == OutputStream::Stderr,
        }
    }
}

/// What `export --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExportedRun {
    /// Whose output it is.
    id: ProposalId,
    /// The file, as it was named.
    file: String,
    /// `raw`, `text` or `asciicast`.
    format: String,
    /// The file's size.
    bytes: u64,
}

/// Something that a run's output is written as. Each piece is given once, in order, then the end.
trait Writer {
    fn begin(&mut self, out: &mut dyn Write, row: &ProposalRow) -> io::Result<()>;
    fn piece(&mut self, out: &mut dyn Write, at: i64, stream: OutputStream, bytes: &[u8]) -> io::Result<()>;
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Bytes as they are.
struct Raw;

impl Writer for Raw {
    fn begin(&mut self, _: &mut dyn Write, _: &ProposalRow) -> io::Result<()> {
        Ok(())
    }

    fn piece(&mut self, out: &mut dyn Write, _: i64, _: OutputStream, bytes: &[u8]) -> io::Result<()> {
        out.write_all(bytes)
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Exports a run's output.
///
/// # Errors
/// `not_found` for a proposal that never ran, `local_io` for a file that is there or cannot be written, else what the
/// supervisor answers.
pub async fn export(context: &Context, args: &Args) -> Result<Exit, Stop> {
    if context.json && args.output.is_none() {
        let problem = Problem::new(Code::Malformed, "with --json an export needs a file to go to");
        return Err(Stop::Usage(problem.help("add --output FILE; `brig logs --json` prints the output as JSON")));
    }
    if args.output.is_none() && args.format == Format::Raw && io::stdout().is_terminal() {
        let problem = Problem::new(Code::Malformed, "raw bytes could take this terminal over");
        return Err(Stop::Usage(
            problem.help("write them to a file with --output, or to a pipe, or take --format text"),
        ));
    }
    let client = context.reader()?;
    let path = format!("/v1/proposals/{}/output?from=0&follow=false", args.id);
    let lines = patiently(client.follow::<FollowLine>(&path)).await?;
    let Some(path) = &args.output else {
        copy(lines, args, &mut BufWriter::new(io::stdout().lock())).await?;
        return Ok(Exit::Done);
    };
    let file = Half::begin(path, args.force)?;
    let mut out = BufWriter::new(&file.file);
    let copied = tokio::select! {
        copied = copy(lines, args, &mut out) => copied.map_err(|stop| file.explain(stop))?,
        // What is half done goes, as it does after an error.
        () = super::run::interrupted() => return Ok(Exit::Program(130)),
    };
    drop(out);
    let bytes = file.finish(args.force)?;
    if context.json {
        let format = args.format.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
        json(&ExportedRun { id: copied, file: path.display().to_string(), format, bytes })?;
    }
    Ok(Exit::Done)
}

/// Writes what comes. Says whose it was.
async fn copy(
    mut lines: crate::api::client::Lines<FollowLine>,
    args: &Args,
    out: &mut dyn Write,
) -> Result<ProposalId, Stop> {
    let mut writer: Box<dyn Writer> = match args.format {
        Format::Raw => Box::new(Raw),
        Format::Text => Box::new(text::Text::default()),
        Format::Asciicast => Box::new(cast::Cast::default()),
    };
    let mut whose = None;
    let mut expected = 0;
    while let Some(line) = lines.next().await {
        match line? {
            FollowLine::Proposal(row) if whose.is_none() => {
                if row.run.is_none() {
                    return Err(never_ran(&row).into());
                }
                if !row.status.is_final() {
                    remark(&format!("{} still runs; this is what it wrote so far", row.id));
                }
                writer.begin(out, &row)?;
                whose = Some(row.id);
            }
            FollowLine::Output { seq, at, stream, data, .. } => {
                if seq != expected {
                    let gap = format!("the output has a gap: piece {expected} is missing");
                    return Err(Problem::new(Code::Internal, gap).into());
                }
                expected += 1;
                if args.stream.has(stream) {
                    writer.piece(out, at.0, stream, &data.0)?;
                }
            }
            FollowLine::Problem(problem) => return Err(problem.into()),
            FollowLine::Proposal(_) | FollowLine::Note { .. } | FollowLine::Alive => {}
        }
    }
    writer.end(out)?;
    out.flush()?;
    whose.ok_or_else(|| Problem::new(Code::NoSupervisor, "the supervisor ended before it said anything").into())
}

fn never_ran(row: &ProposalRow) -> Problem {
    let status = super::queue::outcome(row);
    Problem::new(Code::NotFound, format!("proposal {} never ran, so it wrote nothing: {status}", row.id))
        .help("`brig show` has what it was, `brig history --end exited` lists what ran")
}

/// A file that is not under its name yet: nobody finds half of it there, and nothing that was there before is lost.
struct Half<'a> {
    name: &'a Path,
    half: PathBuf,
    file: File,
}

impl<'a> Half<'a> {
    /// Begins a file that is to have this name.
    fn begin(name: &'a Path, force: bool) -> Result<Self, Problem> {
        let Some(last) = name.file_name() else {
            return Err(Problem::new(Code::LocalIo, format!("{} names no file", name.display()))
                .help("name a file, as in --output run.txt"));
        };
        if name.is_dir() {
            return Err(
                Problem::new(Code::LocalIo, format!("{} is a directory", name.display())).help("name a file in it")
            );
        }
        if !force && name.symlink_metadata().is_ok() {
            return Err(exists(name));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(last);
        hidden.push(format!(".{}", std::process::id()));
        let half = name.with_file_name(hidden);
        // What a program wrote may be nobody else's business.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half);
        let file = file.map_err(|error| cannot_write(name, &error))?;
        Ok(Self { name, half, file })
    }

    /// Gives it its name. Answers with its size.
    fn finish(self, force: bool) -> Result<u64, Problem> {
        let bytes = self.file.metadata().map_err(|error| cannot_write(self.name, &error))?.len();
        let named = if force {
            std::fs::rename(&self.half, self.name)
        } else {
            // Unlike a renaming, this fails where somebody was quicker.
            std::fs::hard_link(&self.half, self.name)
        };
        match named {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(self.name)),
            Err(error) => Err(cannot_write(self.name, &error)),
        }
    }

    /// What went wrong in writing went wrong with this file.
    fn explain(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Pipe => cannot_write(self.name, &io::Error::from(io::ErrorKind::BrokenPipe)).into(),
            other => other,
        }
    }
}

impl Drop for Half<'_> {
    fn drop(&mut self) {
        // After a renaming it is there no more.
        let _ = std::fs::remove_file(&self.half);
    }
}

fn exists(name: &Path) -> Problem {
    Problem::new(Code::LocalIo, format!("{} is there already", name.display()))
        .help("name another file, or overwrite this one with --force")
}

fn cannot_write(name: &Path, error: &io::Error) -> Problem {
    Problem::new(Code::LocalIo, format!("cannot write {}: {error}", name.display()))
        .help("look at the permissions of its directory and the room on its disk")
}
