//! What the laptops hold, as passes saw it in homes: for whoever may not look there.

use std::collections::{BTreeMap, BTreeSet};

use super::load::{and_of, values};
use super::{Store, StoreError};
use crate::model::actual::Actual;
use crate::model::home::LaptopSeen;
use crate::model::name::{AccountName, UserId};

impl Store {
    /// What the laptops of every user hold, each user's in order; with `only`, of these users.
    pub(super) fn load_laptops(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<BTreeMap<UserId, Vec<LaptopSeen>>, StoreError> {
        let sql = format!(
            "SELECT user, laptop, generation, at FROM laptop WHERE TRUE {} ORDER BY user, laptop",
            and_of(only)
        );
        let rows = self.collect(&sql, values(only), |row| {
            let seen = LaptopSeen {
                laptop: self.parse(row, 1, "laptop id")?,
                generation: self.number(row, 2)?,
                at: self.time(row, 3)?,
            };
            Ok((self.parse(row, 0, "user id")?, seen))
        })?;
        let mut all: BTreeMap<UserId, Vec<LaptopSeen>> = BTreeMap::new();
        for (user, laptop) in rows {
            all.entry(user).or_default().push(laptop);
        }
        Ok(all)
    }

    /// Takes over what the homes of these users showed, and writes down where that changed.
    ///
    /// # Errors
    /// The database's.
    pub fn note_laptops(
        &mut self,
        accounts: &[(UserId, AccountName)],
        actual: &mut Actual,
    ) -> Result<(), StoreError> {
        let pairs = accounts.iter().map(|(user, account)| (user, account));
        let changed = actual.see_laptops(pairs);
        if changed.is_empty() {
            return Ok(());
        }
        self.in_transaction(|store| {
            changed.iter().try_for_each(|user| {
                let laptops = actual.laptops.get(user).map_or(&[][..], Vec::as_slice);
                store.write_laptops(user, laptops)
            })
        })
    }

    fn write_laptops(&self, user: &UserId, laptops: &[LaptopSeen]) -> Result<(), StoreError> {
        self.execute("DELETE FROM laptop WHERE user = ?1", [user.as_str()])?;
        laptops.iter().try_for_each(|seen| {
            // The number is whatever somebody wrote into their home.
            let generation = i64::try_from(seen.generation).unwrap_or(i64::MAX);
            self.execute(
                "INSERT INTO laptop (user, laptop, generation, at) VALUES (?1, ?2, ?3, ?4)",
                (user.as_str(), seen.laptop.as_str(), generation, seen.at.as_microsecond()),
            )
        })
    }
}
