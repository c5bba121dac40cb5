//! What a pair carries before its actor is there.

use actors::NodeConfig;
use loadtest::Command;

use crate::common::{Branch, branch_with, catalog, node_with};

/// The peer sends by its new pair as soon as it has our answer. That it does is what has us send by it as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_of_a_pair_is_heard_however_soon_it_comes() {
    let node = node_with(NodeConfig { arbiters: 1, ..NodeConfig::default() }, catalog());
    let mut branches: Vec<Branch> =
        (0..3).map(|n| branch_with(&node, n, |config| config.rate = 2_000)).collect();
    for branch in &mut branches {
        branch.commands.send(Command::Send(true)).await.unwrap();
        branch.until("up", |r| r.up).await;
    }
    for rekeys in 1..=30 {
        for branch in &mut branches {
            branch.commands.send(Command::RekeyChild).await.unwrap();
        }
        for branch in &mut branches {
            branch.until("rekeyed", |r| r.child_rekeys >= rekeys).await;
        }
    }
    let counters = node.control().node_status().counters;
    assert_eq!(counters.get("router_events_stale"), Some(&0));
    node.shutdown().await;
}
