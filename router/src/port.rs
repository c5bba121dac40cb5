//! UDP sockets: the listening groups, batches in, batches out.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::RouterError;
use crate::options::Encapsulation;
use crate::overflow::Overflow;
use crate::sys;
use crate::sys::receive::{BUFFERS, Received};
use crate::sys::socket_options::Fragmentation;
use crate::sys::transmit::{self, Envelope};

/// One UDP socket with what the kernel offers for it.
pub(crate) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// Segmentation offload works as far as is known.
    offload: AtomicBool,
    overflow: Overflow,
}

/// The sockets of one listen address.
pub(crate) struct Listener {
    pub(crate) ike: Port,
    /// Takes what of the NAT traversal port is not ESP of a shard.
    pub(crate) natt_control: Port,
    /// One per shard: what a shard receives on, and sends by what must not be fragmented.
    pub(crate) natt_shards: Vec<Port>,
    /// One per shard: by these a shard sends what may be fragmented. Linux has no such choice per packet.
    pub(crate) natt_fragmenting: Vec<Port>,
}

impl Listener {
    /// Opens the sockets of `address`. A port of 0 is chosen by the system.
    pub(crate) fn open(
        address: IpAddr,
        ike_port: u16,
        natt_port: u16,
        shards: usize,
    ) -> Result<Self, RouterError> {
        let (allowed, refused) = (Fragmentation::Allowed, Fragmentation::Refused);
        let ike = Port::open(SocketAddr::new(address, ike_port), Sharing::None, allowed)?;
        // The first member of the group binds alone: SO_REUSEPORT would let two processes of one user share the port
        // without a word. Then it opens the group, whose members the kernel numbers in the order they join.
        let natt_control = Port::open(SocketAddr::new(address, natt_port), Sharing::Opens, allowed)?;
        let natt = natt_control.local;
        let members = |fragmentation| {
            let members = (0..shards).map(|_| Port::open(natt, Sharing::Joins, fragmentation));
            members.collect::<Result<Vec<_>, RouterError>>()
        };
        let natt_shards = members(refused)?;
        if let Some(member) = natt_shards.first() {
            sys::steering::attach(&member.socket, shards as u32)
                .map_err(|source| RouterError::Listen { address: natt, source })?;
        }
        // Last, so that their numbers in the group are beyond those that the packet filter gives.
        let natt_fragmenting = members(allowed)?;
        Ok(Self { ike, natt_control, natt_shards, natt_fragmenting })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    None,
    Opens,
    Joins,
}

impl Port {
    fn open(
        address: SocketAddr,
        sharing: Sharing,
        fragmentation: Fragmentation,
    ) -> Result<Self, RouterError> {
        Self::try_open(address, sharing, fragmentation)
            .map_err(|source| RouterError::Listen { address, source })
    }

