//! The file: how it is made, opened and told from others.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use brig_core::problem::Problem;
use rusqlite::{Connection, OpenFlags};

use super::problems::{self, Trouble};

/// `brig` in ASCII: in the header of the file, so that it is known for what it is.
const APPLICATION_ID: i64 = 0x6272_6967;

/// The version of the tables, as `PRAGMA user_version`.
const VERSION: i64 = 2;

/// How long a lock of another process is waited for. Only a foreign program takes one for longer than a moment.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// The tables of version 2.
///
/// `proposals` says nothing that the entries do not say. It is their index: what is open, what is new, which keys were
/// used, and what somebody who looks for a proposal may ask for ([`super::history`]). It changes in the same transaction as
/// they do, and verifying compares the two. Its rows lie in the order of their arrival, as they are mostly read: the newest
/// first.
///
/// An entry's `total` is what it and all before it take, removed ones too ([`super::kept`]): so what a stretch of the chain
/// takes is a subtraction. A proposal's `output` is what the output of its run takes, known with its end, and `pruned` the
/// number of the entry that says that it was removed.
///
/// `output` has a rowid although its key is another: measured without one, chunks of 1 KiB went in at 49 MB/s instead of
/// 128, and the file was 1.7 times as large.
const TABLES: &str = "
CREATE TABLE entries (
    number   INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    proposal TEXT,
    body     BLOB NOT NULL,
    hash     BLOB NOT NULL,
    total    INTEGER NOT NULL
) STRICT;
CREATE INDEX entries_of ON entries (proposal) WHERE proposal IS NOT NULL;
CREATE INDEX entries_cut ON entries (number) WHERE kind = 'journal-pruned';
CREATE INDEX entries_pruned ON entries (number) WHERE kind = 'output-pruned';

CREATE TABLE output (
    proposal TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    stream   INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    bytes    BLOB NOT NULL,
    PRIMARY KEY (proposal, seq)
) STRICT;

CREATE TABLE proposals (
    first      INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    closed     INTEGER,
    at         INTEGER NOT NULL,
    agent      TEXT NOT NULL,
    key        TEXT,
    draft_hash BLOB NOT NULL,
    profile    TEXT NOT NULL,
    status     TEXT NOT NULL,
    verdict    TEXT,
    operator   TEXT,
    ended      TEXT,
    killer     TEXT,
    command    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    output     INTEGER,
    pruned     INTEGER
) STRICT;
CREATE INDEX proposals_at ON proposals (at);
CREATE INDEX proposals_agent ON proposals (agent, at);
CREATE INDEX proposals_profile ON proposals (profile, at);
CREATE INDEX proposals_open ON proposals (first) WHERE closed IS NULL;
CREATE UNIQUE INDEX proposals_closed ON proposals (closed) WHERE closed IS NOT NULL;
CREATE INDEX proposals_output ON proposals (closed, output) WHERE output > 0 AND pruned IS NULL;
CREATE INDEX proposals_pruned ON proposals (pruned) WHERE pruned IS NOT NULL;
CREATE INDEX proposals_key ON proposals (at) WHERE key IS NOT NULL;
";

/// How often durations of each size were seen, of every pool: the buckets of [`brig_core::histogram::Histogram`]. No
/// evidence, so outside of the chain.
const STATISTICS: &str = "
CREATE TABLE IF NOT EXISTS statistics (
    pool    TEXT NOT NULL,
    measure TEXT NOT NULL,
    bucket  INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (pool, measure, bucket)
) STRICT, WITHOUT ROWID;
";

/// Opens the one connection that writes, making the file where there is none.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, Problem> {
    make_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| Trouble::from(error).opening(path))?;
    // What the file is comes first: not a byte of something else may be changed.
    let is_new = match identify(&connection, path)? {
        Identity::Empty => true,
        Identity::Journal => false,
    };
    prepare(&mut connection, is_new).map_err(|error| Trouble::from(error).opening(path))?;
    Ok(connection)
}

/// Opens a connection that cannot write.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, Problem> {
    let trouble = |error: rusqlite::Error| Trouble::from(error).opening(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
    match identify(&connection, path)? {
        Identity::Empty => Err(problems::foreign(path)),
        Identity::Journal => {
            connection.pragma_update(None, "trusted_schema", false).map_err(trouble)?;
            Ok(connection)
        }
    }
}

/// The version of a journal that can be opened. Reading makes files for its index where no supervisor has made them
/// already; one that nobody writes is read without.
pub(super) fn look(path: &Path) -> Result<i64, Problem> {
    let trouble = |error: rusqlite::Error| Trouble::from(error).opening(path);
    let log = path.with_file_name(path.file_name().map_or_else(Default::default, |name| {
        let mut name = name.to_owned();
        name.push("-wal");
        name
    }));
    if log.exists() {
        open_for_reading(path)?;
        return Ok(VERSION);
    }
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).map_err(trouble)?;
    match identify(&connection, path)? {
        Identity::Empty => Err(problems::foreign(path)),
        Identity::Journal => Ok(VERSION),
    }
}

/// What a file is that SQLite could open.
enum Identity {
    Empty,
    Journal,
}

fn identify(connection: &Connection, path: &Path) -> Result<Identity, Problem> {
    let ask = || -> rusqlite::Result<(i64, i64, i64)> {
        connection.busy_timeout(BUSY)?;
        let number = |sql| connection.query_row(sql, [], |row| row.get(0));
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    match ask() {
        Ok((0, 0, 0)) => Ok(Identity::Empty),
        Ok((APPLICATION_ID, VERSION, _)) => Ok(Identity::Journal),
        Ok((APPLICATION_ID, version, _)) if version > VERSION => Err(problems::newer(path, version, VERSION)),
        Ok((APPLICATION_ID, version, _)) if version > 0 => Err(problems::older(path, version, VERSION)),
        Ok(_) => Err(problems::foreign(path)),
        Err(error) => Err(Trouble::from(error).opening(path)),
    }
}

/// Sets up the connection that writes, and the tables where there are none.
fn prepare(connection: &mut Connection, is_new: bool) -> rusqlite::Result<()> {
    if is_new {
        // Can only be said before there is anything in the file. What pruning frees is given back in small steps; with
        // a VACUUM it would take the whole file at once, and room for a second one.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // FULL: in WAL mode NORMAL would not fsync at a commit, and an answer would promise what a power cut can take.
    // The writer lets output alone go without for a moment; the next entry takes it along.
    // fullfsync: the same promise on macOS, where a plain fsync stops at the disk's cache; elsewhere it does nothing.
    // Checkpoints are made by the writer when it is idle, not inside the commit that happens to fill the log.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA trusted_schema = OFF;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    if is_new {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    connection.execute_batch(STATISTICS)
}

/// Writes the version that is there anyway.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", VERSION)
}

/// Makes the file, empty and for its owner alone, before SQLite could make it with the umask's permissions. The log and
/// its index get the same permissions from SQLite.
fn make_file(path: &Path) -> Result<(), Problem> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| problems::local_io("make the directory", directory, &error))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // The name must be as durable as what will be in the file.
        Ok(_) => File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| problems::local_io("sync the directory", directory, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => keep_private(path),
        Err(error) => Err(problems::local_io("make", path, &error)),
    }
}

fn keep_private(path: &Path) -> Result<(), Problem> {
    let tighten = || {
        let metadata = std::fs::metadata(path)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        }
        Ok(())
    };
    tighten().map_err(|error| problems::local_io("keep private", path, &error))
}
