//! ICMP errors to the sender of an inner packet: too big for the tunnel, or out of hops (RFC 792, RFC 4443).

use std::net::IpAddr;

use crate::checksum;
use crate::ip::{ICMP, ICMPV6, IPV4_HEADER_LEN, IPV6_HEADER_LEN, PacketInfo, upper_layer};

/// What to tell the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// The packet does not fit: ICMPv4 type 3 code 4 (RFC 1191 section 4), or ICMPv6 type 2 (RFC 4443 section 3.2).
    TooBig {
        /// Largest packet that does fit. For IPv6 at least 1280 is said, whatever this is (RFC 8200 section 5).
        mtu: u16,
    },
    /// The hop limit was used up: type 11 code 0, or type 3 code 0 (RFC 4443 section 3.3).
    TimeExceeded,
}

/// The longest answer, in octets.
pub const MAX_LEN: usize = V6_MAX_LEN;

/// Whether an error may be sent about `packet`, of which [`crate::ip::parse`] said `info`.
///
/// Not about ICMP errors, later fragments, and what was sent to or from an address that stands for many or for none
/// (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
pub fn is_answerable(packet: &[u8], info: &PacketInfo) -> bool {
    let Some((protocol, Some(at))) = upper_layer(packet) else { return false };
    let error = match protocol {
        // What cannot be read is taken for an error, which is the safe side.
        ICMP => packet.get(at).is_none_or(|kind| V4_ERRORS.contains(kind)),
        ICMPV6 => packet.get(at).is_none_or(|kind| *kind < 128 || *kind == V6_REDIRECT),
        _ => false,
    };
    !error && is_one_host(info.source) && is_one_host(info.destination)
}

/// Writes the answer to `packet` from the address `source` into the front of `out`: its length. In IPv4 it quotes less of
/// the packet where `out` is smaller than [`MAX_LEN`].
///
/// `None` when `source` is of the other family, `out` is too small or the packet must not be answered.
pub fn write(
    error: IcmpError,
    source: IpAddr,
    packet: &[u8],
    info: &PacketInfo,
    out: &mut [u8],
) -> Option<usize> {
    if !is_answerable(packet, info) {
        return None;
    }
    let packet = packet.get(..info.len)?;
    match (source, info.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (kind, code, mtu) = match error {
                IcmpError::TooBig { mtu } => (3, 4, mtu),
                IcmpError::TimeExceeded => (11, 0, 0),
            };
            let most = out.len().min(V4_MAX_LEN).checked_sub(IPV4_HEADER_LEN + ICMP_HEADER_LEN)?;
            let quote = packet.get(..packet.len().min(most))?;
            if quote.len() < packet.len().min(V4_LEAST_QUOTE) {
                return None;
            }
            let len = IPV4_HEADER_LEN + ICMP_HEADER_LEN + quote.len();
            let (header, body) = out.get_mut(..len)?.split_at_mut_checked(IPV4_HEADER_LEN)?;
            let mut octets = [0; IPV4_HEADER_LEN];
            octets[0] = 0x45;
            octets[1] = INTERNETWORK_CONTROL;
            [octets[2], octets[3]] = (len as u16).to_be_bytes();
            // DF and identification 0: a datagram that is never fragmented needs none (RFC 6864 section 4.1).
            octets[6] = 0x40;
            octets[8] = HOPS;
            octets[9] = ICMP;
            octets[12..16].copy_from_slice(&from.octets());
            octets[16..20].copy_from_slice(&to.octets());
            let sum = checksum::of(&[&octets]);
            octets[10..12].copy_from_slice(&sum.to_be_bytes());
            header.copy_from_slice(&octets);
            write_message(body, kind, code, u32::from(mtu), quote, &[])?;
            Some(len)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (kind, value) = match error {
                IcmpError::TooBig { mtu } => (2, u32::from(mtu.max(V6_MIN_MTU))),
                IcmpError::TimeExceeded => (3, 0),
            };
            let quote = packet.get(..packet.len().min(V6_MAX_LEN - IPV6_HEADER_LEN - ICMP_HEADER_LEN))?;
            let message = ICMP_HEADER_LEN + quote.len();
            let len = IPV6_HEADER_LEN + message;
            let (header, body) = out.get_mut(..len)?.split_at_mut_checked(IPV6_HEADER_LEN)?;
            let mut octets = [0; IPV6_HEADER_LEN];
            octets[0] = 0x60;
            [octets[4], octets[5]] = (message as u16).to_be_bytes();
            octets[6] = ICMPV6;
            octets[7] = HOPS;
            octets[8..24].copy_from_slice(&from.octets());
            octets[24..40].copy_from_slice(&to.octets());
            header.copy_from_slice(&octets);
            let [high, low] = (message as u16).to_be_bytes();
            // The pseudo header of RFC 8200 section 8.1: addresses, length, protocol.
            let mut pseudo = [0; 40];
            pseudo[..16].copy_from_slice(&from.octets());
            pseudo[16..32].copy_from_slice(&to.octets());
            [pseudo[34], pseudo[35], pseudo[39]] = [high, low, ICMPV6];
            write_message(body, kind, 0, value, quote, &pseudo)?;
            Some(len)
        }
        _ => None,
    }
}

