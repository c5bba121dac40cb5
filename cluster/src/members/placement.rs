//! Which node a peer is at home with: rendezvous hashing (highest random weight) over the nodes that are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use openssl::sha::Sha256;

use super::{Node, Uids};

/// The nodes that are there, as one of them sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// In the order of names; this node is among them.
    pub nodes: Vec<Node>,
    /// Name of this node.
    pub own: String,
    /// Peers that have a connection with a node, by the node's name.
    pub held: BTreeMap<String, Arc<Uids>>,
}

impl Placement {
    /// The node that begins with the peer of this uid. When a node comes or goes, only peers move that are at home with it before or
    /// after. One that was drained counts as gone, unless all of them were.
    pub fn home(&self, uid: u64) -> Option<&Node> {
        let weighed = self.nodes.iter().map(|node| {
            let weight = (!node.drained, Self::weight(&node.name, uid), &*node.name);
            (weight, node)
        });
        weighed.max_by_key(|(weight, _)| *weight).map(|(_, node)| node)
    }

    /// Whether that is this node.
    pub fn is_home(&self, uid: u64) -> bool {
        self.home(uid).is_none_or(|node| node.name == self.own)
    }

    /// The node that begins with the peer now: one that has a connection with it, and of those one that is `heard`; else the one that it is
    /// at home with.
    pub fn begins(&self, uid: u64, heard: impl Fn(&str) -> bool) -> Option<&Node> {
        self.first_of(uid, |name| self.holds(name, uid), heard)
    }

    /// As [`Self::begins`], if it is another node; `None` if it is this one. `held` says whether there is a connection with the peer here,
    /// which the others may not have been told yet. One that has ended counts until they have: as long as they take it for
    /// this node's, as while etcd is away, nobody else begins with the peer.
    pub fn elsewhere(&self, uid: u64, held: bool, heard: impl Fn(&str) -> bool) -> Option<&Node> {
        let is_own = |name: &str| name == self.own;
        let has = |name: &str| (held && is_own(name)) || self.holds(name, uid);
        let begins = self.first_of(uid, has, |name| is_own(name) || heard(name));
        begins.filter(|node| !is_own(&node.name))
    }

    /// Whether a node says that it has a connection with the peer.
    pub fn holds(&self, name: &str, uid: u64) -> bool {
        self.held.get(name).is_some_and(|held| held.contains(uid))
    }

    fn first_of(&self, uid: u64, has: impl Fn(&str) -> bool, heard: impl Fn(&str) -> bool) -> Option<&Node> {
        let all = || self.nodes.iter().filter(|node| has(&node.name));
        all().find(|node| heard(&node.name)).or_else(|| all().next()).or_else(|| self.home(uid))
    }

    /// How much a node is for something of this number: the one with the most has it.
    pub(crate) fn weight(name: &str, number: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(&number.to_be_bytes());
        hash.update(name.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hash.finish();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn placement(names: &[&str]) -> Placement {
        let node = |name: &&str| Node {
            name: (*name).to_owned(),
            slot: 1,
            addresses: Vec::new(),
            version: String::new(),
            since: SystemTime::UNIX_EPOCH,
            mesh: None,
            instance: Vec::new(),
            drained: false,
        };
        Placement { nodes: names.iter().map(node).collect(), own: "a".to_owned(), ..Placement::default() }
    }

    #[test]
    fn few_move_when_a_node_comes_and_they_move_to_it() {
        let (three, four) = (placement(&["a", "b", "c"]), placement(&["a", "b", "c", "d"]));
        let home = |placement: &Placement, uid| placement.home(uid).unwrap().name.clone();
        let (mut moved, mut count) = (0, std::collections::BTreeMap::<String, u32>::new());
        for uid in 0..30_000 {
            let (before, after) = (home(&three, uid), home(&four, uid));
            *count.entry(before.clone()).or_default() += 1;
            if before != after {
                moved += 1;
                assert_eq!(after, "d");
            }
        }
        assert!((7_000..8_000).contains(&moved), "a quarter: {moved}");
        assert!(count.values().all(|count| (9_500..10_500).contains(count)), "a third each: {count:?}");
    }

    #[test]
    fn who_has_a_connection_begins_as_long_as_it_is_there() {
        let mut three = placement(&["a", "b", "c"]);
        let uid = (0..100).find(|uid| three.is_home(*uid)).unwrap();
        three.held.insert("c".to_owned(), Arc::new(Uids::from_iter([uid])));
        assert_eq!(three.begins(uid, |_| true).unwrap().name, "c");
        assert!(three.is_home(uid), "it comes back when that ends");
        three.held.insert("b".to_owned(), Arc::new(Uids::from_iter([uid])));
        assert_eq!(three.begins(uid, |_| true).unwrap().name, "b");
        assert_eq!(three.begins(uid, |name| name != "b").unwrap().name, "c", "b is silent");
        let elsewhere = |held| three.elsewhere(uid, held, |_| true).map(|node| node.name.as_str());
        assert_eq!((elsewhere(true), elsewhere(false)), (None, Some("b")), "the first of those that have it");
        let mut own = three.clone();
        own.nodes[0].drained = true;
        own.held = BTreeMap::from([("a".to_owned(), Arc::new(Uids::from_iter([uid])))]);
        assert!(own.elsewhere(uid, false, |_| true).is_none(), "nobody else knows that it has ended");
        own.held.clear();
        assert!(own.elsewhere(uid, false, |_| true).is_some());
        three.held.remove("b");
        three.nodes.pop();
        assert_eq!(
            three.begins(uid, |_| true).unwrap().name,
            "a",
            "what a node that is gone has held is nobody's"
        );
    }

    #[test]
    fn a_node_that_was_drained_is_nobodys_home() {
        let mut three = placement(&["a", "b", "c"]);
        three.nodes[1].drained = true;
        let two = placement(&["a", "c"]);
        for uid in 0..1_000 {
            assert_eq!(three.home(uid).unwrap().name, two.home(uid).unwrap().name);
        }
        three.nodes.iter_mut().for_each(|node| node.drained = true);
        assert!((0..100).any(|uid| three.home(uid).unwrap().name == "b"), "somebody has to be");
    }

    #[test]
    fn who_is_alone_is_home_of_all() {
        assert!((0..100).all(|uid| placement(&["a"]).is_home(uid)));
        assert!((0..100).all(|uid| Placement::default().is_home(uid)));
        let of_two = placement(&["a", "b"]);
        assert!((0..100).any(|uid| of_two.is_home(uid)) && (0..100).any(|uid| !of_two.is_home(uid)));
    }
}