    fn try_open(address: SocketAddr, sharing: Sharing, fragmentation: Fragmentation) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // So that `0.0.0.0` and `::` may both be listened on, and no address appears in mapped form.
            socket.set_only_v6(true)?;
        }
        if sharing == Sharing::Joins {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        if sharing == Sharing::Opens {
            socket.set_reuse_port(true)?;
        }
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        // `quinn-udp` has the kernel ignore what it learns of the path, as QUIC wants it.
        sys::socket_options::fragmentation(&socket, address.is_ipv6(), fragmentation);
        // At every member of the group: the kernel chooses one by a hash of the addresses, whichever sent the datagram.
        sys::socket_options::queue_errors(&socket, address.is_ipv6());
        sys::socket_options::enlarge_buffers(&socket, BUFFER_BYTES);
        sys::socket_options::report_overflow(&socket);
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local, offload: AtomicBool::new(true), overflow: Overflow::default() })
    }

    /// The address and port it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// For registering with a poll.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Receives up to one buffer's worth of datagrams per buffer. `WouldBlock` when there are none.
    pub(crate) fn receive<'a>(&self, buffers: &'a mut ReceiveBuffers) -> io::Result<Batch<'a>> {
        let mut filled = [None; BUFFERS];
        let more = sys::receive::receive(self.fd(), &mut buffers.0, &mut filled)?;
        let overflowed = self.overflow.since(&filled);
        Ok(Batch { buffers: &mut buffers.0, filled, local: self.local, overflowed, more })
    }

    /// Sends one datagram of the control plane.
    pub(crate) fn send(&self, path: &Path, datagram: &[u8]) -> io::Result<()> {
        match transmit::each(self.fd(), &path.envelope(0), datagram.len(), datagram)? {
            0 => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            _ => Ok(()),
        }
    }

    /// How many segments the kernel takes at once; 1 without segmentation offload, which is found out on the way.
    pub(crate) fn max_segments(&self) -> usize {
        if self.offload.load(Ordering::Relaxed) { self.state.max_gso_segments() } else { 1 }
    }

    /// Does without segmentation offload from now on: the interface cannot do it.
    pub(crate) fn give_up_offload(&self) {
        if self.offload.swap(false, Ordering::Relaxed) {
            let local = self.local;
            tracing::warn!(%local, "the ways out of this socket refuse segmentation offload: a call of the system sends one packet from now on");
        }
    }
}

/// Where to send from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// Index of the listener.
    pub(crate) listener: usize,
    /// The source address, where the socket listens on many.
    pub(crate) source: Option<IpAddr>,
    pub(crate) remote: SocketAddr,
    pub(crate) encapsulation: Encapsulation,
}

impl Path {
    /// Finds the listener for a local address: the one bound to it, else the one bound to its whole family.
    pub(crate) fn find(listeners: &[IpAddr], local: IpAddr, remote: SocketAddr) -> Option<Self> {
        let encapsulation = Encapsulation::Udp;
        if let Some(listener) = listeners.iter().position(|address| *address == local) {
            return Some(Self { listener, source: None, remote, encapsulation });
        }
        let listener = listeners
            .iter()
            .position(|address| address.is_unspecified() && address.is_ipv4() == local.is_ipv4())?;
        let source = (!local.is_unspecified()).then_some(local);
        Some(Self { listener, source, remote, encapsulation })
    }
}

impl Path {
    /// What goes with a packet of this TOS or traffic class.
    pub(crate) fn envelope(&self, class: u8) -> Envelope {
        let mut to = self.remote;
        if self.encapsulation == Encapsulation::Raw {
            // The kernel refuses any other port than the protocol's or none on a raw socket of IPv6.
            to.set_port(0);
        }
        Envelope { to, source: self.source, class }
    }
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The port is 0 where there is none.
    pub(crate) from: SocketAddr,
    pub(crate) local: SocketAddr,
    /// TOS or traffic class of the outer header.
    pub(crate) class: u8,
    pub(crate) encapsulation: Encapsulation,
    /// Another node of the cluster received it and passed it on.
    pub(crate) relayed: bool,
}

/// What one call has received.
pub(crate) struct Batch<'a> {
    buffers: &'a mut [Box<[u8]>],
    filled: [Option<Received>; BUFFERS],
    /// Where it was received.
    local: SocketAddr,
    /// Packets that the kernel dropped before the last of these, and after what was received before.
    pub(crate) overflowed: u32,
    /// There may be more at once. If not, the poll tells when there is.
    pub(crate) more: bool,
}

impl<'a> Batch<'a> {
    /// Passes on the datagrams, up to [`TOGETHER`] at a time.
    pub(crate) fn together(self, mut some: impl FnMut(&mut [(&mut [u8], Origin)])) {
        let nowhere = Origin {
            from: self.local,
            local: self.local,
            class: 0,
            encapsulation: Encapsulation::Udp,
            relayed: false,
        };
        let (mut group, mut count) =
            (std::array::from_fn::<_, TOGETHER, _>(|_| (<&mut [u8]>::default(), nowhere)), 0);
        self.each(|datagram, origin| {
            if let Some(place) = group.get_mut(count) {
                *place = (datagram, origin);
                count += 1;
            }
            if count == TOGETHER {
                some(&mut group);
                count = 0;
            }
        });
        if let Some(rest) = group.get_mut(..count).filter(|rest| !rest.is_empty()) {
            some(rest);
        }
    }

