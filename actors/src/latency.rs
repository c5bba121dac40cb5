//! How long things took, as a histogram: counts in fixed steps, which any thread adds to and whoever asks reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the steps in milliseconds. A handshake takes a few on a LAN, some hundred across the world, seconds with a
/// message lost, and the better part of a minute before it is given up.
const STEPS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000];

/// Durations that are counted.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The last is of what takes longer than all steps.
    steps: [AtomicU64; STEPS.len() + 1],
    micros: AtomicU64,
}

/// Durations that were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Upper end of each step, and how many took no longer than that but longer than the step before. What took longer than all
    /// is only in `count`.
    pub steps: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
}

impl Latency {
    pub(crate) fn add(&self, took: Duration) {
        let step = STEPS.iter().position(|end| took <= Duration::from_millis(*end)).unwrap_or(STEPS.len());
        if let Some(cell) = self.steps.get(step) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        let counts: Vec<u64> = self.steps.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        Histogram {
            // The sum of what was read, so that it fits the steps whatever is added meanwhile.
            count: counts.iter().sum(),
            steps: STEPS.iter().map(|end| Duration::from_millis(*end)).zip(counts).collect(),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_one_step() {
        let latency = Latency::default();
        for ms in [0, 1, 2, 3, 60_000, 60_001] {
            latency.add(Duration::from_millis(ms));
        }
        let read = latency.read();
        assert_eq!((read.count, read.sum), (6, Duration::from_millis(120_007)));
        let at = |ms| read.steps.iter().find(|(end, _)| *end == Duration::from_millis(ms)).unwrap().1;
        assert_eq!((at(1), at(2), at(5), at(60_000)), (2, 1, 1, 1));
        assert_eq!(read.steps.iter().map(|(_, count)| count).sum::<u64>(), 5);
    }
}
