//! Which SPIs of our slots are in use.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use esp::Spi;

use crate::slots::{SlotState, Slots};
use crate::spi_pool::{SpiPool, first_index, shard_of};

/// The SPIs of every slot, with the state of the slots.
pub(crate) struct Spis {
    pub(crate) slots: Arc<Slots>,
    shards: usize,
    /// Where the indexes of a pool begin that is made next.
    start: u32,
    /// By slot and shard, those that were needed since the slot is here.
    pools: HashMap<(u8, u8), SpiPool>,
}

impl Spis {
    /// `start` is any number that differs from one start of the router to the next.
    pub(crate) fn new(slots: Arc<Slots>, shards: usize, start: u32) -> Self {
        Self { slots, shards, start, pools: HashMap::new() }
    }

    /// Nothing of this slot is ours any more.
    pub(crate) fn close_slot(&mut self, slot: u8) {
        self.slots.close(slot, Instant::now());
        self.pools.retain(|(of, _), _| *of != slot);
        // Others will have given some out by the time the slot comes back.
        self.start = first_index();
    }

    /// An SPI on the shard of this remote address. The kernel joins datagrams of one remote address, so they should be
    /// for one shard.
    pub(crate) fn allocate(&mut self, slot: u8, remote: IpAddr) -> Option<Spi> {
        self.allocate_on(slot, shard_of(remote, self.shards))
    }

    /// An SPI on the shard that has the fewest of these, and among equals on the next one after that of this remote address.
    pub(crate) fn allocate_beside(&mut self, slot: u8, remote: IpAddr, beside: &[Spi]) -> Option<Spi> {
        let (first, shards) = (shard_of(remote, self.shards), self.shards);
        let there = |shard: usize| beside.iter().filter(|spi| usize::from(spi.shard()) == shard).count();
        let shard = (1..=shards).map(|step| (first + step) % shards).min_by_key(|shard| there(*shard))?;
        self.allocate_on(slot, shard)
    }

    /// An SPI of the slot and on the shard of this one.
    pub(crate) fn allocate_like(&mut self, like: Spi) -> Option<Spi> {
        self.allocate_on(like.slot(), usize::from(like.shard()))
    }

    fn allocate_on(&mut self, slot: u8, shard: usize) -> Option<Spi> {
        let shard = u8::try_from(shard).ok()?;
        if self.slots.state(slot) != SlotState::Open {
            return None;
        }
        let index = self.pool(slot, shard)?.allocate()?;
        Spi::compose(slot, shard, index).ok()
    }

    /// Reserves an SPI that another node gave out. False when there is no such slot or shard here, or when it is in use.
    pub(crate) fn take(&mut self, spi: Spi) -> bool {
        self.slots.state(spi.slot()) != SlotState::Closed
            && self.pool(spi.slot(), spi.shard()).is_some_and(|pool| pool.take(spi.index()))
    }

    fn pool(&mut self, slot: u8, shard: u8) -> Option<&mut SpiPool> {
        let start = self.start;
        if usize::from(shard) >= self.shards {
            return None;
        }
        Some(self.pools.entry((slot, shard)).or_insert_with(|| SpiPool::new(start)))
    }

    /// Whether a pair may be installed under it.
    pub(crate) fn is_reserved(&self, spi: Spi) -> bool {
        let pool = self.pools.get(&(spi.slot(), spi.shard()));
        self.slots.state(spi.slot()) != SlotState::Closed
            && pool.is_some_and(|pool| pool.is_used(spi.index()))
    }

    /// Gives an SPI back. Does nothing when it is not in use.
    pub(crate) fn release(&mut self, spi: Spi) {
        if let Some(pool) = self.pools.get_mut(&(spi.slot(), spi.shard())) {
            pool.release(spi.index());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn those_beside_one_another_spread() {
        let mut spis = Spis::new(Arc::new(Slots::new(5)), 4, 77);
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut all = vec![spis.allocate(5, remote).unwrap()];
        for _ in 1..8 {
            all.push(spis.allocate_beside(5, remote, &all).unwrap());
        }
        for shard in 0..4 {
            assert_eq!(all.iter().filter(|spi| spi.shard() == shard).count(), 2, "{all:?}");
        }
        let again = spis.allocate_like(all[2]).unwrap();
        assert_eq!(again.shard(), all[2].shard());
        assert!(!all.contains(&again));
    }

    #[test]
    fn each_slot_has_its_own_numbers_while_it_is_open() {
        let mut spis = Spis::new(Arc::new(Slots::new(5)), 2, 77);
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let first = spis.allocate(5, remote).unwrap();
        assert_eq!(spis.allocate(6, remote), None);
        spis.slots.set(6, SlotState::Expected);
        assert_eq!(spis.allocate(6, remote), None, "it may be given out elsewhere still");
        spis.slots.set(6, SlotState::Open);
        let second = spis.allocate(6, remote).unwrap();
        assert_eq!((second.slot(), second.shard(), second.index()), (6, first.shard(), first.index()));
        let theirs = Spi::compose(6, 0, 1234).unwrap();
        assert!(spis.take(theirs) && !spis.take(theirs));
        assert!(!spis.take(Spi::compose(6, 2, 1).unwrap()), "there is no such shard");
        spis.close_slot(6);
        assert!(!spis.take(theirs) && spis.allocate_like(second).is_none());
    }

    #[test]
    fn an_address_keeps_its_shard_and_addresses_spread() {
        let mut spis = Spis::new(Arc::new(Slots::new(5)), 4, 77);
        let mut counts = [0; 4];
        for host in 0..400u32 {
            let remote = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + host));
            let first = spis.allocate(5, remote).unwrap();
            let second = spis.allocate(5, remote).unwrap();
            assert_eq!((first.slot(), first.shard()), (5, second.shard()));
            assert_ne!(first, second);
            counts[usize::from(first.shard())] += 1;
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
    }
}
