//! Before the peer is authenticated nothing but IKE_AUTH is served (RFC 7296 section 1.2). CVE-2019-12312: an
//! INFORMATIONAL exchange there; CVE-2014-2338: the rekeying of an IKE_SA that was never authenticated.

use std::time::Duration;

use ike::wire::message::Message;
use ike::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use ike::wire::payload::{Notify, Payload};

use crate::kit::{A, B, Spec, Who};
use crate::peer::{Hostile, child_request, ike_offer, notify};

fn ike_rekey() -> Vec<Payload> {
    vec![
        ike_offer("aes128gcm16-prfsha256-x25519", &[9; 8]),
        Payload::Nonce(vec![7; 32]),
        Payload::Ke { group: 31, data: vec![9; 32] },
    ]
}

/// Requests that a peer with keys but without AUTH may try.
fn requests(from: Who) -> Vec<(ExchangeType, Vec<Payload>)> {
    let delete = |protocol| vec![Payload::Delete { protocol, spis: vec![] }];
    vec![
        (ExchangeType::INFORMATIONAL, vec![]),
        (ExchangeType::INFORMATIONAL, delete(ProtocolId::IKE)),
        (ExchangeType::INFORMATIONAL, delete(ProtocolId::ESP)),
        (ExchangeType::INFORMATIONAL, vec![notify(NotifyType::AUTHENTICATION_FAILED)]),
        (ExchangeType::CREATE_CHILD_SA, child_request(from, 0x9999)),
        (ExchangeType::CREATE_CHILD_SA, ike_rekey()),
    ]
}

#[test]
fn a_responder_serves_nothing_before_auth() {
    let mut h = Hostile::half_open();
    let auth = h.take_request(A);
    for (exchange, payloads) in requests(A) {
        // The ID that IKE_AUTH will have, so that the window is not what stops it.
        let header = h.tap.last().header(true, false, exchange, 1);
        let bytes = h.tap.last().seal(header, &payloads);
        h.assert_dropped(A, &bytes, &format!("{exchange} before IKE_AUTH"));
    }
    assert!(!h.pair.b.conn.as_ref().unwrap().is_up());
    h.pair.put(A, &auth);
    h.settle();
    h.pair.assert_children(1);
}

#[test]
fn an_initiator_serves_nothing_before_auth() {
    let mut h = Hostile::half_open();
    for (exchange, payloads) in requests(B) {
        let header = h.tap.last().header(false, false, exchange, 0);
        let bytes = h.tap.last().seal(header, &payloads);
        h.assert_dropped(B, &bytes, &format!("{exchange} before IKE_AUTH"));
    }
    h.settle();
    h.pair.assert_children(1);
}

#[test]
fn nothing_but_the_answer_of_its_exchange_ends_the_wait_for_auth() {
    let mut h = Hostile::half_open();
    for exchange in [ExchangeType::INFORMATIONAL, ExchangeType::CREATE_CHILD_SA, ExchangeType::IKE_SA_INIT] {
        let header = h.tap.last().header(false, true, exchange, 1);
        let bytes = h.tap.last().seal(header, &[]);
        h.assert_dropped(B, &bytes, &format!("{exchange} as the answer to IKE_AUTH"));
    }
    h.settle();
    h.pair.assert_children(1);
}

#[test]
fn without_an_ike_sa_only_ike_sa_init_is_answered() {
    let mut h = Hostile::half_open();
    let auth = h.take_request(A);
    let mut fresh = Hostile::new(&Spec::left(), &Spec::right());
    fresh.pair.put(A, &auth);
    assert!(fresh.pair.b.conn.is_none() && fresh.pair.b.outbox.is_empty());
    assert!(fresh.pair.b.refused[0].contains("first message"), "{:?}", fresh.pair.b.refused);
}

#[test]
fn a_first_message_that_is_none_is_dropped_without_state() {
    let first = {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        h.pair.initiate();
        h.pair.take(A)
    };
    // Flags: from the responder, an answer. Fields: a responder SPI, a Message ID, no initiator SPI, other exchanges.
    let edits: [(usize, u8); 8] =
        [(19, 0x00), (19, 0x28), (15, 1), (23, 1), (18, 35), (18, 36), (18, 37), (18, 99)];
    for (at, value) in edits {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        let mut bad = first.clone();
        bad.bytes[at] = value;
        h.pair.put(A, &bad);
        assert!(h.pair.b.conn.is_none() && h.pair.b.outbox.is_empty(), "octet {at} as {value}");
    }
    let mut h = Hostile::new(&Spec::left(), &Spec::right());
    let mut bad = first.clone();
    bad.bytes[..8].fill(0);
    h.pair.put(A, &bad);
    assert!(h.pair.b.conn.is_none() && h.pair.b.outbox.is_empty(), "no SPI");
}

