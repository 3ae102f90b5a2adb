//! The desired state as the portal keeps it: the text, and where each user's lines are.

use std::collections::HashMap;
use std::ops::Range;

use jiff::Timestamp;

use crate::desired_file::{DesiredFile, LoadError};
use crate::model::desired::{Desired, DesiredUser};
use crate::model::digest::Digest;
use crate::model::name::UserId;
use crate::model::user_blocks::{self, Layout};
use crate::model::yaml::YamlError;

/// A revision.
pub(super) struct DesiredText {
    pub(super) revision: Digest,
    text: String,
    users: Users,
}

enum Users {
    /// Where each user's lines are.
    Lines(HashMap<Box<str>, Range<usize>>),
    /// Of a file in another form than the usual: all of it.
    All(Desired),
}

impl DesiredText {
    pub(super) fn read(file: &DesiredFile, now: Timestamp) -> Result<Self, LoadError> {
        let (text, mut revision) = file.read_text(now)?;
        let users = match user_blocks::scan(&text) {
            Some(Layout::Blocks { users, .. }) => {
                Users::Lines(users.into_iter().map(|b| (b.user.into(), b.range)).collect())
            }
            Some(Layout::Nobody { .. }) => Users::Lines(HashMap::new()),
            None => {
                let loaded = file.read(now)?;
                revision = loaded.revision;
                Users::All(loaded.desired)
            }
        };
        Ok(Self { revision, text, users })
    }

    /// What it says of a user; of somebody who is not in it: nothing is wanted.
    ///
    /// # Errors
    /// As [`DesiredText::all`].
    pub(super) fn user(&self, id: &UserId) -> Result<DesiredUser, YamlError> {
        let user = match &self.users {
            Users::All(desired) => desired.users.get(id).cloned(),
            Users::Lines(lines) => match lines.get(id.as_str()) {
                Some(range) => user_blocks::read_lines(&self.text[range.clone()])?.users.remove(id),
                None => None,
            },
        };
        Ok(user.unwrap_or_default())
    }

    /// Whether it names this user.
    pub(super) fn has(&self, id: &UserId) -> bool {
        match &self.users {
            Users::All(desired) => desired.users.contains_key(id),
            Users::Lines(lines) => lines.contains_key(id.as_str()),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// It is wrong, though it was believed when it was read.
    pub(super) fn all(&self) -> Result<Desired, YamlError> {
        match &self.users {
            Users::All(desired) => Ok(desired.clone()),
            Users::Lines(_) => Desired::parse(&self.text),
        }
    }
}
