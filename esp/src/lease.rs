//! How far the owner of an SA may count before somebody else has to know.

/// The last number that may be sent without asking. A node that has a standby reserves numbers in blocks: the standby knows the end
/// of the block before any of it is used, and begins beyond it if it has to take over. So no number is sent by both,
/// whatever the standby has missed.
///
/// Whoever is alone needs none of this, and pays nothing for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(u64);

impl Lease {
    /// As far as the numbers go.
    pub const UNBOUNDED: Self = Self(u64::MAX);

    /// Up to this number, which may still be sent.
    pub const fn up_to(last: u64) -> Self {
        Self(last)
    }

    /// The last number, if there is a bound.
    pub const fn end(self) -> Option<u64> {
        if self.0 == u64::MAX { None } else { Some(self.0) }
    }

    pub(crate) const fn last(self) -> u64 {
        self.0
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::UNBOUNDED
    }
}
