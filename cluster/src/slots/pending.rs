//! What waits for a slot's standby: in its order, and each row once where there are many.

use std::collections::{HashSet, VecDeque};

use super::{Done, Kept, Row};

/// Rows that wait before those of which there is a newer one are dropped, and as many again as were left each time. A standby that is away for
/// long is not told how it came to be, and pairs that carry packets have new rows many times a second.
const MANY: usize = if cfg!(test) { 64 } else { 16_384 };

/// What a row takes that says that something is gone.
const GONE: usize = 32;

/// What is told as a whole: a standby that goes on has all of it or nothing.
#[derive(Default)]
pub(super) struct Item {
    pub(super) rows: Vec<Row>,
    /// Who waits until the standby has it.
    pub(super) done: Vec<Done>,
    /// Calls of `put` that it is made of.
    pub(super) calls: usize,
    /// Whoever has this and what was before it knows everything.
    pub(super) whole: bool,
}

impl Item {
    /// What comes after it goes with it.
    fn join(&mut self, next: Self) {
        self.rows.extend(next.rows);
        self.done.extend(next.done);
        self.calls += next.calls;
        self.whole |= next.whole;
    }

    /// Whoever waits for it learns what has become of it.
    pub(super) fn answer(self, kept: Kept) {
        self.done.into_iter().for_each(|done| done(kept));
    }
}

/// What is not under way yet.
#[derive(Default)]
pub(super) struct Pending {
    items: VecDeque<Item>,
    rows: usize,
    /// Rows that were left when they were looked at last.
    left: usize,
    /// The octets of those.
    octets: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Octets of rows, as of when they were looked at last: more than a standby keeps are of no use to it.
    pub(super) const fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn add(&mut self, item: Item) {
        self.rows += item.rows.len();
        self.items.push_back(item);
        if self.rows > 2 * self.left + MANY {
            self.press();
        }
    }

    /// What was not taken is told before all else.
    pub(super) fn put_back(&mut self, item: Item) {
        self.rows += item.rows.len();
        self.items.push_front(item);
    }

    /// The first ones, as one.
    pub(super) fn take(&mut self, most: usize) -> Item {
        let mut first = Item::default();
        for next in self.items.drain(..most.min(self.items.len())) {
            first.join(next);
        }
        self.rows -= first.rows.len();
        self.left = self.left.min(self.rows);
        if self.items.is_empty() {
            self.octets = 0;
        }
        first
    }

    /// Of rows of one thing the last is left. All of it is one then: it would be neither as it was before nor after it, were a part of it known.
    fn press(&mut self) {
        let mut all = self.take(usize::MAX);
        let mut seen = HashSet::with_capacity(all.rows.len());
        all.rows.reverse();
        all.rows.retain(|row| seen.insert((row.class, row.id)));
        all.rows.reverse();
        all.rows.shrink_to_fit();
        (self.left, self.rows) = (all.rows.len(), all.rows.len());
        self.octets =
            all.rows.iter().map(|row| row.octets.as_ref().map_or(GONE, |octets| octets.len())).sum();
        self.items.push_back(all);
    }

    /// Rows are of no use any more; whoever waits for them waits on.
    pub(super) fn forget_rows(&mut self) {
        let mut all = self.take(usize::MAX);
        all.rows = Vec::new();
        self.put_back(all);
    }

    /// All that there is.
    pub(super) fn all(mut self) -> Item {
        self.take(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    fn item(id: u64, octets: usize, done: Vec<Done>) -> Item {
        let row = Row { class: 1, id, octets: Some(vec![7; octets].into()), at: Instant::now() };
        Item { rows: vec![row], done, calls: 1, whole: false }
    }

    #[test]
    fn each_row_is_kept_once_and_whoever_waits_is_answered() {
        let (mut pending, answered) = (Pending::default(), Arc::new(AtomicUsize::new(0)));
        for at in 0..10_000 {
            let answered = Arc::clone(&answered);
            let done = Box::new(move |_| {
                answered.fetch_add(1, Ordering::Relaxed);
            });
            pending.add(item(at % 10, usize::try_from(at).unwrap_or(0), vec![done]));
            assert!(pending.rows <= 2 * 10 + MANY, "{} rows wait", pending.rows);
        }
        assert!(pending.octets() > 10 * 9_000, "{}", pending.octets());
        let all = pending.all();
        let last = all.rows.iter().rev().take(10).map(|row| row.octets.as_ref().map(|octets| octets.len()));
        assert!(last.eq((9_990..10_000).rev().map(Some)));
        assert_eq!(all.calls, 10_000);
        all.answer(Kept::Known);
        assert_eq!(answered.load(Ordering::Relaxed), 10_000);
    }

    #[test]
    fn what_was_not_taken_comes_first_and_with_what_it_was_told_with() {
        let mut pending = Pending::default();
        (0..5).for_each(|id| pending.add(item(id, 1, Vec::new())));
        let first = pending.take(2);
        pending.put_back(first);
        let ids = |item: Item| item.rows.iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(pending.take(1)), [0, 1]);
        assert_eq!(ids(pending.take(9)), [2, 3, 4]);
        assert!(pending.is_empty());
    }
}
