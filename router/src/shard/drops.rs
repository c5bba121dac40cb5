//! What a pair has dropped, by name.

use smallvec::SmallVec;

/// How many packets of a pair were dropped for which reason. A pair meets few kinds, so the list is short; the first has its place in the pair
/// itself, for what is dropped packet for packet is of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Drops(SmallVec<[(&'static str, u64); 1]>);

impl Drops {
    /// Counts so many packets.
    pub(super) fn count(&mut self, name: &'static str, packets: u64) {
        // Mostly it is the very same text.
        let is = |known: &&'static str| std::ptr::eq(*known, name) || *known == name;
        match self.0.iter_mut().find(|(known, _)| is(known)) {
            Some((_, count)) => *count += packets,
            None if packets == 0 => {}
            None => self.0.push((name, packets)),
        }
    }

    /// Those of which there were some.
    pub(super) fn list(&self) -> Vec<(&'static str, u64)> {
        self.0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself_and_none_that_is_not_there() {
        let mut drops = Drops::default();
        for (name, packets) in [("one", 2), ("two", 0), ("three", 1), ("one", 3), ("three", 0)] {
            drops.count(name, packets);
        }
        // The same text from elsewhere.
        drops.count(String::from("three").leak(), 4);
        assert_eq!(drops.list(), [("one", 5), ("three", 5)]);
    }
}
