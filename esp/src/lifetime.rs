//! Lifetime in seconds, as a timer without a clock.

mod snapshot;

use std::time::{Duration, Instant};

pub use snapshot::LifetimeSnapshot;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimeEvent {
    /// Rekey now: the SA still works.
    Soft,
    /// Delete the SA now.
    Hard,
}

/// When an SA asks for its rekey and when it ends.
///
/// Order of calls: [`poll_timeout`](Self::poll_timeout) says when to call [`handle_timeout`](Self::handle_timeout);
/// call that until it returns `None`. Each event comes once, soft before hard.
#[derive(Debug, Clone)]
pub struct Lifetime {
    soft: Option<Instant>,
    hard: Option<Instant>,
}

impl Lifetime {
    /// Starts at `now`. `jitter` is taken off the soft lifetime, so that the two ends and thousands of peers do not
    /// rekey in step (RFC 7296 section 2.8); the caller draws it, typically up to a tenth of `soft`.
    pub fn new(now: Instant, soft: Option<Duration>, hard: Option<Duration>, jitter: Duration) -> Self {
        let soft = soft.map(|soft| now + soft.saturating_sub(jitter));
        Self { soft, hard: hard.map(|hard| now + hard) }
    }

    /// When the rekey is due, unless it was already or there is none.
    pub fn soft(&self) -> Option<Instant> {
        self.soft
    }

    /// When the SA ends, if ever.
    pub fn hard(&self) -> Option<Instant> {
        self.hard
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.soft, self.hard) {
            (Some(soft), Some(hard)) => Some(soft.min(hard)),
            (soft, hard) => soft.or(hard),
        }
    }

    /// What is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<LifetimeEvent> {
        if self.hard.is_some_and(|hard| hard <= now) {
            // Once it is over there is nothing left to rekey.
            *self = Self { soft: None, hard: None };
            return Some(LifetimeEvent::Hard);
        }
        if self.soft.is_some_and(|soft| soft <= now) {
            self.soft = None;
            return Some(LifetimeEvent::Soft);
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#[allow(clippy::disallowed_methods)] // A test needs one instant to start from.
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn soft_comes_first_and_each_comes_once() {
        let start = Instant::now();
        let mut lifetime = Lifetime::new(start, Some(100 * SECOND), Some(120 * SECOND), 7 * SECOND);
        assert_eq!(lifetime.poll_timeout(), Some(start + 93 * SECOND));
        assert_eq!(lifetime.handle_timeout(start + 92 * SECOND), None);
        assert_eq!(lifetime.handle_timeout(start + 93 * SECOND), Some(LifetimeEvent::Soft));
        assert_eq!(lifetime.handle_timeout(start + 93 * SECOND), None);
        assert_eq!(lifetime.poll_timeout(), Some(start + 120 * SECOND));
        assert_eq!(lifetime.handle_timeout(start + 120 * SECOND), Some(LifetimeEvent::Hard));
        assert_eq!(lifetime.poll_timeout(), None);
    }

    #[test]
    fn a_late_wakeup_skips_soft() {
        let start = Instant::now();
        let mut lifetime = Lifetime::new(start, Some(SECOND), Some(2 * SECOND), Duration::ZERO);
        assert_eq!(lifetime.handle_timeout(start + 3 * SECOND), Some(LifetimeEvent::Hard));
        assert_eq!(lifetime.handle_timeout(start + 3 * SECOND), None);
    }

    #[test]
    fn without_lifetimes_nothing_is_due() {
        let start = Instant::now();
        let mut lifetime = Lifetime::new(start, None, None, SECOND);
        assert_eq!(lifetime.poll_timeout(), None);
        assert_eq!(lifetime.handle_timeout(start + 1000 * SECOND), None);
    }
}
