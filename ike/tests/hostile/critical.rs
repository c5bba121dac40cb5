//! Payloads that are not known, must not be there, or are there too often (RFC 7296 section 2.5, RFC 7296 appendix C).
//! CVE-2015-3991: payload types of IKEv1 in IKEv2 messages and the reverse.

use ike::wire::message::{Message, Payloads};
use ike::wire::numbers::{ExchangeType, NotifyType, PayloadType};
use ike::wire::payload::Payload;

use crate::kit::{A, B, Spec};
use crate::peer::{Hostile, chain, child_request, esp_offer, id_i, ike_offer, notify, raw};

const EXCHANGES: [ExchangeType; 3] =
    [ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL, ExchangeType::IKE_AUTH];

#[test]
fn an_unknown_critical_payload_is_named_in_the_refusal() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for exchange in EXCHANGES {
            for kind in [1, 13, 32, 49, 52, 54, 127, 128, 200, 255] {
                let payload = raw(&[(kind, true, &[1, 2, 3])]);
                let refused =
                    h.assert_refused(from, exchange, payload, NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD);
                assert_eq!(refused.data, [kind]);
            }
        }
        h.assert_alive();
    }
}

#[test]
fn in_ike_sa_init_it_is_refused_without_state() {
    let mut h = Hostile::new(&Spec::left(), &Spec::right());
    h.pair.initiate();
    let first = h.pair.take(A);
    let message = Message::parse(&first.bytes).unwrap();
    let mut payloads = message.chain.payloads.clone();
    payloads.push(Payload::Opaque(PayloadType(200), vec![1]));
    let mut bytes = Message::encode(message.header, &payloads);
    let at = bytes.len() - 4;
    let mut transmit = first.clone();
    transmit.bytes = bytes.clone();
    // Not critical: skipped.
    h.pair.put(A, &transmit);
    assert!(h.pair.b.conn.take().is_some());
    h.pair.b.outbox.clear();
    bytes[at] |= 0x80;
    transmit.bytes = bytes;
    h.pair.put(A, &transmit);
    assert!(h.pair.b.conn.is_none());
    let answer = Message::parse(&h.pair.take(B).bytes).unwrap();
    let refused =
        Payloads(&answer.chain.payloads).notify(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD).unwrap().clone();
    assert_eq!(refused.data, [200]);
}

#[test]
fn an_unknown_critical_payload_in_an_answer_fails_the_exchange() {
    let mut h = Hostile::up();
    h.command(A, ike::Command::Probe);
    let (first, plain) = raw(&[(200, true, &[1])]);
    h.answer_octets(A, first, &plain);
    assert!(!h.pair.a.conn.as_ref().unwrap().is_up());
    assert!(h.pair.a.installed.is_empty());
}

#[test]
fn payload_types_of_ikev1_are_unknown_ones() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for kind in 1..=20 {
            let (first, plain) = raw(&[(kind, false, &[0; 12])]);
            let answer = h.ask_octets(from, ExchangeType::INFORMATIONAL, first, &plain);
            assert_eq!(answer, Some(vec![]), "type {kind} is skipped");
        }
        h.assert_alive();
    }
}

#[test]
fn a_message_of_ikev1_is_dropped_whatever_it_carries() {
    let mut h = Hostile::up();
    let header = h.request_header(A, ExchangeType::INFORMATIONAL);
    // Main mode, aggressive mode, informational, quick mode; and IKEv2's exchanges and payloads under that version.
    for exchange in [2, 4, 5, 32, 34, 35, 36, 37] {
        for payloads in [vec![], child_request(A, 7), vec![Payload::Opaque(PayloadType(1), vec![0; 12])]] {
            let mut bytes =
                Message::encode(ike::wire::Header { exchange: ExchangeType(exchange), ..header }, &payloads);
            bytes[17] = 0x10;
            h.assert_dropped(A, &bytes, &format!("IKEv1 exchange {exchange}"));
        }
    }
    h.assert_alive();
}

#[test]
fn exchanges_nobody_knows_are_refused() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for exchange in [0, 1, 2, 4, 5, 32, 33, 38, 43, 240, 255] {
            h.assert_refused(from, ExchangeType(exchange), chain(&[]), NotifyType::INVALID_SYNTAX);
        }
        h.assert_alive();
    }
}

#[test]
fn payloads_that_may_stand_once_are_refused_twice() {
    let mut h = Hostile::up();
    let base = child_request(A, 0x9999);
    for i in 0..base.len() {
        let mut twice = base.clone();
        twice.insert(i, base[i].clone());
        h.assert_refused(A, ExchangeType::CREATE_CHILD_SA, chain(&twice), NotifyType::INVALID_SYNTAX);
    }
    let ke = Payload::Ke { group: 31, data: vec![9; 32] };
    let two_keys = [base.clone(), vec![ke.clone(), ke]].concat();
    h.assert_refused(A, ExchangeType::CREATE_CHILD_SA, chain(&two_keys), NotifyType::INVALID_SYNTAX);
    h.assert_alive();
}

