//! The anti-replay window (RFC 4303 section 3.4.3) and the inference of the high half of an extended sequence number
//! (RFC 4303 appendix A).

mod snapshot;

use thiserror::Error;

use crate::error::SaError;
pub(crate) use snapshot::WindowForm;

/// Which sequence numbers were received.
///
/// Order of calls, per packet: [`infer`](Self::infer), then [`check`](Self::check), then verify the packet's ICV, then
/// `check` again where another packet may have come in between, then [`accept`](Self::accept). Only `accept` changes the
/// window, so a forged packet never moves it.
///
/// The bits stand in a ring of 64-bit blocks with at least one block more than the window needs, so that moving forward
/// clears whole blocks and never shifts (the idea of RFC 6479).
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    /// Highest number accepted; 0 before the first packet.
    top: u64,
    size: u64,
    blocks: Box<[u64]>,
}

impl ReplayWindow {
    /// RFC 4303 section 3.4.3 asks for at least 32 and prefers 64.
    pub const MIN_SIZE: u32 = 64;
    /// 8192 packets of 1400 octets are 9 ms at 10 Gbit/s: reordering beyond that is loss.
    pub const MAX_SIZE: u32 = 8192;
    /// Enough for the reordering of several receive queues and cheap in memory.
    pub const DEFAULT_SIZE: u32 = 1024;

    /// A window of `size` packets, [`MIN_SIZE`](Self::MIN_SIZE)`..=`[`MAX_SIZE`](Self::MAX_SIZE).
    pub fn new(size: u32) -> Result<Self, SaError> {
        if !(Self::MIN_SIZE..=Self::MAX_SIZE).contains(&size) {
            return Err(SaError::ReplayWindow(size));
        }
        // A power of two, so that a mask finds the block.
        let blocks = (size.div_ceil(BLOCK_BITS as u32) + 1).next_power_of_two() as usize;
        Ok(Self { top: 0, size: u64::from(size), blocks: vec![0; blocks].into_boxed_slice() })
    }

    /// A window that takes nothing at or below `top`: for an SA restored from a checkpoint, where it is unknown which
    /// of the last numbers were received.
    pub fn resume(size: u32, top: u64) -> Result<Self, SaError> {
        let mut window = Self::new(size)?;
        window.top = top;
        window.blocks.fill(u64::MAX);
        window.clear_above(top);
        Ok(window)
    }

    /// Highest sequence number accepted.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The block that the highest number stands in, which the next packet most likely reads.
    pub fn newest(&self) -> Option<&u64> {
        self.blocks.get((self.top / BLOCK_BITS) as usize & (self.blocks.len() - 1))
    }

    /// Packets the window spans.
    pub fn size(&self) -> u32 {
        self.size as u32
    }

    /// The 64-bit number that the 32 bits in a packet stand for (RFC 4303 appendix A2.2), relative to the window.
    ///
    /// `None` when it would lie before the first number or after the last one.
    pub fn infer(&self, low: u32) -> Option<u64> {
        let (top_high, top_low) = ((self.top >> 32) as u32, self.top as u32);
        let window = self.size as u32;
        let bottom = top_low.wrapping_sub(window - 1);
        let high = if top_low >= window - 1 {
            // Case A: the window lies in one subspace.
            if low >= bottom { Some(top_high) } else { top_high.checked_add(1) }
        } else if low >= bottom {
            // Case B: the window spans two subspaces, and this is the lower one.
            top_high.checked_sub(1)
        } else {
            Some(top_high)
        }?;
        Some(u64::from(high) << 32 | u64::from(low))
    }

    /// Whether `sequence` may still be accepted.
    pub fn check(&self, sequence: u64) -> Result<(), ReplayError> {
        if sequence == 0 {
            // The first packet has number 1 (RFC 4303 section 3.3.3).
            return Err(ReplayError::NeverSent);
        }
        if sequence > self.top {
            return Ok(());
        }
        if self.top - sequence >= self.size {
            return Err(ReplayError::TooOld);
        }
        if self.block(sequence) & bit(sequence) != 0 {
            return Err(ReplayError::Duplicate);
        }
        Ok(())
    }

    /// Marks `sequence`, whose packet has passed its integrity check, as received and moves the window.
    pub fn accept(&mut self, sequence: u64) -> Result<(), ReplayError> {
        self.check(sequence)?;
        if sequence > self.top {
            self.clear_blocks_up_to(sequence);
            self.top = sequence;
        }
        *self.block_mut(sequence) |= bit(sequence);
        Ok(())
    }

    /// Clears the blocks that the window newly enters when its top moves to `sequence`.
    fn clear_blocks_up_to(&mut self, sequence: u64) {
        let (from, to) = (self.top / BLOCK_BITS, sequence / BLOCK_BITS);
        let entered = (to - from).min(self.blocks.len() as u64);
        for step in 0..entered {
            *self.block_mut((to - step) * BLOCK_BITS) = 0;
        }
    }

