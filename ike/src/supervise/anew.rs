//! When another connection is made in place of one that stands (RFC 7296 section 2.8.3).

use std::time::{Duration, Instant};

use super::{BACKOFF_LAST, ConnId, Start, State, Supervisor};

/// How long before the end of an IKE_SA that is not rekeyed another takes its place: long enough for a negotiation whose messages are lost.
const BEFORE_END: Duration = Duration::from_secs(60);

/// When another connection takes the place of the one in use, whichever that is. What ends a certain one is noted with that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Anew {
    /// As it is planned.
    pub(super) planned: Option<Instant>,
    /// As something failed that only another connection brings. A rekeying changes nothing about it.
    pub(super) wanted: Option<Instant>,
}

impl Anew {
    /// As it is planned, and not otherwise.
    pub(super) fn planned(at: Option<Instant>) -> Self {
        Self { planned: at, ..Self::default() }
    }
}

impl Supervisor {
    /// The peer refuses to have the IKE_SA of a connection rekeyed, which `ends`: nothing is to stand still over that.
    pub fn ike_rekey_refused(&mut self, now: Instant, id: ConnId, ends: Instant) {
        if let Some(up) = self.up.iter_mut().find(|up| up.id == id) {
            up.spent = Some(ends.checked_sub(BEFORE_END).unwrap_or(now).max(now));
        }
    }

    /// It was rekeyed after all.
    pub fn ike_rekeyed(&mut self, id: ConnId) {
        if let Some(up) = self.up.iter_mut().find(|up| up.id == id) {
            up.spent = None;
        }
    }

    /// The peer ends the connection unless it is authenticated anew within this time (RFC 4478). That is ours to do where we began.
    pub fn limited_by_peer(&mut self, now: Instant, id: ConnId, within: Duration) {
        if let Some(up) = self.up.iter_mut().find(|up| up.id == id) {
            // Before it is over, but however short it is, not more often than what fails is tried.
            let at = now + (within - within / 10).max(BACKOFF_LAST / 2);
            up.limited = Some(up.limited.map_or(at, |limited| limited.min(at)));
        }
    }

    /// When another connection is to take the place of the one in use: the first of what makes it so.
    pub(super) fn anew_due(&self) -> Option<Instant> {
        let of_its_own = self.up.last().filter(|_| self.may_authenticate_anew());
        let of_its_own = of_its_own.map_or([None; 2], |up| [up.limited, up.spent]);
        [self.anew.planned, self.anew.wanted].into_iter().chain(of_its_own).flatten().min()
    }

    /// A connection is in use that another was to take the place of, which has come to nothing: that is tried again, but not at once.
    pub(super) fn not_at_once_again(&mut self, now: Instant) {
        if let Some(up) = self.up.last_mut() {
            let later = |at: Instant| at.max(now + BACKOFF_LAST);
            (up.limited, up.spent) = (up.limited.map(later), up.spent.map(later));
        }
    }

    /// Plans another connection in place of the one in use, where it is ours to begin.
    pub(super) fn authenticate_anew_at(&mut self, at: Instant) {
        if self.may_authenticate_anew() {
            self.anew.wanted = Some(self.anew.wanted.map_or(at, |wanted| wanted.min(at)));
        }
    }

