//! What goes from node to node: packets that landed on the wrong one, and what the actors have to tell.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actors::{Rival, Whereabouts};
use bytes::Bytes;
use cluster::Ask;
use cluster::mesh::{Answer, Handler, Lane};
use ike::supervise::Claim;
use latest::Latest as _;
use prost::Message;
use router::{Encapsulation, IkeDatagram, Passed, TenantId};
use snapshot::{Address, Done, Kept, Row};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Nodes;

/// ESP of a slot of the receiver's.
const ESP: u8 = 1;
/// An IKE message for a connection of the receiver's.
const IKE: u8 = 2;
/// A packet of a tenant, for a tunnel of the receiver's.
const INNER: u8 = 3;

/// What is asked that is none of the slots' business: [`Established`].
const ESTABLISHED: u16 = 17;

/// How long anybody is waited for to hear of a new connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// New connections are gathered for so long before others are told of them: an older one there has its answer from elsewhere by then, and each
/// message costs two nodes system calls and changes of thread.
const GATHER: Duration = Duration::from_millis(50);
/// And as many of them: a message of some 200 kB.
const TOGETHER: usize = 4_096;

/// The number of what slots ask.
pub(super) const fn of_slots(ask: Ask) -> u16 {
    ask as u16
}

/// How a packet reached the node that passes it on.
#[derive(Clone, PartialEq, Message)]
struct Way {
    #[prost(message, optional, tag = "1")]
    local: Option<Address>,
    #[prost(message, optional, tag = "2")]
    from: Option<Address>,
    /// Without UDP.
    #[prost(bool, tag = "3")]
    raw: bool,
    /// TOS or traffic class.
    #[prost(uint32, tag = "4")]
    class: u32,
}

impl Way {
    fn before(&self, packet: &[u8]) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.encoded_len() + 4 + packet.len());
        // A vector has room for everything.
        let _ = self.encode_length_delimited(&mut octets);
        octets.extend_from_slice(packet);
        octets
    }

    fn read(packet: &mut Bytes) -> Option<(Self, SocketAddr, SocketAddr)> {
        let way = Self::decode_length_delimited(packet).ok()?;
        let local = way.local.as_ref()?.read("our address").ok()?;
        let from = way.from.as_ref()?.read("its sender").ok()?;
        Some((way, local, from))
    }
}

/// Connections that a node has, by which another one may have to close its own.
#[derive(Clone, PartialEq, Message)]
struct Established {
    #[prost(message, repeated, tag = "1")]
    connections: Vec<One>,
}

#[derive(Clone, PartialEq, Message)]
struct One {
    /// Of the peer.
    #[prost(fixed64, tag = "1")]
    uid: u64,
    #[prost(fixed64, tag = "2")]
    spi: u64,
    #[prost(bool, tag = "3")]
    initiator: bool,
    /// Milliseconds ago.
    #[prost(uint64, tag = "4")]
    began: u64,
    /// Milliseconds.
    #[prost(uint64, tag = "5")]
    up: u64,
    /// SPI of the one that goes, where that has been decided.
    #[prost(fixed64, optional, tag = "6")]
    instead_of: Option<u64>,
    #[prost(message, optional, tag = "7")]
    remote: Option<Address>,
}

impl One {
    fn new(rival: Rival, at: Instant) -> Self {
        // It may have waited for others.
        let Rival { uid, claim, remote, instead_of } = rival;
        let Claim { initiator, spi, began, up } = claim.after(at.elapsed());
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            uid,
            spi,
            initiator,
            began: millis(began),
            up: millis(up),
            instead_of,
            remote: Some(remote.into()),
        }
    }

    fn read(&self) -> Result<Rival, String> {
        let remote = self.remote.as_ref().ok_or("a connection without the address of its peer")?;
        let remote = remote.read("the peer's address").map_err(|error| error.to_string())?;
        let (began, up) = (Duration::from_millis(self.began), Duration::from_millis(self.up));
        let claim = Claim { initiator: self.initiator, spi: self.spi, began, up };
        Ok(Rival { uid: self.uid, claim, remote, instead_of: self.instead_of })
    }
}

impl Nodes {
    fn pass(&self, slot: u8, kind: u8, way: &Way, packet: &[u8]) -> bool {
        let Some((slots, mesh)) = self.0.slots.get().zip(self.0.mesh.get()) else { return false };
        let Some(node) = slots.elsewhere(slot) else { return false };
        mesh.packet(&node, kind, &way.before(packet)).is_ok()
    }
}

/// Tells all others of connections that are new here, those of a moment together.
pub(super) async fn tell_established(nodes: Nodes, mut new: UnboundedReceiver<(Rival, Instant)>) {
    let mut some = Vec::new();
    while new.recv_many(&mut some, TOGETHER).await > 0 {
        let Some(mesh) = nodes.0.mesh.get() else { return };
        let connections = some.drain(..).map(|(rival, at)| One::new(rival, at)).collect();
        let body: Bytes = Established { connections }.encode_to_vec().into();
        for node in nodes.others() {
            let asked = mesh.ask(&node, Lane::Control, ESTABLISHED, body.clone(), PATIENCE);
            mesh.spawn(async move {
                if let Err(error) = asked.await {
                    tracing::debug!(node, %error, "a node was not told of connections");
                }
            });
        }
        tokio::time::sleep(GATHER).await;
    }
}

