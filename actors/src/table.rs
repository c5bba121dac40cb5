//! A table whose entries are values of those who put them in.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// A concurrent map; a look-up holds one shard of it for its duration. An entry stays as long as its [`Registration`].
#[derive(Debug)]
pub(crate) struct Table<K: Eq + Hash, V>(Arc<Inner<K, V>>);

#[derive(Debug)]
struct Inner<K: Eq + Hash, V> {
    /// With the turn of the registration that put it there.
    map: DashMap<K, (Turn, V)>,
}

impl<K: Eq + Hash, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Arc::new(Inner { map: DashMap::new() }))
    }
}

/// Who comes after whom. A supervisor takes one for each actor that it starts, in that order: threads may carry the starts
/// out in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(u64);

impl Turn {
    /// After all that were taken before.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A place in a table. Dropping it takes out what it put there, and nothing that came after: whoever leaves late, or even
/// comes late, cannot strike out its successor.
#[must_use = "dropping it takes the entry out"]
#[derive(Debug)]
pub(crate) struct Registration<K: Eq + Hash, V> {
    table: Arc<Inner<K, V>>,
    key: K,
    turn: Turn,
}

impl<K: Eq + Hash + Clone, V> Table<K, V> {
    fn registration(&self, key: K, turn: Turn) -> Registration<K, V> {
        Registration { table: self.0.clone(), key, turn }
    }

    /// Puts an entry in, made from the one before if there is one, whose place is thereby taken. If a successor has the
    /// place already, it keeps it.
    pub(crate) fn succeed(
        &self,
        key: K,
        turn: Turn,
        make: impl FnOnce(Option<&V>) -> V,
    ) -> Registration<K, V> {
        match self.0.map.entry(key.clone()) {
            Entry::Occupied(there) if there.get().0 > turn => {}
            Entry::Occupied(mut there) => {
                let value = make(Some(&there.get().1));
                there.insert((turn, value));
            }
            Entry::Vacant(free) => {
                free.insert((turn, make(None)));
            }
        }
        self.registration(key, turn)
    }

    /// Puts an entry in, in the place of any before.
    pub(crate) fn register(&self, key: K, turn: Turn, value: V) -> Registration<K, V> {
        self.succeed(key, turn, |_| value)
    }

    /// Puts an entry in unless there is one.
    pub(crate) fn reserve(&self, key: K, value: V) -> Option<Registration<K, V>> {
        match self.0.map.entry(key.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let turn = Turn::next();
                free.insert((turn, value));
                Some(self.registration(key, turn))
            }
        }
    }

    /// Changes an entry, if it is there.
    pub(crate) fn update(&self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some(mut entry) = self.0.map.get_mut(key) {
            change(&mut entry.1);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.map.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.map.is_empty()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Table<K, V> {
    /// The entry of a key.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.0.map.get(key).map(|entry| entry.1.clone())
    }

    /// All entries, in no order.
    pub(crate) fn all(&self) -> Vec<(K, V)> {
        self.0.map.iter().map(|entry| (entry.key().clone(), entry.value().1.clone())).collect()
    }
}

impl<K: Eq + Hash, V> Registration<K, V> {
    /// Puts something else in the place, unless it has been taken by a successor.
    pub(crate) fn set(&self, value: V) {
        if let Some(mut entry) = self.table.map.get_mut(&self.key)
            && entry.0 == self.turn
        {
            entry.1 = value;
        }
    }
}

impl<K: Eq + Hash, V> Drop for Registration<K, V> {
    fn drop(&mut self) {
        self.table.map.remove_if(&self.key, |_, (turn, _)| *turn == self.turn);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_leaves_late_takes_its_own_entry_only() {
        let table = Table::default();
        let old = table.register("peer", Turn::next(), 1);
        let new = table.register("peer", Turn::next(), 2);
        old.set(3);
        assert_eq!(table.get(&"peer"), Some(2), "the successor's entry is not changed");
        drop(old);
        assert_eq!(table.get(&"peer"), Some(2), "nor taken out");
        assert!(table.reserve("peer", 4).is_none());
        drop(new);
        assert!(table.is_empty());
        assert!(table.reserve("peer", 4).is_some());
    }

    #[test]
    fn who_comes_late_leaves_the_place_to_its_successor() {
        let table = Table::default();
        let (first, second) = (Turn::next(), Turn::next());
        let new = table.register("peer", second, 2);
        let old = table.register("peer", first, 1);
        assert_eq!(table.get(&"peer"), Some(2));
        drop(old);
        assert_eq!(table.get(&"peer"), Some(2));
        drop(new);
        assert!(table.is_empty());
    }

    proptest! {
        /// Whatever the order of coming, changing and leaving: of those that are there the one whose turn is the last has the
        /// place, unless it came after one of a later turn had left, and nothing stays of those that are gone.
        #[test]
        fn the_last_turn_has_the_place(operations in prop::collection::vec((0u8..4, 0u8..4, any::<u16>()), 0..100)) {
            let table = Table::default();
            let mut turns: Vec<Turn> = Vec::new();
            let mut held: Vec<(u8, Turn, Registration<u8, u16>)> = Vec::new();
            let mut expected: BTreeMap<u8, (Turn, u16)> = BTreeMap::new();
            for (what, key, value) in operations {
                match what {
                    // A turn is taken, and used later.
                    0 => turns.push(Turn::next()),
                    1 if !turns.is_empty() => {
                        let turn = turns.remove(usize::from(value) % turns.len());
                        held.push((key, turn, table.register(key, turn, value)));
                        if expected.get(&key).is_none_or(|(there, _)| *there < turn) {
                            expected.insert(key, (turn, value));
                        }
                    }
                    2 if !held.is_empty() => {
                        let (key, turn, place) = held.remove(usize::from(value) % held.len());
                        if expected.get(&key).is_some_and(|(there, _)| *there == turn) {
                            expected.remove(&key);
                        }
                        drop(place);
                    }
                    _ => if let Some((key, turn, place)) = held.get(usize::from(value) % held.len().max(1)) {
                        place.set(value);
                        if let Some(entry) = expected.get_mut(key).filter(|(there, _)| there == turn) {
                            entry.1 = value;
                        }
                    }
                }
                for key in 0..4 {
                    prop_assert_eq!(table.get(&key), expected.get(&key).map(|(_, value)| *value));
                }
            }
            drop(held);
            prop_assert!(table.is_empty());
        }
    }
}
