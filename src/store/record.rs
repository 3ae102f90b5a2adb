//! Writing down what has begun and what was found. Each batch is all or nothing; many batches make
//! one transaction, since a commit costs the disk's fsync.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use crate::model::action::shown;
use crate::model::actual::{Actual, Backoff, Trouble};
use crate::model::event::EventKind;
use crate::model::home::HomeLook;
use crate::model::name::{AccountName, OpId, ServiceId, UserId};
use crate::model::outcome::{Change, NewGrant, Recorded};
use crate::model::token::{Ask, Binding, Move, Phase, later};

use super::events::Told;
use super::load::REMOVALS;
use super::schema::NOT_ENDED;
use super::seal::Identity;
use super::{Store, StoreError};

/// Who does what a pass does.
pub(super) const PASS: &str = "reconcile";
/// Why an answer is refused whose token somebody has.
const TAKEN: &str = "its token_id is the one of another token that we hold";

impl Store {
    /// Writes these batches in one durable transaction. A batch that fails leaves nothing and does
    /// not touch its neighbours.
    ///
    /// # Errors
    /// When the transaction cannot be committed: then nothing is written.
    pub fn record(
        &mut self,
        batches: Vec<Vec<Change>>,
        now: Timestamp,
    ) -> Result<Vec<Result<Recorded, StoreError>>, StoreError> {
        self.in_transaction(|store| {
            Ok(batches.into_iter().map(|batch| store.record_batch(batch, now)).collect())
        })
    }

    /// Runs this in one immediate transaction: committed if it succeeds, else as if it never was.
    pub(super) fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(self.database())?;
        let commit = || self.connection.execute_batch("COMMIT").map_err(self.database());
        let result = work(self).and_then(|value| commit().map(|()| value));
        if result.is_err() {
            // The first error is what counts; with a dead disk the rollback fails too.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        result
    }

    fn record_batch(&self, batch: Vec<Change>, now: Timestamp) -> Result<Recorded, StoreError> {
        self.connection.execute_batch("SAVEPOINT batch").map_err(self.database())?;
        let mut recorded = Recorded::default();
        let result =
            batch.into_iter().try_for_each(|change| self.apply(change, now, &mut recorded));
        let end = if result.is_ok() { "RELEASE batch" } else { "ROLLBACK TO batch; RELEASE batch" };
        self.connection.execute_batch(end).map_err(self.database())?;
        result.map(|()| recorded)
    }

    fn apply(
        &self,
        change: Change,
        now: Timestamp,
        recorded: &mut Recorded,
    ) -> Result<(), StoreError> {
        match change {
            Change::Begin { op, user, service, binding, ask } => {
                self.begin(&op, &user, &service, &binding, &ask, now)
            }
            Change::Grant { op, grant } => self.grant_token(&op, &grant, now, recorded),
            Change::Move { op, how } => self.move_token(&op, how, PASS, "", now),
            Change::Delivered { user, account, generation, uid, leaves } => {
                self.delivered(&user, &account, generation, uid, now)?;
                if leaves { self.leave_home(&user, &account) } else { Ok(()) }
            }
            Change::Backoff { user, service, backoff: None } => self.execute(
                "DELETE FROM backoff WHERE user = ?1 AND service = ?2",
                (user.as_str(), service.as_str()),
            ),
            Change::Backoff { user, service, backoff: Some(backoff) } => {
                self.back_off(&user, &service, backoff, now)
            }
            Change::Trouble { service, trouble: None } => {
                self.execute("DELETE FROM trouble WHERE service = ?1", [service.as_str()])?;
                self.tell_of_service(EventKind::Recovered, &service, String::new(), now)
            }
            Change::Trouble { service, trouble: Some(trouble) } => {
                self.trouble(&service, trouble, now)
            }
            Change::OweStray { op, ask, counts } => self.owe_stray(&op, &ask, counts, now),
            Change::Reissued { user, service } => self.reissue(&user, &service, now),
            Change::Removed { user, service } => self.removed(&user, &service, now),
        }
    }

    fn back_off(
        &self,
        user: &UserId,
        service: &ServiceId,
        backoff: Backoff,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Backoff { until, tries, wish, message } = backoff;
        let (kind, user_id, detail) = (EventKind::Failed, Some(user), message.clone());
        let told =
            Told { who: PASS, kind, user: user_id, service: Some(service), op: None, detail };
        self.tell(told, now)?;
        let until = until.as_microsecond();
        self.execute(
            "INSERT OR REPLACE INTO backoff (user, service, until, tries, wish, message) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (user.as_str(), service.as_str(), until, tries, wish.to_string(), message),
        )
    }

    fn trouble(
        &self,
        service: &ServiceId,
        trouble: Trouble,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Trouble { kind, until, tries, message } = trouble;
        self.tell_of_service(EventKind::Trouble, service, message.clone(), now)?;
        let (kind, until) = (self.json(&kind)?, until.as_microsecond());
        self.execute(
            "INSERT OR REPLACE INTO trouble (service, kind, until, tries, message) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (service.as_str(), kind, until, tries, message),
        )
    }

