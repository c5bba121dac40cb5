//! A balancer of UDP in front of the nodes, as a router or a load balancer would be one: by the address of the client alone, and without
//! a thought for what it carries. What it sees on the way is written down by [`Sightings`].
//!
//! Each client has a socket towards the nodes for each of the two ports, so that nodes know clients apart by its port, as behind NAT. An
//! answer may come from any of the nodes: a tunnel goes on at another than the one that its packets land on.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use latest::Latest as _;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::node::State;
use super::sightings::{Lane, Sightings};

/// Clients of a port at most: there are four branches, and the port is open to this host alone.
const MAX_CLIENTS: usize = 64;
/// Octets of the largest UDP datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Socket buffers: nothing is to be lost here, however busy the machine is.
const SOCKET_BUFFER: usize = 4 << 20;

/// A node, as it is seen from here.
#[derive(Clone)]
pub(super) struct Backend {
    pub(super) address: Ipv4Addr,
    pub(super) state: watch::Receiver<State>,
}

/// A running balancer; it ends with this.
pub(super) struct Balancer {
    pub(super) address: IpAddr,
    pub(super) ike_port: u16,
    pub(super) natt_port: u16,
    sightings: Arc<Mutex<Sightings>>,
    _tasks: JoinSet<()>,
}

impl Balancer {
    /// Listens on two free ports of loopback, before these ports of the nodes.
    pub(super) async fn start(nodes: Vec<Backend>, ports: (u16, u16)) -> io::Result<Self> {
        let sightings = Arc::new(Mutex::new(Sightings::default()));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut tasks = JoinSet::new();
        let mut own = [0; 2];
        for ((lane, port), own) in [(Lane::Ike, ports.0), (Lane::Natt, ports.1)].into_iter().zip(&mut own) {
            let front = socket(address).await?;
            *own = front.local_addr()?.port();
            let (nodes, sightings) = (nodes.clone(), Arc::clone(&sightings));
            let way = Way { lane, front, nodes, port, sightings };
            tasks.spawn(forward(Arc::new(way)));
        }
        let [ike_port, natt_port] = own;
        Ok(Self { address, ike_port, natt_port, sightings, _tasks: tasks })
    }

    /// What it has seen.
    pub(super) fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the two ports.
struct Way {
    lane: Lane,
    front: UdpSocket,
    nodes: Vec<Backend>,
    /// Of the nodes.
    port: u16,
    sightings: Arc<Mutex<Sightings>>,
}

impl Way {
    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From clients to nodes. What cannot be sent is lost, as on any way.
async fn forward(way: Arc<Way>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((len, client)) = way.front.recv_from(&mut buffer).await else { continue };
        let packet = buffer.get(..len).unwrap_or_default();
        let up: Vec<bool> = way.nodes.iter().map(|node| node.state.latest().takes_packets()).collect();
        let Some(node) = choose(client.ip(), &up).and_then(|at| way.nodes.get(at)) else { continue };
        if !clients.contains_key(&client) && clients.len() < MAX_CLIENTS {
            let Ok(back) = socket(way.front.local_addr().map_or(client.ip(), |own| own.ip())).await else {
                continue;
            };
            let back = Arc::new(back);
            answers.spawn(answer(Arc::clone(&way), Arc::clone(&back), client));
            clients.insert(client, back);
        }
        let Some(back) = clients.get(&client) else { continue };
        way.sightings().of_branch(way.lane, packet);
        let _ = back.send_to(packet, (node.address, way.port)).await;
    }
}

/// From nodes to a client, from whichever they come.
async fn answer(way: Arc<Way>, back: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((len, from)) = back.recv_from(&mut buffer).await else { continue };
        let known = |node: &Backend| IpAddr::V4(node.address) == from.ip();
        if from.port() != way.port || !way.nodes.iter().any(known) {
            continue;
        }
        let packet = buffer.get(..len).unwrap_or_default();
        way.sightings().of_node(way.lane, client, packet);
        let _ = way.front.send_to(packet, client).await;
    }
}

/// The node for a client: that of its address, or the next one that is up. So nobody's changes but those of clients whose node goes or
/// comes.
fn choose(client: IpAddr, up: &[bool]) -> Option<usize> {
    let hash = match client {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let first = usize::try_from(hash.checked_rem(up.len() as u128)?).ok()?;
    let inns = (first..up.len()).chain(0..first);
    inns.into_iter().find(|at| up.get(*at).copied().unwrap_or_default())
}

async fn socket(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).await?;
    // Best effort: the system may allow less.
    let _ = set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
    let _ = set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quickstart::cluster::SOURCES;

    #[test]
    fn clients_change_their_node_only_if_it_goes() {
        let at = |up: &[bool]| SOURCES.map(|source| choose(source.into(), up));
        let all = at(&[true; 3]);
        assert_eq!(all, [Some(1), Some(2), Some(0), Some(1)], "each node has some, and what goes first two");
        let without = at(&[true, false, true]);
        for (before, after) in all.into_iter().zip(without) {
            assert_eq!(after, if before == Some(1) { Some(2) } else { before });
        }
        assert_eq!(at(&[false; 3]), [None; 4]);
    }
}
