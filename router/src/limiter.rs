//! What a tenant's packets may take of the node per second, enforced where they pass: no lock, and two loads from memory where
//! there is no limit.
//!
//! A token bucket is kept as the moment at which it is full again: taking moves that moment on. All shards share it, for a tenant
//! has its limit for the node and not for each thread. A bucket lends: while anything is in it a packet may take more than that,
//! so that a packet larger than a slow tenant's bucket passes in the end, and the rate holds all the same.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What may pass, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficLimits {
    /// Inner packets per second.
    pub packets: Option<NonZeroU32>,
    /// Octets of inner packets per second.
    pub octets: Option<NonZeroU64>,
}

/// What a bucket holds: so much of what comes in this time. A window of TCP over a path around the world goes through in one
/// piece, and an average over a second is not half as much again.
const BURST: Duration = Duration::from_millis(200);

const SECOND: u64 = 1_000_000_000;

/// The limits of a tenant, by direction.
#[derive(Debug, Default)]
pub(crate) struct Limiters {
    /// Of what was opened.
    pub(crate) inbound: Limiter,
    /// Of what is to be sealed.
    pub(crate) outbound: Limiter,
}

impl Limiters {
    pub(crate) fn set(&self, limits: TrafficLimits) {
        self.inbound.set(limits);
        self.outbound.set(limits);
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Limiter {
    began: Instant,
    packets: Bucket,
    octets: Bucket,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { began: Instant::now(), packets: Bucket::default(), octets: Bucket::default() }
    }
}

impl Limiter {
    fn set(&self, limits: TrafficLimits) {
        self.packets.set(limits.packets.map_or(0, |n| n.get().into()));
        self.octets.set(limits.octets.map_or(0, NonZeroU64::get));
    }

    /// Whether anything is limited.
    pub(crate) fn is_set(&self) -> bool {
        self.packets.is_set() || self.octets.is_set()
    }

    /// How many of so many packets, each of so many octets, may pass now.
    pub(crate) fn take(&self, now: Instant, packets: u64, octets: u64) -> u64 {
        if !self.is_set() {
            return packets;
        }
        let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let granted = self.packets.take(now, packets, 1);
        let passed = self.octets.take(now, granted, octets);
        self.packets.give_back(granted - passed, 1);
        passed
    }
}

#[derive(Debug, Default)]
struct Bucket {
    /// Zero: no limit.
    per_second: AtomicU64,
    /// Nanoseconds from the limiter's beginning until it is full again.
    full_at: AtomicU64,
}

impl Bucket {
    /// Another rate begins with a full bucket: what was lent by a slow one would hold up a fast one for as long as it took that.
    fn set(&self, per_second: u64) {
        if self.per_second.swap(per_second, Ordering::Relaxed) != per_second {
            self.full_at.store(0, Ordering::Relaxed);
        }
    }

    fn is_set(&self) -> bool {
        self.per_second.load(Ordering::Relaxed) != 0
    }

    /// Nanoseconds in which so many come in; `None` without a limit.
    fn price(&self, units: u64) -> Option<u64> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        (per_second != 0).then(|| units.saturating_mul(SECOND).div_ceil(per_second))
    }

    fn take(&self, now: u64, count: u64, units: u64) -> u64 {
        let Some(price) = self.price(units) else { return count };
        let limit = now.saturating_add(BURST.as_nanos() as u64);
        let mut granted = 0;
        let update = |full_at: u64| {
            let from = full_at.max(now);
            let room = limit.checked_sub(from)?;
            // The last one may take what is not there yet.
            granted =
                room.checked_div(price).map_or(count, |fit| count.min(fit + u64::from(fit * price < room)));
            Some(from.saturating_add(granted.saturating_mul(price)))
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(_) => granted,
            Err(_) => 0,
        }
    }

    fn give_back(&self, count: u64, units: u64) {
        if let Some(price) = self.price(units).filter(|_| count > 0) {
            let back = count.saturating_mul(price);
            let update = |full_at: u64| Some(full_at.saturating_sub(back));
            let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limiter(packets: u32, octets: u64) -> Limiter {
        let limiter = Limiter::default();
        limiter.set(TrafficLimits { packets: NonZeroU32::new(packets), octets: NonZeroU64::new(octets) });
        limiter
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let limiter = limiter(0, 0);
        assert_eq!(limiter.take(Instant::now(), u64::MAX, u64::MAX), u64::MAX);
        limiter.set(TrafficLimits { packets: NonZeroU32::new(1), ..TrafficLimits::default() });
        let now = limiter.began + Duration::from_secs(1);
        assert_eq!(limiter.take(now, 10, 1400), 1, "it holds at once");
        limiter.set(TrafficLimits::default());
        assert_eq!(limiter.take(now, 10, 1400), 10, "and no longer than it is set");
    }

    #[test]
    fn a_packet_larger_than_the_bucket_passes_and_is_paid_for() {
        // 200 octets are in it.
        let limiter = limiter(0, 1_000);
        let at = |millis| limiter.began + Duration::from_millis(millis);
        assert_eq!(limiter.take(at(0), 45, 1_400), 1);
        assert_eq!(limiter.take(at(1_199), 1, 1_400), 0);
        assert_eq!(limiter.take(at(1_201), 1, 1_400), 1);
    }

    #[test]
    fn a_raised_limit_does_not_pay_for_what_was_lent_before() {
        let limiter = limiter(0, 1_000);
        assert_eq!(limiter.take(limiter.began, 1, 65_000), 1);
        let limits = |octets| TrafficLimits { octets: NonZeroU64::new(octets), ..TrafficLimits::default() };
        limiter.set(limits(1_000));
        assert_eq!(limiter.take(limiter.began, 1, 1_400), 0, "that is no other limit");
        limiter.set(limits(1_000_000));
        assert_eq!(limiter.take(limiter.began, 10, 1_400), 10);
    }

    #[test]
    fn what_one_bucket_refuses_is_not_taken_from_the_other() {
        let limiter = limiter(1_000, 10_000);
        let now = limiter.began;
        assert_eq!(limiter.take(now, 1_000, 1_000), 2);
        assert_eq!(
            limiter.packets.full_at.load(Ordering::Relaxed),
            2_000_000,
            "two packets at a thousand a second"
        );
    }

    proptest! {
        /// Over any time no more passes than the rate, a burst and one packet that was lent.
        #[test]
        fn the_rate_holds(
            packets in 1u32..2_000_000,
            octets in 1_000u64..10_000_000_000,
            size in 20u64..9_000,
            turns in prop::collection::vec((0u64..5_000, 1u64..64), 1..400),
        ) {
            let limiter = limiter(packets, octets);
            let (mut now, mut passed, mut offered) = (Duration::ZERO, 0, 0);
            for (micros, count) in turns {
                now += Duration::from_micros(micros);
                let granted = limiter.take(limiter.began + now, count, size);
                prop_assert!(granted <= count);
                (passed, offered) = (passed + granted, offered + count);
                let seconds = (now + BURST).as_secs_f64();
                prop_assert!(passed as f64 <= seconds * f64::from(packets) + 1.0 + 1e-6);
                prop_assert!((passed * size) as f64 <= seconds * octets as f64 + size as f64 + 1e-3);
            }
            // Nor less than fits, if that was offered at once: the bucket is full at first.
            let fits = (BURST.as_secs_f64() * f64::from(packets)).min(BURST.as_secs_f64() * octets as f64 / size as f64);
            prop_assert!(passed as f64 >= fits.min(offered as f64) * 0.9 - 1.0, "{passed} of {offered}, {fits} fit");
        }
    }
}