    pub(super) fn tell_of_service(
        &self,
        kind: EventKind,
        service: &ServiceId,
        detail: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let service = Some(service);
        self.tell(Told { who: PASS, kind, user: None, service, op: None, detail }, now)
    }

    /// Those of more than an hour ago count no more.
    fn removed(
        &self,
        user: &UserId,
        service: &ServiceId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let over = later(now, -REMOVALS).as_microsecond();
        self.execute("DELETE FROM removal WHERE at <= ?1", [over])?;
        self.execute(
            "INSERT INTO removal (user, service, at) VALUES (?1, ?2, ?3)",
            (user.as_str(), service.as_str(), now.as_microsecond()),
        )
    }

    fn begin(
        &self,
        op: &OpId,
        user: &UserId,
        service: &ServiceId,
        binding: &Binding,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let detail = format!("for {} days, at {}", ask.ttl_days, ask.endpoint.exchange_url);
        let (user_id, service_id) = (Some(user), Some(service));
        let kind = EventKind::Asked;
        let told =
            Told { who: PASS, kind, user: user_id, service: service_id, op: Some(op), detail };
        self.tell(told, now)?;
        self.insert_token(op, user, service, binding, ask, now)
    }

    /// A token that is being asked for.
    pub(super) fn insert_token(
        &self,
        op: &OpId,
        user: &UserId,
        service: &ServiceId,
        binding: &Binding,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let endpoint = self.json(&*ask.endpoint)?;
        self.execute("INSERT OR IGNORE INTO endpoint (body) VALUES (?1)", [&endpoint])?;
        self.execute(
            "INSERT INTO token (op, user, service, account, uid, email, endpoint, ttl_days, \
             asked_at, phase, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, \
             (SELECT id FROM endpoint WHERE body = ?7), ?8, ?9, 'issuing', ?10)",
            (
                op.as_str(),
                user.as_str(),
                service.as_str(),
                binding.account.as_str(),
                binding.uid,
                binding.email.as_str(),
                endpoint,
                ask.ttl_days,
                ask.at.as_microsecond(),
                now.as_microsecond(),
            ),
        )
    }

    fn grant_token(
        &self,
        op: &OpId,
        grant: &NewGrant,
        now: Timestamp,
        recorded: &mut Recorded,
    ) -> Result<(), StoreError> {
        let (user, service) = self.whose(op)?;
        if self.is_taken(&service, grant.token_id.as_str(), op)? {
            recorded.refused.push((op.clone(), TAKEN.to_owned()));
            return self.move_token(op, Move::RefuseAnswer, PASS, TAKEN, now);
        }
        let fingerprint = self.write_grant(op, &user, &service, grant)?;
        let detail = format!("key {fingerprint}, until {}", shown(grant.expires_at));
        self.move_token(op, Move::Grant, PASS, &detail, now)
    }

    /// What was granted, the key sealed. Returns what is shown in place of the key.
    pub(super) fn write_grant(
        &self,
        op: &OpId,
        user: &UserId,
        service: &ServiceId,
        grant: &NewGrant,
    ) -> Result<String, StoreError> {
        let keys = self.keys.as_ref().ok_or_else(|| self.damaged("key", &"opened to read"))?;
        let sealed = keys
            .seal(grant.api_key.expose(), Identity { op, user, service })
            .ok_or_else(|| self.damaged("key", &"it could not be sealed"))?;
        let fingerprint = keys.fingerprint(grant.api_key.expose()).to_string();
        self.execute(
            "UPDATE token SET token_id = ?2, expires_at = ?3, fingerprint = ?4, sealed = ?5 \
             WHERE op = ?1",
            (
                op.as_str(),
                grant.token_id.as_str(),
                grant.expires_at.as_microsecond(),
                &fingerprint,
                sealed,
            ),
        )?;
        Ok(fingerprint)
    }

    fn whose(&self, op: &OpId) -> Result<(UserId, ServiceId), StoreError> {
        let sql = "SELECT user, service FROM token WHERE op = ?1";
        let row = self.collect(sql, [op.as_str()], |row| {
            Ok((self.parse(row, 0, "user id")?, self.parse(row, 1, "service id")?))
        })?;
        row.into_iter().next().ok_or_else(|| self.damaged("op id", op))
    }

