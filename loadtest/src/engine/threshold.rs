//! What a load must reach.

use std::fmt;

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
    fn a_limit_itself_is_good_and_nothing_measured_is_not() {
        let rate = |value| Check::at_least("--min-rate", 100.0, value, "/s").passed();
        assert!(rate(Some(100.0)) && rate(Some(101.0)) && !rate(Some(99.9)) && !rate(None));
        let loss = |value| Check::at_most("--max-loss", 0.0, value, "%").passed();
        assert!(loss(Some(0.0)) && !loss(Some(0.001)) && !loss(None) && !loss(Some(f64::NAN)));
    }
}
