//! The writing side of the ledger, and the rows of the business API: one `SQLite` database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::faults::On;
use crate::model::digest::Digest;

/// Tokens are never deleted: the ledger is the truth that tests compare with.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS token (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    token_id TEXT NOT NULL UNIQUE,
    client_ref TEXT UNIQUE,
    user_email TEXT NOT NULL,
    ttl_days INTEGER NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS tombstone (
    client_ref TEXT PRIMARY KEY,
    revoked_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS call (
    endpoint TEXT PRIMARY KEY,
    requests INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL
) STRICT;
";

/// The database file of a data directory.
pub(super) fn database(directory: &Path) -> PathBuf {
    directory.join("service.sqlite3")
}

/// How a counted endpoint is named in the ledger; the others are not counted.
pub(super) fn call_name(endpoint: On) -> Option<&'static str> {
    match endpoint {
        On::Exchange => Some("exchange"),
        On::Revoke => Some("revoke"),
        On::List => Some("list"),
        On::Health | On::Business | On::All => None,
    }
}

/// What is asked in an exchange.
pub(super) struct Ask {
    pub(super) user_email: String,
    pub(super) ttl_days: u32,
    pub(super) client_ref: Option<String>,
    /// A fault: a known `client_ref` gets its token whatever else is asked.
    pub(super) ignores_other_body: bool,
}

/// The token that an ask would get if it is new. Times are Unix seconds.
pub(super) struct NewToken {
    pub(super) token_id: String,
    pub(super) key_hash: Digest,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
}

/// What became of an exchange.
pub(super) enum Exchanged {
    /// The token of this ask, new or the one it got before.
    Granted { token_id: String, expires_at: i64 },
    /// The `client_ref` was used with another body.
    Different,
    /// The `client_ref` was revoked, or its token has expired.
    Gone,
}

/// What a revoke names.
pub(super) enum Target {
    Token(String),
    Ref(String),
}

/// A token as the list shows it.
pub(super) struct LiveToken {
    pub(super) seq: i64,
    pub(super) token_id: String,
    pub(super) client_ref: Option<String>,
    pub(super) user_email: String,
    pub(super) expires_at: i64,
}

/// One database, open for writing. Each method is one transaction, durable when it returns.
pub(super) struct Store(Connection);

