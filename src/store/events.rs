//! The chain of events. An event is in the same transaction as what it tells of: when it cannot be
//! written, nothing is done.

use jiff::Timestamp;
use rusqlite::Row;

use crate::desired_history::Entry;
use crate::model::digest::Digest;
use crate::model::event::{Event, EventKind};
use crate::model::name::{OpId, ServiceId, UserId};

use super::{Store, StoreError};

const COLUMNS: &str = "SELECT seq, at, who, kind, user, service, op, detail, hash FROM event";

/// Something to tell.
pub(super) struct Told<'a> {
    pub who: &'a str,
    pub kind: EventKind,
    pub user: Option<&'a UserId>,
    pub service: Option<&'a ServiceId>,
    pub op: Option<&'a OpId>,
    pub detail: String,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this user.
    pub user: Option<UserId>,
    /// Of this service.
    pub service: Option<ServiceId>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// At most so many, the latest.
    pub last: Option<u32>,
}

/// What became of checking the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Each event follows from the one before.
    Whole {
        /// How many there are.
        events: u64,
        /// The last hash: written down elsewhere, it shows whether later ones were cut off.
        head: Option<Digest>,
    },
    /// This one does not.
    Broken {
        /// Its place in the chain.
        seq: u64,
    },
}

impl Store {
    /// Appends an event to the chain, within the transaction that is open.
    pub(super) fn tell(&self, told: Told<'_>, now: Timestamp) -> Result<(), StoreError> {
        let sql = "SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1";
        let last = self.collect(sql, [], |row| {
            Ok((self.number(row, 0)?, self.parse::<Digest>(row, 1, "hash")?))
        })?;
        let (seq, before) = last.first().map_or((0, None), |(seq, hash)| (*seq, Some(*hash)));
        let mut event = Event {
            seq: seq + 1,
            at: self.to_the_microsecond(now)?,
            who: told.who.to_owned(),
            kind: told.kind,
            user: told.user.cloned(),
            service: told.service.cloned(),
            op: told.op.cloned(),
            detail: told.detail,
            hash: Digest::of([]),
        };
        event.hash = event.hash_after(before);
        self.execute(
            "INSERT INTO event (seq, at, who, kind, user, service, op, detail, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            (
                i64::try_from(event.seq).map_err(|error| self.damaged("event", &error))?,
                event.at.as_microsecond(),
                event.who,
                event.kind.as_str(),
                told.user.map(UserId::as_str),
                told.service.map(ServiceId::as_str),
                told.op.map(OpId::as_str),
                event.detail,
                event.hash.to_string(),
            ),
        )
    }

    /// As it will be read back: the hash is of that.
    fn to_the_microsecond(&self, time: Timestamp) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(time.as_microsecond())
            .map_err(|error| self.damaged("time", &error))
    }

    /// The events that fit, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        let sql = format!(
            "SELECT * FROM ({COLUMNS} WHERE (?1 IS NULL OR user = ?1) \
             AND (?2 IS NULL OR service = ?2) AND (?3 IS NULL OR at >= ?3) \
             ORDER BY seq DESC LIMIT ?4) ORDER BY seq"
        );
        let values = (
            filter.user.as_ref().map(UserId::as_str),
            filter.service.as_ref().map(ServiceId::as_str),
            filter.since.map(Timestamp::as_microsecond),
            filter.last.map_or(-1, i64::from),
        );
        self.collect(&sql, values, |row| self.event(row))
    }

    /// Checks that each event follows from the one before.
    ///
    /// # Errors
    /// The database's.
    pub fn verify_events(&self) -> Result<Verified, StoreError> {
        let (mut before, mut seq) = (None, 0);
        let mut broken = None;
        self.collect(&format!("{COLUMNS} ORDER BY seq"), [], |row| {
            let event = self.event(row)?;
            seq += 1;
            if event.seq != seq || event.hash != event.hash_after(before) {
                broken.get_or_insert(event.seq.min(seq));
            }
            before = Some(event.hash);
            Ok(())
        })?;
        Ok(match broken {
            Some(seq) => Verified::Broken { seq },
            None => Verified::Whole { events: seq, head: before },
        })
    }

    fn event(&self, row: &Row<'_>) -> Result<Event, StoreError> {
        Ok(Event {
            seq: self.number(row, 0)?,
            at: self.time(row, 1)?,
            who: self.get(row, 2)?,
            kind: self.parse(row, 3, "kind of event")?,
            user: self.parse_if(row, 4, "user id")?,
            service: self.parse_if(row, 5, "service id")?,
            op: self.parse_if(row, 6, "op id")?,
            detail: self.get(row, 7)?,
            hash: self.parse(row, 8, "hash")?,
        })
    }

    fn parse_if<T>(
        &self,
        row: &Row<'_>,
        column: usize,
        what: &'static str,
    ) -> Result<Option<T>, StoreError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let is_there = self.get::<Option<String>>(row, column)?.is_some();
        if is_there { self.parse(row, column, what).map(Some) } else { Ok(None) }
    }

    /// When the last edit of the desired state was made that a pass has acted upon.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn last_edit_seen(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(seen) = self.meta("desired_seen")? else { return Ok(None) };
        let at = seen.split(' ').next().unwrap_or_default();
        at.parse().map(Some).map_err(|error| self.damaged("time", &error))
    }

    /// Tells of the edits of the desired state that no pass has seen yet.
    ///
    /// # Errors
    /// The database's; then nothing is told.
    pub fn tell_edits(&mut self, history: &[Entry], now: Timestamp) -> Result<(), StoreError> {
        let mark = |entry: &Entry| format!("{} {}", entry.at, entry.revision);
        let seen = self.meta("desired_seen")?;
        let known = history.iter().rposition(|entry| Some(mark(entry)) == seen);
        let new = &history[known.map_or(0, |place| place + 1)..];
        let Some(last) = new.last() else { return Ok(()) };
        self.in_transaction(|store| {
            for entry in new {
                let detail = format!("{} (revision {})", entry.what, entry.revision.short());
                let who = if entry.who.is_empty() { "unknown" } else { &entry.who };
                let told = Told {
                    who,
                    kind: EventKind::Desired,
                    user: None,
                    service: None,
                    op: None,
                    detail,
                };
                store.tell(told, now)?;
            }
            let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES ('desired_seen', ?1)";
            store.execute(sql, [mark(last)])
        })
    }
}
