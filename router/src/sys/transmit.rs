//! Sending many datagrams to one address by one system call, with the whole TOS octet.
//!
//! `quinn-udp` sets the two ECN bits only. Here the DSCP goes along, raw sockets are served as well, and an error says
//! which packet it is about.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr};
use socket2::SockAddr;

use super::control_message::ControlBuffer;
use super::error_queue::unmistaken;

/// What goes with every packet of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) to: SocketAddr,
    /// The source address, where the socket has many.
    pub(crate) source: Option<IpAddr>,
    /// TOS or traffic class.
    pub(crate) class: u8,
}

/// Sends `contents` as datagrams of `segment` octets, the last one maybe shorter, by segmentation offload. All or none.
pub(crate) fn segments(fd: RawFd, envelope: &Envelope, segment: u16, contents: &[u8]) -> io::Result<()> {
    let address = SockAddr::from(envelope.to);
    let (mut control, mut len) = messages(envelope);
    len = control.push(len, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    let mut piece = iovec { iov_base: contents.as_ptr().cast_mut().cast(), iov_len: contents.len() };
    let header = header(&address, &mut piece, &mut control, len);
    unmistaken(|| {
        // SAFETY: `header` points to `address`, `piece` and `control`, which outlive the call; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(fd, &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// Sends `contents` in packets of `segment` octets, the last one maybe shorter: how many were sent, which may be fewer
/// than there are. The error is about the first one.
pub(crate) fn each(fd: RawFd, envelope: &Envelope, segment: usize, contents: &[u8]) -> io::Result<usize> {
    let address = SockAddr::from(envelope.to);
    let (mut control, len) = messages(envelope);
    let mut pieces = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    // SAFETY: `mmsghdr` is plain data for which all zeroes is a valid value.
    let mut headers: [mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    for ((packet, piece), slot) in contents.chunks(segment.max(1)).zip(&mut pieces).zip(&mut headers) {
        *piece = iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        slot.msg_hdr = header(&address, piece, &mut control, len);
        count += 1;
    }
    unmistaken(|| {
        // SAFETY: the first `count` headers point to `address`, `pieces` and `control`, which outlive the call. The kernel
        // writes nothing but `msg_len` of the headers.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    })
}

/// The most that one call of [`each`] takes.
pub(crate) const BATCH: usize = 64;

fn header(address: &SockAddr, piece: &mut iovec, control: &mut ControlBuffer, len: usize) -> msghdr {
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut header: msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = address.as_ptr().cast_mut().cast::<c_void>();
    header.msg_namelen = address.len();
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = len as _;
    header
}

/// The control messages for TOS and source.
fn messages(envelope: &Envelope) -> (ControlBuffer, usize) {
    let mut control = ControlBuffer::new();
    let class = c_int::from(envelope.class).to_ne_bytes();
    let mut len = if envelope.to.is_ipv4() {
        control.push(0, libc::IPPROTO_IP, libc::IP_TOS, &class)
    } else {
        control.push(0, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class)
    };
    match envelope.source {
        None => {}
        Some(IpAddr::V4(source)) => {
            // `in_pktinfo`: interface 0 for any, the source, and a field that only counts on receive.
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&source.octets());
            len = control.push(len, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(source)) => {
            // `in6_pktinfo`: the source, and interface 0 for any.
            let mut info = [0; 20];
            info[..16].copy_from_slice(&source.octets());
            len = control.push(len, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
    }
    (control, len)
}
