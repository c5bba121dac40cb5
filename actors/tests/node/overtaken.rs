//! A change that makes a tunnel start afresh, and its node is gone before it has done so, or does not know of it.

use std::sync::Arc;

use actors::{Node, NodeConfig, Taken};
use culvert_proto::v1;
use snapshot::{Handover, Row};
use tenants::Catalog;

use crate::common::{also_has, branch_with, catalog, create_peer, node_with, until};
use crate::missing::{end, link, paired, update, with};
use crate::moved::{OTHER, Place, name, start, start_with, view};
use crate::others::{Nodes, SLOT};
use crate::wire::Wire;

/// The near end, which begins with nobody by itself.
fn near_end(change: impl FnOnce(&mut v1::Peer)) -> v1::Peer {
    let mut peer = end(true, &["lan"]);
    peer.start_action = v1::StartAction::None.into();
    change(&mut peer);
    peer
}

/// Its proposals are others.
fn otherwise(peer: &mut v1::Peer) {
    peer.ike.get_or_insert_default().proposals = vec!["aes256gcm16-prfsha384-ecp384".into()];
}

/// The SPI that an IKE_SA began with, whether this side did, and what was agreed on.
fn ike(node: &Node) -> Option<(u64, bool, String)> {
    let view = node.control().peer(&link())?;
    view.ike.as_ref().map(|ike| (ike.initiator_spi, ike.initiator, ike.proposal.clone()))
}

fn spi(node: &Node) -> Option<u64> {
    ike(node).map(|(spi, ..)| spi)
}

/// A far end on loopback that does nothing by itself either, and what it reaches the near one by.
struct World {
    place: Place,
    far: Node,
    wire: Wire,
    others: Nodes,
}

impl World {
    async fn new() -> Self {
        let place = Place::that_begins();
        let wire = Wire::to_ports(place.ports).await;
        let (remote_ike_port, remote_natt_port) = wire.ports;
        let config = NodeConfig { remote_ike_port, remote_natt_port, ..NodeConfig::default() };
        let far = node_with(config, with(end(false, &["lan"])));
        Self { place, far, wire, others: Nodes::with_standby() }
    }

    /// A near node.
    async fn near(&self, slot: u8, catalog: &Arc<Catalog>) -> Node {
        let (remote_ike_port, remote_natt_port) = self.far.ports();
        let config = NodeConfig { slot, remote_ike_port, remote_natt_port, ..NodeConfig::default() };
        let near = start_with(config, self.place, &self.others, catalog);
        until("its actor is there", || near.control().peer(&link()).is_some()).await;
        near
    }

    /// The same, once the tunnel is up at it.
    async fn near_up(&self, catalog: &Arc<Catalog>) -> (Node, u64) {
        let near = self.near(SLOT, catalog).await;
        self.far.control().initiate(&link(), None).await.unwrap();
        until("up", || paired(&near) == ["lan"]).await;
        let spi = spi(&near).unwrap();
        (near, spi)
    }

    /// It goes without a word.
    async fn dies(&self, near: Node) -> Vec<Row> {
        let rows = self.others.rows();
        near.control().lose_slot(SLOT, None).await;
        near.shutdown().await;
        rows
    }

