//! Tunnels of a node that is gone go on at another, by what its standby was told.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use actors::{Node, NodeConfig, Others, PeerView, Taken};
use culvert_proto::v1;
use ike::config::Retransmit;
use latest::Latest as _;
use loadtest::{Command, InitiatorConfig};
use router::RouterConfig;
use snapshot::{Handover, Row};
use tenants::{Catalog, PeerName};

use crate::common::{Branch, LIMIT, branch_with, catalog, create_peer, until};
use crate::others::{Nodes, SLOT};

/// That which the other node begins with.
pub(crate) const OTHER: u8 = 2;
/// Below those that the system gives out, so that nobody else gets them between one node and the next. Each test of a process takes two.
static NEXT_PORT: AtomicU16 = AtomicU16::new(5_500);
/// The class of the rows of connections, and of pairs.
pub(crate) const CONNECTION: u8 = 1;
pub(crate) const PAIR: u8 = 2;

/// Where a node is, and after it the one that takes its place.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) ports: (u16, u16),
}

impl Place {
    /// No other process has this address, so none takes the ports while there is no node, even if it runs the same test.
    pub(crate) fn new() -> Self {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 64 | high & 63, middle, low);
        let port = NEXT_PORT.fetch_add(2, Ordering::Relaxed);
        Self { address, ports: (port, port + 1) }
    }

    /// Of a node that begins with somebody on this host, for which the system chooses the one address that all have. The ports are below those that the
    /// system gives out as well, begin at a place that few processes share, and are nobody's now.
    pub(crate) fn that_begins() -> Self {
        let address = Ipv4Addr::LOCALHOST;
        let is_free = |port: u16| UdpSocket::bind((address, port)).is_ok();
        let of_process = u16::try_from(std::process::id() % 10_000).unwrap();
        let mut places = (0..10_000).map(|n| 10_000 + 2 * ((of_process + n) % 10_000));
        let port = places.find(|&port| is_free(port) && is_free(port + 1)).unwrap();
        Self { address, ports: (port, port + 1) }
    }
}

/// A node, and the branches that have come to it.
pub(crate) struct Old {
    pub(crate) place: Place,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) node: Node,
    pub(crate) others: Nodes,
    pub(crate) branches: Vec<Branch>,
}

pub(crate) fn start(place: Place, slot: u8, others: &Nodes, catalog: &Arc<Catalog>) -> Node {
    start_with(NodeConfig { slot, ..NodeConfig::default() }, place, others, catalog)
}

/// The same, run in a way of its own.
pub(crate) fn start_with(config: NodeConfig, place: Place, others: &Nodes, catalog: &Arc<Catalog>) -> Node {
    let slot = config.slot;
    let config = NodeConfig { others: Others::new(Arc::new(others.clone())), ..config };
    let router = RouterConfig {
        listen: vec![place.address.into()],
        ike_port: place.ports.0,
        natt_port: place.ports.1,
        shards: 2,
        slot,
        ..RouterConfig::default()
    };
    Node::start(config, router, Arc::clone(catalog)).unwrap()
}

pub(crate) fn name(n: usize) -> PeerName {
    format!("tenants/acme/peers/b{n}").parse().unwrap()
}

pub(crate) fn view(node: &Node, n: usize) -> Option<Arc<PeerView>> {
    node.control().peer(&name(n))
}

/// Those of the IKE_SAs and of the pairs, as they are shown.
fn spis(node: &Node) -> BTreeSet<u64> {
    let of = |view: Arc<PeerView>| {
        let ike = view.ike.iter().flat_map(|ike| [ike.initiator_spi, ike.responder_spi]);
        let pairs = view.children.iter().flat_map(|child| [child.spi_in.into(), child.spi_out.into()]);
        ike.chain(pairs).collect::<Vec<u64>>()
    };
    (0..3).filter_map(|n| view(node, n)).flat_map(of).collect()
}

/// A connection is shown a moment before its pairs are, and both after the router has them.
async fn shows(node: &Node, before: &BTreeSet<u64>) {
    until("its SAs are shown as they were", || spis(node) == *before).await;
}

/// Packets that came in at a node, by its tenant's sum.
async fn carried_by(node: &Node) -> u64 {
    node.control().figures().await.carried.values().map(|carried| carried.packets_in).sum()
}

impl Old {
    /// Three branches are up, and send to each other.
    pub(crate) async fn new() -> Self {
        Self::of(|_| ()).await
    }

    /// The same of branches that are configured further.
    pub(crate) async fn of(configure: impl Fn(&mut InitiatorConfig)) -> Self {
        let (place, catalog, others) = (Place::new(), catalog(), Nodes::with_standby());
        let node = start(place, SLOT, &others, &catalog);
        let branch = |n| {
            branch_with(&node, n, |config| {
                config.server = place.address.into();
                configure(config);
            })
        };
        let mut branches: Vec<Branch> = (0..3).map(branch).collect();
        for branch in &mut branches {
            branch.until("up", |report| report.up).await;
            branch.commands.send(Command::Send(true)).await.unwrap();
        }
        for branch in &mut branches {
            branch.flows().await;
        }
        node.control().tell_progress().await;
        Self { place, catalog, node, others, branches }
    }