impl Store {
    pub(super) fn open(directory: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(database(directory))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    fn transaction(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.0.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Counts a request, whatever becomes of it.
    pub(super) fn count_call(&mut self, endpoint: &str) -> rusqlite::Result<()> {
        let sql = "INSERT INTO call VALUES (?1, 1) \
                   ON CONFLICT (endpoint) DO UPDATE SET requests = requests + 1";
        self.0.execute(sql, [endpoint]).map(drop)
    }

    pub(super) fn exchange(&mut self, ask: &Ask, new: &NewToken) -> rusqlite::Result<Exchanged> {
        let transaction = self.transaction()?;
        if let Some(client_ref) = &ask.client_ref
            && let Some(answer) = asked_before(&transaction, client_ref, ask, new.issued_at)?
        {
            return Ok(answer);
        }
        transaction.execute(
            "INSERT INTO token (token_id, client_ref, user_email, ttl_days, key_hash, issued_at, \
             expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                new.token_id,
                ask.client_ref,
                ask.user_email,
                ask.ttl_days,
                new.key_hash.to_string(),
                new.issued_at,
                new.expires_at
            ],
        )?;
        transaction.commit()?;
        Ok(Exchanged::Granted { token_id: new.token_id.clone(), expires_at: new.expires_at })
    }

    /// Revokes; what is unknown or revoked already is a success too. A `client_ref` is remembered
    /// for ever, so that an exchange that comes later is refused, unless a fault forgets it. Says
    /// whether there was something to revoke.
    pub(super) fn revoke(
        &mut self,
        target: &Target,
        now: i64,
        forgets: bool,
    ) -> rusqlite::Result<bool> {
        let transaction = self.transaction()?;
        let (column, name) = match target {
            Target::Token(token_id) => ("token_id", token_id),
            Target::Ref(client_ref) => ("client_ref", client_ref),
        };
        let sql =
            format!("UPDATE token SET revoked_at = ?2 WHERE {column} = ?1 AND revoked_at IS NULL");
        let found = transaction.execute(&sql, params![name, now])? > 0;
        if let Target::Ref(client_ref) = target
            && !forgets
        {
            let sql = "INSERT OR IGNORE INTO tombstone VALUES (?1, ?2)";
            transaction.execute(sql, params![client_ref, now])?;
        }
        transaction.commit()?;
        Ok(found)
    }

    /// At most `limit` live tokens behind `after`, in the order of issue; a fault has the revoked
    /// ones, too.
    pub(super) fn live_tokens(
        &mut self,
        after: i64,
        limit: u32,
        now: i64,
        revoked_too: bool,
    ) -> rusqlite::Result<Vec<LiveToken>> {
        let sql = "SELECT seq, token_id, client_ref, user_email, expires_at FROM token \
                   WHERE seq > ?1 AND (revoked_at IS NULL OR ?4) AND expires_at > ?2 \
                   ORDER BY seq LIMIT ?3";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.query_map(params![after, now, limit, revoked_too], live_token)?.collect()
    }

    /// The e-mail address and the expiry of the live token with this key.
    pub(super) fn holder(
        &mut self,
        key_hash: &Digest,
        now: i64,
    ) -> rusqlite::Result<Option<(String, i64)>> {
        let sql = "SELECT user_email, expires_at FROM token \
                   WHERE key_hash = ?1 AND revoked_at IS NULL AND expires_at > ?2";
        self.0
            .query_row(sql, params![key_hash.to_string(), now], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
    }

    /// How many rows the business API has ever had.
    pub(super) fn records_made(&mut self) -> rusqlite::Result<u32> {
        self.0.query_row("SELECT coalesce(max(number), 0) FROM record", [], |row| row.get(0))
    }

    /// The rows behind `after`, for as long as `take` wants more.
    pub(super) fn each_record(
        &mut self,
        after: i64,
        mut take: impl FnMut(i64, String) -> bool,
    ) -> rusqlite::Result<()> {
        let sql = "SELECT number, body FROM record WHERE number > ?1 ORDER BY number";
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            if !take(row.get(0)?, row.get(1)?) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn record(&mut self, number: i64) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT body FROM record WHERE number = ?1";
        self.0.query_row(sql, [number], |row| row.get(0)).optional()
    }

    /// Adds the row that `make` makes for the next number; an error of `make` adds nothing.
    pub(super) fn add_record<T, E>(
        &mut self,
        make: impl FnOnce(i64) -> Result<(String, T), E>,
    ) -> rusqlite::Result<Result<T, E>> {
        let transaction = self.transaction()?;
        let sql = "SELECT coalesce(max(number), 0) + 1 FROM record";
        let number = transaction.query_row(sql, [], |row| row.get(0))?;
        match make(number) {
            Err(refusal) => Ok(Err(refusal)),
            Ok((body, value)) => {
                let sql = "INSERT INTO record VALUES (?1, ?2)";
                transaction.execute(sql, params![number, body])?;
                transaction.commit()?;
                Ok(Ok(value))
            }
        }
    }

    /// Replaces a row by what `change` makes of it; an error of `change` leaves it as it is.
    /// `None`: there is no such row.
    pub(super) fn change_record<T, E>(
        &mut self,
        number: i64,
        change: impl FnOnce(&str) -> Result<(String, T), E>,
    ) -> rusqlite::Result<Option<Result<T, E>>> {
        let transaction = self.transaction()?;
        let sql = "SELECT body FROM record WHERE number = ?1";
        let body: Option<String> =
            transaction.query_row(sql, [number], |row| row.get(0)).optional()?;
        let Some(body) = body else { return Ok(None) };
        match change(&body) {
            Err(refusal) => Ok(Some(Err(refusal))),
            Ok((body, value)) => {
                let sql = "UPDATE record SET body = ?2 WHERE number = ?1";
                transaction.execute(sql, params![number, body])?;
                transaction.commit()?;
                Ok(Some(Ok(value)))
            }
        }
    }
}

/// What an ask with a known `client_ref` gets; `None`: it is not known.
fn asked_before(
    transaction: &Transaction<'_>,
    client_ref: &str,
    ask: &Ask,
    now: i64,
) -> rusqlite::Result<Option<Exchanged>> {
    let sql = "SELECT 1 FROM tombstone WHERE client_ref = ?1";
    if transaction.query_row(sql, [client_ref], |_| Ok(())).optional()?.is_some() {
        return Ok(Some(Exchanged::Gone));
    }
    let sql = "SELECT token_id, expires_at, user_email, ttl_days, revoked_at \
               FROM token WHERE client_ref = ?1";
    transaction
        .query_row(sql, [client_ref], |row| {
            let (token_id, expires_at) = (row.get(0)?, row.get(1)?);
            let (user_email, ttl_days): (String, u32) = (row.get(2)?, row.get(3)?);
            let revoked_at: Option<i64> = row.get(4)?;
            Ok(if revoked_at.is_some() || expires_at <= now {
                Exchanged::Gone
            } else if !ask.ignores_other_body
                && (user_email != ask.user_email || ttl_days != ask.ttl_days)
            {
                Exchanged::Different
            } else {
                Exchanged::Granted { token_id, expires_at }
            })
        })
        .optional()
}

fn live_token(row: &Row<'_>) -> rusqlite::Result<LiveToken> {
    Ok(LiveToken {
        seq: row.get(0)?,
        token_id: row.get(1)?,
        client_ref: row.get(2)?,
        user_email: row.get(3)?,
        expires_at: row.get(4)?,
    })
}
