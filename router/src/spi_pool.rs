//! Which SPI indexes of a shard are in use, with the longest possible distance between two uses of one.
//!
//! A peer may go on sending on a deleted SA for a while; were its SPI given out again at once, those packets would fail
//! the integrity check of a stranger's SA and be counted there.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use esp::Spi;

/// The indexes of one slot on one shard.
pub(crate) struct SpiPool {
    /// The next index never used so far; fresh ones are used up before any is used again.
    fresh: u32,
    fresh_left: u32,
    /// Released indexes, the longest unused first.
    released: VecDeque<u32>,
    /// One bit per index in use: guards against releasing twice.
    used: Box<[u64]>,
    /// One bit per index in `released`. An index may be taken out of turn and released again.
    queued: Box<[u64]>,
}

impl SpiPool {
    /// Starts at `start` (any number), so that a restarted node does not begin with the SPIs of its former life.
    pub(crate) fn new(start: u32) -> Self {
        Self {
            fresh: start % Spi::INDEX_LIMIT,
            fresh_left: Spi::INDEX_LIMIT,
            released: VecDeque::new(),
            used: no_bits(),
            queued: no_bits(),
        }
    }

    /// An index that is not in use, or `None` when all are.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        let index = loop {
            let index = self.next()?;
            if !self.is_used(index) {
                break index;
            }
        };
        set(&mut self.used, index, true);
        Some(index)
    }

    /// The next in turn, which may have been taken out of turn.
    fn next(&mut self) -> Option<u32> {
        if self.fresh_left > 0 {
            let index = self.fresh;
            self.fresh = (index + 1) % Spi::INDEX_LIMIT;
            self.fresh_left -= 1;
            Some(index)
        } else {
            let index = self.released.pop_front()?;
            set(&mut self.queued, index, false);
            Some(index)
        }
    }

    /// Takes this index out of turn: another node gave it out. False when it is in use.
    pub(crate) fn take(&mut self, index: u32) -> bool {
        let free = index < Spi::INDEX_LIMIT && !self.is_used(index);
        if free {
            set(&mut self.used, index, true);
        }
        free
    }

    /// Whether the index was given out and not released since.
    pub(crate) fn is_used(&self, index: u32) -> bool {
        is_set(&self.used, index)
    }

    /// Gives an index back. Does nothing when it is not in use.
    pub(crate) fn release(&mut self, index: u32) {
        if self.is_used(index) {
            set(&mut self.used, index, false);
            if !is_set(&self.queued, index) {
                set(&mut self.queued, index, true);
                self.released.push_back(index);
            }
        }
    }
}

fn no_bits() -> Box<[u64]> {
    vec![0; Spi::INDEX_LIMIT as usize / 64].into_boxed_slice()
}

fn is_set(bits: &[u64], index: u32) -> bool {
    bits.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

fn set(bits: &mut [u64], index: u32, to: bool) {
    if let Some(word) = bits.get_mut(index as usize / 64) {
        let bit = 1 << (index % 64);
        if to { *word |= bit } else { *word &= !bit }
    }
}

/// Where indexes begin: with the seconds since 1970, a thousand to the second, so that a router that restarts, or gets a slot
/// back, does not begin where it did before.
pub(crate) fn first_index() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() % u128::from(Spi::INDEX_LIMIT)) as u32
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

    #[test]
    fn what_another_node_gave_out_is_not_given_out_here() {
        let mut pool = SpiPool::new(10);
        assert!(pool.take(11) && pool.take(5) && !pool.take(11) && !pool.take(Spi::INDEX_LIMIT));
        assert_eq!([pool.allocate(), pool.allocate()], [Some(10), Some(12)]);
        pool.release(11);
        assert!(pool.take(11));
        pool.release(11);
        assert_eq!(pool.released, [11], "once, however often it comes and goes");
        for _ in 3..Spi::INDEX_LIMIT - 1 {
            pool.allocate().unwrap();
        }
        assert_eq!([pool.allocate(), pool.allocate()], [Some(11), None]);
    }
}
