//! When the next pass is due though no file changed.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::triggers::{Wanted, Why};
use crate::causes::chain;
use crate::desired_file::EditError;
use crate::model::outcome::{Found, Outcome, What};
use crate::model::plan::Scope;
use crate::model::plan::due::Due;
use crate::observe::IntentError;
use crate::reconcile::{Exit, Pass, PassError, Passed};

/// The first wait after a pass that could not be made, or left something undone that nothing else
/// is going to wake us for; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// When the next pass is due.
pub(super) struct Agenda {
    look_every: Duration,
    /// The next look at everything.
    look: Instant,
    /// By the wall clock: when time alone may change what is to be done.
    due: Due,
    retry: Option<Instant>,
    failures: u32,
}

impl Agenda {
    pub(super) fn new(look_every: Duration) -> Self {
        let look = Instant::now() + spread(look_every);
        Self { look_every, look, due: Due::default(), retry: None, failures: 0 }
    }

    /// What follows from a pass.
    pub(super) fn after(&mut self, pass: &Pass, scope: &Scope, passed: &Result<Passed, PassError>) {
        match passed {
            Ok(passed) => self.note_due(pass, scope, passed),
            // The retry looks at everything.
            Err(_) => self.due.of_all = None,
        }
        let undone = match passed {
            Err(_) => true,
            // Of a put that failed nothing else says when it is tried again.
            Ok(passed) if passed.executed.outcomes.iter().any(is_failed_put) => true,
            Ok(passed) if scope.users.is_none() => {
                matches!(passed.exit, Exit::Error | Exit::Owed) && !passed.executed.stopped
            }
            // What else was left undone of single users has a time of its own.
            Ok(passed) => passed.exit == Exit::Error,
        };
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
        if undone {
            self.failures += 1;
            let wait = FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(10));
            let at = Instant::now() + settles.unwrap_or_else(|| spread(wait));
            self.retry = Some(self.retry.map_or(at, |former| former.min(at)));
        } else if scope.users.is_none() {
            self.failures = 0;
        }
    }

    /// What a pass found to be due, and what it changed of that.
    fn note_due(&mut self, pass: &Pass, scope: &Scope, passed: &Passed) {
        // What became due for everybody while single users had their pass is still to come.
        let now = (pass.clock)();
        let overdue = self.due.of_all.filter(|at| scope.users.is_some() && *at <= now);
        if scope.users.is_none() {
            self.due.users.clear();
        }
        for user in scope.users.iter().flatten().chain(&passed.touched) {
            self.due.users.remove(user);
        }
        self.due.users.extend(passed.due.users.clone());
        self.due.of_all = overdue.or(passed.due.of_all);
        if passed.touched.is_empty() {
            return;
        }
        let scope = Scope::of_users(passed.touched.iter().cloned());
        match (Pass { scope, ..pass.clone() }).due() {
            Ok(due) => {
                for user in &passed.touched {
                    self.due.users.remove(user);
                }
                self.due.users.extend(due.users);
                self.due.of_all = overdue.or(due.of_all);
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
        // So late that an instant cannot say it, it is after the next look.
        let due = self.due.first().and_then(|due| here.checked_add(until(due).unwrap_or_default()));
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
        if self.due.of_all.is_some_and(|at| at <= now) {
            return Wanted::all(Why::Due);
        }
        self.take_due_users(now)
    }

    /// Single users of whom something is due now.
    pub(super) fn take_due_users(&mut self, now: Timestamp) -> Wanted {
        let due = self.due.users.iter().filter(|(_, at)| **at <= now);
        let users = due.map(|(user, _)| user.clone()).collect();
        for user in &users {
            self.due.users.remove(user);
        }
        Wanted { all: None, users }
    }
}

fn is_failed_put(outcome: &Outcome) -> bool {
    matches!((&outcome.what, &outcome.found), (What::Install(_), Found::Failed(_)))
}

/// How long until a file that was changed by hand may be believed, if the pass did not wait for it.
fn settling(passed: &Passed) -> Option<Duration> {
    passed.planned.intent_error.as_ref().and_then(IntentError::ready_in)
}

/// So much, and up to a tenth more or less: a fleet of servers does not look all at once.
pub(super) fn spread(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * fastrand::f64())
}
