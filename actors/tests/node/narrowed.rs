//! A peer that takes a Child SA for each subnet rather than one for the policy (RFC 7296 section 2.9).

use std::net::Ipv4Addr;

use loadtest::Command;

use crate::common::{also_has, branch_with, catalog, create_peer, node, until};

/// Packets for every subnet of the policy go by the pair that carries it.
#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_policy_carries_its_own_packets() {
    let catalog = catalog();
    let mut two_subnets = create_peer(5);
    two_subnets.peer.as_mut().unwrap().children[0].remote_subnets.push("10.6.0.0/16".into());
    catalog.create_peer(&two_subnets).unwrap();
    let node = node(catalog);

    let mut gateway = branch_with(&node, 5, |config| {
        also_has(config, 6);
    });
    gateway.until("up", |r| r.up).await;
    let name: tenants::PeerName = "tenants/acme/peers/b5".parse().unwrap();
    until("two pairs", || {
        let view = node.control().peer(&name);
        let names = view.map(|view| view.children.iter().map(|child| child.name.clone()).collect::<Vec<_>>());
        names.is_some_and(|mut names| {
            names.sort();
            names == ["lan", "lan/1"]
        })
    })
    .await;
    // One branch sends to the first subnet, another to the second: both arrive.
    for (n, subnet) in [(0, 5), (1, 6)] {
        let mut sender = branch_with(&node, n, |config| {
            config.destination = Ipv4Addr::new(10, subnet, 0, 1);
            config.flow.to = 5;
        });
        sender.until("up", |r| r.up).await;
        sender.commands.send(Command::Send(true)).await.unwrap();
        gateway.flows().await;
        sender.vanish().await;
    }
    node.shutdown().await;
}
