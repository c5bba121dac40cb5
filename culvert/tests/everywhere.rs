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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use cluster::Placement;
use cluster::mesh::Incoming;
use common::{Node, create_peer, create_secret, create_tenant};
use culvert::access::Access;
use culvert::runtime::{EventStream, NoRuntime, RekeyTarget, Runtime, RuntimeError, Scope};
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

/// The tunnels of one made-up node.
struct Tunnels {
    up: BTreeSet<&'static str>,
    /// Beside those of the tunnels that are up.
    sas: Mutex<Vec<v1::Sa>>,
    /// As the node tells it.
    placement: OnceLock<Arc<Placement>>,
    /// Who answers for which slot, as far as it knows.
    owners: Mutex<BTreeMap<u8, String>>,
    /// How often it is asked before slot 1 has come, and all that is in it; `None` if it does not say which slots it has.
    comes_in: Mutex<Option<usize>>,
    orders: Mutex<Vec<String>>,
    /// The next one to rekey a tunnel or take it down, or to drain the node, is not done before that.
    gate: Mutex<Option<Arc<Notify>>>,
    /// The next one, with this reason.
    refuses: Mutex<Option<RuntimeError>>,
    /// All there were, and where those come that happen now.
    events: Mutex<(Vec<v1::Event>, broadcast::Sender<v1::Event>)>,
    /// How many of those that there had been were read.
    read: Arc<AtomicUsize>,
}

/// The number of the last event before the first.
const BEFORE: u64 = 5;

impl Tunnels {
    fn of(up: &[&'static str]) -> Arc<Self> {
        let events = Mutex::new((Vec::new(), broadcast::channel(16).0));
        Arc::new(Self {
            up: up.iter().copied().collect(),
            sas: Mutex::default(),
            placement: OnceLock::new(),
            owners: Mutex::default(),
            comes_in: Mutex::default(),
            orders: Mutex::default(),
            gate: Mutex::default(),
            refuses: Mutex::default(),
            events,
            read: Arc::default(),
        })
    }

    fn happens(&self, event: v1::Event) {
        let (kept, live) = &mut *self.events.lock().unwrap();
        kept.push(event.clone());
        live.send(event).unwrap();
    }

    /// Streams end, and this happens before another begins.
    fn happens_unseen(&self, event: v1::Event) {
        let (kept, live) = &mut *self.events.lock().unwrap();
        kept.push(event);
        *live = broadcast::channel(16).0;
    }

    fn watchers(&self) -> usize {
        self.events.lock().unwrap().1.receiver_count()
    }

    /// Whether it has not come yet.
    fn waits(&self) -> bool {
        let mut comes_in = self.comes_in.lock().unwrap();
        let waits = comes_in.is_some_and(|times| times > 0);
        *comes_in = comes_in.map(|times| times.saturating_sub(1));
        waits
    }

    fn status(&self, peer: &Peer) -> v1::PeerStatus {
        let up = self.up.contains(peer.name.to_string().rsplit('/').next().unwrap());
        let state = if up { v1::PeerState::Established } else { v1::PeerState::Waiting };
        v1::PeerStatus { state: state.into(), ..v1::PeerStatus::default() }
    }

    fn order(&self, what: &str, peer: &Peer) -> Result<v1::PeerStatus, RuntimeError> {
        match self.refuses.lock().unwrap().take() {
            Some(error) => return Err(error),
            None => self.orders.lock().unwrap().push(what.to_owned()),
        }
        Ok(self.status(peer))
    }

    /// Until the next one may be done.
    async fn at_gate(&self) {
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.notified().await;
        }
    }

    /// The next order is refused.
    fn refuse(&self, error: RuntimeError) {
        *self.refuses.lock().unwrap() = Some(error);
    }

    /// Waits until this is the only thing that was ordered.
    async fn until_told(&self, what: &str) {
        let told = async {
            loop {
                match self.orders().as_slice() {
                    [] => tokio::task::yield_now().await,
                    orders => return assert_eq!(orders, [what]),
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), told).await.unwrap();
    }

    fn orders(&self) -> Vec<String> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }
}

