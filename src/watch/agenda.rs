//! When the next pass is due though no file changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::timetable::Timetable;
use super::triggers::{Wanted, Why};
use crate::causes::chain;
use crate::desired_file::EditError;
use crate::model::name::UserId;
use crate::model::outcome::{Found, Outcome, What};
use crate::model::plan::{NoteKind, Scope};
use crate::model::token::later;
use crate::observe::IntentError;
use crate::reconcile::{Exit, Pass, PassError, Passed};

/// The first wait after a pass that could not be made, or that left something of a user undone of
/// which nobody knows when it may be done; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// When the next pass is due.
pub(super) struct Agenda {
    look_every: Duration,
    /// The next look at everything.
    look: Instant,
    /// By the wall clock: when time alone may change what is to be done of single users.
    due: Timetable,
    /// The same, of anybody.
    due_of_all: Option<Timestamp>,
    /// When a pass that could not be made is tried again.
    retry: Option<Instant>,
    failures: u32,
    /// Users of whom something is undone.
    undone: BTreeMap<UserId, Undone>,
}

/// Nobody knows when it may be done.
struct Undone {
    /// How often it was tried.
    times: u32,
    /// When it is looked at again.
    at: Timestamp,
}

impl Agenda {
    pub(super) fn new(look_every: Duration) -> Self {
        let look = Instant::now() + spread(look_every);
        Self {
            look_every,
            look,
            due: Timetable::default(),
            due_of_all: None,
            retry: None,
            failures: 0,
            undone: BTreeMap::new(),
        }
    }

    /// What follows from a pass.
    pub(super) fn after(&mut self, pass: &Pass, scope: &Scope, passed: &Result<Passed, PassError>) {
        match passed {
            Ok(passed) => {
                self.note_due(pass, scope, passed);
                self.note_undone((pass.clock)(), scope, passed);
            }
            // The retry looks at everything.
            Err(_) => self.due_of_all = None,
        }
        if scope.users.is_none() {
            self.look = Instant::now() + spread(self.look_every);
            self.retry = None;
        }
        let settles = match passed {
            Ok(passed) => settling(passed),
            // Somebody edited the file between its reading and its taking up.
            Err(PassError::Adopt(EditError::Conflict { .. })) => Some(Duration::ZERO),
            Err(_) => None,
        };
        if passed.as_ref().map_or(true, |passed| passed.exit == Exit::Error) {
            self.failures += 1;
            let at = Instant::now() + settles.unwrap_or_else(|| spread(retry_wait(self.failures)));
            self.retry = Some(self.retry.map_or(at, |former| former.min(at)));
        } else if scope.users.is_none() {
            self.failures = 0;
        }
    }

    /// Something of this user's failed in a pass that goes on, maybe for long: it may be tried again
    /// in this same pass. A little later than the state notes for it, whatever the spread.
    pub(super) fn note_failed(&mut self, now: Timestamp, user: UserId) {
        let undone = self.undone.entry(user).or_insert(Undone { times: 1, at: now });
        undone.at = after(now, retry_wait(undone.times + 1));
    }

    /// Something of this user's waits until then in a pass that goes on, maybe for longer.
    pub(super) fn note_wait(&mut self, user: UserId, until: Timestamp) {
        self.due.bring_forward(user, until);
    }

    /// Users of whom something failed or is blocked are looked at again: what keeps them back may
    /// have gone without anything telling us.
    fn note_undone(&mut self, now: Timestamp, scope: &Scope, passed: &Passed) {
        let users = undone(passed);
        self.undone.retain(|user, _| {
            let was_looked_at = scope.users.as_ref().is_none_or(|scope| scope.contains(user));
            let is_over = was_looked_at || passed.touched.contains(user);
            users.contains(user) || !is_over
        });
        // One time for all of them: they share a pass.
        let spread_by = spread(Duration::from_secs(1)).as_secs_f64();
        for user in users {
            let undone = self.undone.entry(user.clone()).or_insert(Undone { times: 1, at: now });
            undone.at = after(now, retry_wait(undone.times).mul_f64(spread_by));
        }
    }

