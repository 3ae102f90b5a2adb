//! The calls to one address of a service: how many at once, how many a minute, and when to stop.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::super::actual::Trouble;
use super::super::name::{EnvName, ServiceId};
use super::super::registry::{Endpoint, Limits};
use super::super::token::later;

/// So many calls in a row without an answer, and nobody else of this pass is kept waiting.
const MAX_SILENT: u32 = 3;
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// Where calls go. A service that moved is owed at its former address too; what that one answers,
/// or does not, says nothing of the present one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) service: ServiceId,
    revoke_url: String,
    pub(super) secret: EnvName,
}

impl Address {
    pub(super) fn new(service: &ServiceId, endpoint: &Endpoint) -> Self {
        let (revoke_url, secret) = (endpoint.revoke_url.clone(), endpoint.secret.clone());
        Self { service: service.clone(), revoke_url, secret }
    }
}

/// When calls began lately, wherever they went: what a run leaves to the next, so that two in a minute
/// make no more calls than one may.
#[derive(Default)]
pub struct Pace(BTreeMap<Address, VecDeque<Timestamp>>);

impl Pace {
    pub(super) fn of(&mut self, address: &Address) -> VecDeque<Timestamp> {
        self.0.remove(address).unwrap_or_default()
    }

    pub(super) fn left_by(mut self, lanes: BTreeMap<Address, Lane>) -> Self {
        self.0.extend(lanes.into_iter().map(|(address, lane)| (address, lane.begun)));
        self
    }
}

/// The calls to one address of a service.
pub(super) struct Lane {
    limits: Limits,
    queue: VecDeque<usize>,
    under_way: u32,
    /// When the calls of the last minute began, as far as the limit needs them.
    begun: VecDeque<Timestamp>,
    silent: u32,
    /// After trouble, one call goes first.
    probing: bool,
    closed: Option<Closed>,
    /// Whether nothing begins before the calls that are under way have ended.
    draining: bool,
    /// Whether this is where the service is now, so that its trouble is recorded.
    pub(super) present: bool,
    /// What is wrong with the service, as it is recorded.
    pub(super) trouble: Option<Trouble>,
}

/// Why nothing more is called, and until when.
struct Closed {
    why: String,
    until: Timestamp,
}

/// What a lane says to "who is next?".
pub(super) enum Turn {
    /// This job.
    Job(usize),
    /// Nobody before this time.
    NotBefore(Timestamp),
    /// Nobody now.
    Nobody,
}

impl Lane {
    pub(super) fn new(
        limits: Limits,
        present: bool,
        trouble: Option<&Trouble>,
        begun: VecDeque<Timestamp>,
    ) -> Self {
        Self {
            limits,
            present,
            queue: VecDeque::new(),
            under_way: 0,
            begun,
            silent: 0,
            probing: trouble.is_some(),
            closed: None,
            draining: false,
            trouble: trouble.cloned(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way == 0
    }

    pub(super) fn enqueue(&mut self, job: usize) {
        self.queue.push_back(job);
    }

    /// Why nothing more is called, if nothing is.
    pub(super) fn closed(&self) -> Option<&str> {
        self.closed.as_ref().map(|closed| closed.why.as_str())
    }

    /// Calls nothing more until then; returns who was waiting.
    pub(super) fn close(&mut self, why: &str, until: Timestamp) -> Vec<usize> {
        self.closed.get_or_insert_with(|| Closed { why: why.to_owned(), until });
        self.empty()
    }

    /// Gives it another try once it was closed for long enough: one call goes first.
    pub(super) fn reopen(&mut self, now: Timestamp) {
        if self.closed.take_if(|closed| closed.until <= now).is_some() {
            (self.probing, self.silent) = (true, 0);
        }
    }

    /// Those who are waiting have no turn any more; returns who.
    pub(super) fn empty(&mut self) -> Vec<usize> {
        self.queue.drain(..).collect()
    }

    /// Begins nothing before the calls that are under way have ended. Returns who was waiting: they
    /// have no turn any more.
    pub(super) fn drain(&mut self) -> Vec<usize> {
        self.draining = self.under_way > 0;
        self.empty()
    }

    /// Whether calls that were to end first are under way.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Takes those who are waiting and fit out of the queue.
    pub(super) fn withdraw(&mut self, fits: impl Fn(usize) -> bool) -> Vec<usize> {
        let (out, stay): (Vec<usize>, Vec<usize>) =
            self.queue.drain(..).partition(|job| fits(*job));
        self.queue = stay.into();
        out
    }

    /// Who will have a turn when the present calls have ended.
    pub(super) fn soon(&self) -> impl Iterator<Item = usize> {
        let none_yet = self.probing || self.draining;
        let most = if none_yet { 0 } else { self.limits.concurrency.get() as usize };
        self.queue.iter().take(most).copied()
    }

    pub(super) fn turn(&mut self, now: Timestamp) -> Turn {
        let most = if self.probing { 1 } else { self.limits.concurrency.get() };
        if self.draining || self.under_way >= most || self.queue.is_empty() {
            return Turn::Nobody;
        }
        // What began in the future did so before the clock was set back: nobody waits for that.
        let is_over = |begun: &Timestamp| later(*begun, MINUTE) <= now || *begun > now;
        while self.begun.front().is_some_and(is_over) {
            self.begun.pop_front();
        }
        if self.begun.len() >= self.limits.per_minute.get() as usize {
            return Turn::NotBefore(later(self.begun[0], MINUTE));
        }
        let Some(job) = self.queue.pop_front() else { return Turn::Nobody };
        self.begun.push_back(now);
        self.under_way += 1;
        Turn::Job(job)
    }

    /// A call ended. Returns whether the service has now been silent too often.
    pub(super) fn ended(&mut self, answered: bool) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        self.draining &= self.under_way > 0;
        if answered {
            self.probing = false;
            self.silent = 0;
        } else {
            self.silent += 1;
        }
        !answered && (self.probing || self.silent >= MAX_SILENT)
    }
}
