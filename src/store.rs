//! What we hold: tokens and what was put into homes, in SQLite. Callers speak of tokens and
//! changes, never of SQL.
//!
//! One process writes at a time: it holds the [`PassLock`]. Readers need no lock and no sealing
//! key (SQLite's WAL lets them read beside a writer).

mod check;
mod events;
mod fill;
mod kept_back;
mod laptops;
mod load;
mod modes;
mod of_user;
mod record;
mod schema;
mod seal;
mod shown;
mod sweep;
mod transfer;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::event::EventKind;
use crate::model::name::{InstanceId, OpId, ServiceId, UserId};
use crate::model::token::{Move, later};

use events::Told;
pub use events::{EventFilter, Verified};
pub use fill::Filled;
pub use load::{LostToken, RevokeTarget};
pub use of_user::OfUser;
pub use seal::SealingKey;
pub use shown::{
    Fleet, Health, LastCall, ServiceFigures, ServiceHealth, Shown, TroubleShown, VERSION,
};
pub use sweep::SweepFound;

/// The database's file name in the state directory.
pub const DATABASE: &str = "state.sqlite3";

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database.
    #[error("there is no state at {0}; the first `reconcile` makes it")]
    Missing(PathBuf),
    /// SQLite's own words.
    #[error("the state at {path} could not be used")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system's own words.
    #[error("{path} could not be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Written by a later version of this program.
    #[error(
        "the state at {path} has schema {found}; this program knows {known}: use the newer one"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Written by an earlier version of this program; who only reads cannot change it.
    #[error(
        "the state at {path} is an earlier version's: the next pass (`service-connector \
         reconcile`) brings it up to date"
    )]
    Older {
        /// The database.
        path: PathBuf,
    },
    /// A row that this program did not write.
    #[error("the state at {path} holds a {what} that is not legal: {found}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What kind of value.
        what: &'static str,
        /// The value, or what is wrong with it.
        found: String,
    },
    /// The sealing key is missing or another one.
    #[error(
        "the sealing key at {path} {trouble}; tokens in the state are sealed with it: put the right one back"
    )]
    SealingKey {
        /// Where the key was looked for.
        path: PathBuf,
        /// What is wrong with it.
        trouble: &'static str,
    },
    /// A move that a token's phase does not allow: a defect of this program.
    #[error("the state was asked for an illegal move: {0}")]
    IllegalMove(#[from] crate::model::token::IllegalMove),
}

impl StoreError {
    /// Whether a row is to blame, and others may be read all the same.
    #[must_use]
    pub fn is_of_a_row(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Database { source, .. } => source.sqlite_error().is_none(),
            _ => false,
        }
    }
}

/// The state, open.
pub struct Store {
    connection: Connection,
    path: PathBuf,
    instance: InstanceId,
    /// Not there in a reader.
    keys: Option<seal::Keys>,
}

/// Held by who writes the state.
const LOCK: &str = ".pass.lock";
/// Held by who waits for that, so that a pass without an end can make room.
const WAITING: &str = ".pass.waiting";

/// The right to write the state and to act: one pass at a time.
pub struct PassLock(#[expect(dead_code, reason = "holds the lock until it is dropped")] File);

/// Says that the lock is waited for, until it is dropped.
pub struct Waiting(#[expect(dead_code, reason = "holds the lock until it is dropped")] File);

impl PassLock {
    /// Takes the lock, waiting for another pass. `on_wait` is called once if it must wait.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn take(state_dir: &Path, on_wait: impl FnOnce()) -> Result<Self, StoreError> {
        let (path, file) = Self::open(state_dir, LOCK)?;
        let failed = |source| StoreError::File { path: path.clone(), source };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                let _waiting = Self::wait(state_dir)?;
                file.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self(file))
    }

    /// Says that the lock is waited for.
    ///
    /// # Errors
    /// The file that says so cannot be opened.
    pub fn wait(state_dir: &Path) -> Result<Waiting, StoreError> {
        let (path, file) = Self::open(state_dir, WAITING)?;
        file.lock_shared().map_err(|source| StoreError::File { path, source })?;
        Ok(Waiting(file))
    }

    /// Whether somebody waits for the lock. Who cannot tell says no.
    #[must_use]
    pub fn is_awaited(state_dir: &Path) -> bool {
        let waiting = Self::open(state_dir, WAITING);
        waiting.is_ok_and(|(_, file)| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn try_take(state_dir: &Path) -> Result<Option<Self>, StoreError> {
        let (path, file) = Self::open(state_dir, LOCK)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::File { path, source }),
        }
    }

    fn open(state_dir: &Path, name: &str) -> Result<(PathBuf, File), StoreError> {
        make_dir(state_dir)?;
        let path = state_dir.join(name);
        let failed = |source| StoreError::File { path: path.clone(), source };
        // Nobody else's to open: whoever could read it could also lock it.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        Ok((path, file))
    }
}

