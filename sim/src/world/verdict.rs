//! What is said of a history once it is over.

use std::sync::Arc;

use super::{ARRIVAL, World};
use crate::report::Report;
use crate::tunnel::policy_name;

impl World {
    /// Judges the history.
    pub(super) fn conclude(mut self) -> Report {
        if self.witness.violations.is_empty() {
            self.compare_ends();
        }
        let lost: Vec<String> = self
            .probes
            .iter()
            .filter(|p| p.must_arrive && !p.arrived && p.sent + ARRIVAL < self.clock.elapsed())
            .map(|p| {
                format!(
                    "tunnel {}: the probe sent at {:?} was lost though nothing was wrong",
                    p.tunnel, p.sent
                )
            })
            .collect();
        let unexcused = u64::try_from(lost.len()).unwrap_or(u64::MAX);
        self.witness.violations.extend(lost.into_iter().take(3));
        Report {
            tunnel_time: self.clock.elapsed() * u32::try_from(self.scenario.branches).unwrap_or(u32::MAX),
            events: self.events,
            sent: u64::try_from(self.probes.len()).unwrap_or(u64::MAX),
            received: u64::try_from(self.probes.iter().filter(|p| p.arrived).count()).unwrap_or(u64::MAX),
            unexcused,
            counts: self.witness.counts,
            violations: self.witness.violations,
        }
    }

    /// After minutes of peace both ends agree: one pair for each policy, the same on both sides, and nothing leaks.
    fn compare_ends(&mut self) {
        let mut faults = Vec::new();
        for tunnel in 0..self.scenario.branches {
            let (hub, branch) = (self.end(tunnel, true), self.end(tunnel, false));
            let pairs = |(node, at): (usize, usize)| {
                self.nodes
                    .get(node)
                    .and_then(|n| n.peers.get(at))
                    .map(|p| p.sas.current())
                    .unwrap_or_default()
            };
            let (ours, theirs) = (pairs(hub), pairs(branch));
            for policy in 0..self.scenario.policies {
                let name: Arc<str> = policy_name(policy).into();
                let active = |pairs: &[(u32, u32, Arc<str>, bool)]| -> Vec<(u32, u32)> {
                    pairs.iter().filter(|p| p.2 == name).map(|p| (p.0, p.1)).collect()
                };
                let (a, b) = (active(&ours), active(&theirs));
                // A rekeying may be under way at this very moment: then there are two, of which both sides know both.
                let mirrored: Vec<(u32, u32)> = b.iter().map(|(i, o)| (*o, *i)).collect();
                let agree = a.iter().all(|p| mirrored.contains(p)) && mirrored.iter().all(|p| a.contains(p));
                let busy = a.len() > 1 || b.len() > 1;
                if a.is_empty() || b.is_empty() || (!agree && !busy) {
                    faults.push(format!(
                        "tunnel {tunnel}, policy {name}: the ends disagree: {a:08x?} and {b:08x?}"
                    ));
                }
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let held = node.host.held.len();
            let pairs: usize = node.peers.iter().map(|p| p.sas.pairs.len()).sum();
            // One more for each exchange that may be under way.
            if held > pairs + 2 * node.peers.len() {
                faults.push(format!("node {number}: {held} ESP SPIs are held for {pairs} pairs"));
            }
            let (half_open, owners) = node.sizes();
            if half_open > 0 || owners > 4 * node.peers.len() {
                faults.push(format!(
                    "node {number}: {half_open} half-open negotiations, {owners} IKE SPIs are left"
                ));
            }
        }
        for fault in faults {
            self.witness.violation(fault);
        }
    }
}
