//! The routes of one address family by their prefixes.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::Route;
use crate::prefix::mask;
use crate::published::{Published, Reading};

/// A prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// As many bits as `length` says, the others 0. In halves, which take less room beside others than the whole would.
    high: u64,
    low: u64,
    length: u8,
}

impl Key {
    /// The first so many bits of an address.
    pub(super) fn new(address: u128, length: u8) -> Self {
        let bits = address & mask(length);
        Self { high: (bits >> 64) as u64, low: bits as u64, length }
    }
}

/// The routes of one prefix, the newest first. Most prefixes have one.
type Routes = SmallVec<[Arc<Route>; 1]>;

#[derive(Clone)]
struct Entry {
    key: Key,
    routes: Routes,
}

/// The entries that a hash leads to, in place: a look-up among many tunnels waits for memory at each pointer that it follows.
#[derive(Clone, Default)]
pub(super) struct Bucket(SmallVec<[Entry; ENTRIES_PER_BUCKET]>);

impl Bucket {
    /// The routes of a prefix.
    pub(super) fn get(&self, key: Key) -> Option<&[Arc<Route>]> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| entry.routes.as_slice())
    }

    /// The routes of a prefix, which has some from now on. True if it had none.
    fn enter(&mut self, key: Key, route: &Arc<Route>) -> bool {
        match self.0.iter_mut().find(|entry| entry.key == key) {
            // Two selectors of one route may cover the same prefix, for two protocols for instance.
            Some(entry) if entry.routes.iter().any(|known| Arc::ptr_eq(known, route)) => false,
            Some(entry) => {
                entry.routes.insert(0, route.clone());
                false
            }
            None => {
                self.0.push(Entry { key, routes: Routes::from_buf([route.clone()]) });
                true
            }
        }
    }

    /// Takes a route out. True if it was the last of its prefix.
    fn strike(&mut self, key: Key, route: &Arc<Route>) -> bool {
        let Some(at) = self.0.iter().position(|entry| entry.key == key) else { return false };
        let Some(entry) = self.0.get_mut(at) else { return false };
        entry.routes.retain(|known| !Arc::ptr_eq(known, route));
        let gone = entry.routes.is_empty();
        if gone {
            self.0.swap_remove(at);
        }
        gone
    }
}

/// One address family.
#[derive(Default)]
pub(super) struct Family {
    buckets: Published<Buckets>,
    writer: Mutex<Writer>,
}

/// What a look-up reads.
pub(super) struct Buckets {
    /// The prefix lengths in use, the longest first. A tenant uses few, so a look-up is a few probes.
    lengths: SmallVec<[u8; 16]>,
    /// A power of two of them. Nothing where there is no entry.
    buckets: Arc<[Published<Bucket>]>,
    /// Keyed at random, so that nobody can choose networks that meet in one bucket.
    hasher: RandomState,
}

/// What only changes need.
#[derive(Default)]
struct Writer {
    /// Entries by prefix length.
    counts: BTreeMap<u8, usize>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { lengths: SmallVec::new(), buckets: empty_buckets(1), hasher: RandomState::default() }
    }
}

impl Buckets {
    pub(super) fn lengths(&self) -> &[u8] {
        &self.lengths
    }

    /// Where a prefix is, if it is there.
    pub(super) fn of(&self, key: Key) -> Option<&Published<Bucket>> {
        self.buckets.get(self.position(key))
    }

    /// The bucket where a prefix is, if it is there.
    pub(super) fn bucket<'r>(&self, key: Key, reading: &'r Reading) -> Option<&'r Bucket> {
        self.of(key)?.read(reading)
    }

    fn position(&self, key: Key) -> usize {
        self.hasher.hash_one(key) as usize & (self.buckets.len() - 1)
    }

    /// Puts a changed copy of the key's bucket in its place, and returns what `change` does.
    fn change(&self, key: Key, change: impl FnOnce(&mut Bucket) -> bool) -> bool {
        let Some(cell) = self.of(key) else { return false };
        let mut bucket = cell.read(&Reading::new()).cloned().unwrap_or_default();
        let changed = change(&mut bucket);
        cell.publish((!bucket.0.is_empty()).then_some(bucket));
        changed
    }

    /// So many buckets with the entries of these.
    fn grown(&self, len: usize) -> Arc<[Published<Bucket>]> {
        let new = Self { lengths: SmallVec::new(), buckets: empty_buckets(len), hasher: self.hasher };
        let (mut grown, reading) = (vec![Bucket::default(); len], Reading::new());
        for entry in self.buckets.iter().filter_map(|cell| cell.read(&reading)).flat_map(|old| old.0.clone())
        {
            if let Some(bucket) = grown.get_mut(new.position(entry.key)) {
                bucket.0.push(entry);
            }
        }
        for (cell, bucket) in new.buckets.iter().zip(grown) {
            cell.publish((!bucket.0.is_empty()).then_some(bucket));
        }
        new.buckets
    }
}

