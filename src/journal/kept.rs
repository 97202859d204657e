//! What is in the file, in bytes of disk, so that limits can be kept without counting it all each time.

use std::collections::HashMap;

use brig_core::id::ProposalId;
use rusqlite::Connection;

use super::entry;
use super::problems::Trouble;
use super::writer::Head;

/// SQLite's pages, and what of one is left for rows.
const PAGE: usize = 4096;
const USABLE: usize = 4080;
/// What a row has besides its bytes, and what its places in indexes take.
const ROW: usize = 48;
const INDEXED: u64 = 40;

/// Bytes of disk that `bytes` take as a row of their own. An estimate: short rows share pages, long ones have pages of
/// their own. Measured against the file it is off by less than a tenth. <https://www.sqlite.org/fileformat2.html>
pub(super) fn on_disk(bytes: usize) -> u64 {
    let row = bytes + ROW;
    let page = if row <= USABLE { PAGE / (USABLE / row) } else { row.div_ceil(PAGE) * PAGE };
    page as u64 + INDEXED
}

/// What is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// What the entries took that are no longer there.
    pub(super) before: u64,
    /// What the output of runs takes that are over.
    pub(super) finished: u64,
    /// What the output of runs takes that are not over.
    pub(super) live: HashMap<ProposalId, u64>,
}

/// What one transaction adds, to be counted once it is committed.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) live: HashMap<ProposalId, u64>,
    pub(super) closed: Vec<ProposalId>,
}

impl Kept {
    pub(super) fn read(connection: &Connection) -> Result<Self, Trouble> {
        let mut kept = Self { before: before_first(connection)?, ..Self::default() };
        kept.finished = connection
            .query_row("SELECT sum(output) FROM proposals WHERE output > 0 AND pruned IS NULL", [], |row| {
                row.get::<_, Option<i64>>(0)
            })?
            .unwrap_or(0)
            .cast_unsigned();
        let mut chunks = connection.prepare(
            "SELECT o.proposal, length(o.bytes) FROM proposals p JOIN output o ON o.proposal = p.id
             WHERE p.closed IS NULL",
        )?;
        let mut rows = chunks.query([])?;
        while let Some(row) = rows.next()? {
            let size = on_disk(usize::try_from(entry::unsigned(row, 1)?).unwrap_or(usize::MAX));
            *kept.live.entry(ProposalId(row.get(0)?)).or_default() += size;
        }
        Ok(kept)
    }

    /// What all entries take.
    pub(super) const fn entries(&self, head: &Head) -> u64 {
        head.total.saturating_sub(self.before)
    }

    /// What the output of runs takes that are not over.
    pub(super) fn live(&self) -> u64 {
        self.live.values().sum()
    }

    /// What all output takes.
    pub(super) fn output(&self) -> u64 {
        self.finished + self.live()
    }

    /// What the output of a run takes at its end.
    pub(super) fn of(&self, id: &ProposalId, added: &Added) -> u64 {
        self.live.get(id).unwrap_or(&0) + added.live.get(id).unwrap_or(&0)
    }

    pub(super) fn add(&mut self, added: Added) {
        for (id, size) in added.live {
            *self.live.entry(id).or_default() += size;
        }
        for id in added.closed {
            self.finished += self.live.remove(&id).unwrap_or(0);
        }
    }
}

/// What the entries took that are no longer there.
pub(super) fn before_first(connection: &Connection) -> Result<u64, Trouble> {
    let mut first = connection.prepare("SELECT total, length(body) FROM entries ORDER BY number LIMIT 1")?;
    let mut rows = first.query([])?;
    let Some(row) = rows.next()? else { return Ok(0) };
    let body = usize::try_from(entry::unsigned(row, 1)?).unwrap_or(usize::MAX);
    Ok(entry::unsigned(row, 0)?.saturating_sub(on_disk(body)))
}