    /// Clears the bits above `top` in its own block; the blocks after it are cleared when the window enters them.
    fn clear_above(&mut self, top: u64) {
        let keep = u64::MAX >> (BLOCK_BITS - 1 - top % BLOCK_BITS);
        *self.block_mut(top) &= keep;
    }

    // The mask keeps the index inside the ring, whose length is a power of two.
    #[allow(clippy::indexing_slicing)]
    fn block(&self, sequence: u64) -> u64 {
        self.blocks[(sequence / BLOCK_BITS) as usize & (self.blocks.len() - 1)]
    }

    #[allow(clippy::indexing_slicing)]
    fn block_mut(&mut self, sequence: u64) -> &mut u64 {
        let mask = self.blocks.len() - 1;
        &mut self.blocks[(sequence / BLOCK_BITS) as usize & mask]
    }
}

/// Why a sequence number is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// No sender uses this number.
    #[error("sequence number 0 is never sent")]
    NeverSent,
    /// It was received before.
    #[error("sequence number was received before")]
    Duplicate,
    /// It lies left of the window.
    #[error("sequence number is left of the window")]
    TooOld,
}

const BLOCK_BITS: u64 = u64::BITS as u64;

fn bit(sequence: u64) -> u64 {
    1 << (sequence % BLOCK_BITS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The clauses of RFC 4303 section 3.4.3, one by one, with a set in place of the bitmap.
    struct Model {
        top: u64,
        size: u64,
        seen: HashSet<u64>,
    }

    impl Model {
        fn accept(&mut self, sequence: u64) -> Result<(), ReplayError> {
            if sequence == 0 {
                return Err(ReplayError::NeverSent);
            }
            if sequence <= self.top && self.top - sequence >= self.size {
                return Err(ReplayError::TooOld);
            }
            if !self.seen.insert(sequence) {
                return Err(ReplayError::Duplicate);
            }
            self.top = self.top.max(sequence);
            Ok(())
        }
    }

    /// Steps around the top: small ones, ones near the window's edge, and jumps beyond it.
    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            4 => -70i64..70,
            3 => -9000i64..9000,
            1 => 0i64..1 << 40,
            1 => Just(1i64),
        ];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(size in 64u32..=8192, start in any::<u32>(), steps in steps()) {
            let mut window = ReplayWindow::new(size).unwrap();
            let mut model = Model { top: 0, size: u64::from(size), seen: HashSet::new() };
            let mut next = u64::from(start);
            for step in steps {
                prop_assert_eq!(window.check(next).is_ok(), model_would_accept(&model, next));
                prop_assert_eq!(window.accept(next), model.accept(next));
                prop_assert_eq!(window.top(), model.top);
                next = model.top.saturating_add_signed(step);
            }
        }

        #[test]
        fn inference_finds_what_is_near(size in 64u32..=8192, top in any::<u64>(), offset in -8191i64..1 << 31) {
            // Whatever is inside the window or less than 2^32 - size ahead of it is found again.
            let top = top.clamp(1, u64::MAX - (1 << 33));
            prop_assume!(offset > -i64::from(size));
            let Some(sequence) = top.checked_add_signed(offset) else { return Ok(()) };
            let window = ReplayWindow::resume(size, top).unwrap();
            prop_assert_eq!(window.infer(sequence as u32), Some(sequence));
        }

        #[test]
        fn resumed_window_takes_only_what_is_new(size in 64u32..=8192, top in 1u64..1 << 62, ahead in 1u64..20_000) {
            let mut window = ReplayWindow::resume(size, top).unwrap();
            for back in 0..u64::from(size).min(top) {
                prop_assert!(window.check(top - back).is_err());
            }
            prop_assert_eq!(window.accept(top + ahead), Ok(()));
            if ahead > 1 && ahead <= u64::from(size) {
                prop_assert_eq!(window.accept(top + 1), Ok(()));
            }
            prop_assert!(window.check(top).is_err());
        }
    }

    fn model_would_accept(model: &Model, sequence: u64) -> bool {
        sequence != 0
            && !(sequence <= model.top && model.top - sequence >= model.size)
            && !model.seen.contains(&sequence)
    }

    #[test]
    fn check_does_not_move_the_window() {
        let window = ReplayWindow::new(64).unwrap();
        assert_eq!(window.check(1 << 40), Ok(()));
        assert_eq!(window.top(), 0);
    }

    #[test]
    fn before_the_first_number_there_is_none() {
        let window = ReplayWindow::new(64).unwrap();
        assert_eq!(window.infer(u32::MAX), None);
        assert_eq!(window.infer(1), Some(1));
    }

    #[test]
    fn size_has_a_range() {
        assert_eq!(ReplayWindow::new(63).unwrap_err(), SaError::ReplayWindow(63));
        assert_eq!(ReplayWindow::new(8193).unwrap_err(), SaError::ReplayWindow(8193));
    }
}
