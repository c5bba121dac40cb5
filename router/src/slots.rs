//! Which slots of the cluster are this router's.

use std::sync::atomic::{AtomicU8, Ordering};

use esp::Spi;

/// What is known of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SlotState {
    /// Somebody else's, or nobody's.
    Closed = 0,
    /// It changes hands: pairs may come, and what meets none waits until it is known whose the slot is.
    Expected = 1,
    /// Ours.
    Open = 2,
}

/// The state of every slot. The control plane writes it; a shard reads it for SPIs alone that it does not find.
#[derive(Debug)]
pub(crate) struct Slots([AtomicU8; COUNT]);

/// As many as an SPI can name, and slot 0, which nobody ever has.
const COUNT: usize = Spi::MAX_SLOT as usize + 1;

impl Slots {
    /// With this slot open.
    pub(crate) fn new(open: u8) -> Self {
        let slots = Self([const { AtomicU8::new(SlotState::Closed as u8) }; COUNT]);
        slots.set(open, SlotState::Open);
        slots
    }

    pub(crate) fn state(&self, slot: u8) -> SlotState {
        match self.0.get(usize::from(slot)).map(|state| state.load(Ordering::SeqCst)) {
            Some(state) if state == SlotState::Open as u8 => SlotState::Open,
            Some(state) if state == SlotState::Expected as u8 => SlotState::Expected,
            _ => SlotState::Closed,
        }
    }

    pub(crate) fn set(&self, slot: u8, state: SlotState) {
        if let Some(word) = self.0.get(usize::from(slot)).filter(|_| Self::is_one(slot)) {
            word.store(state as u8, Ordering::SeqCst);
        }
    }

    /// Whether a node can have it.
    pub(crate) fn is_one(slot: u8) -> bool {
        (1..=Spi::MAX_SLOT).contains(&slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slots_that_a_node_can_have_ever_open() {
        let slots = Slots::new(0);
        for slot in [0, 63, 64, 255] {
            slots.set(slot, SlotState::Open);
        }
        let open: Vec<u8> = (0..=255).filter(|slot| slots.state(*slot) == SlotState::Open).collect();
        assert_eq!(open, [63]);
    }
}
