//! Transport mode: what one host seals the other gets, but for what its header loses.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{SPI, keys, pair, suites, udp_v4, udp_v6};
use esp::transport::{Hosts, MAX_PACKET, Upper};
use esp::{InboundSa, Limits, MssClamp, OpenError, OutboundSa, SealError, Selector, SelectorPair, Suite};
use proptest::prelude::*;

/// A whole packet between the two hosts.
fn packet(v6: bool, protocol: u8, class: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let mut packet = if v6 {
        let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([protocol, 64]);
        for host in [1, 2] {
            packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        packet
    } else {
        let mut packet = vec![0x45, class];
        packet.extend((20 + len).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        let mut sum: u32 = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        packet
    };
    packet.extend(payload);
    packet
}

/// The receiver's view.
fn hosts(v6: bool) -> Hosts {
    let (local, remote) = if v6 { ("2001:db8::2", "2001:db8::1") } else { ("192.0.2.2", "192.0.2.1") };
    Hosts::new(local.parse().unwrap(), remote.parse().unwrap()).unwrap()
}

fn seal(outbound: &mut OutboundSa, packet: &[u8], payload_len: usize) -> Result<Vec<u8>, SealError> {
    let upper = Upper::of(packet)?;
    let mut out = vec![0xee; outbound.sealed_len(payload_len.max(upper.len()))];
    let at = outbound.payload_offset();
    out[at..at + upper.len()].copy_from_slice(&packet[upper.header_len()..]);
    let sealed = outbound.seal_transport(&mut out, &upper, payload_len)?;
    out.truncate(sealed.len);
    Ok(out)
}

fn open(inbound: &mut InboundSa, v6: bool, class: u8, mut sealed: Vec<u8>) -> Result<Vec<u8>, OpenError> {
    let mut out = vec![0xdd; MAX_PACKET];
    let opened = inbound.open_transport(&mut sealed, &hosts(v6), class, &mut out)?;
    assert_eq!(esp::ip::parse(&out[opened.inner.clone()]), Some(opened.info));
    Ok(out[opened.inner].to_vec())
}

/// A payload that parses as its protocol, if any is looked into.
fn payload() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let octets = || proptest::collection::vec(any::<u8>(), 0..2000);
    prop_oneof![
        // 0, 43, 44, 51, 59 and 60 are headers of IPv6 or dummies; 4, 17 and 41 say how long they are.
        (any::<u8>().prop_filter("plain", |p| ![0, 4, 17, 41, 43, 44, 51, 59, 60].contains(p)), octets()),
        (0usize..1500).prop_map(|len| (17, udp_v4(len)[20..].to_vec())),
        (0usize..1500).prop_map(|len| (4, udp_v4(len))),
        (0usize..1500).prop_map(|len| (41, udp_v6(len))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_packet_comes_out((protocol, payload) in payload(), class in any::<u8>(), v6 in any::<bool>(),
                                 padded in prop_oneof![Just(0), 0usize..2500], which in any::<prop::sample::Index>()) {
        let suites = suites();
        let (mut outbound, mut inbound) = pair(*which.get(&suites));
        let original = packet(v6, protocol, class, &payload);
        let sealed = seal(&mut outbound, &original, padded).unwrap();
        let takes_padding = [4, 17, 41].contains(&protocol);
        let sealed_payload = if takes_padding { padded.max(payload.len()) } else { payload.len() };
        prop_assert_eq!(sealed.len(), outbound.sealed_len(sealed_payload));
        prop_assert_eq!(open(&mut inbound, v6, class, sealed).unwrap(), original.clone());
        prop_assert_eq!((outbound.bytes(), inbound.bytes()), (original.len() as u64, original.len() as u64));
    }

    /// Identification, DF, TTL and flow label do not cross; everything else does.
    #[test]
    fn the_header_loses_what_is_documented(len in 0usize..1400, ttl in any::<u8>(), id in any::<u16>(), v6 in any::<bool>()) {
        let (mut outbound, mut inbound) = pair(suites()[0]);
        let expected = packet(v6, 17, 0, &udp_v4(len)[20..]);
        let mut sent = expected.clone();
        if v6 {
            sent[7] = ttl;
            sent[2..4].copy_from_slice(&id.to_be_bytes());
        } else {
            (sent[6], sent[8]) = (0, ttl);
            sent[4..6].copy_from_slice(&id.to_be_bytes());
        }
        let sealed = seal(&mut outbound, &sent, 0).unwrap();
        prop_assert_eq!(open(&mut inbound, v6, 0, sealed).unwrap(), expected);
    }

    #[test]
    fn damaged_packets_are_dropped(len in 0usize..300, at in any::<prop::sample::Index>(), bit in 0u8..8, v6 in any::<bool>()) {
        let (mut outbound, mut inbound) = pair(suites()[0]);
        let mut sealed = seal(&mut outbound, &packet(v6, 6, 0, &vec![7; len]), 0).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(open(&mut inbound, v6, 0, sealed).is_err());
    }

    /// Whatever a peer with the keys puts into its packets.
    #[test]
    fn any_payload_of_any_protocol(protocol in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..120),
                                   v6 in any::<bool>(), room in 0usize..200) {
        let (mut outbound, mut inbound) = pair(suites()[0]);
        // As IPv4 it may have any next header but the dummies'.
        if let Ok(mut sealed) = seal(&mut outbound, &packet(false, protocol, 0, &payload), 0) {
            let mut out = vec![0; room];
            if let Ok(opened) = inbound.open_transport(&mut sealed, &hosts(v6), 0, &mut out) {
                prop_assert!(opened.inner.end <= room);
                prop_assert!(esp::ip::parse(&out[opened.inner]).is_some());
            }
        }
    }

    #[test]
    fn any_octets_are_split_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..100), version in prop_oneof![Just(4u8), Just(6), Just(9)]) {
        let mut octets = octets;
        if let Some(first) = octets.first_mut() {
            *first = version << 4 | *first & 15;
        }
        if let Ok(upper) = Upper::of(&octets) {
            prop_assert_eq!(upper.header_len() + upper.len(), octets.len());
        }
    }
}

