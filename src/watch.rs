//! When to run a pass, and of whom: a file changed, something is due, somebody asks, or it is time
//! for a look at everything. Each means "look again". What changes for single users while a pass is
//! under way joins it; whatever else comes is one more pass.

mod agenda;
mod files;
mod heart;
mod sweep_times;
mod timetable;
mod triggers;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::Instrument as _;

use crate::exchange::seen::Observer;
use crate::execute::Joining;
use crate::model::outcome::{Found, Outcome};
use crate::model::plan::Scope;
use crate::reconcile::{Pass, PassError, Passed, Talk};
use crate::store::{PassLock, StoreError};

use agenda::Agenda;
pub use heart::Heart;
use sweep_times::Sweeps;
use triggers::{Triggers, Wanted, Why};

/// Passes begin no closer to each other than this, however many changes come.
const APART: Duration = Duration::from_millis(100);
/// How often the lock of another pass is tried, and whether one waits for ours.
const LOCKED: Duration = Duration::from_millis(100);
/// Nothing is slept through for longer: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Whoever wants a look at everything waits so long for the end of the pass that is under way. Then
/// it is ended: what is not begun is planned again. Single users join it until its last call has
/// ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// A pass that takes longer is ended, too: others that are due do not wait for the rest of it.
const LONGEST_PASS: Duration = Duration::from_mins(10);

/// A loop that lives shows it this often, also when a single step of a pass in a large fleet takes
/// its time, or calls that are under way when a pass is ended.
pub const SILENCE: Duration = Duration::from_mins(5);

/// A loop of passes.
pub struct Watch {
    pass: Pass,
    look_every: Duration,
    heart: Arc<Heart>,
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

impl Watch {
    /// A loop of this pass, which looks at everything this often though nothing says that anything
    /// changed.
    #[must_use]
    pub fn new(pass: Pass, look_every: Duration) -> Self {
        Self { pass, look_every, heart: Arc::default() }
    }

    /// Has somebody told of each call to a service.
    pub fn observe(&mut self, observer: Observer) {
        self.pass.exchange = Arc::new(self.pass.exchange.observed(observer));
    }

    /// What beats while the loop goes on: at least every [`SILENCE`].
    #[must_use]
    pub fn heart(&self) -> Arc<Heart> {
        Arc::clone(&self.heart)
    }