    /// Another tunnel comes up, by what is configured now.
    async fn begins_anew(self, near: Node, before: u64) {
        let is_new = |(spi, begun_here, _)| spi != before && begun_here;
        until("another", || ike(&near).is_some_and(is_new) && paired(&near) == ["lan"]).await;
        assert_eq!(spi(&near), spi(&self.far));
        let (.., proposal) = ike(&near).unwrap();
        assert!(proposal.contains("ecp384"), "{proposal}");
        near.shutdown().await;
        self.far.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_was_there_for_is_carried_out_where_the_tunnel_comes_to() {
    let (world, catalog) = (World::new().await, with(near_end(|_| ())));
    let (near, before) = world.near_up(&catalog).await;
    let rows = world.dies(near).await;
    update(&catalog, near_end(otherwise));
    let near = world.near(OTHER, &catalog).await;
    let taken = near.control().take_slot(SLOT, rows, Handover::Sudden).await;
    assert_eq!(taken, Taken { connections: 1, pairs: 1, lost: 0 });
    world.begins_anew(near, before).await;
}

/// The old node has ended the tunnel, and has not heard that the peer knows: it would have called back then.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_half_done_is_brought_to_its_end() {
    let (world, catalog) = (World::new().await, with(near_end(|_| ())));
    let (near, before) = world.near_up(&catalog).await;
    world.wire.cut(true);
    update(&catalog, near_end(otherwise));
    until("it is ended", || ike(&near).is_none() && ike(&world.far).is_none()).await;
    let rows = world.dies(near).await;
    let near = world.near(OTHER, &catalog).await;
    let taken = near.control().take_slot(SLOT, rows, Handover::Sudden).await;
    assert_eq!(taken.connections, 1);
    world.wire.cut(false);
    world.begins_anew(near, before).await;
}

/// A node that has not heard yet of what the tunnel was agreed on by leaves it, and does not begin anew when it hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_stays_at_a_node_that_is_behind() {
    let (world, ahead, behind) = (World::new().await, with(near_end(|_| ())), with(near_end(|_| ())));
    update(&ahead, near_end(otherwise));
    let (near, before) = world.near_up(&ahead).await;
    let rows = near.control().give_slot(SLOT, None).await;
    near.shutdown().await;
    let near = world.near(OTHER, &behind).await;
    let taken = near.control().take_slot(SLOT, rows, Handover::Exact).await;
    assert_eq!(taken, Taken { connections: 1, pairs: 1, lost: 0 });
    until("it is here", || paired(&near) == ["lan"]).await;
    let stays = |near: &Node, far: &Node| {
        assert_eq!([spi(near), spi(far)], [Some(before); 2]);
    };
    stays(&near, &world.far);
    update(&behind, near_end(otherwise));
    // What has changed next is seen once that has been dealt with.
    update(
        &behind,
        near_end(|peer| {
            otherwise(peer);
            peer.children.push(end(true, &["second"]).children.remove(0));
        }),
    );
    until("the next change", || near.control().peer(&link()).is_some_and(|view| !view.last_error.is_empty()))
        .await;
    stays(&near, &world.far);
    // And one that is news to both is carried out.
    update(&behind, near_end(|peer| peer.remote_addresses.push("127.0.0.9".into())));
    until("it starts afresh", || spi(&near).is_some_and(|spi| spi != before)).await;
    near.shutdown().await;
    world.far.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_agreed_on_in_parts_is_agreed_on_anew_as_a_whole() {
    let (place, catalog, others) = (Place::new(), catalog(), Nodes::with_standby());
    let mut two_subnets = create_peer(5);
    two_subnets.peer.as_mut().unwrap().children[0].remote_subnets.push("10.6.0.0/16".into());
    catalog.create_peer(&two_subnets).unwrap();
    let node = start(place, SLOT, &others, &catalog);
    let mut gateway = branch_with(&node, 5, |config| {
        config.server = place.address.into();
        also_has(config, 6);
    });
    gateway.until("up", |r| r.up).await;
    let view = |node: &Node| view(node, 5).unwrap_or_default();
    until("two pairs", || view(&node).children.len() == 2).await;
    let rows = others.rows();
    node.control().lose_slot(SLOT, None).await;
    node.shutdown().await;
    let mut peer = two_subnets.peer.unwrap();
    peer.name = name(5).to_string();
    peer.children[0].esp_proposals = vec!["aes256gcm16".into()];
    update(&catalog, peer);
    let node = start(place, OTHER, &others, &catalog);
    until("its actor is there", || node.control().peer(&name(5)).is_some()).await;
    let taken = node.control().take_slot(SLOT, rows, Handover::Sudden).await;
    assert_eq!(taken, Taken { connections: 1, pairs: 2, lost: 0 });
    gateway.until("it is ended", |report| !report.up).await;
    until("nothing of it is left", || view(&node).ike.is_none() && view(&node).children.is_empty()).await;
    node.shutdown().await;
}
