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
        number(&answer, HEADER_LEN + 4)
    }

    /// Whether the device is up; `ENODEV` when it is gone.
    pub(crate) fn is_up(&mut self, index: u32) -> io::Result<bool> {
        let answer = self.request(libc::RTM_GETLINK, 0, &link_header(index, 0, 0))?;
        Ok(number(&answer, HEADER_LEN + 8)? & libc::IFF_UP as u32 != 0)
    }

    /// Sets the MTU and how many packets may wait at each queue, and brings the device up.
    pub(crate) fn bring_up(&mut self, index: u32, mtu: u32, queue: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let mut body = link_header(index, up, up);
        attribute(&mut body, libc::IFLA_MTU, &mtu.to_ne_bytes());
        attribute(&mut body, libc::IFLA_TXQLEN, &queue.to_ne_bytes());
        self.request(libc::RTM_NEWLINK, ACK, &body).map(drop)
    }

    /// Gives the device an address, with or without a route to the network that it is in. False when it has it.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        routed: bool,
    ) -> io::Result<bool> {
        // Without duplicate address detection: nobody else is on the device, and the address is wanted at once.
        let no_dad = if address.is_ipv6() { libc::IFA_F_NODAD } else { 0 };
        let flags = no_dad | if routed { 0 } else { IFA_F_NOPREFIXROUTE };
        let mut body = vec![family(address), prefix, no_dad as u8, libc::RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &octets(address));
        attribute(&mut body, libc::IFA_ADDRESS, &octets(address));
        attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        match self.request(libc::RTM_NEWADDR, ACK | CREATE_NEW, &body) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Routes a network to the device. `AlreadyExists` when the table has a route to it: that one stays.
    pub(crate) fn add_route(&mut self, table: u32, index: u32, to: (IpAddr, u8)) -> io::Result<()> {
        self.request(libc::RTM_NEWROUTE, ACK | CREATE_NEW, &route(table, index, to)).map(drop)
    }

    /// The device that a packet of this process to an address leaves by.
    pub(crate) fn device_towards(&mut self, address: IpAddr) -> io::Result<u32> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut body = vec![family(address), bits, 0, 0, libc::RT_TABLE_UNSPEC, 0, 0, 0, 0, 0, 0, 0];
        attribute(&mut body, libc::RTA_DST, &octets(address));
        let answer = self.request(libc::RTM_GETROUTE, 0, &body)?;
        let device = attribute_of(&answer, HEADER_LEN + ROUTE_HEADER_LEN, libc::RTA_OIF);
        let device = device.and_then(|value| value.first_chunk::<4>()).ok_or_else(malformed)?;
        Ok(u32::from_ne_bytes(*device))
    }

    /// Takes such a route away, and no other.
    pub(crate) fn remove_route(&mut self, table: u32, index: u32, to: (IpAddr, u8)) -> io::Result<()> {
        self.request(libc::RTM_DELROUTE, ACK, &route(table, index, to)).map(drop)
    }

    /// Has a table asked before the main one for some packets.
    pub(crate) fn add_rule(&mut self, table: u32, whose: &RuleFor<'_>) -> io::Result<()> {
        self.request(libc::RTM_NEWRULE, ACK | CREATE_NEW, &rule(table, whose)).map(drop)
    }

    /// Takes such a rule away.
    pub(crate) fn remove_rule(&mut self, table: u32, whose: &RuleFor<'_>) -> io::Result<()> {
        self.request(libc::RTM_DELRULE, ACK, &rule(table, whose)).map(drop)
    }

    /// Takes the rules of ours away whose tables `is_stale` knows to be nobody's: a process that is killed leaves them.
    pub(crate) fn remove_stale_rules(
        &mut self,
        mut is_stale: impl FnMut(&mut Self, u32) -> bool,
    ) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut body = vec![0; RULE_HEADER_LEN];
            body.splice(..1, [family as u8]);
            for found in self.dump(libc::RTM_GETRULE, &body)? {
                let ours = attribute_of(&found, RULE_HEADER_LEN, FRA_PROTOCOL) == Some(&[PROTOCOL]);
                let table =
                    attribute_of(&found, RULE_HEADER_LEN, FRA_TABLE).and_then(|v| v.first_chunk::<4>());
                if let (true, Some(table)) = (ours, table)
                    && is_stale(self, u32::from_ne_bytes(*table))
                {
                    self.request(libc::RTM_DELRULE, ACK, &found)?;
                }
            }
        }
        Ok(())
    }

    /// The bodies of all messages that answer a request for a list.
    fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.send(kind, libc::NLM_F_DUMP as u16, body)?;
        let (mut found, mut buffer) = (Vec::new(), vec![0; ANSWER_MAX]);
        loop {
            let len = self.socket.read(&mut buffer)?;
            let mut rest = buffer.get(..len).ok_or_else(malformed)?;
            while !rest.is_empty() {
                let len = number(rest, 0)? as usize;
                let message = rest.get(..len).filter(|_| len >= HEADER_LEN).ok_or_else(malformed)?;
                rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
                if number(message, 8)? != self.sequence {
                    continue; // left over from a request that timed out
                }
                match i32::from(number(message, 4)? as u16) {
                    libc::NLMSG_DONE => return Ok(found),
                    libc::NLMSG_ERROR => {
                        return Err(io::Error::from_raw_os_error(-(number(message, HEADER_LEN)? as i32)));
                    }
                    _ => found.push(message.get(HEADER_LEN..).unwrap_or_default().to_vec()),
                }
            }
        }
    }

    /// Sends one message and reads its answer.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(kind, flags, body)?;
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

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER_LEN + body.len());
        message.extend(((HEADER_LEN + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend_from_slice(body);
        self.socket.write_all(&message)
    }
}

/// Which packets a rule is for.
pub(crate) enum RuleFor<'a> {
    /// Those from this address.
    From(IpAddr),
    /// Those of sockets that are bound to this device, of IPv4 or not.
    BoundTo(&'a str, bool),
}

/// Octets of `nlmsghdr`.
const HEADER_LEN: usize = 16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const CREATE_NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// A description of one device has less than 4 KiB, and the kernel sends a list in pieces of no more than 16.
const ANSWER_MAX: usize = 16_384;

fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    for value in [index, flags, change] {
        body.extend(value.to_ne_bytes());
    }
    body
}

