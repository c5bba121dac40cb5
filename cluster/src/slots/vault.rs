//! What a standby keeps of the slots of others.

use std::collections::BTreeMap;
use std::time::Instant;

use snapshot::Row;

use super::row::RowForm;

/// Octets of one slot: some 30,000 connections with their pairs. Beyond it the slot goes without a standby, visibly.
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
    octets: usize,
}

impl Vault {
    /// What an owner tells, under the term in which we are its standby.
    pub(super) fn put(
        &mut self,
        slot: u8,
        term: u64,
        rows: Vec<RowForm>,
        now: Instant,
    ) -> Result<(), String> {
        let over = self.over.get(&slot).copied().unwrap_or(0);
        let fresh = || Kept { term, closed: false, rows: BTreeMap::new(), octets: 0 };
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
        for form in rows {
            let row = form.read(now);
            let key = (row.class, row.id);
            let new = row.octets.as_ref().map(|octets| octets.len());
            let old = match new {
                Some(_) => kept.rows.insert(key, row),
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

    /// Nothing is added from now on. False if there is nothing of that term.
    pub(super) fn close(&mut self, slot: u8, term: u64) -> bool {
        let kept = self.kept.get_mut(&slot).filter(|kept| kept.term == term);
        kept.is_some_and(|kept| {
            kept.closed = true;
            true
        })
    }

    /// We do not take it over after all.
    pub(super) fn reopen(&mut self, slot: u8) {
        if let Some(kept) = self.kept.get_mut(&slot) {
    /// Whether we are about to take it over.
    pub(super) fn is_closed(&self, slot: u8) -> bool {
        self.kept.get(&slot).is_some_and(|kept| kept.closed)
    }

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
    use zeroize::Zeroizing;

    use super::*;

    fn form(id: u64, len: Option<usize>) -> RowForm {
        let now = Instant::now();
        let octets = len.map(|len| Zeroizing::new(vec![1; len]));
        RowForm::new(Row { class: 1, id, octets, at: now }, now)
    }

    #[test]
    fn the_newest_counts_and_another_term_begins_with_nothing() {
        let (mut vault, now) = (Vault::default(), Instant::now());
        vault.put(3, 5, vec![form(1, Some(10)), form(2, Some(20)), form(1, Some(11))], now).unwrap();
        assert_eq!(vault.size(3), (2, 31));
        vault.put(3, 5, vec![form(2, None)], now).unwrap();
        assert_eq!(vault.size(3), (1, 11));
        assert!(vault.put(3, 4, vec![form(9, Some(1))], now).is_err());
        vault.put(3, 6, vec![form(7, Some(5))], now).unwrap();
        assert_eq!(vault.size(3), (1, 5));
        assert_eq!(vault.take(3).iter().map(|row| row.id).collect::<Vec<_>>(), [7]);
        // Its former owner does not know yet.
        assert!(vault.put(3, 6, vec![form(7, Some(5))], now).is_err());
        vault.put(3, 7, vec![form(7, Some(5))], now).unwrap();
    }

    #[test]
    fn what_is_being_taken_over_gets_nothing_more() {
        let (mut vault, now) = (Vault::default(), Instant::now());
        vault.put(3, 5, vec![form(1, Some(10))], now).unwrap();
        assert!(!vault.close(3, 4) && !vault.close(4, 5));
        assert!(vault.close(3, 5));
        // Nor by a newer term, which would be of an owner that knows nothing of it yet.
        for term in [5, 6] {
            assert!(vault.put(3, term, vec![form(1, Some(1))], now).is_err());
        }
        vault.forget(|_, _| false);
        assert_eq!(vault.size(3), (1, 10));
        vault.reopen(3);
        vault.put(3, 5, vec![form(2, Some(1))], now).unwrap();
        vault.forget(|_, _| false);
        assert_eq!(vault.size(3), (0, 0));
        assert!(vault.put(3, 5, vec![form(2, Some(1))], now).is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let (mut vault, now) = (Vault::default(), Instant::now());
        let large = form(1, Some(MAX_OCTETS + 1));
        assert!(vault.put(3, 5, vec![large], now).unwrap_err().ends_with(TOO_LARGE));
        assert_eq!(vault.size(3), (0, 0));
    }
}
