//! What `culvert get` shows of a cluster: its nodes and slots, which node has what, and which one is away.

use culvert_proto::v1;
use tonic::metadata::MetadataMap;

use crate::console::beside::tell;
use crate::console::connect::Client;
use crate::console::failure::Failure;
use crate::console::table::{age, bytes, table};

/// The header that names nodes which were not there to answer.
const AWAY: &str = "culvert-nodes-away";

/// Warns of nodes that were not there to answer. What is shown is what the others know.
pub(crate) fn warn_of(away: &[String]) {
    if !away.is_empty() {
        let (names, is) = (away.join(", "), if away.len() == 1 { "is" } else { "are" });
        tell(format_args!("warning: {names} {is} away: what only they know is missing"));
    }
}

/// As [`warn_of`], of an answer that has no field for it.
pub(crate) fn warn_by(metadata: &MetadataMap) {
    let away = metadata.get(AWAY).and_then(|names| names.to_str().ok()).unwrap_or_default();
    let away: Vec<String> = away.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    warn_of(&away);
}

/// A table whose rows each are of a node, which is a column only where there are several.
pub(crate) fn table_of_nodes(header: &[&str], rows: Vec<(String, Vec<String>)>) -> String {
    if rows.iter().all(|(node, _)| node.is_empty()) {
        return table(header, rows.into_iter().map(|(_, row)| row).collect());
    }
    let mut header = header.to_vec();
    // Behind the name.
    header.insert(1.min(header.len()), "NODE");
    let with_node = |(node, mut row): (String, Vec<String>)| {
        row.insert(1.min(row.len()), node);
        row
    };
    table(&header, rows.into_iter().map(with_node).collect())
}

pub(super) fn nodes_table(nodes: &[v1::ClusterNode]) -> String {
    let row = |node: &v1::ClusterNode| {
        let name = if node.name.is_empty() { "(alone)" } else { &node.name };
        let marked = if node.answers && nodes.len() > 1 { format!("{name} *") } else { name.to_owned() };
        let slots = node.slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let state = match (node.away, node.drained) {
            (true, _) => "AWAY",
            (_, true) => "DRAINED",
            _ => "UP",
        };
        let peers = node.home_peers.to_string();
        let addresses = node.addresses.join(",");
        vec![marked, state.to_owned(), slots, addresses, peers, node.version.clone(), age(node.start_time)]
    };
    let header = ["NAME", "STATE", "SLOTS", "ADDRESSES", "BEGINS WITH", "VERSION", "AGE"];
    table(&header, nodes.iter().map(row).collect())
}

pub(super) async fn all_slots(client: &Client) -> Result<v1::ListSlotsResponse, Failure> {
    let answer = client.nodes().list_slots(v1::ListSlotsRequest {}).await;
    let answer = answer.map_err(|status| Failure::of_status(&status, "slots"))?.into_inner();
    warn_of(&answer.nodes_away);
    Ok(answer)
}

pub(super) fn slots_table(answer: &v1::ListSlotsResponse) -> String {
    let row = |slot: &v1::Slot| {
        let (owner, standby) = (slot.owner.clone(), slot.standby.clone());
        let ready = match (slot.standby.is_empty(), slot.ready) {
            (true, _) => "-",
            (_, true) => "yes",
            (_, false) => "no",
        };
        vec![
            slot.number.to_string(),
            if owner.is_empty() { "(alone)".to_owned() } else { owner },
            standby,
            ready.to_owned(),
            slot.connections.to_string(),
            slot.waiting_rows.to_string(),
            format!("{} in {}", bytes(slot.kept_octets), slot.kept_rows),
        ]
    };
    let header = ["SLOT", "OWNER", "STANDBY", "READY", "CONNECTIONS", "WAITING", "KEPT"];
    let mut text = table(&header, answer.slots.iter().map(row).collect());
    if answer.arrivals.len() > 1 {
        let row = |node: &v1::SlotArrivals| {
            vec![node.node.clone(), node.sudden.to_string(), node.exact.to_string()]
        };
        text.push_str("\n\n");
        text.push_str(&table(&["NODE", "TAKEN OVER", "MOVED IN"], answer.arrivals.iter().map(row).collect()));
    }
    text
}
