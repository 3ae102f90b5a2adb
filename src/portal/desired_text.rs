//! The desired state as the portal keeps it: the text, and where each user's lines are.

use std::collections::HashMap;
use std::ops::Range;

use jiff::Timestamp;

use super::PortalError;
use crate::desired_file::{DesiredFile, LoadError, Loaded, Written};
use crate::model::desired::{Desired, DesiredUser, Wish};
use crate::model::digest::Digest;
use crate::model::name::{ServiceId, UserId};
use crate::model::user_blocks::{self, Layout};
use crate::model::yaml::YamlError;

/// A revision.
pub(super) struct DesiredText {
    pub(super) revision: Digest,
    text: String,
    users: Users,
}

/// Where each user's lines are.
type Lines = HashMap<Box<str>, Range<usize>>;

enum Users {
    Lines(Lines),
    /// Of a file in another form than the usual: all of it.
    All(Desired),
}

impl DesiredText {
    /// # Errors
    /// It cannot be read, or may not be believed.
    pub(super) fn read(file: &DesiredFile, now: Timestamp) -> Result<Self, LoadError> {
        let (text, revision) = file.read_text(now)?;
        if let Some(lines) = lines(&text) {
            return Ok(Self { revision, text, users: Users::Lines(lines) });
        }
        let Loaded { desired, text, revision, .. } = file.read(now)?;
        Ok(Self { revision, text, users: Users::All(desired) })
    }

    /// Of a file that was written just now; none: it is in another form than the usual, to be read.
    pub(super) fn of(written: Written) -> Option<Self> {
        let Written { text, revision, .. } = written;
        Some(Self { revision, users: Users::Lines(lines(&text)?), text })
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

fn lines(text: &str) -> Option<Lines> {
    match user_blocks::scan(text)? {
        Layout::Blocks { users, .. } => {
            Some(users.into_iter().map(|block| (block.user.into(), block.range)).collect())
        }
        Layout::Nobody { .. } => Some(Lines::new()),
    }
}
