//! Receiving many datagrams by one system call, with the whole TOS octet and the address they were sent to.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use libc::{c_int, iovec, mmsghdr};
use socket2::{SockAddr, SockAddrStorage};

use super::control_message::ControlBuffer;
use super::error_queue::{may_be_reported, unmistaken};

/// What is known of the contents of one buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    /// The address it was sent to.
    pub(crate) to: Option<IpAddr>,
    /// TOS or traffic class.
    pub(crate) class: u8,
    /// Octets in the buffer.
    pub(crate) len: usize,
    /// Octets of each datagram in it but the last, when the kernel joined several (UDP GRO); else `len`.
    pub(crate) stride: usize,
    /// How many the kernel had dropped at this socket when it took this one in, if any: its count goes round.
    pub(crate) dropped: Option<u32>,
}

/// Buffers that one call takes: a megabyte, which stays in the second-level cache of current processors.
pub(crate) const BUFFERS: usize = 16;

/// Receives into `buffers`: an entry for each that was filled. True if there may be more: else the kernel had no more, or an ICMP error, and
/// either what comes next or the error is an event of its own to a poll. `WouldBlock` when nothing is there, `Interrupted` when one
/// ICMP error after the other was told instead: whatever is there still waits.
pub(crate) fn receive(
    fd: RawFd,
    buffers: &mut [Box<[u8]>],
    filled: &mut [Option<Received>; BUFFERS],
) -> io::Result<bool> {
    *filled = [None; BUFFERS];
    let mut names: [SockAddrStorage; BUFFERS] = std::array::from_fn(|_| SockAddrStorage::zeroed());
    let mut controls = [ControlBuffer::new(); BUFFERS];
    let mut pieces = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BUFFERS];
    // SAFETY: `mmsghdr` is plain data for which all zeroes is a valid value.
    let mut headers: [mmsghdr; BUFFERS] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    let parts =
        headers.iter_mut().zip(&mut names).zip(&mut controls).zip(&mut pieces).zip(buffers.iter_mut());
    for ((((header, name), control), piece), buffer) in parts {
        *piece = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_namelen = name.size_of();
        header.msg_hdr.msg_iov = piece;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = control.capacity() as _;
        count += 1;
    }
    let received = unmistaken(|| {
        // SAFETY: the first `count` headers point into `names`, `controls`, `pieces` and `buffers`, which outlive the call and
        // are lent to nobody else; every length is that of what it stands beside, for a call that fails changes none.
        let received = unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    });
    let received = received.map_err(|error| match may_be_reported(&error) {
        true => io::ErrorKind::Interrupted.into(),
        false => error,
    })?;
    let parts = headers.iter().zip(names).zip(&controls).zip(filled).take(received);
    for (((header, name), control), filled) in parts {
        // SAFETY: the kernel has written an address of this length.
        let from = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) }.as_socket();
        let len = header.msg_len as usize;
        let Some(from) = from else { continue };
        let mut about = Received { from, to: None, class: 0, len, stride: len, dropped: None };
        control.each(header.msg_hdr.msg_controllen, |level, kind, data| about.note(level, kind, data));
        *filled = Some(about);
    }
    Ok(received == count as usize)
}

impl Received {
    fn note(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        match (level, kind) {
            // IPv4 says it in an octet, IPv6 in an int.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.class = data.first().copied().unwrap_or(0),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => self.class = int(data).unwrap_or(0) as u8,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let address = data.get(8..).and_then(|rest| rest.first_chunk::<4>());
                self.to = address.map(|octets| Ipv4Addr::from(*octets).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                self.to = data.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into());
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                if let Some(stride) = int(data).and_then(|stride| usize::try_from(stride).ok()) {
                    self.stride = stride;
                }
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                self.dropped = data.first_chunk::<4>().map(|octets| u32::from_ne_bytes(*octets));
            }
            _ => {}
        }
    }
}

fn int(data: &[u8]) -> Option<c_int> {
    data.first_chunk::<4>().map(|octets| c_int::from_ne_bytes(*octets))
}