#[tonic::async_trait]
impl Runtime for Tunnels {
    fn health(&self) -> watch::Receiver<actors::Health> {
        NoRuntime.health()
    }

    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        let sa = |up: &&str| v1::Sa { peer: format!("tenants/acme/peers/{up}"), ..v1::Sa::default() };
        if self.waits() {
            return Ok(Vec::new());
        }
        let all = self.up.iter().map(sa).chain(self.sas.lock().unwrap().clone());
        Ok(all.filter(|sa| scope.covers(&sa.peer)).collect())
    }

    fn watch(&self, after: u64) -> Result<EventStream, RuntimeError> {
        let (kept, live) = &*self.events.lock().unwrap();
        if (1..BEFORE).contains(&after) {
            return Err(RuntimeError::Lagged(BEFORE));
        }
        let missed: Vec<v1::Event> =
            kept.iter().filter(|event| after > 0 && event.sequence > after).cloned().collect();
        let live = BroadcastStream::new(live.subscribe()).filter_map(Result::ok);
        let read = Arc::clone(&self.read);
        let missed = missed.into_iter().inspect(move |_| {
            read.fetch_add(1, Ordering::Relaxed);
        });
        Ok(Box::pin(tokio_stream::iter(missed).chain(live).map(Ok)))
    }

    fn last_event(&self) -> u64 {
        self.events.lock().unwrap().0.last().map_or(BEFORE, |event| event.sequence)
    }

    fn cluster(&self) -> Option<Arc<Placement>> {
        self.placement.get().cloned()
    }

    fn slots(&self) -> v1::ListSlotsResponse {
        let slot = |(number, owner)| v1::Slot { number: u32::from(number), owner, ..v1::Slot::default() };
        let slots = self.owners().into_iter().map(slot).collect();
        v1::ListSlotsResponse { slots, ..v1::ListSlotsResponse::default() }
    }

    async fn move_slot(&self, slot: u8, to: &str) -> Result<v1::MovedSlot, RuntimeError> {
        Err(RuntimeError::Refused(format!("{slot} is not for {to}")))
    }

    async fn drain(&self) -> Result<v1::DrainNodeResponse, RuntimeError> {
        self.orders.lock().unwrap().push("drain".to_owned());
        self.at_gate().await;
        Ok(v1::DrainNodeResponse::default())
    }

    fn owners(&self) -> BTreeMap<u8, String> {
        self.owners.lock().unwrap().clone()
    }

    fn settled(&self) -> Option<BTreeSet<u8>> {
        let comes_in = *self.comes_in.lock().unwrap();
        comes_in.map(|times| if times == 0 { [1].into() } else { BTreeSet::new() })
    }

    async fn node_status(&self) -> v1::NodeStatus {
        v1::NodeStatus::default()
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        if self.waits() {
            return peers.iter().map(|_| Some(v1::PeerStatus::default())).collect();
        }
        peers.iter().map(|peer| Some(self.status(peer))).collect()
    }

    async fn send_dummies(&self, peer: Arc<Peer>, _: u16, _: u16) -> Result<u32, RuntimeError> {
        self.order("dummies", &peer).map(|_| 1)
    }

    async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        let status = Some(self.status(&peer));
        let attempts = vec![v1::Attempt::default()];
        Ok(v1::ExplainPeerResponse { status, attempts, ..v1::ExplainPeerResponse::default() })
    }

    async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        self.order("initiate", &peer)?;
        Err(RuntimeError::Failed("the peer does not answer".to_owned()))
    }

    async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        let status = self.order(by, &peer);
        self.at_gate().await;
        status
    }

    async fn terminate_held(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        let status = self.order(&format!("held: {by}"), &peer);
        self.at_gate().await;
        status
    }

    async fn let_be(&self, peer: Arc<Peer>) -> Result<(), RuntimeError> {
        self.order("let be", &peer).map(drop)
    }

    async fn rekey(&self, peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        let status = self.order(&format!("{target:?}"), &peer);
        self.at_gate().await;
        status
    }
}

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
        held: [(begins.to_owned(), Arc::new(uids.clone()))].into(),
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
