//! Raw sockets bound to one device, for inner packets that leave in the clear with the headers they have.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::c_int;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// One socket per family.
pub(crate) struct ClearSocket {
    v4: Socket,
    v6: Socket,
}

impl ClearSocket {
    /// Opens the sockets in the namespace of the calling thread. Needs `CAP_NET_RAW`.
    pub(crate) fn open(device: &str) -> io::Result<Self> {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        // With this protocol a socket of IPv4 takes whole packets; one of IPv6 has to be told to.
        let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(raw))?;
        set_header_included(&v6)?;
        for socket in [&v4, &v6] {
            socket.bind_device(Some(device.as_bytes()))?;
            socket.set_nonblocking(true)?;
        }
        Ok(Self { v4, v6 })
    }

    /// Sends a whole packet. One system call each: what is bypassed by port is the exception.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        let (socket, to) = match packet.first().map(|first| first >> 4) {
            Some(4) => (&self.v4, v4_destination(packet)),
            Some(6) => (&self.v6, v6_destination(packet)),
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        let to = to.ok_or(io::ErrorKind::InvalidInput)?;
        socket.send_to(packet, &to.into()).map(drop)
    }
}

fn v4_destination(packet: &[u8]) -> Option<SocketAddr> {
    let octets = packet.get(16..)?.first_chunk::<4>()?;
    Some(SocketAddr::from((Ipv4Addr::from(*octets), 0)))
}

fn v6_destination(packet: &[u8]) -> Option<SocketAddr> {
    let octets = packet.get(24..)?.first_chunk::<16>()?;
    Some(SocketAddr::from((Ipv6Addr::from(*octets), 0)))
}

fn set_header_included(socket: &Socket) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let on: c_int = 1;
    // SAFETY: `on` outlives the call and the length passed is its size.
    let result = unsafe {
        libc::setsockopt(
            SockRef::from(socket).as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_HDRINCL,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
