//! A simulated node: what a concentrator or a gateway is, without actors, sockets and threads.

pub mod host;
pub mod moves;
pub mod peer;
pub mod sas;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ike::config::Opening;
use ike::proposal::Likely;
use ike::reception::{Class, CookieGate, FirstMessage, Verdict, classify};
use ike::supervise::ConnId;
use ike::{Candidates, CloseReason, Command, Connection, Datagram, Event, InitReply, Transmit};

use crate::invariants::Witness;
use crate::net::Packet;
use crate::random::Random;
use host::SimHost;
use peer::{Output, Peer};

/// UDP port of IKE.
pub const IKE: u16 = 500;
/// UDP port of NAT traversal.
pub const NATT: u16 = 4500;
/// What stands for the ports that ESP without UDP has none of.
const RAW: u16 = 0;
/// From this many half-open negotiations on, a cookie is asked for. Low, so that histories see it.
const COOKIE_THRESHOLD: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    HalfOpen,
    Peer(usize, ConnId),
}

/// A node.
pub struct Node {
    /// Its address.
    pub ip: IpAddr,
    /// Its host.
    pub host: SimHost,
    /// Its peers.
    pub peers: Vec<Peer>,
    half_open: BTreeMap<u64, (Connection, SocketAddr, u64)>,
    owners: BTreeMap<u64, Owner>,
    gate: CookieGate,
    chance: Random,
    out: Vec<Packet>,
}

/// An inner packet that came out of a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The tunnel it came by.
    pub tunnel: usize,
    /// What it carries.
    pub inner: Vec<u8>,
}

impl Node {
    /// A node without peers.
    pub fn new(now: Instant, number: usize, ip: IpAddr, mut chance: Random) -> Self {
        let mut host = SimHost::new(number, chance.fork());
        let gate = CookieGate::new(now, &mut host);
        Self {
            ip,
            host,
            peers: Vec::new(),
            half_open: BTreeMap::new(),
            owners: BTreeMap::new(),
            gate,
            chance,
            out: Vec::new(),
        }
    }

    /// Configures a peer.
    pub fn add_peer(&mut self, peer: Peer) {
        self.host.configs.push(peer.config.clone());
        self.peers.push(peer);
    }

    /// `kill -9` and a restart: nothing is said to anybody, and everything negotiated is gone.
    pub fn restart(&mut self, now: Instant, w: &mut Witness) {
        for peer in &mut self.peers {
            for spi in peer.sas.pairs.keys() {
                w.removed(*spi);
            }
            *peer = peer.restarted(now);
        }
        self.half_open.clear();
        self.owners.clear();
        self.host.forget();
        self.gate = CookieGate::new(now, &mut self.host);
    }

