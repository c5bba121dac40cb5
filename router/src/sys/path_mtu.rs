//! What the kernel knows of a path's MTU.
#![allow(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use libc::c_int;

/// The MTU of the path to `remote`: that of the interface, or less where an ICMP error said so. `None` without a route.
///
/// Some system calls and a socket that is gone afterwards: for now and then, not for every packet.
pub(crate) fn towards(source: Option<IpAddr>, remote: IpAddr) -> Option<u16> {
    let any = if remote.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0)).ok()?;
    // Connecting sends nothing; it looks up the route, which is what is asked about.
    socket.connect(SocketAddr::new(remote, ANY_PORT)).ok()?;
    let (level, name) = if remote.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    };
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` and `len` outlive the call, and `len` says how large `value` is.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    // The loopback interface has 65,536, one more than a packet can.
    (result == 0 && value > 0).then(|| u16::try_from(value).unwrap_or(u16::MAX))
}

/// Routes do not look at the port.
const ANY_PORT: u16 = 4500;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_wide_and_elsewhere_is_unknown() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(towards(None, local).unwrap() >= 16_384);
        assert_eq!(towards(Some(local), local), towards(None, local));
        assert_eq!(towards(Some("192.0.2.1".parse().unwrap()), local), None, "not an address of ours");
    }
}
