//! What came of a history.

use std::collections::BTreeMap;
use std::time::Duration;

/// Figures of one history, or of many.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Time simulated, times tunnels.
    pub tunnel_time: Duration,
    /// Events handled.
    pub events: u64,
    /// Probes sent, and those that arrived.
    pub sent: u64,
    /// Probes that arrived.
    pub received: u64,
    /// Probes lost while nothing was wrong for long enough.
    pub unexcused: u64,
    /// What happened, counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// What must not happen and did.
    pub violations: Vec<String>,
}

impl Report {
    /// Adds another history.
    pub fn add(&mut self, other: &Self) {
        self.tunnel_time += other.tunnel_time;
        self.events += other.events;
        self.sent += other.sent;
        self.received += other.received;
        self.unexcused += other.unexcused;
        for (what, n) in &other.counts {
            *self.counts.entry(what).or_default() += n;
        }
        self.violations.extend(other.violations.iter().cloned());
    }
}