    /// What it wants to send.
    pub fn take_packets(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.out)
    }

    /// When something is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let half_open = self.half_open.values().filter_map(|h| h.0.poll_timeout());
        half_open.chain(self.peers.iter().filter_map(Peer::next_timeout)).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, w: &mut Witness) {
        for at in 0..self.peers.len() {
            let mut out = Output::default();
            if let Some(peer) = self.peers.get_mut(at).filter(|p| p.next_timeout().is_some_and(|t| t <= now))
            {
                peer.handle_timeout(now, &mut self.host, &mut self.chance, &mut out, w);
            }
            self.settle(at, out);
        }
        for spi in self.half_open.keys().copied().collect::<Vec<_>>() {
            if let Some((conn, ..)) = self.half_open.get_mut(&spi) {
                conn.handle_timeout(now, &mut self.host);
                self.drain_half_open(spi, w);
            }
        }
    }

    /// Gives a command to the connection that carries a peer's tunnel.
    pub fn command(&mut self, now: Instant, at: usize, command: Command, w: &mut Witness) {
        let mut out = Output::default();
        if let Some(peer) = self.peers.get_mut(at)
            && let Some(id) = peer.current()
        {
            peer.command(now, &mut self.host, &mut self.chance, id, command, &mut out, w);
        }
        self.settle(at, out);
    }

    /// Sends an inner packet of a policy through a peer's tunnel; false if no pair is there for it.
    pub fn send_inner(&mut self, at: usize, policy: &str, inner: &[u8], w: &mut Witness) -> bool {
        let Some(peer) = self.peers.get_mut(at) else { return false };
        let Some((spi, sealed)) = peer.sas.seal((peer.tunnel, policy), inner, w) else { return false };
        let conn = peer.sas.pairs.get(&spi).and_then(|p| peer.conns.get(&p.conn));
        let Some(core) = conn.map(|c| &c.core) else { return false };
        let (mut local, mut remote) = core.addresses();
        let ports = match core.encapsulates() {
            false => Some(RAW),
            // Also where IKE has stayed on its own port.
            true => (local.port() == IKE).then_some(NATT),
        };
        if let Some(port) = ports {
            local.set_port(port);
            remote.set_port(port);
        }
        self.out.push(Packet { from: local, to: remote, bytes: sealed });
        true
    }

    /// Takes in a packet; returns what came out of a tunnel.
    pub fn receive(&mut self, now: Instant, mut packet: Packet, w: &mut Witness) -> Option<Delivered> {
        if packet.to.port() == RAW {
            return self.receive_esp(now, packet.from, &mut packet.bytes, w);
        }
        let natt = packet.to.port() == NATT;
        match packet.bytes.split_first_chunk::<4>() {
            Some(([0, 0, 0, 0], message)) if natt => {
                let message = message.to_vec();
                self.receive_ike(now, packet.from, packet.to, true, &message, w);
                None
            }
            Some(_) if natt => self.receive_esp(now, packet.from, &mut packet.bytes, w),
            // A keepalive, or a fragment of something.
            None if natt => None,
            _ => {
                self.receive_ike(now, packet.from, packet.to, false, &packet.bytes, w);
                None
            }
        }
    }

    fn receive_esp(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &mut [u8],
        w: &mut Witness,
    ) -> Option<Delivered> {
        for at in 0..self.peers.len() {
            let peer = self.peers.get_mut(at)?;
            let Some((spi, first, inner)) = peer.sas.open(now, bytes) else { continue };
            let delivered = Delivered { tunnel: peer.tunnel, inner };
            let conn = peer.sas.pairs.get(&spi).map(|p| p.conn);
            let mut out = Output::default();
            if let Some(id) = conn {
                let chance = &mut self.chance;
                if first {
                    peer.command(now, &mut self.host, chance, id, Command::InboundSeen(spi), &mut out, w);
                }
                // The router reports a new address of the newest authentic packet.
                peer.command(now, &mut self.host, chance, id, Command::RemoteMoved(from), &mut out, w);
            }
            self.settle(at, out);
            return Some(delivered);
        }
        None
    }

    fn receive_ike(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        natt: bool,
        bytes: &[u8],
        w: &mut Witness,
    ) {
        let datagram = Datagram { local: to, remote: from, natt, bytes };
        match classify(bytes) {
            Err(_) => {}
            Ok(Class::First(opening)) => self.first_message(now, opening, datagram, w),
            Ok(Class::Existing(receivers)) => {
                match receivers.find(|spi| Some((spi, *self.owners.get(&spi)?))) {
                    None => {}
                    Some((spi, Owner::HalfOpen)) => self.go_on(now, spi, datagram, w),
                    Some((_, Owner::Peer(at, id))) => {
                        let mut out = Output::default();
                        if let Some(peer) = self.peers.get_mut(at)
                            && let Some(conn) = peer.conns.get_mut(&id)
                        {
                            conn.core.handle_datagram(now, &mut self.host, datagram);
                            peer.drain(now, &mut self.host, &mut self.chance, id, &mut out, w);
                        }
                        self.settle(at, out);
                    }
                }
            }
        }
    }

    fn first_message(&mut self, now: Instant, opening: Opening, datagram: Datagram<'_>, w: &mut Witness) {
        let Ok(first) = FirstMessage::of(opening, datagram.bytes) else { return };
        let spi_i = first.spi_i();
        let known = self.half_open.iter().find(|(_, h)| h.1 == datagram.remote && h.2 == spi_i).map(|h| *h.0);
        if let Some(spi) = known {
            return self.go_on(now, spi, datagram, w);
        }
        let required = opening == Opening::Init && self.half_open.len() >= COOKIE_THRESHOLD;
        let reply = |bytes| Packet { from: datagram.local, to: datagram.remote, bytes };
        match self.gate.check(now, &mut self.host, datagram, required) {
            Verdict::Pass => {}
            Verdict::Challenge(bytes) => return self.out.push(reply(bytes)),
            Verdict::Malformed(_) => return,
        }
        let mut candidates = Candidates::default();
        for config in self.host.configs.iter().filter(|config| config.opening() == opening) {
            candidates.add(Likely::Possible, &config.ike_proposals);
        }
        // A peer in transport mode is known by its address before it says who it is.
        let from = |peer: &&Peer| peer.path.is_some_and(|path| path.remote.ip() == datagram.remote.ip());
        let force = self.peers.iter().find(from).is_none_or(|peer| peer.config.force_encapsulation);
        match Connection::respond(now, &mut self.host, opening, datagram, (NATT, NATT), &candidates, force) {
            InitReply::Accepted(conn) => {
                let spi = conn.spis().0;
                self.owners.insert(spi, Owner::HalfOpen);
                self.half_open.insert(spi, (*conn, datagram.remote, spi_i));
                self.drain_half_open(spi, w);
            }
            InitReply::Refused(bytes, _) => self.out.push(reply(bytes)),
            InitReply::Dropped(_) => {}
        }
    }

    fn go_on(&mut self, now: Instant, spi: u64, datagram: Datagram<'_>, w: &mut Witness) {
        let Some((conn, ..)) = self.half_open.get_mut(&spi) else { return };
        conn.handle_datagram(now, &mut self.host, datagram);
        if !conn.is_up() {
            return self.drain_half_open(spi, w);
        }
        let name = conn.config().map(|c| c.name.clone());
        let at = self.peers.iter().position(|p| Some(&p.config.name) == name.as_ref());
        let Some((conn, ..)) = self.half_open.remove(&spi) else { return };
        let Some(at) = at else { return };
        let mut out = Output::default();
        if let Some(peer) = self.peers.get_mut(at) {
            peer.take_in(now, &mut self.host, &mut self.chance, conn, &mut out, w);
        }
        self.settle(at, out);
    }

    fn drain_half_open(&mut self, spi: u64, w: &mut Witness) {
        let Some((conn, ..)) = self.half_open.get_mut(&spi) else { return };
        while let Some(event) = conn.poll_event() {
            match event {
                Event::IkeSpiRemoved(spi) => {
                    self.owners.remove(&spi);
                }
                Event::ReleaseSpi(spi) => self.host.release(spi),
                Event::Down(CloseReason::Failed(failure)) => w.refused(&failure),
                _ => {}
            }
        }
        let transmits: Vec<Transmit> = std::iter::from_fn(|| conn.poll_transmit()).collect();
        transmits.iter().for_each(|t| w.ike_sent(usize::MAX, conn, &t.bytes));
        if conn.is_finished() {
            self.half_open.remove(&spi);
        }
        self.send(transmits);
    }

    fn settle(&mut self, at: usize, out: Output) {
        for (spi, owner) in out.ike_spis {
            match owner {
                Some(id) => self.owners.insert(spi, Owner::Peer(at, id)),
                None => self.owners.remove(&spi),
            };
        }
        self.send(out.transmits);
    }

    fn send(&mut self, transmits: Vec<Transmit>) {
        for t in transmits {
            let bytes = if t.natt && !t.keepalive { [&[0; 4], t.bytes.as_slice()].concat() } else { t.bytes };
            self.out.push(Packet { from: t.local, to: t.remote, bytes });
        }
    }

    /// Half-open negotiations, and IKE SPIs that lead somewhere.
    pub fn sizes(&self) -> (usize, usize) {
        (self.half_open.len(), self.owners.len())
    }
}
