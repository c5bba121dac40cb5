//! Length fields that lie, and payloads outside of the encryption (RFC 7296 sections 2.21 and 3.14).

use ike::wire::message::Message;
use ike::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use ike::wire::payload::Payload;

use crate::kit::tap::Wrapping;
use crate::kit::{A, B};
use crate::peer::{Hostile, child_request, notify, raw};

const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

#[test]
fn a_header_that_is_longer_or_shorter_than_its_datagram_is_dropped() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for by in [-0x1000, -60, -4, -1, 1, 4, 0x1_0000, i32::MAX / 2] {
            let header = h.request_header(from, INFO);
            let how = Wrapping { header_length: by, ..Wrapping::default() };
            let bytes = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
            h.assert_dropped(from, &bytes, &format!("header length by {by}"));
        }
        h.assert_alive();
    }
}

#[test]
fn an_encrypted_payload_that_does_not_end_with_the_message_is_dropped() {
    for from in [A, B] {
        let mut h = Hostile::up();
        // Without content the true length is 4 + 8 + 1 + 16: from 0 to beyond the end.
        for by in (-29..29).filter(|by| *by != 0) {
            let header = h.request_header(from, INFO);
            let how = Wrapping { payload_length: by, ..Wrapping::default() };
            let bytes = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
            h.assert_dropped(from, &bytes, &format!("SK length by {by}"));
        }
        h.assert_alive();
    }
}

#[test]
fn an_inner_payload_with_a_length_that_cannot_be_is_answered_with_invalid_syntax() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for kind in [33, 34, 35, 36, 39, 40, 41, 42, 43, 44, 45, 53, 46, 200] {
            for length in [0u16, 1, 2, 3, 13, 14, 0x7fff, 0xffff] {
                let mut plain = vec![0, 0];
                plain.extend(length.to_be_bytes());
                plain.extend([0; 8]);
                h.assert_refused(from, INFO, (PayloadType(kind), plain), NotifyType::INVALID_SYNTAX);
            }
        }
        h.assert_alive();
    }
}

#[test]
fn octets_left_over_and_a_chain_that_is_cut_are_answered_with_invalid_syntax() {
    let mut h = Hostile::up();
    h.assert_refused(A, INFO, (PayloadType::NONE, vec![0]), NotifyType::INVALID_SYNTAX);
    h.assert_refused(A, INFO, (PayloadType::NOTIFY, vec![]), NotifyType::INVALID_SYNTAX);
    let (first, whole) = crate::peer::chain(&child_request(A, 0x9999));
    for cut in 1..whole.len() {
        let cut = (first, whole[..cut].to_vec());
        h.assert_refused(A, ExchangeType::CREATE_CHILD_SA, cut, NotifyType::INVALID_SYNTAX);
    }
    h.assert_alive();
}

#[test]
fn an_encrypted_payload_within_an_encrypted_payload_is_refused() {
    let mut h = Hostile::up();
    for kind in [46, 53] {
        let nested = raw(&[(kind, false, &[0, 1, 0, 1, 0, 0, 0, 0])]);
        h.assert_refused(A, INFO, nested, NotifyType::INVALID_SYNTAX);
    }
    h.assert_alive();
}

#[test]
fn a_message_in_plain_is_dropped_once_keys_exist() {
    for from in [A, B] {
        for exchange in
            [INFO, ExchangeType::CREATE_CHILD_SA, ExchangeType::IKE_AUTH, ExchangeType::IKE_SA_INIT]
        {
            let mut h = Hostile::up();
            let header = h.request_header(from, exchange);
            for payloads in [
                vec![Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] }],
                vec![notify(NotifyType::AUTHENTICATION_FAILED)],
                child_request(from, 0x9999),
                vec![],
            ] {
                let bytes = Message::encode(header, &payloads);
                h.assert_dropped(from, &bytes, &format!("{exchange} in plain"));
            }
            h.assert_alive();
        }
    }
}

#[test]
fn what_stands_beside_the_encrypted_payload_is_not_believed() {
    let mut h = Hostile::up();
    let spi = h.pair.spi(A);
    let header = h.request_header(A, INFO);
    let how = Wrapping {
        outer: vec![
            Payload::Delete { protocol: ProtocolId::ESP, spis: vec![spi] },
            Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] },
            notify(NotifyType::AUTHENTICATION_FAILED),
            Payload::Opaque(PayloadType(200), vec![1; 100]),
        ],
        ..Wrapping::default()
    };
    let bytes = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
    let before = h.snapshot(B);
    h.inject(A, &bytes);
    let answer = h.pair.take(B);
    assert_eq!(h.tap.last().open(&answer.bytes), Some(vec![]), "an empty request and its empty answer");
    assert_eq!(h.snapshot(B), before);
    h.tap.last().next_id[1] += 1;
    h.assert_alive();
}

#[test]
fn too_little_for_iv_and_icv_is_dropped() {
    let mut h = Hostile::up();
    for from in [A, B] {
        let header = h.request_header(from, INFO);
        for len in 0..40u32 {
            let header = ike::wire::Header { length: 28 + 4 + len, ..header };
            let mut w = ike::wire::writer::Writer::new();
            header.write(&mut w);
            w.bytes(&[0, 0, 0, 4 + len as u8]);
            w.bytes(&vec![0x41; len as usize]);
            h.assert_dropped(from, w.as_slice(), &format!("{len} octets of SK"));
        }
    }
    h.assert_alive();
}
