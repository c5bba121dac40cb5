//! What the nodes say: each knows its own tunnels, and what is shown is of all.

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

/// Asks every node that runs. One that goes in this moment says nothing.
pub(super) async fn look(nodes: &mut [Node], plan: &Plan) -> View {
    let (mut statuses, mut rows) = (BTreeMap::new(), Vec::new());
    for node in nodes {
        let said = match node.client().await {
            Some(client) => provision::statuses(&client, plan).await.ok(),
            None => None,
        };
        let said = said.unwrap_or_default();
        rows.push(row(node, said.values().map(|(status, _)| status)));
        for (name, (status, drops)) in said {
            let (known, all) = statuses.entry(name).or_default();
            *all += drops;
            // Where the tunnel is, rather than where it is not.
            if weight(&status) >= weight(known) {
                *known = status;
            }
        }
    }
    View { statuses, nodes: table(&["NODE", "ADDRESS", "STATE", "SLOTS", "TUNNELS"], rows) }
}

fn weight(status: &v1::PeerStatus) -> (bool, u64) {
    (!status.children.is_empty(), status.packets_in)
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
        let known = provision::statuses(&client, plan).await.unwrap_or_default();
        let runs = |status: &v1::PeerStatus| status.state() != v1::PeerState::Unspecified;
        if known.values().filter(|(status, _)| runs(status)).count() < plan.branches.len() {
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
