//! The database's tables, and the way to them from every version that was ever released.

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// One step a version: the step at index `n` makes version `n + 1` of version `n`. A step that was
/// released is never changed; whatever comes later is a step of its own.
pub(super) const MIGRATIONS: [&str; 2] = [
    // `left_out` turns, the oldest, were last left out of the prompt, for a context of
    // `left_out_for` tokens.
    "CREATE TABLE conversation (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        uid INTEGER NOT NULL,
        name TEXT,
        system TEXT,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        turns INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        left_out INTEGER NOT NULL DEFAULT 0,
        left_out_for INTEGER NOT NULL DEFAULT 0,
        UNIQUE (uid, name)
    ) STRICT;
    CREATE TABLE turn (
        conversation INTEGER NOT NULL REFERENCES conversation (key) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        time INTEGER NOT NULL,
        model TEXT NOT NULL,
        PRIMARY KEY (conversation, number)
    ) STRICT;
    CREATE TABLE message (
        conversation INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        position INTEGER NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        content TEXT NOT NULL,
        PRIMARY KEY (conversation, turn, position),
        FOREIGN KEY (conversation, turn) REFERENCES turn (conversation, number) ON DELETE CASCADE
    ) STRICT;",
    // What time it is for retention; see `retention`. One row, or none before the first look.
    "CREATE TABLE clock (only INTEGER PRIMARY KEY CHECK (only = 1), time INTEGER NOT NULL) STRICT;",
];

/// Every column that the store reads: a database that lacks one is damaged.
const PROBE: [&str; 4] = [
    "SELECT key, id, uid, name, system, created, updated, turns, bytes, left_out, left_out_for \
     FROM conversation LIMIT 1",
    "SELECT conversation, number, time, model FROM turn LIMIT 1",
    "SELECT conversation, turn, position, role, content FROM message LIMIT 1",
    "SELECT only, time FROM clock LIMIT 1",
];

/// The version of `connection`'s database; 0 for an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// Takes the database to the newest version, each step whole or not at all.
///
/// # Errors
/// [`StoreError::TooNew`] for a database of a later hob, which is left as it is.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found = version(connection)?;
    let steps = MIGRATIONS.get(found..).ok_or(StoreError::TooNew)?;
    for (index, step) in steps.iter().enumerate() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        let version = i64::try_from(found + index + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether the database is whole, as far as can be told without reading every row twice.
pub(super) fn is_whole(connection: &Connection) -> rusqlite::Result<bool> {
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
    let whole = verdict == "ok";
    Ok(whole && PROBE.iter().all(|query| connection.prepare(query).is_ok()))
}
