//! Which probes of a flow have arrived, how often, and in which order.

use std::ops::Range;

/// One bit for each probe of one flow.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    seen: Vec<u64>,
    /// The number that comes next if nothing is reordered.
    next: u64,
    /// Different probes that arrived.
    pub received: u64,
    /// Probes that arrived again.
    pub duplicates: u64,
    /// Probes that arrived behind one of a higher number (RFC 4737 section 3.3).
    pub reordered: u64,
}

/// What an arrival was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    InOrder,
    Reordered,
    Duplicate,
    /// Its number is none of ours.
    Absurd,
}

/// A day at 100,000 a second; a number beyond it is not one of ours.
const WORDS: usize = 135_000_000;

impl Ledger {
    /// Checks a probe off.
    pub fn note(&mut self, number: u64) {
        let _ = self.arrived(number);
    }

    /// How many of these numbers have not arrived.
    pub fn missing(&self, numbers: Range<u64>) -> u64 {
        let seen = |number: &u64| {
            let word = usize::try_from(number / 64).ok().and_then(|word| self.seen.get(word));
            word.is_some_and(|word| word & (1 << (number % 64)) != 0)
        };
        numbers.filter(|number| !seen(number)).count() as u64
    }

    pub(crate) fn arrived(&mut self, number: u64) -> Arrival {
        let (word, bit) = (usize::try_from(number / 64).unwrap_or(usize::MAX), number % 64);
        if word > WORDS {
            return Arrival::Absurd;
        }
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let Some(seen) = self.seen.get_mut(word) else { return Arrival::Absurd };
        if *seen & (1 << bit) != 0 {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        *seen |= 1 << bit;
        self.received += 1;
        if number < self.next {
            self.reordered += 1;
            return Arrival::Reordered;
        }
        self.next = number + 1;
        Arrival::InOrder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once() {
        let mut ledger = Ledger::default();
        for n in [0, 1, 64, 1, 63] {
            ledger.note(n);
        }
        assert_eq!((ledger.received, ledger.duplicates, ledger.reordered), (4, 1, 1));
    }

    #[test]
    fn what_has_not_arrived_is_known_by_number() {
        let mut ledger = Ledger::default();
        [0, 2, 3, 64, 200].into_iter().for_each(|n| ledger.note(n));
        assert_eq!([ledger.missing(0..4), ledger.missing(4..64), ledger.missing(64..66)], [1, 60, 1]);
        assert_eq!((ledger.missing(200..202), ledger.missing(5..5)), (1, 0));
        assert_eq!(ledger.missing(1_000_000..1_000_003), 3, "beyond all that came");
    }

    #[test]
    fn loss_is_no_reordering() {
        let mut ledger = Ledger::default();
        let arrivals: Vec<_> = [3, 9, 9, 4, 10].into_iter().map(|n| ledger.arrived(n)).collect();
        let expected =
            [Arrival::InOrder, Arrival::InOrder, Arrival::Duplicate, Arrival::Reordered, Arrival::InOrder];
        assert_eq!(arrivals, expected);
        assert_eq!(ledger.arrived(u64::MAX), Arrival::Absurd);
    }
}
