//! What the control plane changes and shards read for every packet.
//!
//! Who reads pays for plain loads. Counting readers, as an `Arc` does, and claiming a place for each, as `arc_swap` does, takes a
//! locked instruction for every value that is read, and such a one waits until all that was written before is in the cache: after
//! a packet was opened where it stands, that is all of the packet.

use std::sync::atomic::Ordering;

use sdd::{AtomicShared, Guard, Shared, Tag};

/// A while in which nothing goes that is read in it. Within another it costs next to nothing: a shard has one for each turn. What is
/// published by others meanwhile is seen all the same.
pub(crate) struct Reading(Guard);

impl Reading {
    pub(crate) fn new() -> Self {
        Self(Guard::new())
    }
}

/// A value, or none, that is replaced as a whole.
pub(crate) struct Published<T: Send + Sync + 'static>(AtomicShared<T>);

impl<T: Send + Sync + 'static> Published<T> {
    pub(crate) fn new(value: Option<T>) -> Self {
        Self(value.map_or_else(AtomicShared::null, AtomicShared::new))
    }

    /// The value there is.
    pub(crate) fn read<'r>(&self, reading: &'r Reading) -> Option<&'r T> {
        self.0.load(Ordering::Acquire, &reading.0).as_ref()
    }

    /// Whoever reads from now on finds this. What was there goes once nobody reads it any more.
    pub(crate) fn publish(&self, value: Option<T>) {
        let (old, _) = self.0.swap((value.map(Shared::new), Tag::None), Ordering::AcqRel);
        if old.is_some() {
            drop(old);
            hasten();
        }
    }
}

impl<T: Send + Sync + 'static> Default for Published<T> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<T: Send + Sync + 'static> Drop for Published<T> {
    fn drop(&mut self) {
        self.publish(None);
    }
}

/// Sees to it that what has gone is freed, though this thread may have nothing to do with it for a long time.
pub(crate) fn settle() {
    (0..EPOCHS).for_each(|_| hasten());
}

/// What is retired is freed some epochs later, by the thread that has retired it when that reads again. Left to itself it begins an epoch
/// with each 128th reading.
fn hasten() {
    Guard::new().accelerate();
}

/// After so many nobody reads what has gone before the first.
const EPOCHS: usize = 4;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_read_stays_until_the_reading_ends_and_goes_soon_after() {
        let (old, new) = (Arc::new(1), Arc::new(2));
        let published = Published::new(Some(old.clone()));
        let reading = Reading::new();
        let seen = published.read(&reading).unwrap();
        published.publish(Some(new.clone()));
        settle();
        assert_eq!((**seen, Arc::strong_count(&old)), (1, 2));
        assert_eq!(published.read(&reading).map(|seen| **seen), Some(2));
        drop(reading);
        // Readings of other tests may hold an epoch up.
        while Arc::strong_count(&old) > 1 {
            settle();
            std::thread::yield_now();
        }
        drop(published);
        while Arc::strong_count(&new) > 1 {
            settle();
            std::thread::yield_now();
        }
    }

    #[test]
    fn nothing_may_be_published_as_well() {
        let published = Published::<u8>::default();
        assert_eq!(published.read(&Reading::new()), None);
        published.publish(Some(7));
        assert_eq!(published.read(&Reading::new()), Some(&7));
        published.publish(None);
        assert_eq!(published.read(&Reading::new()), None);
    }
}
