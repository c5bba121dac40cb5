//! Reading the inner packet: addresses, protocol and ports, as far as selectors and forwarding need them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;

/// What a packet's headers say. Made by [`parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol, after any IPv6 extension headers.
    pub protocol: u8,
    /// Source port; for ICMP the type and code (RFC 4301 section 4.4.1.1). `None` where the packet shows none.
    pub source_port: Option<u16>,
    /// Destination port; for ICMP the type and code.
    pub destination_port: Option<u16>,
    /// Octets of the packet by its own header, never more than there are.
    pub len: usize,
}

impl PacketInfo {
    /// Whether all but their lengths is equal: selectors, policies and routes cannot tell two such packets apart.
    pub fn is_like(&self, other: &Self) -> bool {
        self.destination == other.destination
            && self.source == other.source
            && self.protocol == other.protocol
            && self.source_port == other.source_port
            && self.destination_port == other.destination_port
    }
}

/// Reads the headers of an IPv4 or IPv6 packet.
///
/// `None` for anything malformed. Octets after the packet's own length are allowed: they are the traffic flow
/// confidentiality padding of RFC 4303 section 2.7.
pub fn parse(packet: &[u8]) -> Option<PacketInfo> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    }
}

/// Lowers TTL or hop limit by one, as a router does, and keeps the IPv4 checksum right (RFC 1624).
///
/// False when the packet must not be forwarded any more, or is no IP packet; it is then unchanged.
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let Some(header) = packet.first_chunk_mut::<IPV4_HEADER_LEN>() else { return false };
            if header[8] <= 1 {
                return false;
            }
            let before = u16::from_be_bytes([header[8], header[9]]);
            header[8] -= 1;
            let after = u16::from_be_bytes([header[8], header[9]]);
            adjust_checksum(header, before, after);
            true
        }
        Some(6) => match packet.get_mut(7) {
            Some(hops) if *hops > 1 => {
                *hops -= 1;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// The TOS octet of IPv4 or the traffic class of IPv6: DSCP in the high six bits, ECN in the low two. 0 for anything else.
pub fn traffic_class(packet: &[u8]) -> u8 {
    match packet.first_chunk::<2>() {
        Some([first, second]) if first >> 4 == 4 => *second,
        Some([first, second]) if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// Changes what [`traffic_class`] reads and keeps the IPv4 checksum right. What is no IP packet stays as it is.
pub fn set_traffic_class(packet: &mut [u8], class: u8) {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let Some(header) = packet.first_chunk_mut::<IPV4_HEADER_LEN>() else { return };
            let before = u16::from_be_bytes([header[0], header[1]]);
            header[1] = class;
            let after = u16::from_be_bytes([header[0], header[1]]);
            adjust_checksum(header, before, after);
        }
        Some(6) => {
            if let Some([first, second]) = packet.first_chunk_mut::<2>() {
                *first = *first & 0xf0 | class >> 4;
                *second = *second & 0x0f | class << 4;
            }
        }
        _ => {}
    }
}

/// Whether routers may fragment the packet: IPv4 without the DF bit. IPv6 is fragmented by its sender alone (RFC 8200
/// section 4.5).
pub fn may_fragment(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
        && packet.get(6).is_some_and(|flags| flags & DONT_FRAGMENT == 0)
}

/// The upper-layer protocol and where its header begins; no place for a fragment other than the first.
pub(crate) fn upper_layer(packet: &[u8]) -> Option<(u8, Option<usize>)> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
            let header_len = usize::from(header[0] & 0x0f) * 4;
            let first = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET == 0;
            Some((header[9], first.then_some(header_len)))
        }
        6 => {
            let header = packet.first_chunk::<IPV6_HEADER_LEN>()?;
            let (protocol, upper) = skip_extensions(header[6], packet.get(IPV6_HEADER_LEN..)?)?;
            Some((protocol, upper.map(|upper| packet.len() - upper.len())))
        }
        _ => None,
    }
}

/// The DF bit in the octet of the IPv4 flags.
pub(crate) const DONT_FRAGMENT: u8 = 0x40;
/// The fragment offset in the word of the IPv4 flags, in units of eight octets.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Length of an IPv4 header without options.
pub(crate) const IPV4_HEADER_LEN: usize = 20;
/// Length of the fixed IPv6 header.
pub(crate) const IPV6_HEADER_LEN: usize = 40;

/// Updates an IPv4 header checksum after one 16-bit word changed (RFC 1624 equation 3).
pub(crate) fn adjust_checksum(header: &mut [u8; IPV4_HEADER_LEN], before: u16, after: u16) {
    let old = u16::from_be_bytes([header[10], header[11]]);
    [header[10], header[11]] = checksum::adjust(old, before, after).to_be_bytes();
}

