//! Transport mode (RFC 4303 section 3.1.1): between two hosts, what follows the IP header is sealed, and the IP header
//! travels in front of ESP.
//!
//! Whoever sends by a socket does not write that header, and whoever receives by one is not given all of it. So outbound
//! a packet's own header is left behind, and inbound one is made anew from what both sides know: the addresses of the two
//! hosts, the next header, the length, and the traffic class of the header outside. What is lost is the identification and
//! DF of IPv4, the flow label of IPv6, and the hop limit, which is that of a packet just sent.
//!
//! Fragments are not sealed, nor packets with IPv4 options or IPv6 extension headers: the former have to be whole (RFC 4303
//! section 3.3.4), the latter would have to go outside.

use std::net::IpAddr;

use crate::checksum;
use crate::error::{OpenError, SealError};
use crate::ip::{self, DONT_FRAGMENT, IPV4_HEADER_LEN, IPV6_HEADER_LEN};
use crate::selector::{Selector, SelectorPair};
use crate::wire::{NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_NONE};

/// What a Child SA protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Whole packets, between whatever is behind the two ends.
    #[default]
    Tunnel,
    /// What the two ends themselves say to each other.
    Transport,
}

/// The two ends of a pair in transport mode, of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosts {
    local: IpAddr,
    remote: IpAddr,
}

impl Hosts {
    /// `None` for addresses of two families.
    pub fn new(local: IpAddr, remote: IpAddr) -> Option<Self> {
        (local.is_ipv4() == remote.is_ipv4()).then_some(Self { local, remote })
    }

    /// The hosts that selectors stand for; `None` when a side is more than one address.
    pub fn of(selectors: &SelectorPair) -> Option<Self> {
        Self::new(single(&selectors.local)?, single(&selectors.remote)?)
    }

    /// Whether they have IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.local.is_ipv4()
    }

    /// Octets of the IP header that is not sealed.
    pub fn header_len(&self) -> usize {
        if self.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
    }

    /// Writes the packet that the peer sealed to the front of `out`: its length. `class` is the TOS or traffic class of the
    /// header outside, ECN included: in transport mode it is the packet's own.
    pub(crate) fn rebuild(
        &self,
        next_header: u8,
        class: u8,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, OpenError> {
        if next_header == NEXT_HEADER_NONE {
            return Err(OpenError::Dummy);
        }
        // Padding against traffic analysis (RFC 4303 section 2.7) is what is beyond the payload's own length.
        let payload = own_len(next_header, payload).and_then(|len| payload.get(..len)).unwrap_or(payload);
        let header_len = self.header_len();
        let len = header_len + payload.len();
        let (header, rest) = out.split_at_mut_checked(header_len).ok_or(OpenError::BadInner)?;
        rest.get_mut(..payload.len()).ok_or(OpenError::BadInner)?.copy_from_slice(payload);
        match (self.remote, self.local) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = u16::try_from(len).map_err(|_| OpenError::BadInner)?.to_be_bytes();
                // Identification 0 with DF: a packet that is never fragmented needs none (RFC 6864 section 4).
                let fixed =
                    [0x45, class, total[0], total[1], 0, 0, DONT_FRAGMENT, 0, HOPS, next_header, 0, 0];
                let octets = fixed.into_iter().chain(source.octets()).chain(destination.octets());
                header.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
                let sum = checksum::of(&[header]).to_be_bytes();
                header.get_mut(10..12).ok_or(OpenError::BadInner)?.copy_from_slice(&sum);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                // What routers look at, and fragments, belong in front of ESP (RFC 4303 section 3.1.1).
                if ip::precedes_esp(next_header) {
                    return Err(OpenError::TransportHeader);
                }
                let length = u16::try_from(payload.len()).map_err(|_| OpenError::BadInner)?.to_be_bytes();
                let fixed = [0x60 | class >> 4, class << 4, 0, 0, length[0], length[1], next_header, HOPS];
                let octets = fixed.into_iter().chain(source.octets()).chain(destination.octets());
                header.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
            }
            // There are no hosts of two families.
            _ => return Err(OpenError::BadInner),
        }
        Ok(len)
    }
}

/// What is sealed of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    protocol: u8,
    header_len: usize,
    len: usize,
    knows_its_length: bool,
}

