//! The entries as lines of JSON, for other programs.

use std::io::Write;
use std::path::Path;

use brig_core::problem::Problem;
use brig_core::profile::Hash;
use rusqlite::Connection;
use serde::de::IgnoredAny;

use super::entry;
use super::problems::{self, Trouble};
use super::verify::last_number;

/// Entries after which the reading lets go of its view of the file, so that the log can be checkpointed.
const SLICE: i64 = 256;

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Lines.
    pub entries: u64,
    /// Bytes, with the ends of the lines.
    pub bytes: u64,
}

/// Why it stopped.
enum Stop {
    Trouble(Trouble),
    Sink(std::io::Error),
}

impl<T: Into<Trouble>> From<T> for Stop {
    fn from(trouble: T) -> Self {
        Self::Trouble(trouble.into())
    }
}

/// See [`super::Reader::export`].
pub(super) fn export(connection: &Connection, path: &Path, sink: &mut dyn Write) -> Result<Exported, Problem> {
    write_all(connection, sink).map_err(|stop| match stop {
        Stop::Trouble(trouble) => trouble.reading(path),
        Stop::Sink(error) => problems::local_io("write the export of", path, &error),
    })
}

fn write_all(connection: &Connection, sink: &mut dyn Write) -> Result<Exported, Stop> {
    let end = last_number(connection)?;
    let mut exported = Exported::default();
    let mut last = 0;
    while let Some(next) = write_slice(connection, last, end, sink, &mut exported)? {
        last = next;
    }
    sink.flush().map_err(Stop::Sink)?;
    Ok(exported)
}

/// Gives the number of the last entry that was written, nothing when there was none left.
fn write_slice(
    connection: &Connection,
    after: u64,
    end: u64,
    sink: &mut dyn Write,
    exported: &mut Exported,
) -> Result<Option<u64>, Stop> {
    let mut statement = connection.prepare_cached(
        "SELECT number, at, body, hash FROM entries WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
    )?;
    let mut rows = statement.query((entry::signed(after), entry::signed(end), SLICE))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let number = entry::unsigned(row, 0)?;
        let line = line(number, row.get(1)?, entry::hash(row, 3)?, entry::blob(row, 2)?)?;
        sink.write_all(&line).map_err(Stop::Sink)?;
        exported.entries += 1;
        exported.bytes += line.len() as u64;
        last = Some(number);
    }
    Ok(last)
}

/// The body goes in as it is, so that its hash can be computed again; so it must be one line of JSON by itself, and what
/// somebody put there must not pass for lines of its own.
fn line(number: u64, at: i64, hash: Option<Hash>, body: &[u8]) -> Result<Vec<u8>, Trouble> {
    let wrong = |how: &str| Trouble::Entry { number, how: how.to_owned() };
    let hash = hash.ok_or_else(|| wrong("its hash is not 32 bytes"))?;
    if body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) || serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Err(wrong("it is not one line of JSON"));
    }
    let mut line = format!("{{\"number\":{number},\"at\":{at},\"hash\":\"{hash}\",\"entry\":").into_bytes();
    line.extend_from_slice(body);
    line.extend_from_slice(b"}\n");
    Ok(line)
}
