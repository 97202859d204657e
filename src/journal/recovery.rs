//! What a journal knows when it is opened.

use std::collections::HashSet;

use brig_core::id::ProposalId;
use brig_core::journal::{Entry, GENESIS, link};
use brig_core::machine::RememberedKey;
use brig_core::profile::Hash;
use brig_core::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Params};

use super::entry::{self, COLUMNS};
use super::kept::Kept;
use super::problems::Trouble;
use super::prune;
use super::writer::Head;
use super::{Recorded, Recovered};

/// Finished proposals that are read back.
const RECENT: i64 = 50;

/// Milliseconds for which a key is remembered.
const KEY_AGE_MS: i64 = 24 * 60 * 60 * 1000;

/// Keys that are read back at most.
const KEYS: i64 = 10_000;

/// Reads the head and all that a supervisor has to know, and checks the end of the chain. Walking the whole chain is
/// [`super::Reader::verify`]'s: it takes too long for every start.
pub(super) fn recover(connection: &Connection, now: Wall) -> Result<(Head, Kept, Recovered), Trouble> {
    let head = head(connection)?;
    if let Err((number, how)) = beginning(connection)? {
        return Err(Trouble::Entry { number, how });
    }
    let recovered = Recovered {
        open: histories(connection, "SELECT id, first AS place FROM proposals WHERE closed IS NULL", [])?,
        recent: histories(
            connection,
            "SELECT id, closed AS place FROM proposals WHERE closed IS NOT NULL ORDER BY closed DESC LIMIT ?1",
            [RECENT],
        )?,
        keys: keys(connection, now)?,
    };
    Ok((head, Kept::read(connection)?, recovered))
}

/// The entries of the proposals that `which` selects, ordered by `place`.
fn histories(connection: &Connection, which: &str, params: impl Params) -> Result<Vec<Vec<Recorded>>, Trouble> {
    let sql = format!(
        "SELECT {COLUMNS}, p.place FROM ({which}) p JOIN entries e ON e.proposal = p.id ORDER BY p.place, e.number"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params)?;
    let mut histories: Vec<Vec<Recorded>> = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        let place = entry::unsigned(row, 4)?;
        let recorded = entry::recorded(row)?;
        match histories.last_mut() {
            Some(history) if last == Some(place) => history.push(recorded),
            _ => histories.push(vec![recorded]),
        }
        last = Some(place);
    }
    Ok(histories)
}

/// The last entry, if it fits what is before it and nothing points behind it.
pub(super) fn head(connection: &Connection) -> Result<Head, Trouble> {
    let mut statement =
        connection.prepare("SELECT number, at, body, hash, total FROM entries ORDER BY number DESC LIMIT 1")?;
    let mut rows = statement.query([])?;
    let head = match rows.next()? {
        None => Head { number: 0, hash: GENESIS, total: 0 },
        Some(row) => {
            let (number, at) = (entry::unsigned(row, 0)?, Wall(row.get(1)?));
            let previous = hash_of(connection, number.wrapping_sub(1))?
                .ok_or_else(|| Trouble::Entry { number, how: "the entry before it is missing".to_owned() })?;
            let hash = link(&previous, number, at, entry::blob(row, 2)?);
            if entry::hash(row, 3)? != Some(hash) {
                return Err(Trouble::Entry {
                    number,
                    how: "its hash does not fit it and the one before it".to_owned(),
                });
            }
            Head { number, hash, total: entry::unsigned(row, 4)? }
        }
    };
    match cut_after(connection, head.number)? {
        None => Ok(head),
        Some(number) => Err(Trouble::Entry { number, how: "it is missing from the end".to_owned() }),
    }
}

fn hash_of(connection: &Connection, number: u64) -> Result<Option<Hash>, Trouble> {
    if number == 0 {
        return Ok(Some(GENESIS));
    }
    let mut statement = connection.prepare("SELECT hash FROM entries WHERE number = ?1")?;
    let mut rows = statement.query([entry::signed(number)])?;
    match rows.next()? {
        Some(row) => entry::hash(row, 0),
        // It may be the last one of those that were cut off.
        None => Ok(beginning(connection)?.ok().filter(|before| before.through == number).map(|before| before.hash)),
    }
}

/// What comes before the first entry that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// The number of the last entry that was removed, 0 when none was.
    pub(super) through: u64,
    /// Its hash, which the first entry is linked to.
    pub(super) hash: Hash,
    /// The entry that says so.
    pub(super) cut: Option<Recorded>,
}

/// Where the chain begins: at its first entry, or where the last cut that was recorded says. The error is the entry that
/// is missing, and how.
pub(super) fn beginning(connection: &Connection) -> Result<Result<Before, (u64, String)>, Trouble> {
    let genesis = Before { through: 0, hash: GENESIS, cut: None };
    let first = connection.query_row("SELECT min(number) FROM entries", [], |row| row.get::<_, Option<i64>>(0))?;
    let Some(first) = first.filter(|first| *first > 1).map(i64::cast_unsigned) else { return Ok(Ok(genesis)) };
    let cut = prune::last_of(connection, "journal-pruned")?;
    let (through, hash) = match cut.as_ref().map(|cut| &cut.entry) {
        Some(Entry::JournalPruned { through, hash, .. }) => (*through, *hash),
        _ => (0, GENESIS),
    };
    if through + 1 == first {
        return Ok(Ok(Before { through, hash, cut }));
    }
    Ok(Err(if first > through {
        (through + 1, format!("it is missing: the next one there is entry {first}"))
    } else {
        (first, format!("it is there, though all up to entry {through} were removed"))
    }))
}

/// The first entry behind `last` that the index knows: it was there once.
pub(super) fn cut_after(connection: &Connection, last: u64) -> Result<Option<u64>, Trouble> {
    let number = connection
        .query_row(
            "SELECT min(number) FROM (
                 SELECT min(first) AS number FROM proposals WHERE first > ?1
                 UNION ALL
                 SELECT min(closed) FROM proposals WHERE closed IS NOT NULL AND closed > ?1
                 UNION ALL
                 SELECT min(pruned) FROM proposals WHERE pruned IS NOT NULL AND pruned > ?1)",
            [entry::signed(last)],
            |row| row.get::<_, Option<i64>>(0),
        )
        .optional()?;
    Ok(number.flatten().map(i64::cast_unsigned))
}

/// The keys, the oldest first. One that was used again after it was forgotten counts with its last use.
fn keys(connection: &Connection, now: Wall) -> Result<Vec<RememberedKey>, Trouble> {
    let mut statement = connection.prepare(
        "SELECT agent, key, draft_hash, id FROM proposals WHERE key IS NOT NULL AND at >= ?1
         ORDER BY at DESC, first DESC LIMIT ?2",
    )?;
    let mut rows = statement.query([now.0.saturating_sub(KEY_AGE_MS), KEYS])?;
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    while let Some(row) = rows.next()? {
        let (agent, key): (String, String) = (row.get(0)?, row.get(1)?);
        let Some(draft_hash) = entry::hash(row, 2)? else { continue };
        if seen.insert((agent.clone(), key.clone())) {
            keys.push(RememberedKey { agent, key, draft_hash, id: ProposalId(row.get(3)?) });
        }
    }
    keys.reverse();
    Ok(keys)
}
