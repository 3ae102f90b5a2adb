//! Some users' part of the state, for who shows it to them: no more is read than that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::actual::{Backoff, Installed, Trouble};
use crate::model::home::LaptopSeen;
use crate::model::kept_back::KeptBack;
use crate::model::name::{AccountName, ServiceId, UserId};
use crate::model::token::Token;

use super::{Store, StoreError};

/// What the state holds of one user.
#[derive(Debug, Default)]
pub struct OfUser {
    /// The tokens that have not ended, oldest first.
    pub tokens: BTreeMap<ServiceId, Vec<Token>>,
    /// What was last put, or was about to be put, into each home.
    pub installed: BTreeMap<AccountName, Installed>,
    /// Connections that failed, and when they may be tried again.
    pub backoffs: BTreeMap<ServiceId, Backoff>,
    /// What keeps connections back, as the last pass found it.
    pub kept_back: Vec<KeptBack>,
    /// The user's laptops, and which generation of the user's files each of them last said that it
    /// holds; when it said so, to within a day.
    pub laptops: Vec<LaptopSeen>,
    /// Services that refuse our secret, do not answer, or whose clock is off.
    pub troubles: Arc<BTreeMap<ServiceId, Trouble>>,
}

impl Store {
    /// What the state holds of each of these users.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn of_users(
        &self,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeMap<UserId, OfUser>, StoreError> {
        let only = Some(users);
        let mut installed = self.load_installed(only)?;
        let mut backoffs = self.load_backoffs(only)?;
        let mut laptops = self.load_laptops(only)?;
        let troubles = Arc::new(self.load_troubles()?);
        let mut of_user = |user: &UserId| OfUser {
            tokens: BTreeMap::new(),
            installed: installed.remove(user).unwrap_or_default(),
            backoffs: backoffs.remove(user).unwrap_or_default(),
            kept_back: Vec::new(),
            laptops: laptops.remove(user).unwrap_or_default(),
            troubles: Arc::clone(&troubles),
        };
        let mut all: BTreeMap<UserId, OfUser> =
            users.iter().map(|user| (user.clone(), of_user(user))).collect();
        for token in self.load_tokens(only)? {
            if let Some(of_user) = all.get_mut(&token.user) {
                of_user.tokens.entry(token.service.clone()).or_default().push(token);
            }
        }
        for kept in self.kept_back(only)? {
            if let Some(of_user) = all.get_mut(&kept.user) {
                of_user.kept_back.push(kept);
            }
        }
        Ok(all)
    }

    /// What the state holds of this user.
    ///
    /// # Errors
    /// As [`Store::of_users`].
    pub fn of_user(&self, user: &UserId) -> Result<OfUser, StoreError> {
        let mut all = self.of_users(&BTreeSet::from([user.clone()]))?;
        Ok(all.remove(user).unwrap_or_default())
    }
}
