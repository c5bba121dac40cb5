//! When nodes fell silent: by that a node tells whether the others have gone, or it is itself cut off from them.
//!
//! Whoever is cut off hears all of them no more at once. One that fell silent while another was still heard has gone, as far as can be told, and
//! etcd knows of it until its lease ends: it says nothing about the next one that falls silent. If it is there for longer than any lease of a node that
//! is gone it has not gone, and it is the way to it that has.
//!
//! Whoever was cut off does not hear all of them again at the same moment either: that one is silent still says nothing about it for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::members::TTL;
use crate::mesh::LONGEST_PAUSE;

/// Within this of each other nodes fall silent that are cut off at once: several heartbeats, and some for a machine that is busy.
const TOGETHER: Duration = Duration::from_secs(1);
/// A lease that nobody keeps alive has ended after so long, also if etcd elects a leader meanwhile.
const ENDED: Duration = TTL.saturating_mul(2);
/// Within this of the first that is heard again all are that are there: the longest pause between two tries to connect, and as much again for a
/// try that was under way.
const RETURN: Duration = LONGEST_PAUSE.saturating_mul(2);

/// Since when nodes are silent that were heard before.
#[derive(Default)]
pub(super) struct Silences {
    heard: Arc<BTreeSet<String>>,
    since: BTreeMap<String, Instant>,
    /// When somebody was heard after there had been nobody.
    back: Option<Instant>,
}

impl Silences {
    /// Who is heard now.
    pub(super) fn note(&mut self, heard: &Arc<BTreeSet<String>>, now: Instant) {
        if *heard == self.heard {
            return;
        }
        if self.heard.is_empty() && !self.since.is_empty() && !heard.is_empty() {
            self.back = Some(now);
        }
        for node in self.heard.difference(heard) {
            self.since.insert(node.clone(), now);
        }
        self.since.retain(|node, _| !heard.contains(node));
        self.heard = Arc::clone(heard);
    }

    /// Of these nodes, which etcd knows of: whether several were there that are not heard together with one that is not.
    pub(super) fn is_cut_off(&mut self, others: &[&str], now: Instant) -> bool {
        self.since.retain(|node, _| others.contains(&node.as_str()));
        if others.iter().any(|node| self.heard.contains(*node)) {
            return false;
        }
        let last = self.since.values().max().copied().unwrap_or(now);
        let is_there = |node: &&&str| {
            // Whoever has never been heard may be as far away as all others.
            self.since.get(**node).is_none_or(|since| {
                last.duration_since(*since) < TOGETHER || now.duration_since(*since) >= ENDED
            })
        };
        others.iter().filter(is_there).count() > 1
    }

    /// Whether a node may be silent only because nobody was heard until a moment ago: it fell silent before.
    pub(super) fn may_return(&self, node: &str, now: Instant) -> bool {
        self.back.is_some_and(|back| {
            let before = self.since.get(node).is_none_or(|since| *since <= back);
            before && now.duration_since(back) < RETURN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_nobody_is_cut_off_unless_they_went_one_after_the_other() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let hears = |names: &[&str]| Arc::new(names.iter().map(|name| (*name).to_owned()).collect());
        let mut silences = Silences::default();
        assert!(silences.is_cut_off(&["a", "b"], at(0)), "nobody has been heard yet");
        silences.note(&hears(&["a", "b"]), at(0));
        silences.note(&hears(&["b"]), at(1_000));
        assert!(!silences.is_cut_off(&["a", "b"], at(1_000)));
        // One after the other within what may be one cause.
        silences.note(&hears(&[]), at(1_900));
        assert!(silences.is_cut_off(&["a", "b"], at(2_000)));
        // It is heard again, and falls silent later.
        silences.note(&hears(&["b"]), at(2_500));
        silences.note(&hears(&[]), at(3_000));
        assert!(!silences.is_cut_off(&["a", "b"], at(3_000)));
        assert!(silences.is_cut_off(&["a", "b", "c"], at(3_000)), "one that was never heard");
        // It should not be there any more by now.
        assert!(!silences.is_cut_off(&["a", "b"], at(10_900)));
        assert!(silences.is_cut_off(&["a", "b"], at(11_000)));
        assert!(!silences.is_cut_off(&["b"], at(11_000)), "of one other node nobody can tell");
    }

    #[test]
    fn who_is_heard_again_after_a_cut_has_not_heard_all_of_them_yet() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let hears = |names: &[&str]| Arc::new(names.iter().map(|name| (*name).to_owned()).collect());
        let mut silences = Silences::default();
        silences.note(&hears(&["a", "b"]), at(0));
        assert!(!silences.may_return("a", at(100)));
        silences.note(&hears(&["b"]), at(1_000));
        assert!(!silences.may_return("a", at(1_100)), "it alone is not heard");
        silences.note(&hears(&[]), at(1_100));
        silences.note(&hears(&["b"]), at(5_000));
        assert!(silences.may_return("a", at(5_000)) && silences.may_return("a", at(6_900)));
        assert!(!silences.may_return("a", at(7_000)), "it has had its time");
        // It was heard meanwhile, and has gone since.
        silences.note(&hears(&[]), at(8_000));
        silences.note(&hears(&["a", "b"]), at(9_000));
        silences.note(&hears(&["b"]), at(9_500));
        assert!(!silences.may_return("a", at(9_500)));
    }
}
