//! Who is next, and when: one time for each user.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::name::UserId;

/// The times of users, in both orders: a loop that is idle asks often for the first of a whole fleet.
#[derive(Default)]
pub(super) struct Timetable {
    by_user: BTreeMap<UserId, Timestamp>,
    by_time: BTreeSet<(Timestamp, UserId)>,
}

impl Timetable {
    pub(super) fn set(&mut self, user: UserId, at: Timestamp) {
        self.remove(&user);
        self.by_user.insert(user.clone(), at);
        self.by_time.insert((at, user));
    }

    /// Sets it, if it is not sooner already.
    pub(super) fn bring_forward(&mut self, user: UserId, at: Timestamp) {
        if self.by_user.get(&user).is_none_or(|former| at < *former) {
            self.set(user, at);
        }
    }

    pub(super) fn remove(&mut self, user: &UserId) {
        if let Some((user, at)) = self.by_user.remove_entry(user) {
            self.by_time.remove(&(at, user));
        }
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out all whose time has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> BTreeSet<UserId> {
        let mut due = BTreeSet::new();
        while let Some((at, user)) = self.by_time.pop_first() {
            if at > now {
                self.by_time.insert((at, user));
                break;
            }
            self.by_user.remove(&user);
            due.insert(user);
        }
        due
    }
}

impl Extend<(UserId, Timestamp)> for Timetable {
    fn extend<T: IntoIterator<Item = (UserId, Timestamp)>>(&mut self, times: T) {
        times.into_iter().for_each(|(user, at)| self.set(user, at));
    }
}
