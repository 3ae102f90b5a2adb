//! The tables, and how older ones become the present ones.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, FileControl, TransactionBehavior};

use super::{StoreError, database};

/// How long a reader or writer waits for another's transaction.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// How often a reader tries again while a writer opens the database.
const OPENING: Duration = Duration::from_millis(2);

/// Each step brings a database from the version of its place to the next.
const STEPS: [&str; 8] =
    [FIRST, COUNTS_BY_SERVICE, SWEEPS, SHOWN, COUNTS_COVERED, KEPT_BACK, LAPTOPS, TALLIES];

/// The schema's version.
#[expect(clippy::cast_possible_wrap, reason = "a handful")]
const VERSION: i64 = STEPS.len() as i64;

/// The condition of the indexes of tokens that have not ended. SQLite uses a partial index only for a
/// query that has its condition word for word, so those that ask for one of these phases say it, too.
pub(super) const NOT_ENDED: &str = "phase IN ('issuing', 'active', 'retiring', 'revoking')";

/// Keys that work, beside [`NOT_ENDED`].
pub(super) const LIVE: &str = "phase IN ('active', 'retiring')";

/// Times are microseconds since 1970, UTC.
const FIRST: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
-- Endpoints as they were when something was asked there; few, and many tokens name them.
CREATE TABLE endpoint (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE) STRICT;
-- The row id is the order of asking.
CREATE TABLE token (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    op TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    service TEXT NOT NULL,
    account TEXT NOT NULL,
    uid INTEGER,
    email TEXT NOT NULL,
    endpoint INTEGER NOT NULL REFERENCES endpoint (id),
    ttl_days INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    phase TEXT NOT NULL,
    since INTEGER NOT NULL,
    token_id TEXT,
    expires_at INTEGER,
    fingerprint TEXT,
    sealed BLOB,
    key_readable INTEGER NOT NULL DEFAULT 1,
    delivered_at INTEGER,
    delivered_generation INTEGER
) STRICT;
CREATE INDEX token_not_ended ON token (user, service)
    WHERE phase IN ('issuing', 'active', 'retiring', 'revoking');
CREATE INDEX token_lost ON token (service) WHERE phase = 'lost';
-- No two connections hold the same token of a service.
CREATE UNIQUE INDEX token_once ON token (service, token_id)
    WHERE token_id IS NOT NULL AND phase IN ('active', 'retiring', 'revoking');
