//! UDP sockets: the listening groups, batches in, batches out.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use esp::ecn::Ecn;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::RouterError;
use crate::sys;

/// One UDP socket with what the kernel offers for it.
pub(crate) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// The sockets of one listen address.
pub(crate) struct Listener {
    pub(crate) ike: Port,
    /// Takes what of the NAT traversal port is not ESP of a shard.
    pub(crate) natt_control: Port,
    /// One per shard.
    pub(crate) natt_shards: Vec<Port>,
}

impl Listener {
    /// Opens the sockets of `address`. A port of 0 is chosen by the system.
    pub(crate) fn open(
        address: IpAddr,
        ike_port: u16,
        natt_port: u16,
        shards: usize,
    ) -> Result<Self, RouterError> {
        let ike = Port::open(SocketAddr::new(address, ike_port), Sharing::None)?;
        // The first member of the group binds alone: SO_REUSEPORT would let two processes of one user share the port
        // without a word. Then it opens the group, whose members the kernel numbers in the order they join.
        let natt_control = Port::open(SocketAddr::new(address, natt_port), Sharing::Opens)?;
        let natt = natt_control.local;
        let natt_shards =
            (0..shards).map(|_| Port::open(natt, Sharing::Joins)).collect::<Result<Vec<_>, RouterError>>()?;
        if let Some(member) = natt_shards.first() {
            sys::steering::attach(&member.socket, shards as u32)
                .map_err(|source| RouterError::Listen { address: natt, source })?;
        }
        Ok(Self { ike, natt_control, natt_shards })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    None,
    Opens,
    Joins,
}

impl Port {
    fn open(address: SocketAddr, sharing: Sharing) -> Result<Self, RouterError> {
        Self::try_open(address, sharing).map_err(|source| RouterError::Listen { address, source })
    }

    fn try_open(address: SocketAddr, sharing: Sharing) -> io::Result<Self> {
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
        // `quinn-udp` forbids fragmentation, as QUIC wants it. A tunnel packet that is too large must rather be
        // fragmented than lost (RFC 4301 section 8.2.1 leaves the choice to us).
        sys::socket_options::allow_fragmentation(&socket, address.is_ipv6());
        sys::socket_options::enlarge_buffers(&socket, BUFFER_BYTES);
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local })
    }

    /// The address and port it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// For registering with a poll.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Receives up to one buffer's worth of datagrams per buffer and passes on each datagram.
    ///
    /// The number of datagrams; `WouldBlock` when there are none.
    pub(crate) fn receive(
        &self,
        buffers: &mut ReceiveBuffers,
        mut each: impl FnMut(&mut [u8], Origin),
    ) -> io::Result<usize> {
        let mut meta = [RecvMeta::default(); RECEIVE_BUFFERS];
        let received = {
            let mut all = buffers.0.iter_mut();
            let mut slices: [IoSliceMut<'_>; RECEIVE_BUFFERS] = std::array::from_fn(|_| {
                IoSliceMut::new(all.next().map_or(&mut [], |buffer| &mut buffer[..]))
            });
            self.state.recv((&self.socket).into(), &mut slices, &mut meta)?
        };
        let mut datagrams = 0;
        for (buffer, meta) in buffers.0.iter_mut().zip(&meta).take(received) {
            let local = SocketAddr::new(meta.dst_ip.unwrap_or(self.local.ip()), self.local.port());
            let origin = Origin { from: meta.addr, local, ecn: from_codepoint(meta.ecn) };
            let Some(filled) = buffer.get_mut(..meta.len) else { continue };
            if filled.is_empty() {
                datagrams += 1;
                each(&mut [], origin);
                continue;
            }
            for datagram in filled.chunks_mut(meta.stride.max(1)) {
                datagrams += 1;
                each(datagram, origin);
            }
        }
        Ok(datagrams)
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, path: &Path, ecn: Ecn, datagram: &[u8]) -> io::Result<()> {
        self.transmit(path, ecn, datagram, None)
    }

    /// Sends datagrams of `segment` octets each, the last one maybe shorter, in one system call.
    pub(crate) fn send_segments(
        &self,
        path: &Path,
        ecn: Ecn,
        segment: usize,
        datagrams: &[u8],
    ) -> io::Result<()> {
        self.transmit(path, ecn, datagrams, Some(segment))
    }

    /// How many segments the kernel takes at once; 1 without segmentation offload, which is found out on the way.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn transmit(
        &self,
        path: &Path,
        ecn: Ecn,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: path.remote,
            ecn: to_codepoint(ecn),
            contents,
            segment_size,
            src_ip: path.source,
        };
        self.state.try_send((&self.socket).into(), &transmit)
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
}

impl Path {
    /// Finds the listener for a local address: the one bound to it, else the one bound to its whole family.
    pub(crate) fn find(listeners: &[IpAddr], local: IpAddr, remote: SocketAddr) -> Option<Self> {
        if let Some(listener) = listeners.iter().position(|address| *address == local) {
            return Some(Self { listener, source: None, remote });
        }
        let listener = listeners
            .iter()
            .position(|address| address.is_unspecified() && address.is_ipv4() == local.is_ipv4())?;
        let source = (!local.is_unspecified()).then_some(local);
        Some(Self { listener, source, remote })
    }
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) from: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) ecn: Ecn,
}

/// Buffers for one receiving system call, each large enough for what the kernel joins (UDP GRO).
pub(crate) struct ReceiveBuffers(Vec<Box<[u8]>>);

impl ReceiveBuffers {
    pub(crate) fn new() -> Self {
        Self((0..RECEIVE_BUFFERS).map(|_| vec![0; JOINED_MAX].into_boxed_slice()).collect())
    }
}

/// Buffers per system call: a megabyte, which stays in the second-level cache of current processors.
const RECEIVE_BUFFERS: usize = 16;
/// The longest UDP datagram, and the most that GRO joins.
const JOINED_MAX: usize = 65_535;
/// 4 MiB hold 30 ms at 1 Gbit/s, while the thread is busy elsewhere.
const BUFFER_BYTES: usize = 4 << 20;

fn from_codepoint(codepoint: Option<EcnCodepoint>) -> Ecn {
    codepoint.map_or(Ecn::NotEct, |codepoint| Ecn::from_bits(codepoint as u8))
}

fn to_codepoint(ecn: Ecn) -> Option<EcnCodepoint> {
    EcnCodepoint::from_bits(ecn.bits())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn ecn_is_the_same_both_ways() {
        for bits in 0..4 {
            assert_eq!(from_codepoint(to_codepoint(Ecn::from_bits(bits))).bits(), bits);
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
