//! What the laptops hold, as passes saw it in homes: for whoever may not look there.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Row;

use super::load::{and_of, values};
use super::{Store, StoreError};
use crate::model::actual::Actual;
use crate::model::home::LaptopSeen;
use crate::model::name::{AccountName, UserId};

impl Store {
    /// A user's laptops, and which generation of the user's files each of them last said that it
    /// holds; when it said so, to within a day.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn laptops(&self, user: &UserId) -> Result<Vec<LaptopSeen>, StoreError> {
        let sql = "SELECT laptop, generation, at FROM laptop WHERE user = ?1 ORDER BY laptop";
        self.collect(sql, [user.as_str()], |row| self.laptop(row, 0))
    }

    /// Every user's; with `only`, of these users.
    pub(super) fn load_laptops(
        &self,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<BTreeMap<UserId, Vec<LaptopSeen>>, StoreError> {
        let sql = format!(
            "SELECT user, laptop, generation, at FROM laptop WHERE TRUE {} ORDER BY user, laptop",
            and_of(only)
        );
        let rows = self.collect(&sql, values(only), |row| {
            Ok((self.parse(row, 0, "user id")?, self.laptop(row, 1)?))
        })?;
        let mut all: BTreeMap<UserId, Vec<LaptopSeen>> = BTreeMap::new();
        for (user, laptop) in rows {
            all.entry(user).or_default().push(laptop);
        }
        Ok(all)
    }

    fn laptop(&self, row: &Row<'_>, first: usize) -> Result<LaptopSeen, StoreError> {
        Ok(LaptopSeen {
            laptop: self.parse(row, first, "laptop id")?,
            generation: self.number(row, first + 1)?,
            at: self.time(row, first + 2)?,
        })
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
