//! What a load must reach.

use std::fmt;

/// Of what is asked for in a second, the share that must be done: a load that was none shows nothing.
pub(crate) const REACHED: f64 = 0.9;

/// Something that was measured against a limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    /// The flag that has set the limit, or what is always asked for.
    pub(crate) name: &'static str,
    pub(crate) limit: Limit,
    /// What was measured; nothing if nothing was, which is no success.
    pub(crate) value: Option<f64>,
    pub(crate) unit: &'static str,
}

/// Which side of it is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Check {
    pub(crate) const fn at_least(
        name: &'static str,
        limit: f64,
        value: Option<f64>,
        unit: &'static str,
    ) -> Self {
        Self { name, limit: Limit::AtLeast(limit), value, unit }
    }

    pub(crate) const fn at_most(
        name: &'static str,
        limit: f64,
        value: Option<f64>,
        unit: &'static str,
    ) -> Self {
        Self { name, limit: Limit::AtMost(limit), value, unit }
    }

    /// Of `asked` nearly all must be done, but for one that may be about to be; and one at least, if any was asked for.
    pub(crate) fn nearly(name: &'static str, asked: f64, done: u64) -> Self {
        let least = (REACHED * asked - 1.0).floor().max(asked.floor().clamp(0.0, 1.0));
        Self::at_least(name, least, Some(done as f64), "")
    }

    pub(crate) fn passed(&self) -> bool {
        match (self.limit, self.value) {
            (_, None) => false,
            (Limit::AtLeast(limit), Some(value)) => value >= limit,
            (Limit::AtMost(limit), Some(value)) => value <= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_all_is_nine_tenths_but_for_one_and_never_none() {
        let least = |asked, done| {
            Check::nearly("some", asked, done).passed() && !Check::nearly("some", asked, done - 1).passed()
        };
        assert!(least(1_000.0, 899) && least(8.0, 6) && least(2.0, 1) && least(1.0, 1));
        assert!(Check::nearly("some", 0.9, 0).passed());
    }

    #[test]
    fn a_limit_itself_is_good_and_nothing_measured_is_not() {
        let rate = |value| Check::at_least("--min-rate", 100.0, value, "/s").passed();
        assert!(rate(Some(100.0)) && rate(Some(101.0)) && !rate(Some(99.9)) && !rate(None));
        let loss = |value| Check::at_most("--max-loss", 0.0, value, "%").passed();
        assert!(loss(Some(0.0)) && !loss(Some(0.001)) && !loss(None) && !loss(Some(f64::NAN)));
    }
}
