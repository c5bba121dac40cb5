//! When the next probes are due and with which of them an initiator begins, and from when on what becomes of something is timed.

use crate::engine::due::due;
use crate::engine::times::EXACT;
use std::time::{Duration, Instant};

/// Probes due within it go together: a timer for each would cost more than the probe.
const TURN: Duration = Duration::from_millis(1);
/// Probes of one turn: what arrives meanwhile must not wait for more.
const BURST: u64 = 64;
/// What is later than this is not made up for: who cannot keep up with a rate would only fall further behind.
const LATEST: Duration = Duration::from_millis(100);

/// When the clock of what was `due` starts, if it begins now: then, where this program has let it wait, as whoever wanted it has
/// waited too.
pub(crate) fn timed_from(due: Instant, now: Instant) -> Instant {
    if now.saturating_duration_since(due) > EXACT { due } else { now }
}

/// The turn at which an initiator of that phase begins: all of its flows have a size before the next size is theirs.
pub(super) fn first_turn(phase: f64, sizes: usize, flows: usize) -> usize {
    (phase.clamp(0.0, 1.0) * sizes as f64) as usize * flows
}

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

    /// How many are to be sent now, and how many never will be, as it is too late for them.
    pub(super) fn take(&mut self, now: Instant) -> (u64, u64) {
        let Some(begun) = self.begun.filter(|begun| *begun <= now && self.rate > 0) else { return (0, 0) };
        let elapsed = now.saturating_duration_since(begun);
        // One at the very beginning, then one for each interval.
        let all = (elapsed.as_secs_f64() * f64::from(self.rate)) as u64 + 1;
        let waiting = all.saturating_sub(self.due);
        let room = (LATEST.as_secs_f64() * f64::from(self.rate)) as u64 + BURST;
        let late = waiting.saturating_sub(room);
        let more = (waiting - late).min(BURST);
        self.due += late + more;
        let next = due(begun, self.due as f64, f64::from(self.rate));
        self.next = next.max(now + if more < BURST { TURN } else { Duration::from_nanos(1) });
        (more, late)
    }

    /// When the one was due that is `back` before the next.
    pub(super) fn due_at(&self, back: u64) -> Option<Instant> {
        let number = self.due.checked_sub(back)?;
        Some(due(self.begun?, number as f64, f64::from(self.rate.max(1))))
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initiators_begin_with_different_sizes() {
        let sizes = [64, 576, 1400];
        for flows in [1, 4] {
            let first = |phase| sizes[first_turn(phase, sizes.len(), flows) / flows % sizes.len()];
            assert_eq!([0.0, 0.3, 0.4, 0.7, 0.99].map(first), [64, 64, 576, 1400, 1400]);
            assert_eq!(first_turn(0.7, sizes.len(), flows) % flows, 0, "with its first flow");
        }
        assert_eq!((first_turn(0.9, 1, 3), first_turn(0.9, 3, 0)), (0, 0));
    }

    #[test]
    fn the_rate_is_kept_over_time_whatever_the_turns_are() {
        for rate in [1, 7, 999, 1_000, 50_000] {
            let mut pace = Pace::new(rate, 0.5);
            let begin = Instant::now();
            pace.switch(true, begin);
            let (mut now, mut sent, mut turns) = (begin, 0, 0);
            while now < begin + Duration::from_secs(3) {
                now = pace.wake().expect("it is on");
                let (more, late) = pace.take(now);
                assert_eq!(late, 0);
                sent += more;
                turns += 1;
            }
            let expected = u64::from(rate) * 3;
            assert!(sent.abs_diff(expected) <= 1 + u64::from(rate) / 500, "{rate}: {sent}");
            assert!(turns <= 3_100, "{rate}: {turns} turns");
        }
    }

    #[test]
    fn each_probe_has_its_own_time() {
        let mut pace = Pace::new(1_000, 0.0);
        let begin = Instant::now();
        pace.switch(true, begin);
        let turn = begin + Duration::from_millis(40);
        assert_eq!(pace.take(turn), (41, 0));
        let millis = |back| pace.due_at(back).map(|at| at.saturating_duration_since(begin).as_millis());
        assert_eq!([millis(41), millis(40), millis(1)], [Some(0), Some(1), Some(40)]);
        assert_eq!(millis(42), None);
    }

    #[test]
    fn what_has_waited_for_this_program_is_timed_from_when_it_was_due() {
        let due = Instant::now();
        let [exact, late] = [1, 50].map(|millis| due + Duration::from_millis(millis));
        assert_eq!((timed_from(due, exact), timed_from(due, late)), (exact, due));
        assert_eq!(timed_from(late, due), due, "before its time");
    }

    #[test]
    fn nothing_is_due_while_it_is_off() {
        let mut pace = Pace::new(100, 0.0);
        let now = Instant::now();
        assert_eq!((pace.wake(), pace.take(now)), (None, (0, 0)));
        pace.switch(true, now);
        assert_eq!(pace.take(now), (1, 0));
        pace.switch(false, now);
        assert_eq!((pace.wake(), pace.take(now + Duration::from_secs(1))), (None, (0, 0)));
    }

    #[test]
    fn who_cannot_keep_up_leaves_out_what_is_too_late() {
        let mut pace = Pace::new(100_000, 0.0);
        let begin = Instant::now();
        pace.switch(true, begin);
        // A turn of 10 ms, in which 1,000 are due, and 64 are sent.
        let turns = (1..=100).map(|turn| pace.take(begin + Duration::from_millis(10) * turn));
        let (sent, late) = turns.fold((0, 0), |all, (more, late)| (all.0 + more, all.1 + late));
        assert_eq!(sent, 100 * BURST);
        let due = 100_001;
        assert!(due - sent - late <= 10_000 + BURST, "{late} late");
    }
}
