//! What a standby keeps of the slots of others.

use std::collections::{BTreeMap, BTreeSet};

use snapshot::Row;

/// Octets of one slot: some 150,000 connections with a pair each, of which 1.0 to 1.8 KiB are kept. Beyond it the slot goes without a standby, visibly.
const MAX_OCTETS: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// What a refusal for that reason ends with: by it the owner knows that it is the slot, and not the standby, that does not fit.
pub(super) const TOO_LARGE: &str = "octets of state";

/// Slots of others, by number.
#[derive(Default)]
pub(super) struct Vault {
    kept: BTreeMap<u8, Kept>,
    /// Terms that are over, for each slot: an owner that has not heard of that yet is told.
    over: BTreeMap<u8, u64>,
}

struct Kept {
    term: u64,
    /// We are about to take the slot over: nothing is added any more.
    closed: bool,
    rows: BTreeMap<(u8, u64), Row>,
    /// Of which there have been rows.
    classes: BTreeSet<u8>,
    octets: usize,
}

impl Vault {
    /// What an owner tells, under the term in which we are its standby.
    pub(super) fn put(&mut self, slot: u8, term: u64, rows: Vec<Row>) -> Result<(), String> {
        let over = self.over.get(&slot).copied().unwrap_or(0);
        let fresh =
            || Kept { term, closed: false, rows: BTreeMap::new(), classes: BTreeSet::new(), octets: 0 };
        if term <= over {
            return Err(format!("slot {slot} was taken over, or has another standby"));
        }
        let kept = self.kept.entry(slot).or_insert_with(fresh);
        if term > kept.term && !kept.closed {
            *kept = fresh();
        }
        if term < kept.term || kept.closed {
            return Err(format!("slot {slot} is being taken over, or has another standby"));
        }
        for row in rows {
            let key = (row.class, row.id);
            let new = row.octets.as_ref().map(|octets| octets.len());
            let old = match new {
                Some(_) => {
                    kept.classes.insert(row.class);
                    kept.rows.insert(key, row)
                }
                None => kept.rows.remove(&key),
            };
            let old = old.and_then(|row| row.octets).map_or(0, |octets| octets.len());
            kept.octets = kept.octets + new.unwrap_or(0) - old;
        }
        if kept.octets > MAX_OCTETS {
            self.kept.remove(&slot);
            self.over.insert(slot, term);
            return Err(format!("slot {slot} has more than {MAX_OCTETS} {TOO_LARGE}"));
        }
        Ok(())
    }

    /// One row of each class of which there have been none in this term: one owner writes all of a class in one form.
    pub(super) fn samples(&self, slot: u8, term: u64, rows: &[Row]) -> Vec<Row> {
        let kept = self.kept.get(&slot).filter(|kept| kept.term == term);
        let mut known = kept.map(|kept| kept.classes.clone()).unwrap_or_default();
        rows.iter().filter(|row| row.octets.is_some() && known.insert(row.class)).cloned().collect()
    }

    /// Nothing is added from now on. False if there is nothing of that term.
    pub(super) fn close(&mut self, slot: u8, term: u64) -> bool {
        let kept = self.kept.get_mut(&slot).filter(|kept| kept.term == term);
        kept.is_some_and(|kept| {
            kept.closed = true;
            true
        })
    }

    /// Whether we are about to take it over.
    pub(super) fn is_closed(&self, slot: u8) -> bool {
        self.kept.get(&slot).is_some_and(|kept| kept.closed)
    }

    /// We do not take it over after all.
    pub(super) fn reopen(&mut self, slot: u8) {
        if let Some(kept) = self.kept.get_mut(&slot) {
            kept.closed = false;
        }
    }

    /// Everything of a slot that is ours from now on.
    pub(super) fn take(&mut self, slot: u8) -> Vec<Row> {
        let Some(kept) = self.kept.remove(&slot) else { return Vec::new() };
        self.over.insert(slot, kept.term);
        kept.rows.into_values().collect()
    }

    /// We are not its standby any more.
    pub(super) fn forget(&mut self, keep: impl Fn(u8, u64) -> bool) {
        let over = &mut self.over;
        self.kept.retain(|slot, kept| {
            let keeps = kept.closed || keep(*slot, kept.term);
            if !keeps {
                over.insert(*slot, kept.term);
            }
            keeps
        });
    }

    /// How many rows there are of a slot, and octets.
    pub(super) fn size(&self, slot: u8) -> (usize, usize) {
        self.kept.get(&slot).map_or((0, 0), |kept| (kept.rows.len(), kept.octets))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn form(id: u64, len: Option<usize>) -> Row {
        let octets = len.map(|len| vec![1; len].into());
        Row { class: 1, id, octets, at: Instant::now() }
    }

    #[test]
    fn one_row_of_each_class_is_looked_at_in_each_term() {
        let mut vault = Vault::default();
        let of = |class, id, len| Row { class, ..form(id, len) };
        let ids = |rows: Vec<Row>| rows.iter().map(|row| (row.class, row.id)).collect::<Vec<_>>();
        let rows = [of(1, 1, Some(1)), of(1, 2, Some(1)), of(2, 3, None), of(2, 4, Some(1))];
        assert_eq!(ids(vault.samples(3, 5, &rows)), [(1, 1), (2, 4)]);
        vault.put(3, 5, vec![of(1, 1, Some(1)), of(2, 3, None)]).unwrap();
        assert_eq!(ids(vault.samples(3, 5, &rows)), [(2, 4)]);
        assert_eq!(ids(vault.samples(3, 6, &rows)), [(1, 1), (2, 4)]);
    }

    #[test]
    fn the_newest_counts_and_another_term_begins_with_nothing() {
        let mut vault = Vault::default();
        vault.put(3, 5, vec![form(1, Some(10)), form(2, Some(20)), form(1, Some(11))]).unwrap();
        assert_eq!(vault.size(3), (2, 31));
        vault.put(3, 5, vec![form(2, None)]).unwrap();
        assert_eq!(vault.size(3), (1, 11));
        assert!(vault.put(3, 4, vec![form(9, Some(1))]).is_err());
        vault.put(3, 6, vec![form(7, Some(5))]).unwrap();
        assert_eq!(vault.size(3), (1, 5));
        assert_eq!(vault.take(3).iter().map(|row| row.id).collect::<Vec<_>>(), [7]);
        // Its former owner does not know yet.
        assert!(vault.put(3, 6, vec![form(7, Some(5))]).is_err());
        vault.put(3, 7, vec![form(7, Some(5))]).unwrap();
    }

    #[test]
    fn what_is_being_taken_over_gets_nothing_more() {
        let mut vault = Vault::default();
        vault.put(3, 5, vec![form(1, Some(10))]).unwrap();
        assert!(!vault.close(3, 4) && !vault.close(4, 5));
        assert!(vault.close(3, 5));
        // Nor by a newer term, which would be of an owner that knows nothing of it yet.
        for term in [5, 6] {
            assert!(vault.put(3, term, vec![form(1, Some(1))]).is_err());
        }
        vault.forget(|_, _| false);
        assert_eq!(vault.size(3), (1, 10));
        vault.reopen(3);
        vault.put(3, 5, vec![form(2, Some(1))]).unwrap();
        vault.forget(|_, _| false);
        assert_eq!(vault.size(3), (0, 0));
        assert!(vault.put(3, 5, vec![form(2, Some(1))]).is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let mut vault = Vault::default();
        let large = form(1, Some(MAX_OCTETS + 1));
        assert!(vault.put(3, 5, vec![large]).unwrap_err().ends_with(TOO_LARGE));
        assert_eq!(vault.size(3), (0, 0));
    }
}
