//! The slots of the cluster that come to this router and leave it.

use crate::command::Command;
use crate::error::RouterError;
use crate::handle::RouterHandle;
use crate::slots::Slots;

impl RouterHandle {
    /// From now on SPIs of this slot are ours. Nothing happens to one that is open already.
    pub fn open_slot(&self, slot: u8) -> Result<(), RouterError> {
        known(slot)?;
        self.registry().open_slot(slot);
        Ok(())
    }

    /// The slot is not ours any more. Pairs of it that are left are taken out and wiped, and each is told of by
    /// [`crate::RouterEvent::Removed`]. Nothing happens to one that is not open.
    pub fn close_slot(&self, slot: u8) -> Result<(), RouterError> {
        known(slot)?;
        // The lock is held until the shards are told, so that what comes after reaches them after.
        let mut registry = self.registry();
        registry.close_slot(slot);
        self.tell_all(|| Command::CloseSlot(slot));
        Ok(())
    }
}

fn known(slot: u8) -> Result<(), RouterError> {
    if Slots::is_one(slot) { Ok(()) } else { Err(RouterError::NoSlot(slot)) }
}
