//! Why IKE does not get through, as far as the system or the network says so.
//!
//! Two things that must not be confused. [`Unsent`] is what the own system says of a message: that is true.
//! [`Unreachable`] is what ICMP says of one that was sent: anyone on the Internet can forge it, so it explains and never ends
//! or delays anything.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use thiserror::Error;

use crate::datagram::NON_ESP_MARKER;
use crate::sys::error_queue::Reported;

/// Why an IKE message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsent {
    /// The routing table has nothing for the peer's address.
    #[error("this host has no route to {0}")]
    NoRoute(IpAddr),
    /// The route for the peer's address says that nothing is there.
    #[error("the route to {0} on this host is of type `unreachable`, or its link is down")]
    HostUnreachable(IpAddr),
    /// A packet filter on this host drops or rejects it, or the route says so.
    #[error("a firewall of this host (output) or a route of type `prohibit` does not let packets to {0} out")]
    Forbidden(IpAddr),
    /// The route for the peer's address drops everything.
    #[error(
        "the route to {0} on this host is of type `blackhole`, or nothing can be sent to such an address"
    )]
    Blackhole(IpAddr),
    /// Our address, which packets are to leave from, was taken from the host.
    #[error("this host does not have the address {0} any more")]
    AddressGone(IpAddr),
    /// The message does not fit into a datagram, or not into one of this path.
    #[error("a message of {octets} octets is too long to be sent to {remote}")]
    TooLong {
        /// The peer's address.
        remote: IpAddr,
        /// Length of the message.
        octets: usize,
    },
    /// It would go into a tenant's device; see [`crate::RouterHandle::swallower`].
    #[error(
        "what is sent to {remote} would go into {device}, a TUN device in the node's own network namespace"
    )]
    Swallowed {
        /// The peer's address.
        remote: IpAddr,
        /// Name of the device.
        device: String,
    },
    /// There is no socket with this local address.
    #[error("the router does not listen on {0}")]
    NotLocal(IpAddr),
    /// The socket's send buffer or the device's queue is full. The only one that passes by itself.
    #[error("the send buffer or the queue of the network device is full")]
    Congested,
    /// The router has been shut down.
    #[error("the router has stopped")]
    Stopped,
    /// What else the system says.
    #[error("this host does not send to {remote}: {reason}")]
    Other {
        /// The peer's address.
        remote: IpAddr,
        /// In the system's words.
        reason: String,
    },
}

impl Unsent {
    /// In a word, for programs. Stable across versions.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoRoute(_) => "NoRoute",
            Self::HostUnreachable(_) => "HostUnreachable",
            Self::Forbidden(_) => "Forbidden",
            Self::Blackhole(_) => "Blackhole",
            Self::AddressGone(_) => "AddressGone",
            Self::TooLong { .. } => "TooLong",
            Self::Swallowed { .. } => "Swallowed",
            Self::NotLocal(_) => "NotLocal",
            Self::Congested => "Congested",
            Self::Stopped => "Stopped",
            Self::Other { .. } => "NotSent",
        }
    }

    pub(crate) fn new(error: &io::Error, local: IpAddr, remote: IpAddr, octets: usize) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::Congested;
        }
        match error.raw_os_error() {
            // The kernel says both of a source that is not its own as well.
            Some(libc::ENETUNREACH | libc::EINVAL | libc::EADDRNOTAVAIL) if !is_own(local) => {
                Self::AddressGone(local)
            }
            Some(libc::ENETUNREACH) => Self::NoRoute(remote),
            Some(libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => Self::HostUnreachable(remote),
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden(remote),
            Some(libc::EINVAL) => Self::Blackhole(remote),
            Some(libc::EMSGSIZE) => Self::TooLong { remote, octets },
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::Congested,
            _ => Self::Other { remote, reason: error.to_string() },
        }
    }
}

