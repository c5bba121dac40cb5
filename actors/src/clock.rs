//! Times for people, and times a little earlier by chance.

use std::time::{Duration, Instant, SystemTime};

use esp::Lifetime;

/// A lifetime from now on, its soft end up to a tenth earlier by chance, so that the two ends and many peers do not rekey in
/// step.
pub(crate) fn jittered(rekey: Duration, life: Duration) -> Lifetime {
    let soft = (!rekey.is_zero()).then_some(rekey);
    let hard = (!life.is_zero()).then_some(life);
    Lifetime::new(Instant::now(), soft, hard, a_tenth_at_most(rekey))
}

/// By chance up to a tenth of a time.
pub(crate) fn a_tenth_at_most(time: Duration) -> Duration {
    Earlier::draw().of(time)
}

/// Which part of a tenth that is, for what is reckoned more than once and is to come to the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Earlier(u8);

impl Earlier {
    pub(crate) fn draw() -> Self {
        Self(rand::random())
    }

    /// How much of `time` it is.
    pub(crate) fn of(self, time: Duration) -> Duration {
        time / 10 * u32::from(self.0) / 256
    }
}

/// An instant that is over as wall-clock time, for people.
pub(crate) fn past(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}

/// An instant that is to come as wall-clock time, for people.
pub(crate) fn wall(at: Instant) -> SystemTime {
    SystemTime::now() + at.saturating_duration_since(Instant::now())
}
