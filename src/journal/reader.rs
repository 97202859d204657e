//! Reading, over connections that cannot write and never wait for the writer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brig_core::id::ProposalId;
use brig_core::journal::Entry;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::OutputSummary;
use brig_core::retention::{Limit, Retention, Usage};
use brig_core::time::Wall;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::entry::{self, COLUMNS};
use super::export::{self, Exported};
use super::kept::Kept;
use super::problems::{self, Trouble};
use super::statistics::{self, Count};
use super::usage;
use super::verify::{self, Verified};
use super::{Chunk, Filter, Recorded, history, prune, recovery, schema};
use crate::sync::lock;

/// Readings at once, each with a connection; more wait for their turn.
const CONNECTIONS: usize = 4;

/// How long what is being read may take when the journal is closed.
const LAST_READINGS: Duration = Duration::from_secs(2);

/// Reads a journal, beside its writer or without one. Cheap to clone. What it reads was committed.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    /// Opens the journal at `path` for reading alone. It may be in use by a supervisor.
    ///
    /// # Errors
    /// `journal_failed` when it is not there, cannot be read, is not a journal or is of a newer brig.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let reader = Self::of(path);
        reader.shared.put_back(schema::open_for_reading(path)?);
        Ok(reader)
    }

    /// The version of the journal at `path`, without leaving anything beside it. Blocks.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn look(path: &Path) -> Result<i64, Problem> {
        schema::look(path)
    }

    /// As [`Reader::open`], with the first look at the file left to the first reading.
    pub(super) fn of(path: &Path) -> Self {
        let turns = Arc::new(Semaphore::new(CONNECTIONS));
        Self { shared: Arc::new(Shared { path: path.to_owned(), turns, idle: Mutex::new(Vec::new()) }) }
    }

    /// The entries about a proposal, in order; none when it is unknown.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read or an entry of it cannot be understood.
    pub async fn entries_of(&self, id: &ProposalId) -> Result<Vec<Recorded>, Problem> {
        let id = id.clone();
        self.read(move |connection| entries_of(connection, &id.0)).await
    }

    /// What is kept, and what it takes: as the supervisor says it, for when there is none.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read.
    pub async fn usage(&self, retention: Retention) -> Result<Usage, Problem> {
        self.with_connection(move |connection, path| {
            let read = || -> Result<Usage, Trouble> {
                let _view = connection.unchecked_transaction()?;
                let (head, kept) = (recovery::head(connection)?, Kept::read(connection)?);
                Ok(usage::look(connection, path, &head, &kept, &retention)?.0)
            };
            read().map_err(|trouble| trouble.reading(path))
        })
        .await
    }

    /// Why and when the output of a proposal's run was removed, if it was.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read.
    pub async fn pruned(&self, id: &ProposalId) -> Result<Option<(Wall, Limit)>, Problem> {
        let id = id.clone();
        self.read(move |connection| pruned(connection, &id.0)).await
    }

    /// Why and when the oldest entries were removed last, if any were.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read.
    pub async fn cut(&self) -> Result<Option<(Wall, Limit)>, Problem> {
        self.read(|connection| {
            let last = prune::last_of(connection, "journal-pruned")?;
            Ok(last.and_then(|recorded| match recorded.entry {
                Entry::JournalPruned { limit, .. } => Some((recorded.at, limit)),
                _ => None,
            }))
        })
        .await
    }

    /// Closes the connections, after what is being read with them; waits for that, but not for ever. Reading goes on to be
    /// possible, with new ones.
    pub(super) async fn close(&self) {
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let _turns = tokio::time::timeout(LAST_READINGS, self.shared.turns.acquire_many(all)).await;
        lock(&self.shared.idle).clear();
    }

    /// Output of a proposal's run from chunk `from_seq` on: whole chunks, at most `max_bytes` of them together, but at
    /// least one if there is one. Nothing when there is no more. What the writer has queued is not there yet.
    ///
    /// # Errors
    /// `pruned` when it was removed by a limit; `journal_failed` when the journal cannot be read.
    pub async fn output_of(&self, id: &ProposalId, from_seq: u64, max_bytes: usize) -> Result<Vec<Chunk>, Problem> {
        let id = id.clone();
        self.read(move |connection| output_of(connection, &id.0, from_seq, max_bytes)).await
    }

    /// What is kept of a run's output, counted and hashed: for the end of a run whose supervisor is gone. What was
    /// dropped is not known here and stands as 0.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read.
    pub async fn output_summary(&self, id: &ProposalId) -> Result<OutputSummary, Problem> {
        let id = id.clone();
        self.read(move |connection| Ok(verify::Stored::of(connection, &id.0)?.summary())).await
    }

    /// At most `limit` identifiers that begin with `prefix`, in their own order.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read.
    pub async fn ids_with_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<ProposalId>, Problem> {
        let prefix = prefix.to_owned();
        self.read(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT id FROM proposals WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3")?;
            let behind = format!("{prefix}{}", char::MAX);
            let ids = statement.query_map((&prefix, behind, rows(limit)), |row| row.get(0).map(ProposalId))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// As [`Reader::ids_with_prefix`], of one agent's proposals alone.
    ///
    /// # Errors
    /// As [`Reader::ids_with_prefix`].
    pub async fn ids_of_agent(&self, agent: &str, prefix: &str, limit: usize) -> Result<Vec<ProposalId>, Problem> {
        let (agent, prefix) = (agent.to_owned(), prefix.to_owned());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id FROM proposals WHERE id >= ?1 AND id < ?2 AND agent = ?4 ORDER BY id LIMIT ?3",
            )?;
            let behind = format!("{prefix}{}", char::MAX);
            let ids = statement.query_map((&prefix, behind, rows(limit), agent), |row| row.get(0).map(ProposalId))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The names of at most `limit` proposals that `filter` lets through, the newest first.
    ///
    /// # Errors
    /// `not_found` when there is no proposal of the name that the page begins behind, `journal_failed` when the journal
    /// cannot be read.
    pub async fn history(&self, filter: Filter, limit: usize) -> Result<Vec<ProposalId>, Problem> {
        self.with_connection(move |connection, path| history::find(connection, path, &filter, limit)).await
    }

    /// The statistics that were kept.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read.
    pub async fn statistics(&self) -> Result<Vec<Count>, Problem> {
        self.read(statistics::kept).await
    }

    /// Walks the whole chain up to the entry that is the last one now, the output of every run that has ended, and the
    /// index. Reads piece by piece, so that neither memory nor the log grows with the journal.
    ///
    /// What it can find and what not is said in [`crate::journal`].
    ///
    /// # Errors
    /// `journal_failed` when the file cannot be read, which for SQLite includes being damaged. A journal that can be read
    /// and is wrong is no error: see [`Verified::fault`].
    pub async fn verify(&self) -> Result<Verified, Problem> {
        self.read(verify::verify).await
    }

    /// Writes every entry up to the one that is the last now as a line of JSON: `number`, `at`, `hash`, and the `entry`
    /// with the very bytes that are hashed. Verifies nothing. The sink is flushed, not closed.
    ///
    /// # Errors
    /// `journal_failed` when the journal cannot be read or an entry is no JSON on one line; `local_io` when the sink fails.
    pub async fn export(&self, mut sink: impl Write + Send + 'static) -> Result<Exported, Problem> {
        self.with_connection(move |connection, path| export::export(connection, path, &mut sink)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Problem> {
        self.with_connection(|connection, path| work(connection).map_err(|trouble| trouble.reading(path))).await
    }

    /// Does blocking work on a connection, where blocking is allowed.
    async fn with_connection<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Path) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.shared.turns).acquire_owned().await.map_err(|_| problems::closed())?;
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work, which goes on when nobody waits for it any more.
            let _turn = turn;
            let connection = shared.connection()?;
            let result = work(&connection, &shared.path);
            // After an error the connection may be the reason; the next reading begins with a new one.
            if result.is_ok() {
                shared.put_back(connection);
            }
            result
        });
        done.await.unwrap_or_else(|error| {
            Err(Problem::new(Code::Internal, format!("reading the journal ended unexpectedly: {error}")))
        })
    }
}

