//! Waiting for real processes: on a condition, never on the clock alone.

use std::time::{Duration, Instant};

/// Long enough for a slow machine; what is waited for takes a fraction of a second.
pub const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(50);

/// Polls until `condition` holds. Fails with `what` and what was seen last.
pub fn until<T: std::fmt::Debug>(what: &str, look: impl FnMut() -> T, condition: impl Fn(&T) -> bool) -> T {
    within(PATIENCE, what, look, condition)
}

/// As [`until`], where timers of the peers alone take longer than [`PATIENCE`].
pub fn within<T: std::fmt::Debug>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> T,
    condition: impl Fn(&T) -> bool,
) -> T {
    let begin = Instant::now();
    loop {
        let seen = look();
        if condition(&seen) {
            return seen;
        }
        if begin.elapsed() > patience {
            panic!("{what}: not within {patience:?}; last seen: {seen:#?}");
        }
        std::thread::sleep(INTERVAL);
    }
}