#[test]
fn payloads_of_another_exchange_are_refused() {
    let mut h = Hostile::up();
    let id = id_i("left.example");
    for (exchange, payload) in [
        (ExchangeType::INFORMATIONAL, id.clone()),
        (ExchangeType::INFORMATIONAL, Payload::Nonce(vec![7; 32])),
        (ExchangeType::INFORMATIONAL, esp_offer("aes128gcm16", 7)),
        (ExchangeType::INFORMATIONAL, Payload::Ke { group: 31, data: vec![9; 32] }),
        (ExchangeType::INFORMATIONAL, Payload::Opaque(PayloadType::EAP, vec![1, 2, 3, 4])),
    ] {
        h.assert_refused(A, exchange, chain(&[payload]), NotifyType::INVALID_SYNTAX);
    }
    let with_id = [child_request(A, 0x9999), vec![id]].concat();
    h.assert_refused(A, ExchangeType::CREATE_CHILD_SA, chain(&with_id), NotifyType::INVALID_SYNTAX);
    // And those that are missing.
    for without in
        [&[ike_offer("aes128gcm16-prfsha256-x25519", &[9; 8])][..], &[Payload::Nonce(vec![7; 32])], &[]]
    {
        h.assert_refused(A, ExchangeType::CREATE_CHILD_SA, chain(without), NotifyType::INVALID_SYNTAX);
    }
    h.assert_alive();
}

#[test]
fn errors_that_are_not_about_us_do_not_end_the_connection() {
    // RFC 7296 section 3.10.1: unrecognised error types in a request are ignored. INVALID_SPI and INVALID_SELECTORS
    // speak of single ESP packets.
    for from in [A, B] {
        let mut h = Hostile::up();
        for kind in [2, 4, 8, 9, 11, 14, 17, 34, 38, 39, 43, 44, 45, 8191, 8192, 16383] {
            let before = h.snapshot(crate::peer::other(from));
            let answer = h.ask(from, ExchangeType::INFORMATIONAL, &[notify(NotifyType(kind))]);
            assert_eq!(answer, Some(vec![]), "{kind}");
            assert_eq!(h.snapshot(crate::peer::other(from)), before, "{kind}");
        }
        h.assert_alive();
    }
    // These say that the peer cannot go on (section 2.21.2).
    for kind in [NotifyType::AUTHENTICATION_FAILED, NotifyType::INVALID_SYNTAX] {
        let mut h = Hostile::up();
        assert_eq!(h.ask(A, ExchangeType::INFORMATIONAL, &[notify(kind)]), Some(vec![]));
        assert!(!h.pair.b.conn.as_ref().unwrap().is_up());
    }
}

#[test]
fn the_critical_flag_of_a_known_payload_means_nothing() {
    // RFC 7296 section 3.2: it is to be ignored on every payload that is understood.
    let octets = |p: &Payload| (p.kind().0, chain(std::slice::from_ref(p)).1[4..].to_vec());
    let mut h = Hostile::up();
    let parts: Vec<(u8, Vec<u8>)> = child_request(A, 0x9999).iter().map(octets).collect();
    let items: Vec<(u8, bool, &[u8])> =
        parts.iter().map(|(kind, body)| (*kind, true, body.as_slice())).collect();
    let (first, plain) = raw(&items);
    let answer = h.ask_octets(A, ExchangeType::CREATE_CHILD_SA, first, &plain).unwrap();
    assert!(Payloads(&answer).sa().is_some(), "{answer:?}");
    for kind in [PayloadType::VENDOR_ID, PayloadType::CP] {
        let (first, plain) = raw(&[(kind.0, true, &[1, 2, 3, 4])]);
        assert_eq!(h.ask_octets(A, ExchangeType::INFORMATIONAL, first, &plain), Some(vec![]), "{kind}");
    }
}

#[test]
fn a_first_message_without_what_it_needs_is_refused_without_state() {
    let sa = ike_offer("aes128gcm16-prfsha256-x25519", &[]);
    let ke = Payload::Ke { group: 31, data: vec![9; 32] };
    let nonce = Payload::Nonce(vec![7; 32]);
    let id = id_i("left.example");
    let vendors = vec![Payload::Opaque(PayloadType::VENDOR_ID, vec![1; 16]); 97];
    let base = vec![sa.clone(), ke.clone(), nonce.clone()];
    let and = |more: Vec<Payload>| [base.clone(), more].concat();
    // What is told, and `None` where nothing is said because it does not even decode.
    for (what, payloads, told) in [
        ("nothing", vec![], Some(NotifyType::INVALID_SYNTAX)),
        ("no SA", vec![ke.clone(), nonce.clone()], Some(NotifyType::INVALID_SYNTAX)),
        ("no KE", vec![sa.clone(), nonce.clone()], Some(NotifyType::INVALID_SYNTAX)),
        ("no nonce", vec![sa.clone(), ke.clone()], Some(NotifyType::INVALID_SYNTAX)),
        ("two of SA", and(vec![sa]), Some(NotifyType::INVALID_SYNTAX)),
        ("two of KE", and(vec![ke]), Some(NotifyType::INVALID_SYNTAX)),
        ("two nonces", and(vec![nonce]), Some(NotifyType::INVALID_SYNTAX)),
        ("an identity", and(vec![id]), Some(NotifyType::INVALID_SYNTAX)),
        ("97 vendor IDs", and(vendors), None),
        ("a short nonce", vec![base[0].clone(), base[1].clone(), Payload::Nonce(vec![7; 15])], None),
        (
            "an offer for ESP",
            vec![esp_offer("aes128gcm16", 7), base[1].clone(), base[2].clone()],
            Some(NotifyType::NO_PROPOSAL_CHOSEN),
        ),
    ] {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        h.pair.initiate();
        let mut first = h.pair.take(A);
        let header = Message::parse(&first.bytes).unwrap().header;
        first.bytes = Message::encode(header, &payloads);
        h.pair.put(A, &first);
        assert!(h.pair.b.conn.is_none(), "{what}: state was kept");
        assert_eq!(h.pair.b.refused.len(), 1, "{what}: reported");
        let answer = h.pair.b.outbox.pop_front().map(|m| Message::parse(&m.bytes).unwrap().chain.payloads);
        assert_eq!(answer.map(|p| crate::peer::errors(&p)), told.map(|t| vec![t]), "{what}");
    }
}
