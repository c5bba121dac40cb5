//! Child SAs that should be there and are not: when they are asked for again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BACKOFF_LAST, ConnId, PROVEN, Start, State, Supervisor};
use crate::event::ChildEnd;
use crate::resources::resource_of;

/// Wait before a Child SA that should be there is asked for again: long enough that a peer which refuses it is not
/// kept busy, short against anybody's patience.
pub const RESTORE: Duration = Duration::from_secs(2);
/// Among the refusals: the Child SA was there, and nobody has refused it since.
const WAS_THERE: u32 = 0;
/// Among the refusals: the Child SA is there, and the peer refuses to have it rekeyed.
const NOT_REKEYED: u32 = u32::MAX;
/// With the number of refusals: the Child SA was there, and the peer has deleted it at once.
const DELETED: u32 = 1 << 16;
const fn was_deleted(times: u32) -> bool {
    times != NOT_REKEYED && times & DELETED != 0
}

/// Lost Child SAs that wait to be asked for again: one for each policy a peer may have.
pub(super) const MAX_RESTORES: usize = 64;

impl Supervisor {
    /// A Child SA of the connection `id` ended; `still` says whether the connection in use has another pair of its policy.
    /// Where it is ours to start, it is asked for again once the last one is gone, whatever took it: the pair that came in
    /// place of a rekeyed one may have been deleted before it. One that the peer takes and deletes again before it has `lasted` for long
    /// is as good as refused.
    pub fn child_ended(
        &mut self,
        now: Instant,
        id: ConnId,
        name: &Arc<str>,
        (reason, lasted): (ChildEnd, Duration),
        still: bool,
    ) {
        // The end of the connection in use decides for its own pairs. One that was replaced may have had the last pair of
        // a policy.
        let decided = reason == ChildEnd::IkeClosed && self.current().is_none_or(|current| current == id);
        if !decided && !still {
            if reason == ChildEnd::DeletedByPeer && lasted < PROVEN {
                self.child_refused(now, name, false);
                if let Some(times) = self.refusals.get(name).copied() {
                    self.note_refusal(name, times | DELETED);
                }
                return;
            }
            self.child_missing(now, name);
            let known = self.refusals.get(name).copied();
            match known {
                Some(NOT_REKEYED) if reason == ChildEnd::Expired => {
                    // To ask for it in the way that was refused is of no use.
                    self.authenticate_anew_at(now);
                    self.note_refusal(name, WAS_THERE + 1);
                }
                Some(_) if lasted < PROVEN && known != Some(NOT_REKEYED) => {}
                Some(_) | None => self.note_refusal(name, WAS_THERE),
            }
        }
    }

    /// The peer refuses to have a Child SA rekeyed, which is there for now. If it is so until its end, it is made as it was made first
    /// (`by_auth`: see [`Self::child_refused`]).
    pub fn rekey_refused(&mut self, name: &Arc<str>, by_auth: bool) {
        if by_auth {
            self.note_refusal(name, NOT_REKEYED);
        }
    }

    /// A new connection begins with what may be made by it. Of what the peer deletes at once it is no success to have made it once more.
    pub(super) fn forget_refusals(&mut self) {
        self.refusals.retain(|_, times| was_deleted(*times));
    }

    fn note_refusal(&mut self, name: &Arc<str>, times: u32) {
        let room = self.refusals.contains_key(name) || self.refusals.len() < MAX_RESTORES;
        if room && resource_of(name).1 == 0 {
            self.refusals.insert(name.clone(), times);
        }
    }

    /// Whether it is up to us to ask for a Child SA that is missing.
    pub fn asks(&self) -> bool {
        self.begins == Start::Us && self.state == State::Established
    }

    /// A Child SA is gone for reasons outside the protocol.
    pub fn child_missing(&mut self, now: Instant, name: &Arc<str>) {
        self.restore(now + RESTORE, name);
    }

    /// A Child SA could not be made. Each time in a row it is asked for later, so that a peer whose configuration does not fit
    /// is not kept busy, nor whoever reads the log.
    ///
    /// One that was there before, and now is refused, may be one that only the first exchange of a connection makes (`by_auth`, IKEv2): that
    /// has no key exchange of its own to differ in, and some peers have no other (RFC 7815). Then we authenticate anew, while what else
    /// there is goes on: RFC 7296 section 2.8 has the IKE_SA closed.
    pub fn child_refused(&mut self, now: Instant, name: &Arc<str>, by_auth: bool) {
        let known = self
            .refusals
            .get(name)
            .copied()
            .map(|times| if times == NOT_REKEYED { WAS_THERE } else { times & !DELETED });
        let deleted =
            self.refusals.get(name).is_some_and(|times| *times != NOT_REKEYED && times & DELETED != 0);
        let before = known.unwrap_or_default();
        let wait = RESTORE.saturating_mul(1 << before.min(10)).min(BACKOFF_LAST);
        match (by_auth, known) {
            (true, Some(WAS_THERE)) => self.authenticate_anew_at(now),
            // What comes of it may be deleted again.
            (true, Some(_)) if deleted => self.authenticate_anew_at(now + wait),
            _ => {}
        }
        let room = known.is_some() || self.refusals.len() < MAX_RESTORES;
        let planned = self.restore(now + wait, name);
        if room && (planned || known == Some(WAS_THERE)) {
            let times = before.saturating_add(1).min(DELETED - 1);
            self.refusals.insert(name.clone(), if deleted { times | DELETED } else { times });
        }
    }

