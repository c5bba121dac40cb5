//! So many of something per second.

use std::time::{Duration, Instant};

/// Allows a number of events in every second that begins with one.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_second: u32,
    since: Option<Instant>,
    used: u32,
}

impl Allowance {
    pub(crate) const fn new(per_second: u32) -> Self {
        Self { per_second, since: None, used: 0 }
    }

    /// Whether one more is allowed.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        let allowed = self.used < self.per_second;
        self.used += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_second_anew() {
        let (mut allowance, start) = (Allowance::new(3), Instant::now());
        for second in 0..3 {
            let now = start + Duration::from_secs(second);
            assert_eq!((0..10).filter(|_| allowance.take(now)).count(), 3);
        }
    }
}
