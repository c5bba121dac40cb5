//! The nodes as one: whether what happens to one of them would be noticed.

use super::panels::{Dashboard, Look, Panel};
use super::query::query;
use crate::telemetry::metrics::table::*;

pub(super) fn dashboard() -> Dashboard {
    let nodes = vec![
        Panel::new("Nodes", Look::Stat, "none", "Nodes that are read here, and those that they say are ready.")
            .ask("read", query!("count($0)", READY))
            .ask("ready", query!("sum($0)", READY)),
        Panel::new("Connections that would be negotiated anew", Look::Stat, "none", "If their node were lost now: no other node could go on with them yet. 0 is well; a node by itself has none either, as it has no others.")
            .ask("unprotected", query!("sum($0{state=\"unprotected\"})", CLUSTER_CONNECTIONS)),
        Panel::new("etcd answers", Look::Stat, "bool_yes_no", "No at a node: it cannot write, and takes nothing over; its tunnels run on.")
            .ask("{{instance}}", query!("$0", CLUSTER_ETCD)),
        Panel::new("Follows", Look::Stat, "bool_yes_no", "No at a node: what others write, of the configuration or of who is there, does not come in. Its log says why.")
            .ask("{{instance}}", query!("$0", CLUSTER_FOLLOWS)),
        Panel::new("Other nodes", Look::Table, "none", "By node: how many others etcd says are there, and how many of them answer it. Fewer is a node that is lost, or a network between them that is.")
            .ask("", query!("$0", CLUSTER_NODES)),
        Panel::new("Slots", Look::Stack, "none", "Of each node. They move when one goes, or by `culvert move slot`.")
            .ask("{{instance}} {{state}}", query!("$0", CLUSTER_SLOTS)),
        Panel::new("Connections", Look::Stack, "none", "Of each node.")
            .ask("{{instance}}", query!("sum by (instance) ($0)", CLUSTER_CONNECTIONS)),
        Panel::new("Slots that changed their node", Look::Lines, "ops", "By how: sudden where a node was gone, moved where it gave them away.")
            .ask("{{instance}} {{how}}", query!("rate($0[$__rate_interval])", CLUSTER_ARRIVALS)),
    ];
    let between = vec![
        Panel::new("Passed on", Look::Lines, "pps", "What landed on a node and is for a tunnel of another. Whoever is in front and spreads by addresses makes (N - 1) / N of all of it.")
            .ask("{{instance}} {{direction}}", query!("rate($0[$__rate_interval])", CLUSTER_PACKETS)),
        Panel::new("Passed on, octets", Look::Lines, "Bps", "The same in octets.")
            .ask("{{instance}} {{direction}}", query!("rate($0[$__rate_interval])", CLUSTER_BYTES)),
        Panel::new("Waiting for a standby", Look::Lines, "none", "Changes of tunnels that are on their way. What depends on them, such as an answer to a peer, waits as well.")
            .ask("{{instance}}", query!("$0", CLUSTER_WAITING)),
        Panel::new("Kept for others", Look::Lines, "none", "Connections and pairs of ESP SAs that a node could go on with.")
            .ask("{{instance}}", query!("$0", CLUSTER_KEPT_ROWS)),
        Panel::new("Memory for it", Look::Lines, "bytes", "Of what is kept for others.")
            .ask("{{instance}}", query!("$0", CLUSTER_KEPT)),
    ];
    Dashboard {
        uid: "culvert-cluster",
        title: "Culvert / Cluster",
        help: "The nodes as one: whether what happens to one of them would be noticed.",
        choices: Vec::new(),
        rows: vec![("Nodes", nodes), ("Between them", between)],
    }
}
