//! The few requests of rtnetlink that set up a TUN device: find it, bring it up, give it addresses and routes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd};

/// A netlink socket. It belongs to the network namespace in which it was opened.
pub(crate) struct Netlink {
    socket: File,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket in the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: a call with integers only.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and belongs to nobody else. A netlink socket reads and writes whole messages
        // through the calls of a file.
        let socket = unsafe { File::from_raw_fd(fd) };
        let timeout = libc::timeval { tv_sec: 5, tv_usec: 0 };
        // SAFETY: `timeout` outlives the call and the length passed is its size.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            );
        }
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of the device `name`.
    pub(crate) fn index_of(&mut self, name: &str) -> io::Result<u32> {
        let mut body = link_header(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        let answer = self.request(libc::RTM_GETLINK, 0, &body)?;
        // After the header of the message: family, padding, type, then the index.
        let index = answer.get(HEADER_LEN + 4..).and_then(|rest| rest.first_chunk::<4>());
        index.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(malformed)
    }

    /// Sets the MTU and brings the device up.
    pub(crate) fn bring_up(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let mut body = link_header(index, up, up);
        attribute(&mut body, libc::IFLA_MTU, &mtu.to_ne_bytes());
        self.request(libc::RTM_NEWLINK, ACK, &body).map(drop)
    }

    /// Gives the device an address.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        // Without duplicate address detection: nobody else is on the device, and the address is wanted at once.
        let flags = if address.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
        let mut body = vec![family(address), prefix, flags, libc::RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &octets(address));
        attribute(&mut body, libc::IFA_ADDRESS, &octets(address));
        self.request(libc::RTM_NEWADDR, ACK | CREATE_OR_REPLACE, &body).map(drop)
    }

    /// Routes a network to the device, in the main table.
    pub(crate) fn add_route(&mut self, index: u32, network: IpAddr, prefix: u8) -> io::Result<()> {
        let body = route(index, network, prefix);
        self.request(libc::RTM_NEWROUTE, ACK | CREATE_OR_REPLACE, &body).map(drop)
    }

    /// Takes such a route away.
    pub(crate) fn remove_route(&mut self, index: u32, network: IpAddr, prefix: u8) -> io::Result<()> {
        let body = route(index, network, prefix);
        self.request(libc::RTM_DELROUTE, ACK, &body).map(drop)
    }

    /// Sends one message and reads its answer.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER_LEN + body.len());
        message.extend(((HEADER_LEN + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend_from_slice(body);
        self.socket.write_all(&message)?;
        let mut answer = vec![0; ANSWER_MAX];
        loop {
            let len = self.socket.read(&mut answer)?;
            let message = answer.get(..len).ok_or_else(malformed)?;
            if number(message, 8)? != self.sequence {
                continue; // left over from a request that timed out
            }
            if number(message, 4)? as u16 == libc::NLMSG_ERROR as u16 {
                match number(message, HEADER_LEN)? as i32 {
                    0 => {}
                    error => return Err(io::Error::from_raw_os_error(-error)),
                }
            }
            answer.truncate(len);
            return Ok(answer);
        }
    }
}

/// Octets of `nlmsghdr`.
const HEADER_LEN: usize = 16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const CREATE_OR_REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
/// A description of one device, the longest answer asked for, has less than 4 KiB.
const ANSWER_MAX: usize = 16_384;

fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    for value in [index, flags, change] {
        body.extend(value.to_ne_bytes());
    }
    body
}

fn route(index: u32, network: IpAddr, prefix: u8) -> Vec<u8> {
    let mut body = vec![
        family(network),
        prefix,
        0, // source prefix
        0, // TOS
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0, // flags, four octets
        0,
        0,
        0,
    ];
    attribute(&mut body, libc::RTA_DST, &octets(network));
    attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn number(message: &[u8], at: usize) -> io::Result<u32> {
    let bytes = message.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "unexpected answer of netlink")
}
