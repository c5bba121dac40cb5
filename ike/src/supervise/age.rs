//! Since when a connection is there.

use std::time::{Duration, Instant};

use super::{BACKOFF_FIRST, BACKOFF_LAST};

/// How old a connection is that comes up.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// When its negotiation began.
    pub began: Instant,
    /// For how long it has been up already, at the node that had it before.
    pub up: Duration,
    /// By chance: many that come together may be due at once. 0..=255.
    pub jitter: u8,
}

/// One that is new.
impl From<Instant> for Age {
    fn from(began: Instant) -> Self {
        Self { began, up: Duration::ZERO, jitter: 0 }
    }
}

impl Age {
    /// When it came up.
    pub(super) fn since(self, now: Instant) -> Instant {
        now.checked_sub(self.up).unwrap_or(now)
    }

    /// When another takes its place `after` it came up. One whose time is over, or nearly so, has a while yet, which is not the same for
    /// all, and a tenth of that time at most: moves that follow each other do not put it off for ever.
    pub(super) fn anew(self, now: Instant, after: Duration) -> Instant {
        if self.up.is_zero() {
            return now + after;
        }
        let spread = (after / 10).min(BACKOFF_LAST);
        let soonest = BACKOFF_FIRST + spread * u32::from(self.jitter) / 256;
        (self.since(now) + after).max(now + soonest)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs one instant to start from.
mod tests {
    use super::*;
    use crate::supervise::{Action, Plan, Start, Supervisor};

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    /// One that comes to another node after this long, and when it is authenticated anew.
    fn comes(plan: Plan, up: Duration, jitter: u8) -> (Supervisor, Duration) {
        let now = Instant::now();
        let mut s = Supervisor::new(now, plan);
        s.established(now, 1, Age { began: now.checked_sub(up).unwrap(), up, jitter }, true, 7, false);
        // Who begins with the peer is known a moment later.
        s.set_plan(now, Plan { reauth: plan.reauth, ..Plan::starting(true) });
        let due = s.poll_timeout().unwrap();
        assert_eq!(s.handle_timeout(due), Some(Action::Connect));
        (s, due - now)
    }

    #[test]
    fn a_connection_that_moves_is_authenticated_anew_when_it_would_have_been() {
        for start in [Start::Us, Start::OnDemand, Start::Peer] {
            let plan = Plan { start, reauth: Some(HOUR), ..Plan::starting(false) };
            for jitter in [0, 100, 255] {
                assert_eq!(comes(plan, 10 * MINUTE, jitter).1, 50 * MINUTE);
                let last = comes(plan, 59 * MINUTE, jitter).1;
                assert!((MINUTE..MINUTE + BACKOFF_FIRST).contains(&last), "{last:?}");
            }
        }
    }

    #[test]
    fn those_whose_time_is_over_are_not_authenticated_all_at_once() {
        for (after, last) in [(HOUR, MINUTE), (MINUTE, Duration::from_secs(6))] {
            let plan = Plan { reauth: Some(after), ..Plan::starting(false) };
            let due: Vec<_> = (0..=255).map(|jitter| comes(plan, 2 * HOUR, jitter).1).collect();
            assert_eq!(due[0], BACKOFF_FIRST);
            assert!(due.is_sorted_by(|one, next| one < next), "{due:?}");
            assert!(due[255] < BACKOFF_FIRST + last, "{due:?}");
        }
    }

    /// What is under way is not begun once more because somebody else begins with the peer from now on.
    #[test]
    fn one_that_is_being_authenticated_anew_is_so_once() {
        let plan = Plan { reauth: Some(HOUR), ..Plan::starting(true) };
        let (mut s, due) = comes(plan, 2 * HOUR, 0);
        let now = Instant::now() + due;
        for start in [Start::Peer, Start::Us] {
            s.set_plan(now, Plan { start, ..plan });
            assert_eq!(s.handle_timeout(now), None);
        }
    }

    /// A connection of the peer's that comes up after one has moved did not cross it, be it only that it began before the move.
    #[test]
    fn what_begins_after_a_connection_came_up_elsewhere_has_not_crossed_it() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, Plan::starting(true));
        let old = Age { began: now.checked_sub(HOUR).unwrap(), up: HOUR, jitter: 0 };
        s.established(now, 1, old, true, 7, false);
        s.established(now, 2, now.checked_sub(MINUTE).unwrap(), false, 9, false);
        assert_eq!(s.current(), Some(2), "the newer one stays, though its SPI is the higher one");
    }
}
