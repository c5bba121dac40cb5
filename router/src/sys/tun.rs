//! TUN devices with several queues.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Opens `queues` queues of the device `name`, creating it in the namespace of the calling thread. The device lives as
/// long as its queues are open. `ResourceBusy` when there is an interface of this name: its queues are somebody else's.
///
/// `IFF_NO_PI`: packets come bare. `IFF_MULTI_QUEUE`: the kernel sends a flow to the queue that last wrote to it, so that
/// a flow stays on the shard of its SA.
pub(crate) fn open(name: &str, queues: usize) -> io::Result<Vec<File>> {
    (0..queues).map(|number| open_queue(name, number == 0)).collect()
}

fn open_queue(name: &str, first: bool) -> io::Result<File> {
    let queue =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = interface_request(name)?;
    let exclusive = if first { libc::IFF_TUN_EXCL } else { 0 };
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | exclusive;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is and which outlives the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 { Ok(queue) } else { Err(io::Error::last_os_error()) }
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '/', '%']) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}
