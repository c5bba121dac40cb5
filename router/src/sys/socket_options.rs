//! Socket options that `socket2` and `quinn-udp` do not set as a tunnel needs them. All of them are best effort.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use libc::c_int;
use socket2::SockRef;

/// What the IP layer does with a packet larger than the path's MTU as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragmentation {
    /// It is fragmented, here or on the way: DF is clear.
    Allowed,
    /// It is refused: DF is set, and the kernel learns the path's MTU from ICMP.
    Refused,
}

/// Chooses what is done with packets that are too large.
pub(crate) fn fragmentation(socket: &impl AsFd, v6: bool, fragmentation: Fragmentation) {
    let refused = fragmentation == Fragmentation::Refused;
    if v6 {
        let discover = if refused { libc::IPV6_PMTUDISC_DO } else { libc::IPV6_PMTUDISC_DONT };
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discover);
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, c_int::from(refused));
    } else {
        let discover = if refused { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover);
    }
}

/// Has ICMP errors queued at a socket that is not connected, which hears of none otherwise. The queue has to be emptied,
/// for it takes its room from the receive buffer.
pub(crate) fn queue_errors(socket: &impl AsFd, v6: bool) {
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1);
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
    }
}

/// Asks for TOS and destination with every packet, as `quinn-udp` does for UDP.
pub(crate) fn report_destination(socket: &impl AsFd, v6: bool) {
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
        set(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
    }
}

/// Asks to be told what was dropped because the receive buffer was full.
pub(crate) fn report_overflow(socket: &impl AsFd) {
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
}

/// Asks for send and receive buffers of `bytes` octets: beyond the system's limit where we may, else up to it.
pub(crate) fn enlarge_buffers(socket: &impl AsFd, bytes: usize) {
    let wanted = bytes as c_int;
    let reference = SockRef::from(socket);
    if !set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted) {
        let _ = reference.set_recv_buffer_size(bytes);
    }
    if !set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted) {
        let _ = reference.set_send_buffer_size(bytes);
    }
}

fn set(socket: &impl AsFd, level: c_int, name: c_int, value: c_int) -> bool {
    // SAFETY: `value` outlives the call and the length passed is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    result == 0
}
