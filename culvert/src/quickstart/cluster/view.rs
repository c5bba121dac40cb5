//! What the nodes say: any of them says it of all.

use std::collections::{BTreeMap, BTreeSet};

use culvert_proto::v1;
use esp::Spi;

use super::node::Node;
use crate::console::table::table;
use crate::quickstart::fleet::Fleet;
use crate::quickstart::plan::Plan;
use crate::quickstart::provision;

/// What was seen at one look.
pub(super) struct View {
    pub(super) statuses: BTreeMap<String, (v1::PeerStatus, u64)>,
    /// The nodes, as a table.
    pub(super) nodes: String,
}

/// Asks the nodes in turn until one knows of all tunnels. One that goes in this moment says nothing, and one that has only just come has
/// not heard of all others.
pub(super) async fn look(nodes: &mut [Node], plan: &Plan) -> View {
    let (mut statuses, mut up) = (BTreeMap::new(), 0);
    for node in nodes.iter_mut() {
        let Some(client) = node.client().await else { continue };
        let Ok(said) = provision::statuses(&client, plan).await else { continue };
        let of_this = said.values().filter(|(status, _)| !status.children.is_empty()).count();
        if of_this > up || statuses.is_empty() {
            (statuses, up) = (said, of_this);
        }
        if up >= plan.branches.len() {
            break;
        }
    }
    let row_of = |node: &Node| {
        let statuses = statuses.values().map(|(status, _)| status);
        row(node, statuses.filter(|status| status.node == node.name))
    };
    let rows = nodes.iter().map(row_of).collect();
    View { nodes: table(&["NODE", "ADDRESS", "STATE", "SLOTS", "TUNNELS"], rows), statuses }
}

fn row<'a>(node: &Node, statuses: impl Iterator<Item = &'a v1::PeerStatus>) -> Vec<String> {
    let up: Vec<&v1::PeerStatus> = statuses.filter(|status| !status.children.is_empty()).collect();
    // The SPI that a node has chosen names the slot, wherever the tunnel is now.
    let slots: BTreeSet<u8> =
        up.iter().flat_map(|status| &status.children).map(|child| Spi(child.inbound_spi).slot()).collect();
    let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
    let tunnels = up.len().to_string();
    vec![
        node.name.clone(),
        node.address.to_string(),
        node.state().name().to_owned(),
        slots.join(","),
        tunnels,
    ]
}

/// Whether each node knows all the others and every branch.
pub(super) async fn all_know_all(nodes: &mut [Node], plan: &Plan) -> bool {
    let count = nodes.len();
    for node in nodes {
        let Some(client) = node.client().await else { return false };
        let others = client.nodes().list_nodes(v1::ListNodesRequest {}).await;
        if others.map_or(0, |others| others.into_inner().nodes.len()) < count {
            return false;
        }
        let known = client.nodes().get_node_status(v1::GetNodeStatusRequest {}).await;
        let known = known.map_or(0, |known| known.into_inner().peers);
        if known < plan.branches.len() as u64 {
            return false;
        }
    }
    true
}

/// Counters that are not zero, of the nodes that run together.
pub(super) async fn counters(nodes: &mut [Node]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for node in nodes {
        let Some(client) = node.client().await else { continue };
        for (name, count) in provision::counters(&client).await.unwrap_or_default() {
            *all.entry(name).or_default() += count;
        }
    }
    all
}

impl View {
    /// What a branch has seen of rekeyings goes for what a node has that took the tunnel over in between.
    pub(super) fn count_rekeys(&mut self, plan: &Plan, fleet: &Fleet) {
        for (branch, report) in plan.branches.iter().zip(fleet.reports()) {
            let (status, _) = self.statuses.entry(branch.name.clone()).or_default();
            status.child_rekeys = status.child_rekeys.max(report.child_rekeys);
            status.ike_rekeys = status.ike_rekeys.max(report.ike_rekeys);
        }
    }
}
