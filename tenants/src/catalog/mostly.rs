//! A map that mostly has one entry, of which there are a hundred thousand, and may have as many. A node of the library's tree has room for
//! eleven.

use std::collections::BTreeMap;

/// A map in the order of its keys, which takes no memory of its own for one entry.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mostly<K, V> {
    /// It is empty.
    #[default]
    Nothing,
    /// As it is mostly.
    One(K, V),
    /// At least two.
    More(BTreeMap<K, V>),
}

impl<K: Ord, V> Mostly<K, V> {
    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(..) => 1,
            Self::More(map) => map.len(),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::One(own, value) if own == key => Some(value),
            Self::Nothing | Self::One(..) => None,
            Self::More(map) => map.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::One(own, value) if own == key => Some(value),
            Self::Nothing | Self::One(..) => None,
            Self::More(map) => map.get_mut(key),
        }
    }

    /// Puts a value there; the one that was.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Nothing => {
                *self = Self::One(key, value);
                None
            }
            Self::One(own, old) if *own == key => Some(std::mem::replace(old, value)),
            Self::More(map) => map.insert(key, value),
            Self::One(..) => {
                if let Self::One(first, old) = std::mem::take(self) {
                    *self = Self::More(BTreeMap::from([(first, old), (key, value)]));
                }
                None
            }
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::One(own, _) if own == key => match std::mem::take(self) {
                Self::One(_, value) => Some(value),
                Self::Nothing | Self::More(_) => None,
            },
            Self::Nothing | Self::One(..) => None,
            Self::More(map) => {
                let removed = map.remove(key);
                if map.len() == 1
                    && let Some((key, value)) = map.pop_first()
                {
                    *self = Self::One(key, value);
                }
                removed
            }
        }
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (one, more) = match self {
            Self::Nothing => (None, None),
            Self::One(key, value) => (Some((key, value)), None),
            Self::More(map) => (None, Some(map)),
        };
        one.into_iter().chain(more.into_iter().flat_map(|map| map.iter()))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Default> Mostly<K, V> {
    /// Changes the value of a key: a new one if there was none.
    pub(crate) fn change<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> R {
        if let Some(value) = self.get_mut(key) {
            return change(value);
        }
        let mut value = V::default();
        let result = change(&mut value);
        self.insert(key.clone(), value);
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(operations in prop::collection::vec((0u8..4, 0u8..4, any::<u16>()), 0..200)) {
            let (mut mostly, mut map) = (Mostly::default(), BTreeMap::new());
            for (what, key, value) in operations {
                match what {
                    0 => prop_assert_eq!(mostly.insert(key, value), map.insert(key, value)),
                    1 => prop_assert_eq!(mostly.remove(&key), map.remove(&key)),
                    2 => {
                        let change = |own: &mut u16| std::mem::replace(own, value);
                        prop_assert_eq!(mostly.change(&key, change), change(map.entry(key).or_default()));
                    }
                    _ => prop_assert_eq!(mostly.get_mut(&key), map.get_mut(&key)),
                }
                prop_assert!(mostly.iter().eq(map.iter()));
                prop_assert!(mostly.keys().eq(map.keys()) && mostly.values().eq(map.values()));
                prop_assert_eq!((mostly.len(), mostly.is_empty()), (map.len(), map.is_empty()));
                prop_assert_eq!(matches!(mostly, Mostly::More(_)), map.len() > 1);
            }
        }
    }
}
