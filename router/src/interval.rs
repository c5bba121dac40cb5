//! Sets of addresses as disjoint intervals, for routes with holes in them.

use crate::prefix::prefixes_between;

/// Addresses of one family, as the numbers of [`crate::prefix::key_of`]. Intervals include both ends, are in order and
/// have gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Intervals(Vec<(u128, u128)>);

impl Intervals {
    /// Whether there is no address in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all from `low` to `high`.
    pub(crate) fn add(&mut self, low: u128, high: u128) {
        let (mut low, mut high) = (low, high);
        self.0.retain(|&(start, end)| {
            let apart = end.checked_add(1).is_some_and(|next| next < low)
                || high.checked_add(1).is_some_and(|next| next < start);
            if !apart {
                (low, high) = (low.min(start), high.max(end));
            }
            apart
        });
        let at = self.0.partition_point(|&(start, _)| start < low);
        self.0.insert(at, (low, high));
    }

    /// Takes all from `low` to `high` away.
    pub(crate) fn remove(&mut self, low: u128, high: u128) {
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for &(start, end) in &self.0 {
            if end < low || high < start {
                left.push((start, end));
                continue;
            }
            if start < low {
                left.push((start, low - 1));
            }
            if high < end {
                left.push((high + 1, end));
            }
        }
        self.0 = left;
    }

    /// Takes everything in `other` away.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for &(low, high) in &other.0 {
            self.remove(low, high);
        }
    }

    /// Adds everything in `other`.
    pub(crate) fn extend(&mut self, other: &Self) {
        for &(low, high) in &other.0 {
            self.add(low, high);
        }
    }

    /// The prefixes that together are the set.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (u128, u8)> {
        self.0.iter().flat_map(|&(low, high)| prefixes_between(low, high))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set of single numbers, at both ends of the range of numbers.
        #[test]
        fn is_a_set(steps in prop::collection::vec((any::<bool>(), 0u8..40, 0u8..12), 0..20), top in any::<bool>()) {
            let base = if top { u128::MAX - 63 } else { 0 };
            let mut set = Intervals::default();
            let mut model = [false; 64];
            for (add, low, more) in steps {
                let (low, high) = (usize::from(low), usize::from(low + more));
                let (from, to) = (base + low as u128, base + high as u128);
                if add { set.add(from, to) } else { set.remove(from, to) }
                model[low..=high].fill(add);
            }
            for (number, there) in model.iter().enumerate() {
                let number = base + number as u128;
                prop_assert_eq!(set.0.iter().any(|(low, high)| (*low..=*high).contains(&number)), *there);
            }
            prop_assert!(set.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", set);
        }
    }
}
