//! Socket options that `socket2` and `quinn-udp` do not set as a tunnel needs them. All of them are best effort.
#![allow(unsafe_code)]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use libc::c_int;
use socket2::SockRef;

/// Lets the IP layer fragment what is larger than the path's MTU.
pub(crate) fn allow_fragmentation(socket: &UdpSocket, v6: bool) {
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT);
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0);
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT);
    }
}

/// Asks for send and receive buffers of `bytes` octets: beyond the system's limit where we may, else up to it.
pub(crate) fn enlarge_buffers(socket: &UdpSocket, bytes: usize) {
    let wanted = bytes as c_int;
    let reference = SockRef::from(socket);
    if !set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted) {
        let _ = reference.set_recv_buffer_size(bytes);
    }
    if !set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted) {
        let _ = reference.set_send_buffer_size(bytes);
    }
}

fn set(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> bool {
    // SAFETY: `value` outlives the call and the length passed is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    result == 0
}