    /// Runs passes until `stop` is true: what is then under way is finished, and nothing new is
    /// begun. `asked` counts the times that somebody asked for a pass.
    ///
    /// # Errors
    /// The lock cannot be had, because its file cannot be opened.
    pub async fn run(
        &self,
        mut stop: watch::Receiver<bool>,
        asked: watch::Receiver<u64>,
        mut tell: impl FnMut(Told<'_>),
    ) -> Result<(), StoreError> {
        let (wants, mut wanted) = mpsc::unbounded_channel();
        let triggers = Triggers::new(&self.pass.places, asked, wants.clone());
        let triggers = tokio::spawn(triggers.run());
        let mut agenda = Agenda::new(self.look_every);
        let _sweeps = Sweeps::start(&self.pass, wants);
        let mut next = Wanted::all(Why::Start);
        tell(Told::Ready);
        while !*stop.borrow() {
            // What has come meanwhile is seen by this pass.
            while let Ok(more) = wanted.try_recv() {
                next.add(more);
            }
            let began = Instant::now();
            let Some(lock) = self.lock(&mut stop, &mut tell).await? else { break };
            let (span, scope) = std::mem::take(&mut next).begin();
            let passed = {
                let running = Running { watch: self, lock: &lock, agenda: &mut agenda };
                let pass = running.pass(&scope, &mut wanted, &mut next, stop.clone(), &mut tell);
                pass.instrument(span).await
            };
            match &passed {
                Ok(passed) => tell(Told::Passed(passed)),
                Err(error) => tell(Told::Failed(error)),
            }
            agenda.after(&self.pass, &scope, &passed);
            // What is held of one is let go with all that is held: it is recorded as one.
            let held = |passed: &Passed| !passed.of_all && !passed.planned.held.is_empty();
            if passed.as_ref().is_ok_and(held) {
                next.all.get_or_insert(Why::Held);
            }
            drop(lock);
            if next.is_empty() {
                next = self.next(&mut wanted, &mut stop, &mut agenda).await;
            }
            sleep_until(began + APART).await;
        }
        triggers.abort();
        Ok(())
    }

    /// Takes the lock; none: told to stop before it could be had.
    async fn lock(
        &self,
        stop: &mut watch::Receiver<bool>,
        tell: &mut impl FnMut(Told<'_>),
    ) -> Result<Option<PassLock>, StoreError> {
        let mut waits = false;
        // Whoever waited for the pass before this one has the first turn.
        if PassLock::is_awaited(&self.pass.places.state) {
            sleep(LOCKED).await;
        }
        loop {
            self.heart.beat();
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

    /// Waits for a reason to make the next pass; nothing wanted: told to stop.
    async fn next(
        &self,
        wanted: &mut mpsc::UnboundedReceiver<Wanted>,
        stop: &mut watch::Receiver<bool>,
        agenda: &mut Agenda,
    ) -> Wanted {
        loop {
            self.heart.beat();
            let at = agenda.next((self.pass.clock)());
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Wanted::default(),
                Some(wanted) = wanted.recv() => return wanted,
                () = sleep_until(at.min(Instant::now() + LONGEST_SLEEP)) => {
                    let wanted = agenda.take_due((self.pass.clock)());
                    if !wanted.is_empty() {
                        return wanted;
                    }
                }
            }
        }
    }
}

/// A pass that is under way.
struct Running<'a> {
    watch: &'a Watch,
    lock: &'a PassLock,
    agenda: &'a mut Agenda,
}

impl Running<'_> {
    /// Runs it. Single users that are wanted meanwhile join it; the rest is added to `next`.
    async fn pass(
        self,
        scope: &Scope,
        wanted: &mut mpsc::UnboundedReceiver<Wanted>,
        next: &mut Wanted,
        mut stop: watch::Receiver<bool>,
        tell: &mut impl FnMut(Told<'_>),
    ) -> Result<Passed, PassError> {
        let began = Instant::now();
        let pass = Pass { scope: scope.clone(), ..self.watch.pass.clone() };
        let (join, joining) = mpsc::unbounded_channel();
        let mut ends = false;
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        let (failed, mut failures) = mpsc::unbounded_channel();
        let on_outcome = |outcome: &Outcome| {
            if matches!(outcome.found, Found::Failed(_)) {
                failed.send(outcome.user.clone()).ok(); // it is there for as long as this
            }
            tell(Told::Outcome(outcome));
        };
        let (waits, mut waiting) = mpsc::unbounded_channel();
        let talk = Talk { joining, waits };
        let mut run = std::pin::pin!(pass.run_with(self.lock, talk, stopped, on_outcome));
        let mut look = interval(LOCKED);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let more = tokio::select! {
                passed = &mut run => {
                    while let Ok(user) = failures.try_recv() {
                        self.agenda.note_failed((pass.clock)(), user);
                    }
                    next.users.extend(passed.iter().flat_map(|passed| passed.executed.left.clone()));
                    return passed;
                }
                Some(more) = wanted.recv() => more,
                Some((user, until)) = waiting.recv() => {
                    self.agenda.note_wait(user, until);
                    continue;
                }
                Some(user) = failures.recv() => {
                    self.agenda.note_failed((pass.clock)(), user);
                    continue;
                }
                _ = look.tick() => self.agenda.take_due_users((pass.clock)()),
            };
            // One that was ended and does not end is no life.
            if began.elapsed() < LONGEST_PASS + SILENCE {
                self.watch.heart.beat();
            }
            next.all = next.all.or(more.all);
            if !more.users.is_empty()
                && let Err(SendError(Joining::Users(users))) = join.send(Joining::Users(more.users))
            {
                next.users.extend(users);
            }
            let is_wanted = next.all.is_some() || PassLock::is_awaited(&pass.places.state);
            let patience = if is_wanted { PATIENCE } else { LONGEST_PASS };
            if began.elapsed() > patience && !std::mem::replace(&mut ends, true) {
                tracing::info!("the pass under way is ended: what is not begun is planned again");
                next.all.get_or_insert(Why::Ended);
                join.send(Joining::LastOnes).ok(); // it has ended
            }
        }
    }
}
