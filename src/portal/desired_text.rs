//! The desired state as the portal keeps it: the text, and where each user's lines are.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use jiff::Timestamp;

use super::PortalError;
use crate::desired_file::{DesiredFile, LoadError};
use crate::model::desired::{Desired, DesiredUser, Wish};
use crate::model::digest::Digest;
use crate::model::name::{ServiceId, UserId};
use crate::model::user_blocks::{self, Layout};
use crate::model::yaml::YamlError;

/// A revision.
pub(super) struct DesiredText {
    pub(super) revision: Digest,
    text: String,
    /// Found out by the first who asks: who writes does not wait for it.
    users: OnceLock<Result<Users, YamlError>>,
}

enum Users {
    /// Where each user's lines are.
    Lines(HashMap<Box<str>, Range<usize>>),
    /// Of a file in another form than the usual: all of it.
    All(Desired),
}

impl Users {
    fn find(text: &str) -> Result<Self, YamlError> {
        Ok(match user_blocks::scan(text) {
            Some(Layout::Blocks { users, .. }) => {
                Self::Lines(users.into_iter().map(|b| (b.user.into(), b.range)).collect())
            }
            Some(Layout::Nobody { .. }) => Self::Lines(HashMap::new()),
            None => Self::All(Desired::parse(text)?),
        })
    }
}

impl DesiredText {
    /// # Errors
    /// It cannot be read, or may not be believed.
    pub(super) fn read(file: &DesiredFile, now: Timestamp) -> Result<Self, LoadError> {
        let (text, revision) = file.read_text(now)?;
        let desired = Self::of(text, revision);
        desired.users.get_or_init(|| Users::find(&desired.text));
        Ok(desired)
    }

    /// A text that is known to be right.
    pub(super) fn of(text: String, revision: Digest) -> Self {
        Self { revision, text, users: OnceLock::new() }
    }

    fn users(&self) -> Result<&Users, YamlError> {
        self.users.get_or_init(|| Users::find(&self.text)).as_ref().map_err(Clone::clone)
    }

    /// What it says of a user; of somebody who is not in it: nothing is wanted.
    ///
    /// # Errors
    /// As [`DesiredText::all`].
    pub(super) fn user(&self, id: &UserId) -> Result<DesiredUser, YamlError> {
        let user = match self.users()? {
            Users::All(desired) => desired.users.get(id).cloned(),
            Users::Lines(lines) => match lines.get(id.as_str()) {
                Some(range) => user_blocks::read_lines(&self.text[range.clone()])?.users.remove(id),
                None => None,
            },
        };
        Ok(user.unwrap_or_default())
    }

    /// What it says of one connection of a user.
    ///
    /// # Errors
    /// As [`DesiredText::all`].
    pub(super) fn wish(
        &self,
        user: &UserId,
        service: &ServiceId,
    ) -> Result<Option<Wish>, PortalError> {
        Ok(self.user(user)?.connections.remove(service))
    }

    /// Whether it names this user.
    ///
    /// # Errors
    /// As [`DesiredText::all`].
    pub(super) fn has(&self, id: &UserId) -> Result<bool, YamlError> {
        Ok(match self.users()? {
            Users::All(desired) => desired.users.contains_key(id),
            Users::Lines(lines) => lines.contains_key(id.as_str()),
        })
    }

    /// All of it.
    ///
    /// # Errors
    /// It is wrong, though it was believed when it was read.
    pub(super) fn all(&self) -> Result<Desired, YamlError> {
        match self.users()? {
            Users::All(desired) => Ok(desired.clone()),
            Users::Lines(_) => Desired::parse(&self.text),
        }
    }
}
