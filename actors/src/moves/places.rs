//! Connections by the slot that they are in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::prelude::*;

use super::Moving;
use crate::table::{Registration, Table, Turn};

/// One for each value of a slot's number: most are never used.
const NUMBERS: usize = 256;

/// Where connections are found when their slot goes. Only in a cluster.
///
/// How many there are of each slot is asked for every second: it is counted as they come and go, for there are tens of thousands.
pub(crate) struct Places {
    all: Table<u64, (u8, Recipient<Moving>)>,
    counts: Arc<[AtomicUsize; NUMBERS]>,
}

/// Where a connection is found, for as long as this lives.
pub(crate) struct Place {
    _entry: Registration<u64, (u8, Recipient<Moving>)>,
    _counted: Counted,
}

/// That there is one more in a slot.
struct Counted {
    slot: u8,
    counts: Arc<[AtomicUsize; NUMBERS]>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Table::default(), counts: Arc::new([const { AtomicUsize::new(0) }; NUMBERS]) }
    }
}

impl Places {
    /// A connection is in this slot, under a number of its own.
    pub(crate) fn register(&self, key: u64, slot: u8, to: Recipient<Moving>) -> Place {
        // First, so that a slot with something in it is never taken for one with nothing.
        let counted = Counted { slot, counts: Arc::clone(&self.counts) };
        counted.count().inspect(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Place { _entry: self.all.register(key, Turn::next(), (slot, to)), _counted: counted }
    }

    /// All that are in a slot.
    pub(super) fn of(&self, slot: u8) -> impl Iterator<Item = Recipient<Moving>> {
        self.all.all().into_iter().filter(move |(_, (of, _))| *of == slot).map(|(_, (_, to))| to)
    }

    /// How many there are in each slot that has some.
    pub(super) fn by_slot(&self) -> BTreeMap<u8, usize> {
        let counts =
            (0..=u8::MAX).zip(self.counts.iter()).map(|(slot, count)| (slot, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl Counted {
    fn count(&self) -> Option<&AtomicUsize> {
        self.counts.get(usize::from(self.slot))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.count() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<Moving> for Nobody {
        type Result = ();

        fn handle(&mut self, _: Moving, _: &mut Context<Self>) {}
    }

    #[actix::test]
    async fn they_are_counted_for_as_long_as_they_are_there() {
        let (places, to) = (Places::default(), Nobody.start().recipient());
        let place = |key, slot| places.register(key, slot, to.clone());
        let (first, second, other) = (place(1, 3), place(2, 3), place(3, 255));
        assert_eq!(places.by_slot(), BTreeMap::from([(3, 2), (255, 1)]));
        assert_eq!([3, 255, 4].map(|slot| places.of(slot).count()), [2, 1, 0]);
        drop((first, other));
        assert_eq!(places.by_slot(), BTreeMap::from([(3, 1)]));
        assert_eq!([3, 255].map(|slot| places.of(slot).count()), [1, 0]);
        drop(second);
        assert!(places.by_slot().is_empty());
    }
}
