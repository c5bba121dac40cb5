//! How long a peer has been silent. Packets are counted elsewhere, so the host is asked before the peer is.

mod snapshot;

use std::time::{Duration, Instant};

pub(crate) use snapshot::SilenceForm;

/// How long the host has to say whether ESP arrived, before the peer is asked: a host that asks other threads has its
/// answer within a few milliseconds.
const HOST_ANSWERS: Duration = Duration::from_millis(250);

/// When the peer was heard last, and whether the host was asked since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    since: Instant,
    asked: Option<Instant>,
}

impl Silence {
    /// Nothing has been heard before now.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { since: now, asked: None }
    }

    /// When the peer was heard last.
    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    /// An IKE message of the peer arrived.
    pub(crate) const fn broken(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// When it has lasted for long enough to ask, or the host has had its time to answer.
    pub(crate) fn due(&self, interval: Duration) -> Instant {
        self.asked.map_or(self.since + interval, |asked| asked + HOST_ANSWERS)
    }

    /// Whether the host is asked; otherwise it is the peer's turn. Without a Child SA there is nothing to ask the host.
    pub(crate) fn ask_host(&mut self, now: Instant, children: bool) -> bool {
        self.asked = Some(now).filter(|_| self.asked.is_none() && children);
        self.asked.is_some()
    }

    /// The host says when ESP arrived last. True if the silence goes on; an answer that comes too late has nothing to say any
    /// more.
    pub(crate) fn goes_on(&mut self, now: Instant, at: Option<Instant>, interval: Duration) -> bool {
        if self.asked.is_none() {
            return false;
        }
        let heard = at.filter(|at| *at > self.since && *at + interval > now);
        if let Some(at) = heard {
            self.broken(at.min(now));
        }
        heard.is_none()
    }
}