fn route(table: u32, index: u32, (network, prefix): (IpAddr, u8)) -> Vec<u8> {
    let mut body = vec![
        family(network),
        prefix,
        0, // source prefix
        0, // TOS
        libc::RT_TABLE_UNSPEC,
        PROTOCOL,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0, // flags, four octets
        0,
        0,
        0,
    ];
    attribute(&mut body, libc::RTA_DST, &octets(network));
    attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
    attribute(&mut body, libc::RTA_TABLE, &table.to_ne_bytes());
    body
}

fn rule(table: u32, whose: &RuleFor<'_>) -> Vec<u8> {
    let (v4, source_prefix) = match whose {
        RuleFor::From(address) if address.is_ipv4() => (true, 32),
        RuleFor::From(_) => (false, 128),
        RuleFor::BoundTo(_, v4) => (*v4, 0),
    };
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    // Family, prefixes of destination and source, TOS, table, two that are reserved, action, flags of four octets.
    let mut body =
        vec![family as u8, 0, source_prefix, 0, libc::RT_TABLE_UNSPEC, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    match whose {
        RuleFor::From(address) => attribute(&mut body, FRA_SRC, &octets(*address)),
        RuleFor::BoundTo(name, _) => attribute(&mut body, FRA_OIFNAME, &[name.as_bytes(), b"\0"].concat()),
    }
    attribute(&mut body, FRA_PRIORITY, &RULE_PRIORITY.to_ne_bytes());
    attribute(&mut body, FRA_TABLE, &table.to_ne_bytes());
    attribute(&mut body, FRA_PROTOCOL, &[PROTOCOL]);
    body
}

/// `RT_TABLE_MAIN`, as wide as tables are.
pub(crate) const MAIN_TABLE: u32 = libc::RT_TABLE_MAIN as u32;
/// Marks routes and rules as ours (`rtm_protocol`): a number that iproute2 gives to nobody.
const PROTOCOL: u8 = 67;
/// Before the main table's 32766.
const RULE_PRIORITY: u32 = 32_000;
/// Octets of `rtmsg`.
const ROUTE_HEADER_LEN: usize = 12;
/// linux/if_addr.h.
const IFA_FLAGS: u16 = 8;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// Octets of `fib_rule_hdr`, and its constants (linux/fib_rules.h), which `libc` does not have.
const RULE_HEADER_LEN: usize = 12;
const FR_ACT_TO_TBL: u8 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FRA_PROTOCOL: u16 = 21;

/// The value of an attribute of a message whose attributes begin at `at`.
fn attribute_of(body: &[u8], at: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = body.get(at..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(*rest.first_chunk::<2>()?));
        let found = u16::from_ne_bytes(*rest.get(2..)?.first_chunk::<2>()?);
        if found == kind {
            return rest.get(4..len);
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
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