#[test]
fn an_initiator_that_waits_for_ike_sa_init_takes_nothing_else() {
    let mut h = Hostile::new(&Spec::left(), &Spec::right());
    h.pair.initiate();
    let first = h.pair.take(A);
    let header = Message::parse(&first.bytes).unwrap().header;
    let answer = ike::wire::Header { spi_r: 77, from_initiator: false, response: true, ..header };
    for exchange in [ExchangeType::IKE_AUTH, ExchangeType::INFORMATIONAL, ExchangeType::CREATE_CHILD_SA] {
        let bytes = Message::encode(ike::wire::Header { exchange, ..answer }, &[]);
        h.assert_dropped(B, &bytes, &format!("{exchange}"));
    }
    for bad in [
        ike::wire::Header { message_id: 1, ..answer },
        ike::wire::Header { from_initiator: true, ..answer },
        ike::wire::Header { response: false, ..answer },
        ike::wire::Header { spi_i: 5, ..answer },
    ] {
        let refusal = [notify(NotifyType::NO_PROPOSAL_CHOSEN)];
        h.assert_dropped(B, &Message::encode(bad, &refusal), "a refusal with a wrong header");
    }
    // Payloads missing or twice.
    let ke = Payload::Ke { group: 31, data: vec![9; 32] };
    let nonce = Payload::Nonce(vec![7; 32]);
    let sa = ike_offer("aes128gcm16-prfsha256-x25519", &[]);
    for payloads in [
        vec![],
        vec![sa.clone(), nonce.clone()],
        vec![sa.clone(), ke.clone()],
        vec![ke.clone(), nonce.clone()],
        vec![sa.clone(), ke.clone(), nonce.clone(), nonce.clone()],
        vec![sa.clone(), sa.clone(), ke.clone(), nonce.clone()],
        vec![sa, ke.clone(), ke, nonce, Payload::Opaque(PayloadType::EAP, vec![1])],
    ] {
        h.assert_dropped(B, &Message::encode(answer, &payloads), &format!("{payloads:?}"));
    }
    h.pair.put(A, &first);
    h.settle();
    h.pair.assert_children(1);
}

#[test]
fn an_initiator_refuses_in_the_answer_what_it_did_not_offer() {
    let ke = |group, octets| Payload::Ke { group, data: vec![9; octets] };
    let nonce = || Payload::Nonce(vec![7; 32]);
    let good = "aes128gcm16-prfsha256-x25519";
    let twice = |text| {
        let Payload::Sa(one) = ike_offer(text, &[]) else { unreachable!() };
        Payload::Sa([one.clone(), one].concat())
    };
    for (what, spi_r, payloads) in [
        ("another cipher", 77, vec![ike_offer("aes256gcm16-prfsha256-x25519", &[]), ke(31, 32), nonce()]),
        ("another PRF", 77, vec![ike_offer("aes128gcm16-prfsha512-x25519", &[]), ke(31, 32), nonce()]),
        ("another group", 77, vec![ike_offer("aes128gcm16-prfsha256-ecp256", &[]), ke(19, 64), nonce()]),
        ("KE of another group", 77, vec![ike_offer(good, &[]), ke(19, 64), nonce()]),
        ("no AEAD", 77, vec![ike_offer("aes128-sha256-x25519", &[]), ke(31, 32), nonce()]),
        ("two proposals", 77, vec![twice(good), ke(31, 32), nonce()]),
        ("two groups", 77, vec![ike_offer("aes128gcm16-prfsha256-x25519-ecp256", &[]), ke(31, 32), nonce()]),
        ("ESP", 77, vec![crate::peer::esp_offer("aes128gcm16", 7), ke(31, 32), nonce()]),
        ("no SPI", 0, vec![ike_offer(good, &[]), ke(31, 32), nonce()]),
    ] {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        h.pair.initiate();
        let header = Message::parse(&h.pair.take(A).bytes).unwrap().header;
        let header = ike::wire::Header { spi_r, from_initiator: false, response: true, ..header };
        h.inject(B, &Message::encode(header, &payloads));
        assert!(h.pair.a.outbox.is_empty(), "{what}: IKE_AUTH was sent");
        h.pair.pass(Duration::from_secs(2));
        assert!(
            h.pair.a.log.len() == 1 && h.pair.a.log[0].contains("not in our offer"),
            "{what}: {:?}",
            h.pair.a.log
        );
        assert_eq!(h.pair.a.conn.as_ref().unwrap().ike_sas(), 0, "{what}: keys were made");
    }
}

/// RFC 7296 section 2.21.1: a refusal that nobody has authenticated is not acted upon at once.
#[test]
fn a_refusal_in_the_peer_s_place_ends_nothing() {
    for (kind, data) in [
        (NotifyType::NO_PROPOSAL_CHOSEN, vec![]),
        (NotifyType::INVALID_KE_PAYLOAD, vec![0, 14]),
        (NotifyType::INVALID_SYNTAX, vec![]),
        (NotifyType::INVALID_MAJOR_VERSION, vec![]),
    ] {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        h.pair.initiate();
        let request = h.pair.take(A);
        let header = Message::parse(&request.bytes).unwrap().header;
        let header = ike::wire::Header { from_initiator: false, response: true, ..header };
        let forged = Message::encode(header, &[Payload::Notify(Notify::with_data(kind, data))]);
        h.inject(B, &forged);
        h.pair.put(A, &request);
        h.pair.settle();
        h.inject(B, &forged);
        h.pair.run(60);
        h.pair.assert_ike(1);
        h.pair.assert_children(1);
        assert!(!h.pair.a.log.iter().any(|line| line.starts_with("down")), "{kind}: {:?}", h.pair.a.log);
    }
}
