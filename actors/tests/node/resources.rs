//! One tunnel between two nodes, carried by both shards of each (RFC 9611).

use std::net::Ipv4Addr;
use std::sync::Arc;

use actors::{Control, Node, NodeConfig, RekeyTarget};
use culvert_proto::v1;
use loadtest::Command;
use tenants::{Catalog, PeerName};

use crate::common::{Branch, branch_with, catalog, create_peer, node_with, until_shown};

/// The tunnel from one node to the other, where each has two branches of these numbers.
fn link(here: [u8; 2], there: [u8; 2], calls: bool, sas: u32) -> v1::Peer {
    let nets = |numbers: [u8; 2]| numbers.map(|n| format!("10.{n}.0.0/16")).to_vec();
    let mut peer = create_peer(0).peer.unwrap();
    peer.local_identity = format!("hub{}.example", here[0]);
    peer.remote_identity = format!("hub{}.example", there[0]);
    peer.remote_addresses = vec!["127.0.0.1".into()];
    let start = if calls { v1::StartAction::Start } else { v1::StartAction::None };
    peer.start_action = start.into();
    peer.children[0].local_subnets = nets(here);
    peer.children[0].remote_subnets = nets(there);
    peer.children[0].resource_sas = sas;
    peer
}

fn name(id: &str) -> PeerName {
    format!("tenants/acme/peers/{id}").parse().unwrap()
}

/// A catalog with a link, and the branches that it leads to or from.
fn with_link(here: [u8; 2], there: [u8; 2], calls: bool) -> Arc<Catalog> {
    let catalog = catalog();
    for n in 0..3 {
        let name = name(&format!("b{n}")).to_string();
        catalog.delete_peer(&v1::DeletePeerRequest { name, ..Default::default() }).unwrap();
    }
    for n in here {
        catalog.create_peer(&create_peer(n)).unwrap();
    }
    let request = v1::CreatePeerRequest {
        parent: "tenants/acme".into(),
        peer_id: "link".into(),
        peer: Some(link(here, there, calls, 64)),
        ..Default::default()
    };
    catalog.create_peer(&request).unwrap();
    catalog
}

async fn children(control: &Control, peer: &str) -> Vec<v1::ChildSa> {
    let sas = control.sas_of(&[name(peer)]).await;
    let mut children: Vec<_> = sas
        .into_iter()
        .filter_map(|sa| match sa.kind {
            Some(v1::sa::Kind::Child(child)) => Some(child),
            _ => None,
        })
        .collect();
    children.sort_by_key(|child| child.resource);
    children
}

/// Branch `n` of a node, which sends to branch `to` of the other; it is on this shard.
async fn branch_on(node: &Node, shard: u32, n: u8, to: u8) -> Branch {
    for host in 2..60 {
        let source = Ipv4Addr::new(127, 0, n + 1, host).into();
        let mut branch = branch_with(node, n, |config| {
            config.source = Some(source);
            config.destination = Ipv4Addr::new(10, to, 0, 1);
            config.flow.to = to.into();
        });
        branch.until("up", |r| r.up).await;
        let control = node.control();
        // This one, and not the one before.
        let from = || control.peer(&name(&format!("b{n}")))?.ike.as_ref().map(|ike| ike.remote.ip());
        until_shown("the branch is up", async || {
            from() == Some(source) && children(&control, &format!("b{n}")).await.len() == 1
        })
        .await;
        if children(&control, &format!("b{n}")).await.iter().all(|child| child.shard == shard) {
            branch.commands.send(Command::Send(true)).await.unwrap();
            return branch;
        }
        branch.vanish().await;
    }
    panic!("no address is for shard {shard}");
}

/// By both pairs of the link more has come and gone.
async fn both_carry(nodes: [&Node; 2]) {
    for node in nodes {
        let control = node.control();
        let before = children(&control, "link").await;
        until_shown("both pairs carry packets", async || {
            let now = children(&control, "link").await;
            let more = |child: &v1::ChildSa| {
                let old = before.iter().find(|old| old.inbound_spi == child.inbound_spi);
                let (came, went) = old.map_or((0, 0), |old| (old.packets_in, old.packets_out));
                child.packets_in > came + 20 && child.packets_out > went + 20
            };
            now.len() == 2 && now.iter().all(more)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_shards_carry_one_tunnel() {
    let (here, there) = ([0, 1], [8, 9]);
    let there_catalog = with_link(there, here, false);
    let far = node_with(NodeConfig::default(), there_catalog);
    let (remote_ike_port, remote_natt_port) = far.ports();
    let config = NodeConfig { remote_ike_port, remote_natt_port, ..Default::default() };
    let here_catalog = with_link(here, there, true);
    let near = node_with(config, here_catalog.clone());
    let mut branches = Vec::new();
    for (shard, (n, to)) in (0..).zip([(0, 8), (1, 9)]) {
        branches.push(branch_on(&near, shard, n, to).await);
        branches.push(branch_on(&far, shard, to, n).await);
    }
    both_carry([&near, &far]).await;
    for node in [&near, &far] {
        let pairs = children(&node.control(), "link").await;
        assert!(pairs.iter().all(|child| child.name == "lan"));
        assert_eq!(pairs.iter().map(|child| child.resource).collect::<Vec<_>>(), [0, 1]);
        assert_ne!(pairs[0].shard, pairs[1].shard);
    }

    // Rekeyed, each pair stays on its shard.
    let shards = |pairs: &[v1::ChildSa]| pairs.iter().map(|child| child.shard).collect::<Vec<_>>();
    let before = children(&near.control(), "link").await;
    near.control().rekey(&name("link"), RekeyTarget::Child("lan".into())).await.unwrap();
    both_carry([&near, &far]).await;
    let after = children(&near.control(), "link").await;
    assert_eq!(shards(&before), shards(&after));
    assert!(after.iter().all(|child| before.iter().all(|old| old.inbound_spi != child.inbound_spi)));

    // With one pair for all, what is there stays and carries everything.
    let shared = after[0].inbound_spi;
    let mut peer = link(here, there, true, 1);
    peer.name = name("link").to_string();
    let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
    here_catalog.update_peer(&request).unwrap();
    let control = near.control();
    until_shown("one pair is left", async || {
        let left = children(&control, "link").await;
        left.len() == 1 && left[0].inbound_spi == shared
    })
    .await;
    for branch in &mut branches {
        branch.flows().await;
    }
    near.shutdown().await;
    far.shutdown().await;
}
