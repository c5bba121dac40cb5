//! What a standby keeps of the slots of others.

use std::collections::{BTreeMap, BTreeSet};

use snapshot::Row;

/// Octets of one slot: some 150,000 connections with a pair each, of which 1.0 to 1.8 KiB are kept. Beyond it the slot goes without a standby, visibly.
pub(super) const MAX_OCTETS: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// What a refusal for that reason ends with: by it the owner knows that it is the slot, and not the standby, that does not fit.
pub(super) const TOO_LARGE: &str = "octets of state";

/// Slots of others, by number.
#[derive(Default)]
pub(super) struct Vault {
    kept: BTreeMap<u8, Kept>,
    /// Terms that are over, for each slot: an owner that has not heard of that yet is told.
    over: BTreeMap<u8, u64>,
}

#[derive(Default)]
struct Kept {
    term: u64,
    /// What is told as a whole now, and how many messages of it there have been.
    batch: u64,
    parts: u64,
    /// The rows of those.
    begun: Vec<Row>,
    rows: BTreeMap<(u8, u64), Row>,
    /// Of which there have been rows.
    classes: BTreeSet<u8>,
    octets: usize,
}

/// Where a message of an owner has its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Of what is told as a whole: the last one counts. What its owner has given up and told again may come after that.
    pub(super) batch: u64,
    pub(super) number: u64,
    /// With it the whole is there.
    pub(super) last: bool,
}

impl Kept {
    /// Another message of a whole: of one that comes after those that there were, or the next one of the last.
    fn add(&mut self, part: Part, rows: Vec<Row>) -> bool {
        if part.batch > self.batch && part.number == 0 {
            (self.batch, self.parts) = (part.batch, 0);
            self.begun = Vec::new();
        }
        if part.batch != self.batch || part.number != self.parts {
            return false;
        }
        self.parts += 1;
        self.begun.extend(rows);
        if part.last {
            std::mem::take(&mut self.begun).into_iter().for_each(|row| self.keep(row));
        }
        true
    }

    fn keep(&mut self, row: Row) {
        let key = (row.class, row.id);
        let new = row.octets.as_ref().map(|octets| octets.len());
        let old = match new {
            Some(_) => {
                self.classes.insert(row.class);
                self.rows.insert(key, row)
            }
            None => self.rows.remove(&key),
        };
        let old = old.and_then(|row| row.octets).map_or(0, |octets| octets.len());
        self.octets = self.octets + new.unwrap_or(0) - old;
    }

    /// Whether it is more than is kept: what there is, or what of a whole is not all there yet. Not both together, for most of that stands for
    /// what there is, as where all is told again.
    fn is_too_large(&self) -> bool {
        let begun = self.begun.iter().filter_map(|row| row.octets.as_ref());
        self.octets > MAX_OCTETS || begun.map(|octets| octets.len()).sum::<usize>() > MAX_OCTETS
    }
}

