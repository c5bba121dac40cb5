//! The door: classification, versions, and the cookie gate (RFC 7296 sections 2.5 and 2.6).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unused_crate_dependencies
)]

mod kit;

use std::time::Duration;

use ike::config::Opening;
use ike::reception::{Class, CookieGate, FirstMessage, Verdict, classify, wrong_version_reply};
use ike::wire::numbers::NotifyType;
use ike::wire::{Message, Payloads};
use ike::{Datagram, Transmit};
use kit::{A, B, Pair, Spec};

fn datagram(t: &Transmit) -> Datagram<'_> {
    Datagram { local: t.remote, remote: t.local, natt: t.natt, bytes: &t.bytes }
}

fn receiver(bytes: &[u8]) -> u64 {
    match classify(bytes) {
        Ok(Class::Existing(receivers)) => receivers.spis().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn first_messages_and_others_are_told_apart() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let first = pair.take(A);
    assert_eq!(classify(&first.bytes), Ok(Class::First(Opening::Init)));
    let known = FirstMessage::of(Opening::Init, &first.bytes).unwrap();
    assert_eq!(known.spi_i(), pair.a.conn.as_ref().unwrap().spis().0);
    pair.put(A, &first);
    let answer = pair.take(B);
    assert_eq!(receiver(&answer.bytes), pair.a.conn.as_ref().unwrap().spis().0);
    pair.put(B, &answer);
    let auth = pair.take(A);
    assert_eq!(receiver(&auth.bytes), pair.b.conn.as_ref().unwrap().spis().0);
    for len in 0..first.bytes.len() {
        assert!(classify(&first.bytes[..len]).is_err());
    }
}

#[test]
fn another_major_version_is_told_ours_and_only_if_it_asked() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let mut first = pair.take(A);
    first.bytes[17] = 0x30;
    let reply = wrong_version_reply(&first.bytes).unwrap();
    let message = Message::parse(&reply).unwrap();
    assert!(Payloads(&message.chain.payloads).notify(NotifyType::INVALID_MAJOR_VERSION).is_some());
    first.bytes[19] |= 0x20;
    assert!(wrong_version_reply(&first.bytes).is_none(), "an answer is not answered");
    first.bytes[19] &= !0x20;
    first.bytes[17] = 0x10;
    assert!(wrong_version_reply(&first.bytes).is_none(), "IKEv1 does not know the notify");
}

#[test]
fn a_cookie_opens_the_gate_for_its_message_alone() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    let now = pair.now;
    let mut gate = CookieGate::new(now, &mut pair.b.host);
    pair.initiate();
    let first = pair.take(A);
    assert_eq!(gate.check(now, &mut pair.b.host, datagram(&first), false), Verdict::Pass);
    let Verdict::Challenge(bytes) = gate.check(now, &mut pair.b.host, datagram(&first), true) else {
        panic!("challenged")
    };
    let challenge =
        Transmit { local: first.remote, remote: first.local, natt: false, keepalive: false, bytes };
    pair.put(B, &challenge);
    let again = pair.take(A);
    assert_eq!(gate.check(now, &mut pair.b.host, datagram(&again), true), Verdict::Pass);
    // From elsewhere, or with a cookie of another length, it is worth nothing.
    let moved = Transmit { local: "203.0.113.9:500".parse().unwrap(), ..again.clone() };
    assert!(matches!(gate.check(now, &mut pair.b.host, datagram(&moved), true), Verdict::Challenge(_)));
    // It outlives one change of the secret, not two.
    let later = now + Duration::from_secs(121);
    assert_eq!(gate.check(later, &mut pair.b.host, datagram(&again), true), Verdict::Pass);
    let soon_after = later + Duration::from_secs(60);
    assert_eq!(gate.check(soon_after, &mut pair.b.host, datagram(&again), true), Verdict::Pass);
    let much_later = later + Duration::from_secs(121);
    assert!(matches!(
        gate.check(much_later, &mut pair.b.host, datagram(&again), true),
        Verdict::Challenge(_)
    ));
    // And the negotiation goes on with it in front.
    pair.put(A, &again);
    pair.settle();
    pair.assert_children(1);
    pair.assert_alive();
}
