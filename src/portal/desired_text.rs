//! The desired state as the portal keeps it: the text, where each user's lines are, and what was read
//! of them.

use std::collections::HashMap;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;

use super::PortalError;
use crate::desired_file::{DesiredFile, LoadError, Written};
use crate::model::desired::{Desired, DesiredUser, Wish};
use crate::model::digest::Digest;
use crate::model::name::{ServiceId, UserId};
use crate::model::user_blocks::{self, Layout};
use crate::model::yaml::YamlError;

/// A revision.
pub(super) struct DesiredText {
    pub(super) revision: Digest,
    text: Arc<str>,
    /// Found out by the first who asks: who writes does not wait for it.
    users: OnceLock<Result<Users, YamlError>>,
    /// What it says of those who were asked about, or whom an edit was about.
    known: Mutex<HashMap<UserId, Arc<DesiredUser>>>,
}

/// What was read of so many users is kept, at most: a few kilobytes for each.
const MOST_KNOWN: usize = 4096;

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
    fn of(text: Arc<str>, revision: Digest) -> Self {
        Self { revision, text, users: OnceLock::new(), known: Mutex::default() }
    }

    /// What was written just now. If it was made from `last`, all that was read of that still holds, but
    /// for those whom the edits were about.
    pub(super) fn written(written: Written, last: Option<&Self>) -> Self {
        let Written { text, revision, before, users, meta: _ } = written;
        let desired = Self::of(text, revision);
        let mut known = desired.known();
        if let Some(last) = last.filter(|last| last.revision == before) {
            *known = mem::take(&mut *last.known()); // who still looks at that one reads it again
        }
        for (id, user) in users {
            keep(&mut known, id, Arc::new(user));
        }
        drop(known);
        desired
    }

    fn known(&self) -> MutexGuard<'_, HashMap<UserId, Arc<DesiredUser>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> Result<&Users, YamlError> {
        self.users.get_or_init(|| Users::find(&self.text)).as_ref().map_err(Clone::clone)
    }

    /// What it says of a user; of somebody who is not in it: nothing is wanted.
    ///
    /// # Errors
    /// As [`DesiredText::all`].
    pub(super) fn user(&self, id: &UserId) -> Result<Arc<DesiredUser>, YamlError> {
        if let Some(user) = self.known().get(id) {
            return Ok(Arc::clone(user));
        }
        let user = match self.users()? {
            Users::All(desired) => desired.users.get(id).cloned(),
            Users::Lines(lines) => match lines.get(id.as_str()) {
                Some(range) => user_blocks::read_lines(&self.text[range.clone()])?.users.remove(id),
                None => None,
            },
        };
        let user = Arc::new(user.unwrap_or_default());
        keep(&mut self.known(), id.clone(), Arc::clone(&user));
        Ok(user)
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
        Ok(self.user(user)?.connections.get(service).cloned())
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

/// Keeps what was read of a user; none of the others', if there are too many.
fn keep(known: &mut HashMap<UserId, Arc<DesiredUser>>, id: UserId, user: Arc<DesiredUser>) {
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(id, user);
}
