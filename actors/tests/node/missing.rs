//! A child without a Child SA is asked for wherever its tunnel is, and whoever was to begin with the peer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use actors::{HomeNews, HomeRule, Homes, Node, NodeConfig, Others, Taken};
use culvert_proto::v1;
use router::RouterConfig;
use snapshot::Handover;
use tenants::{Catalog, PeerName};

use crate::common::{catalog, create_peer, node_with, until};
use crate::moved::{OTHER, Place};
use crate::others::{Nodes, SLOT};

/// The peers are at home with another node, unless they are here.
struct OfAnother;

impl HomeRule for OfAnother {
    fn elsewhere(&self, _: u64, held: bool) -> Option<String> {
        (!held).then(|| "b".to_owned())
    }

    fn holder(&self, _: u64) -> Option<String> {
        None
    }

    fn hold(&self, _: u64, _: bool) {}
}

pub(crate) fn link() -> PeerName {
    "tenants/acme/peers/link".parse().unwrap()
}

fn child(name: &str, local: u8, remote: u8) -> v1::Child {
    v1::Child {
        name: name.into(),
        local_subnets: vec![format!("10.{local}.0.0/16")],
        remote_subnets: vec![format!("10.{remote}.0.0/16")],
        ..Default::default()
    }
}

/// One end of a tunnel, of which the far one asks for nothing but when it is told to.
pub(crate) fn end(is_near: bool, children: &[&str]) -> v1::Peer {
    let (here, there) = if is_near { (20, 30) } else { (30, 20) };
    let start = if is_near { v1::StartAction::Start } else { v1::StartAction::OnDemand };
    let child = |name: &&str| {
        let n = u8::from(**name == *"second");
        child(name, here + n, there + n)
    };
    v1::Peer {
        name: link().to_string(),
        local_identity: format!("hub{here}.example"),
        remote_identity: format!("hub{there}.example"),
        remote_addresses: vec![Ipv4Addr::LOCALHOST.to_string()],
        start_action: start.into(),
        children: children.iter().map(child).collect(),
        ..create_peer(0).peer.unwrap()
    }
}

pub(crate) fn with(peer: v1::Peer) -> Arc<Catalog> {
    let catalog = catalog();
    let request = v1::CreatePeerRequest {
        parent: "tenants/acme".into(),
        peer_id: "link".into(),
        peer: Some(peer),
        ..Default::default()
    };
    catalog.create_peer(&request).unwrap();
    catalog
}

pub(crate) fn update(catalog: &Catalog, peer: v1::Peer) {
    let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
    catalog.update_peer(&request).unwrap();
}

/// The children that have a pair.
pub(crate) fn paired(node: &Node) -> Vec<String> {
    let view = node.control().peer(&link());
    let children = view.iter().flat_map(|view| &view.children);
    let mut names: Vec<_> = children.map(|child| child.name.clone()).collect();
    names.sort();
    names
}

/// A far end on loopback, and where the near one is.
struct World {
    place: Place,
    far: Node,
    at_far: Arc<Catalog>,
    catalog: Arc<Catalog>,
    others: Nodes,
}

impl World {
    fn new(at_far: &[&str]) -> Self {
        let place = Place::that_begins();
        let at_far = with(end(false, at_far));
        let (remote_ike_port, remote_natt_port) = place.ports;
        let config = NodeConfig { remote_ike_port, remote_natt_port, ..NodeConfig::default() };
        let far = node_with(config, Arc::clone(&at_far));
        let catalog = with(end(true, &["lan", "second"]));
        Self { place, far, at_far, catalog, others: Nodes::with_standby() }
    }

    /// The near node.
    fn near(&self, slot: u8, homes: Homes) -> Node {
        let (remote_ike_port, remote_natt_port) = self.far.ports();
        let others = Others::new(Arc::new(self.others.clone()));
        let config =
            NodeConfig { slot, others, homes, remote_ike_port, remote_natt_port, ..NodeConfig::default() };
        let router = RouterConfig {
            listen: vec![self.place.address.into()],
            ike_port: self.place.ports.0,
            natt_port: self.place.ports.1,
            shards: 2,
            slot,
            ..RouterConfig::default()
        };
        Node::start(config, router, Arc::clone(&self.catalog)).unwrap()
    }

    fn far_has(&self, children: &[&str]) {
        update(&self.at_far, end(false, children));
    }

    /// All is there in the end, by the connection that was there before.
    async fn comes(self, near: Node) {
        let spi = |node: &Node| {
            let view = node.control().peer(&link());
            view.and_then(|view| view.ike.as_ref().map(|ike| ike.initiator_spi))
        };
        let before = spi(&self.far);
        until("both have a pair", || paired(&near) == ["lan", "second"]).await;
        assert_eq!((spi(&near), spi(&self.far)), (before, before), "the connection stays");
        near.shutdown().await;
        self.far.shutdown().await;
    }
}

fn of_another() -> Homes {
    Homes::new(OfAnother, HomeNews::default())
}

/// What the node that gives the tunnel has planned to ask for goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_side_has_deleted_is_asked_for_where_its_tunnel_has_come_to() {
    let world = World::new(&["lan", "second"]);
    let near = world.near(SLOT, Homes::default());
    until("both have a pair", || paired(&near) == ["lan", "second"]).await;
    world.far_has(&["lan"]);
    until("one is deleted", || paired(&near) == ["lan"]).await;
    let rows = near.control().give_slot(SLOT, None).await;
    near.shutdown().await;
    world.far_has(&["lan", "second"]);
    // Nobody has said yet that the tunnel is here when it comes.
    let near = world.near(OTHER, of_another());
    until("its actor is there", || near.control().peer(&link()).is_some()).await;
    let taken = near.control().take_slot(SLOT, rows, Handover::Exact).await;
    assert_eq!(taken, Taken { connections: 1, pairs: 1, lost: 0 });
    world.comes(near).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_does_not_ask_for_is_asked_for_where_it_is_not_at_home() {
    let world = World::new(&["lan"]);
    let near = world.near(SLOT, of_another());
    until("its actor is there", || near.control().peer(&link()).is_some()).await;
    world.far.control().initiate(&link(), None).await.unwrap();
    until("one of the two", || paired(&near) == ["lan"]).await;
    world.far_has(&["lan", "second"]);
    world.comes(near).await;
}
