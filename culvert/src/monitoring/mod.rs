//! Dashboards, alerts and the documents about them, made of one source: what names a metric takes it from
//! [`table`](crate::telemetry::metrics::table), so nothing can ask for one that is not there.
//!
//! * `query.rs` is a question in PromQL with the metrics it is about.
//! * `panels.rs` is what a dashboard is made of; `fleet.rs`, `tenant.rs`, `peer.rs`, `node.rs` and `cluster.rs` are the dashboards, and
//!   `grafana.rs` writes them.
//! * `alerts` are the alerts, `rules.rs` writes them, and what `promtool` tries on them.
//! * `documents.rs` writes what people read.
//!
//! `make dashboards` puts all of it into the tree; a test holds the tree against it.

mod alerts;
mod cluster;
mod documents;
mod fleet;
mod grafana;
mod node;
mod panels;
mod peer;
mod query;
mod rules;
mod tenant;

pub use alerts::{ALERTS, Alert, Cause, Severity};
pub use panels::{Dashboard, Panel};
pub use query::Query;
pub use rules::trials;

/// All dashboards.
pub fn dashboards() -> Vec<Dashboard> {
    vec![fleet::dashboard(), tenant::dashboard(), peer::dashboard(), node::dashboard(), cluster::dashboard()]
}

/// Every file that is made, by its path in the tree.
///
/// # Errors
/// When something cannot be written as JSON or YAML.
pub fn files() -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    for dashboard in dashboards() {
        let path = format!("charts/culvert/dashboards/{}.json", dashboard.uid);
        files.push((path, grafana::write(&dashboard)?));
    }
    files.push(("charts/culvert/rules/culvert.yaml".to_owned(), rules::write()?));
    files.push(("docs/src/metrics.md".to_owned(), documents::metrics()));
    files.push(("docs/src/alerts.md".to_owned(), documents::alerts()));
    files.push(("docs/src/dashboards.md".to_owned(), documents::dashboards(&dashboards())));
    Ok(files)
}
