//! A replay window as another node takes it over. What travels are the gaps: where packets come in order, which is nearly
//! always, there is nothing but the top.

use prost::Message;
use snapshot::SnapshotError;

use super::{BLOCK_BITS, ReplayWindow};
use crate::snapshot::RestoreError;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WindowForm {
    #[prost(uint32, tag = "1")]
    size: u32,
    #[prost(uint64, tag = "2")]
    top: u64,
    /// Numbers in the window that may still come, as bits of its blocks from the one of the top down. Blocks without any at
    /// the end are left out.
    #[prost(fixed64, repeated, tag = "3")]
    missing: Vec<u64>,
}

impl ReplayWindow {
    pub(crate) fn form(&self) -> WindowForm {
        let mut missing: Vec<u64> =
            self.spanned().map(|(number, within)| !self.block(number) & within).collect();
        missing.truncate(missing.iter().rposition(|bits| *bits != 0).map_or(0, |last| last + 1));
        WindowForm { size: self.size(), top: self.top, missing }
    }

    pub(crate) fn restore(form: &WindowForm) -> Result<Self, RestoreError> {
        let mut window = Self::resume(form.size, form.top)?;
        let spanned: Vec<_> = window.spanned().take(form.missing.len()).collect();
        let outside = spanned.iter().zip(&form.missing).any(|((_, within), bits)| bits & !within != 0);
        if spanned.len() < form.missing.len() || outside {
            let reason = format!("gaps outside of its {} packets below {}", form.size, form.top);
            return Err(SnapshotError::value("the replay window", reason).into());
        }
        for ((number, _), bits) in spanned.into_iter().zip(&form.missing) {
            *window.block_mut(number) &= !bits;
        }
        Ok(window)
    }

    /// The blocks that the window spans, from that of the top down: a number in each, and which of its bits are in the window.
    fn spanned(&self) -> impl Iterator<Item = (u64, u64)> {
        // The first number is 1.
        let bottom = self.top.saturating_sub(self.size - 1).max(1);
        let top = self.top;
        (bottom / BLOCK_BITS..=top / BLOCK_BITS).rev().map(move |block| {
            let first = block * BLOCK_BITS;
            let above = u64::MAX << bottom.saturating_sub(first).min(BLOCK_BITS - 1);
            let below = u64::MAX >> (BLOCK_BITS - 1 - (top - first).min(BLOCK_BITS - 1));
            (first, above & below)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::SaError;

    proptest! {
        #[test]
        fn a_restored_window_decides_alike(
            size in 64u32..=8192,
            start in prop_oneof![1u64..200, Just(u64::from(u32::MAX)), 1u64..1 << 62],
            steps in prop::collection::vec(-9000i64..9000, 0..200),
            probes in prop::collection::vec(-9000i64..9000, 0..400),
        ) {
            let mut window = ReplayWindow::new(size).unwrap();
            let mut next = start;
            for step in steps {
                let _ = window.accept(next);
                next = window.top().saturating_add_signed(step);
            }
            let form = window.form();
            let mut restored = ReplayWindow::restore(&form).unwrap();
            prop_assert_eq!(restored.form(), form);
            for probe in probes {
                let number = window.top().saturating_add_signed(probe);
                prop_assert_eq!(restored.infer(number as u32), window.infer(number as u32));
                prop_assert_eq!(restored.accept(number), window.accept(number));
            }
            prop_assert_eq!(restored.form(), window.form());
        }
    }

    #[test]
    fn what_came_in_order_takes_no_room() {
        let mut window = ReplayWindow::new(1024).unwrap();
        assert!(window.form().missing.is_empty());
        (1..=5000).for_each(|number| window.accept(number).unwrap());
        assert!(window.form().missing.is_empty());
        window.accept(5002).unwrap();
        assert_eq!(window.form().missing, [1 << (5001 % 64)]);
    }

    #[test]
    fn gaps_outside_of_the_window_are_refused() {
        for missing in [vec![1 << 40], vec![0; 20], vec![0, 0, 1]] {
            let form = WindowForm { size: 64, top: 100, missing };
            assert!(matches!(ReplayWindow::restore(&form), Err(RestoreError::Snapshot(_))), "{form:?}");
        }
        let form = WindowForm { size: 1, top: 100, missing: Vec::new() };
        assert_eq!(ReplayWindow::restore(&form).unwrap_err(), SaError::ReplayWindow(1).into());
    }
}
