//! What passes leave to be shown to who may only look: figures of the fleet, the services' health, and
//! the last plan. No key is in any of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::schema::NOT_ENDED;
use super::{Store, StoreError};
use crate::model::actual::TroubleKind;
use crate::model::name::ServiceId;
use crate::model::token::{Phase, later};

/// The version of the documents' field names. New fields may come within it.
pub const VERSION: u32 = 1;

/// A document that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// [`Fleet`].
    Fleet,
    /// [`Health`].
    Health,
    /// The plan of the last pass of everything.
    Plan,
    /// The plan of the last pass of single users.
    PlanOfUsers,
}

impl Shown {
    fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Health => "health",
            Self::Plan => "plan",
            Self::PlanOfUsers => "plan_of_users",
        }
    }
}

/// A fleet in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// [`VERSION`].
    pub version: u32,
    /// Each service that somebody has, or had, something of.
    pub services: BTreeMap<ServiceId, ServiceFigures>,
    /// Removals that the guard held in the last pass of everything.
    pub held: usize,
}

/// One service in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFigures {
    /// Tokens that have not ended, by phase.
    pub tokens: BTreeMap<Phase, usize>,
    /// Since when the oldest revoke is owed.
    pub oldest_debt: Option<Timestamp>,
    /// When the next key that works ends by itself.
    pub next_expiry: Option<Timestamp>,
    /// Keys that work, and should have been renewed long ago: less than a twelfth of their life is
    /// left, and less than 12 hours. (Renewal is due with a third of it left at the latest, unless the
    /// registry has it later.)
    #[serde(default)]
    pub renewals_late: usize,
    /// Connections that failed and wait.
    pub backoffs: usize,
    /// Tokens of contract v1 that may exist, and nobody can tell.
    pub possible_orphans: usize,
}

/// How the services are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// [`VERSION`].
    pub version: u32,
    /// Those that can be used, and those that something is held of.
    pub services: BTreeMap<ServiceId, ServiceHealth>,
}

/// How a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// What is wrong with it as a whole.
    pub trouble: Option<TroubleShown>,
    /// Why its list of tokens cannot be relied on, if so.
    pub list_frozen: Option<String>,
    /// The last call of any pass, if there was one.
    pub last_call: Option<LastCall>,
}

/// What is wrong with a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleShown {
    /// What.
    pub kind: TroubleKind,
    /// Not called before this time.
    pub until: Timestamp,
    /// For people.
    pub message: String,
}

/// A call to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCall {
    /// When it ended.
    pub at: Timestamp,
    /// `issue`, `revoke`, `list` or `health`.
    pub call: String,
    /// In milliseconds.
    pub took_ms: u64,
    /// `ok`, or what came instead: a word of [`crate::exchange::seen`].
    pub result: String,
}

impl LastCall {
    /// Whether the service said anything, be it no.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self.result.as_str(), "unreached" | "unknown")
    }
}

impl Store {
    /// Counts the fleet.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn fleet(&self, held: usize, now: Timestamp) -> Result<Fleet, StoreError> {
        let mut fleet = Fleet { version: VERSION, services: BTreeMap::new(), held };
        let sql =
            format!("SELECT service, phase, tokens FROM tally WHERE {NOT_ENDED} AND tokens > 0");
        let rows = self.collect(&sql, [], |row| {
            Ok((self.parse(row, 0, "service id")?, self.phase(row, 1)?, self.count(row, 2)?))
        })?;
        for (service, phase, count) in rows {
            let figures: &mut ServiceFigures = fleet.services.entry(service).or_default();
            figures.tokens.insert(phase, count);
        }
        for (service, figures) in &mut fleet.services {
            figures.oldest_debt = self.oldest_debt(service)?;
            figures.next_expiry = self.next_expiry(service)?;
            figures.renewals_late = self.renewals_late(service, now)?;
        }
        for (service, count) in self.backoffs_by_service()? {
            fleet.services.entry(service).or_default().backoffs = count;
        }
        for lost in self.lost(now)? {
            fleet.services.entry(lost.service).or_default().possible_orphans += 1;
        }
        Ok(fleet)
    }

    fn oldest_debt(&self, service: &ServiceId) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT since FROM token WHERE service = ?1 AND phase = 'revoking' \
                   ORDER BY since LIMIT 1";
        Ok(self.collect(sql, [service.as_str()], |row| self.time(row, 0))?.pop())
    }

    fn next_expiry(&self, service: &ServiceId) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT expires_at FROM token WHERE service = ?1 AND phase = 'active' \
                   AND expires_at IS NOT NULL ORDER BY expires_at LIMIT 1";
        Ok(self.collect(sql, [service.as_str()], |row| self.time(row, 0))?.pop())
    }

    fn renewals_late(&self, service: &ServiceId, now: Timestamp) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM token INDEXED BY token_expiry \
                   WHERE service = ?1 AND phase = 'active' AND expires_at < ?3 \
                   AND (expires_at - ?2) * 12 < expires_at - asked_at";
        let soon = later(now, SignedDuration::from_hours(12));
        let values = (service.as_str(), now.as_microsecond(), soon.as_microsecond());
        Ok(self.collect(sql, values, |row| self.count(row, 0))?.into_iter().sum())
    }

    fn backoffs_by_service(&self) -> Result<Vec<(ServiceId, usize)>, StoreError> {
        let sql = "SELECT service, count(*) FROM backoff GROUP BY service";
        self.collect(sql, [], |row| Ok((self.parse(row, 0, "service id")?, self.count(row, 1)?)))
    }

    /// How the services are, as far as the state knows.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn health(&self) -> Result<Health, StoreError> {
        let mut health = Health { version: VERSION, services: BTreeMap::new() };
        for (service, trouble) in self.load_troubles()? {
            let (kind, until, message) = (trouble.kind, trouble.until, trouble.message);
            let of: &mut ServiceHealth = health.services.entry(service).or_default();
            of.trouble = Some(TroubleShown { kind, until, message });
        }
        for (service, sweep) in self.last_sweeps()? {
            let of = health.services.entry(service).or_default();
            of.list_frozen = sweep.record.frozen.map(|frozen| frozen.why);
        }
        Ok(health)
    }

    /// Leaves a document to be shown.
    ///
    /// # Errors
    /// The database's.
    pub fn show(
        &self,
        what: Shown,
        body: &impl Serialize,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let values = (what.name(), now.as_microsecond(), self.json(body)?);
        self.execute("INSERT OR REPLACE INTO shown (name, at, body) VALUES (?1, ?2, ?3)", values)
    }

    /// A document that was left, and when.
    ///
    /// # Errors
    /// The database's.
    pub fn shown(&self, what: Shown) -> Result<Option<(Timestamp, String)>, StoreError> {
        let sql = "SELECT at, body FROM shown WHERE name = ?1";
        let rows =
            self.collect(sql, [what.name()], |row| Ok((self.time(row, 0)?, self.get(row, 1)?)));
        Ok(rows?.pop())
    }
}
