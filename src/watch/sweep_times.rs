//! When the loop sweeps: at start, unless that was done a short while ago, and daily; sooner where a
//! list is to be looked at again. The times are in the state: who is restarted time and again
//! sweeps no more often.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::causes::chain;
use crate::model::actual::Actual;
use crate::model::name::ServiceId;
use crate::model::plan::waiting::service_trouble;
use crate::model::sweep::{Missing, Sweep};
use crate::model::token::later;
use crate::reconcile::{Pass, PassError, Swept};
use crate::store::{Store, StoreError};

/// How often it is looked whether a service is due.
const TICK: Duration = Duration::from_mins(10);
/// At start, what was swept since then is not swept again.
const AT_START: SignedDuration = SignedDuration::from_hours(1);
/// Otherwise.
const DAILY: SignedDuration = SignedDuration::from_hours(24);
/// A list that could not be relied on is asked for again, at most 24 times a day.
const FROZEN: SignedDuration = SignedDuration::from_hours(1);
/// A key that one list lacks does not wait a day for the second.
const MISSING: SignedDuration = SignedDuration::from_mins(9);

/// The sweeps of a loop. They go on beside its passes, one at a time.
pub(super) struct Sweeps {
    pass: Pass,
    under_way: JoinSet<Result<Vec<Swept>, PassError>>,
    tick: Instant,
    starting: bool,
    /// Of a day: a fleet of servers does not ask all at once.
    percent: i32,
}

impl Sweeps {
    pub(super) fn new(pass: &Pass) -> Self {
        let (pass, tick) = (pass.clone(), Instant::now());
        let percent = fastrand::i32(90..=110);
        Self { pass, under_way: JoinSet::new(), tick, starting: true, percent }
    }

    /// Sweeps when it is time to, and returns once one found something for a pass to act upon. May
    /// be dropped and called again at any time.
    pub(super) async fn found(&mut self) {
        loop {
            while let Some(ended) = self.under_way.join_next().await {
                match ended {
                    Ok(Ok(swept)) if swept.iter().any(|swept| swept.changes) => return,
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::warn!(error = chain(&error), "nothing was swept"),
                    Err(error) => tracing::warn!(%error, "a sweep did not end"),
                }
            }
            sleep_until(self.tick).await;
            self.tick = Instant::now() + super::spread(TICK);
            let at_start = std::mem::take(&mut self.starting);
            match self.due(at_start) {
                Ok(is_due) => self.begin(is_due),
                Err(StoreError::Missing(_) | StoreError::Older { .. }) => {
                    self.starting = at_start; // the first pass makes it what it should be
                }
                Err(error) => tracing::warn!(error = chain(&error), "nothing is swept"),
            }
        }
    }

    fn begin(&mut self, is_due: impl Fn(&ServiceId) -> bool + Send + Sync + 'static) {
        let pass = self.pass.clone();
        self.under_way.spawn(async move { pass.sweep(is_due, || {}).await });
    }

    fn due(&self, at_start: bool) -> Result<impl Fn(&ServiceId) -> bool + use<>, StoreError> {
        let now = (self.pass.clock)();
        let store = Store::open_to_read(&self.pass.places.state)?;
        let sweeps = store.last_sweeps()?;
        let actual = Actual { troubles: store.troubles()?, ..Actual::default() };
        let daily = if at_start { AT_START } else { DAILY * self.percent / 100 };
        Ok(move |service: &ServiceId| {
            // One that is down, or refuses our secret, is left to the passes' own probes.
            service_trouble(&actual, false, now, service).is_none()
                && sweeps.get(service).is_none_or(|sweep| is_due(sweep, daily, now))
        })
    }
}

fn is_due(sweep: &Sweep, daily: SignedDuration, now: Timestamp) -> bool {
    let wait = if sweep.record.frozen.is_some() {
        FROZEN
    } else if sweep.missing.values().any(|missing| !Missing::is_gone(missing)) {
        MISSING
    } else {
        daily
    };
    // A time that is yet to come was written under another clock.
    later(sweep.record.at, wait) <= now || sweep.record.at > now
}
