//! A peer that takes a Child SA for each subnet rather than one for the policy (RFC 7296 section 2.9).

use std::net::Ipv4Addr;

use actors::Node;
use culvert_proto::v1;
use loadtest::Command;

use crate::common::{also_has, branch_with, catalog, create_peer, node, until};

/// The names of the Child SAs of this peer.
fn children(node: &Node, peer: &str) -> Vec<String> {
    let view = node.control().peer(&peer.parse().unwrap());
    let mut names: Vec<String> =
        view.map(|view| view.children.iter().map(|child| child.name.clone()).collect()).unwrap_or_default();
    names.sort();
    names
}

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
    let name = "tenants/acme/peers/b5";
    until("two pairs", || children(&node, name) == ["lan", "lan/1"]).await;
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

/// A child that comes is no affair of the parts of another: all that is up stays. One that is changed itself is agreed on anew as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn parts_stay_as_they_are_when_another_child_comes() {
    let catalog = catalog();
    let mut two_subnets = create_peer(5);
    two_subnets.peer.as_mut().unwrap().children[0].remote_subnets.push("10.6.0.0/16".into());
    catalog.create_peer(&two_subnets).unwrap();
    let node = node(catalog.clone());
    let mut gateway = branch_with(&node, 5, |config| {
        also_has(config, 6);
        also_has(config, 40);
    });
    gateway.until("up", |r| r.up).await;
    let name = "tenants/acme/peers/b5";
    until("two pairs", || children(&node, name).starts_with(&["lan".into(), "lan/1".into()])).await;
    let view = || node.control().peer(&name.parse().unwrap()).unwrap();
    let spis = || {
        let mut spis: Vec<u32> = view().children.iter().map(|child| child.spi_in).collect();
        spis.sort_unstable();
        spis
    };
    let ike = || view().ike.as_ref().map(|ike| (ike.initiator_spi, ike.responder_spi));
    let (first, before) = (ike(), spis());

    let update = |change: fn(&mut v1::Peer)| {
        let mut peer = two_subnets.peer.clone().unwrap();
        peer.name = name.to_owned();
        let second = v1::Child {
            name: "second".into(),
            local_subnets: vec!["10.0.0.0/8".into()],
            remote_subnets: vec!["10.40.0.0/16".into()],
            ..Default::default()
        };
        peer.children.insert(0, second);
        change(&mut peer);
        catalog.update_peer(&v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() }).unwrap();
    };
    update(|_| {});
    until("another child", || children(&node, name).contains(&"second".to_owned())).await;
    assert_eq!(ike(), first, "the IKE SA stays");
    assert!(before.iter().all(|spi| spis().contains(spi)), "the pairs stay");
    update(|peer| peer.children[1].esp_proposals = vec!["aes256gcm16".into()]);
    until("it starts afresh", || ike() != first).await;
    node.shutdown().await;
}
