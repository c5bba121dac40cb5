//! What the kernel knows of a path's MTU.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use libc::c_int;

thread_local! {
    /// Sockets to ask with, by the source that is asked for: making one costs more than the question, and every Child SA asks.
    static ASKING: RefCell<Vec<(IpAddr, UdpSocket)>> = const { RefCell::new(Vec::new()) };
}

/// Sockets that a thread keeps: a node listens on an address or two of each family.
const KEPT: usize = 4;

/// The MTU of the path to `remote`: that of the interface, or less where an ICMP error said so. `None` without a route.
///
/// Two system calls: for now and then, not for every packet.
pub(crate) fn towards(source: Option<IpAddr>, remote: IpAddr) -> Option<u16> {
    let any = if remote.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = source.unwrap_or(any);
    ASKING.with_borrow_mut(|sockets| {
        if let Some(at) = sockets.iter().position(|(address, _)| *address == source) {
            let answer = ask(&sockets.get(at)?.1, remote);
            if answer.is_none() {
                // Its address may have gone, and come back since: the next one asks with another.
                sockets.swap_remove(at);
            }
            return answer;
        }
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).ok()?;
        let answer = ask(&socket, remote);
        if answer.is_some() {
            sockets.truncate(KEPT - 1);
            sockets.push((source, socket));
        }
        answer
    })
}

fn ask(socket: &UdpSocket, remote: IpAddr) -> Option<u16> {
    // Connecting sends nothing; it looks up the route, which is what is asked about, each time anew.
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

/// Routes do not look at the port, unless somebody has told them to: then packets may go another way ([`crate::path_mtu`]).
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
        // A socket that was used for one is used for the next, of whatever reach.
        let nowhere = "240.0.0.1".parse().unwrap();
        assert_eq!(towards(Some(local), nowhere), None, "no way there from loopback");
        for last in 1..20 {
            let remote = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            assert_eq!(towards(Some(remote), remote), towards(None, local));
        }
        assert!(ASKING.with_borrow(Vec::len) <= KEPT);
    }
}
