//! Times that a load is told. All have a bound: what is added to a clock must not be more than it counts.

use std::time::Duration;

/// The longest time of a load.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The longest of a load of strangers: somebody may have begun it beside a node that others use.
const SHORT: Duration = Duration::from_secs(600);

/// So much later than its time is not late: timers are that exact, and what is due in one turn goes together.
pub(crate) const EXACT: Duration = Duration::from_millis(3);
/// So much later is the machine's doing, and not that of a load that does not keep its rate.
pub(crate) const HICCUP: Duration = Duration::from_millis(100);

/// A time, as `30s` or `1h 20m`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    within(text, LONGEST, "a year")
}

/// A time that strangers may be a load for.
pub(crate) fn short(text: &str) -> Result<Duration, String> {
    within(text, SHORT, "10 minutes")
}

fn within(text: &str, longest: Duration, called: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= longest { Ok(time) } else { Err(format!("longer than {called}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_more_than_a_clock_counts() {
        assert_eq!(time("1h 20m"), Ok(Duration::from_secs(4_800)));
        assert_eq!(time("365d"), Ok(LONGEST));
        assert!(time("366d").is_err() && time("300000000000years").is_err() && time("1").is_err());
        assert_eq!(short("10m"), Ok(SHORT));
        assert!(short("601s").is_err_and(|error| error.contains("10 minutes")));
    }
}
