//! Tokens that another program asked for, and keys that leave.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::action::shown;
use crate::model::actual::Actual;
use crate::model::event::EventKind;
use crate::model::name::{OpId, ServiceId, UserId};
use crate::model::secret::Secret;
use crate::model::transfer::Arrival;

use super::events::Told;
use super::seal::Identity;
use super::{Store, StoreError, random};

/// Where it stands which connections of an import are not in `desired.yaml` yet.
const PENDING: &str = "import_pending";

impl Store {
    /// Takes tokens over, and remembers that their connections must come into `desired.yaml` before
    /// any pass plans: one transaction.
    ///
    /// # Errors
    /// The database's.
    pub fn import(
        &mut self,
        arrivals: &[Arrival],
        who: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut pending = self.pending_import()?;
        pending.extend(arrivals.iter().map(|a| (a.user.clone(), a.service.clone())));
        self.in_transaction(|store| {
            arrivals.iter().try_for_each(|arrival| store.import_one(arrival, who, now))?;
            let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
            store.execute(sql, (PENDING, store.json(&pending)?))
        })
    }

    fn import_one(&self, arrival: &Arrival, who: &str, now: Timestamp) -> Result<(), StoreError> {
        let Arrival { user, service, binding, ask, grant } = arrival;
        let op = OpId::new(self.instance(), random());
        self.insert_token(&op, user, service, binding, ask, now)?;
        let fingerprint = self.write_grant(&op, user, service, grant)?;
        self.execute("UPDATE token SET phase = 'active' WHERE op = ?1", [op.as_str()])?;
        let detail = format!("key {fingerprint}, until {}", shown(grant.expires_at));
        let (user, service, op) = (Some(user), Some(service), Some(&op));
        self.tell(Told { who, kind: EventKind::Imported, user, service, op, detail }, now)
    }

    /// The connections of an import that was cut short, not in `desired.yaml` yet.
    ///
    /// # Errors
    /// The database's.
    pub fn pending_import(&self) -> Result<Vec<(UserId, ServiceId)>, StoreError> {
        let body = self.meta(PENDING)?;
        let pending = body.map(|body| self.read_json("import", &body)).transpose()?;
        Ok(pending.unwrap_or_default())
    }

    /// The connections are in `desired.yaml`.
    ///
    /// # Errors
    /// The database's.
    pub fn import_is_done(&self) -> Result<(), StoreError> {
        self.execute("DELETE FROM meta WHERE name = ?1", [PENDING])
    }

    /// The keys of all live tokens. That they leave is an event first.
    ///
    /// # Errors
    /// The database's, or a key that cannot be unsealed.
    pub fn export_keys(
        &mut self,
        actual: &Actual,
        whither: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<BTreeMap<OpId, Secret>, StoreError> {
        let tokens = actual.tokens.values().flat_map(BTreeMap::values).flatten();
        let live: Vec<_> = tokens.filter(|token| token.phase.is_live()).collect();
        let (kind, detail) = (EventKind::Exported, format!("{} keys, into {whither}", live.len()));
        let told = Told { who, kind, user: None, service: None, op: None, detail };
        self.in_transaction(|store| store.tell(told, now))?;
        let unsealed = live.into_iter().map(|token| {
            let identity = Identity { op: &token.op, user: &token.user, service: &token.service };
            let key = self.sealed_key(&token.op, identity)?;
            let key = key.ok_or_else(|| self.damaged("key", &"it cannot be unsealed"))?;
            Ok((token.op.clone(), key))
        });
        unsealed.collect()
    }
}