CREATE TABLE rendition (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE installed (
    user TEXT NOT NULL,
    account TEXT NOT NULL,
    generation INTEGER NOT NULL,
    env TEXT NOT NULL,
    skills TEXT NOT NULL,
    pieces TEXT NOT NULL,
    confirmed INTEGER NOT NULL,
    PRIMARY KEY (user, account)
) STRICT, WITHOUT ROWID;
-- Outlives the user's removal: a generation is never given twice.
CREATE TABLE generation (user TEXT PRIMARY KEY, highest INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE backoff (
    user TEXT NOT NULL,
    service TEXT NOT NULL,
    until INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    wish TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (user, service)
) STRICT, WITHOUT ROWID;
CREATE TABLE trouble (
    service TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    until INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    message TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE absence (user TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE removal (user TEXT NOT NULL, service TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE approval (digest TEXT PRIMARY KEY, who TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
-- Each hash covers its row and the hash before.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    kind TEXT NOT NULL,
    user TEXT,
    service TEXT,
    op TEXT,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE INDEX event_of ON event (user, service);
CREATE TABLE pass (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL) STRICT;
";

/// A pass for one user counts the others' connections for the guard: from this index alone.
const COUNTS_BY_SERVICE: &str = "
CREATE INDEX token_live ON token (service, user) WHERE phase IN ('active', 'retiring');
";

/// What the services' own lists of tokens showed: see `store/sweep.rs`.
const SWEEPS: &str = "
CREATE TABLE sweep (service TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE stray (
    op TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    user TEXT NOT NULL,
    email TEXT,
    token_id TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE stray_removal (
    user TEXT NOT NULL,
    service TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE TABLE missing (
    op TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    since INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    times INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE reissue (
    user TEXT NOT NULL,
    service TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (user, service)
) STRICT, WITHOUT ROWID;
";

/// What is shown to who may only look, and an index from which a fleet is counted: see
/// `store/shown.rs`.
const SHOWN: &str = "
CREATE INDEX token_figures ON token (service, phase, since, expires_at)
    WHERE phase IN ('issuing', 'active', 'retiring', 'revoking');
CREATE TABLE shown (
    name TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// With the phase in it SQLite has no need to look at the rows of a fleet.
const COUNTS_COVERED: &str = "
DROP INDEX token_live;
CREATE INDEX token_by_service ON token (service, user, phase)
    WHERE phase IN ('issuing', 'active', 'retiring', 'revoking');
";

/// What the last pass that looked found to keep connections back: see `store/kept_back.rs`. No service:
/// all of the user's.
const KEPT_BACK: &str = "
CREATE TABLE kept_back (
    user TEXT NOT NULL,
    service TEXT NOT NULL,
    kept_by TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (user, service, kept_by, why)
) STRICT, WITHOUT ROWID;
";

/// What each user's laptops hold, for who may not look at homes: see `store/laptops.rs`.
const LAPTOPS: &str = "
CREATE TABLE laptop (
    user TEXT NOT NULL,
    laptop TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (user, laptop)
) STRICT, WITHOUT ROWID;
";

/// Counts that are kept as tokens move: a pass for one user looks at no others' tokens. A row is
/// never deleted, and no token begins with a key that works.
const TALLIES: &str = "
CREATE TABLE tally (
    service TEXT NOT NULL,
    phase TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    PRIMARY KEY (service, phase)
) STRICT, WITHOUT ROWID;
INSERT INTO tally SELECT service, phase, count(*) FROM token GROUP BY service, phase;
-- Users that have a key that works.
CREATE TABLE connected (service TEXT PRIMARY KEY, users INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO connected SELECT service, count(DISTINCT user) FROM token
    WHERE phase IN ('active', 'retiring') GROUP BY service;
CREATE TRIGGER token_begins AFTER INSERT ON token BEGIN
    INSERT INTO tally VALUES (NEW.service, NEW.phase, 1)
        ON CONFLICT DO UPDATE SET tokens = tokens + 1;
END;
CREATE TRIGGER token_moves AFTER UPDATE OF phase ON token WHEN NEW.phase <> OLD.phase BEGIN
    UPDATE tally SET tokens = tokens - 1 WHERE service = OLD.service AND phase = OLD.phase;
    INSERT INTO tally VALUES (NEW.service, NEW.phase, 1)
        ON CONFLICT DO UPDATE SET tokens = tokens + 1;
END;
CREATE TRIGGER user_connects AFTER UPDATE OF phase ON token
    WHEN NEW.phase IN ('active', 'retiring') AND OLD.phase NOT IN ('active', 'retiring')
    AND 1 = (SELECT count(*) FROM token WHERE user = NEW.user AND service = NEW.service
        AND phase IN ('issuing', 'active', 'retiring', 'revoking')
        AND phase IN ('active', 'retiring'))
BEGIN
    INSERT INTO connected VALUES (NEW.service, 1) ON CONFLICT DO UPDATE SET users = users + 1;
END;
CREATE TRIGGER user_disconnects AFTER UPDATE OF phase ON token
    WHEN NEW.phase NOT IN ('active', 'retiring') AND OLD.phase IN ('active', 'retiring')
    AND 0 = (SELECT count(*) FROM token WHERE user = NEW.user AND service = NEW.service
        AND phase IN ('issuing', 'active', 'retiring', 'revoking')
        AND phase IN ('active', 'retiring'))
BEGIN
    UPDATE connected SET users = users - 1 WHERE service = NEW.service;
END;
DROP INDEX token_by_service;
DROP INDEX token_figures;
CREATE INDEX token_expiry ON token (service, expires_at) WHERE phase = 'active';
CREATE INDEX token_debt ON token (service, since) WHERE phase = 'revoking';
";

/// Has each statement planned once, and not again for each value that is bound to it.
pub(super) fn plan_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// What every writer sets on its connection.
pub(super) fn prepare_writer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let prepare = || {
        connection.busy_timeout(BUSY)?;
        plan_once(connection)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // Without it the last writer removes the WAL when it closes, and a reader that may not
        // write the directory can open the database no more.
        connection.file_control::<&str>(None, FileControl::PersistWal(&mut 1))
    };
    prepare().map_err(database(path))
}

/// Brings an older database to the present version, in one transaction.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let step = || {
        let transaction =
            rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let found = version(&transaction)?;
        let missing = usize::try_from(found).unwrap_or(0);
        for step in STEPS.iter().skip(missing) {
            transaction.execute_batch(step)?;
        }
        if found < VERSION {
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()
    };
    if version(connection).map_err(database(path))? < VERSION {
        step().map_err(database(path))?;
    }
    check(connection, path)
}

/// Refuses a database of another version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    match settled_version(connection) {
        Ok(VERSION) => Ok(()),
        Ok(0) => Err(StoreError::Missing(path.to_owned())),
        Ok(found) if found < VERSION => Err(StoreError::Older { path: path.to_owned() }),
        Ok(found) => Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION }),
        Err(error) if was_being_made(&error, path) => Err(StoreError::Missing(path.to_owned())),
        Err(error) => Err(database(path)(error)),
    }
}

/// Whether this is a reader that finds what a killed first pass left, which the next writer
/// finishes: a rollback journal (there is one only before the WAL is switched on), or a database
/// that has a WAL by its header and has none, or none that was written, beside it.
fn was_being_made(error: &rusqlite::Error, path: &Path) -> bool {
    use rusqlite::ffi::{SQLITE_CANTOPEN, SQLITE_READONLY_DIRECTORY, SQLITE_READONLY_ROLLBACK};
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(SQLITE_READONLY_ROLLBACK) => true,
        // Also of one that was put back without its WAL: that one is not empty.
        Some(SQLITE_READONLY_DIRECTORY | SQLITE_CANTOPEN) => has_no_schema(path).unwrap_or(false),
        _ => false,
    }
}

/// Whether the database has version 0 and nothing in its WAL. (File format, section 1.3: the user
/// version is at offset 60.)
fn has_no_schema(path: &Path) -> io::Result<bool> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    match fs::metadata(wal) {
        Ok(meta) if meta.len() > 0 => return Ok(false),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut header = Vec::new();
    fs::File::open(path)?.take(64).read_to_end(&mut header)?;
    Ok(header.get(60..64).is_none_or(|version| version == [0; 4]))
}

/// The version, once a writer that is just opening the database has done so: it empties the WAL's
/// index before it takes the lock to make it anew, and who meets it in between, and only reads,
/// is told that he would have to.
fn settled_version(connection: &Connection) -> rusqlite::Result<i64> {
    let begun = Instant::now();
    loop {
        let found = version(connection);
        let code = found.as_ref().err().and_then(rusqlite::Error::sqlite_error);
        let is_opening =
            code.is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_READONLY_RECOVERY);
        if !is_opening || begun.elapsed() > BUSY {
            return found;
        }
        thread::sleep(OPENING);
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
