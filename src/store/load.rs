//! From rows to what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row};

use crate::model::actual::{Actual, Backoff, Elsewhere, Installed, Trouble};
use crate::model::digest::Digest;
use crate::model::name::{AccountName, OpId, ServiceId, TokenId, UserId};
use crate::model::registry::{Endpoint, Rendition};
use crate::model::token::{Ask, Binding, Delivery, Grant, Phase, Token, days, later};

use super::schema::{LIVE, NOT_ENDED};
use super::{Store, StoreError};

/// An approval is good for so long.
pub(super) const APPROVAL: SignedDuration = SignedDuration::from_hours(24);
/// Removals of this long ago count against the guard's limits.
pub(super) const REMOVALS: SignedDuration = SignedDuration::from_hours(1);

/// More users than this with access to something make no difference to anything.
const MANY: usize = 2;

const TOKEN: &str = "SELECT op, user, service, account, uid, email, endpoint, ttl_days, asked_at, \
    phase, since, token_id, expires_at, fingerprint, key_readable, delivered_at, \
    delivered_generation FROM token";

/// A token of contract v1 that may exist, and nobody can tell.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LostToken {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// If it exists, it ends by itself at this time.
    pub until: Timestamp,
}

/// How a token is revoked.
pub struct RevokeTarget {
    /// Of which service.
    pub service: ServiceId,
    /// Where.
    pub endpoint: Arc<Endpoint>,
    /// By the service's own name for it; none: by the op id.
    pub token_id: Option<TokenId>,
}

impl Store {
    /// What the state holds; with `only`, of these users. Homes are not in it: looking at them
    /// is another's work.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn load(
        &self,
        now: Timestamp,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<Actual, StoreError> {
        let mut actual = Actual {
            installed: self.load_installed(only)?,
            renditions: self.load_renditions()?,
            backoffs: self.load_backoffs(only)?,
            troubles: self.load_troubles()?,
            laptops: self.load_laptops(only)?,
            absent_since: self.load_absences(only)?,
            recent_removals: self.load_removals(now)?,
            recent_strays: self.recent_strays(now)?,
            sweeps: self.sweeps()?,
            reissued: self.reissued()?,
            approved: self.load_approved(now)?,
            arriving: self.pending_import()?,
            elsewhere: only
                .map(|users| self.load_elsewhere(users))
                .transpose()?
                .unwrap_or_default(),
            ..Actual::default()
        };
        for token in self.load_tokens(only)? {
            let of_user = actual.tokens.entry(token.user.clone()).or_default();
            of_user.entry(token.service.clone()).or_default().push(token);
        }
        Ok(actual)
    }