/// Whether this host has the address: only then a socket can have it. For what failed, not for every message.
fn is_own(address: IpAddr) -> bool {
    match UdpSocket::bind(SocketAddr::new(address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

/// What an ICMP error says of a datagram that was sent from an IKE port, or of ESP that was.
///
/// Anyone can forge it: it may explain why nothing comes back, and must never end or delay anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// Our address and port.
    pub local: SocketAddr,
    /// Where the datagram was sent. The port is 0 for ESP without UDP.
    pub remote: SocketAddr,
    /// What it says.
    pub reason: IcmpReason,
    /// Who says it, if that is known: a router on the way, the peer, or this host itself, whose neighbour does not answer or
    /// whose firewall rejects.
    pub reporter: Option<IpAddr>,
    /// The SPIs of the IKE message it quotes, initiator's and responder's. A forger who has not seen the message does not know
    /// them. `None` when it quotes too little, or ESP.
    pub ike_spis: Option<(u64, u64)>,
}

impl Unreachable {
    /// `quoted` is the beginning of what was sent from a socket that is bound to `bound`.
    pub(crate) fn new(reported: &Reported, quoted: &[u8], bound: SocketAddr, carries: Carries) -> Self {
        let message = match carries {
            Carries::Ike => Some(quoted),
            Carries::MarkedIke => quoted.strip_prefix(&NON_ESP_MARKER),
            Carries::Esp => None,
        };
        let spis = message.and_then(|message| {
            let (initiator, rest) = message.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*initiator), u64::from_be_bytes(*rest.first_chunk::<8>()?)))
        });
        Self {
            local: SocketAddr::new(reported.local.unwrap_or(bound.ip()), bound.port()),
            remote: reported.to,
            reason: IcmpReason::new(reported),
            reporter: reported.by,
            ike_spis: spis,
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.remote, self.reason)?;
        match self.reporter {
            Some(reporter) if reporter == self.local.ip() => write!(f, " (ICMP of this host itself)"),
            Some(reporter) if reporter == self.remote.ip() => write!(f, " (ICMP of the peer's address)"),
            Some(reporter) => write!(f, " (ICMP of {reporter})"),
            None => write!(f, " (ICMP)"),
        }
    }
}

/// What is sent from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Nothing but IKE.
    Ike,
    /// ESP, and IKE with the non-ESP marker.
    MarkedIke,
    /// Nothing but ESP.
    Esp,
}

/// The kinds of errors that ICMP (RFC 792, RFC 1812 section 5.2.7) and ICMPv6 (RFC 4443 section 3) know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IcmpReason {
    /// The host is there, but nobody listens on the port, or a firewall says so.
    Port,
    /// A router does not know the way.
    Net,
    /// The last router, or this host, gets no answer of the host.
    Host,
    /// The host does not know the protocol: ESP or UDP.
    Protocol,
    /// A firewall or a router's policy refuses it.
    Prohibited,
    /// The datagram was too large for a link on the way. The kernel has learned it; what follows is fragmented.
    TooBig {
        /// What the link takes in octets; 0 when the error does not say.
        mtu: u32,
    },
    /// The hop limit was used up: the route goes round in a circle.
    TimeExceeded,
    /// Another one.
    Other {
        /// Type of the ICMP message.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

impl IcmpReason {
    /// In a word, for programs. Stable across versions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Port => "IcmpPortUnreachable",
            Self::Net => "IcmpNetUnreachable",
            Self::Host => "IcmpHostUnreachable",
            Self::Protocol => "IcmpProtocolUnreachable",
            Self::Prohibited => "IcmpProhibited",
            Self::TooBig { .. } => "IcmpTooBig",
            Self::TimeExceeded => "IcmpTimeExceeded",
            Self::Other { .. } => "IcmpOther",
        }
    }

    fn new(reported: &Reported) -> Self {
        let (kind, code) = (reported.kind, reported.code);
        match (reported.v6, kind, code) {
            (false, 3, 0 | 6 | 11) | (true, 1, 0) => Self::Net,
            (false, 3, 1 | 7 | 8 | 12) | (true, 1, 2 | 3) => Self::Host,
            (false, 3, 2) | (true, 4, 1) => Self::Protocol,
            (false, 3, 3) | (true, 1, 4) => Self::Port,
            (false, 3, 4) | (true, 2, _) => Self::TooBig { mtu: reported.info },
            (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => Self::Prohibited,
            (false, 11, _) | (true, 3, _) => Self::TimeExceeded,
            _ => Self::Other { kind, code },
        }
    }
}

