//! ICMP errors that no SA takes by their own header, as they come from a router between the hosts: they go with the traffic that answers the
//! packet that they are about (RFC 4301 section 6.2).

use crate::ip::{self, ICMP, ICMPV6, PacketInfo};

/// What selectors, rules and routes have to take for an ICMP error to pass that they do not take as it is: the packet that it is about, with its
/// two ends exchanged. `info` is what [`ip::parse`] says of `packet`; the length stays.
///
/// `None` for all else, for redirects, which say nothing beyond their link, and for errors to somebody else than the sender of what they
/// are about.
pub fn returning(packet: &[u8], info: &PacketInfo) -> Option<PacketInfo> {
    let kinds = match info.protocol {
        ICMP => &V4_ERRORS[..],
        ICMPV6 => &V6_ERRORS[..],
        _ => return None,
    };
    let (_, at) = ip::upper_layer(packet)?;
    let (header, quote) = packet.get(at?..info.len)?.split_first_chunk::<ICMP_HEADER_LEN>()?;
    if !kinds.contains(&header[0]) {
        return None;
    }
    let about = ip::parse_front(quote)?;
    // Of one family, for addresses of two are not equal.
    (about.source == info.destination).then_some(PacketInfo {
        source: about.destination,
        destination: about.source,
        protocol: about.protocol,
        source_port: about.destination_port,
        destination_port: about.source_port,
        len: info.len,
    })
}

const ICMP_HEADER_LEN: usize = 8;
/// Unreachable, source quench, time exceeded, parameter problem (RFC 792).
const V4_ERRORS: [u8; 4] = [3, 4, 11, 12];
/// Unreachable, too big, time exceeded, parameter problem (RFC 4443 section 3).
const V6_ERRORS: [u8; 4] = [1, 2, 3, 4];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::icmp::{self, IcmpError};

    /// A UDP packet from port 8080 of one to port 53 of the other.
    fn packet(v6: bool) -> Vec<u8> {
        let mut packet = if v6 {
            let mut packet = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
            packet.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            packet.extend([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            packet
        } else {
            vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]
        };
        packet.extend([0x1f, 0x90, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
        packet
    }

    /// What a router on the way says of it.
    fn error(v6: bool, about: &[u8]) -> Vec<u8> {
        let router = if v6 { "2001:db8:9::1" } else { "192.0.2.1" }.parse().unwrap();
        let mut out = vec![0; icmp::MAX_LEN];
        let info = ip::parse(about).unwrap();
        let len = icmp::write(IcmpError::TimeExceeded, router, about, &info, &mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn an_error_stands_for_what_answers_its_packet() {
        for v6 in [false, true] {
            let about = packet(v6);
            let error = error(v6, &about);
            let (info, of) = (ip::parse(&error).unwrap(), ip::parse(&about).unwrap());
            let stands_for = returning(&error, &info).unwrap();
            assert_eq!((stands_for.source, stands_for.destination), (of.destination, of.source));
            assert_eq!((stands_for.source_port, stands_for.destination_port), (Some(53), Some(8080)));
            assert_eq!((stands_for.protocol, stands_for.len), (17, error.len()));
        }
    }

    /// Routers quote as little as eight octets behind the header.
    #[test]
    fn less_than_the_packet_is_enough() {
        let whole = error(false, &packet(false));
        for (quoted, ports) in [(28, (Some(53), Some(8080))), (20, (None, None))] {
            let mut short = whole[..28 + quoted].to_vec();
            let len = short.len() as u16;
            short[2..4].copy_from_slice(&len.to_be_bytes());
            let stands_for = returning(&short, &ip::parse(&short).unwrap()).unwrap();
            assert_eq!((stands_for.source_port, stands_for.destination_port), ports);
        }
        let mut short = whole[..28 + 19].to_vec();
        short[3] = 47;
        assert_eq!(returning(&short, &ip::parse(&short).unwrap()), None);
    }

    #[test]
    fn nothing_else_stands_for_another() {
        for v6 in [false, true] {
            let plain = packet(v6);
            assert_eq!(returning(&plain, &ip::parse(&plain).unwrap()), None);
            let whole = error(v6, &plain);
            let at = if v6 { 40 } else { 20 };
            // Echo and redirects.
            for kind in if v6 { [128, 129, 137] } else { [8, 0, 5] } {
                let mut other = whole.clone();
                other[at] = kind;
                assert_eq!(returning(&other, &ip::parse(&other).unwrap()), None, "{kind}");
            }
            // To another than the sender.
            let mut other = whole.clone();
            other[at - 1] ^= 1;
            assert_eq!(returning(&other, &ip::parse(&other).unwrap()), None);
            // Of another family.
            let mut other = whole;
            other[at + 8] ^= 0x20;
            assert_eq!(returning(&other, &ip::parse(&other).unwrap()), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets(packet in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), v6: bool) {
            let mut packet = packet;
            if let [first, ..] = packet.as_mut_slice() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            if let Some(info) = ip::parse(&packet) {
                returning(&packet, &info);
            }
        }
    }
}
