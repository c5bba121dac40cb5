//! How much there is of something at a time: in all, and of each caller or tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all hold together.
#[derive(Debug)]
pub(crate) struct Ledger {
    most: usize,
    most_of_one: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_caller: HashMap<String, usize>,
}

/// What one thing of a caller holds, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    caller: String,
    count: usize,
}

impl Ledger {
    /// Of which all hold no more than `most`, and each caller no more than `most_of_one`.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, held: Mutex::default() })
    }

    /// Nothing yet, of this caller.
    pub(crate) const fn entry(self: Arc<Self>, caller: String) -> Entry {
        Entry { ledger: self, caller, count: 0 }
    }

    /// Whether there is room for something of this caller.
    pub(crate) fn has_room(&self, caller: &str) -> bool {
        let held = self.held();
        held.all < self.most && held.by_caller.get(caller).is_none_or(|own| *own < self.most_of_one)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn caller(&self) -> &str {
        &self.caller
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// So much more, whether there is room for it or not.
    pub(crate) fn exceed(&mut self, more: usize) {
        let mut held = self.ledger.held();
        held.all = held.all.saturating_add(more);
        let own = held.by_caller.entry(self.caller.clone()).or_default();
        *own = own.saturating_add(more);
        self.count = self.count.saturating_add(more);
    }

    /// So much more. False, and nothing more, if there is no room for it.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        let mut held = self.ledger.held();
        let own = held.by_caller.get(&self.caller).copied().unwrap_or_default().saturating_add(more);
        if held.all.saturating_add(more) > self.ledger.most || own > self.ledger.most_of_one {
            return false;
        }
        held.all += more;
        match held.by_caller.get_mut(&self.caller) {
            Some(count) => *count = own,
            None => drop(held.by_caller.insert(self.caller.clone(), own)),
        }
        self.count += more;
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut held = self.ledger.held();
        held.all -= self.count;
        if let Some(own) = held.by_caller.get_mut(&self.caller) {
            *own -= self.count;
            if *own == 0 {
                held.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_more_than_a_share_and_all_together_no_more_than_there_is() {
        let ledger = Ledger::new(100, 60);
        let entry = |of: &str| Arc::clone(&ledger).entry(of.to_owned());
        let (mut one, mut other) = (entry("a"), entry("a"));
        assert!(one.grow(50) && !other.grow(11) && other.grow(10), "its share is used up");
        let mut rest = entry("b");
        assert!(rest.grow(40) && !rest.grow(1) && rest.count() == 40, "and so is all there is");
        drop((one, other));
        drop(rest);
        let held = ledger.held();
        assert_eq!((held.all, held.by_caller.len()), (0, 0));
    }
}
