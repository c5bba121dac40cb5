//! When the next probes are due, and how large they are.

use std::time::{Duration, Instant};

/// Probes due within it go together: a timer for each would cost more than the probe.
const TURN: Duration = Duration::from_millis(1);

/// A sender's clock.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rate: u32,
    /// Which part of an interval passes before the first: many initiators must not send in step.
    phase: f64,
    begun: Option<Instant>,
    due: u64,
    next: Instant,
}

impl Pace {
    pub(super) fn new(rate: u32, phase: f64) -> Self {
        Self { rate, phase, begun: None, due: 0, next: Instant::now() }
    }

    pub(super) fn switch(&mut self, on: bool, now: Instant) {
        self.begun = on.then(|| now + self.interval().mul_f64(self.phase));
        self.due = 0;
        self.next = self.begun.unwrap_or(now);
    }

    /// When to ask [`Self::take`] again.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.begun.filter(|_| self.rate > 0).map(|_| self.next)
    }

    /// How many are due now.
    pub(super) fn take(&mut self, now: Instant) -> u64 {
        let Some(begun) = self.begun.filter(|begun| *begun <= now && self.rate > 0) else { return 0 };
        let elapsed = now.saturating_duration_since(begun);
        // One at the very beginning, then one for each interval.
        let due = (elapsed.as_secs_f64() * f64::from(self.rate)) as u64 + 1;
        let more = due.saturating_sub(self.due);
        self.due = due.max(self.due);
        let next = begun + Duration::from_secs_f64(self.due as f64 / f64::from(self.rate));
        self.next = next.max(now + TURN);
        more
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_time_whatever_the_turns_are() {
        for rate in [1, 7, 999, 1_000, 50_000] {
            let mut pace = Pace::new(rate, 0.5);
            let begin = Instant::now();
            pace.switch(true, begin);
            let (mut now, mut sent, mut turns) = (begin, 0, 0);
            while now < begin + Duration::from_secs(3) {
                now = pace.wake().expect("it is on");
                sent += pace.take(now);
                turns += 1;
            }
            let expected = u64::from(rate) * 3;
            assert!(sent.abs_diff(expected) <= 1 + u64::from(rate) / 500, "{rate}: {sent}");
            assert!(turns <= 3_100, "{rate}: {turns} turns");
        }
    }

    #[test]
    fn nothing_is_due_while_it_is_off() {
        let mut pace = Pace::new(100, 0.0);
        let now = Instant::now();
        assert_eq!((pace.wake(), pace.take(now)), (None, 0));
        pace.switch(true, now);
        assert_eq!(pace.take(now), 1);
        pace.switch(false, now);
        assert_eq!((pace.wake(), pace.take(now + Duration::from_secs(1))), (None, 0));
    }
}
