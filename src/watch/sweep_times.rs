//! When the loop sweeps: at start, unless that was done a short while ago, and daily; sooner where a
//! list is to be looked at again. The times are in the state: who is restarted time and again
//! sweeps no more often.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::triggers::{Wanted, Why};
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

/// The sweeps of a loop: they go on beside its passes, one at a time, until this is dropped.
pub(super) struct Sweeps(
    #[expect(dead_code, reason = "ends its task when it is dropped")] JoinSet<()>,
);

impl Sweeps {
    /// What is found wants a look at everything.
    pub(super) fn start(pass: &Pass, wants: UnboundedSender<Wanted>) -> Self {
        let mut task = JoinSet::new();
        task.spawn(go_on(pass.clone(), wants));
        Self(task)
    }
}

async fn go_on(pass: Pass, wants: UnboundedSender<Wanted>) {
    // A fleet of servers does not ask all at once.
    let daily = DAILY * fastrand::i32(90..=110) / 100;
    let mut wait = AT_START;
    loop {
        match sweep(&pass, wait).await {
            Ok(swept) => {
                wait = daily;
                if swept.iter().any(|swept| swept.changes) {
                    wants.send(Wanted::all(Why::Sweep)).ok(); // the loop is over
                }
            }
            // The first pass makes it what it should be.
            Err(PassError::Store(StoreError::Missing(_) | StoreError::Older { .. })) => {}
            Err(error) => tracing::warn!(error = chain(&error), "nothing was swept"),
        }
        sleep(super::agenda::spread(TICK)).await;
    }
}

/// Sweeps the services that are due.
async fn sweep(pass: &Pass, wait: SignedDuration) -> Result<Vec<Swept>, PassError> {
    let now = (pass.clock)();
    let (sweeps, troubles) = {
        let store = Store::open_to_read(&pass.places.state)?;
        (store.last_sweeps()?, store.troubles()?)
    };
    let actual = Actual { troubles, ..Actual::default() };
    let is_due = |service: &ServiceId| {
        // One that is down, or refuses our secret, is left to the passes' own probes.
        service_trouble(&actual, false, now, service).is_none()
            && sweeps.get(service).is_none_or(|sweep| is_due(sweep, wait, now))
    };
    pass.sweep(is_due, || {}).await
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