    /// What a pass found to be due, and what it changed of that.
    fn note_due(&mut self, pass: &Pass, scope: &Scope, passed: &Passed) {
        // What became due for everybody while single users had their pass is still to come.
        let now = (pass.clock)();
        let overdue = self.due_of_all.filter(|at| scope.users.is_some() && *at <= now);
        if scope.users.is_none() {
            self.due = Timetable::default();
        }
        for user in scope.users.iter().flatten().chain(&passed.touched) {
            self.due.remove(user);
        }
        self.due.extend(passed.due.users.clone());
        self.due_of_all = overdue.or(passed.due.of_all);
        if passed.touched.is_empty() {
            return;
        }
        let scope = Scope::of_users(passed.touched.iter().cloned());
        // What has become due since then has not been looked at.
        match (Pass { scope, ..pass.clone() }).due(passed.began) {
            Ok(due) => {
                for user in &passed.touched {
                    self.due.remove(user);
                }
                self.due.extend(due.users);
                self.due_of_all = overdue.or(due.of_all);
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "what is due is not known");
                self.retry.get_or_insert(Instant::now() + FIRST_RETRY);
            }
        }
    }

    /// When something is due.
    pub(super) fn next(&self, now: Timestamp) -> Instant {
        let here = Instant::now();
        let until = |due: Timestamp| Duration::try_from(due.duration_since(now));
        let undone = self.undone.values().map(|undone| undone.at).min();
        let due = self.due.first().into_iter().chain(self.due_of_all).chain(undone).min();
        // So late that an instant cannot say it, it is after the next look.
        let due = due.and_then(|due| here.checked_add(until(due).unwrap_or_default()));
        [Some(self.look), due, self.retry].into_iter().flatten().min().unwrap_or(self.look)
    }

    /// What is due now.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Wanted {
        let here = Instant::now();
        if self.look <= here {
            return Wanted::all(Why::Look);
        }
        if self.retry.is_some_and(|at| at <= here) {
            self.retry = None;
            return Wanted::all(Why::Retry);
        }
        if self.due_of_all.is_some_and(|at| at <= now) {
            return Wanted::all(Why::Due);
        }
        self.take_due_users(now)
    }

    /// Single users of whom something is due now.
    pub(super) fn take_due_users(&mut self, now: Timestamp) -> Wanted {
        let mut users = self.due.take_due(now);
        for (user, undone) in self.undone.iter_mut().filter(|(_, undone)| undone.at <= now) {
            undone.times += 1;
            undone.at = after(now, retry_wait(undone.times + 1));
            users.insert(user.clone());
        }
        Wanted { all: None, users }
    }
}

/// Of whom something failed and was not done by the same pass in the end, or waits for what nobody
/// tells of.
fn undone(passed: &Passed) -> BTreeSet<&UserId> {
    let mut last = BTreeMap::new();
    for Outcome { user, service, what, found } in &passed.executed.outcomes {
        let home = match what {
            What::Install(account) => Some(account),
            _ => None,
        };
        last.insert((user, service, home), matches!(found, Found::Failed(_)));
    }
    let failed = last.into_iter().filter_map(|((user, ..), failed)| failed.then_some(user));
    let notes = passed.planned.notes.iter();
    let blocked = notes.filter(|note| note.kind == NoteKind::Blocked);
    failed.chain(blocked.filter_map(|note| note.user.as_ref())).collect()
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    later(now, SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX))
}

fn retry_wait(times: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << times.saturating_sub(1).min(10))
}

/// How long until a file that was changed by hand may be believed, if the pass did not wait for it.
fn settling(passed: &Passed) -> Option<Duration> {
    passed.planned.intent_error.as_ref().and_then(IntentError::ready_in)
}

/// So much, and up to a tenth more or less: a fleet of servers does not look all at once.
pub(super) fn spread(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * fastrand::f64())
}