fn parse_v4(packet: &[u8]) -> Option<PacketInfo> {
    let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < IPV4_HEADER_LEN || len < header_len || len > packet.len() {
        return None;
    }
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET;
    let upper = packet.get(header_len..len)?;
    // No datagram reaches beyond what its length can say. Cut further, such a fragment would have later parts begin at 0 again, with headers
    // that nobody on the way has seen.
    if usize::from(fragment_offset) * 8 + upper.len() > usize::from(u16::MAX) - header_len {
        return None;
    }
    Some(info_v4(header, upper, len))
}

fn parse_v6(packet: &[u8]) -> Option<PacketInfo> {
    let header = packet.first_chunk::<IPV6_HEADER_LEN>()?;
    let len = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    info_v6(header, packet.get(IPV6_HEADER_LEN..len)?, len)
}

/// As [`parse`], of the front of a packet: `len` is that of what there is.
pub(crate) fn parse_front(packet: &[u8]) -> Option<PacketInfo> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
            let header_len = usize::from(header[0] & 0x0f) * 4;
            let upper = packet.get(header_len..).filter(|_| header_len >= IPV4_HEADER_LEN)?;
            Some(info_v4(header, upper, packet.len()))
        }
        6 => {
            let (header, body) = packet.split_first_chunk::<IPV6_HEADER_LEN>()?;
            info_v6(header, body, packet.len())
        }
        _ => None,
    }
}

fn info_v4(header: &[u8; IPV4_HEADER_LEN], upper: &[u8], len: usize) -> PacketInfo {
    let protocol = header[9];
    let is_first = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET == 0;
    let (source_port, destination_port) = if is_first { ports(protocol, upper) } else { (None, None) };
    PacketInfo {
        source: IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15])),
        destination: IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19])),
        protocol,
        source_port,
        destination_port,
        len,
    }
}

fn info_v6(header: &[u8; IPV6_HEADER_LEN], body: &[u8], len: usize) -> Option<PacketInfo> {
    let (protocol, upper) = skip_extensions(header[6], body)?;
    let (source_port, destination_port) = match upper {
        Some(upper) => ports(protocol, upper),
        None => (None, None),
    };
    let (source, rest) = header.get(8..)?.split_first_chunk::<16>()?;
    let destination = rest.first_chunk::<16>()?;
    Some(PacketInfo {
        source: IpAddr::V6(Ipv6Addr::from(*source)),
        destination: IpAddr::V6(Ipv6Addr::from(*destination)),
        protocol,
        source_port,
        destination_port,
        len,
    })
}

/// Walks the IPv6 extension headers: the upper-layer protocol and its octets, which a later fragment does not have. AH is one of these
/// protocols (RFC 4301 section 4.4.1.1), and nothing behind it is ours to change.
fn skip_extensions(mut next: u8, mut body: &[u8]) -> Option<(u8, Option<&[u8]>)> {
    for _ in 0..MAX_EXTENSION_HEADERS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {}
            FRAGMENT => {
                let (fragment, rest) = body.split_first_chunk::<8>()?;
                if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                    return Some((fragment[0], None));
                }
                (next, body) = (fragment[0], rest);
                continue;
            }
            _ => return Some((next, Some(body))),
        }
        let (&[following, length], _) = body.split_first_chunk::<2>()?;
        // The length octet counts units of 8 without the first (RFC 8200).
        (next, body) = (following, body.get((usize::from(length) + 1) * 8..)?);
    }
    None
}

fn ports(protocol: u8, upper: &[u8]) -> (Option<u16>, Option<u16>) {
    match protocol {
        TCP | UDP | SCTP | DCCP | UDP_LITE => match upper.first_chunk::<4>() {
            Some(&[a, b, c, d]) => (Some(u16::from_be_bytes([a, b])), Some(u16::from_be_bytes([c, d]))),
            None => (None, None),
        },
        ICMP | ICMPV6 => {
            let type_and_code = upper.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
            (type_and_code, type_and_code)
        }
        MOBILITY => {
            let kind = upper.get(2).map(|kind| u16::from(*kind) << 8);
            (kind, kind)
        }
        _ => (None, None),
    }
}

/// Whether this is an IPv6 extension header (RFC 8200 section 4.1): one that [`parse`] walks, or AH.
pub(crate) fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Whether an IPv6 header stands in front of ESP in transport mode (RFC 4303 section 3.1.1).
pub(crate) fn precedes_esp(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT)
}

