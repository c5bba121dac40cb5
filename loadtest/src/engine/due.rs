//! When the next of so many a second is due.

use std::time::{Duration, Instant};

/// As good as never, where a rate is so low that a clock does not reach as far.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// When number `number`, the first of which is 0, is due of `rate` a second that begin at `begin`.
pub(crate) fn due(begin: Instant, number: f64, rate: f64) -> Instant {
    let after = Duration::try_from_secs_f64(number / rate).unwrap_or(NEVER);
    begin + after.min(NEVER)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs one instant to start from.
mod tests {
    use super::*;

    #[test]
    fn whatever_the_rate_is_there_is_a_time() {
        let begin = Instant::now();
        assert_eq!(due(begin, 5.0, 10.0), begin + Duration::from_millis(500));
        assert_eq!(due(begin, 0.0, 10.0), begin);
        for (number, rate) in [(1.0, 0.0), (0.0, 0.0), (1.0, f64::MIN_POSITIVE), (1.0, -1.0), (1.0, f64::NAN)]
        {
            assert_eq!(due(begin, number, rate), begin + NEVER, "{number} {rate}");
        }
    }
}
