//! What a metric is.

/// How its values go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Up, from the start of the process on.
    Counter,
    /// Counts in steps.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// What it is about, which says how many series there are of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The node: a fixed number.
    Node,
    /// Each tenant, up to `metrics.max_tenants`.
    Tenant,
    /// Each peer, up to `metrics.max_peers`.
    Peer,
}

/// A metric. Its name says its unit in the last words, as Prometheus has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// How its values go on.
    pub kind: Kind,
    /// What it is about.
    pub scope: Scope,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

impl Definition {
    /// The unit in UCUM, as OpenTelemetry has it: that of the name.
    pub fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        if name.ends_with("_seconds") {
            "s"
        } else if name.ends_with("_bytes") {
            "By"
        } else {
            "1"
        }
    }
}
