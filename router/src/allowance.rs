//! So many of something per second: for one thread, and for all of them together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Allows a number of events in every second that begins with one.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_second: u32,
    since: Option<Instant>,
    used: u32,
}

impl Allowance {
    pub(crate) const fn new(per_second: u32) -> Self {
        Self { per_second, since: None, used: 0 }
    }

    /// Whether one more is allowed.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        let allowed = self.used < self.per_second;
        self.used += u32::from(allowed);
        allowed
    }
}

/// When something that stands in the way was told last. It is told again as long as it does: whoever was told may not have been able to help, or
/// was on its way to another node.
#[derive(Debug, Default)]
pub(crate) struct Reminder(Option<Instant>);

impl Reminder {
    /// Between two times that it is told: whoever could not help it has been busy for as long.
    const AGAIN: Duration = Duration::from_secs(1);

    /// Whether to tell it now: at once if it was not told in another way before.
    pub(crate) fn is_due(&mut self, now: Instant, told_before: bool) -> bool {
        match self.0 {
            None => {
                self.0 = Some(now);
                !told_before
            }
            Some(last) if now.saturating_duration_since(last) < Self::AGAIN => false,
            Some(_) => {
                self.0 = Some(now);
                true
            }
        }
    }
}

/// An allowance that threads share, without a lock.
#[derive(Debug)]
pub(crate) struct SharedAllowance {
    per_second: u32,
    began: Instant,
    /// The second since then, and how many were taken in it.
    state: AtomicU64,
}

impl SharedAllowance {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, began: Instant::now(), state: AtomicU64::new(0) }
    }

    /// Whether one more is allowed. What another thread took meanwhile has this one look again, which it may have to as often as there are
    /// threads that are allowed one.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.began).as_secs() & u64::from(u32::MAX);
        let taken = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let (of, used) = (state >> 32, state & u64::from(u32::MAX));
            // The clock of a thread is read once a turn: it may stand a moment before what another has seen, whose second counts.
            let used = if of >= second { used } else { 0 };
            (used < u64::from(self.per_second)).then_some(of.max(second) << 32 | (used + 1))
        });
        taken.is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_told_again_each_second() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        for told_before in [false, true] {
            let mut reminder = Reminder::default();
            let due =
                [0, 500, 1_000, 1_500, 2_000, 9_000].map(|millis| reminder.is_due(at(millis), told_before));
            assert_eq!(due, [!told_before, false, true, false, true, true]);
        }
    }

    #[test]
    fn every_second_anew() {
        let (mut allowance, start) = (Allowance::new(3), Instant::now());
        for second in 0..3 {
            let now = start + Duration::from_secs(second);
            assert_eq!((0..10).filter(|_| allowance.take(now)).count(), 3);
        }
    }

    #[test]
    fn threads_take_all_that_there_is_and_no_more() {
        let start = Instant::now();
        let shared = SharedAllowance::new(1_000);
        let threads = 4;
        let count = || {
            let of = |thread: u64| {
                // Some are a second behind the others.
                let now = start + Duration::from_secs(5 + thread % 2);
                (0..2_000).filter(|_| shared.take(now)).count()
            };
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of(thread))).collect();
                all.into_iter().map(|one| one.join().unwrap()).sum::<usize>()
            })
        };
        assert!((1_000..=2_000).contains(&count()));
        assert_eq!(count(), 0);
        // With less asked than is allowed, nobody goes without.
        let next = start + Duration::from_secs(9);
        let all_of = |_| (0..250).filter(|_| shared.take(next)).count();
        let took: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || all_of(thread))).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(took, 1_000);
    }
}