    /// A Child SA of the connection `id` is in place.
    pub fn child_up(&mut self, now: Instant, id: ConnId, name: &str) {
        // How often it was refused is forgotten once it has lasted.
        if self.refusals.get(name).is_some_and(|times| matches!(*times, WAS_THERE | NOT_REKEYED)) {
            self.refusals.remove(name);
        }
        if let Some(up) = self.up.iter_mut().find(|up| up.id == id) {
            up.carried.get_or_insert(now);
        }
    }

    /// Plans to ask for a Child SA, where it is ours to start and not planned already. One for a resource is asked for by its
    /// connection, beside that of its policy.
    fn restore(&mut self, due: Instant, name: &Arc<str>) -> bool {
        let waits = self.restores.iter().any(|r| r.1 == *name);
        let planned = self.asks() && !waits && resource_of(name).1 == 0 && self.restores.len() < MAX_RESTORES;
        if planned {
            self.restores.push((due, name.clone()));
        }
        planned
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs one instant to start from.
mod tests {
    use super::*;
    use crate::supervise::{Action, Ended, Plan};

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection that comes to where another node is still said to have the peer.
    #[test]
    fn what_is_missing_is_asked_for_once_that_is_up_to_us() {
        let (now, net) = (Instant::now(), "net".into());
        let mut s = Supervisor::new(now, Plan::starting(false));
        assert!(!s.asks());
        s.established(now, 1, now, false, 7, false);
        s.child_missing(now, &net);
        assert!(!s.asks() && s.handle_timeout(now + SECOND * 60).is_none());
        s.set_plan(now, Plan::starting(true));
        assert!(s.asks());
        s.child_missing(now, &net);
        assert_eq!(s.handle_timeout(now + RESTORE), Some(Action::Restore(1, net)));
        s.terminate();
        assert!(!s.asks());
    }

    #[test]
    fn what_was_planned_is_not_asked_for_once_that_is_not_up_to_us() {
        let on_demand = Plan { start: Start::OnDemand, ..Plan::starting(false) };
        let left: [fn(&mut Supervisor, Instant, Plan); 2] =
            [|s, _, _| s.terminate(), |s, now, plan| s.set_plan(now, plan)];
        for leave in left {
            for plan in [Plan::starting(false), on_demand] {
                let (now, net) = (Instant::now(), "net".into());
                let mut s = Supervisor::new(now, Plan::starting(true));
                s.try_now();
                s.established(now, 1, now, true, 7, false);
                s.child_missing(now, &net);
                leave(&mut s, now, plan);
                assert_eq!(s.handle_timeout(now + RESTORE), None, "{plan:?}");
                // Nor does it come later.
                assert_eq!(s.poll_timeout(), None);
            }
        }
    }

    /// PFS on one side only, or a peer that has no exchange but the first two: the Child SA of IKE_AUTH cannot be made in another way.
    #[test]
    fn what_only_the_first_exchange_makes_is_made_by_another_connection() {
        let net: Arc<str> = "net".into();
        for (plan, was_there, by_auth, anew) in [
            (Plan::starting(true), true, true, true),
            (Plan { start: Start::OnDemand, ..Plan::starting(false) }, true, true, true),
            // It was never there: another connection would be refused the same.
            (Plan::starting(true), false, true, false),
            // In IKEv1 all are made in the same way.
            (Plan::starting(true), true, false, false),
            (Plan::starting(false), true, true, false),
        ] {
            let mut now = Instant::now();
            let mut s = Supervisor::new(now, plan);
            s.try_now();
            s.established(now, 1, now, true, 7, false);
            if was_there {
                s.child_up(now, 1, "net");
                now += SECOND * 3_600;
                s.child_ended(now, 1, &net, (ChildEnd::Expired, SECOND * 3_600), false);
            }
            s.child_refused(now, &net, by_auth);
            let connects = |s: &mut Supervisor, now| {
                std::iter::from_fn(|| s.handle_timeout(now)).filter(|done| *done == Action::Connect).count()
            };
            assert_eq!(connects(&mut s, now), usize::from(anew), "{plan:?} {was_there} {by_auth}");
            assert_eq!(s.current(), Some(1), "it stays until there is another");
            // Refused once more, it is not asked for in that way again; if nothing came of it, after a while.
            s.child_refused(now, &net, by_auth);
            assert_eq!(connects(&mut s, now), 0);
            if anew {
                s.ended(now, 2, Ended::Failed, 0);
                assert_eq!(connects(&mut s, now + BACKOFF_LAST), 1);
                let disposals = s.established(now + BACKOFF_LAST, 3, now, true, 9, false);
                assert_eq!((disposals, s.current()), (Vec::new(), Some(3)));
                s.child_refused(now + BACKOFF_LAST, &net, by_auth);
                assert_eq!(
                    connects(&mut s, now + BACKOFF_LAST + SECOND),
                    0,
                    "the new one is refused it as well"
                );
            }
        }
    }

    /// It was known before its end that it would not be rekeyed.
    #[test]
    fn what_could_not_be_rekeyed_is_made_anew_at_its_end() {
        let net: Arc<str> = "net".into();
        let cases =
            [(true, ChildEnd::Expired, 1), (true, ChildEnd::DeletedByPeer, 0), (false, ChildEnd::Expired, 0)];
        for (by_auth, end, expected) in cases {
            let now = Instant::now();
            let mut s = Supervisor::new(now, Plan::starting(true));
            s.try_now();
            s.established(now, 1, now, true, 7, false);
            s.child_up(now, 1, "net");
            s.rekey_refused(&net, by_auth);
            assert_eq!(s.handle_timeout(now), None, "it is there");
            s.child_ended(now, 1, &net, (end, SECOND * 3_600), false);
            let begun = std::iter::from_fn(|| s.handle_timeout(now)).filter(|done| *done == Action::Connect);
            assert_eq!(begun.count(), expected, "{by_auth} {end}");
            // A rekeying that works makes that good.
            s.child_up(now, 1, "net");
            assert_ne!(s.refusals.get("net"), Some(&NOT_REKEYED));
        }
    }

    /// A peer that makes Child SAs by IKE_AUTH alone, and that somebody has delete one.
    #[test]
    fn what_the_peer_deletes_at_once_and_makes_by_the_first_exchange_alone_is_made_by_another_connection() {
        let (mut now, net): (_, Arc<str>) = (Instant::now(), "net".into());
        let mut s = Supervisor::new(now, Plan::starting(true));
        s.try_now();
        s.established(now, 1, now, true, 7, false);
        s.child_up(now, 1, "net");
        now += SECOND * 30;
        s.child_ended(now, 1, &net, (ChildEnd::DeletedByPeer, SECOND * 30), false);
        now = s.poll_timeout().unwrap();
        assert_eq!(s.handle_timeout(now), Some(Action::Restore(1, net.clone())));
        s.child_refused(now, &net, true);
        now = s.poll_timeout().unwrap();
        let done: Vec<_> = std::iter::from_fn(|| s.handle_timeout(now)).collect();
        assert!(done.contains(&Action::Connect), "{done:?}");
        s.child_refused(now, &net, true);
        assert_eq!(s.handle_timeout(now), None, "once");
        // That the new one has it for a moment is no success.
        let mut waits = Vec::new();
        for id in 2..8 {
            s.established(now, id, now, true, 7, false);
            s.child_up(now, id, "net");
            now += SECOND * 30;
            s.child_ended(now, id, &net, (ChildEnd::DeletedByPeer, SECOND * 30), false);
            s.child_refused(now, &net, true);
            let mut connects = false;
            while !connects {
                now = s.poll_timeout().unwrap();
                connects = std::iter::from_fn(|| s.handle_timeout(now)).any(|done| done == Action::Connect);
            }
            waits.push(now);
        }
        let gaps: Vec<_> = waits.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert_eq!(gaps.last(), Some(&90), "{gaps:?}");
    }

    /// As a peer does that takes it for a duplicate of another tunnel's.
    #[test]
    fn what_the_peer_deletes_again_and_again_is_asked_for_more_and_more_seldom() {
        let (mut now, net): (_, Arc<str>) = (Instant::now(), "net".into());
        let mut s = Supervisor::new(now, Plan::starting(true));
        s.try_now();
        s.established(now, 1, now, true, 7, false);
        let mut waits = Vec::new();
        for _ in 0..8 {
            s.child_up(now, 1, "net");
            now += SECOND;
            s.child_ended(now, 1, &net, (ChildEnd::DeletedByPeer, SECOND), false);
            let due = s.poll_timeout().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            assert_eq!(s.handle_timeout(now), Some(Action::Restore(1, net.clone())));
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        // Once it has lasted, that is forgotten.
        s.child_up(now, 1, "net");
        now += PROVEN;
        s.child_ended(now, 1, &net, (ChildEnd::DeletedByPeer, PROVEN), false);
        assert_eq!(s.poll_timeout(), Some(now + RESTORE));
    }
}
