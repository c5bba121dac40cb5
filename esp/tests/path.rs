//! What goes through a tunnel on a narrow path comes out unchanged: sizes, fragments, padding, dummies.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{SPI, keys, pair, suites, udp_v4, udp_v6};
use esp::fragment::Fragments;
use esp::{
    InboundSa, Limits, MAX_OVERHEAD, OpenError, OutboundSa, ReplayWindow, SealError, Selector, SelectorPair,
    TfcPadding,
};
use proptest::prelude::*;

/// Seals an inner packet that is padded as `tfc` says on a path that takes `room` octets of ESP.
fn seal(outbound: &mut OutboundSa, inner: &[u8], tfc: TfcPadding, room: usize) -> Vec<u8> {
    let payload = tfc.payload_len(inner.len(), outbound.max_payload(room));
    let mut out = vec![0xee; outbound.sealed_len(payload)];
    let at = outbound.payload_offset();
    out[at..at + inner.len()].copy_from_slice(inner);
    let sealed = outbound.seal_padded(&mut out, inner.len(), payload).unwrap();
    assert_eq!(sealed.len, out.len());
    out
}

fn open(inbound: &mut InboundSa, mut sealed: Vec<u8>) -> Vec<u8> {
    let opened = inbound.open(&mut sealed).unwrap();
    sealed[opened.inner].to_vec()
}

/// As the receiving host does it: payloads in the order of their offsets, until the one without more.
fn reassemble(mut fragments: Vec<Vec<u8>>) -> Vec<u8> {
    let offset = |f: &[u8]| usize::from(u16::from_be_bytes([f[6], f[7]]) & 0x1fff) * 8;
    fragments.sort_by_key(|fragment| offset(fragment));
    let mut whole = fragments[0][..20].to_vec();
    for fragment in &fragments {
        assert_eq!(offset(fragment), whole.len() - 20);
        whole.extend(&fragment[20..]);
    }
    assert_eq!(fragments.last().unwrap()[6] & 0x20, 0);
    let len = (whole.len() as u16).to_be_bytes();
    whole[2..4].copy_from_slice(&len);
    whole[6] = 0;
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_largest_payload_is_the_largest(room in 0usize..3000) {
        for suite in suites() {
            let (outbound, _) = pair(suite);
            let max = outbound.max_payload(room);
            prop_assert!(max == 0 || outbound.sealed_len(max) <= room);
            prop_assert!(outbound.sealed_len(max + 1) > room);
        }
    }

    #[test]
    fn padding_is_stripped_and_fits(len in 0usize..1300, v6 in any::<bool>(), unit in 0u16..2000, fixed in any::<bool>(),
                                    room in 1450usize..1600) {
        let tfc = if fixed { TfcPadding::Fixed(unit) } else { TfcPadding::Multiple(unit) };
        for suite in suites() {
            let (mut outbound, mut inbound) = pair(suite);
            let inner = if v6 { udp_v6(len) } else { udp_v4(len) };
            let sealed = seal(&mut outbound, &inner, tfc, room);
            prop_assert!(sealed.len() <= room);
            prop_assert_eq!(open(&mut inbound, sealed), inner);
            prop_assert_eq!((outbound.bytes(), inbound.bytes()), (inbound.bytes(), outbound.bytes()));
        }
    }

    #[test]
    fn fragments_go_through_and_reassemble(len in 1000usize..6000, room in 556usize..1500, tfc in any::<bool>()) {
        let tfc = if tfc { TfcPadding::Fixed(u16::MAX) } else { TfcPadding::Off };
        for suite in suites() {
            let (mut outbound, mut inbound) = pair(suite);
            let mut inner = udp_v4(len);
            let mtu = outbound.max_payload(room);
            let mut fragments = Fragments::new(&inner, mtu).unwrap();
            let mut arrived = Vec::new();
            while let Some(len) = fragments.next_len() {
                let mut fragment = vec![0; len];
                fragments.write_next(&mut fragment).unwrap();
                let sealed = seal(&mut outbound, &fragment, tfc, room);
                prop_assert!(sealed.len() <= room);
                arrived.push(open(&mut inbound, sealed));
            }
            let whole = reassemble(arrived);
            // The header checksum is that of the first fragment; each was checked where they are made.
            inner[10..12].copy_from_slice(&whole[10..12]);
            prop_assert_eq!(whole, inner);
        }
    }

    #[test]
    fn a_dummy_is_dropped_by_its_name(len in 0usize..1400) {
        for suite in suites() {
            let (mut outbound, mut inbound) = pair(suite);
            let mut out = vec![0xee; len + MAX_OVERHEAD];
            let sealed = outbound.seal_dummy(len, &mut out).unwrap();
            prop_assert_eq!(sealed.len, outbound.sealed_len(len));
            prop_assert_eq!(inbound.open(&mut out[..sealed.len]).unwrap_err(), OpenError::Dummy);
            prop_assert_eq!((outbound.packets(), outbound.bytes(), inbound.packets(), inbound.top()), (1, 0, 0, 1));
        }
    }
}

#[test]
fn no_room_for_padding_is_no_packet() {
    let (mut outbound, _) = pair(suites()[0]);
    let mut out = vec![0; outbound.sealed_len(40)];
    let at = outbound.payload_offset();
    out[at..at + 28].copy_from_slice(&udp_v4(0));
    assert_eq!(outbound.seal_padded(&mut out, 28, 200), Err(SealError::NoSpace));
    assert_eq!(outbound.seal_dummy(200, &mut out), Err(SealError::NoSpace));
    assert_eq!(outbound.sequence(), 0);
    assert!(outbound.seal_padded(&mut out, 28, 40).is_ok());
}

/// RFC 4301 section 7: a later fragment shows no ports, so only selectors of all ports or OPAQUE take it.
#[test]
fn later_fragments_pass_only_selectors_without_ports() {
    let inner = udp_v4(1000);
    let mut fragments = Fragments::new(&inner, 500).unwrap();
    let mut all = Vec::new();
    while let Some(len) = fragments.next_len() {
        let mut fragment = vec![0; len];
        fragments.write_next(&mut fragment).unwrap();
        all.push(fragment);
    }
    let net = |text: &str| Selector::subnet(text.parse().unwrap(), 16);
    let port = |low, high| Selector { protocol: 17, start_port: low, end_port: high, ..net("10.9.0.0") };
    for (destination, first, later) in [
        (port(0, u16::MAX), Ok(()), Ok(())),
        (port(53, 53), Ok(()), Err(OpenError::SelectorMismatch)),
        (port(u16::MAX, 0), Err(OpenError::SelectorMismatch), Ok(())),
    ] {
        let selectors = SelectorPair { local: vec![destination], remote: vec![net("10.0.0.0")] };
        let suite = suites()[0];
        let (mut outbound, _) = pair(suite);
        let window = ReplayWindow::MAX_SIZE;
        let mut inbound =
            InboundSa::new(SPI, suite, &keys(&suite), selectors.into(), window, &Limits::default()).unwrap();
        let mut results = Vec::new();
        for fragment in &all {
            let mut sealed = seal(&mut outbound, fragment, TfcPadding::Off, 1500);
            results.push(inbound.open(&mut sealed).map(drop));
        }
        assert_eq!(results[0], first);
        assert!(results.len() == 3 && results[1..].iter().all(|result| *result == later), "{results:?}");
    }
}