fn narrow(protocol: u8, port: u16, suite: Suite) -> InboundSa {
    let host = |address: &str| Selector::subnet(address.parse().unwrap(), 32);
    let selectors = SelectorPair {
        local: vec![Selector { protocol, start_port: port, end_port: port, ..host("192.0.2.2") }],
        remote: vec![host("192.0.2.1")],
    };
    InboundSa::new(SPI, suite, &keys(&suite), selectors.into(), 64, &Limits::default()).unwrap()
}

#[test]
fn selectors_are_held_against_the_packet_as_it_is_rebuilt() {
    let suite = suites()[0];
    let sealed = |protocol: u8, number: u64| {
        let mut outbound = pair(suite).0;
        outbound.resume_at(number);
        seal(&mut outbound, &packet(false, protocol, 0, &udp_v4(9)[20..]), 0).unwrap()
    };
    // The port is 53.
    let mut dns = narrow(17, 53, suite);
    assert!(open(&mut dns, false, 0, sealed(17, 1)).is_ok());
    assert_eq!(open(&mut dns, false, 0, sealed(6, 2)), Err(OpenError::SelectorMismatch));
    assert_eq!(open(&mut narrow(17, 54, suite), false, 0, sealed(17, 3)), Err(OpenError::SelectorMismatch));
}

#[test]
fn a_whole_packet_inside_is_a_payload_like_any_other() {
    let (mut outbound, mut inbound) = pair(suites()[0]);
    let carried = packet(false, 4, 0, &udp_v4(50));
    let sealed = seal(&mut outbound, &carried, 0).unwrap();
    assert_eq!(open(&mut inbound, false, 0, sealed).unwrap(), carried);
}

#[test]
fn dummies_are_dummies() {
    let (mut outbound, mut inbound) = pair(suites()[0]);
    let mut out = vec![0; outbound.sealed_len(200)];
    outbound.seal_dummy(200, &mut out).unwrap();
    assert_eq!(open(&mut inbound, false, 0, out), Err(OpenError::Dummy));
}

#[test]
fn no_room_is_an_error_and_counts_nothing() {
    let (mut outbound, _) = pair(suites()[0]);
    let upper = Upper::of(&packet(false, 17, 0, &udp_v4(20)[20..])).unwrap();
    assert_eq!(outbound.seal_transport(&mut [0; 40], &upper, 0), Err(SealError::NoSpace));
    assert_eq!(outbound.packets(), 0);
    // The clamp sees no header: what is not TCP is left alone.
    assert!(!MssClamp::Auto.apply_to_payload(&mut [0; 20], 17, 20, 500));
}
