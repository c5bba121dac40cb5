//! Two connections of one peer at two nodes of a cluster: which of them stays.
//!
//! One of the two nodes asks this when it hears of the other's. They share no clock, so a connection is described by how long ago things happened,
//! and both would come to the same answer but for what the message took on its way.

use std::time::Duration;

/// Negotiations that began within this began at once, as far as two nodes can tell: many times what a message between them takes.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A connection, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// We began it.
    pub initiator: bool,
    /// SPI of the IKE_SA's initiator: both sides of the connection know the same number.
    pub spi: u64,
    /// How long ago its negotiation began.
    pub began: Duration,
    /// For how long it is up.
    pub up: Duration,
}

impl Claim {
    /// Whether this connection stays where another node has `other`: the newer one does, for the peer may have forgotten the one before, or the
    /// older one, where of two gateways of a peer the first is to `keep` the tunnel.
    ///
    /// Of two that crossed, one begun by each side before the other was up, the one with the lower SPI does, as it would with one node
    /// ([`Supervisor::established`](super::Supervisor::established)): the peer sees both, and goes by the same rule if it is one of Culvert.
    pub fn outlasts(&self, other: &Self, keep: bool) -> bool {
        if self.spi == other.spi {
            // It has changed its node since somebody said so.
            return true;
        }
        let (older, newer) = if self.began >= other.began { (self, other) } else { (other, self) };
        let crossed = self.initiator != other.initiator && newer.began > older.up;
        if crossed || older.began.abs_diff(newer.began) <= AT_ONCE {
            self.spi < other.spi
        } else {
            (self.began < other.began) != keep
        }
    }

    /// The same one, so much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self { began: self.began.saturating_add(time), up: self.up.saturating_add(time), ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn claim(initiator: bool, spi: u64, began: u64, up: u64) -> Claim {
        Claim { initiator, spi, began: Duration::from_millis(began), up: Duration::from_millis(up) }
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        (any::<bool>(), 1..u64::MAX, 0..5_000_u64, 0..5_000_u64).prop_map(|(initiator, spi, began, took)| {
            claim(initiator, spi, began, began.saturating_sub(took))
        })
    }

    #[test]
    fn the_newer_one_stays() {
        let (old, new) = (claim(true, 1, 9_000, 8_900), claim(false, 2, 200, 50));
        assert!(new.outlasts(&old, false) && !old.outlasts(&new, false));
        let (old, new) = (claim(false, 1, 9_000, 8_900), claim(false, 2, 200, 50));
        assert!(new.outlasts(&old, false) && !old.outlasts(&new, false));
    }

    #[test]
    fn the_older_one_stays_where_it_is_kept() {
        let (old, new) = (claim(false, 1, 9_000, 8_900), claim(false, 2, 200, 50));
        assert!(old.outlasts(&new, true) && !new.outlasts(&old, true));
    }

    #[test]
    fn of_two_that_crossed_the_lower_spi_stays_whichever_came_up_first() {
        for (one, other) in [(60, 20), (20, 60)] {
            let (low, high) = (claim(true, 3, 700, one), claim(false, 5, 400, other));
            assert!(low.outlasts(&high, false) && !high.outlasts(&low, false));
        }
    }

    #[test]
    fn one_that_has_changed_its_node_is_no_rival_of_itself() {
        let one = claim(true, 3, 700, 600);
        assert!(one.outlasts(&one.after(Duration::from_secs(1)), false));
    }

    proptest! {
        /// However long the messages take, but for two borders that they may fall on either side of.
        #[test]
        fn one_of_two_stays_and_one_alone(
            one in any_claim(),
            other in any_claim(),
            late in 0..40_u64,
            late_back in 0..40_u64,
            keep in any::<bool>(),
        ) {
            prop_assume!(one.spi != other.spi);
            let near = |a: Duration, b: Duration| a.abs_diff(b) <= Duration::from_millis(40);
            let apart = one.began.abs_diff(other.began);
            prop_assume!(!near(apart, AT_ONCE));
            prop_assume!(!near(one.began, other.up) && !near(other.began, one.up));
            let later = |claim: Claim, late| claim.after(Duration::from_millis(late));
            // Each has aged while the word of the other was on its way.
            prop_assert_ne!(later(one, late).outlasts(&other, keep), later(other, late_back).outlasts(&one, keep));
        }
    }
}
