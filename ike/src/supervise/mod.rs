//! What a peer's supervisor decides, without clock or actors: when to try, how long to wait, which of several
//! connections with one peer stays, and when a lost Child SA is asked for again.

mod age;
mod anew;
mod few;
mod plan;
mod restore;
mod rival;
mod senders;
mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::CloseReason;
use crate::failure::Failure;
use crate::verbs::LINGER_CHILD;

pub use age::Age;
use anew::Anew;
pub use few::Few;
pub use plan::{Plan, Start};
use restore::MAX_RESTORES;
pub use restore::RESTORE;
pub use rival::Claim;
pub use senders::{Senders, SendersSnapshot};
pub use snapshot::SupervisorSnapshot;

/// Wait after the first failure; doubled after each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait. A peer that comes back is noticed within a minute.
pub const BACKOFF_LAST: Duration = Duration::from_secs(60);

/// How long a connection has to last from its first Child SA on to count as a success. As long as the longest wait, so that
/// a peer that ends each sooner is not asked more often than one that refuses.
pub const PROVEN: Duration = BACKOFF_LAST;

/// How long a connection stays after the peer has made a newer one. A peer that authenticates anew deletes the old one
/// itself once it uses the new one (RFC 7296 section 2.8.3), within a round trip or two; until then it sends by the old.
/// Of two that crossed at start-up the one that started the redundant one deletes it; not every peer sees that it is one
/// too many.
pub const SUPERSEDED: Duration = Duration::from_secs(10);
/// How long a connection of ours stays after a newer one is up, be it that we authenticated anew or that the peer's crossed
/// it: its other Child SAs follow by exchanges of their own, and what is under way by the old one still arrives.
pub const REAUTH_OVERLAP: Duration = Duration::from_secs(5);

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

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We closed it, for reasons of our own.
    ByUs,
    /// The peer deleted it.
    ByPeer,
    /// Its lifetime was over, and the peer would not have it rekeyed: it has not lost the peer.
    Spent,
    /// It never came up, or came to grief.
    Failed,
}

impl From<&CloseReason> for Ended {
    fn from(reason: &CloseReason) -> Self {
        match reason {
            // One that was replaced makes room for its successor.
            CloseReason::Local | CloseReason::Failed(Failure::Replaced) => Self::ByUs,
            CloseReason::DeletedByPeer => Self::ByPeer,
            CloseReason::Failed(Failure::Expired | Failure::NotRekeyed(_)) => Self::Spent,
            CloseReason::Failed(_) => Self::Failed,
        }
    }
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a negotiation.
    Connect,
    /// Ask for the Child SA of this policy on this connection, unless this connection has it.
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
    /// When its first Child SA came up.
    carried: Option<Instant>,
    /// When another is to take its place before it ends, should it be in use then: by the peer's limit, or as it is not rekeyed.
    limited: Option<Instant>,
    spent: Option<Instant>,
}

impl Up {
    const fn new(id: ConnId, initiator: bool, spi: u64, since: Instant) -> Self {
        let (superseded, carried, limited, spent) = (None, None, None, None);
        Self { id, initiator, spi, since, superseded, used: false, carried, limited, spent }
    }
}

/// What becomes of a packet that waits for an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Start a negotiation for it.
    Connect,
    /// One is under way, or due by itself.
    Pending,
    /// The peer is there: ask for the Child SA on this connection, unless this connection has it.
    Child(ConnId),
    /// Nothing will come: it need not wait.
    Refused,
}

/// Decides for one peer.
#[derive(Debug)]
pub struct Supervisor {
    plan: Plan,
    /// Who begins now: as planned, or as planned for a peer that was lost.
    begins: Start,
    state: State,
    /// Connections in a row that were no success.
    failures: u32,
    /// Until then packets start no negotiation: the last one was no success.
    not_before: Option<Instant>,
    /// When we authenticate anew.
    anew: Anew,
    /// A negotiation that is to replace the connection in use is under way.
    reauthenticating: bool,
    attempts: u64,
    /// Oldest first. The last is in use.
    up: Vec<Up>,
    restores: Vec<(Instant, Arc<str>)>,
    /// How often in a row the Child SA of a policy could not be made; two values stand for
    /// what is no refusal yet or not of its making (`restore.rs`).
    refusals: Few<Arc<str>, u32>,
}