/// A real packet has four at most; a longer chain is an attempt to keep the parser busy.
const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const DCCP: u8 = 33;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
pub(crate) const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;
const MOBILITY: u8 = 135;
const UDP_LITE: u8 = 136;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn udp_v4() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x1f, 0x90, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        packet
    }

    #[test]
    fn a_fragment_ends_within_the_longest_datagram() {
        // 12 octets behind a header of 20: the last unit at which they end within 65,535.
        let last = (65_535 - 20 - 12) / 8;
        for (unit, is_one) in [(1, true), (last, true), (last + 1, false), (0x1fff, false)] {
            let mut packet = udp_v4();
            packet[6..8].copy_from_slice(&(unit as u16).to_be_bytes());
            assert_eq!(parse(&packet).is_some(), is_one, "{unit}");
        }
    }

    fn udp_v6(extensions: &[u8], first: u8) -> Vec<u8> {
        let length = (extensions.len() + 8) as u16;
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([first, 64]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend(extensions);
        packet.extend([0x1f, 0x90, 0, 53, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn v4_udp() {
        let info = parse(&udp_v4()).unwrap();
        assert_eq!(info.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!((info.protocol, info.source_port, info.destination_port), (17, Some(8080), Some(53)));
        assert_eq!(info.len, 32);
    }

    #[test]
    fn v4_later_fragment_shows_no_ports() {
        let mut packet = udp_v4();
        packet[7] = 1;
        let info = parse(&packet).unwrap();
        assert_eq!((info.source_port, info.destination_port), (None, None));
    }

    #[test]
    fn trailing_octets_are_not_the_packet() {
        let mut packet = udp_v4();
        packet.extend([0; 100]);
        assert_eq!(parse(&packet).unwrap().len, 32);
    }

    #[test]
    fn v6_walks_extensions() {
        let plain = parse(&udp_v6(&[], 17)).unwrap();
        assert_eq!((plain.protocol, plain.destination_port), (17, Some(53)));
        let mut extensions = vec![60, 0, 1, 4, 0, 0, 0, 0]; // hop-by-hop
        extensions.extend([44, 0, 1, 4, 0, 0, 0, 0]); // destination options
        extensions.extend([17, 0, 0, 1, 0, 0, 0, 9]); // first fragment
        let info = parse(&udp_v6(&extensions, 0)).unwrap();
        assert_eq!((info.protocol, info.destination_port), (17, Some(53)));
        let later = parse(&udp_v6(&[17, 0, 0, 8, 0, 0, 0, 9], 44)).unwrap();
        assert_eq!((later.protocol, later.destination_port), (17, None));
    }

    /// What it covers is nobody's to change, and what is behind it no selector sees (RFC 4301 section 4.4.1.1).
    #[test]
    fn ah_is_an_upper_layer_of_both_versions() {
        let ah = [17, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let mut v4 = udp_v4();
        v4[9] = 51;
        let behind = [&[51, 0, 1, 4, 0, 0, 0, 0][..], &ah].concat();
        for packet in [v4, udp_v6(&ah, 51), udp_v6(&behind, 60)] {
            let info = parse(&packet).unwrap();
            assert_eq!((info.protocol, info.source_port, info.destination_port), (51, None, None));
        }
    }

    #[test]
    fn v6_chain_has_a_bound() {
        let chain: Vec<u8> = (0..9).flat_map(|_| [60, 0, 1, 4, 0, 0, 0, 0]).collect();
        assert_eq!(parse(&udp_v6(&chain, 60)), None);
    }

    fn checksum(header: &[u8]) -> u16 {
        let mut sum: u32 =
            header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn never_panics(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(info) = parse(&packet) {
                prop_assert!(info.len <= packet.len());
            }
        }

        #[test]
        fn ttl_keeps_the_checksum_right(mut header in proptest::collection::vec(any::<u8>(), 20)) {
            header[0] = 0x45;
            header[10..12].fill(0);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let ttl = header[8];
            let forwarded = decrement_ttl(&mut header);
            prop_assert_eq!(forwarded, ttl > 1);
            prop_assert_eq!(header[8], if forwarded { ttl - 1 } else { ttl });
            prop_assert_eq!(checksum(&header), 0);
        }
    }

    proptest! {
        #[test]
        fn the_traffic_class_is_changed_alone(class in any::<u8>(), before in any::<u8>()) {
            let mut v4 = udp_v4();
            v4[1] = before;
            let sum = checksum(&v4[..20]);
            v4[10..12].copy_from_slice(&sum.to_be_bytes());
            for packet in [v4, udp_v6(&[], 17)] {
                let mut changed = packet.clone();
                set_traffic_class(&mut changed, class);
                prop_assert_eq!(traffic_class(&changed), class);
                if changed[0] >> 4 == 4 {
                    prop_assert_eq!(checksum(&changed[..20]), 0);
                }
                set_traffic_class(&mut changed, traffic_class(&packet));
                // One's complement has two zeros, so the checksum may come back as the other one.
                prop_assert_eq!(&changed[..10], &packet[..10]);
                prop_assert_eq!(&changed[12..], &packet[12..]);
            }
        }
    }

    #[test]
    fn v6_hop_limit() {
        let mut packet = udp_v6(&[], 17);
        assert!(decrement_ttl(&mut packet));
        assert_eq!(packet[7], 63);
        packet[7] = 1;
        assert!(!decrement_ttl(&mut packet));
    }
}
