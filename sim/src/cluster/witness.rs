//! What must hold over all nodes, after every event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Violations kept; one is enough to fail.
const KEPT: usize = 20;

/// Sees all that leaves the nodes.
#[derive(Debug)]
pub struct Witness {
    began: Instant,
    trace: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    /// What was said under a number, by tunnel and number. The very same may be said again, by whoever goes on.
    said: HashMap<(u64, u64), u64>,
    /// Numbers of ESP, by tunnel: each has one key.
    sent: HashSet<(u64, u64)>,
    /// Tunnels that began and have not been ended.
    tunnels: HashSet<u64>,
    /// Tunnels that were ended: by another node it may be, before the one that began them hears that they have begun.
    over: HashSet<u64>,
    events: u64,
}

impl Witness {
    pub(super) fn new(trace: bool) -> Self {
        Self { began: Instant::now(), trace, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that must not happen has happened.
    pub(super) fn violation(&self, what: &str) {
        self.tell(&format!("VIOLATION {what}"));
        let at = self.began.elapsed();
        let mut seen = self.seen();
        if seen.violations.len() < KEPT {
            seen.violations.push(format!("{at:?}: {what}"));
        }
    }

    /// Tells what happens, if asked to.
    #[allow(clippy::print_stderr)]
    pub(super) fn tell(&self, what: &str) {
        if self.trace {
            eprintln!("{:>12.3} {what}", self.began.elapsed().as_secs_f64());
        }
    }

    /// Something happened that is counted.
    pub(super) fn count(&self, what: &'static str) {
        let mut seen = self.seen();
        seen.events += 1;
        *seen.counts.entry(what).or_default() += 1;
    }

    /// How often something has happened that is counted.
    pub(super) fn counted(&self, what: &str) -> u64 {
        self.seen().counts.get(what).copied().unwrap_or_default()
    }

    /// A tunnel began: others know of it.
    pub(super) fn began(&self, tunnel: u64) {
        let mut seen = self.seen();
        if seen.over.contains(&tunnel) {
            return;
        }
        seen.tunnels.insert(tunnel);
        drop(seen);
        self.tell(&format!("tunnel {tunnel} begins"));
        self.count("tunnels begun");
    }

    /// A tunnel is being ended.
    pub(super) fn ended(&self, tunnel: u64) {
        self.seen().over.insert(tunnel);
        if self.seen().tunnels.remove(&tunnel) {
            self.count("tunnels ended");
        }
    }

    /// Tunnels that nobody has any more are no longer looked for, and counted by the reason.
    pub(super) fn forget(&self, tunnel: u64, why: &'static str) {
        if self.seen().tunnels.remove(&tunnel) {
            self.count(why);
        }
    }

    /// The tunnels that somebody must have.
    pub(super) fn tunnels(&self) -> HashSet<u64> {
        self.seen().tunnels.clone()
    }

    /// A message of a tunnel leaves: no two are different under one number.
    pub(super) fn said(&self, node: &str, tunnel: u64, number: u64, what: u64) {
        self.count("messages");
        self.tell(&format!("{node} says {number} of tunnel {tunnel}: {what:016x}"));
        let before = self.seen().said.insert((tunnel, number), what);
        if before.is_some_and(|before| before != what) {
            self.violation(&format!(
                "{node} says something of its own under number {number} of tunnel {tunnel}"
            ));
        }
    }

    /// A packet of ESP leaves: a number is used once with a key.
    pub(super) fn sent(&self, node: &str, tunnel: u64, number: u64) {
        self.count("packets");
        if !self.seen().sent.insert((tunnel, number)) {
            self.violation(&format!("{node} sends number {number} of ESP of tunnel {tunnel} once more"));
        }
    }

    /// Whether something is broken.
    pub(super) fn is_broken(&self) -> bool {
        !self.seen().violations.is_empty()
    }

    /// What came of it: events, counts, violations.
    pub(super) fn conclude(&self) -> (u64, BTreeMap<&'static str, u64>, Vec<String>) {
        let seen = self.seen();
        (seen.events, seen.counts.clone(), seen.violations.clone())
    }
}
