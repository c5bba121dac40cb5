//! What people read: each metric, alert and dashboard, with what to do.

use std::fmt::Write as _;

use super::alerts::{ALERTS, Alert};
use super::panels::Dashboard;
use super::rules::line;
use crate::telemetry::metrics::definition::Scope;
use crate::telemetry::metrics::table;

const MADE: &str = "<!-- Made by `make dashboards` from culvert/src/monitoring and culvert/src/telemetry/metrics/table.rs. -->\n\n";

/// `docs/src/metrics.md`.
pub(super) fn metrics() -> String {
    let mut text = format!("{MADE}# Metrics\n\n");
    // Writing to a String cannot fail, here and below.
    text.push_str(
        "`metrics.listen` of the daemon's settings serves them to Prometheus at `/metrics`; with `otlp.endpoint` they are sent to a collector as \
         well, under the same names. They are read when somebody asks, and nothing is counted for them that is not counted anyway.\n\n\
         How many series there are is bounded. Those of the node are some hundreds. Each tenant has some twenty, up to \
         `metrics.max_tenants` tenants (2,000 unless configured otherwise), and each peer about a dozen, up to `metrics.max_peers` peers \
         (10,000), in a cluster those of all nodes: with more there are the sums, and of single ones what alerts have to know of those that fail, as many as \
         the bound; `culvert_metrics_aggregated` says so. Names of tenants and peers are values of labels and \
         never parts of names. 100,000 peers are 140 KB in sums, and 110 MB with series of their own.\n\n\
         A peer that is configured has its series for as long as it is configured, whether or not its tunnel was ever up.\n",
    );
    for (scope, title, help) in [
        (Scope::Node, "Of the node", "Fixed in number."),
        (Scope::Tenant, "Of each tenant", "Up to `metrics.max_tenants` tenants."),
        (Scope::Peer, "Of each peer", "Up to `metrics.max_peers` peers."),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n{help}\n\n| metric | kind | labels | what it says |\n|---|---|---|---|\n"
        );
        for metric in table::ALL.iter().filter(|metric| metric.scope == scope) {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, labels) = (metric.name, metric.kind.name(), labels.join(", "));
            let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", metric.help);
        }
    }
    text
}

/// `docs/src/alerts.md`.
pub(super) fn alerts() -> String {
    let mut text = format!("{MADE}# Alerts\n\n");
    text.push_str(
        "The rules are in `charts/culvert/rules/culvert.yaml`. Each alert leads here by its annotation `runbook`. The `summary` of those that have a cause ends with it, in a word of `culvert explain`.\n",
    );
    for alert in ALERTS.iter() {
        let (name, severity, minutes) = (alert.name, alert.severity.name(), alert.minutes);
        let _ = write!(text, "\n## {name}\n\n{}\n\n", line(alert.runbook));
        if let Some(bound) = bound(alert) {
            let _ = write!(text, "{bound}\n\n");
        }
        if let Some(what) = alert.needs {
            let _ = write!(text, "It looks at nothing without {what}.\n\n");
        }
        let _ = write!(
            text,
            "Severity {severity}, after {minutes} minutes of:\n\n```promql\n{}\n```\n",
            alert.when.written()
        );
    }
    text
}

/// What becomes of it where there are more than have series of their own.
fn bound(alert: &Alert) -> Option<String> {
    let has = |scope: Scope| alert.when.metrics().iter().any(|metric| metric.scope == scope);
    let all = alert.when.metrics().iter().filter(|metric| metric.scope != Scope::Node);
    // What is told of those that fail in any case.
    let told = [&table::PEER_UP, &table::PEER_REASON, &table::TENANT_UPLINK];
    let told = all.into_iter().all(|metric| told.iter().any(|told| told.name == metric.name));
    let (setting, of) = match (has(Scope::Peer), has(Scope::Tenant)) {
        (_, true) => ("metrics.max_tenants", "tenants"),
        (true, false) => ("metrics.max_peers", "peers"),
        (false, false) => return None,
    };
    Some(if told {
        format!("With more {of} than `{setting}` it looks at so many that fail.")
    } else {
        format!("With more {of} than `{setting}` it looks at nothing.")
    })
}

/// `docs/src/dashboards.md`.
pub(super) fn dashboards(all: &[Dashboard]) -> String {
    let mut text = format!("{MADE}# Dashboards\n\n");
    text.push_str("They are in `charts/culvert/dashboards`, for Grafana 10 and later with a source of data of Prometheus.\n");
    for dashboard in all {
        let _ = write!(text, "\n## {}\n\n{}\n", dashboard.title, dashboard.help);
        for (title, panels) in &dashboard.rows {
            let _ = write!(text, "\n### {title}\n\n");
            for panel in panels {
                let _ = writeln!(text, "* **{}**: {}", panel.title, panel.help);
            }
        }
    }
    text
}
