//! Numbers of peers, as many as a node has connections: they are read and written anew several times a second.

use prost::Message;

use crate::etcd::EtcdError;

/// Numbers of peers in their order, each once, one behind the other in memory: all of them are gone through each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uids(Vec<u64>);

/// Uids as they are stored: each as what it is more than the one before. Nobody is no octets.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(uint64, repeated, tag = "1")]
    steps: Vec<u64>,
}

impl FromIterator<u64> for Uids {
    fn from_iter<T: IntoIterator<Item = u64>>(uids: T) -> Self {
        let mut all: Vec<u64> = uids.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

impl Uids {
    /// Whether it is among them.
    pub fn contains(&self, uid: u64) -> bool {
        self.0.binary_search(&uid).is_ok()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are here and not there.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        let mut others = other.0.iter().peekable();
        self.0.iter().copied().filter(move |uid| {
            while others.next_if(|other| *other < uid).is_some() {}
            others.peek() != Some(&uid)
        })
    }

    /// Takes these over, of which the later ones count, and leaves none of them.
    pub(super) fn apply(&mut self, changes: &mut Vec<(u64, bool)>) {
        changes.sort_by_key(|(uid, _)| *uid);
        let last = changes.chunk_by(|(one, _), (other, _)| one == other).filter_map(<[_]>::last);
        let mut all = Vec::with_capacity(self.0.len() + changes.len());
        let mut rest = self.0.iter().copied().peekable();
        for (uid, there) in last {
            all.extend(std::iter::from_fn(|| rest.next_if(|other| other < uid)));
            rest.next_if_eq(uid);
            all.extend(there.then_some(*uid));
        }
        all.extend(rest);
        self.0 = all;
        changes.clear();
    }

    /// As they are stored, so many of them at most.
    pub(super) fn write(&self, most: usize) -> Vec<u8> {
        let mut before = 0;
        let steps = self.0.iter().take(most).map(|uid| uid - std::mem::replace(&mut before, *uid));
        Stored { steps: steps.collect() }.encode_to_vec()
    }

    /// What was stored under this key.
    pub(super) fn read(key: impl Fn() -> String, value: &[u8]) -> Result<Self, EtcdError> {
        let corrupt = |reason: String| EtcdError::Corrupt { key: key(), reason };
        let Stored { steps } = Stored::decode(value).map_err(|error| corrupt(error.to_string()))?;
        let (mut all, mut uid) = (steps, 0u64);
        for step in &mut all {
            uid = uid.checked_add(*step).ok_or_else(|| corrupt("a number is too large".to_owned()))?;
            *step = uid;
        }
        all.dedup();
        Ok(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ALL: usize = usize::MAX;

    fn read(value: &[u8]) -> Result<Uids, EtcdError> {
        Uids::read(|| "nodes/a/held".to_owned(), value)
    }

    #[test]
    fn they_come_back_as_they_were_and_are_short() {
        let some = [Vec::new(), vec![0, 1, u64::MAX], (1_000_000..1_010_000).collect()];
        for uids in some.map(|uids: Vec<u64>| Uids::from_iter(uids)) {
            assert_eq!(read(&uids.write(ALL)).unwrap(), uids);
        }
        let third: Uids = (0..30_000).map(|n| n * 3).collect();
        assert!(third.write(ALL).len() < 31_000 && read(&third.write(7)).unwrap().len() == 7);
        assert!(Uids::default().write(ALL).is_empty());
        let odd = Stored { steps: vec![u64::MAX, 1] }.encode_to_vec();
        assert!(read(&odd).unwrap_err().to_string().contains("nodes/a/held"));
    }

    proptest! {
        #[test]
        fn they_are_what_a_set_would_be(
            before in prop::collection::vec(0u64..40, 0..30),
            mut changes in prop::collection::vec((0u64..40, any::<bool>()), 0..30),
        ) {
            let (mut uids, mut set) = (Uids::from_iter(before.clone()), BTreeSet::from_iter(before));
            let old = uids.clone();
            for (uid, there) in &changes {
                if *there { set.insert(*uid); } else { set.remove(uid); }
            }
            uids.apply(&mut changes);
            prop_assert!(changes.is_empty());
            prop_assert_eq!(&uids.0, &set.iter().copied().collect::<Vec<_>>());
            prop_assert!((0..41).all(|uid| uids.contains(uid) == set.contains(&uid)));
            let before: BTreeSet<u64> = old.0.iter().copied().collect();
            prop_assert!(old.without(&uids).eq(before.difference(&set).copied()));
            prop_assert!(uids.without(&old).eq(set.difference(&before).copied()));
            prop_assert_eq!(read(&uids.write(ALL)).unwrap(), uids);
        }
    }
}
