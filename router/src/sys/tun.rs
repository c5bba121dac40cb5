//! TUN devices with several queues.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// A device that was opened.
pub(crate) struct Opened {
    /// One for each shard.
    pub(crate) queues: Vec<File>,
    /// One to write to alone. `None` where there is one shard, or the kernel has nothing like it.
    pub(crate) aside: Option<File>,
    pub(crate) offload: Offload,
}

/// What a device can do besides packets one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Nothing: packets come and go bare.
    None,
    /// Each packet has a header ([`super::virtio`]), and runs of TCP come and go as one.
    Tcp,
    /// Runs of UDP as well: Linux 6.2.
    TcpAndUdp,
}

impl Offload {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Tcp, Self::TcpAndUdp];
}

/// Opens `queues` queues of the device `name`, creating it in the namespace of the calling thread, with as much offload as the
/// kernel has or with none. The device lives as long as its queues are open. `ResourceBusy` when there is an interface of this
/// name: its queues are somebody else's.
///
/// `IFF_NO_PI`: packets come without the header of TUN. `IFF_MULTI_QUEUE`: where no program says it ([`super::device_steering`]), the
/// kernel sends a flow to the queue that last wrote to it, so that a flow comes to the shard of its SA.
///
/// Where a flow may come in by any shard that would not end, if both ends of a tunnel did so: what is under way in one direction moves the other,
/// which moves the first again. What is written [`Opened::aside`] moves nothing, and the kernel chooses the queue by a hash of the flow. So one
/// end writes aside, and the other follows it: then a flow has one pair, and one shard at either end, and whoever opens a question seals the
/// answer without another thread being woken.
pub(crate) fn open(name: &str, queues: usize, offload: bool) -> io::Result<Opened> {
    let offloaded = if offload { open_offloaded(name, queues)? } else { None };
    let (files, offload) = match offloaded {
        Some(opened) => opened,
        None => {
            let files = (0..queues).map(|number| open_queue(name, number == 0, 0));
            (files.collect::<io::Result<_>>()?, Offload::None)
        }
    };
    let more = if offload == Offload::None { 0 } else { libc::IFF_VNET_HDR };
    // Without it everything works, and flows of tunnels with several SAs may be put out of order.
    let aside = if queues > 1 { open_aside(name, more).ok() } else { None };
    Ok(Opened { queues: files, aside, offload })
}

/// A queue that the kernel gives nothing to, and whose writing does not move flows.
fn open_aside(name: &str, more: libc::c_int) -> io::Result<File> {
    let queue = open_queue(name, false, more)?;
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags = libc::IFF_DETACH_QUEUE as libc::c_short;
    // SAFETY: TUNSETQUEUE reads one `ifreq`, which `request` is and which outlives the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) };
    if result == 0 { Ok(queue) } else { Err(io::Error::last_os_error()) }
}

/// `None` when the kernel has no offload.
fn open_offloaded(name: &str, queues: usize) -> io::Result<Option<(Vec<File>, Offload)>> {
    let first = match open_queue(name, true, libc::IFF_VNET_HDR) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        first => first?,
    };
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let offload = if set_offload(&first, tcp | USO4 | USO6).is_ok() {
        Offload::TcpAndUdp
    } else if set_offload(&first, tcp).is_ok() {
        Offload::Tcp
    } else {
        return Ok(None);
    };
    let mut files = vec![first];
    for _ in 1..queues {
        files.push(open_queue(name, false, libc::IFF_VNET_HDR)?);
    }
    for file in &files {
        set_header_len(file)?;
    }
    Ok(Some((files, offload)))
}

/// `TUN_F_USO4` and `TUN_F_USO6`.
const USO4: libc::c_uint = 0x20;
const USO6: libc::c_uint = 0x40;

fn set_offload(queue: &File, offload: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_header_len(queue: &File) -> io::Result<()> {
    let len = super::virtio::HEADER_LEN as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn open_queue(name: &str, first: bool, more: libc::c_int) -> io::Result<File> {
    let queue =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = interface_request(name)?;
    let exclusive = if first { libc::IFF_TUN_EXCL } else { 0 };
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | exclusive | more;
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
