//! What the services' own lists of tokens showed, until the next list or until it is acted upon.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::Row;

use crate::model::actual::Trouble;
use crate::model::event::EventKind;
use crate::model::name::{Email, OpId, ServiceId, TokenId, UserId};
use crate::model::sweep::{Found, Missing, Record, Stray, Sweep};
use crate::model::token::{Ask, Token, later};

use super::events::Told;
use super::load::REMOVALS;
use super::record::PASS;
use super::schema::{LIVE, NOT_ENDED};
use super::{Store, StoreError};

/// The address of a stray that the service issued for none.
const NO_ADDRESS: &str = "nobody@invalid";

/// What a sweep of one service came to.
pub struct SweepFound {
    /// Which.
    pub service: ServiceId,
    /// The list as a whole.
    pub record: Record,
    /// What it shows; none when there is no list.
    pub found: Option<Found>,
}

impl Store {
    /// What the last lists showed, but for strays that were dealt with since.
    pub(super) fn sweeps(&self) -> Result<BTreeMap<ServiceId, Sweep>, StoreError> {
        let rows = self.collect("SELECT service, body FROM sweep", [], |row| {
            let record: Record = self.read_json("sweep", &self.get::<String>(row, 1)?)?;
            let sweep = Sweep { record, strays: Vec::new(), missing: BTreeMap::new() };
            Ok((self.parse(row, 0, "service id")?, sweep))
        })?;
        let mut sweeps: BTreeMap<ServiceId, Sweep> = rows.into_iter().collect();
        for (service, stray) in self.strays()? {
            if let Some(sweep) = sweeps.get_mut(&service) {
                sweep.strays.push(stray);
            }
        }
        for (service, op, missing) in self.missing()? {
            if let Some(sweep) = sweeps.get_mut(&service) {
                sweep.missing.insert(op, missing);
            }
        }
        Ok(sweeps)
    }

    /// One whose token came here by an import since is none any more.
    fn strays(&self) -> Result<Vec<(ServiceId, Stray)>, StoreError> {
        let sql = format!(
            "SELECT service, op, user, email, token_id, expires_at FROM stray WHERE NOT EXISTS \
             (SELECT 1 FROM token WHERE token.op = stray.op AND {NOT_ENDED}) AND NOT EXISTS \
             (SELECT 1 FROM token WHERE token.service = stray.service \
             AND token.token_id = stray.token_id \
             AND phase IN ('active', 'retiring', 'revoking'))"
        );
        self.collect(&sql, [], |row| Ok((self.parse(row, 0, "service id")?, self.stray(row, 1)?)))
    }

    fn stray(&self, row: &Row<'_>, first: usize) -> Result<Stray, StoreError> {
        Ok(Stray {
            op: self.parse(row, first, "op id")?,
            user: self.parse(row, first + 1, "user id")?,
            email: self.perhaps(row, first + 2, "e-mail address")?,
            token_id: self.perhaps(row, first + 3, "token id")?,
            expires_at: self.time(row, first + 4)?,
        })
    }

