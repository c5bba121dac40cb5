//! What all initiators of a load count together, read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Notify;

use super::causes::Causes;
use super::times::HICCUP;

/// Digits that percentiles are exact to.
const DIGITS: u8 = 3;
/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(300);

/// A count that goes up.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Latencies in nanoseconds.
#[derive(Debug)]
pub(crate) struct Latencies(Mutex<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are constants that fit: 1 ns to 300 s in three digits.
        #[allow(clippy::expect_used)]
        let histogram = Histogram::new_with_bounds(1, nanos(LONGEST), DIGITS).expect("bounds that fit");
        Self(Mutex::new(histogram))
    }
}

impl Latencies {
    pub(crate) fn note(&self, latency: Duration) {
        self.lock().saturating_record(nanos(latency));
    }

    /// Many at once, so that the lock is taken once a batch.
    pub(crate) fn note_all(&self, latencies: &mut Vec<u64>) {
        if latencies.is_empty() {
            return;
        }
        let mut histogram = self.lock();
        for latency in latencies.drain(..) {
            histogram.saturating_record(latency);
        }
    }

    /// Forgets those so far: what is told is of what comes from now on.
    pub(crate) fn begin_anew(&self) {
        self.lock().reset();
    }

    pub(crate) fn copy(&self) -> Histogram<u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The counts of a load.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Initiators that have sent their first message.
    pub(crate) started: Count,
    /// IKE_SAs that both sides have authenticated.
    pub(crate) ike_sas: Count,
    /// Initiators whose first Child SA is installed.
    pub(crate) child_sas: Count,
    /// Initiators that will have none.
    pub(crate) failed: Count,
    /// Signs of life that initiators have asked their peers for and have had.
    pub(crate) answered: Count,
    /// Initiators that have ended.
    pub(crate) ended: Count,
    /// Rekeyings seen, whoever began them.
    pub(crate) ike_rekeys: Count,
    pub(crate) child_rekeys: Count,
    /// Probes sent, and those that were due while no SA was there.
    pub(crate) sent: Count,
    pub(crate) unsent: Count,
    /// Probes that were not sent as this program was too slow.
    pub(crate) late: Count,
    /// Different probes that arrived, and their octets.
    pub(crate) received: Count,
    pub(crate) octets: Count,
    /// Probes that arrived behind a later one of their flow (RFC 4737), and those that arrived again.
    pub(crate) reordered: Count,
    pub(crate) duplicates: Count,
    /// Probes of somebody else, packets that are no probes, as ICMP is, and those that no SA opens.
    pub(crate) strangers: Count,
    pub(crate) others: Count,
    pub(crate) unopened: Count,
    /// From the first message, or from when it was due, to both sides' authentication, and to the Child SA.
    pub(crate) ike_latency: Latencies,
    pub(crate) child_latency: Latencies,
    /// From the sending of a probe, or from when it was due, to its arrival.
    pub(crate) one_way: Latencies,
    /// Why initiators did not come up.
    pub(crate) causes: Causes,
    /// When the last of those that are up came up.
    last_up: Mutex<Option<Instant>>,
    /// When the last was begun.
    last_started: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Meter {
    /// An initiator is begun.
    pub(crate) fn has_started(&self) {
        *self.last_started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.started.add(1);
    }

    /// An initiator has come up.
    pub(crate) fn is_up(&self, after: Duration) {
        self.child_latency.note(after);
        *self.last_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.child_sas.add(1);
        self.changed.notify_waiters();
    }

    /// An initiator will not come up.
    pub(crate) fn has_failed(&self, cause: &str) {
        self.causes.note(if cause.is_empty() { "ended before it was up" } else { cause });
        self.failed.add(1);
        self.changed.notify_waiters();
    }

    pub(crate) fn has_answered(&self) {
        self.answered.add(1);
        self.changed.notify_waiters();
    }

    pub(crate) fn has_ended(&self) {
        self.ended.add(1);
        self.changed.notify_waiters();
    }

    /// Initiators that came up in a second, from `begin` until the last of them did: what was waited for those that did not says
    /// nothing of the others.
    pub(crate) fn up_per_second(&self, begin: Instant) -> f64 {
        let last = *self.last_up.lock().unwrap_or_else(PoisonError::into_inner);
        let took = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(begin));
        self.child_sas.get() as f64 / took.as_secs_f64().max(1e-9)
    }

    /// Initiators that were begun in a second, from `begin` until the last of them was, where `asked` a second were to be; no more than
    /// that, as few of them may be begun in one turn of a timer.
    pub(crate) fn started_per_second(&self, begin: Instant, asked: f64) -> f64 {
        let last = *self.last_started.lock().unwrap_or_else(PoisonError::into_inner);
        let took = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(begin));
        let took = took.saturating_sub(HICCUP).as_secs_f64();
        (self.started.get() as f64 / took.max(1e-9)).min(asked)
    }

    /// Of whom it is known whether they came up.
    pub(crate) fn settled(&self) -> u64 {
        self.child_sas.get() + self.failed.get()
    }

    /// Waits until a count says so.
    pub(crate) async fn until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // A test needs an instant to start from.
    fn what_is_waited_for_others_is_no_part_of_the_rate() {
        let meter = Meter::default();
        let ended = Instant::now();
        let begin = ended.checked_sub(Duration::from_secs(10)).expect("the clock runs for longer");
        assert_eq!(meter.up_per_second(begin), 0.0);
        for _ in 0..100 {
            meter.is_up(Duration::from_millis(1));
        }
        // The last came up two seconds after the begin, and the one that failed did so at the end.
        *meter.last_up.lock().expect("nobody else") = Some(begin + Duration::from_secs(2));
        meter.has_failed("no IKE_SA after 8 s");
        assert!((meter.up_per_second(begin) - 50.0).abs() < 1e-9);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A test needs an instant to start from.
    fn a_rate_of_beginnings_is_that_until_the_last_of_them() {
        let meter = Meter::default();
        let begin = Instant::now();
        (0..100).for_each(|_| meter.has_started());
        let told = |millis, asked| {
            let last = begin + Duration::from_millis(millis);
            *meter.last_started.lock().expect("nobody else") = Some(last);
            meter.started_per_second(begin, asked)
        };
        assert!((told(1_100, 500.0) - 100.0).abs() < 1e-6);
        assert_eq!(told(990, 100.0), 100.0, "the last is due an interval before the end");
        assert_eq!(told(100, 1e6), 1e6, "as late as a machine may be");
        assert!(told(118, 1e6) < 1e4, "and later");
    }

    #[test]
    fn latencies_that_begin_anew_are_those_that_come_then() {
        let latencies = Latencies::default();
        latencies.note(Duration::from_secs(2));
        latencies.begin_anew();
        assert!(latencies.copy().is_empty());
        latencies.note(Duration::from_millis(1));
        assert!(latencies.copy().len() == 1 && latencies.copy().max() < 2_000_000);
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let meter = std::sync::Arc::new(Meter::default());
        let waiting = tokio::spawn({
            let meter = meter.clone();
            async move { meter.until(|meter| meter.settled() == 2).await }
        });
        meter.is_up(Duration::from_millis(1));
        meter.has_failed("refused");
        waiting.await.expect("it ends");
        assert_eq!(meter.child_latency.copy().len(), 1);
    }
}
