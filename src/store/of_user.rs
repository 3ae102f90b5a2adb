//! One user's part of the state, for who shows it to them: no more is read than that.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::actual::{Backoff, Installed, Trouble};
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
    /// Services that refuse our secret, do not answer, or whose clock is off.
    pub troubles: BTreeMap<ServiceId, Trouble>,
}

impl Store {
    /// What the state holds of this user.
    ///
    /// # Errors
    /// The database's, or a row that this program did not write.
    pub fn of_user(&self, user: &UserId) -> Result<OfUser, StoreError> {
        let only = BTreeSet::from([user.clone()]);
        let only = Some(&only);
        let mut tokens: BTreeMap<ServiceId, Vec<Token>> = BTreeMap::new();
        for token in self.load_tokens(only)? {
            tokens.entry(token.service.clone()).or_default().push(token);
        }
        Ok(OfUser {
            tokens,
            installed: self.load_installed(only)?.remove(user).unwrap_or_default(),
            backoffs: self.load_backoffs(only)?.remove(user).unwrap_or_default(),
            kept_back: self.kept_back(only)?.into_iter().collect(),
            troubles: self.load_troubles()?,
        })
    }
}
