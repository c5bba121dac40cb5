//! When another connection is made in place of one that stands (RFC 7296 section 2.8.3).

use std::time::{Duration, Instant};

use super::{BACKOFF_LAST, ConnId, Start, State, Supervisor};

/// How long before the end of an IKE_SA that is not rekeyed another takes its place: long enough for a negotiation whose messages are lost.
const BEFORE_END: Duration = Duration::from_secs(60);

/// When another connection takes the place of the one in use, by what makes it so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Anew {
    /// As it is planned.
    pub(super) planned: Option<Instant>,
    /// Before the peer's limit, or as something failed that only another connection brings. A rekeying changes nothing about it.
    pub(super) wanted: Option<Instant>,
    /// Before the end of an IKE_SA that is not rekeyed.
    pub(super) spent: Option<Instant>,
}

impl Anew {
    /// As it is planned, and not otherwise.
    pub(super) fn planned(at: Option<Instant>) -> Self {
        Self { planned: at, ..Self::default() }
    }

    /// The first of them.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.planned, self.wanted, self.spent].into_iter().flatten().min()
    }
}

impl Supervisor {
    /// The peer refuses to have the IKE_SA of a connection rekeyed, which `ends`: nothing is to stand still over that.
    pub fn ike_rekey_refused(&mut self, now: Instant, id: ConnId, ends: Instant) {
        if self.current() == Some(id) && self.may_authenticate_anew() {
            self.anew.spent = Some(ends.checked_sub(BEFORE_END).unwrap_or(now).max(now));
        }
    }

    /// It was rekeyed after all.
    pub fn ike_rekeyed(&mut self, id: ConnId) {
        if self.current() == Some(id) {
            self.anew.spent = None;
        }
    }

    /// The peer ends the connection unless it is authenticated anew within this time (RFC 4478). That is ours to do where we began.
    pub fn limited_by_peer(&mut self, now: Instant, id: ConnId, within: Duration) {
        if self.current() == Some(id) {
            // Before it is over, but however short it is, not more often than what fails is tried.
            self.authenticate_anew_at(now + (within - within / 10).max(BACKOFF_LAST / 2));
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
