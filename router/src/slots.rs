//! Which slots of the cluster are this router's.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
pub(crate) struct Slots {
    states: [AtomicU8; COUNT],
    /// Until when, in milliseconds after `start`, a slot that goes or went is one that was ours lately.
    lately: [AtomicU64; COUNT],
    start: Instant,
}

/// As many as an SPI can name, and slot 0, which nobody ever has.
const COUNT: usize = Spi::MAX_SLOT as usize + 1;

impl Slots {
    /// With this slot open.
    pub(crate) fn new(open: u8) -> Self {
        let slots = Self {
            states: [const { AtomicU8::new(SlotState::Closed as u8) }; COUNT],
            lately: [const { AtomicU64::new(0) }; COUNT],
            start: Instant::now(),
        };
        slots.set(open, SlotState::Open);
        slots
    }

    pub(crate) fn state(&self, slot: u8) -> SlotState {
        match self.states.get(usize::from(slot)).map(|state| state.load(Ordering::SeqCst)) {
            Some(state) if state == SlotState::Open as u8 => SlotState::Open,
            Some(state) if state == SlotState::Expected as u8 => SlotState::Expected,
            _ => SlotState::Closed,
        }
    }

    pub(crate) fn set(&self, slot: u8, state: SlotState) {
        if let Some(word) = self.states.get(usize::from(slot)).filter(|_| Self::is_one(slot)) {
            word.store(state as u8, Ordering::SeqCst);
        }
    }

    /// The slot is ours. One that was about to go stays.
    pub(crate) fn open(&self, slot: u8) {
        if self.lately.get(usize::from(slot)).is_some_and(|until| until.load(Ordering::SeqCst) == GOES) {
            self.goes_until(slot, 0);
        }
        self.set(slot, SlotState::Open);
    }

    /// The slot is about to come, or to go.
    pub(crate) fn expect(&self, slot: u8) {
        if self.state(slot) == SlotState::Open {
            self.goes_until(slot, GOES);
        }
        self.set(slot, SlotState::Expected);
    }

    /// The slot has gone.
    pub(crate) fn close(&self, slot: u8, now: Instant) {
        if self.state(slot) != SlotState::Closed {
            self.goes_until(slot, self.millis(now + LATELY));
        }
        self.set(slot, SlotState::Closed);
    }

    fn goes_until(&self, slot: u8, until: u64) {
        if let Some(lately) = self.lately.get(usize::from(slot)) {
            lately.store(until, Ordering::SeqCst);
        }
    }

    /// Whether another node may still take us for the owner of a slot that went.
    pub(crate) fn was_ours_lately(&self, slot: u8, now: Instant) -> bool {
        let until = self.lately.get(usize::from(slot)).map_or(0, |until| until.load(Ordering::SeqCst));
        self.millis(now) < until
    }

    /// Those that are open, a bit for each.
    pub(crate) fn open_ones(&self) -> u64 {
        let open = (1..=Spi::MAX_SLOT).filter(|slot| self.state(*slot) == SlotState::Open);
        open.fold(0, |all, slot| all | Self::bit(slot))
    }

    /// The bit of a slot among all.
    pub(crate) fn bit(slot: u8) -> u64 {
        1_u64.checked_shl(slot.into()).unwrap_or(0)
    }

    /// Whether some slot changes hands now.
    pub(crate) fn some_expected(&self) -> bool {
        (1..=Spi::MAX_SLOT).any(|slot| self.state(slot) == SlotState::Expected)
    }

    /// Whether another node may still take us for the one that has some tunnel that went.
    pub(crate) fn some_went_lately(&self, now: Instant) -> bool {
        let now = self.millis(now);
        let longer = millis(TUNNELS_LATELY - LATELY);
        let until = |lately: &AtomicU64| lately.load(Ordering::SeqCst).saturating_add(longer);
        self.lately.iter().any(|lately| lately.load(Ordering::SeqCst) > 0 && now < until(lately))
    }

    fn millis(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.start))
    }

    /// Whether a node can have it.
    pub(crate) fn is_one(slot: u8) -> bool {
        (1..=Spi::MAX_SLOT).contains(&slot)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Of a slot that is about to go, until it is known when it went.
const GOES: u64 = u64::MAX;
/// All nodes know of a new owner by then; what is under way to the old one arrives.
const LATELY: Duration = Duration::from_secs(1);
/// Whose a slot is all nodes are told at once, which node has a tunnel only by and by. One that gave a tunnel away goes on for ten seconds sending
/// what is for it to the node that it gave it to, be it there or further on.
const TUNNELS_LATELY: Duration = Duration::from_secs(12);

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

    #[test]
    fn a_slot_was_ours_for_a_while() {
        let (slots, now) = (Slots::new(5), Instant::now());
        slots.close(6, now);
        assert!(!slots.some_went_lately(now), "none ever was");
        assert!(!slots.was_ours_lately(5, now) && !slots.was_ours_lately(6, now), "it never was");
        slots.close(5, now);
        slots.close(5, now + LATELY);
        assert!(slots.was_ours_lately(5, now) && !slots.was_ours_lately(5, now + LATELY));
        assert!(slots.some_went_lately(now + TUNNELS_LATELY - Duration::from_millis(1)));
        // One that is about to go is as good as gone to whoever waits no more, and one that comes is not.
        let later = now + TUNNELS_LATELY;
        slots.open(7);
        for slot in [7, 8] {
            slots.expect(slot);
        }
        assert!(slots.was_ours_lately(7, later) && !slots.was_ours_lately(8, later));
        assert!(slots.some_went_lately(later));
        slots.open(7);
        assert!(!slots.was_ours_lately(7, now) && !slots.some_went_lately(later), "it stayed");
        assert!(!slots.some_went_lately(now + TUNNELS_LATELY));
    }
}
