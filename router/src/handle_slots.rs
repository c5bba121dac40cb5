//! The slots of the cluster that come to this router and leave it.

use crate::command::Command;
use crate::counters::Counter;
use crate::datagram::Datagram;
use crate::elsewhere::{Passed, PassedIn};
use crate::error::RouterError;
use crate::handle::RouterHandle;
use crate::slots::Slots;

impl RouterHandle {
    /// From now on SPIs of this slot are ours. Nothing happens to one that is open already.
    pub fn open_slot(&self, slot: u8) -> Result<(), RouterError> {
        known(slot)?;
        // The lock is held until the shards are told, so that what comes after reaches them after.
        let registry = self.registry();
        registry.open_slot(slot);
        self.tell_all(|| Command::OpenSlot(slot));
        Ok(())
    }

    /// The slot is about to change hands: to us, or, where it is open, from us. Until [`open_slot`](Self::open_slot) or
    /// [`close_slot`](Self::close_slot) pairs of it may be installed and those that are here go on, but no SPI of it is given
    /// out. ESP that meets no pair waits: 200 ms and as many packets as a shard has room for. Then it is opened in the order it
    /// came, or given to [`crate::Elsewhere`], which it is as well when its time is over.
    pub fn expect_slot(&self, slot: u8) -> Result<(), RouterError> {
        known(slot)?;
        self.registry().expect_slot(slot);
        Ok(())
    }

    /// The slot is not ours any more. Pairs of it that are left are taken out and wiped, and each is told of by
    /// [`crate::RouterEvent::Removed`]. Nothing happens to one that is not open.
    pub fn close_slot(&self, slot: u8) -> Result<(), RouterError> {
        known(slot)?;
        let mut registry = self.registry();
        registry.close_slot(slot);
        self.tell_all(|| Command::CloseSlot(slot));
        Ok(())
    }

    /// ESP that another node received and that is for a slot of ours. It is opened as if it had come by our own socket; when no
    /// pair has its SPI it is dropped. It is passed on once more only if its slot went to another node in the last second. Needs [`crate::RouterConfig::elsewhere`]. Never blocks: a shard
    /// that cannot keep up loses it, counted as `drop_passed_in_full`.
    pub fn passed_in(&self, packet: Vec<u8>, passed: Passed) {
        let shard = match Datagram::classify(&packet) {
            Datagram::Esp(spi) => self.shared().passed.get(usize::from(spi.shard())),
            Datagram::Ike | Datagram::Keepalive | Datagram::Runt => return self.count(Counter::Runt),
        };
        let Some(shard) = shard else { return self.count(Counter::UnknownSpi) };
        if !shard.try_send(PassedIn::Esp(packet, passed.into())) {
            self.count(Counter::PassedInFull);
        }
    }
}

fn known(slot: u8) -> Result<(), RouterError> {
    if Slots::is_one(slot) { Ok(()) } else { Err(RouterError::NoSlot(slot)) }
}
