//! Tenants with rules that name their peers: these hold for each peer that is there, whenever it came.

use std::sync::Arc;

use actors::{Node, Part};
use culvert_proto::v1;
use latest::Latest as _;
use loadtest::Command;
use tenants::Catalog;

use crate::common::{Branch, LIMIT, branch, catalog, create_peer, node, panics, until};

/// Whatever is for the network of one of these peers, or comes from there, goes through its tunnels.
fn rules(peers: &[u8]) -> v1::Policy {
    let rule = |n: &u8| v1::PolicyRule {
        name: format!("for-{n}"),
        action: v1::PolicyAction::Protect.into(),
        remote_subnets: vec![format!("10.{n}.0.0/16")],
        peer: format!("tenants/acme/peers/b{n}"),
        ..Default::default()
    };
    v1::Policy { rules: peers.iter().map(rule).collect() }
}

fn set(catalog: &Catalog, peers: &[u8], uplink: v1::uplink::Kind) {
    let tenant = v1::Tenant {
        name: "tenants/acme".into(),
        uplink: Some(v1::Uplink { kind: Some(uplink) }),
        policy: Some(rules(peers)),
        ..Default::default()
    };
    let request = v1::UpdateTenantRequest { tenant: Some(tenant), ..Default::default() };
    catalog.update_tenant(&request).unwrap();
}

fn hub() -> v1::uplink::Kind {
    v1::uplink::Kind::Hub(v1::uplink::Hub {})
}

/// Branches come to all three peers, and packets of each get to the next. One that meets an actor which is just being started again comes
/// once more, as any would.
async fn packets_pass(node: &Node) -> Vec<Branch> {
    let mut branches: Vec<Branch> = Vec::new();
    for n in 0..3 {
        branches.push(comes(node, n).await);
    }
    let pass = async {
        while branches.iter().any(|branch| branch.received() < 20) {
            for (n, branch) in (0..).zip(&mut branches) {
                if branch.report.has_changed().is_err() || !branch.report.latest().last_error.is_empty() {
                    *branch = comes(node, n).await;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    let passed = tokio::time::timeout(LIMIT, pass).await.is_ok();
    let reports: Vec<_> = branches.iter().map(|branch| branch.report.latest()).collect();
    assert!(passed, "{reports:?} {:?}", node.control().node_status().counters);
    branches
}

async fn comes(node: &Node, n: u8) -> Branch {
    let branch = branch(node, n);
    branch.commands.send(Command::Send(true)).await.unwrap();
    branch
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_the_peers_that_were_there_before_the_node() {
    let catalog = catalog();
    set(&catalog, &[0, 1, 2], hub());
    let node = node(catalog);
    let _there = packets_pass(&node).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_peers_that_come_later() {
    let catalog = catalog();
    set(&catalog, &[0, 1, 2], hub());
    let name = |n: u8| format!("tenants/acme/peers/b{n}");
    for n in [1, 2] {
        let request = v1::DeletePeerRequest { name: name(n), ..Default::default() };
        catalog.delete_peer(&request).unwrap();
    }
    let node = node(Arc::clone(&catalog));
    for n in [1, 2] {
        catalog.create_peer(&create_peer(n)).unwrap();
        let shown = || node.control().peer(&name(n).parse().unwrap()).is_some();
        until("it is there", shown).await;
    }
    let _there = packets_pass(&node).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_their_peers_after_the_uplink_has_changed_and_after_a_panic() {
    let catalog = catalog();
    set(&catalog, &[0, 1, 2], hub());
    let node = node(Arc::clone(&catalog));
    let nowhere = v1::uplink::Tun { device: "nothing-of-that".into(), ..Default::default() };
    set(&catalog, &[0, 1, 2], v1::uplink::Kind::Tun(nowhere));
    set(&catalog, &[0, 1, 2], hub());
    drop(packets_pass(&node).await);
    assert!(node.inject_panic(&Part::Tenant(catalog.tenants().first().unwrap().number)));
    until("it has panicked", || panics(&node) == 1).await;
    let _there = packets_pass(&node).await;
    node.shutdown().await;
}
