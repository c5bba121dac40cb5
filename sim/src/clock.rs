//! Virtual time: an offset from an arbitrary instant. Nothing waits.

use std::time::{Duration, Instant};

/// The present of a history.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
    now: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self { base: Instant::now(), now: Duration::ZERO }
    }
}

impl Clock {
    /// Now, as the cores take it.
    pub fn instant(&self) -> Instant {
        self.base + self.now
    }

    /// Now, since the history began.
    pub const fn elapsed(&self) -> Duration {
        self.now
    }

    /// When `at` is, since the history began.
    pub fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.base)
    }

    /// Time does not go back.
    pub fn advance_to(&mut self, at: Duration) {
        self.now = self.now.max(at);
    }
}
