//! One user's installs within a pass: when a put is due.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::super::action::{Content, Install, InstallReason, Slot};
use super::super::token::later;

/// A first key waits this long for the next, so that several make one put.
const COALESCE: SignedDuration = SignedDuration::from_millis(100);

/// One user's installs.
#[derive(Default)]
pub(super) struct Person {
    /// Puts that wait for nothing: former homes, and the present one if it changes without a new
    /// key.
    ready: VecDeque<Install>,
    /// The put of the present home, repeated as keys come.
    present: Option<Install>,
    /// Asks without an end yet.
    outstanding: usize,
    /// Whether a key came since the last put was filled.
    arrived: bool,
    putting: bool,
    /// Puts that are done, and not yet on disk as such.
    confirming: usize,
    wake: Option<Timestamp>,
    /// Revokes that wait for a delivery.
    pub(super) delayed: Vec<usize>,
}

impl Person {
    pub(super) fn add(&mut self, install: Install) {
        if install.slots.values().all(|slot| slot.after.is_none()) {
            self.ready.push_back(install);
            return;
        }
        if changes_without_new_key(&install) {
            self.ready.push_back(install.clone());
        }
        self.present = Some(install);
    }

    pub(super) fn expects_key(&mut self) {
        self.outstanding += 1;
    }

    /// An ask ended, with a key or without.
    pub(super) fn ask_ended(&mut self, granted: bool) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.arrived |= granted;
    }

    /// Whether no put is under way or due.
    pub(super) fn is_idle(&self) -> bool {
        !self.putting && self.ready.is_empty() && !(self.arrived && self.present.is_some())
    }

    /// Whether the state tells what is in the homes, and nothing is going to change there.
    pub(super) fn is_settled(&self) -> bool {
        self.is_idle() && self.confirming == 0
    }

    pub(super) fn confirms(&mut self) {
        self.confirming += 1;
    }

    pub(super) fn confirmed(&mut self) {
        self.confirming = self.confirming.saturating_sub(1);
    }

    pub(super) fn put_ended(&mut self) {
        self.putting = false;
    }

    /// The install that is due now, or else the time to ask again.
    pub(super) fn due(&mut self, now: Timestamp) -> Result<Install, Option<Timestamp>> {
        if self.putting {
            return Err(None);
        }
        if let Some(install) = self.ready.pop_front() {
            self.putting = true;
            return Ok(install);
        }
        let Some(present) = self.present.as_ref().filter(|_| self.arrived) else {
            return Err(None);
        };
        match self.wake {
            _ if self.outstanding == 0 => {}
            Some(wake) if wake <= now => {}
            Some(_) => return Err(None),
            None => {
                let wake = later(now, COALESCE);
                self.wake = Some(wake);
                return Err(Some(wake));
            }
        }
        (self.wake, self.arrived, self.putting) = (None, false, true);
        Ok(present.clone())
    }
}

/// Whether the home changes even if no key comes.
fn changes_without_new_key(install: &Install) -> bool {
    let changes = |slot: &Slot| match &slot.after {
        Some(Content::New { until_then, .. }) => slot.before != *until_then,
        _ => slot.changes(),
    };
    install.why.iter().any(|why| *why != InstallReason::Changed)
        || install.slots.values().any(changes)
}
