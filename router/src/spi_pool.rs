//! Which SPI indexes of a shard are in use, with the longest possible distance between two uses of one.
//!
//! A peer may go on sending on a deleted SA for a while; were its SPI given out again at once, those packets would fail
//! the integrity check of a stranger's SA and be counted there.

use std::collections::VecDeque;
use std::net::IpAddr;

use esp::Spi;

/// The indexes of one shard.
pub(crate) struct SpiPool {
    /// The next index never used so far; fresh ones are used up before any is used again.
    fresh: u32,
    fresh_left: u32,
    /// Released indexes, the longest unused first.
    released: VecDeque<u32>,
    /// One bit per index in use: guards against releasing twice.
    used: Box<[u64]>,
}

impl SpiPool {
    /// Starts at `start` (any number), so that a restarted node does not begin with the SPIs of its former life.
    pub(crate) fn new(start: u32) -> Self {
        Self {
            fresh: start % Spi::INDEX_LIMIT,
            fresh_left: Spi::INDEX_LIMIT,
            released: VecDeque::new(),
            used: vec![0; Spi::INDEX_LIMIT as usize / 64].into_boxed_slice(),
        }
    }

    /// An index that is not in use, or `None` when all are.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        let index = if self.fresh_left > 0 {
            let index = self.fresh;
            self.fresh = (index + 1) % Spi::INDEX_LIMIT;
            self.fresh_left -= 1;
            index
        } else {
            self.released.pop_front()?
        };
        self.set(index, true);
        Some(index)
    }

    /// Whether the index was given out and not released since.
    pub(crate) fn is_used(&self, index: u32) -> bool {
        self.used.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Gives an index back. Does nothing when it is not in use.
    pub(crate) fn release(&mut self, index: u32) {
        if self.is_used(index) {
            self.set(index, false);
            self.released.push_back(index);
        }
    }

    fn set(&mut self, index: u32, used: bool) {
        if let Some(word) = self.used.get_mut(index as usize / 64) {
            let bit = 1 << (index % 64);
            if used { *word |= bit } else { *word &= !bit }
        }
    }
}

/// The same shard for the same address, and neighbouring addresses spread (FNV-1a, then the finalizer of SplitMix64,
/// because FNV leaves the last octets in the low bits).
pub(crate) fn shard_of(remote: IpAddr, shards: usize) -> usize {
    let fold = |octets: &[u8]| {
        octets.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    let mut hash = match remote {
        IpAddr::V4(address) => fold(&address.octets()),
        IpAddr::V6(address) => fold(&address.octets()),
    };
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash % shards.max(1) as u64) as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ones_first_then_the_longest_unused() {
        let mut pool = SpiPool::new(u32::MAX);
        let first = pool.allocate().unwrap();
        let second = pool.allocate().unwrap();
        assert_eq!((first, second), (Spi::INDEX_LIMIT - 1, 0), "the start wraps around");
        pool.release(second);
        pool.release(first);
        pool.release(first);
        for _ in 2..Spi::INDEX_LIMIT {
            let index = pool.allocate().unwrap();
            assert!(index != first && index != second);
        }
        assert_eq!(pool.allocate(), Some(second));
        assert_eq!(pool.allocate(), Some(first));
        assert_eq!(pool.allocate(), None, "released twice, but there once");
    }
}
