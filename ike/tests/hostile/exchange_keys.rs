//! Public values that are no public values, in IKE_SA_INIT from either side and in CREATE_CHILD_SA: small subgroups,
//! points off the curve, MODP values out of range (RFC 5903 section 8, RFC 6989, RFC 7748 section 6.1). CVE-2014-9221: a
//! group of the private range.

use ike::wire::message::{Message, Payloads};
use ike::wire::numbers::{ExchangeType, NotifyType};
use ike::wire::payload::Payload;
use openssl::bn::BigNum;

use crate::kit::{A, B, Spec};
use crate::peer::{Hostile, chain, esp_offer, ike_offer, selectors};

const GROUPS: [(u16, &str); 6] =
    [(31, "x25519"), (19, "ecp256"), (20, "ecp384"), (21, "ecp521"), (14, "modp2048"), (16, "modp4096")];

/// The bad public values of a group.
fn bad_values(group: u16) -> Vec<(&'static str, Vec<u8>)> {
    let octets = match group {
        31 => 32,
        19 => 64,
        20 => 96,
        21 => 132,
        14 => 256,
        _ => 512,
    };
    let mut bad = vec![
        ("nothing", vec![]),
        ("one octet", vec![2]),
        ("too short", vec![2; octets - 1]),
        ("too long", vec![2; octets + 1]),
        ("much too long", vec![2; 8000]),
        ("zero", vec![0; octets]),
    ];
    let padded = |n: &BigNum| n.to_vec_padded(octets as i32).unwrap();
    match group {
        31 => {
            // The points of small order (RFC 7748 section 7): 0, 1, and those of order 8, as they are and plus p.
            let mut one = vec![0; 32];
            one[0] = 1;
            bad.push(("order 1", one));
            let hex = |text| BigNum::from_hex_str(text).unwrap().to_vec_padded(32).unwrap();
            bad.push(("order 8", hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")));
            bad.push((
                "the other of order 8",
                hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
            ));
            for (what, low) in [("p - 1", 0xec), ("p", 0xed), ("p + 1", 0xee)] {
                let mut point = vec![0xff; 32];
                point[0] = low;
                point[31] = 0x7f;
                bad.push((what, point));
            }
        }
        19..=21 => {
            let half = octets / 2;
            let mut off = vec![0; octets];
            off[half - 1] = 5;
            off[octets - 1] = 1;
            bad.push(("a point off the curve", off));
            bad.push(("coordinates above the prime", vec![0xff; octets]));
            let mut compressed = vec![0; half + 1];
            compressed[0] = 2;
            bad.push(("a compressed point", compressed));
            let mut prefixed = vec![4];
            prefixed.extend(vec![1; octets]);
            bad.push(("a prefix", prefixed));
        }
        _ => {
            let p = if group == 14 {
                BigNum::get_rfc3526_prime_2048().unwrap()
            } else {
                BigNum::get_rfc3526_prime_4096().unwrap()
            };
            let one = BigNum::from_u32(1).unwrap();
            bad.push(("1", padded(&one)));
            bad.push(("p - 1", padded(&(&p - &one))));
            bad.push(("p", padded(&p)));
            bad.push(("p + 1", padded(&(&p + &one))));
            bad.push(("all ones", vec![0xff; octets]));
        }
    }
    bad
}

fn spec(spec: Spec, group: &str) -> Spec {
    let ike = format!("aes128gcm16-prfsha256-{group}");
    Spec { ike: vec![Box::leak(ike.into_boxed_str())], ..spec }
}

/// The message with other octets as public value.
fn with_ke(message: &Message, group: u16, value: &[u8]) -> Vec<u8> {
    let mut payloads = message.chain.payloads.clone();
    for payload in &mut payloads {
        if matches!(payload, Payload::Ke { .. }) {
            *payload = Payload::Ke { group, data: value.to_vec() };
        }
    }
    Message::encode(message.header, &payloads)
}

#[test]
fn a_responder_refuses_them_in_ike_sa_init_and_keeps_nothing() {
    for (group, name) in GROUPS {
        for (what, value) in bad_values(group) {
            let mut h = Hostile::new(&spec(Spec::left(), name), &spec(Spec::right(), name));
            h.pair.initiate();
            let mut first = h.pair.take(A);
            first.bytes = with_ke(&Message::parse(&first.bytes).unwrap(), group, &value);
            h.pair.put(A, &first);
            assert!(h.pair.b.conn.is_none(), "{name}, {what}: state was kept");
            // Anybody can send them, so nothing is drawn and so no key pair made.
            assert!(h.pair.b.host.draws.is_empty(), "{name}, {what}: a key pair was made");
            let answer = h.pair.take(B);
            let answer = Message::parse(&answer.bytes).unwrap();
            assert!(
                Payloads(&answer.chain.payloads).notify(NotifyType::INVALID_SYNTAX).is_some(),
                "{name}, {what}"
            );
            assert!(h.pair.b.refused[0].contains("public value"), "{name}, {what}: {:?}", h.pair.b.refused);
        }
    }
}

#[test]
fn an_initiator_refuses_them_in_the_answer() {
    for (group, name) in GROUPS {
        for (what, value) in bad_values(group) {
            let mut h = Hostile::new(&spec(Spec::left(), name), &spec(Spec::right(), name));
            h.pair.initiate();
            h.pair.deliver(A);
            let mut answer = h.pair.take(B);
            answer.bytes = with_ke(&Message::parse(&answer.bytes).unwrap(), group, &value);
            h.pair.put(B, &answer);
            assert_eq!(h.pair.a.conn.as_ref().unwrap().ike_sas(), 0, "{name}, {what}: keys were made");
            assert!(h.pair.a.outbox.is_empty(), "{name}, {what}: IKE_AUTH was sent");
        }
    }
}

#[test]
fn a_child_and_an_ike_sa_are_not_rekeyed_with_them() {
    for (group, name) in GROUPS {
        let esp: &'static str = Box::leak(format!("aes128gcm16-{name}").into_boxed_str());
        let pfs = |s: Spec| Spec { esp: vec![esp], ..spec(s, name) };
        let mut h = Hostile::up_with(&pfs(Spec::left()), &pfs(Spec::right()));
        let ike = format!("aes128gcm16-prfsha256-{name}");
        for (what, value) in bad_values(group) {
            let ke = Payload::Ke { group, data: value };
            let [i, r] = selectors(A);
            let child = [esp_offer(esp, 0x9999), Payload::Nonce(vec![7; 32]), ke.clone(), i, r];
            let rekey = [ike_offer(&ike, &[9; 8]), Payload::Nonce(vec![7; 32]), ke];
            for payloads in [&child[..], &rekey] {
                let notify = h.assert_refused(
                    A,
                    ExchangeType::CREATE_CHILD_SA,
                    chain(payloads),
                    NotifyType::INVALID_SYNTAX,
                );
                assert!(notify.data.is_empty(), "{what}");
            }
        }
        h.assert_alive();
    }
}

#[test]
fn groups_nobody_knows_are_answered_with_the_one_wanted() {
    for group in [0, 1, 2, 5, 18, 22, 24, 27, 32, 1023, 1024, 1030, 1033, 1040, 0x8000, 0xffff] {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        h.pair.initiate();
        let mut first = h.pair.take(A);
        first.bytes = with_ke(&Message::parse(&first.bytes).unwrap(), group, &[1; 64]);
        h.pair.put(A, &first);
        assert!(h.pair.b.conn.is_none(), "{group}");
        let answer = Message::parse(&h.pair.take(B).bytes).unwrap();
        let wanted = Payloads(&answer.chain.payloads).notify(NotifyType::INVALID_KE_PAYLOAD).unwrap();
        assert_eq!(wanted.data, [0, 31], "{group}");
    }
    let mut h = Hostile::up();
    for group in [0, 1, 24, 1024, 1033, 0xffff] {
        let ke = Payload::Ke { group, data: vec![1; 64] };
        let rekey = [ike_offer("aes128gcm16-prfsha256-x25519", &[9; 8]), Payload::Nonce(vec![7; 32]), ke];
        let notify =
            h.assert_refused(B, ExchangeType::CREATE_CHILD_SA, chain(&rekey), NotifyType::INVALID_KE_PAYLOAD);
        assert_eq!(notify.data, [0, 31], "{group}");
    }
    h.assert_alive();
}

#[test]
fn nonces_that_are_too_short_or_too_long_are_refused() {
    let mut h = Hostile::up();
    for len in [0, 1, 15, 257, 2000] {
        let [i, r] = selectors(A);
        let child = [esp_offer("aes128gcm16", 0x9999), Payload::Nonce(vec![7; len]), i, r];
        h.assert_refused(A, ExchangeType::CREATE_CHILD_SA, chain(&child), NotifyType::INVALID_SYNTAX);
    }
    h.assert_alive();
    for len in [16, 256] {
        let mut h = Hostile::up();
        let [i, r] = selectors(A);
        let child = [esp_offer("aes128gcm16", 0x9999), Payload::Nonce(vec![7; len]), i, r];
        let answer = h.ask(A, ExchangeType::CREATE_CHILD_SA, &child).unwrap();
        assert!(Payloads(&answer).sa().is_some(), "{len} octets are allowed");
    }
}
