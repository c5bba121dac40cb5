//! What the last two messages of main mode say besides: they are encrypted, and some say there alone what others say before.

use std::time::Duration;

use ike::Connection;
use ike::config::{Phase1, Version};

use crate::kit::{A, B, Pair, Spec};
use crate::message::{self, Parts, VENDOR};
use crate::{peer, specs};

/// RFC 3706 section 5.1, with version 1.0.
const DPD: &[u8] = b"\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00";
/// RFC 3947 section 3.1.
const NAT_RFC: &[u8] = b"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f";
const RESPONDER_LIFETIME: u16 = 24_576;
const IKE: u8 = 1;
const ESP: u8 = 3;

/// What follows when the first message says nothing of itself, and the fifth and the sixth these.
fn up(left: &Spec, right: &Spec, fifth: &Parts, sixth: &Parts) -> Pair {
    let mut pair = Pair::new(left, right);
    pair.initiate();
    let first = pair.take(A);
    let said: Parts = message::clear(&first.bytes).into_iter().filter(|part| part.0 != VENDOR).collect();
    let bytes = message::with(&first.bytes, &said);
    pair.put(A, &ike::Transmit { bytes, ..first });
    for from in [B, A, B] {
        pair.deliver(from);
    }
    let told = peer::add_to_main(&mut pair, A, None, fifth);
    pair.put(A, &told);
    let answer = peer::add_to_main(&mut pair, B, Some(&told.bytes), sixth);
    pair.put(B, &answer);
    pair.settle();
    pair.run(4);
    pair
}

fn vendor(id: &[u8]) -> (u8, Vec<u8>) {
    (VENDOR, id.to_vec())
}

/// How many messages both send in so many seconds without traffic.
fn said(pair: &mut Pair, seconds: u64) -> usize {
    let mut said = 0;
    for _ in 0..seconds {
        pair.pass(Duration::from_secs(1));
        said += pair.a.outbox.len() + pair.b.outbox.len();
        pair.settle();
    }
    said
}

/// RFC 3706 section 5.1 says nothing of the message in which it is announced.
#[test]
fn a_peer_that_announces_liveness_in_its_last_message_alone_is_asked_and_told_the_same() {
    let dpd = Duration::from_secs(10);
    // Who has announced it last learns by the sixth message that it may ask as well.
    for asks in [A, B] {
        for announced in [false, true] {
            let [mut left, mut right] = specs(Phase1::Main);
            if asks == A {
                left.dpd = dpd
            } else {
                right.dpd = dpd
            }
            let fifth: Parts = announced.then(|| vendor(DPD)).into_iter().collect();
            let mut pair = up(&left, &right, &fifth, &Vec::new());
            pair.assert_children(1);
            assert_eq!(said(&mut pair, 60) > 0, announced, "{asks:?}");
        }
    }
}

/// NAT traversal is settled by then.
#[test]
fn how_nat_traversal_is_done_is_not_changed_at_the_end() {
    let [left, right] = specs(Phase1::Main);
    let late: Parts = vec![vendor(NAT_RFC)];
    let forced = |spec| Spec { force_encapsulation: true, ..spec };
    let mut pair = up(&forced(left), &forced(right), &late, &late);
    pair.assert_children(1);
    pair.rekey(A);
    assert!(!pair.take(A).natt, "it has gone to the port of NAT traversal");
}

/// RFC 2407 section 4.6.3.1: who has made the IKE_SA learns how long its responder keeps it.
#[test]
fn a_responder_says_how_long_it_keeps_the_ike_sa() {
    // Type: seconds. Duration: 1,200. As two octets and as four.
    let short: &[u8] = &[0x80, 11, 0, 1, 0x80, 12, 4, 0xb0];
    let long: &[u8] = &[0x80, 11, 0, 1, 0, 12, 0, 4, 0, 0, 4, 0xb0];
    let longer: &[u8] = &[0x80, 11, 0, 1, 0, 12, 0, 4, 0x7f, 0, 0, 0];
    let none: &[u8] = &[0x80, 11, 0, 1, 0x80, 12, 0, 0];
    for (protocol, data, shortened) in [
        (IKE, short, true),
        (IKE, long, true),
        (IKE, longer, false),
        (IKE, none, false),
        (IKE, &[], false),
        (IKE, &[0x80], false),
        (ESP, short, false),
    ] {
        let [left, right] = specs(Phase1::Main);
        let sixth = vec![peer::notify(RESPONDER_LIFETIME, protocol, &[], data)];
        let pair = up(&left, &right, &Vec::new(), &sixth);
        let lifetime = |side: &crate::kit::Side| side.conn.as_deref().and_then(Connection::agreed_lifetime);
        let Version::V1(v1) = left.version else { unreachable!() };
        let expected = if shortened { Duration::from_secs(1_200) } else { v1.life.time };
        assert_eq!(lifetime(&pair.a), Some(expected), "{protocol} {data:?}");
        pair.assert_children(1);
    }
}
