//! What any node of a cluster says and does of all, with nodes that are made up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;
#[path = "everywhere/events.rs"]
mod events;
#[path = "everywhere/lists.rs"]
mod lists;
#[path = "everywhere/named.rs"]
mod named;
#[path = "everywhere/orders.rs"]
mod orders;
#[path = "everywhere/tunnels.rs"]
mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use actors::{Happened, Whose};
use cluster::Placement;
use cluster::mesh::Incoming;
use common::{Node, create_peer, create_secret, create_tenant};
use culvert::access::Access;
use culvert::runtime::{HappenedStream, NoRuntime, RekeyTarget, Runtime, RuntimeError, Scope};
use culvert::server::serve_nodes;
use culvert::wide::{Others, Wide};
use culvert_proto::v1;
use latest::Latest as _;
use tenants::{Catalog, Peer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, broadcast, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tunnels::{BEFORE, Tunnels};

/// Nodes as one of them sees them; `gone` is there and not heard.
struct Three {
    placement: watch::Sender<Arc<Placement>>,
    doors: BTreeMap<&'static str, std::net::SocketAddr>,
    /// Those that are not in the placement, and are heard or have a slot.
    besides: Arc<Mutex<BTreeSet<&'static str>>>,
    /// Those that are not heard, though they have a door.
    silent: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Others for Three {
    fn placement(&self) -> watch::Receiver<Arc<Placement>> {
        self.placement.subscribe()
    }

    fn names(&self) -> BTreeSet<String> {
        let placement = self.placement.latest();
        let there = placement.nodes.iter().map(|node| node.name.clone());
        let besides = self.besides.lock().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        there.filter(|name| *name != placement.own).chain(besides).collect()
    }

    fn hears(&self, node: &str) -> bool {
        self.doors.contains_key(node) && !self.silent.lock().unwrap().contains(node)
    }

    fn channel(&self, node: &str, endpoint: &Endpoint) -> Channel {
        // Nobody listens on the first port.
        let nowhere = ([127, 0, 0, 1], 1).into();
        let door = self.doors.get(node).copied().unwrap_or(nowhere);
        let connect = move |_| async move {
            let stream = at_once(TcpStream::connect(door).await?)?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        };
        endpoint.connect_with_connector_lazy(tower::service_fn(connect))
    }

    fn incoming(&self) -> Option<Incoming> {
        None
    }
}

/// As with streams between nodes, no message waits for the one before it to be acknowledged.
fn at_once(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// `own` is asked, `other` is asked by it, and `gone` is away; `begins` is with which of them every peer is at home.
struct World {
    node: Node,
    own: Arc<Tunnels>,
    other: Arc<Tunnels>,
    placement: watch::Sender<Arc<Placement>>,
    besides: Arc<Mutex<BTreeSet<&'static str>>>,
    silent: Arc<Mutex<BTreeSet<&'static str>>>,
    uids: BTreeSet<u64>,
    catalog: Arc<Catalog>,
    catalog_of_other: Arc<Catalog>,
    _down: watch::Sender<bool>,
}

const PEERS: [&str; 3] = ["here", "there", "nowhere"];

/// What both nodes know.
fn catalog() -> Arc<Catalog> {
    let catalog = Arc::new(Catalog::in_memory().unwrap());
    catalog.create_tenant(&create_tenant("acme")).unwrap();
    catalog.create_secret(create_secret("acme", "psk", b"correct horse")).unwrap();
    for (n, peer) in PEERS.into_iter().enumerate() {
        let request = create_peer(common::peer("acme", peer, &format!("10.{}.0.0/16", n + 100)));
        catalog.create_peer(&request).unwrap();
    }
    catalog
}

async fn world(begins: &str) -> World {
    let (catalog, catalog_of_other) = (catalog(), catalog());
    let uid = |peer: &str| catalog.get_peer(&name(peer).parse().unwrap()).unwrap().uid;
    let uids: BTreeSet<_> = PEERS.into_iter().map(uid).collect();
    let node = |name: &str| cluster::Node {
        name: name.to_owned(),
        slot: 1,
        addresses: Vec::new(),
        version: String::new(),
        since: SystemTime::UNIX_EPOCH,
        mesh: None,
        instance: Vec::new(),
        drained: false,
    };
    let placement = Placement {
        nodes: ["gone", "other", "own"].map(node).into(),
        own: "own".to_owned(),
        held: [(begins.to_owned(), Arc::new(uids.iter().copied().collect()))].into(),
    };
    let (own, other) = (Tunnels::of(&["here"]), Tunnels::of(&["there"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let doors = [("other", listener.local_addr().unwrap())].into();
    let (down, is_down) = watch::channel(false);
    let door = TcpListenerStream::new(listener).map(|stream| stream.and_then(at_once));
    tokio::spawn(serve_nodes(
        door,
        Arc::clone(&catalog_of_other),
        Arc::clone(&other) as _,
        Arc::default(),
        is_down,
    ));
    let placement = watch::Sender::new(Arc::new(placement));
    let (besides, silent) = (Arc::default(), Arc::default());
    let three = Three {
        placement: placement.clone(),
        doors,
        besides: Arc::clone(&besides),
        silent: Arc::clone(&silent),
    };
    let wide = Wide::among(Arc::clone(&own) as _, Some(Arc::new(three)));
    let access = Access::open(Arc::clone(&catalog));
    let node = Node::wide(wide, Arc::clone(&catalog), access).await;
    World { node, own, other, placement, besides, silent, uids, catalog, catalog_of_other, _down: down }
}

impl World {
    /// All peers are at home with a node, for every other one is drained.
    fn lives(&self, name: &str) {
        self.placement.send_modify(|placement| {
            for node in &mut Arc::make_mut(placement).nodes {
                node.drained = node.name != name;
            }
        });
        let placement = self.placement.latest();
        assert!(self.uids.iter().all(|uid| placement.home(*uid).unwrap().name == name));
    }

    /// Both nodes say who is there, as it is now.
    fn tells_who_is_there(&self) {
        for tunnels in [&self.own, &self.other] {
            tunnels.placement.set(self.placement.latest()).unwrap();
        }
    }

    /// A node's lease runs out.
    fn lapse(&self, name: &str) {
        self.placement
            .send_modify(|placement| Arc::make_mut(placement).nodes.retain(|node| node.name != name));
    }
}

fn name(peer: &str) -> String {
    format!("tenants/acme/peers/{peer}")
}

#[tokio::test]
async fn what_the_others_know_is_shown_and_who_is_away_is_named() {
    let world = world("other").await;
    let request = v1::ListPeersRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let answer = world.node.peers().list_peers(request).await.unwrap().into_inner();
    assert_eq!(answer.nodes_away, ["gone"]);
    let shown: BTreeMap<String, (String, v1::PeerState, String)> = answer
        .peers
        .into_iter()
        .map(|peer| {
            let status = peer.status.unwrap();
            (peer.name, (status.node.clone(), status.state(), status.home_node))
        })
        .collect();
    let (up, waits, home) = (v1::PeerState::Established, v1::PeerState::Waiting, "other".to_owned());
    assert_eq!(shown[&name("here")], ("own".to_owned(), up, home.clone()));
    assert_eq!(shown[&name("there")], ("other".to_owned(), up, home.clone()));
    assert_eq!(shown[&name("nowhere")], ("other".to_owned(), waits, home), "it begins with it");

    // What is up at the node that is asked nobody else knows better.
    let away = |answer: &tonic::Response<v1::Peer>| {
        answer.metadata().get("culvert-nodes-away").map(|names| names.to_str().unwrap().to_owned())
    };
    let mut peers = world.node.peers();
    let here = peers.get_peer(v1::GetPeerRequest { name: name("here") }).await.unwrap();
    assert_eq!(away(&here), None);
    let there = peers.get_peer(v1::GetPeerRequest { name: name("there") }).await.unwrap();
    assert_eq!(away(&there).as_deref(), Some("gone"));

    let parent = "tenants/-".to_owned();
    let sas = world.node.sas().list_sas(v1::ListSasRequest { parent, ..Default::default() }).await.unwrap();
    let sas = sas.into_inner();
    let shown: Vec<_> = sas.sas.into_iter().map(|sa| (sa.peer, sa.node)).collect();
    assert_eq!(shown, [(name("here"), "own".to_owned()), (name("there"), "other".to_owned())]);
    assert_eq!(sas.nodes_away, ["gone"]);

    let told = peers.explain_peer(v1::ExplainPeerRequest { name: name("there") }).await.unwrap().into_inner();
    assert_eq!(told.status.unwrap().node, "other");
    let of: BTreeSet<String> = told.attempts.into_iter().map(|attempt| attempt.node).collect();
    assert_eq!((of.len(), told.nodes_away), (2, vec!["gone".to_owned()]));

    let names = vec![name("there"), name("nobody"), name("here")];
    let request = v1::BatchGetPeerStatusesRequest { names };
    let statuses = peers.batch_get_peer_statuses(request).await.unwrap().into_inner().statuses;
    let of: Vec<&str> = statuses.iter().map(|status| status.node.as_str()).collect();
    assert_eq!(of, ["other", "", "own"]);
    world.node.stop().await;
}

#[tokio::test]
async fn a_node_whose_lease_has_run_out_is_asked_as_long_as_it_is_heard_and_named_as_long_as_it_has_slots() {
    let world = world("other").await;
    world.lapse("other");
    world.lapse("gone");
    world.besides.lock().unwrap().extend(["other", "gone"]);
    let parent = "tenants/-".to_owned();
    let sas = world.node.sas().list_sas(v1::ListSasRequest { parent, ..Default::default() }).await.unwrap();
    let sas = sas.into_inner();
    let shown: Vec<_> = sas.sas.into_iter().map(|sa| (sa.peer, sa.node)).collect();
    assert_eq!(shown, [(name("here"), "own".to_owned()), (name("there"), "other".to_owned())]);
    assert_eq!(sas.nodes_away, ["gone"]);
    world.node.stop().await;
}