    /// Passes on each datagram.
    pub(crate) fn each(self, mut each: impl FnMut(&'a mut [u8], Origin)) {
        for (buffer, about) in self.buffers.iter_mut().zip(&self.filled) {
            let Some(about) = about else { continue };
            let local = SocketAddr::new(about.to.unwrap_or(self.local.ip()), self.local.port());
            let (from, class) = (about.from, about.class);
            let origin = Origin { from, local, class, encapsulation: Encapsulation::Udp, relayed: false };
            let Some(filled) = buffer.get_mut(..about.len) else { continue };
            if filled.is_empty() {
                each(&mut [], origin);
                continue;
            }
            for datagram in filled.chunks_mut(about.stride.max(1)) {
                each(datagram, origin);
            }
        }
    }
}

/// Datagrams that are taken together: enough that what they need is on its way at the same time, and not so many that the first
/// is out of the cache when it is sealed again.
pub(crate) const TOGETHER: usize = 16;

/// Buffers for one receiving system call, each large enough for what the kernel joins (UDP GRO).
pub(crate) struct ReceiveBuffers(pub(crate) Vec<Box<[u8]>>);

impl ReceiveBuffers {
    pub(crate) fn new() -> Self {
        Self((0..BUFFERS).map(|_| vec![0; JOINED_MAX].into_boxed_slice()).collect())
    }
}

/// The longest UDP datagram, and the most that GRO joins.
pub(crate) const JOINED_MAX: usize = 65_535;
/// 16 MiB hold 15 ms at 8 Gbit/s, while the thread is busy elsewhere or does not run: with 4 MiB four flows of TCP on two cores
/// lost a few hundred packets in five seconds. They are the kernel's, and only used while packets wait.
pub(crate) const BUFFER_BYTES: usize = 16 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_drops_is_known_to_the_packet() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = Port::open(address, Sharing::None, Fragmentation::Allowed).unwrap();
        socket2::SockRef::from(&port.socket).set_recv_buffer_size(64 << 10).unwrap();
        let sender = UdpSocket::bind(address).unwrap();
        let mut buffers = ReceiveBuffers::new();
        let mut counts = (0, 0);
        let mut receive = |counts: &mut (u32, u32)| {
            while let Ok(batch) = port.receive(&mut buffers) {
                counts.1 += batch.overflowed;
                batch.each(|_, _| counts.0 += 1);
            }
        };
        let sent = 2_000;
        for round in 1..3 {
            for _ in 0..sent {
                sender.send_to(&[1; 100], port.local()).unwrap();
            }
            receive(&mut counts);
            // What finds room again tells of those that did not.
            sender.send_to(&[2], port.local()).unwrap();
            receive(&mut counts);
            let (received, dropped) = counts;
            assert!(dropped > 0, "{received} of {sent} fit");
            assert_eq!(received + dropped, round * (sent + 1));
        }
    }

    #[test]
    fn paths_prefer_the_exact_listener() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let listeners = [parse("0.0.0.0"), parse("127.0.0.1"), parse("::")];
        let remote = "127.0.0.9:4500".parse().unwrap();
        let find = |local: &str| Path::find(&listeners, parse(local), remote).unwrap();
        assert_eq!((find("127.0.0.1").listener, find("127.0.0.1").source), (1, None));
        assert_eq!((find("10.0.0.1").listener, find("10.0.0.1").source), (0, Some(parse("10.0.0.1"))));
        assert_eq!((find("0.0.0.0").listener, find("0.0.0.0").source), (0, None));
        assert_eq!((find("::1").listener, find("::1").source), (2, Some(parse("::1"))));
        assert_eq!(Path::find(&listeners[1..2], parse("10.0.0.1"), remote), None);
    }
}