impl Shared {
    fn connection(&self) -> Result<Connection, Problem> {
        let idle = lock(&self.idle).pop();
        idle.map_or_else(|| schema::open_for_reading(&self.path), Ok)
    }

    fn put_back(&self, connection: Connection) {
        lock(&self.idle).push(connection);
    }
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn entries_of(connection: &Connection, id: &str) -> Result<Vec<Recorded>, Trouble> {
    let sql = format!("SELECT {COLUMNS} FROM entries e WHERE e.proposal = ?1 ORDER BY e.number");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry::recorded(row)?);
    }
    Ok(entries)
}

fn pruned(connection: &Connection, id: &str) -> Result<Option<(Wall, Limit)>, Trouble> {
    let Some(by) = verify::pruned_by(connection, id)? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM entries e WHERE e.number = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([entry::signed(by)])?;
    let recorded = rows.next()?.map(entry::recorded).transpose()?;
    match recorded.map(|recorded| (recorded.at, recorded.entry)) {
        Some((at, Entry::OutputPruned { limit, .. })) => Ok(Some((at, limit))),
        _ => Err(Trouble::Entry { number: by, how: format!("it does not say that it removed the output of {id}") }),
    }
}

fn output_of(connection: &Connection, id: &str, from_seq: u64, max_bytes: usize) -> Result<Vec<Chunk>, Trouble> {
    // One view: between two of them it may be removed.
    let _view = connection.unchecked_transaction()?;
    if let Some((at, limit)) = pruned(connection, id)? {
        return Err(Trouble::Problem(problems::output_pruned(id, at, &limit)));
    }
    let mut statement = connection.prepare_cached(
        "SELECT seq, at, stream, step, bytes FROM output WHERE proposal = ?1 AND seq >= ?2 ORDER BY seq",
    )?;
    let from = i64::try_from(from_seq).unwrap_or(i64::MAX);
    let mut rows = statement.query((id, from))?;
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let size = entry::blob(row, 4)?.len();
        if !chunks.is_empty() && bytes + size > max_bytes {
            break;
        }
        bytes += size;
        chunks.push(entry::chunk(row)?);
    }
    Ok(chunks)
}