impl fmt::Display for IcmpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => write!(f, "port unreachable: nobody listens there, or a firewall rejects"),
            Self::Net => write!(f, "network unreachable: a router has no route"),
            Self::Host => write!(f, "host unreachable: it does not answer on its link"),
            Self::Protocol => write!(f, "protocol unreachable: the host does not know ESP or UDP"),
            Self::Prohibited => write!(f, "administratively prohibited: a firewall rejects"),
            Self::TooBig { mtu: 0 } => write!(f, "packet too big for a link on the way"),
            Self::TooBig { mtu } => {
                write!(f, "packet too big for a link on the way, which takes {mtu} octets")
            }
            Self::TimeExceeded => write!(f, "hop limit used up: the route may be a loop"),
            Self::Other { kind, code } => write!(f, "ICMP error of type {kind}, code {code}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn reported(v6: bool, kind: u8, code: u8) -> Reported {
        let to = "192.0.2.9:500".parse().unwrap();
        Reported { to, local: None, by: None, v6, kind, code, info: 1400 }
    }

    #[test]
    fn both_families_have_the_same_reasons() {
        for (four, six, reason) in [
            ((3, 0), (1, 0), IcmpReason::Net),
            ((3, 1), (1, 3), IcmpReason::Host),
            ((3, 3), (1, 4), IcmpReason::Port),
            ((3, 4), (2, 0), IcmpReason::TooBig { mtu: 1400 }),
            ((3, 13), (1, 1), IcmpReason::Prohibited),
            ((11, 0), (3, 0), IcmpReason::TimeExceeded),
        ] {
            assert_eq!(IcmpReason::new(&reported(false, four.0, four.1)), reason);
            assert_eq!(IcmpReason::new(&reported(true, six.0, six.1)), reason);
        }
        let other = IcmpReason::new(&reported(false, 12, 0));
        assert_eq!((other, other.name()), (IcmpReason::Other { kind: 12, code: 0 }, "IcmpOther"));
    }

    #[test]
    fn quoted_messages_are_recognized_as_far_as_they_go() {
        let bound = "192.0.2.1:500".parse().unwrap();
        let message: Vec<u8> = [1u64.to_be_bytes(), 2u64.to_be_bytes()].concat();
        let marked = [&[0; 4], &message[..]].concat();
        let spis = |quoted: &[u8], natt| {
            let carries = if natt { Carries::MarkedIke } else { Carries::Ike };
            Unreachable::new(&reported(false, 3, 3), quoted, bound, carries).ike_spis
        };
        assert_eq!((spis(&message, false), spis(&marked, true)), (Some((1, 2)), Some((1, 2))));
        assert_eq!(spis(&[&[1, 2, 3, 4], &message[..]].concat(), true), None, "ESP");
        for len in 0..16 {
            assert_eq!((spis(&message[..len], false), spis(&marked[..len + 4], true)), (None, None));
        }
    }

    #[test]
    fn who_says_it_is_told() {
        let bound = "192.0.2.1:500".parse().unwrap();
        let text = |by: &str| {
            let by = Some(by.parse().unwrap());
            Unreachable::new(&Reported { by, ..reported(false, 3, 1) }, &[], bound, Carries::Ike).to_string()
        };
        let start = "192.0.2.9:500: host unreachable";
        for (by, end) in [
            ("192.0.2.1", "(ICMP of this host itself)"),
            ("192.0.2.9", "(ICMP of the peer's address)"),
            ("192.0.2.254", "(ICMP of 192.0.2.254)"),
        ] {
            assert!(text(by).starts_with(start) && text(by).ends_with(end), "{}", text(by));
        }
    }
}
