//! How large an outer packet to one peer may be (RFC 4301 section 8.2, RFC 1191, RFC 8201).
//!
//! The kernel does the discovery: it checks an ICMP error against the socket that the packet went out by, keeps what the
//! error says with its route, and refuses larger packets that must not be fragmented. So the router asks the kernel: when
//! a pair is installed, when a packet was refused, and again after a while, because paths get wider too.

use std::time::{Duration, Instant};

/// The MTU of a pair's path, in octets with the outer IP header.
#[derive(Debug, Clone)]
pub(crate) struct PathMtu {
    /// Never more, by configuration.
    ceiling: u16,
    /// Never less, by the protocol.
    floor: u16,
    current: u16,
    /// The kernel says less than `floor`: the IP layer has to fragment.
    narrower: bool,
    /// When to ask the kernel again.
    due: Instant,
    /// It has refused what it says it would take. Once that may be late news; twice it is asked about another way than packets go: by the hash of
    /// ports over several, or by a rule that looks at them.
    doubted: bool,
}

impl PathMtu {
    /// `found` is what the kernel says, if it knows the way.
    pub(crate) fn new(v6: bool, configured: Option<u16>, found: Option<u16>, now: Instant) -> Self {
        let floor = if v6 { V6_MIN_MTU } else { V4_MIN_MTU };
        let ceiling = configured.unwrap_or(u16::MAX).max(floor);
        let mut mtu = Self { ceiling, floor, current: floor, narrower: false, due: now, doubted: false };
        mtu.renew(found, now);
        mtu
    }

    /// The largest outer packet.
    pub(crate) fn outer(&self) -> usize {
        usize::from(self.current)
    }

    /// Whether the path takes less than every host must, so that outer packets have to be fragmented.
    pub(crate) fn is_narrower(&self) -> bool {
        self.narrower
    }

    /// Whether to ask the kernel again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Takes over what the kernel says, be it more or less than before.
    pub(crate) fn renew(&mut self, found: Option<u16>, now: Instant) {
        let found = found.unwrap_or(DEFAULT_MTU);
        self.narrower = found < self.floor;
        self.current = found.clamp(self.floor, self.ceiling);
        self.due = now + AGE;
        self.doubted = false;
    }

    /// The kernel refused an outer packet of `refused` octets and says `found` now.
    pub(crate) fn lower(&mut self, refused: usize, found: Option<u16>, now: Instant) {
        let found = found.unwrap_or_else(|| {
            // The next smaller of the MTUs that networks have, as RFC 1191 section 7 wants where the error says none.
            let smaller = PLATEAUS.into_iter().find(|plateau| usize::from(*plateau) < refused);
            smaller.unwrap_or(self.floor)
        });
        if usize::from(found) < refused {
            self.narrower |= found < self.floor;
            self.current = found.min(self.current).clamp(self.floor, self.ceiling);
            self.due = now + AGE;
        } else if refused <= self.outer() && std::mem::replace(&mut self.doubted, true) {
            // Step by step, for what is left tells nothing.
            let smaller = refused.saturating_sub(1) / STEP * STEP;
            self.narrower |= smaller < usize::from(self.floor);
            self.current = u16::try_from(smaller).unwrap_or(u16::MAX).clamp(self.floor, self.ceiling);
            self.due = now + AGE;
        }
    }
}

/// How long a path's MTU is believed (RFC 1191 section 6.3, RFC 8201 section 4: ten minutes).
const AGE: Duration = Duration::from_secs(600);
/// RFC 791: what every IPv4 host takes. A path below it is an attack or a mistake.
const V4_MIN_MTU: u16 = 576;
/// RFC 8200 section 5.
const V6_MIN_MTU: u16 = 1280;
/// Ethernet, where the kernel has no route to ask.
const DEFAULT_MTU: u16 = 1500;
/// How much less is tried where the kernel does not say: a dozen packets from that of Ethernet to the least of IPv6.
const STEP: usize = 20;
/// RFC 1191 section 7.1, from there on.
const PLATEAUS: [u16; 8] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 576];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn between_floor_and_ceiling() {
        let now = Instant::now();
        let outer = |v6, configured, found| PathMtu::new(v6, configured, found, now).outer();
        assert_eq!(outer(false, None, Some(1400)), 1400);
        assert_eq!(outer(false, None, None), 1500);
        assert_eq!(outer(false, Some(1300), Some(1500)), 1300);
        assert_eq!(outer(false, Some(9000), Some(1500)), 1500);
        assert_eq!(outer(false, Some(100), Some(1500)), 576);
        assert_eq!(outer(false, None, Some(68)), 576);
        assert_eq!(outer(true, None, Some(68)), 1280);
        assert_eq!(outer(true, Some(600), Some(1500)), 1280);
    }

    #[test]
    fn what_is_below_the_floor_is_fragmented_for_a_while() {
        let now = Instant::now();
        let mut mtu = PathMtu::new(false, None, Some(1500), now);
        mtu.lower(1500, Some(600), now);
        assert!(!mtu.is_narrower());
        mtu.lower(600, Some(552), now);
        assert_eq!((mtu.outer(), mtu.is_narrower()), (576, true));
        mtu.renew(Some(1500), now + AGE);
        assert!(!mtu.is_narrower());
        assert!(PathMtu::new(true, None, Some(1000), now).is_narrower());
    }

    #[test]
    fn a_refusal_lowers_and_time_raises() {
        let now = Instant::now();
        let mut mtu = PathMtu::new(false, None, Some(1500), now);
        let later = now + Duration::from_secs(60);
        mtu.lower(1500, Some(1300), later);
        assert_eq!(mtu.outer(), 1300);
        // Late news of a packet from before say nothing new.
        mtu.lower(1480, Some(1400), later);
        assert_eq!(mtu.outer(), 1300);
        // Not about this path: the kernel knows that it takes more.
        mtu.lower(1200, Some(1500), later);
        assert_eq!(mtu.outer(), 1300);
        assert!(!mtu.is_due(now + AGE) && mtu.is_due(later + AGE));
        mtu.renew(Some(1500), later + AGE);
        assert_eq!(mtu.outer(), 1500);
        assert!(!mtu.is_due(later + AGE));
    }

    /// With several ways to the peer the kernel is asked about one, and packets go by another.
    #[test]
    fn what_is_refused_again_and_again_lowers_whatever_the_kernel_says() {
        let now = Instant::now();
        let mut mtu = PathMtu::new(false, None, Some(1500), now);
        let mut seen = Vec::new();
        while mtu.outer() > 1300 {
            mtu.lower(mtu.outer(), Some(1500), now);
            seen.push(mtu.outer());
        }
        assert_eq!((&seen[..3], seen.len()), (&[1500, 1480, 1460][..], 11));
        // Late news of a larger packet.
        mtu.lower(1480, Some(1500), now);
        assert_eq!(mtu.outer(), 1300);
        mtu.renew(Some(1500), now + AGE);
        mtu.lower(1500, Some(1500), now + AGE);
        assert_eq!(mtu.outer(), 1500, "once is not enough");
    }

    #[test]
    fn without_a_value_every_refusal_still_lowers() {
        let now = Instant::now();
        let mut mtu = PathMtu::new(false, None, Some(1500), now);
        let mut seen = Vec::new();
        for _ in 0..5 {
            mtu.lower(mtu.outer(), None, now);
            seen.push(mtu.outer());
        }
        assert_eq!(seen, [1492, 1006, 576, 576, 576]);
    }
}
