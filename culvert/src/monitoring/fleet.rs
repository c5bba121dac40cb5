//! All nodes and tenants at a glance: what is down, where, and why.

use super::panels::{Dashboard, Look, Panel};
use super::query::query;
use crate::telemetry::metrics::table::*;

pub(super) fn dashboard() -> Dashboard {
    let tunnels = vec![
        Panel::new("Tunnels up", Look::Stat, "none", "Configured peers whose tunnel carries traffic, those included that lack a part of it.")
            .ask("up", query!("sum($0{state=~\"up|degraded\"})", PEERS)),
        Panel::new("Tunnels not up", Look::Stat, "none", "Configured peers without a tunnel, wanted or not. The table below says which and why.")
            .ask("not up", query!("sum($0{state!~\"up|degraded|elsewhere\"})", PEERS)),
        Panel::new("Nodes ready", Look::Stat, "none", "Nodes that are up and may be sent work.")
            .ask("ready", query!("sum($0)", READY)),
        Panel::new("Tenants", Look::Stat, "none", "Tenants of all nodes, each once; where there are more than have series of their own, those of the node that has most.")
            .ask("tenants", query!("count(count by (tenant) ($0)) or max($1{resource=\"tenants\"})", TENANT_PEERS, USAGE)),
        Panel::new("Peers by state", Look::Stack, "none", "How configured peers stand. backing_off means that attempts fail; waiting is as it should be with peers that call us and with tunnels on demand. In a cluster each peer is counted by the node that has it or begins with it.")
            .ask("{{state}}", query!("sum by (state) ($0{state!=\"elsewhere\"})", PEERS)),
        Panel::new("Why tunnels are not up", Look::Stack, "none", "Causes in the words of culvert explain, which says of each peer what to change; none while all are up.")
            .ask("{{reason}}", query!("sum by (reason) ($0{reason!=\"elsewhere\"}) or on() label_replace(vector(0), \"reason\", \"none\", \"\", \"\")", PEER_REASON)),
        Panel::new("Tunnels that are down", Look::Table, "none", "Each with its reason, or none. culvert explain NAME says what to change on which side.")
            .ask("", query!("max by (tenant, peer, reason) ($0{reason!=\"elsewhere\"}) or on() label_replace(vector(0), \"reason\", \"none\", \"\", \"\")", PEER_REASON)),
    ];
    let negotiations = vec![
        Panel::new("Negotiations", Look::Lines, "ops", "What was negotiated, per second, by how it ended.")
            .ask("{{stage}} {{outcome}}", query!("sum by (stage, outcome) (rate($0[$__rate_interval]))", NEGOTIATIONS)),
        Panel::new("Failures by cause", Look::Lines, "ops", "Why negotiations fail, per second.")
            .ask("{{cause}}", query!("sum by (cause) (rate($0{outcome=\"failed\"}[$__rate_interval]))", NEGOTIATIONS)),
        Panel::new("Handshake, 95th percentile", Look::Lines, "s", "From the first message to an authenticated peer; of all since the start where there was none lately. Half a second and more means that messages are lost.")
            .ask("{{role}}", query!("histogram_quantile(0.95, sum by (le, role) (rate($0_bucket[$__rate_interval]))) >= 0 or histogram_quantile(0.95, sum by (le, role) ($0_bucket))", HANDSHAKE)),
    ];
    let traffic = vec![
        Panel::new("Traffic by tenant", Look::Stack, "Bps", "Inner octets in both directions.")
            .ask("{{tenant}}", query!("sum by (tenant) (rate($0[$__rate_interval]))", TENANT_BYTES)),
        Panel::new(
            "Drops by reason",
            Look::Lines,
            "pps",
            "What was dropped, per second. Each reason is explained in the list of metrics.",
        )
        .ask("{{reason}}", query!("sum by (reason) (rate($0[$__rate_interval]))", DROPPED)),
        Panel::new(
            "Tenants with most tunnels lost",
            Look::Table,
            "none",
            "Tunnels that were lost though nobody here wanted it, in the time shown.",
        )
        .ask("", query!("topk(20, sum by (tenant) (increase($0[$__range])))", TENANT_LOSSES)),
    ];
    Dashboard {
        uid: "culvert-fleet",
        title: "Culvert / Fleet",
        help: "All nodes and tenants at a glance: what is down, where, and why.",
        choices: Vec::new(),
        rows: vec![("Tunnels", tunnels), ("Negotiations", negotiations), ("Traffic", traffic)],
    }
}
