//! Medians, and ratios with their spread.

use serde_json::{Value, json};

/// The middle of some values; between the middle two if their number is even.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower =
        if values.len().is_multiple_of(2) { values.get(middle.wrapping_sub(1)).copied() } else { None };
    Some(lower.map_or(upper, |lower| f64::midpoint(lower, upper)))
}

/// What is compared with a goal, with the least and the most of all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of values of several rounds.
    pub(crate) fn of(values: &[f64]) -> Result<Self, Lack> {
        let median = median(values).ok_or(Lack::Unmeasured)?;
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        Ok(Self { median, min: finite().fold(f64::INFINITY, f64::min), max: finite().fold(0.0, f64::max) })
    }

    /// Of the ratios of two in each round, for what a machine is up to changes from one round to the next.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Result<Self, Lack> {
        let ratios = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
        let spread = Self::of(&ratios.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>());
        spread.map_err(|lack| if theirs.contains(&0.0) { Lack::Zero } else { lack })
    }
}

/// Why there is no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Somebody that it takes is not here.
    LeftOut,
    /// It was not asked for, or has failed.
    Unmeasured,
    /// Nothing has come of the other, so nothing is so many times it.
    Zero,
}

impl Lack {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::LeftOut => "left out",
            Self::Unmeasured => "not measured",
            Self::Zero => "theirs is 0",
        }
    }
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Told, and nothing asked.
    None,
}

impl Goal {
    /// Whether it is met; `None` where there is none.
    pub(crate) fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
            Self::None => None,
        }
    }

    pub(crate) const fn number(self) -> Option<f64> {
        match self {
            Self::AtLeast(number) | Self::AtMost(number) => Some(number),
            Self::None => None,
        }
    }
}

/// On which side of a figure the true one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bound {
    #[default]
    Exact,
    /// Ours may be more than was measured.
    AtLeast,
    /// Theirs may be.
    AtMost,
    /// Both may be.
    Either,
}

impl Bound {
    /// Whether ours, and theirs, may be more than was measured.
    pub(crate) const fn of((ours, theirs): (bool, bool)) -> Self {
        match (ours, theirs) {
            (false, false) => Self::Exact,
            (true, false) => Self::AtLeast,
            (false, true) => Self::AtMost,
            (true, true) => Self::Either,
        }
    }

    /// Before the figure.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::AtLeast => "≥ ",
            Self::AtMost => "≤ ",
            Self::Either => "? ",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::AtLeast => "atLeast",
            Self::AtMost => "atMost",
            Self::Either => "unknown",
        }
    }
}

/// A row of the table of goals.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: String,
    pub(crate) goal: Goal,
    pub(crate) reached: Result<Spread, Lack>,
    /// Rounds that are no part of it, as nothing has come of the other in them.
    pub(crate) zeros: usize,
    pub(crate) bound: Bound,
}

impl Row {
    /// Whether its goal is met, if there is one and what was measured says it.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let met = self.goal.is_met(self.reached.ok()?.median)?;
        let more_is_better = matches!(self.goal, Goal::AtLeast(_));
        let is_sure = match self.bound {
            Bound::Exact => true,
            Bound::AtLeast => met == more_is_better,
            Bound::AtMost => met != more_is_better,
            Bound::Either => false,
        };
        is_sure.then_some(met)
    }

    pub(crate) fn json(&self) -> Value {
        match self.reached {
            Err(_) => Value::Null,
            Ok(Spread { median, min, max }) => {
                json!({
                    "median": median, "min": min, "max": max, "bound": self.bound.text(), "goal": self.goal.number(),
                    "met": self.is_met(),
                })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, f64::NAN, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_of_the_same_round_and_without_anybody_there_are_none() {
        let spread = Spread::of_ratios(&[10.0, 30.0, 20.0], &[5.0, 10.0, 20.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of_ratios(&[10.0], &[]), Err(Lack::Unmeasured));
        assert_eq!(Spread::of_ratios(&[10.0], &[f64::NAN]), Err(Lack::Unmeasured));
        assert_eq!(Spread::of_ratios(&[10.0], &[0.0]), Err(Lack::Zero));
    }

    #[test]
    fn goals_are_bounds_from_below_or_above() {
        let row = |goal, value: f64| {
            let reached = Spread::of(&[value]);
            Row { name: "x", title: String::new(), goal, reached, zeros: 0, bound: Bound::Exact }
        };
        assert_eq!(row(Goal::AtLeast(2.0), 2.0).is_met(), Some(true));
        assert_eq!(row(Goal::AtMost(2.0), 2.1).is_met(), Some(false));
        assert_eq!(row(Goal::None, 9.0).is_met(), None);
        let missing = Row { reached: Err(Lack::LeftOut), ..row(Goal::AtLeast(1.0), 1.0) };
        assert!(missing.is_met().is_none() && missing.json().is_null());
        assert_eq!(row(Goal::AtMost(2.0), 2.1).json()["met"], false);
    }

    #[test]
    fn what_a_sender_could_send_meets_a_goal_only_where_more_would_as_well() {
        let met = |goal, value: f64, sides| {
            let (reached, bound) = (Spread::of(&[value]), Bound::of(sides));
            Row { name: "x", title: String::new(), goal, reached, zeros: 0, bound }.is_met()
        };
        let (ours, theirs, both) = ((true, false), (false, true), (true, true));
        let goal = Goal::AtLeast(2.0);
        assert_eq!([3.0, 1.0].map(|value| met(goal, value, ours)), [Some(true), None]);
        assert_eq!([3.0, 1.0].map(|value| met(goal, value, theirs)), [None, Some(false)]);
        assert_eq!([3.0, 1.0].map(|value| met(goal, value, both)), [None, None]);
        let goal = Goal::AtMost(2.0);
        assert_eq!([3.0, 1.0].map(|value| met(goal, value, ours)), [Some(false), None]);
        assert_eq!([3.0, 1.0].map(|value| met(goal, value, theirs)), [None, Some(true)]);
        assert_eq!(met(Goal::None, 1.0, (false, false)), None);
    }
}