impl Upper {
    /// `packet` is a whole IP packet, without octets after its own end.
    ///
    /// # Errors
    /// What cannot be sealed: anything but a whole packet with a plain header.
    pub fn of(packet: &[u8]) -> Result<Self, SealError> {
        let (protocol, header_len) = match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let header = packet.first_chunk::<IPV4_HEADER_LEN>().ok_or(SealError::BadInner)?;
                match usize::from(header[0] & 0x0f) * 4 {
                    IPV4_HEADER_LEN => {}
                    ..IPV4_HEADER_LEN => return Err(SealError::BadInner),
                    _ => return Err(SealError::TransportHeader),
                }
                if u16::from_be_bytes([header[6], header[7]]) & ANY_FRAGMENT != 0 {
                    return Err(SealError::TransportFragment);
                }
                (header[9], IPV4_HEADER_LEN)
            }
            Some(6) => {
                let header = packet.first_chunk::<IPV6_HEADER_LEN>().ok_or(SealError::BadInner)?;
                match header[6] {
                    ip::FRAGMENT => return Err(SealError::TransportFragment),
                    next if ip::is_extension(next) => return Err(SealError::TransportHeader),
                    next => (next, IPV6_HEADER_LEN),
                }
            }
            _ => return Err(SealError::BadInner),
        };
        // The peer would take it for a dummy.
        if protocol == NEXT_HEADER_NONE {
            return Err(SealError::TransportHeader);
        }
        let upper = packet.get(header_len..).unwrap_or_default();
        let knows_its_length = own_len(protocol, upper) == Some(upper.len());
        Ok(Self { protocol, header_len, len: upper.len(), knows_its_length })
    }

    /// The next header.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Octets of the IP header, which is left behind.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Octets after it.
    #[allow(clippy::len_without_is_empty)] // A packet may well have none.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the receiver can tell the payload from padding after it (RFC 4303 section 2.7): the protocol says how long
    /// it is, which most leave to IP.
    pub fn may_be_padded(&self) -> bool {
        self.knows_its_length
    }
}

/// The length that a payload says it has, when it is not more than there is.
fn own_len(protocol: u8, payload: &[u8]) -> Option<usize> {
    let word = |at: usize| {
        let octets = payload.get(at..)?.first_chunk::<2>()?;
        Some(usize::from(u16::from_be_bytes(*octets)))
    };
    let (len, least) = match protocol {
        ip::UDP => (word(4)?, UDP_HEADER_LEN),
        NEXT_HEADER_IPV4 => (word(2)?, IPV4_HEADER_LEN),
        NEXT_HEADER_IPV6 => (word(4)? + IPV6_HEADER_LEN, IPV6_HEADER_LEN),
        _ => return None,
    };
    (len >= least && len <= payload.len()).then_some(len)
}

fn single(selectors: &[Selector]) -> Option<IpAddr> {
    let host = selectors.first()?.start;
    selectors.iter().all(|selector| (selector.start, selector.end) == (host, host)).then_some(host)
}