impl Supervisor {
    /// Where we begin, the first attempt is due at `now`.
    pub fn new(now: Instant, plan: Plan) -> Self {
        let state = if plan.start == Start::Us { State::BackingOff(now) } else { State::Waiting };
        Self {
            begins: plan.start,
            plan,
            state,
            failures: 0,
            not_before: None,
            anew: Anew::default(),
            reauthenticating: false,
            attempts: 0,
            up: Vec::new(),
            restores: Vec::new(),
            refusals: Few::new(),
        }
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
        self.restores.iter().map(|r| r.0).chain(retry).chain(superseded).chain(self.anew_due()).min()
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
        if self.anew_due().is_some_and(|at| at <= now) {
            self.anew = Anew::default();
            if self.state == State::Established {
                self.reauthenticating = true;
                self.attempts += 1;
                return Some(Action::Connect);
            }
        }
        while let Some(at) = self.restores.iter().position(|r| r.0 <= now) {
            let (_, name) = self.restores.remove(at);
            // It may have been taken down since, or be left to the peer now.
            if let Some(id) = self.current().filter(|_| self.asks()) {
                return Some(Action::Restore(id, name));
            }
        }
        None
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

    /// The plan is another now. Where a connection is up, it decides about the next one. What was taken down by command stays down:
    /// see [`Supervisor::lift`].
    pub fn set_plan(&mut self, now: Instant, plan: Plan) {
        if plan == self.plan {
            return;
        }
        let others_begin = (plan.start, plan.lost) != (self.plan.start, self.plan.lost);
        if others_begin {
            self.begins = plan.start;
        }
        if plan.reauth != self.plan.reauth {
            let since = self.up.last().map(|up| up.since);
            self.anew.planned = since.and_then(|since| plan.reauth.map(|after| (since + after).max(now)));
        }
        if plan.start == Start::Peer {
            // That is left to the peer from now on.
            self.anew = Anew::planned(self.anew.planned);
        }
        self.plan = plan;
        // By who begins now, and not by who would: a plan that changes nothing about that leaves a tunnel alone that we have lost and restart.
        match (self.state, self.begins) {
            (State::Waiting, Start::Us) if others_begin => self.state = State::BackingOff(now),
            (State::BackingOff(_), Start::Peer | Start::OnDemand) => self.state = State::Waiting,
            _ => {}
        }
    }

    /// Who begins was configured anew: what was taken down by command comes up again, if it is up to us or to a packet.
    pub fn lift(&mut self, now: Instant) {
        match (self.state, self.plan.start) {
            (State::Terminated, Start::Us) => self.state = State::BackingOff(now),
            (State::Terminated, Start::OnDemand) => self.state = State::Waiting,
            _ => {}
        }
    }

    /// It is no longer to be kept down: the peer came to somebody else, or is not taken down after all.
    pub fn let_be(&mut self, now: Instant) {
        if self.state == State::Terminated {
            self.state = if self.plan.start == Start::Us { State::BackingOff(now) } else { State::Waiting };
        }
    }

    /// A packet waits for an SA.
    pub fn wanted(&mut self, now: Instant) -> Demand {
        match self.state {
            State::Established => self.current().map_or(Demand::Pending, Demand::Child),
            State::Connecting | State::BackingOff(_) => Demand::Pending,
            State::Terminated => Demand::Refused,
            State::Waiting if self.begins != Start::OnDemand => Demand::Refused,
            State::Waiting if self.not_before.is_some_and(|at| now < at) => Demand::Refused,
            State::Waiting => {
                self.try_now();
                Demand::Connect
            }
        }
    }

    /// A connection came up, here or at another node before. Returns what becomes of the others.
    pub fn established(
        &mut self,
        now: Instant,
        id: ConnId,
        age: impl Into<Age>,
        initiator: bool,
        spi: u64,
        initial_contact: bool,
    ) -> Vec<Disposal> {
        let age = age.into();
        let (began, since) = (age.began, age.since(now));
        self.state = State::Established;
        self.forget_refusals();
        self.begins = self.plan.start;
        let reauthenticated = std::mem::take(&mut self.reauthenticating) && initiator;
        self.anew = Anew::planned(self.plan.reauth.map(|after| age.anew(now, after)));
        let new = Up::new(id, initiator, spi, since);
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
                kept = Some(keep);
                match loser.initiator {
                    true if loser.id == id => disposals.push(Disposal::Close(id)),
                    // The peer may not have the other one yet: our answer is on its way.
                    true => self.up.push(Up { superseded: Some(now + REAUTH_OVERLAP), ..loser }),
                    // The peer deletes its own; until it does, both stand. Not every peer keeps to one: strongSwan would
                    // keep both for good.
                    false => self.up.push(Up { superseded: Some(now + SUPERSEDED), ..loser }),
                }
            } else if initial_contact {
                // The peer has lost all it had (RFC 7296 section 2.4).
                disposals.push(Disposal::Abandon(old.id));
            } else if !new.initiator {
                // The peer may be authenticating anew.
                self.up.push(Up { superseded: Some(now + SUPERSEDED), ..old });
            } else if reauthenticated {
                self.up.push(Up { superseded: Some(now + REAUTH_OVERLAP), ..old });
            } else {
                disposals.push(Disposal::Close(old.id));
            }
        }
        self.up.extend(kept);
        self.assert_invariants();
        disposals
    }

    /// A connection ended, or never came up. `retry_jitter` is 0..=255.
    pub fn ended(&mut self, now: Instant, id: ConnId, how: Ended, retry_jitter: u8) {
        let failed = how == Ended::Failed;
        let ended = self.up.iter().find(|up| up.id == id).copied();
        let was_up = ended.is_some();
        let was_in_use = was_up && self.current() == Some(id);
        let proven = ended.and_then(|up| up.carried).is_some_and(|since| since + PROVEN <= now);
        self.up.retain(|up| up.id != id);
        if let Some(left) = self.up.last_mut() {
            left.superseded = None;
        }
        if !self.up.is_empty() {
            // The one in use stays, and what was to replace it is tried again.
            let failed_to_replace = !was_up && std::mem::take(&mut self.reauthenticating);
            if failed_to_replace {
                self.anew.wanted = Some(now + BACKOFF_LAST);
            }
            if failed_to_replace || was_in_use {
                self.not_at_once_again(now);
            }
            return;
        }
        self.anew = Anew::default();
        self.reauthenticating = false;
        if matches!(self.state, State::Terminated) {
            return;
        }
        if failed && was_up {
            self.begins = self.plan.lost;
        }
        // A connection that has served is worth a quick attempt. One that failed, or that the peer ended before it had served,
        // waits longer each time: to come up is no success yet. What we end ourselves is not held against the peer.
        self.failures = match how {
            _ if proven => 1,
            Ended::ByUs | Ended::Spent => self.failures.max(1),
            Ended::ByPeer | Ended::Failed => self.failures.saturating_add(1),
        };
        let wait = BACKOFF_FIRST.saturating_mul(1 << (self.failures - 1).min(10)).min(BACKOFF_LAST);
        let at = now + wait + wait * u32::from(retry_jitter) / 512;
        self.state = if self.begins == Start::Us { State::BackingOff(at) } else { State::Waiting };
        // Packets are welcome at once after a connection that has served, and after the first that came up and did not last.
        let welcome = proven || matches!(how, Ended::ByUs | Ended::Spent) || (was_up && self.failures <= 1);
        self.not_before = (!welcome).then_some(at);
    }

    /// What holds after every change, asserted in debug builds: connections are told apart, the one in use is not about to
    /// be closed, and an established peer has one.
    fn assert_invariants(&self) {
        let ids: std::collections::BTreeSet<_> = self.up.iter().map(|up| up.id).collect();
        debug_assert_eq!(ids.len(), self.up.len(), "a connection is up twice: {self:?}");
        debug_assert!(
            self.up.last().is_none_or(|up| up.superseded.is_none()),
            "the one in use is to go: {self:?}"
        );
        debug_assert!(
            self.state != State::Established || !self.up.is_empty(),
            "established by nothing: {self:?}"
        );
        debug_assert!(self.restores.len() <= MAX_RESTORES, "too many restores: {self:?}");
        debug_assert!(self.refusals.len() <= MAX_RESTORES, "too many refusals: {self:?}");
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
mod tests;
