//! Whether the state is sound, for who only reads it.

use std::path::Path;

use super::{SealingKey, Store, StoreError, seal};

/// What SQLite says of more than this is not told.
const MOST_FAULTS: usize = 5;

/// Services whose tallies are not what their tokens come to.
const WRONG_TALLIES: &str = "
SELECT service FROM (SELECT * FROM tally WHERE tokens > 0
    EXCEPT SELECT service, phase, count(*) FROM token GROUP BY service, phase)
UNION SELECT service FROM (SELECT service, phase, count(*) FROM token GROUP BY service, phase
    EXCEPT SELECT * FROM tally)
UNION SELECT service FROM (SELECT * FROM connected WHERE users > 0
    EXCEPT SELECT service, count(DISTINCT user) FROM token
    WHERE phase IN ('active', 'retiring') GROUP BY service)
UNION SELECT service FROM (SELECT service, count(DISTINCT user) FROM token
    WHERE phase IN ('active', 'retiring') GROUP BY service EXCEPT SELECT * FROM connected)";

impl Store {
    /// What is wrong with the database (SQLite's `PRAGMA quick_check`, and the tallies of tokens):
    /// nothing, when it is whole.
    ///
    /// # Errors
    /// The database's: it cannot even be checked.
    pub fn faults(&self) -> Result<Vec<String>, StoreError> {
        let sql = format!("PRAGMA quick_check({MOST_FAULTS})");
        let read = || {
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        };
        let mut faults = read().map_err(self.database())?;
        faults.retain(|fault| fault != "ok");
        if faults.is_empty() {
            faults = self.collect(WRONG_TALLIES, [], |row| {
                let service: String = self.get(row, 0)?;
                Ok(format!("the tokens of {service} are not counted right"))
            })?;
        }
        Ok(faults)
    }

    /// Makes sure that this is the key that the state was sealed with.
    ///
    /// # Errors
    /// It is missing, is none, or another one.
    pub fn check_sealing_key(&self, path: &Path) -> Result<(), StoreError> {
        let keys = seal::Keys::derive(&SealingKey::read(path)?);
        self.was_sealed_with(&keys, path).map(drop)
    }

    /// Whether the state was sealed with these; `false` when it was not sealed at all yet.
    pub(super) fn was_sealed_with(
        &self,
        keys: &seal::Keys,
        path: &Path,
    ) -> Result<bool, StoreError> {
        match self.meta("sealing_key")? {
            Some(known) if known == keys.check_value() => Ok(true),
            Some(_) => Err(StoreError::SealingKey {
                path: path.to_owned(),
                trouble: "is another one than the state was sealed with",
            }),
            None => Ok(false),
        }
    }
}
