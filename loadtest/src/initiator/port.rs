//! A UDP socket that takes and gives many datagrams in one call where the system has segmentation offload: the load is not to be
//! what costs most.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::member::Outbox;
use crate::engine::meter::Meter;

/// Socket buffers: a second of probes at the highest rate used, so that a busy machine loses none.
const SOCKET_BUFFER: usize = 4 << 20;
/// Octets of what one call takes: the largest UDP datagram, or as many as are joined to it.
pub(super) const MAX_RECEIVED: usize = 65_535;
/// Octets that one call gives, below what fits an IP packet with its headers.
const MAX_SENT: usize = 65_000;

pub(super) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    joined: Vec<u8>,
}

/// Datagrams of one sender, each of `stride` octets but the last.
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) len: usize,
    pub(super) stride: usize,
}

impl Port {
    /// Opens one that sends from `source`, or from an address of the system's choice towards `server`.
    pub(super) fn open(server: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let source = match source {
            Some(source) => source,
            None => {
                // Connected for a moment only, to learn the address that packets leave with.
                let probe = std::net::UdpSocket::bind((unspecified(server.ip()), 0))?;
                probe.connect(server)?;
                probe.local_addr()?.ip()
            }
        };
        let domain = if source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // Best effort: the system may allow less.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // It has set DF, for QUIC. What is larger than the path is fragmented, as any peer's is.
        match source {
            IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT)?,
            IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)?,
        }
        let socket = UdpSocket::from_std(socket.into())?;
        let local = SocketAddr::new(source, socket.local_addr()?.port());
        Ok(Self { socket, state, local, joined: Vec::new() })
    }

    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// What has arrived, if something has.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut meta = [RecvMeta::default()];
        let received = self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut [IoSliceMut::new(buffer)], &mut meta)
        });
        match received {
            Ok(_) => {
                let [RecvMeta { addr, len, stride, .. }] = meta;
                Ok(Some(Received { from: addr, len, stride: stride.max(1) }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends everything, those of one size that go the same way together. What the system refuses is told by cause.
    pub(super) async fn send(&mut self, out: &mut Outbox, meter: &Meter) {
        let mut rest = out.as_slice();
        while let Some((destination, first)) = rest.first() {
            let most = self.state.max_gso_segments();
            let count = alike(rest, most);
            let (these, others) = rest.split_at(count);
            self.joined.clear();
            these.iter().for_each(|(_, datagram)| self.joined.extend_from_slice(datagram));
            let transmit = Transmit {
                destination: *destination,
                ecn: None,
                contents: &self.joined,
                segment_size: (count > 1).then_some(first.len()),
                src_ip: None,
            };
            let (socket, state) = (&self.socket, &self.state);
            let sent = socket
                .async_io(Interest::WRITABLE, || state.try_send(UdpSockRef::from(socket), &transmit))
                .await;
            match sent {
                // The device has no offload: one by one from now on.
                Err(_) if count > 1 && self.state.max_gso_segments() < most => continue,
                Err(error) => meter.causes.note(&format!("sending: {error}")),
                Ok(()) => {}
            }
            rest = others;
        }
        out.clear();
    }
}

/// How many of the first go in one call: all go to one place and are of one size, but the last may be shorter.
fn alike(out: &[(SocketAddr, Vec<u8>)], most: usize) -> usize {
    let Some((to, first)) = out.first() else { return 0 };
    let (mut count, mut octets) = (0, 0);
    for (other, datagram) in out.iter().take(most.max(1)) {
        octets += datagram.len();
        if other != to || datagram.len() > first.len() || (count > 0 && octets > MAX_SENT) {
            break;
        }
        count += 1;
        if datagram.len() < first.len() {
            break;
        }
    }
    count
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn datagrams(sizes: &[usize]) -> Outbox {
        let to = "127.0.0.1:4500".parse().unwrap();
        sizes.iter().map(|size| (to, vec![0; *size])).collect()
    }

    #[test]
    fn what_is_alike_goes_together() {
        assert_eq!(alike(&datagrams(&[]), 64), 0);
        assert_eq!(alike(&datagrams(&[100; 80]), 64), 64);
        assert_eq!(alike(&datagrams(&[100; 80]), 1), 1);
        assert_eq!(alike(&datagrams(&[100, 100, 60, 60]), 64), 3);
        assert_eq!(alike(&datagrams(&[60, 100]), 64), 1);
        assert_eq!(alike(&datagrams(&[9_000; 64]), 64), 7);
        let mut elsewhere = datagrams(&[100; 3]);
        elsewhere[2].0 = "127.0.0.1:500".parse().unwrap();
        assert_eq!(alike(&elsewhere, 64), 2);
    }

    #[tokio::test]
    async fn all_arrive_each_for_itself_and_in_order() {
        let (mut from, to) = {
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
            (Port::open(anywhere, None).unwrap(), Port::open(anywhere, None).unwrap())
        };
        let sizes = [200, 200, 200, 150, 900, 20, 20, 1400, 1400];
        let mut out: Outbox =
            (0u8..).zip(sizes).map(|(number, size)| (to.local(), vec![number; size])).collect();
        let expected: Vec<_> = out.iter().map(|(_, datagram)| datagram.clone()).collect();
        let meter = Meter::default();
        from.send(&mut out, &meter).await;
        assert!(out.is_empty() && meter.causes.list().is_empty());
        let (mut arrived, mut buffer) = (Vec::new(), vec![0; MAX_RECEIVED]);
        while arrived.len() < expected.len() {
            to.readable().await.unwrap();
            while let Some(received) = to.try_receive(&mut buffer).unwrap() {
                assert_eq!(received.from, from.local());
                arrived.extend(buffer[..received.len].chunks(received.stride).map(<[u8]>::to_vec));
            }
        }
        assert_eq!(arrived, expected);
    }
}
