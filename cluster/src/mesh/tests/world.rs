//! What the tests have in common: nodes that know each other, what they answer, and a way between two that can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use latest::Follow as _;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use crate::members::{Node, Placement};
use crate::mesh::{
    Answer, Bound, Credentials, Handler, Lane, Mesh, MeshError, Settings, Standing, Standings,
};

/// The key of the secrets that all nodes have unless a test says otherwise.
pub(super) const SECRET: [u8; 32] = [7; 32];
/// More than anything here takes on any machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Packets as they came: from whom, kind, octets.
pub(super) type Packets = mpsc::UnboundedReceiver<(String, u8, Bytes)>;

/// Answers with what it was asked, the kind before it; kind 99 says no.
struct Echo(mpsc::UnboundedSender<(String, u8, Bytes)>);

impl Handler for Echo {
    fn ask<'a>(&'a self, from: &'a str, _lane: Lane, kind: u16, body: Bytes) -> Answer<'a> {
        Box::pin(async move {
            if kind == 99 {
                return Err(format!("not for {from}"));
            }
            Ok([&kind.to_be_bytes(), &*body].concat().into())
        })
    }

    fn packet(&self, from: &str, kind: u8, packet: Bytes) {
        let _ = self.0.send((from.to_owned(), kind, packet));
    }
}

/// A node of a test.
pub(super) struct Member {
    pub(super) mesh: Mesh,
    pub(super) packets: Packets,
}

/// A socket, and how others are told of it.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) bound: Bound,
}

pub(super) fn place(name: &'static str) -> Place {
    Place { name, bound: Bound::bind(([127, 0, 0, 1], 0).into()).unwrap() }
}

/// Who is where, as a node of this name sees it.
pub(super) fn placement(own: &str, nodes: &BTreeMap<&str, SocketAddr>) -> Placement {
    let node = |(name, mesh): (&&str, &SocketAddr)| Node {
        name: (*name).to_owned(),
        slot: 1,
        addresses: Vec::new(),
        version: String::new(),
        since: SystemTime::UNIX_EPOCH,
        mesh: Some(*mesh),
        instance: Vec::new(),
        drained: false,
    };
    Placement { nodes: nodes.iter().map(node).collect(), own: own.to_owned(), ..Placement::default() }
}

pub(super) fn start_with(
    place: Place,
    credentials: Credentials,
    placement: watch::Receiver<Arc<Placement>>,
    handler: Arc<dyn Handler>,
) -> Mesh {
    let settings = Settings { name: place.name.to_owned(), instance: place.name.into(), credentials };
    Mesh::start(place.bound, settings, placement, handler).unwrap()
}

/// A node with these credentials that knows these others.
pub(super) fn start(place: Place, credentials: Credentials, nodes: &BTreeMap<&str, SocketAddr>) -> Member {
    let (sender, packets) = mpsc::unbounded_channel();
    let (_, placement) = watch::channel(Arc::new(placement(place.name, nodes)));
    Member { mesh: start_with(place, credentials, placement, Arc::new(Echo(sender))), packets }
}

/// Nodes of one cluster, all connected.
pub(super) async fn cluster<const N: usize>(names: [&'static str; N]) -> [Member; N] {
    let places = names.map(place);
    let nodes = places.iter().map(|place| (place.name, place.bound.address())).collect();
    let members = places
        .map(|place| (place.name, Credentials::derive(place.name, &SECRET).unwrap(), place))
        .map(|(_, credentials, place)| start(place, credentials, &nodes));
    for (own, member) in names.iter().zip(&members) {
        for other in names.iter().filter(|other| *other != own) {
            heard(&member.mesh, other).await;
        }
    }
    members
}

async fn wait_for(mesh: &Mesh, node: &str, what: &str, is_so: impl Fn(&Standing) -> bool) -> Standing {
    let mut standing = mesh.standing();
    let there = |all: &Arc<Standings>| all.get(node).is_some_and(&is_so);
    let waited = tokio::time::timeout(PATIENCE, standing.until(there)).await;
    waited.unwrap_or_else(|_| panic!("{node} is never {what}: {:?}", mesh.counters())).unwrap()[node].clone()
}

pub(super) async fn heard(mesh: &Mesh, node: &str) -> Standing {
    wait_for(mesh, node, "heard", |standing| !standing.silent).await
}

pub(super) async fn silent(mesh: &Mesh, node: &str) -> Standing {
    wait_for(mesh, node, "silent", |standing| standing.silent).await
}

/// Asks a node that was not heard for a while, until it answers. What is asked while one connection takes the place of another may be lost
/// with it, and another is made as soon as the silence was too long.
pub(super) async fn answered(mesh: &Mesh, node: &str) {
    while let Err(error) = mesh.ask(node, Lane::Control, 1, Bytes::new(), PATIENCE).await {
        assert!(matches!(error, MeshError::Lost(_) | MeshError::Away(_)), "{error}");
        tokio::task::yield_now().await;
    }
}

/// A way to a node that can be cut, in both directions or in one.
pub(super) struct Way {
    pub(super) address: SocketAddr,
    pub(super) forth: Arc<AtomicBool>,
    pub(super) back: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Way {
    /// To `target`, for one who comes from one address.
    pub(super) async fn to(target: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (forth, back) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let address = near.local_addr().unwrap();
        let task = tokio::spawn(carry(near, far, target, forth.clone(), back.clone()));
        Self { address, forth, back, task }
    }

    pub(super) fn set(&self, open: bool) {
        self.forth.store(open, Ordering::Relaxed);
        self.back.store(open, Ordering::Relaxed);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    near: UdpSocket,
    far: UdpSocket,
    target: SocketAddr,
    forth: Arc<AtomicBool>,
    back: Arc<AtomicBool>,
) {
    let (mut one, mut other) = (vec![0; 65_536], vec![0; 65_536]);
    let mut from = None;
    loop {
        tokio::select! {
            Ok((length, source)) = near.recv_from(&mut one) => {
                from = Some(source);
                if forth.load(Ordering::Relaxed) {
                    let _ = far.send_to(&one[..length], target).await;
                }
            }
            Ok((length, _)) = far.recv_from(&mut other) => {
                if let Some(from) = from.filter(|_| back.load(Ordering::Relaxed)) {
                    let _ = near.send_to(&other[..length], from).await;
                }
            }
        }
    }
}

/// Answers nothing.
pub(super) struct Nothing;

impl Handler for Nothing {
    fn ask<'a>(&'a self, _from: &'a str, _lane: Lane, _kind: u16, _body: Bytes) -> Answer<'a> {
        Box::pin(async { Err("nothing is answered here".to_owned()) })
    }

    fn packet(&self, _from: &str, _kind: u8, _packet: Bytes) {}
}