    /// It goes without a word to anybody, and another takes its place: what has come of that.
    pub(crate) async fn dies(
        self,
        change: impl FnOnce(&Catalog, &mut Vec<Row>),
    ) -> (Node, Vec<Branch>, Taken) {
        let mut rows = self.others.rows();
        // Its connections end as they would with it: nobody hears of that.
        self.node.control().lose_slot(SLOT, None).await;
        self.node.shutdown().await;
        change(&self.catalog, &mut rows);
        let node = start(self.place, OTHER, &self.others, &self.catalog);
        let peers = self.catalog.peers();
        until("their actors are there", || {
            peers.iter().all(|peer| node.control().peer(&peer.name).is_some())
        })
        .await;
        let taken = node.control().take_slot(SLOT, rows, Handover::Sudden).await;
        (node, self.branches, taken)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_goes_on_at_another_node_as_it_is() {
    let old = Old::new().await;
    let (before, others) = (spis(&old.node), old.others.clone());
    let (node, mut branches, taken) = old.dies(|_, _| others.forget()).await;
    assert_eq!(taken, Taken { connections: 3, pairs: 3, lost: 0 });
    // Somebody was told of the slot before they were there.
    let told = |class| others.rows().iter().filter(|row| row.class == class).count();
    until("the standby knows them with their pairs", || (told(CONNECTION), told(PAIR)) == (3, 3)).await;
    for branch in &mut branches {
        branch.flows().await;
    }
    shows(&node, &before).await;
    // Whoever has the Message IDs wrong gets no answer.
    for branch in &mut branches {
        branch.commands.send(Command::RekeyIke).await.unwrap();
        branch.commands.send(Command::RekeyChild).await.unwrap();
        branch.until("rekeyed", |report| report.ike_rekeys > 0 && report.child_rekeys > 0).await;
        branch.flows().await;
        let report = branch.report.latest();
        assert_eq!((report.established, report.unopened), (1, 0));
    }
    node.shutdown().await;
}

/// Each node numbers the tunnels of a peer by what it has seen of its configuration: what was another's is put where it belongs here.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_goes_on_where_children_have_other_numbers() {
    let old = Old::new().await;
    let (node, mut branches, taken) = old
        .dies(|catalog, _| {
            for n in 0..3 {
                let mut peer = create_peer(n).peer.unwrap();
                peer.name = name(n.into()).to_string();
                let second = v1::Child {
                    name: "second".into(),
                    local_subnets: vec!["10.0.0.0/8".into()],
                    remote_subnets: vec![format!("10.4{n}.0.0/16")],
                    ..Default::default()
                };
                peer.children.insert(0, second);
                let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
                catalog.update_peer(&request).unwrap();
            }
        })
        .await;
    assert_eq!(taken, Taken { connections: 3, pairs: 3, lost: 0 });
    for branch in &mut branches {
        branch.flows().await;
        assert_eq!(branch.report.latest().established, 1);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_given_is_as_it_was() {
    let Old { place, catalog, node, others, mut branches } = Old::new().await;
    let (before, carried) = (spis(&node), carried_by(&node).await);
    assert!(carried > 0);
    let rows = node.control().give_slot(SLOT, None).await;
    until("nothing is left", || spis(&node).is_empty() && node.control().connections_by_slot().is_empty())
        .await;
    let losses = |node: &Node| (0..3).map(|n| view(node, n).unwrap().losses).collect::<Vec<_>>();
    assert_eq!(losses(&node), [0; 3], "they were given");
    let here = carried_by(&node).await;
    assert!(
        here >= carried,
        "what has gone by here stays in the sum of the tenant: {here}, before {carried}"
    );
    node.shutdown().await;
    let node = start(place, OTHER, &others, &catalog);
    until("their actors are there", || (0..3).all(|n| view(&node, n).is_some())).await;
    let taken = node.control().take_slot(SLOT, rows, Handover::Exact).await;
    assert_eq!(taken, Taken { connections: 3, pairs: 3, lost: 0 });
    for branch in &mut branches {
        branch.flows().await;
        let report = branch.report.latest();
        assert_eq!((report.established, report.unopened), (1, 0));
    }
    shows(&node, &before).await;
    assert_eq!(losses(&node), [0; 3]);
    let there = carried_by(&node).await;
    let mut sent = 0;
    for branch in &mut branches {
        sent += branch.stops().await.sent;
    }
    assert!(there > 0 && here + there <= sent, "each packet is counted once: {here} and {there} of {sent}");
    node.shutdown().await;
}

/// The node that had the tunnels may not have heard of a change, or not have done all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_goes_on_by_what_is_configured_where_it_comes_to() {
    let old = Old::new().await;
    let other = "aes256gcm16";
    let (node, mut branches, taken) = old
        .dies(|catalog, _| {
            for n in 0..2 {
                let mut peer = create_peer(n).peer.unwrap();
                peer.name = name(n.into()).to_string();
                if n == 0 {
                    peer.children[0].esp_proposals = vec![other.into()];
                } else {
                    peer.children[0].name = "other".into();
                }
                let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
                catalog.update_peer(&request).unwrap();
            }
        })
        .await;
    assert_eq!((taken.connections, taken.pairs), (3, 3));
    let children = |n| view(&node, n).map(|view| view.children.clone()).unwrap_or_default();
    until(
        "a pair as it is configured now, and no other",
        || matches!(&children(0)[..], [child] if child.suite.starts_with(other)),
    )
    .await;
    until("none of what is not configured", || children(1).iter().all(|child| child.name != "lan")).await;
    assert_eq!(children(2).len(), 1);
    for branch in &mut branches {
        branch.until("its connection stays", |report| report.established == 1).await;
    }
    node.shutdown().await;
}

/// Peers may repeat what they have asked for after seconds only.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_slot_on_its_way_is_answered_once_it_has_come() {
    let patient = Retransmit { first: 10 * LIMIT, ..Retransmit::DEFAULT };
    let old = Old::of(|config| Arc::get_mut(&mut config.peer).unwrap().retransmit = patient).await;
    let Old { place, catalog, node, others, mut branches } = old;
    let rows = node.control().give_slot(SLOT, None).await;
    node.shutdown().await;
    let node = start(place, OTHER, &others, &catalog);
    until("their actors are there", || (0..3).all(|n| view(&node, n).is_some())).await;
    node.control().expect_slot(SLOT);
    for branch in &branches {
        branch.commands.send(Command::RekeyIke).await.unwrap();
    }
    let come = || node.control().node_status().counters["ike_received"];
    let asked = async {
        while come() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap();
    let taken = node.control().take_slot(SLOT, rows, Handover::Exact).await;
    assert_eq!(taken, Taken { connections: 3, pairs: 3, lost: 0 });
    for branch in &mut branches {
        branch.until("rekeyed", |report| report.ike_rekeys > 0).await;
        branch.flows().await;
        assert_eq!(branch.report.latest().established, 1);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_does_not_come_is_made_anew_and_its_connection_stays() {
    let old = Old::new().await;
    let lost = view(&old.node, 1).unwrap().children[0].spi_in;
    let (node, mut branches, taken) =
        old.dies(|_, rows| rows.retain(|row| row.class != PAIR || row.id != u64::from(lost))).await;
    assert_eq!(taken, Taken { connections: 3, pairs: 2, lost: 0 });
    for branch in &mut branches {
        branch.flows().await;
        assert_eq!(branch.report.latest().established, 1);
    }
    let children = || view(&node, 1).map(|view| view.children.clone()).unwrap_or_default();
    until("another pair", || children().iter().any(|child| child.spi_in != lost)).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_no_use_is_counted_and_the_rest_goes_on() {
    let old = Old::new().await;
    let (node, mut branches, taken) = old
        .dies(|catalog, rows| {
            // One is not configured any more, and what was told of another was altered on its way.
            let gone =
                v1::DeletePeerRequest { name: name(2).to_string(), ..v1::DeletePeerRequest::default() };
            let uid = catalog.get_peer(&name(1)).unwrap().uid;
            catalog.delete_peer(&gone).unwrap();
            let of_it = |row: &&mut Row| {
                let uid = prost_varint(uid);
                row.class == CONNECTION
                    && row.octets.as_ref().is_some_and(|octets| octets[28..].starts_with(&uid))
            };
            let row = rows.iter_mut().find(of_it).unwrap();
            *row.octets.as_mut().unwrap().last_mut().unwrap() ^= 1;
        })
        .await;
    assert_eq!((taken.connections, taken.lost), (1, 2));
    branches.truncate(2);
    let shows = |view: Arc<PeerView>| view.state == v1::PeerState::Established && !view.children.is_empty();
    until("shown", || view(&node, 0).is_some_and(shows)).await;
    let of_peers: BTreeSet<_> = node.control().all_sas().await.into_iter().map(|sa| sa.peer).collect();
    assert_eq!(of_peers, BTreeSet::from([name(0).to_string()]));
    assert_ne!(view(&node, 1).unwrap().state, v1::PeerState::Established);
    node.shutdown().await;
}

/// How the number of a peer begins the message of a connection's row: a field of its own.
fn prost_varint(uid: u64) -> Vec<u8> {
    let small = u8::try_from(uid).unwrap();
    assert!(small < 0x80);
    vec![0x08, small]
}
