//! A question in PromQL.

use crate::telemetry::metrics::definition::Definition;

/// A question. In its text `$0`, `$1` and so on stand for the names of the metrics.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    text: &'static str,
    metrics: &'static [&'static Definition],
}

/// A question: its text, and the metrics in the order of their numbers.
macro_rules! query {
    ($text:literal, $($metric:ident),+) => {{
        const METRICS: &[&$crate::telemetry::metrics::definition::Definition] = &[$(&$metric),+];
        $crate::monitoring::Query::new($text, METRICS)
    }};
}
pub(super) use query;

impl Query {
    /// Of a text and the metrics that it is about.
    pub const fn new(text: &'static str, metrics: &'static [&'static Definition]) -> Self {
        Self { text, metrics }
    }

    /// The text before the metrics are put in.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// The metrics it is about.
    pub const fn metrics(&self) -> &'static [&'static Definition] {
        self.metrics
    }

    /// As Prometheus is asked.
    pub fn written(&self) -> String {
        self.metrics
            .iter()
            .enumerate()
            .fold(self.text.to_owned(), |text, (at, metric)| text.replace(&format!("${at}"), metric.name))
    }

    /// As it is asked without whoever looks at a dashboard: of this tenant and peer, of all nodes.
    pub fn asked(&self, tenant: &str, peer: &str) -> String {
        let interval = "1m";
        let with = [
            ("$tenant", tenant),
            ("$peer", peer),
            ("$node", ".*"),
            ("$__rate_interval", interval),
            ("$__range", interval),
        ];
        with.into_iter().fold(self.written(), |text, (name, value)| text.replace(name, value))
    }
}
