//! What there is no other way to ask the kernel for: a TUN device, and many datagrams by one call.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Octets of the header before each packet of a device with offload: that of virtio-net without a count of buffers.
pub(crate) const VNET_HEADER: usize = 10;

/// Makes a TUN device in the namespace of the calling thread. With offload packets have a header, and come as large as they may.
pub(crate) fn tun(name: &str, offload: bool) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let more = if offload { libc::IFF_VNET_HDR } else { 0 };
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | more) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is and which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if offload {
        let what = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(what)) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(file)
}

/// Datagrams that one call sends at most.
const BATCH: usize = 64;

/// Sends `datagram` so many times, each as a packet of its own: how many went.
pub(crate) fn send_many(socket: &UdpSocket, datagram: &[u8], count: usize) -> io::Result<usize> {
    let mut piece = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: `mmsghdr` is plain data for which all zeroes is a valid value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for header in &mut headers {
        header.msg_hdr.msg_iov = &raw mut piece;
        header.msg_hdr.msg_iovlen = 1;
    }
    let count = count.min(BATCH) as libc::c_uint;
    // SAFETY: all headers point to `piece` and that to `datagram`, which outlive the call; the kernel writes `msg_len` alone.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
