//! Whether the loop itself goes on, not merely the process.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Beats with each turn of the loop.
pub struct Heart(Mutex<Instant>);

impl Default for Heart {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heart {
    /// The loop goes on.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether the last beat is no longer ago than this.
    #[must_use]
    pub fn beats_within(&self, time: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() <= time
    }
}