    pub(super) fn load_tokens(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<Vec<Token>, StoreError> {
        let endpoints = self.load_endpoints()?;
        let sql = format!("{TOKEN} WHERE {NOT_ENDED} {} ORDER BY seq", and_of(only));
        self.collect(&sql, values(only), |row| self.token(row, &endpoints))
    }

    fn load_elsewhere(&self, users: &BTreeSet<UserId>) -> Result<Elsewhere, StoreError> {
        let among = names(users);
        let sql = format!(
            "SELECT service, coalesce((SELECT users FROM connected \
             WHERE connected.service = tally.service), 0) - (SELECT count(DISTINCT user) \
             FROM token INDEXED BY token_not_ended WHERE user {AMONG} \
             AND token.service = tally.service AND {NOT_ENDED} AND {LIVE}) \
             FROM tally WHERE {NOT_ENDED} AND tokens > 0 GROUP BY service"
        );
        let connections = self.collect(&sql, [&among], |row| {
            Ok((self.parse(row, 0, "service id")?, self.count(row, 1)?))
        })?;
        let connections: BTreeMap<ServiceId, usize> = connections.into_iter().collect();
        let sql = format!(
            "SELECT count(*) FROM (SELECT DISTINCT user FROM token INDEXED BY token_not_ended \
             WHERE {NOT_ENDED} AND {LIVE} AND user NOT {AMONG} LIMIT {MANY})"
        );
        let is_anybody = connections.values().any(|users| *users > 0);
        let count = || self.collect(&sql, [&among], |row| self.count(row, 0));
        let users = if is_anybody { count()?.into_iter().sum() } else { 0 };
        Ok(Elsewhere { connections, users })
    }

    fn load_endpoints(&self) -> Result<BTreeMap<i64, Arc<Endpoint>>, StoreError> {
        let rows = self.collect("SELECT id, body FROM endpoint", [], |row| {
            let body: String = self.get(row, 1)?;
            Ok((self.get(row, 0)?, Arc::new(self.read_json("endpoint", &body)?)))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn token(
        &self,
        row: &Row<'_>,
        endpoints: &BTreeMap<i64, Arc<Endpoint>>,
    ) -> Result<Token, StoreError> {
        let endpoint: i64 = self.get(row, 6)?;
        let endpoint = endpoints.get(&endpoint).cloned();
        let endpoint = endpoint.ok_or_else(|| self.damaged("token", &"no endpoint"))?;
        Ok(Token {
            op: self.parse(row, 0, "op id")?,
            user: self.parse(row, 1, "user id")?,
            service: self.parse(row, 2, "service id")?,
            binding: Binding {
                account: self.parse(row, 3, "account")?,
                uid: self.get(row, 4)?,
                email: self.parse(row, 5, "e-mail address")?,
            },
            ask: Ask { endpoint, ttl_days: self.get(row, 7)?, at: self.time(row, 8)? },
            phase: self.phase(row, 9)?,
            since: self.time(row, 10)?,
            grant: self.grant(row)?,
            key_readable: self.get(row, 14)?,
            delivered: self.delivery(row)?,
        })
    }

    fn grant(&self, row: &Row<'_>) -> Result<Option<Grant>, StoreError> {
        let Some(token_id) = self.get::<Option<String>>(row, 11)? else { return Ok(None) };
        let token_id = token_id.parse().map_err(|error| self.damaged("token id", &error))?;
        let fingerprint: String = self.get(row, 13)?;
        let fingerprint =
            fingerprint.parse().map_err(|error| self.damaged("fingerprint", &error))?;
        Ok(Some(Grant { token_id, expires_at: self.time(row, 12)?, fingerprint }))
    }

    fn delivery(&self, row: &Row<'_>) -> Result<Option<Delivery>, StoreError> {
        if self.get::<Option<i64>>(row, 15)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Delivery { at: self.time(row, 15)?, generation: self.number(row, 16)? }))
    }

    pub(super) fn load_installed(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<BTreeMap<UserId, BTreeMap<AccountName, Installed>>, StoreError> {
        let sql = format!(
            "SELECT user, account, generation, env, skills, pieces, confirmed FROM installed \
             WHERE TRUE {}",
            and_of(only)
        );
        let mut all: BTreeMap<UserId, BTreeMap<AccountName, Installed>> = BTreeMap::new();
        let rows = self.collect(&sql, values(only), |row| {
            let account: AccountName = self.parse(row, 1, "account")?;
            Ok((self.parse(row, 0, "user id")?, account, self.installed(row, 2)?))
        })?;
        for (user, account, installed) in rows {
            all.entry(user).or_default().insert(account, installed);
        }
        Ok(all)
    }

    /// What is recorded of one home.
    pub(super) fn installed_in(
        &self,
        user: &UserId,
        account: &AccountName,
    ) -> Result<Option<Installed>, StoreError> {
        let sql = "SELECT generation, env, skills, pieces, confirmed FROM installed \
                   WHERE user = ?1 AND account = ?2";
        let values = [user.as_str(), account.as_str()];
        Ok(self.collect(sql, values, |row| self.installed(row, 0))?.pop())
    }

    fn installed(&self, row: &Row<'_>, first: usize) -> Result<Installed, StoreError> {
        let skills: String = self.get(row, first + 2)?;
        let pieces: String = self.get(row, first + 3)?;
        Ok(Installed {
            generation: self.number(row, first)?,
            env: self.parse(row, first + 1, "digest")?,
            skills: self.read_json("skills", &skills)?,
            pieces: self.read_json("pieces", &pieces)?,
            confirmed: self.get(row, first + 4)?,
        })
    }

    fn load_renditions(&self) -> Result<BTreeMap<Digest, Rendition>, StoreError> {
        let rows = self.collect("SELECT digest, body FROM rendition", [], |row| {
            let body: String = self.get(row, 1)?;
            Ok((self.parse(row, 0, "digest")?, self.read_json("rendition", &body)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    pub(super) fn load_backoffs(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<BTreeMap<UserId, BTreeMap<ServiceId, Backoff>>, StoreError> {
        let columns = "SELECT user, service, until, tries, wish, message FROM backoff";
        let sql = format!("{columns} WHERE TRUE {}", and_of(only));
        let mut all: BTreeMap<UserId, BTreeMap<ServiceId, Backoff>> = BTreeMap::new();
        let rows = self.collect(&sql, values(only), |row| {
            let backoff = Backoff {
                until: self.time(row, 2)?,
                tries: self.get(row, 3)?,
                wish: self.parse(row, 4, "digest")?,
                message: self.get(row, 5)?,
            };
            let user: UserId = self.parse(row, 0, "user id")?;
            Ok((user, self.parse(row, 1, "service id")?, backoff))
        })?;
        for (user, service, backoff) in rows {
            all.entry(user).or_default().insert(service, backoff);
        }
        Ok(all)
    }

    pub(super) fn load_troubles(&self) -> Result<BTreeMap<ServiceId, Trouble>, StoreError> {
        let sql = "SELECT service, kind, until, tries, message FROM trouble";
        let rows = self.collect(sql, [], |row| {
            let kind: String = self.get(row, 1)?;
            let trouble = Trouble {
                kind: self.read_json("trouble", &kind)?,
                until: self.time(row, 2)?,
                tries: self.get(row, 3)?,
                message: self.get(row, 4)?,
            };
            Ok((self.parse(row, 0, "service id")?, trouble))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn load_absences(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<BTreeMap<UserId, Timestamp>, StoreError> {
        let sql = format!("SELECT user, since FROM absence WHERE TRUE {}", and_of(only));
        let rows = self.collect(&sql, values(only), |row| {
            Ok((self.parse(row, 0, "user id")?, self.time(row, 1)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn load_removals(&self, now: Timestamp) -> Result<Vec<(UserId, ServiceId)>, StoreError> {
        let after = [later(now, -REMOVALS).as_microsecond()];
        self.collect("SELECT user, service FROM removal WHERE at > ?1", after, |row| {
            Ok((self.parse(row, 0, "user id")?, self.parse(row, 1, "service id")?))
        })
    }

    fn load_approved(&self, now: Timestamp) -> Result<Vec<Digest>, StoreError> {
        let after = [later(now, -APPROVAL).as_microsecond()];
        let sql = "SELECT digest FROM approval WHERE at > ?1";
        self.collect(sql, after, |row| self.parse(row, 0, "digest"))
    }

    /// Tokens of contract v1 that may exist and that nobody can tell of.
    ///
    /// # Errors
    /// The database's.
    pub fn lost(&self, now: Timestamp) -> Result<Vec<LostToken>, StoreError> {
        let sql = "SELECT user, service, asked_at, ttl_days FROM token WHERE phase = 'lost'";
        let mut lost = self.collect(sql, [], |row| {
            let until = later(self.time(row, 2)?, days(self.get(row, 3)?));
            let user = self.parse(row, 0, "user id")?;
            Ok(LostToken { user, service: self.parse(row, 1, "service id")?, until })
        })?;
        lost.retain(|token| token.until > now);
        Ok(lost)
    }

    /// How a token is revoked. One that was never granted, or whose grant was refused, by its op
    /// id; any other by the service's name for it.
    ///
    /// # Errors
    /// The database's.
    pub fn revoke_target(&self, op: &OpId) -> Result<Option<RevokeTarget>, StoreError> {
        let endpoints = self.load_endpoints()?;
        let sql = format!("{TOKEN} WHERE op = ?1");
        let token = self.collect(&sql, [op.as_str()], |row| self.token(row, &endpoints))?.pop();
        Ok(token.map(|token| RevokeTarget {
            service: token.service,
            endpoint: token.ask.endpoint,
            token_id: token.grant.map(|grant| grant.token_id),
        }))
    }

    /// The phase of a token, whatever it is.
    pub(super) fn phase_of(&self, op: &OpId) -> Result<Option<Phase>, StoreError> {
        let sql = "SELECT phase FROM token WHERE op = ?1";
        let row = |row: &Row<'_>| row.get::<_, String>(0);
        let text = self.connection.query_row(sql, [op.as_str()], row).optional();
        let text = text.map_err(self.database())?;
        text.map(|text| self.phase_named(&text)).transpose()
    }

    pub(super) fn collect<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(self.database())?;
        let mut rows = statement.query(values).map_err(self.database())?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(self.database())? {
            all.push(read(row)?);
        }
        Ok(all)
    }

    pub(super) fn get<T: rusqlite::types::FromSql>(
        &self,
        row: &Row<'_>,
        column: usize,
    ) -> Result<T, StoreError> {
        row.get(column).map_err(self.database())
    }

    pub(super) fn parse<T>(
        &self,
        row: &Row<'_>,
        column: usize,
        what: &'static str,
    ) -> Result<T, StoreError>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        let text = row.get_ref(column).map_err(self.database())?;
        let text = text.as_str().map_err(|error| self.damaged(what, &error))?;
        text.parse().map_err(|error: T::Err| self.damaged(what, &error))
    }

    pub(super) fn time(&self, row: &Row<'_>, column: usize) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(self.get(row, column)?)
            .map_err(|error| self.damaged("time", &error))
    }

    pub(super) fn number(&self, row: &Row<'_>, column: usize) -> Result<u64, StoreError> {
        let number: i64 = self.get(row, column)?;
        u64::try_from(number).map_err(|error| self.damaged("number", &error))
    }

    pub(super) fn count(&self, row: &Row<'_>, column: usize) -> Result<usize, StoreError> {
        let count = self.number(row, column)?;
        usize::try_from(count).map_err(|error| self.damaged("count", &error))
    }

    pub(super) fn phase(&self, row: &Row<'_>, column: usize) -> Result<Phase, StoreError> {
        self.phase_named(&self.get::<String>(row, column)?)
    }

    fn phase_named(&self, text: &str) -> Result<Phase, StoreError> {
        let phase = Phase::ALL.into_iter().find(|phase| phase.as_str() == text);
        phase.ok_or_else(|| self.damaged("phase", &text))
    }
}

/// The users that a query is given as its first value: a JSON list.
const AMONG: &str = "IN (SELECT value FROM json_each(?1))";

/// Narrows a query to some users.
pub(super) fn and_of(only: Option<&BTreeSet<UserId>>) -> String {
    only.map(|_| format!("AND user {AMONG}")).unwrap_or_default()
}

pub(super) fn values(only: Option<&BTreeSet<UserId>>) -> impl rusqlite::Params {
    rusqlite::params_from_iter(only.map(names))
}

fn names(users: &BTreeSet<UserId>) -> String {
    // A user id has no character that JSON escapes.
    let names: Vec<String> = users.iter().map(|user| format!("\"{user}\"")).collect();
    format!("[{}]", names.join(","))
}