    fn perhaps<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        row: &Row<'_>,
        column: usize,
        what: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.get(row, column)?;
        let read = |text: String| text.parse().map_err(|error: T::Err| self.damaged(what, &error));
        text.map(read).transpose()
    }

    fn missing(&self) -> Result<Vec<(ServiceId, OpId, Missing)>, StoreError> {
        let sql = "SELECT service, op, since, counted, times FROM missing";
        self.collect(sql, [], |row| {
            let missing = Missing {
                since: self.time(row, 2)?,
                counted: self.time(row, 3)?,
                times: self.get(row, 4)?,
            };
            Ok((self.parse(row, 0, "service id")?, self.parse(row, 1, "op id")?, missing))
        })
    }

    pub(super) fn recent_strays(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(UserId, ServiceId)>, StoreError> {
        let after = [later(now, -REMOVALS).as_microsecond()];
        self.collect("SELECT user, service FROM stray_removal WHERE at > ?1", after, |row| {
            Ok((self.parse(row, 0, "user id")?, self.parse(row, 1, "service id")?))
        })
    }

    pub(super) fn reissued(&self) -> Result<BTreeMap<(UserId, ServiceId), Timestamp>, StoreError> {
        let rows = self.collect("SELECT user, service, at FROM reissue", [], |row| {
            let user: UserId = self.parse(row, 0, "user id")?;
            Ok(((user, self.parse(row, 1, "service id")?), self.time(row, 2)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// The op ids of all tokens that are live.
    ///
    /// # Errors
    /// The database's.
    pub fn live_ops(&self) -> Result<BTreeSet<OpId>, StoreError> {
        let sql = format!("SELECT op FROM token WHERE {NOT_ENDED} AND {LIVE}");
        Ok(self.collect(&sql, [], |row| self.parse(row, 0, "op id"))?.into_iter().collect())
    }

    /// All tokens that have not ended, by service.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn tokens_by_service(&self) -> Result<BTreeMap<ServiceId, Vec<Token>>, StoreError> {
        let mut all: BTreeMap<ServiceId, Vec<Token>> = BTreeMap::new();
        for token in self.load_tokens(None)? {
            all.entry(token.service.clone()).or_default().push(token);
        }
        Ok(all)
    }

    /// Services in trouble.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn troubles(&self) -> Result<BTreeMap<ServiceId, Trouble>, StoreError> {
        self.load_troubles()
    }

    /// What the services' lists showed last.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn last_sweeps(&self) -> Result<BTreeMap<ServiceId, Sweep>, StoreError> {
        self.sweeps()
    }

    /// How many tokens that may stand on a list of that time are, or may be, ended since.
    ///
    /// # Errors
    /// The database's.
    pub fn ended_since(
        &self,
        service: &ServiceId,
        list: Timestamp,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM token WHERE service = ?1 AND asked_at <= ?2 AND \
                   (phase = 'revoking' OR expires_at BETWEEN ?2 AND ?3 \
                   OR phase IN ('revoked', 'expired', 'lost', 'forgotten') AND since > ?2)";
        let values = (service.as_str(), list.as_microsecond(), now.as_microsecond());
        let counts = self.collect(sql, values, |row| self.count(row, 0))?;
        Ok(counts.into_iter().sum())
    }

    /// The service's tokens that have ended since then.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn ended_ops_since(
        &self,
        service: &ServiceId,
        since: Timestamp,
    ) -> Result<BTreeSet<OpId>, StoreError> {
        let sql = "SELECT op FROM token WHERE service = ?1 AND since >= ?2 \
                   AND phase IN ('revoked', 'expired', 'lost', 'forgotten')";
        let values = (service.as_str(), since.as_microsecond());
        Ok(self.collect(sql, values, |row| self.parse(row, 0, "op id"))?.into_iter().collect())
    }

    /// Whose a token is or was, if it was ever known here.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn user_of(&self, op: &OpId) -> Result<Option<UserId>, StoreError> {
        let sql = "SELECT user FROM token WHERE op = ?1";
        Ok(self.collect(sql, [op.as_str()], |row| self.parse(row, 0, "user id"))?.pop())
    }

    /// Remembers what sweeps found, in place of what was found before. Where no list could be had,
    /// what the one before showed stays, and is not acted upon.
    ///
    /// # Errors
    /// The database's.
    pub fn record_sweeps(
        &mut self,
        found: &[SweepFound],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = self.sweeps()?;
        self.in_transaction(|store| {
            found.iter().try_for_each(|sweep| {
                let former = before.get(&sweep.service).and_then(|of| of.record.frozen.as_ref());
                match (&sweep.record.frozen, former) {
                    (Some(frozen), None) => {
                        let (kind, why) = (EventKind::Trouble, frozen.why.clone());
                        store.tell_of_service(kind, &sweep.service, why, now)?;
                    }
                    (None, Some(_)) => {
                        let why = "its list of tokens is good again".to_owned();
                        store.tell_of_service(EventKind::Recovered, &sweep.service, why, now)?;
                    }
                    (None, None) | (Some(_), Some(_)) => {}
                }
                store.record_sweep(sweep)
            })
        })
    }

    fn record_sweep(&self, sweep: &SweepFound) -> Result<(), StoreError> {
        self.write_record(&sweep.service, &sweep.record)?;
        let (Some(found), service) = (&sweep.found, sweep.service.as_str()) else { return Ok(()) };
        self.execute("DELETE FROM stray WHERE service = ?1", [service])?;
        self.execute("DELETE FROM missing WHERE service = ?1", [service])?;
        for stray in &found.strays {
            self.execute(
                "INSERT INTO stray (op, service, user, email, token_id, expires_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    stray.op.as_str(),
                    service,
                    stray.user.as_str(),
                    stray.email.as_ref().map(Email::as_str),
                    stray.token_id.as_ref().map(TokenId::as_str),
                    stray.expires_at.as_microsecond(),
                ),
            )?;
        }
        for (op, Missing { since, counted, times }) in &found.missing {
            let (since, counted) = (since.as_microsecond(), counted.as_microsecond());
            self.execute(
                "INSERT INTO missing (op, service, since, counted, times) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                (op.as_str(), service, since, counted, times),
            )?;
        }
        Ok(())
    }

    fn write_record(&self, service: &ServiceId, record: &Record) -> Result<(), StoreError> {
        let values = (service.as_str(), self.json(record)?);
        self.execute("INSERT OR REPLACE INTO sweep (service, body) VALUES (?1, ?2)", values)
    }

    /// Records that somebody says that a list that lost much is right.
    ///
    /// # Errors
    /// The database's.
    pub fn believe_list(
        &mut self,
        service: &ServiceId,
        record: Record,
        who: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let detail = "its list of tokens as it is".to_owned();
        let (kind, of) = (EventKind::Approved, Some(service));
        let told = Told { who, kind, user: None, service: of, op: None, detail };
        self.in_transaction(|store| {
            store.tell(told, now)?;
            store.write_record(service, &record.believed())
        })
    }

    /// Makes a debt of a stray: it is revoked by our own name for it, where the list is.
    pub(super) fn owe_stray(
        &self,
        op: &OpId,
        ask: &Ask,
        counts: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "SELECT service, op, user, email, token_id, expires_at FROM stray WHERE op = ?1";
        let stray = self.collect(sql, [op.as_str()], |row| {
            Ok((self.parse::<ServiceId>(row, 0, "service id")?, self.stray(row, 1)?))
        })?;
        let Some((service, stray)) = stray.into_iter().next() else { return Ok(()) };
        self.execute("DELETE FROM stray WHERE op = ?1", [op.as_str()])?;
        if counts {
            self.count_stray(&stray.user, &service, now)?;
        }
        self.insert_debt(&stray, &service, ask, now)?;
        let detail = format!("the service has it until {}", stray.expires_at);
        let (kind, user, of) = (EventKind::Stray, Some(&stray.user), Some(&service));
        self.tell(Told { who: PASS, kind, user, service: of, op: Some(op), detail }, now)
    }

    /// A token that the state never knew, or took for ended: it begins as a debt.
    fn insert_debt(
        &self,
        stray: &Stray,
        service: &ServiceId,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let endpoint = self.json(&*ask.endpoint)?;
        self.execute("INSERT OR IGNORE INTO endpoint (body) VALUES (?1)", [&endpoint])?;
        // What an ended one was granted is dropped: it goes by the name that the list has.
        self.execute(
            "INSERT INTO token (op, user, service, account, email, endpoint, ttl_days, asked_at, \
             phase, since) VALUES (?1, ?2, ?3, ?2, ?4, \
             (SELECT id FROM endpoint WHERE body = ?5), ?6, ?7, 'revoking', ?8) \
             ON CONFLICT (op) DO UPDATE SET phase = 'revoking', since = excluded.since, \
             endpoint = excluded.endpoint, token_id = NULL, expires_at = NULL, \
             fingerprint = NULL, sealed = NULL \
             WHERE phase IN ('revoked', 'expired', 'lost', 'forgotten')",
            (
                stray.op.as_str(),
                stray.user.as_str(), // an account's name has the same alphabet
                service.as_str(),
                stray.email.as_ref().map_or(NO_ADDRESS, Email::as_str),
                endpoint,
                ask.ttl_days,
                ask.at.as_microsecond(),
                now.as_microsecond(),
            ),
        )
    }

    fn count_stray(
        &self,
        user: &UserId,
        service: &ServiceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let over = later(now, -REMOVALS).as_microsecond();
        self.execute("DELETE FROM stray_removal WHERE at <= ?1", [over])?;
        let values = (user.as_str(), service.as_str(), now.as_microsecond());
        self.execute("INSERT INTO stray_removal (user, service, at) VALUES (?1, ?2, ?3)", values)
    }

    /// A key is being replaced because the list lacks it.
    pub(super) fn reissue(
        &self,
        user: &UserId,
        service: &ServiceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let values = (user.as_str(), service.as_str(), now.as_microsecond());
        let sql = "INSERT OR REPLACE INTO reissue (user, service, at) VALUES (?1, ?2, ?3)";
        self.execute(sql, values)
    }
}
