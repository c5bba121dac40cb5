//! What is done so often at most, however many ask for it.

use std::time::{Duration, Instant};

/// So many a second.
pub(crate) struct Rate {
    per_second: u32,
    since: Instant,
    used: u32,
}

impl Rate {
    pub(crate) const fn new(now: Instant, per_second: u32) -> Self {
        Self { per_second, since: now, used: 0 }
    }

    /// Whether one more is allowed this second.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.used) = (now, 0);
        }
        self.used = self.used.saturating_add(1);
        self.used <= self.per_second
    }
}