/// Makes the state's directory, if it is not there.
///
/// # Errors
/// It cannot be made.
pub fn make_dir(state_dir: &Path) -> Result<(), StoreError> {
    if state_dir.is_dir() {
        return Ok(());
    }
    let _for_the_group = modes::GroupMayRead::begin();
    let made = DirBuilder::new().recursive(true).mode(0o750).create(state_dir);
    made.map_err(|source| StoreError::File { path: state_dir.to_owned(), source })
}

/// What is remembered of the last pass: that, and what is shown, is all that a pass over an unchanged
/// world writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastPass {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// The exit code it ended with.
    pub exit: u8,
    /// One line for people.
    pub summary: String,
    /// What the guard held, if anything.
    pub held: Option<HeldRecord>,
    /// What failed: the first hundred.
    pub failed: Vec<FailedRecord>,
}

/// An action that failed in the last pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedRecord {
    /// Whose.
    pub user: UserId,
    /// Of which service; an install is of all.
    pub service: Option<ServiceId>,
    /// Why, for people.
    pub why: String,
}

/// What the guard held in the last pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldRecord {
    /// What an approval names.
    pub digest: Digest,
    /// How many connections.
    pub connections: usize,
    /// Why.
    pub why: Vec<String>,
}

impl Drop for Store {
    /// Empties the WAL: who opens the database next would else read all of it. Readers are not
    /// waited for; what they keep from being done, the next writer does.
    fn drop(&mut self) {
        let is_writer = self.keys.is_some();
        if is_writer && self.connection.busy_timeout(Duration::ZERO).is_ok() {
            let done = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            tracing::trace!(?done, "the WAL was written back");
        }
    }
}

impl Store {
    /// Opens the state to write it; makes it, and a sealing key beside it, if there is none.
    ///
    /// # Errors
    /// See [`StoreError`]. With tokens in the state a missing or wrong sealing key is one.
    pub fn open(state_dir: &Path, sealing_key: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(DATABASE);
        let is_new = !is_there(&path)?;
        let key = if is_new {
            SealingKey::read_or_make(sealing_key)?
        } else {
            SealingKey::read(sealing_key)?
        };
        // What SQLite makes beside the database has the mode of the database.
        let _for_the_group = modes::GroupMayRead::begin();
        if is_new {
            let made = OpenOptions::new().create(true).append(true).mode(modes::FILE).open(&path);
            made.map_err(|source| StoreError::File { path: path.clone(), source })?;
        } else {
            modes::mend(&path)?;
        }
        let keys = seal::Keys::derive(&key);
        let connection = Connection::open(&path).map_err(database(&path))?;
        schema::prepare_writer(&connection, &path)?;
        schema::migrate(&connection, &path)?;
        let instance = instance_of(&connection, &path)?;
        let store = Self { connection, path, instance, keys: Some(keys) };
        store.check_key(sealing_key)?;
        Ok(store)
    }

    /// Opens the state to read it: needs neither the lock nor the sealing key.
    ///
    /// # Errors
    /// See [`StoreError`]; [`StoreError::Missing`] where there is none yet.
    pub fn open_to_read(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(DATABASE);
        if !is_there(&path)? {
            return Err(StoreError::Missing(path));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(database(&path))?;
        connection.busy_timeout(schema::BUSY).map_err(database(&path))?;
        schema::plan_once(&connection).map_err(database(&path))?;
        schema::check(&connection, &path)?;
        let instance =
            read_instance(&connection, &path)?.ok_or_else(|| StoreError::Missing(path.clone()))?;
        Ok(Self { connection, path, instance, keys: None })
    }

    /// The id of this database.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// A number that is another one once somebody else has changed the database.
    ///
    /// # Errors
    /// The database's.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        let sql = "PRAGMA data_version";
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(self.database())
    }

