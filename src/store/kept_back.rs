//! What keeps connections back.

use std::collections::BTreeSet;

use rusqlite::params;

use crate::model::kept_back::KeptBack;
use crate::model::name::UserId;

use super::load::{and_of, values};
use super::{Store, StoreError};

impl Store {
    /// What keeps these users' connections back; without `only`, everybody's.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn kept_back(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<BTreeSet<KeptBack>, StoreError> {
        let columns = "SELECT user, service, kept_by, why FROM kept_back";
        let sql = format!("{columns} WHERE TRUE {}", and_of(only));
        let rows = self.collect(&sql, values(only), |row| {
            let service: String = self.get(row, 1)?;
            let no_id = |error| self.damaged("service id", &error);
            let service = (!service.is_empty()).then(|| service.parse().map_err(no_id));
            let by: String = self.get(row, 2)?;
            Ok(KeptBack {
                user: self.parse(row, 0, "user id")?,
                service: service.transpose()?,
                by: self.read_json("kind of what keeps something", &by)?,
                why: self.get(row, 3)?,
            })
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Writes down what a pass over these users found; without `only`, one over everybody. What was
    /// so before is not written again.
    ///
    /// # Errors
    /// The database's.
    pub fn record_kept_back(
        &self,
        only: Option<&BTreeSet<UserId>>,
        found: &BTreeSet<KeptBack>,
    ) -> Result<(), StoreError> {
        let before = self.kept_back(only)?;
        for KeptBack { user, service, by, why } in before.difference(found) {
            let sql = "DELETE FROM kept_back \
                       WHERE user = ?1 AND service = ?2 AND kept_by = ?3 AND why = ?4";
            let service = service.as_ref().map_or("", |service| service.as_str());
            self.execute(sql, params![user.as_str(), service, self.json(by)?, why])?;
        }
        for KeptBack { user, service, by, why } in found.difference(&before) {
            let sql = "INSERT INTO kept_back (user, service, kept_by, why) VALUES (?1, ?2, ?3, ?4)";
            let service = service.as_ref().map_or("", |service| service.as_str());
            self.execute(sql, params![user.as_str(), service, self.json(by)?, why])?;
        }
        Ok(())
    }
}