impl router::Elsewhere for Nodes {
    fn esp(&self, slot: u8, packet: &[u8], passed: Passed) -> bool {
        let way = Way {
            local: Some(passed.local.into()),
            from: Some(passed.from.into()),
            raw: passed.encapsulation == Encapsulation::Raw,
            class: passed.class.into(),
        };
        self.pass(slot, ESP, &way, packet)
    }

    fn inner(&self, node: u32, tenant: TenantId, packet: &[u8]) -> bool {
        let Some(mesh) = self.0.mesh.get() else { return false };
        let name = {
            let placement = self.0.placement.latest();
            placement.nodes.iter().find(|other| other.number() == node).map(|node| node.name.clone())
        };
        let Some(name) = name.filter(|name| *name != self.0.name) else { return false };
        let octets = [&tenant.0.to_be_bytes(), packet].concat();
        mesh.packet(&name, INNER, &octets).is_ok()
    }
}

impl actors::Cluster for Nodes {
    fn slot(&self) -> u8 {
        self.0.slots.get().map_or(self.0.first_slot, cluster::Slots::primary)
    }

    fn holds(&self, slot: u8) -> bool {
        self.0.slots.get().map_or(slot == self.0.first_slot, |slots| slots.holds(slot))
    }

    fn is_told(&self, slot: u8) -> bool {
        // One that is not ours is told of nothing, and its connections say nothing.
        self.0.slots.get().is_some_and(|slots| slots.is_told(slot) || !slots.holds(slot))
    }

    fn put(&self, slot: u8, rows: Vec<Row>, done: Done) {
        match self.0.slots.get() {
            Some(slots) => slots.put(slot, rows, done),
            None => done(Kept::Free),
        }
    }

    fn pass_on(&self, slot: u8, datagram: &IkeDatagram) -> bool {
        let IkeDatagram { local, remote, bytes } = datagram;
        let way = Way { local: Some((*local).into()), from: Some((*remote).into()), raw: false, class: 0 };
        self.pass(slot, IKE, &way, bytes)
    }

    fn begins_nothing(&self) -> bool {
        self.0.is_without_slot()
    }

    fn pass_first(&self, datagram: &IkeDatagram) -> bool {
        let Some((slots, mesh)) = self.0.slots.get().zip(self.0.mesh.get()) else { return false };
        let IkeDatagram { local, remote, bytes } = datagram;
        // What comes again goes to the same node.
        let spi = bytes.first_chunk::<8>().map_or(0, |spi| u64::from_be_bytes(*spi));
        let Some(node) = slots.instead(spi) else { return false };
        let way = Way { local: Some((*local).into()), from: Some((*remote).into()), raw: false, class: 0 };
        mesh.packet(&node, IKE, &way.before(bytes)).is_ok()
    }

    fn established(&self, rival: Rival) {
        // Without a receiver this node ends.
        let _ = self.0.established.send((rival, Instant::now()));
    }

    fn number(&self, node: &str) -> Option<u32> {
        let placement = self.0.placement.latest();
        placement.nodes.iter().find(|other| other.name == node).map(cluster::Node::number)
    }
}

impl Handler for Nodes {
    fn ask<'a>(&'a self, from: &'a str, _: Lane, kind: u16, body: Bytes) -> Answer<'a> {
        Box::pin(async move {
            if let Some(ask) = Ask::of(kind) {
                let slots = self.0.slots.get().ok_or("this node has only just begun")?;
                return slots.answer(from, ask, &body).await.map(Bytes::from);
            }
            match kind {
                ESTABLISHED => {
                    let told = Established::decode(body).map_err(|error| error.to_string())?;
                    // One of two, whichever: by their names both know which.
                    let we_decide = self.0.name.as_str() < from;
                    let at = Whereabouts { node: actors::Cluster::number(self, from), we_decide };
                    if let Some(control) = self.0.control.get() {
                        for one in &told.connections {
                            control.rival(one.read()?, at);
                        }
                    }
                    Ok(Bytes::new())
                }
                _ => Err(format!(
                    "this node knows nothing of questions of kind {kind}: it is of another version"
                )),
            }
        })
    }

    fn packet(&self, _: &str, kind: u8, mut packet: Bytes) {
        let Some(control) = self.0.control.get() else { return };
        match kind {
            ESP => {
                let Some((way, local, from)) = Way::read(&mut packet) else { return };
                let encapsulation = if way.raw { Encapsulation::Raw } else { Encapsulation::Udp };
                let class = u8::try_from(way.class).unwrap_or_default();
                control.esp_passed_in(packet.to_vec(), Passed { local, from, encapsulation, class });
            }
            IKE => {
                let Some((_, local, remote)) = Way::read(&mut packet) else { return };
                control.ike_passed_in(IkeDatagram { local, remote, bytes: packet.to_vec() });
            }
            INNER => {
                if let Some((tenant, packet)) = packet.split_first_chunk::<4>() {
                    control.inner_passed_in(u32::from_be_bytes(*tenant), packet.to_vec());
                }
            }
            _ => tracing::debug!(kind, "a packet of a kind that this node knows nothing of"),
        }
    }
}