impl Family {
    /// What a look-up reads; `None` before the first route.
    pub(super) fn buckets<'r>(&self, reading: &'r Reading) -> Option<&'r Buckets> {
        self.buckets.read(reading)
    }

    pub(super) fn add(&self, key: Key, route: &Arc<Route>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = Reading::new();
        if self.buckets(&reading).is_none() {
            self.buckets.publish(Some(Buckets::default()));
        }
        let Some(buckets) = self.buckets(&reading) else { return };
        if buckets.change(key, |bucket| bucket.enter(key, route)) {
            *writer.counts.entry(key.length).or_default() += 1;
            self.reshape(buckets, &writer);
        }
    }

    pub(super) fn remove(&self, key: Key, route: &Arc<Route>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = Reading::new();
        let Some(buckets) = self.buckets(&reading) else { return };
        if buckets.change(key, |bucket| bucket.strike(key, route)) {
            if let Some(count) = writer.counts.get_mut(&key.length) {
                *count -= 1;
            }
            writer.counts.retain(|_, count| *count > 0);
            self.reshape(buckets, &writer);
        }
    }

    /// Keeps the list of lengths, and enough buckets that they stay small.
    fn reshape(&self, old: &Buckets, writer: &Writer) {
        let lengths: SmallVec<[u8; 16]> = writer.counts.keys().rev().copied().collect();
        let (entries, len): (usize, usize) = (writer.counts.values().sum(), old.buckets.len());
        let crowded = entries > len * ENTRIES_PER_BUCKET && len < MAX_BUCKETS;
        if lengths == old.lengths && !crowded {
            return;
        }
        let buckets = if crowded { old.grown((len * GROWTH).min(MAX_BUCKETS)) } else { old.buckets.clone() };
        self.buckets.publish(Some(Buckets { lengths, buckets, hasher: old.hasher }));
    }
}

/// Entries that have their place in the bucket itself. Where there are more on the average, buckets are made more.
const ENTRIES_PER_BUCKET: usize = 2;
/// Growing moves everything, so it is done in large steps; what it has in excess are pointers.
const GROWTH: usize = 4;
/// A million entries of one tenant, as many as a shard has SPIs; beyond it buckets grow.
const MAX_BUCKETS: usize = 1 << 19;

fn empty_buckets(count: usize) -> Arc<[Published<Bucket>]> {
    (0..count).map(|_| Published::default()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::edition::Edition;
    use crate::model::TunnelId;
    use crate::tunnel::Tunnel;

    fn route() -> Arc<Route> {
        let tunnel = Tunnel::new(TunnelId(1), &Edition::default());
        Arc::new(Route::new(tunnel, Arc::default(), false))
    }

    fn key(number: u32) -> Key {
        Key::new(u128::from(number) << 104, 24)
    }

    /// What a look-up among a million tunnels reads comes from memory, line by line of 64 octets; a bucket has two words behind it, the others their counts in front.
    #[test]
    fn what_a_look_up_reads_is_a_few_lines() {
        /// As many in either case.
        const COUNTS: usize = 2 * size_of::<usize>();
        assert!(COUNTS + size_of::<Bucket>() <= 2 * 64);
        assert!(COUNTS + size_of::<Route>() <= 2 * 64);
        assert!(COUNTS + size_of::<Tunnel>() <= 64);
    }

    #[test]
    fn however_many_there_are_few_share_a_bucket() {
        let (family, route) = (Family::default(), route());
        for number in 0..5000 {
            family.add(key(number), &route);
            let reading = Reading::new();
            let buckets = family.buckets(&reading).unwrap();
            assert!(buckets.buckets.len() * ENTRIES_PER_BUCKET > number as usize);
            assert!(buckets.buckets.len() <= (number as usize + 1) * GROWTH);
        }
        for number in 0..5000 {
            family.remove(key(number), &route);
        }
        let reading = Reading::new();
        let buckets = family.buckets(&reading).unwrap();
        assert!(buckets.lengths().is_empty());
        let mut cells = buckets.buckets.iter();
        assert!(cells.all(|cell| cell.read(&reading).is_none()), "nothing is left of any");
    }

    #[test]
    fn the_newest_of_a_prefix_is_first_and_each_goes_by_itself() {
        let (family, older, newer) = (Family::default(), route(), route());
        for route in [&older, &newer, &newer] {
            family.add(key(7), route);
        }
        let routes = || {
            let reading = Reading::new();
            let bucket = family.buckets(&reading).and_then(|buckets| buckets.bucket(key(7), &reading));
            bucket.and_then(|bucket| bucket.get(key(7)).map(<[_]>::to_vec)).unwrap_or_default()
        };
        assert!(
            Arc::ptr_eq(&routes()[0], &newer) && Arc::ptr_eq(&routes()[1], &older) && routes().len() == 2
        );
        family.remove(key(7), &newer);
        assert!(Arc::ptr_eq(&routes()[0], &older) && routes().len() == 1);
        family.remove(key(8), &older);
        family.remove(key(7), &older);
        assert!(routes().is_empty());
    }
}
