//! What a peer's supervisor decides, without clock or actors: when to try, how long to wait, which of several
//! connections with one peer stays, and when a lost Child SA is asked for again.

mod senders;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::LINGER_CHILD;
use crate::event::ChildEnd;

pub use senders::Senders;

/// Wait after the first failure; doubled after each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait. A peer that comes back is noticed within a minute.
pub const BACKOFF_LAST: Duration = Duration::from_secs(60);

/// Wait before a Child SA that should be there is asked for again: long enough that a peer which refuses it is not
/// kept busy, short against anybody's patience.
pub const RESTORE: Duration = Duration::from_secs(2);
/// How long a connection stays after the peer has made a newer one. A peer that authenticates anew deletes the old one
/// itself once it uses the new one (RFC 7296 section 2.8.3), within a round trip or two; until then it sends by the old.
/// Of two that crossed at start-up the one that started the redundant one deletes it; not every peer sees that it is one
/// too many.
pub const SUPERSEDED: Duration = Duration::from_secs(10);
/// Lost Child SAs that wait to be asked for again: one for each policy a peer may have.
const MAX_RESTORES: usize = 64;

/// Identifies a connection within its peer.
pub type ConnId = u64;

/// Where a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is the peer's turn.
    Waiting,
    /// We are negotiating.
    Connecting,
    /// A connection is up.
    Established,
    /// The last attempt failed; the next is at this time.
    BackingOff(Instant),
    /// Taken down by command; stays down until told otherwise or until the peer comes.
    Terminated,
}

/// What to do with a connection that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// Delete it; the peer is told.
    Close(ConnId),
    /// Forget it; the peer has forgotten it already.
    Abandon(ConnId),
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a negotiation.
    Connect,
    /// Ask for the Child SA of this policy on this connection, unless it is there.
    Restore(ConnId, Arc<str>),
    /// Delete a connection that the peer has replaced and not deleted.
    Close(ConnId),
}

#[derive(Clone, Copy, Debug)]
struct Up {
    id: ConnId,
    initiator: bool,
    /// SPI of the IKE_SA's initiator: both sides know the same number.
    spi: u64,
    since: Instant,
    /// The peer has made a newer one; this one is closed at that time unless the peer does it before.
    superseded: Option<Instant>,
    /// The peer has sent by it.
    used: bool,
}

/// Decides for one peer.
#[derive(Debug)]
pub struct Supervisor {
    /// We start negotiations by ourselves.
    start: bool,
    state: State,
    failures: u32,
    attempts: u64,
    /// Oldest first. The last is in use.
    up: Vec<Up>,
    restores: Vec<(Instant, Arc<str>)>,
}

impl Supervisor {
    /// With `start` the first attempt is due at `now`.
    pub fn new(now: Instant, start: bool) -> Self {
        let state = if start { State::BackingOff(now) } else { State::Waiting };
        Self { start, state, failures: 0, attempts: 0, up: Vec::new(), restores: Vec::new() }
    }

    /// Where the peer stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Negotiations started by us so far.
    pub const fn attempts(&self) -> u64 {
        self.attempts
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let retry = if let State::BackingOff(at) = self.state { Some(at) } else { None };
        let superseded = self.up.iter().filter_map(|up| up.superseded);
        self.restores.iter().map(|r| r.0).chain(retry).chain(superseded).min()
    }