    fn is_taken(&self, service: &ServiceId, token_id: &str, op: &OpId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM token WHERE service = ?1 AND token_id = ?2 AND op <> ?3 \
                   AND phase IN ('active', 'retiring', 'revoking')";
        let values = [service.as_str(), token_id, op.as_str()];
        let found = self.connection.query_row(sql, values, |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(self.database())
    }

    /// Moves a token, and tells of it. A move that was made before is made again in peace.
    pub(super) fn move_token(
        &self,
        op: &OpId,
        how: Move,
        who: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let phase = self.phase_of(op)?.ok_or_else(|| self.damaged("op id", op))?;
        if how == Move::Unwant && phase == Phase::Revoking {
            return Ok(());
        }
        let next = phase.after(how)?;
        // A key that has ended is not kept, not even sealed.
        let sealed = if next.is_end() { ", sealed = NULL" } else { "" };
        let sql = format!("UPDATE token SET phase = ?2, since = ?3{sealed} WHERE op = ?1");
        self.execute(&sql, (op.as_str(), next.as_str(), now.as_microsecond()))?;
        let (user, service) = self.whose(op)?;
        let (user, service) = (Some(&user), Some(&service));
        let (kind, detail) = (how.into(), detail.to_owned());
        self.tell(Told { who, kind, user, service, op: Some(op), detail }, now)
    }

    fn delivered(
        &self,
        user: &UserId,
        account: &AccountName,
        generation: u64,
        uid: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(installed) = self.installed_in(user, account)? else { return Ok(()) };
        if installed.generation != generation {
            return Ok(());
        }
        self.execute(
            "UPDATE installed SET confirmed = 1 WHERE user = ?1 AND account = ?2 AND confirmed = 0",
            (user.as_str(), account.as_str()),
        )?;
        let (kind, detail) = (EventKind::Put, format!("generation {generation} into {account}"));
        let told = Told { who: PASS, kind, user: Some(user), service: None, op: None, detail };
        self.tell(told, now)?;
        for op in installed.pieces.values().filter_map(|piece| piece.op.as_ref()) {
            self.deliver_token(op, generation, uid, now)?;
        }
        Ok(())
    }

    /// Forgets a home that holds nothing of ours any more.
    fn leave_home(&self, user: &UserId, account: &AccountName) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM installed WHERE user = ?1 AND account = ?2 AND pieces = '{}'",
            (user.as_str(), account.as_str()),
        )
    }

    /// Marks a token as delivered; the older ones of its connection retire.
    fn deliver_token(
        &self,
        op: &OpId,
        generation: u64,
        uid: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let generation = i64::try_from(generation).unwrap_or(i64::MAX); // bounded by `fill`
        self.execute(
            "UPDATE token SET delivered_at = coalesce(delivered_at, ?2), \
             delivered_generation = coalesce(delivered_generation, ?3), uid = coalesce(uid, ?4) \
             WHERE op = ?1 AND delivered_at IS NULL",
            (op.as_str(), now.as_microsecond(), generation, uid),
        )?;
        if self.connection.changes() > 0 {
            let (user, service) = self.whose(op)?;
            let (user, service, kind) = (Some(&user), Some(&service), EventKind::Delivered);
            let detail = format!("generation {generation}");
            self.tell(Told { who: PASS, kind, user, service, op: Some(op), detail }, now)?;
        }
        let older = format!(
            "SELECT op FROM token WHERE (user, service) = (SELECT user, service FROM token \
             WHERE op = ?1 AND phase = 'active') AND phase = 'active' AND {NOT_ENDED} \
             AND seq < (SELECT seq FROM token WHERE op = ?1)"
        );
        let older: Vec<OpId> =
            self.collect(&older, [op.as_str()], |row| self.parse(row, 0, "op id"))?;
        older.iter().try_for_each(|op| self.move_token(op, Move::Retire, PASS, "", now))
    }

    /// Records since when accounts are absent, where that changed.
    ///
    /// # Errors
    /// The database's.
    pub fn note_absences(
        &mut self,
        accounts: &[(UserId, AccountName)],
        actual: &mut Actual,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (mut new, mut over) = (Vec::new(), Vec::new());
        for (user, account) in accounts {
            let known = actual.absent_since.contains_key(user);
            match actual.homes.get(account) {
                Some(HomeLook::Absent(absence)) if absence.kind.is_leaving() && !known => {
                    new.push(user.clone());
                }
                Some(HomeLook::Seen(_)) if known => over.push(user.clone()),
                // Not looked at, or could not: nothing is known that was not known before.
                _ => {}
            }
        }
        if new.is_empty() && over.is_empty() {
            return Ok(());
        }
        self.in_transaction(|store| {
            let insert = "INSERT OR IGNORE INTO absence (user, since) VALUES (?1, ?2)";
            new.iter().try_for_each(|user| {
                store.execute(insert, (user.as_str(), now.as_microsecond()))
            })?;
            let delete = "DELETE FROM absence WHERE user = ?1";
            over.iter().try_for_each(|user| store.execute(delete, [user.as_str()]))
        })?;
        actual.absent_since.extend(new.into_iter().map(|user| (user, now)));
        actual.absent_since.retain(|user, _| !over.contains(user));
        Ok(())
    }
}