/// The largest packet that [`crate::InboundSa::open_transport`] writes.
pub const MAX_PACKET: usize = IPV6_HEADER_LEN + u16::MAX as usize;
/// TTL or hop limit of a packet just sent (RFC 1700, and the default of most hosts).
const HOPS: u8 = 64;
/// The flag for more fragments, and the offset.
const ANY_FRAGMENT: u16 = 0x3fff;
const UDP_HEADER_LEN: usize = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn hosts(v6: bool) -> Hosts {
        let (local, remote) = if v6 { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
        Hosts::new(local.parse().unwrap(), remote.parse().unwrap()).unwrap()
    }

    #[test]
    fn hosts_are_single_addresses_of_one_family() {
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert_eq!(Hosts::new(a, c), None);
        let host = |address| Selector::subnet(address, 128);
        let of = |local: Vec<Selector>, remote: Vec<Selector>| Hosts::of(&SelectorPair { local, remote });
        let web = Selector { protocol: 6, start_port: 443, end_port: 443, ..host(a) };
        let dns = Selector { protocol: 17, start_port: 53, end_port: 53, ..host(a) };
        assert_eq!(of(vec![web, dns], vec![host(b)]), Hosts::new(a, b));
        assert_eq!(of(vec![host(a), host(b)], vec![host(b)]), None);
        assert_eq!(of(vec![Selector::subnet(a, 31)], vec![host(b)]), None);
        assert_eq!(of(vec![], vec![host(b)]), None);
        assert_eq!(of(vec![host(c)], vec![host(b)]), None);
    }

    #[test]
    fn a_header_is_made_from_what_is_known() {
        let mut out = [0xee; 100];
        let len = hosts(false).rebuild(47, 0xb9, &[7; 5], &mut out).unwrap();
        assert_eq!(out[..10], [0x45, 0xb9, 0, 25, 0, 0, 0x40, 0, 64, 47]);
        assert_eq!(out[12..len], [192, 0, 2, 2, 192, 0, 2, 1, 7, 7, 7, 7, 7]);
        assert_eq!(checksum::of(&[&out[..20]]), 0);
        let len = hosts(true).rebuild(47, 0xb9, &[7; 5], &mut out).unwrap();
        assert_eq!(&out[..8], [0x6b, 0x90, 0, 0, 0, 5, 47, 64]);
        let info = ip::parse(&out[..len]).unwrap();
        assert_eq!((info.source, info.destination), (hosts(true).remote, hosts(true).local));
    }

    #[test]
    fn what_cannot_be_rebuilt_has_a_name() {
        let mut out = vec![0; MAX_PACKET];
        for v6 in [false, true] {
            assert_eq!(hosts(v6).rebuild(59, 0, &[0; 9], &mut out), Err(OpenError::Dummy));
            assert_eq!(hosts(v6).rebuild(6, 0, &vec![0; 65_536], &mut out), Err(OpenError::BadInner));
            assert_eq!(hosts(v6).rebuild(6, 0, &[0; 9], &mut [0; 48]).is_ok(), !v6);
        }
        assert_eq!(hosts(false).rebuild(6, 0, &vec![0; 65_516], &mut out), Err(OpenError::BadInner));
        assert_eq!(hosts(true).rebuild(6, 0, &vec![0; 65_535], &mut out), Ok(MAX_PACKET));
        for header in [0, 43, 44] {
            assert_eq!(hosts(true).rebuild(header, 0, &[0; 9], &mut out), Err(OpenError::TransportHeader));
        }
    }

    #[test]
    fn only_whole_packets_with_a_plain_header_are_sealed() {
        let mut v4 = vec![0x45, 0, 0, 28, 0, 9, 0x40, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        v4.extend([8, 0, 0, 0, 0, 0, 0, 0]);
        let upper = Upper::of(&v4).unwrap();
        assert_eq!(
            (upper.protocol(), upper.header_len(), upper.len(), upper.may_be_padded()),
            (1, 20, 8, false)
        );
        for (at, value, error) in [
            (0, 0x46, SealError::TransportHeader),
            (0, 0x44, SealError::BadInner),
            (0, 0x75, SealError::BadInner),
            (6, 0x20, SealError::TransportFragment),
            (7, 1, SealError::TransportFragment),
            (9, 59, SealError::TransportHeader),
        ] {
            let mut changed = v4.clone();
            changed[at] = value;
            assert_eq!(Upper::of(&changed), Err(error), "{at} {value}");
        }
        let mut v6 = vec![0; 48];
        v6[0] = 0x60;
        for (next, result) in [
            (58, Ok(58)),
            (135, Ok(135)),
            (44, Err(SealError::TransportFragment)),
            (0, Err(SealError::TransportHeader)),
            (43, Err(SealError::TransportHeader)),
            (51, Err(SealError::TransportHeader)),
            (60, Err(SealError::TransportHeader)),
            (59, Err(SealError::TransportHeader)),
        ] {
            v6[6] = next;
            assert_eq!(Upper::of(&v6).map(|upper| upper.protocol()), result);
        }
        assert_eq!(Upper::of(&[]), Err(SealError::BadInner));
        assert_eq!(Upper::of(&v6[..39]), Err(SealError::BadInner));
    }

    #[test]
    fn only_what_says_how_long_it_is_may_be_padded() {
        let udp = [0, 1, 0, 2, 0, 10, 0, 0, 5, 5];
        assert_eq!(own_len(17, &udp), Some(10));
        assert_eq!(own_len(17, &[&udp[..], &[0; 90]].concat()), Some(10));
        assert_eq!(own_len(17, &udp[..9]), None);
        assert_eq!(own_len(17, &[0, 1, 0, 2, 0, 7, 0, 0]), None);
        assert_eq!(own_len(6, &udp), None);
        let mut v4 = vec![0; 30];
        v4[3] = 25;
        assert_eq!(own_len(4, &v4), Some(25));
        let mut v6 = vec![0; 60];
        v6[5] = 11;
        assert_eq!(own_len(41, &v6), Some(51));
    }
}
