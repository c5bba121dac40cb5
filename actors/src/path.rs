//! By which address of ours a peer is reached.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The address of ours that the system would send from to get there. Nothing is sent.
pub(crate) fn local_address(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}
