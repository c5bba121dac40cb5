//! What the answers of several nodes are about: a slot that is on its way between two of them while they are asked may be in the answer of neither.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tonic::metadata::MetadataMap;

use super::{Known, Wide};

/// In the headers of an answer to another node: the slots of which there is all in it, parted by commas.
const HELD: &str = "culvert-slots-held";
/// Before nodes are asked again: a slot with thousands of connections is on its way for some tenths of a second.
const MOVED: Duration = Duration::from_millis(300);

/// The slots of which a node has said all; `None` for one that does not say which.
pub(crate) type Held = Option<BTreeSet<u8>>;

/// What nodes know, and the slots of which that is all.
pub(super) struct Told<T> {
    pub(super) known: Known<T>,
    /// Of each node that has answered, by its name.
    pub(super) held: BTreeMap<String, Held>,
}

impl Wide {
    /// The slots of which this node could say all now. To be asked before what is said is looked for.
    pub(crate) fn held(&self) -> Held {
        self.0.local.settled()
    }

    /// Those of them of which it still can, once that is found.
    pub(super) fn still(&self, before: Held) -> Held {
        let (before, now) = before.zip(self.held())?;
        Some(before.intersection(&now).copied().collect())
    }

    /// Tells another node of which slots it was told all.
    pub(crate) fn tell_held(&self, before: Held, metadata: &mut MetadataMap) {
        if !self.is_single() {
            return;
        }
        let Some(held) = self.still(before) else { return };
        let held = held.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if let Ok(held) = held.parse() {
            metadata.insert(HELD, held);
        }
    }

    /// The owners of slots of which nobody has said all, though their owners have answered.
    pub(super) fn unsaid(&self, told: &BTreeMap<String, Held>) -> Vec<String> {
        unsaid(&self.0.local.owners(), told)
    }

    /// Whether nodes are to be asked again, now that what was on its way when they were has mostly arrived.
    pub(super) async fn is_to_be_asked_again<T>(&self, told: &Told<T>) -> bool {
        let something_moved = !self.unsaid(&told.held).is_empty();
        if something_moved {
            tokio::time::sleep(MOVED).await;
        }
        something_moved
    }

    /// What is known at last: whoever has not said all is named.
    pub(super) fn at_last<T>(&self, told: Told<T>) -> Known<T> {
        let Told { mut known, held } = told;
        known.away.extend(self.unsaid(&held));
        known.away.sort();
        known.away.dedup();
        known
    }
}

/// What another node has said of it.
pub(super) fn read(metadata: &MetadataMap) -> Held {
    let held = metadata.get(HELD)?.to_str().ok()?;
    Some(held.split(',').filter_map(|slot| slot.parse().ok()).collect())
}

fn unsaid(owners: &BTreeMap<u8, String>, told: &BTreeMap<String, Held>) -> Vec<String> {
    let is_said = |slot: &u8| told.values().flatten().any(|held| held.contains(slot));
    // Who is away is named anyhow.
    let has_answered = |owner: &String| told.get(owner).is_some_and(Option::is_some);
    let missing = owners.iter().filter(|(slot, owner)| has_answered(owner) && !is_said(slot));
    missing.map(|(_, owner)| owner.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_which_nobody_has_said_all_is_missed_where_its_owner_has_answered() {
        let owners: BTreeMap<u8, String> =
            [(1, "a"), (2, "b"), (3, "gone"), (4, "old")].map(|(slot, node)| (slot, node.to_owned())).into();
        let told = |a: &[u8], b: &[u8]| {
            let held = |slots: &[u8]| Some(slots.iter().copied().collect());
            unsaid(
                &owners,
                &[("a", held(a)), ("b", held(b)), ("old", None)].map(|(n, h)| (n.to_owned(), h)).into(),
            )
        };
        assert!(told(&[1], &[2]).is_empty());
        assert!(told(&[1, 2], &[]).is_empty(), "it has moved, and that is not known here yet");
        assert_eq!(told(&[1], &[]), ["b"]);
        assert_eq!(told(&[], &[2]), ["a"]);
    }

    #[test]
    fn what_is_said_is_read() {
        let mut metadata = MetadataMap::new();
        assert_eq!(read(&metadata), None);
        for (said, slots) in [("", vec![]), ("7", vec![7]), ("1,63", vec![1, 63])] {
            metadata.insert(HELD, said.parse().unwrap());
            assert_eq!(read(&metadata), Some(slots.into_iter().collect()));
        }
    }
}
