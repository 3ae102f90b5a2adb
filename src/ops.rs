//! What ops see of a loop while it runs: metrics, and whether it lives and is ready.

mod guests;
mod listener;
mod metrics;
mod readiness;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::exchange::seen::Observer;
use crate::watch::{Heart, Told};

pub use listener::{MODE, serve};

use metrics::Metrics;
use readiness::Readiness;

/// What is known of a loop. It is told; nothing is asked for it.
pub struct Ops {
    metrics: Metrics,
    readiness: Mutex<Readiness>,
    heart: Arc<Heart>,
}

impl Ops {
    /// Of the loop whose heart this is, and which looks at everything this often.
    #[must_use]
    pub fn new(heart: Arc<Heart>, look_every: Duration) -> Self {
        let readiness = Mutex::new(Readiness::new(look_every));
        Self { metrics: Metrics::default(), readiness, heart }
    }

    /// Takes in what the loop tells.
    pub fn told(&self, told: Told<'_>) {
        let mut readiness = self.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Told::Passed(passed) => {
                self.metrics.passed(passed);
                readiness.passed(passed);
            }
            Told::Failed(_) => {
                self.metrics.failed();
                readiness.failed();
            }
            Told::Outcome(outcome) => self.metrics.outcome(outcome),
            Told::Ready | Told::Waiting => {}
        }
    }

    /// Takes in each call to a service.
    #[must_use]
    pub fn observer(self: &Arc<Self>) -> Observer {
        let ops = Arc::clone(self);
        Arc::new(move |seen| ops.metrics.called(seen))
    }
}