fn write_message(out: &mut [u8], kind: u8, code: u8, value: u32, quote: &[u8], pseudo: &[u8]) -> Option<()> {
    let (header, body) = out.split_first_chunk_mut::<ICMP_HEADER_LEN>()?;
    let [a, b, c, d] = value.to_be_bytes();
    *header = [kind, code, 0, 0, a, b, c, d];
    body.copy_from_slice(quote);
    let sum = checksum::of(&[pseudo, header, body]);
    [header[2], header[3]] = sum.to_be_bytes();
    Some(())
}

fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 240.0.0.0/4 has the limited broadcast address and nobody who could be answered.
            let first = address.octets()[0];
            first != 0 && first < 224 && !address.is_loopback()
        }
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast() && !address.is_loopback(),
    }
}

const ICMP_HEADER_LEN: usize = 8;
/// RFC 792: the longest header and eight octets.
const V4_LEAST_QUOTE: usize = 68;
/// As much of the packet as fits is quoted (RFC 1812 section 4.3.2.3).
const V4_MAX_LEN: usize = 576;
/// RFC 4443 section 3.2: as much as fits the least MTU of IPv6.
const V6_MAX_LEN: usize = 1280;
/// RFC 8200 section 5.
const V6_MIN_MTU: u16 = 1280;
/// RFC 1812 section 4.3.2.5: errors have this precedence.
const INTERNETWORK_CONTROL: u8 = 0xc0;
const HOPS: u8 = 64;
/// Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122 section 3.2.2).
const V4_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
/// RFC 4443 section 2.4 (e.2); all other errors of ICMPv6 have numbers below 128.
const V6_REDIRECT: u8 = 137;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ip;

    fn v4(protocol: u8, kind: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 9, 0, 2];
        packet.push(kind);
        packet.resize(len.max(28), 0x77);
        let total = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&total);
        packet
    }

    fn v6(protocol: u8, kind: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        packet.extend([0x20; 16]);
        packet.extend([0x21; 16]);
        packet.push(kind);
        packet.resize(len.max(48), 0x77);
        let body = (packet.len() as u16 - 40).to_be_bytes();
        packet[4..6].copy_from_slice(&body);
        packet
    }

    fn answer(error: IcmpError, source: &str, packet: &[u8]) -> Option<Vec<u8>> {
        let info = ip::parse(packet).unwrap();
        let mut out = [0; MAX_LEN];
        let len = write(error, source.parse().unwrap(), packet, &info, &mut out)?;
        Some(out[..len].to_vec())
    }

    proptest! {
        #[test]
        fn an_answer_is_well_formed(len in 28usize..3000, mtu in any::<u16>(), big in any::<bool>()) {
            let error = if big { IcmpError::TooBig { mtu } } else { IcmpError::TimeExceeded };
            let packet = v4(17, 0, len);
            let told = answer(error, "10.9.0.1", &packet).unwrap();
            prop_assert_eq!(checksum::of(&[&told[..20]]), 0);
            prop_assert_eq!(checksum::of(&[&told[20..]]), 0);
            prop_assert_eq!(&told[20..22], if big { &[3, 4] } else { &[11, 0] });
            prop_assert_eq!(&told[26..28], &(if big { mtu } else { 0 }).to_be_bytes());
            prop_assert_eq!(&told[28..], &packet[..packet.len().min(548)]);
            let info = ip::parse(&told).unwrap();
            prop_assert_eq!((info.source, info.destination), ("10.9.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()));
            prop_assert_eq!((&told[..2], &told[6..10]), (&[0x45, 0xc0][..], &[0x40, 0, 64, 1][..]));
            prop_assert!(!is_answerable(&told, &info));

            let packet = v6(17, 0, len);
            let told = answer(error, "2001:db8::1", &packet).unwrap();
            let length = (told.len() - 40) as u32;
            prop_assert_eq!(checksum::of(&[&told[8..40], &length.to_be_bytes(), &[0, 0, 0, 58], &told[40..]]), 0);
            prop_assert_eq!(&told[40..42], if big { &[2, 0] } else { &[3, 0] });
            prop_assert_eq!(&told[46..48], &(if big { mtu.max(1280) } else { 0 }).to_be_bytes());
            prop_assert_eq!(&told[48..], &packet[..packet.len().min(1232)]);
            let info = ip::parse(&told).unwrap();
            prop_assert_eq!((info.source, &told[24..40]), ("2001:db8::1".parse().unwrap(), &packet[8..24]));
            prop_assert!(told.len() <= 1280 && !is_answerable(&told, &info));
        }

        #[test]
        fn any_octets(packet in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(info) = ip::parse(&packet) {
                is_answerable(&packet, &info);
            }
        }
    }

    #[test]
    fn a_smaller_buffer_gets_a_smaller_quote() {
        let packet = v4(17, 0, 1000);
        let info = ip::parse(&packet).unwrap();
        let mut out = [0; 200];
        let source = "10.9.0.1".parse().unwrap();
        let error = IcmpError::TooBig { mtu: 900 };
        assert_eq!(write(error, source, &packet, &info, &mut out), Some(200));
        assert_eq!((checksum::of(&[&out[20..]]), &out[28..]), (0, &packet[..172]));
        assert_eq!(write(error, source, &packet, &info, &mut out[..95]), None);
        assert_eq!(write(error, source, &packet, &info, &mut []), None);
    }

    #[test]
    fn what_is_never_answered() {
        let refused = |packet: &[u8]| answer(IcmpError::TimeExceeded, "10.9.0.1", packet).is_none();
        assert!(!refused(&v4(17, 3, 100)) && !refused(&v4(1, 8, 100)));
        for kind in V4_ERRORS {
            assert!(refused(&v4(1, kind, 100)));
        }
        let mut fragment = v4(17, 0, 100);
        fragment[7] = 5;
        assert!(refused(&fragment), "a later fragment");
        fragment[6..8].copy_from_slice(&[0x20, 0]);
        assert!(!refused(&fragment), "the first one");
        for (at, octets) in
            [(12, [0; 4]), (12, [255; 4]), (12, [127, 0, 0, 1]), (16, [224, 0, 0, 5]), (16, [255; 4])]
        {
            let mut packet = v4(17, 0, 100);
            packet[at..at + 4].copy_from_slice(&octets);
            assert!(refused(&packet), "{octets:?} at {at}");
        }
        let refused = |packet: &[u8]| answer(IcmpError::TimeExceeded, "2001:db8::1", packet).is_none();
        assert!(!refused(&v6(58, 128, 100)));
        assert!(refused(&v6(58, 1, 100)) && refused(&v6(58, 137, 100)));
        let mut multicast = v6(17, 0, 100);
        multicast[24] = 0xff;
        assert!(refused(&multicast));
        assert!(refused(&v4(17, 0, 100)), "the other family");
    }
}
