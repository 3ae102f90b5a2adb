//! The reading side of the ledger: what the service truly issued and revoked, for tests, also from
//! another process and while the service runs or is down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::faults::On;
use super::store;
use crate::model::digest::Digest;

/// The ledger cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the ledger {}", path.display())]
pub struct LedgerError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// A token that was issued, live or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerToken {
    /// The service's name of it.
    pub token_id: String,
    /// The caller's name of it; v1 has none.
    pub client_ref: Option<String>,
    /// Whose it is.
    pub user_email: String,
    /// SHA-256 of the key: the ledger does not hold keys.
    pub key_hash: Digest,
    /// By the service's clock.
    pub issued_at: Timestamp,
    /// By the service's clock.
    pub expires_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl LedgerToken {
    /// Neither revoked nor expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// A ledger, open for reading.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
}

impl Ledger {
    /// Opens the ledger of a service's data directory.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, LedgerError> {
        let path = store::database(directory.as_ref());
        let opened = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(
            |connection| {
                connection.busy_timeout(Duration::from_secs(5))?;
                Ok(connection)
            },
        );
        match opened {
            Ok(connection) => Ok(Self { connection, path }),
            Err(source) => Err(LedgerError { path, source }),
        }
    }

    /// Every token ever issued, in the order of issue.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn tokens(&self) -> Result<Vec<LedgerToken>, LedgerError> {
        let sql = "SELECT token_id, client_ref, user_email, key_hash, issued_at, expires_at, \
                   revoked_at FROM token ORDER BY seq";
        self.connection
            .prepare(sql)
            .and_then(|mut statement| statement.query_map([], ledger_token)?.collect())
            .map_err(|source| self.error(source))
    }

    /// Every `client_ref` that was ever revoked by that name, whether it had a token or not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn tombstones(&self) -> Result<Vec<String>, LedgerError> {
        self.connection
            .prepare("SELECT client_ref FROM tombstone ORDER BY rowid")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(|source| self.error(source))
    }

    /// How many requests to `token-exchange` came in, refused and faulty ones included.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn exchange_calls(&self) -> Result<u64, LedgerError> {
        self.calls(On::Exchange)
    }

    /// How many requests to `token-revoke` came in, refused and faulty ones included.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn revoke_calls(&self) -> Result<u64, LedgerError> {
        self.calls(On::Revoke)
    }

    /// How many requests for the list of tokens came in, refused and faulty ones included.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list_calls(&self) -> Result<u64, LedgerError> {
        self.calls(On::List)
    }

    fn calls(&self, endpoint: On) -> Result<u64, LedgerError> {
        let sql = "SELECT requests FROM call WHERE endpoint = ?1";
        self.connection
            .query_row(sql, [store::call_name(endpoint)], |row| row.get(0))
            .optional()
            .map(|requests: Option<u32>| requests.unwrap_or_default().into())
            .map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> LedgerError {
        LedgerError { path: self.path.clone(), source }
    }
}

fn ledger_token(row: &Row<'_>) -> rusqlite::Result<LedgerToken> {
    let key_hash: String = row.get(3)?;
    let revoked_at: Option<i64> = row.get(6)?;
    Ok(LedgerToken {
        token_id: row.get(0)?,
        client_ref: row.get(1)?,
        user_email: row.get(2)?,
        key_hash: key_hash.parse().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error))
        })?,
        issued_at: timestamp(4, row.get(4)?)?,
        expires_at: timestamp(5, row.get(5)?)?,
        revoked_at: revoked_at.map(|seconds| timestamp(6, seconds)).transpose()?,
    })
}

fn timestamp(column: usize, seconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_second(seconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, seconds))
}
