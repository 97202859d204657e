//! When the writer looks after its limits, and whom it tells.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use brig_core::problem::Problem;
use brig_core::retention::{Retention, Usage};
use brig_core::time::Wall;
use rusqlite::Connection;
use tokio::sync::watch;

use super::kept::Kept;
use super::problems::Trouble;
use super::prune::{Pruner, Step};
use super::usage;
use super::writer::Head;

/// How often the limits are looked at when nothing makes it sooner, and while nothing new may begin.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Upkeep {
    path: PathBuf,
    now: fn() -> Wall,
    usage: watch::Sender<Option<(Usage, Option<Problem>)>>,
    /// Nothing is looked after before limits are set.
    pruner: Option<Pruner>,
    /// When the next step is to be taken.
    pub(super) due: Option<Instant>,
    /// The log has pages of what was pruned, and shall be cut.
    is_log_long: bool,
}

impl Upkeep {
    pub(super) fn new(path: &Path, usage: watch::Sender<Option<(Usage, Option<Problem>)>>, now: fn() -> Wall) -> Self {
        Self { path: path.to_owned(), now, usage, pruner: None, due: None, is_log_long: false }
    }

    /// Keeps to these limits from now on.
    pub(super) fn retain(&mut self, connection: &Connection, retention: Retention) {
        match &mut self.pruner {
            Some(pruner) => pruner.retention = retention,
            None => match Pruner::resume(connection, retention) {
                Ok(pruner) => self.pruner = Some(pruner),
                Err(trouble) => return self.warn(trouble),
            },
        }
        self.due = Some(Instant::now());
    }

    /// Looks soon when there is more than there may be.
    pub(super) fn hurry_if_over(&mut self, head: &Head, kept: &Kept) {
        if self.pruner.as_ref().is_some_and(|pruner| pruner.is_over(head, kept)) {
            self.due = Some(Instant::now());
        }
    }

    /// Takes a step, and gives about the bytes that it wrote. While commits fail it only looks.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        head: &mut Head,
        kept: &mut Kept,
        may_write: bool,
    ) -> usize {
        let Some(pruner) = &mut self.pruner else { return 0 };
        let step = if may_write { pruner.step(connection, head, kept, (self.now)()) } else { Ok(Step::Nothing) };
        match step {
            Ok(Step::Did(bytes)) => {
                self.is_log_long = true;
                self.due = Some(Instant::now());
                return bytes;
            }
            Ok(Step::Nothing) => {}
            Err(trouble) => self.warn(trouble),
        }
        if self.is_log_long && may_write {
            self.is_log_long = !cut_log(connection);
        }
        self.look(connection, head, kept);
        0
    }

    /// Says what is used.
    fn look(&mut self, connection: &Connection, head: &Head, kept: &Kept) {
        let Some(pruner) = &self.pruner else { return };
        let mut pause = LOOK;
        match usage::look(connection, &self.path, head, kept, &pruner.retention) {
            Ok(found) => {
                if found.1.is_some() {
                    pause = LOOK_AGAIN;
                }
                self.usage.send_if_modified(|known| known.replace(found.clone()) != Some(found));
            }
            Err(trouble) => self.warn(trouble),
        }
        self.due = Some(Instant::now() + pause);
    }

    fn warn(&self, trouble: Trouble) {
        let problem = trouble.writing(&self.path);
        tracing::warn!(%problem, "the journal could not look after its limits");
    }
}

/// Moves the log into the file and cuts it to nothing, if nobody reads in it at the moment: nobody is waited for.
fn cut_log(connection: &Connection) -> bool {
    let cut = || -> rusqlite::Result<bool> {
        connection.busy_timeout(Duration::ZERO)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
    };
    let done = cut().unwrap_or(false);
    // Cannot fail: it only sets a number.
    let _ = connection.busy_timeout(super::schema::BUSY);
    done
}
