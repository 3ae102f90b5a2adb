//! When to run a pass: a file changed, something is due, somebody asks, or it is time for a look at
//! everything. Each means "look again": what comes while a pass is under way is one more pass.

mod files;
mod sweep_times;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::causes::chain;
use crate::model::outcome::Outcome;
use crate::observe::{IntentError, Places};
use crate::reconcile::{Exit, Pass, PassError, Passed};
use crate::store::{PassLock, StoreError};

use files::Files;
use sweep_times::Sweeps;

/// Who makes one change often makes another at once: they are waited for.
const GATHER: Duration = Duration::from_millis(25);
/// Passes begin no closer to each other than this, however many changes come.
const APART: Duration = Duration::from_millis(250);
/// How often the lock of another pass is tried.
const LOCKED: Duration = Duration::from_millis(100);
/// The first wait after a pass that could not be made, or left something undone that nothing else
/// is going to wake us for; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// Nothing is slept through for longer: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A loop of passes.
pub struct Watch {
    /// The pass, of everything.
    pub pass: Pass,
    /// How often everything is looked at, though nothing says that anything changed.
    pub look_every: Duration,
}

/// What the loop tells of, as it happens.
#[derive(Clone, Copy)]
pub enum Told<'a> {
    /// It is ready: a change from now on is seen.
    Ready,
    /// Another pass is under way; it is waited for.
    Waiting,
    /// What an action found.
    Outcome(&'a Outcome),
    /// A pass ended.
    Passed(&'a Passed),
    /// A pass could not be made.
    Failed(&'a PassError),
}

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Start,
    Files,
    Due,
    Asked,
    Look,
    Retry,
    Sweep,
    Stop,
}

/// When the next pass is due.
struct Agenda {
    /// The next look at everything.
    look: Instant,
    /// By the wall clock: when time alone may change what is to be done.
    due: Option<Timestamp>,
    retry: Option<Instant>,
    failures: u32,
}

impl Watch {
    /// Runs passes until `stop` is true: what is then under way is finished, and nothing new is
    /// begun. `asked` counts the times that somebody asked for a pass.
    ///
    /// # Errors
    /// The lock cannot be had, because its file cannot be opened.
    pub async fn run(
        &self,
        mut stop: watch::Receiver<bool>,
        mut asked: watch::Receiver<u64>,
        mut tell: impl FnMut(Told<'_>),
    ) -> Result<(), StoreError> {
        let mut files = Files::watch(watched(&self.pass.places));
        let mut agenda = Agenda::new(self.look_every);
        let mut sweeps = Sweeps::start(&self.pass);
        let mut why = Why::Start;
        tell(Told::Ready);
        while why != Why::Stop {
            tracing::info!(?why, "a pass begins");
            // Whatever changes from here on is seen by the next pass.
            files.forget_changes();
            asked.mark_unchanged();
            let began = Instant::now();
            let Some(lock) = self.lock(&mut stop, &mut tell).await? else { return Ok(()) };
            let passed = {
                let mut stop = stop.clone();
                let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
                let on_outcome = |outcome: &Outcome| tell(Told::Outcome(outcome));
                self.pass.run_under(&lock, None, stopped, on_outcome).await
            };
            match &passed {
                Ok(passed) => tell(Told::Passed(passed)),
                Err(error) => tell(Told::Failed(error)),
            }
            let due = self.pass.next_due();
            drop(lock);
            agenda.after(&passed, due, self.look_every);
            why = self.next(&mut files, &mut asked, &mut stop, &mut sweeps, &agenda).await;
            if !matches!(why, Why::Stop) {
                sleep_until(began + APART).await;
            }
        }
        Ok(())
    }

    /// Takes the lock; none: told to stop before it could be had.
    async fn lock(
        &self,
        stop: &mut watch::Receiver<bool>,
        tell: &mut impl FnMut(Told<'_>),
    ) -> Result<Option<PassLock>, StoreError> {
        let mut waits = false;
        loop {
            if *stop.borrow() {
                return Ok(None);
            }
            if let Some(lock) = PassLock::try_take(&self.pass.places.state)? {
                return Ok(Some(lock));
            }
            if !std::mem::replace(&mut waits, true) {
                tell(Told::Waiting);
            }
            tokio::select! {
                () = sleep(LOCKED) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Waits for a reason to make the next pass.
    async fn next(
        &self,
        files: &mut Files,
        asked: &mut watch::Receiver<u64>,
        stop: &mut watch::Receiver<bool>,
        sweeps: &mut Sweeps,
        agenda: &Agenda,
    ) -> Why {
        loop {
            let (at, why) = agenda.next((self.pass.clock)());
            let soon = Instant::now() + LONGEST_SLEEP;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Why::Stop,
                // Who asks is gone only when the loop is.
                Ok(()) = asked.changed() => return Why::Asked,
                () = files.changed() => {
                    sleep(GATHER).await;
                    return Why::Files;
                }
                () = sweeps.found() => return Why::Sweep,
                () = sleep_until(at.min(soon)) => if at <= soon { return why },
            }
        }
    }
}

impl Agenda {
    fn new(look_every: Duration) -> Self {
        let look = Instant::now() + spread(look_every);
        Self { look, due: None, retry: None, failures: 0 }
    }

    /// What follows from a pass, which looked at everything.
    fn after(
        &mut self,
        passed: &Result<Passed, PassError>,
        due: Result<Option<Timestamp>, PassError>,
        look_every: Duration,
    ) {
        self.look = Instant::now() + spread(look_every);
        self.due = match due {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(error = chain(&error), "what is due is not known");
                None
            }
        };
        let settles = passed.as_ref().ok().and_then(settling);
        let undone = match passed {
            Ok(passed) => matches!(passed.exit, Exit::Error | Exit::Owed),
            Err(_) => true,
        };
        self.failures = if undone { self.failures + 1 } else { 0 };
        let retry = FIRST_RETRY.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        self.retry =
            settles.or_else(|| undone.then(|| spread(retry))).map(|wait| Instant::now() + wait);
    }

    fn next(&self, now: Timestamp) -> (Instant, Why) {
        let here = Instant::now();
        let until =
            |due: Timestamp| Duration::try_from(due.duration_since(now)).unwrap_or_default();
        let due = self.due.map(|due| (here + until(due).min(self.until_look(here)), Why::Due));
        let retry = self.retry.map(|at| (at, Why::Retry));
        let all = [Some((self.look, Why::Look)), due, retry].into_iter().flatten();
        all.min_by_key(|(at, _)| *at).unwrap_or((self.look, Why::Look)) // there is always a look
    }

    fn until_look(&self, here: Instant) -> Duration {
        self.look.saturating_duration_since(here)
    }
}

/// How long until a file that was changed by hand may be believed, if the pass did not wait for it.
fn settling(passed: &Passed) -> Option<Duration> {
    passed.planned.intent_error.as_ref().and_then(IntentError::ready_in)
}

/// So much, and up to a tenth more or less: a fleet of servers does not look all at once.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// What a pass reads: two files, and all files of two directories.
fn watched(places: &Places) -> Vec<PathBuf> {
    vec![
        places.desired.clone(),
        places.people.clone(),
        places.registry.clone(),
        places.skills.clone(),
    ]
}