impl Vault {
    /// What an owner tells, under the term in which we are its standby. Also while we ask etcd for the slot: until that is ours, its owner goes on.
    pub(super) fn put(&mut self, slot: u8, term: u64, part: Part, rows: Vec<Row>) -> Result<(), String> {
        let over = self.over.get(&slot).copied().unwrap_or(0);
        let fresh = || Kept { term, ..Kept::default() };
        if term <= over {
            return Err(format!("slot {slot} was taken over, or has another standby"));
        }
        if part.batch == 0 {
            return Err("its owner is of another version".to_owned());
        }
        let kept = self.kept.entry(slot).or_insert_with(fresh);
        if term > kept.term {
            *kept = fresh();
        }
        if term < kept.term {
            return Err(format!("slot {slot} has another standby"));
        }
        if !kept.add(part, rows) {
            return Err(format!("slot {slot}: what was not acknowledged comes after it was told again"));
        }
        if kept.is_too_large() {
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

    /// Whether there is something of that term.
    pub(super) fn has(&self, slot: u8, term: u64) -> bool {
        self.kept.get(&slot).is_some_and(|kept| kept.term == term)
    }

    /// Of which slots there is something, and of which term.
    pub(super) fn terms(&self) -> Vec<(u8, u64)> {
        self.kept.iter().map(|(slot, kept)| (*slot, kept.term)).collect()
    }

    /// Everything of a slot that is ours from now on. What comes after it is refused, so that whatever its former owner does then it has not told anybody of.
    pub(super) fn take(&mut self, slot: u8) -> Vec<Row> {
        let Some(kept) = self.kept.remove(&slot) else { return Vec::new() };
        self.over.insert(slot, kept.term);
        kept.rows.into_values().collect()
    }

    /// We are not its standby any more.
    pub(super) fn forget(&mut self, keep: impl Fn(u8, u64) -> bool) {
        let over = &mut self.over;
        self.kept.retain(|slot, kept| {
            let keeps = keep(*slot, kept.term);
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

    /// One message that is a whole.
    fn whole(batch: u64) -> Part {
        Part { batch, number: 0, last: true }
    }

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
        vault.put(3, 5, whole(1), vec![of(1, 1, Some(1)), of(2, 3, None)]).unwrap();
        assert_eq!(ids(vault.samples(3, 5, &rows)), [(2, 4)]);
        assert_eq!(ids(vault.samples(3, 6, &rows)), [(1, 1), (2, 4)]);
    }

    #[test]
    fn the_newest_counts_and_another_term_begins_with_nothing() {
        let mut vault = Vault::default();
        let rows = vec![form(1, Some(10)), form(2, Some(20)), form(1, Some(11))];
        vault.put(3, 5, whole(1), rows).unwrap();
        assert_eq!(vault.size(3), (2, 31));
        vault.put(3, 5, whole(2), vec![form(2, None)]).unwrap();
        assert_eq!(vault.size(3), (1, 11));
        assert!(vault.put(3, 4, whole(3), vec![form(9, Some(1))]).is_err());
        vault.put(3, 6, whole(1), vec![form(7, Some(5))]).unwrap();
        assert_eq!(vault.size(3), (1, 5));
        assert!(vault.has(3, 6) && !vault.has(3, 5) && !vault.has(4, 6));
        assert_eq!(vault.take(3).iter().map(|row| row.id).collect::<Vec<_>>(), [7]);
        // Its former owner does not know yet.
        assert!(vault.put(3, 6, whole(2), vec![form(7, Some(5))]).is_err());
        vault.put(3, 7, whole(1), vec![form(7, Some(5))]).unwrap();
        vault.forget(|_, _| false);
        assert_eq!(vault.size(3), (0, 0));
        assert!(vault.put(3, 7, whole(2), vec![form(2, Some(1))]).is_err());
    }

    #[test]
    fn what_is_told_as_a_whole_is_there_as_a_whole_and_never_after_what_was_told_again() {
        let mut vault = Vault::default();
        let part = |batch, number, last| Part { batch, number, last };
        let row = |len| vec![form(1, Some(len))];
        vault.put(3, 5, whole(1), row(1)).unwrap();
        vault.put(3, 5, part(2, 0, false), row(2)).unwrap();
        assert_eq!(vault.size(3), (1, 1), "not all of it is there");
        // It was given up, and all of it is told again with what came since.
        vault.put(3, 5, part(3, 0, false), row(3)).unwrap();
        assert!(vault.put(3, 5, part(2, 1, true), row(2)).is_err(), "it comes late");
        assert!(vault.put(3, 5, part(3, 2, true), row(3)).is_err(), "one of them is missing");
        vault.put(3, 5, part(3, 1, true), vec![form(2, Some(4))]).unwrap();
        assert_eq!(vault.size(3), (2, 7));
        for late in [whole(1), whole(2), whole(3), part(3, 1, true)] {
            assert!(vault.put(3, 5, late, row(9)).is_err(), "{late:?}");
        }
        assert!(vault.put(3, 5, part(4, 1, true), row(9)).is_err(), "its beginning is missing");
        assert!(vault.put(3, 5, part(0, 0, false), row(9)).is_err(), "an owner that counts nothing");
        assert_eq!(vault.size(3), (2, 7));
    }

    #[test]
    fn too_much_is_refused() {
        let mut vault = Vault::default();
        // Also of a whole that is not there yet.
        for (slot, last) in [(3, true), (4, false)] {
            let (part, large) = (Part { last, ..whole(1) }, form(1, Some(MAX_OCTETS + 1)));
            assert!(vault.put(slot, 5, part, vec![large]).unwrap_err().ends_with(TOO_LARGE));
            assert_eq!(vault.size(slot), (0, 0));
        }
    }

    #[test]
    fn a_slot_that_is_told_again_is_not_twice_as_large() {
        let mut vault = Vault::default();
        let rows = |from: u64| (from..from + 3).map(|id| form(id, Some(MAX_OCTETS / 8))).collect::<Vec<_>>();
        for (number, from) in [(0, 0), (1, 3)] {
            vault.put(3, 5, Part { batch: 1, number, last: number == 1 }, rows(from)).unwrap();
        }
        let before = vault.size(3);
        for (number, from) in [(0, 0), (1, 3)] {
            vault.put(3, 5, Part { batch: 2, number, last: number == 1 }, rows(from)).unwrap();
        }
        assert_eq!(vault.size(3), before);
        // But more than fits is.
        let error = vault.put(3, 5, whole(3), rows(6)).unwrap_err();
        assert!(error.ends_with(TOO_LARGE), "{error}");
    }
}
