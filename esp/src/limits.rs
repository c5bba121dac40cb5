//! Lifetimes counted in octets and packets (RFC 4301 section 4.4.2.1). Lifetimes in seconds are [`crate::Lifetime`].

mod snapshot;

pub(crate) use snapshot::{CountForm, MeterForm};

/// When to rekey (soft) and when to stop using the SA (hard). Octets are those of inner packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Ask for a rekey after this many octets.
    pub soft_bytes: Option<u64>,
    /// Refuse packets after this many octets.
    pub hard_bytes: Option<u64>,
    /// Ask for a rekey after this many packets.
    pub soft_packets: Option<u64>,
    /// Refuse packets after this many packets.
    pub hard_packets: Option<u64>,
}

/// A limit was reached by the packet just processed. Raised once for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitEvent {
    /// Rekey now: the SA still works.
    Soft,
    /// This was the last packet of the SA.
    Hard,
    /// The numbers that are reserved come to their end: reserve more ([`crate::OutboundSa::warn_at`]).
    NumbersLow,
}

/// Counts one direction of an SA against its limits.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    soft_bytes: u64,
    hard_bytes: u64,
    soft_packets: u64,
    hard_packets: u64,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    soft_raised: bool,
    spent: bool,
    expired: bool,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        // An absent limit is one that is never reached.
        Self {
            soft_bytes: limits.soft_bytes.unwrap_or(u64::MAX),
            hard_bytes: limits.hard_bytes.unwrap_or(u64::MAX),
            soft_packets: limits.soft_packets.unwrap_or(u64::MAX),
            hard_packets: limits.hard_packets.unwrap_or(u64::MAX),
            bytes: 0,
            packets: 0,
            soft_raised: false,
            spent: false,
            expired: false,
        }
    }

    /// Whether the hard limit was reached by an earlier packet.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Whether the SA's time is over.
    pub(crate) fn is_expired(&self) -> bool {
        self.expired
    }

    /// The SA's time is over: no further packet.
    pub(crate) fn expire(&mut self) {
        self.expired = true;
    }

    /// The next packet counted reaches the soft limit, if none has.
    pub(crate) fn end_soon(&mut self) {
        self.soft_packets = 0;
    }

    /// The next packet counted beyond the soft limit reaches it once more.
    pub(crate) fn tell_soft_again(&mut self) {
        self.soft_raised = false;
    }

    /// Counts a packet with `len` octets of payload.
    pub(crate) fn count(&mut self, len: usize) -> Option<LimitEvent> {
        self.bytes = self.bytes.saturating_add(len as u64);
        self.packets = self.packets.saturating_add(1);
        if self.bytes >= self.hard_bytes || self.packets >= self.hard_packets {
            self.spent = true;
            return Some(LimitEvent::Hard);
        }
        if !self.soft_raised && (self.bytes >= self.soft_bytes || self.packets >= self.soft_packets) {
            self.soft_raised = true;
            return Some(LimitEvent::Soft);
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn soft_is_raised_once_and_hard_ends_it() {
        let mut meter =
            Meter::new(&Limits { soft_bytes: Some(250), hard_packets: Some(5), ..Limits::default() });
        let events: Vec<_> = (0..5).map(|_| meter.count(100)).collect();
        assert_eq!(events, [None, None, Some(LimitEvent::Soft), None, Some(LimitEvent::Hard)]);
        assert!(meter.is_spent());
        assert_eq!((meter.bytes, meter.packets), (500, 5));
    }

    #[test]
    fn soft_is_raised_once_more_for_who_may_not_have_heard() {
        let mut meter = Meter::new(&Limits { soft_packets: Some(2), ..Limits::default() });
        let told = |meter: &mut Meter| (0..3).filter(|_| meter.count(1).is_some()).count();
        assert_eq!(told(&mut meter), 1);
        meter.tell_soft_again();
        assert_eq!(told(&mut meter), 1);
        assert_eq!(told(&mut meter), 0);
    }

    #[test]
    fn without_limits_nothing_is_raised() {
        let mut meter = Meter::new(&Limits::default());
        assert!((0..1000).all(|_| meter.count(1500).is_none()));
    }
}