    /// What is due. Call it until it returns `None`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        if matches!(self.state, State::BackingOff(at) if at <= now) && self.try_now() {
            return Some(Action::Connect);
        }
        if let Some(old) = self.up.iter_mut().find(|up| up.superseded.is_some_and(|at| at <= now)) {
            old.superseded = None;
            return Some(Action::Close(old.id));
        }
        while let Some(at) = self.restores.iter().position(|r| r.0 <= now) {
            let (_, name) = self.restores.remove(at);
            if let Some(id) = self.current() {
                return Some(Action::Restore(id, name));
            }
        }
        None
    }

    /// A Child SA ended. Where it is ours to start, it is asked for again.
    pub fn child_ended(&mut self, now: Instant, name: &Arc<str>, reason: ChildEnd) {
        let lost = match reason {
            // Another pair carries on, or the end of the connection decides.
            ChildEnd::Rekeyed | ChildEnd::Redundant | ChildEnd::IkeClosed => false,
            ChildEnd::DeletedByPeer | ChildEnd::Deleted | ChildEnd::Expired | ChildEnd::LostByPeer => true,
        };
        if lost {
            self.child_missing(now, name);
        }
    }

    /// A Child SA could not be made, or is gone for reasons outside the protocol.
    pub fn child_missing(&mut self, now: Instant, name: &Arc<str>) {
        let waits = self.restores.iter().any(|r| r.1 == *name);
        if self.start && self.state == State::Established && !waits && self.restores.len() < MAX_RESTORES {
            self.restores.push((now + RESTORE, name.clone()));
        }
    }

    /// Asked to start now. True if a negotiation has to be started.
    pub fn try_now(&mut self) -> bool {
        if matches!(self.state, State::Established | State::Connecting) {
            return false;
        }
        self.state = State::Connecting;
        self.attempts += 1;
        true
    }

    /// Taken down by command.
    pub fn terminate(&mut self) {
        self.state = State::Terminated;
        self.failures = 0;
    }

    /// The configuration says now whether we start by ourselves.
    pub fn set_start(&mut self, now: Instant, start: bool) {
        self.start = start;
        match self.state {
            State::Waiting | State::Terminated if start => self.state = State::BackingOff(now),
            State::BackingOff(_) if !start => self.state = State::Waiting,
            _ => {}
        }
    }

    /// A connection came up whose negotiation began at `began`. Returns what becomes of the others.
    pub fn established(
        &mut self,
        now: Instant,
        id: ConnId,
        began: Instant,
        initiator: bool,
        spi: u64,
        initial_contact: bool,
    ) -> Vec<Disposal> {
        self.state = State::Established;
        self.failures = 0;
        let new = Up { id, initiator, spi, since: now, superseded: None, used: false };
        let (older, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.up).into_iter().partition(|up| up.superseded.is_some());
        // One at a time is enough.
        let mut disposals: Vec<_> = older.into_iter().map(|up| Disposal::Close(up.id)).collect();
        let mut kept = Some(new);
        for old in others {
            // Started by different sides, the one before the other was up: they crossed at start-up.
            let crossed = old.initiator != new.initiator && began < old.since;
            if crossed {
                // Both sides see the same two initiator SPIs, so both keep the same connection: the lower one. Who
                // started the other deletes it (RFC 7296 section 2.8 leaves the choice open).
                let (loser, keep) = if old.spi < new.spi { (new, old) } else { (old, new) };
                if loser.initiator {
                    disposals.push(Disposal::Close(loser.id));
                }
                kept = Some(keep);
                // The peer deletes its own; until it does, both stand. Not every peer keeps to one: strongSwan would
                // keep both for good.
                if !loser.initiator {
                    self.up.push(Up { superseded: Some(now + SUPERSEDED), ..loser });
                }
            } else if initial_contact {
                // The peer has lost all it had (RFC 7296 section 2.4).
                disposals.push(Disposal::Abandon(old.id));
            } else if !new.initiator {
                // The peer may be authenticating anew.
                self.up.push(Up { superseded: Some(now + SUPERSEDED), ..old });
            } else {
                disposals.push(Disposal::Close(old.id));
            }
        }
        self.up.extend(kept);
        disposals
    }

    /// A connection ended, or never came up. `retry_jitter` is 0..=255.
    pub fn ended(&mut self, now: Instant, id: ConnId, failed: bool, retry_jitter: u8) {
        self.up.retain(|up| up.id != id);
        if let Some(left) = self.up.last_mut() {
            left.superseded = None;
        }
        if !self.up.is_empty() || matches!(self.state, State::Terminated) {
            return;
        }
        if !self.start {
            self.state = State::Waiting;
            return;
        }
        // A connection that was up is worth a quick attempt; one that failed waits longer each time.
        self.failures = if failed { self.failures.saturating_add(1) } else { 1 };
        let wait = BACKOFF_FIRST.saturating_mul(1 << (self.failures - 1).min(10)).min(BACKOFF_LAST);
        self.state = State::BackingOff(now + wait + wait * u32::from(retry_jitter) / 512);
    }

    /// How much longer than `asked` the pairs of a connection that ends have to receive: while another carries on, what
    /// the peer sent by the old one may still be under way.
    pub fn linger(&self, id: ConnId, asked: Duration) -> Duration {
        let carried_on = self.up.iter().any(|up| up.id == id) && self.current() != Some(id);
        if carried_on { asked.max(LINGER_CHILD) } else { asked }
    }

    /// The peer sends by a connection.
    pub fn used(&mut self, id: ConnId) {
        if let Some(up) = self.up.iter_mut().find(|up| up.id == id) {
            up.used = true;
        }
    }

    /// The connection to send by. A newer one that the peer has made waits until the peer sends by it, or the old one is
    /// gone: before that the peer may not have its half in place.
    pub fn sender(&self) -> Option<ConnId> {
        let (last, older) = self.up.split_last()?;
        let old = older.iter().rev().find(|up| up.superseded.is_some());
        // What we have made ourselves is in place on the other side.
        Some(old.filter(|_| !last.initiator && !last.used).unwrap_or(last).id)
    }

    /// The connection to use for commands: the one that came up last and stays.
    pub fn current(&self) -> Option<ConnId> {
        self.up.last().map(|up| up.id)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs one instant to start from.
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn due(s: &Supervisor) -> Instant {
        s.poll_timeout().unwrap()
    }

    #[test]
    fn failures_back_off_and_success_resets() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, true);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = due(&s);
            assert_eq!(s.handle_timeout(at), Some(Action::Connect));
            s.ended(at, 1, true, 0);
            waits.push((due(&s) - at).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(s.try_now());
        assert!(s.established(now, 2, now, true, 7, false).is_empty());
        s.ended(now, 2, false, 0);
        assert_eq!(due(&s) - now, SECOND);
    }

    #[test]
    fn a_responder_waits() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, false);
        assert_eq!((s.state(), s.poll_timeout()), (State::Waiting, None));
        s.established(now, 1, now, false, 7, true);
        s.ended(now, 1, true, 0);
        assert_eq!(s.state(), State::Waiting);
        assert!(s.try_now());
    }

    #[test]
    fn a_newer_connection_replaces_an_older_one() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, false);
        s.established(now, 1, now, false, 7, false);
        assert_eq!(s.established(now, 2, now, false, 8, true), [Disposal::Abandon(1)]);
        assert_eq!(s.established(now, 3, now, true, 9, false), [Disposal::Close(2)]);
        assert_eq!(s.current(), Some(3));
    }

    #[test]
    fn a_peer_that_authenticates_anew_deletes_the_old_connection_itself() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, false);
        s.established(now, 1, now, false, 7, false);
        assert!(s.established(now, 2, now, false, 8, false).is_empty());
        assert_eq!((s.current(), s.poll_timeout()), (Some(2), Some(now + SUPERSEDED)));
        // Until the peer uses the new one, we do not.
        assert_eq!(s.sender(), Some(1));
        s.used(2);
        assert_eq!(s.sender(), Some(2));
        // What is under way by the old one still arrives when it goes, but not when the tunnel goes down.
        assert_eq!(
            (s.linger(1, Duration::ZERO), s.linger(2, Duration::ZERO)),
            (LINGER_CHILD, Duration::ZERO)
        );
        s.ended(now, 1, false, 0);
        assert_eq!((s.current(), s.poll_timeout()), (Some(2), None));
    }

    #[test]
    fn a_connection_that_the_peer_replaced_and_forgot_is_closed() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, false);
        s.established(now, 1, now, false, 7, false);
        s.established(now, 2, now, false, 8, false);
        // A third: the first has had its time.
        assert_eq!(s.established(now, 3, now, false, 9, false), [Disposal::Close(1)]);
        assert_eq!(s.handle_timeout(now + SUPERSEDED), Some(Action::Close(2)));
        assert_eq!(s.handle_timeout(now + SUPERSEDED), None);
        assert_eq!(s.linger(2, Duration::ZERO), LINGER_CHILD);
    }

    #[test]
    fn the_old_connection_stays_if_the_new_one_goes() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, false);
        s.established(now, 1, now, false, 7, false);
        s.established(now, 2, now, false, 8, false);
        s.ended(now, 2, true, 0);
        assert_eq!((s.current(), s.state(), s.poll_timeout()), (Some(1), State::Established, None));
    }

    #[test]
    fn a_restarted_peer_is_no_crossing() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, true);
        s.established(now, 1, now, true, 7, false);
        let later = now + SECOND;
        assert_eq!(s.established(later + SECOND, 2, later, false, 9, true), [Disposal::Abandon(1)]);
    }

    #[test]
    fn crossing_connections_are_settled_alike_on_both_sides() {
        let now = Instant::now();
        // Connection X was started by A with SPI 5, Y by B with SPI 9; each side sees them in another order.
        for x_first in [true, false] {
            let (mut a, mut b) = (Supervisor::new(now, true), Supervisor::new(now, true));
            let mut closed = Vec::new();
            for (name, side, is_a) in [("a", &mut a, true), ("b", &mut b, false)] {
                let order = if x_first == is_a { [(1, 5), (2, 9)] } else { [(2, 9), (1, 5)] };
                for (id, spi) in order {
                    let initiator = (id == 1) == is_a;
                    let disposals = side.established(now + SECOND, id, now, initiator, spi, true);
                    closed.extend(disposals.into_iter().map(|d| (name, d)));
                }
                assert_eq!(side.current(), Some(1), "both keep the lower");
            }
            assert_eq!(closed, [("b", Disposal::Close(2))], "its initiator closes the other");
            assert_eq!(a.sender(), Some(1), "it was made by this side");
            // Should it not, the other side does.
            assert_eq!(a.handle_timeout(now + SECOND + SUPERSEDED), Some(Action::Close(2)));
            assert_eq!(b.poll_timeout(), None);
        }
    }

    #[test]
    fn a_lost_child_is_asked_for_again_by_the_side_that_starts() {
        let (now, net): (_, Arc<str>) = (Instant::now(), "net".into());
        for start in [true, false] {
            let mut s = Supervisor::new(now, start);
            s.try_now();
            s.established(now, 4, now, true, 7, false);
            s.child_ended(now, &net, ChildEnd::Rekeyed);
            assert_eq!(s.poll_timeout(), None);
            s.child_ended(now, &net, ChildEnd::DeletedByPeer);
            s.child_missing(now, &net);
            assert_eq!(s.poll_timeout(), start.then_some(now + RESTORE));
            let action = s.handle_timeout(now + RESTORE);
            assert_eq!(action, start.then(|| Action::Restore(4, net.clone())));
            assert_eq!(s.handle_timeout(now + RESTORE), None);
        }
    }

    #[test]
    fn a_terminated_peer_stays_down_until_told() {
        let now = Instant::now();
        let mut s = Supervisor::new(now, true);
        s.try_now();
        s.established(now, 1, now, true, 7, false);
        s.terminate();
        s.ended(now, 1, false, 0);
        assert_eq!((s.state(), s.poll_timeout()), (State::Terminated, None));
        assert!(s.try_now());
    }
}
