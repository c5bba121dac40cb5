//! Where metrics go: whatever asks gives one of these.

use actors::Histogram;

use super::definition::Definition;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of what is counted.
    Whole(u64),
    /// Of what is measured.
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<bool> for Number {
    fn from(flag: bool) -> Self {
        Self::Whole(flag.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Takes series. Those of one metric come one after the other.
pub trait Exit {
    /// One series of a gauge or a counter, with the values of the metric's labels in their order.
    fn number(&mut self, metric: &'static Definition, labels: &[&str], value: Number);
    /// One series of a histogram.
    fn histogram(&mut self, metric: &'static Definition, labels: &[&str], value: &Histogram);
}
