//! Statistics of the pools: kept in the same file, and no part of what the journal proves.

use rusqlite::{Connection, TransactionBehavior};

use super::entry::signed;
use super::problems::Trouble;

/// How often a bucket of a pool's histogram was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The pool's profile.
    pub pool: String,
    /// What was measured.
    pub measure: String,
    /// The bucket ([`brig_core::histogram::Histogram`]).
    pub bucket: u16,
    /// How often.
    pub count: u64,
}

/// Writes counts in one transaction. A count only grows, so what is not named stays right.
pub(super) fn keep(connection: &mut Connection, counts: &[Count]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO statistics (pool, measure, bucket, count) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (pool, measure, bucket) DO UPDATE SET count = excluded.count",
        )?;
        for it in counts {
            insert.execute((&it.pool, &it.measure, it.bucket, signed(it.count)))?;
        }
    }
    transaction.commit()
}

/// All counts that were kept.
pub(super) fn kept(connection: &Connection) -> Result<Vec<Count>, Trouble> {
    let mut statement = connection.prepare_cached("SELECT pool, measure, bucket, count FROM statistics")?;
    let rows = statement.query_map([], |row| {
        let count = row.get::<_, i64>(3)?.cast_unsigned();
        Ok(Count { pool: row.get(0)?, measure: row.get(1)?, bucket: row.get(2)?, count })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