    fn may_authenticate_anew(&self) -> bool {
        self.state == State::Established && self.plan.start != Start::Peer && !self.reauthenticating
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs one instant to start from.
mod tests {
    use super::*;
    use crate::supervise::{Action, Ended, Plan};

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn up(plan: Plan) -> (Supervisor, Instant) {
        let now = Instant::now();
        let mut s = Supervisor::new(now, plan);
        s.try_now();
        s.established(now, 1, now, true, 7, false);
        s.child_up(now, 1, "net");
        (s, now)
    }

    #[test]
    fn what_is_not_rekeyed_is_made_anew_before_its_end() {
        let (mut s, now) = up(Plan::starting(true));
        s.ike_rekey_refused(now, 9, now + HOUR);
        assert_eq!(s.poll_timeout(), None, "not the one in use");
        s.ike_rekey_refused(now, 1, now + HOUR);
        s.ike_rekey_refused(now, 1, now + HOUR);
        assert_eq!(s.poll_timeout(), Some(now + HOUR - BEFORE_END));
        s.ike_rekeyed(1);
        assert_eq!(s.poll_timeout(), None, "it was, after all");
        s.ike_rekey_refused(now, 1, now + HOUR);
        s.set_plan(now, Plan::starting(false));
        assert_eq!(s.poll_timeout(), None, "the peer begins from now on");
        s.set_plan(now, Plan::starting(true));
        s.ike_rekey_refused(now, 1, now + SECOND);
        assert_eq!(s.handle_timeout(now), Some(Action::Connect), "what is left of it");
        assert_eq!(s.current(), Some(1));
        // Where the peer begins, that is left to it.
        let (mut s, now) = up(Plan::starting(false));
        s.ike_rekey_refused(now, 1, now + HOUR);
        assert_eq!(s.poll_timeout(), None);
    }

    #[test]
    fn a_peer_that_answers_is_not_lost() {
        let plan = Plan { lost: Start::Peer, ..Plan::starting(true) };
        for (how, begins) in [(Ended::Spent, true), (Ended::Failed, false)] {
            let (mut s, now) = up(plan);
            s.ended(now + HOUR, 1, how, 0);
            assert_eq!(s.poll_timeout().is_some(), begins, "{how:?}");
        }
    }

    #[test]
    fn the_time_that_the_peer_gives_is_kept() {
        let (mut s, now) = up(Plan { reauth: Some(HOUR), ..Plan::starting(true) });
        s.limited_by_peer(now, 1, HOUR * 2);
        assert_eq!(s.poll_timeout(), Some(now + HOUR), "our own comes first");
        s.limited_by_peer(now, 1, SECOND * 1000);
        assert_eq!(s.poll_timeout(), Some(now + SECOND * 900));
        // A rekeying is no authentication, and another plan none of the peer's.
        s.ike_rekey_refused(now, 1, now + SECOND * 800);
        assert_eq!(s.poll_timeout(), Some(now + SECOND * 740));
        s.ike_rekeyed(1);
        s.set_plan(now, Plan { reauth: Some(HOUR * 3), ..Plan::starting(true) });
        assert_eq!(s.poll_timeout(), Some(now + SECOND * 900));
        s.limited_by_peer(now, 1, SECOND);
        assert_eq!(s.poll_timeout(), Some(now + SECOND * 30));
    }

    /// The peer's limit is that of a connection, whichever is in use when it comes.
    #[test]
    fn a_limit_is_that_of_its_connection() {
        // Two crossed, and the older is kept, be its limit told before or after.
        for before in [true, false] {
            let now = Instant::now();
            let mut s = Supervisor::new(now, Plan::starting(true));
            s.try_now();
            s.established(now + SECOND, 1, now, true, 7, false);
            if before {
                s.limited_by_peer(now, 1, SECOND * 1000);
            }
            s.established(now + SECOND, 2, now, false, 8, false);
            if !before {
                s.limited_by_peer(now, 1, SECOND * 1000);
            }
            assert_eq!(s.current(), Some(1));
            s.ended(now + SECOND, 2, Ended::ByPeer, 0);
            assert_eq!(s.poll_timeout(), Some(now + SECOND * 900));
            let s = Supervisor::restored(&s.snapshot(now), now).unwrap();
            assert_eq!(s.poll_timeout(), Some(now + SECOND * 900));
        }
        // A newer one of the peer's has none, and dies while the older is there.
        let (mut s, now) = up(Plan::starting(true));
        s.limited_by_peer(now, 1, SECOND * 1000);
        s.ike_rekey_refused(now, 1, now + HOUR);
        s.established(now + SECOND, 2, now + SECOND, false, 8, false);
        assert_eq!(s.poll_timeout(), Some(now + SECOND + crate::supervise::SUPERSEDED));
        let mut s = Supervisor::restored(&s.snapshot(now), now).unwrap();
        s.ended(now + SECOND * 2, 2, Ended::Failed, 0);
        assert_eq!((s.current(), s.poll_timeout()), (Some(1), Some(now + SECOND * 900)));
        assert_eq!(s.handle_timeout(now + SECOND * 900), Some(Action::Connect));
        assert_eq!(s.handle_timeout(now + SECOND * 900), None, "once");
        // It is told by the old one while the new one is under way; that comes, and dies: not at once again.
        let now = now + SECOND * 900;
        s.established(now, 3, now, true, 9, false);
        s.ended(now + SECOND, 3, Ended::Failed, 0);
        assert_eq!((s.current(), s.poll_timeout()), (Some(1), Some(now + SECOND + BACKOFF_LAST)));
        // Nor where it has come to nothing.
        assert_eq!(s.handle_timeout(now + SECOND * 61), Some(Action::Connect));
        s.ended(now + SECOND * 61, 4, Ended::Failed, 0);
        assert_eq!(s.poll_timeout(), Some(now + SECOND * 61 + BACKOFF_LAST));
    }

    /// The one that was to take its place gave way to something else.
    #[test]
    fn what_came_to_nothing_is_tried_again() {
        let (mut s, now) = up(Plan { reauth: Some(HOUR), ..Plan::starting(true) });
        for how in [Ended::ByUs, Ended::Failed] {
            let now = now + HOUR * 2;
            assert_eq!(s.handle_timeout(now), Some(Action::Connect));
            s.ended(now, 2, how, 0);
            assert_eq!(s.poll_timeout(), Some(now + BACKOFF_LAST));
            s.anew.wanted = Some(now);
        }
    }
}