    /// Reads several things of one instant.
    ///
    /// # Errors
    /// The database's, or what reading says.
    pub fn at_once<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let instant = self.connection.unchecked_transaction().map_err(self.database())?;
        let read = read(self);
        instant.finish().map_err(self.database())?;
        read
    }

    /// Remembers a pass, and what it leaves to be shown.
    ///
    /// # Errors
    /// The database's.
    pub fn record_pass(
        &mut self,
        pass: &LastPass,
        show: impl FnOnce(&Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let body = self.json(pass)?;
        self.in_transaction(|store| {
            store.execute("INSERT OR REPLACE INTO pass (id, body) VALUES (1, ?1)", [body])?;
            show(store)
        })
    }

    /// The last pass, if there was one.
    ///
    /// # Errors
    /// The database's.
    pub fn last_pass(&self) -> Result<Option<LastPass>, StoreError> {
        let body: Option<String> = self
            .connection
            .query_row("SELECT body FROM pass WHERE id = 1", [], |row| row.get(0))
            .optional()
            .map_err(self.database())?;
        body.map(|body| self.read_json("last pass", &body)).transpose()
    }

    /// Records that somebody approved a held removal. Approvals that are over are dropped.
    ///
    /// # Errors
    /// The database's.
    pub fn approve(&mut self, held: Digest, who: &str, now: Timestamp) -> Result<(), StoreError> {
        let over = later(now, -load::APPROVAL).as_microsecond();
        let values = (held.to_string(), who, now.as_microsecond());
        let detail = format!("the held removals {}", held.short());
        let kind = EventKind::Approved;
        let told = Told { who, kind, user: None, service: None, op: None, detail };
        self.in_transaction(|store| {
            store.tell(told, now)?;
            store.execute("DELETE FROM approval WHERE at <= ?1", [over])?;
            let sql = "INSERT OR REPLACE INTO approval (digest, who, at) VALUES (?1, ?2, ?3)";
            store.execute(sql, values)
        })
    }

    /// Takes a debt off the list on an operator's word: the token may still be alive.
    ///
    /// # Errors
    /// The database's, or a token that is no debt.
    pub fn forget(
        &mut self,
        op: &OpId,
        who: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.in_transaction(|store| store.move_token(op, Move::Forget, who, reason, now))
    }

    /// Refuses another key than the one that the state was sealed with; the first one counts.
    fn check_key(&self, sealing_key: &Path) -> Result<(), StoreError> {
        let Some(keys) = &self.keys else { return Ok(()) };
        if self.was_sealed_with(keys, sealing_key)? {
            return Ok(());
        }
        let ours = keys.check_value();
        self.execute("INSERT INTO meta (name, value) VALUES ('sealing_key', ?1)", [ours])
    }

    fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(self.database())
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        run().map(drop).map_err(self.database())
    }

    fn database(&self) -> impl Fn(rusqlite::Error) -> StoreError {
        database(&self.path)
    }

    fn json(&self, value: &impl Serialize) -> Result<String, StoreError> {
        serde_json::to_string(value).map_err(|error| self.damaged("value", &error))
    }

    fn read_json<T: for<'de> Deserialize<'de>>(
        &self,
        what: &'static str,
        body: &str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(body).map_err(|error| self.damaged(what, &error))
    }

    fn damaged(&self, what: &'static str, found: &impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what, found: found.to_string() }
    }
}

/// Whether there is a database. Where it may not be looked, nobody can tell.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|source| StoreError::File { path: path.to_owned(), source })
}

fn database(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Database { path: path.clone(), source }
}

fn read_instance(connection: &Connection, path: &Path) -> Result<Option<InstanceId>, StoreError> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE name = 'instance'", [], |row| row.get(0))
        .optional()
        .map_err(database(path))?;
    let damaged = |error: crate::model::name::NameError| StoreError::Damaged {
        path: path.to_owned(),
        what: "instance id",
        found: error.to_string(),
    };
    text.map(|text| text.parse().map_err(damaged)).transpose()
}

/// The database's id, made with it.
fn instance_of(connection: &Connection, path: &Path) -> Result<InstanceId, StoreError> {
    let random = u64::try_from(random() & u128::from(u64::MAX)).unwrap_or_default(); // masked: fits
    let values = [format!("{random:016x}")];
    connection
        .execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('instance', ?1)", values)
        .map_err(database(path))?;
    read_instance(connection, path)?.ok_or_else(|| StoreError::Missing(path.to_owned()))
}

/// 128 random bits from the system: for op ids.
///
/// # Panics
/// When the system has no randomness, since no op id can be given then.
#[must_use]
pub fn random() -> u128 {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's random numbers cannot fail on Linux");
    u128::from_be_bytes(bytes)
}
