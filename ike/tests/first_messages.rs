//! What the first two exchanges of a connection say: INITIAL_CONTACT, and what a retry of IKE_SA_INIT keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::reception::{CookieGate, Verdict};
use ike::wire::Message;
use ike::wire::numbers::{NotifyType, PayloadType};
use ike::wire::payload::Payload;
use ike::{Datagram, Transmit};
use kit::tap::Tap;
use kit::{A, B, Pair, Spec};

fn payloads(message: &Transmit) -> Vec<Payload> {
    Message::parse(&message.bytes).unwrap().chain.payloads
}

fn is_notify(payload: &Payload, wanted: NotifyType) -> bool {
    matches!(payload, Payload::Notify(notify) if notify.kind == wanted)
}

/// Whether A says INITIAL_CONTACT when it has another connection with the peer, or not, at each of three moments: when the
/// negotiation begins, when IKE_SA_INIT is sent again, when IKE_AUTH is written.
fn says_initial_contact(up: [bool; 3]) -> bool {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    let mut tap = Tap::default();
    let other = |up: bool| up.then(|| "192.0.2.2:500".parse().unwrap());
    pair.a.host.connected = other(up[0]);
    pair.initiate();
    pair.take(A);
    pair.a.host.connected = other(up[1]);
    pair.pass(std::time::Duration::from_secs(1));
    pair.a.host.connected = other(up[2]);
    let init = pair.take(A);
    pair.put(A, &init);
    let answer = pair.take(B);
    pair.put(B, &answer);
    let auth = pair.take(A);
    for message in [&init, &answer] {
        tap.saw(&message.bytes, [&pair.a.host.draws, &pair.b.host.draws]);
    }
    let opened = tap.last().open(&auth.bytes).unwrap();
    opened.iter().any(|payload| is_notify(payload, NotifyType::INITIAL_CONTACT))
}

/// It means "delete all else that you have of me" (RFC 7296 section 2.4): the peer may have come while we waited for its
/// answer, and what it began must not be deleted.
#[test]
fn initial_contact_is_decided_when_it_is_said() {
    for up in [[false; 3], [true, false, false], [false, true, false], [true, true, false]] {
        assert!(says_initial_contact(up), "{up:?}");
    }
    for up in [[true; 3], [false, false, true], [false, true, true], [true, false, true]] {
        assert!(!says_initial_contact(up), "{up:?}");
    }
}

/// RFC 7296 section 2.6: all but the cookie stays as it was; and with another group, all but the key exchange.
#[test]
fn a_retry_changes_nothing_but_what_the_peer_asks_for() {
    for force in [false, true] {
        let spec =
            |ike: &'static str, spec: Spec| Spec { ike: vec![ike], force_encapsulation: force, ..spec };
        let left = spec("aes128gcm16-prfsha256-x25519-ecp256-ecp384", Spec::left());
        let right = spec("aes128gcm16-prfsha256-ecp256", Spec::right());
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        let first = pair.take(A);
        let mut gate = CookieGate::new(pair.now, &mut pair.b.host);
        let mut challenge = |pair: &mut Pair, message: &Transmit| {
            let (local, remote) = (message.remote, message.local);
            let datagram = Datagram { local, remote, natt: false, bytes: &message.bytes };
            let verdict = gate.check(pair.now, &mut pair.b.host, datagram, true);
            let Verdict::Challenge(bytes) = verdict else { return false };
            let reply = Transmit { local, remote, natt: false, keepalive: false, bytes };
            pair.put(B, &reply);
            true
        };
        assert!(challenge(&mut pair, &first));
        let with_cookie = pair.take(A);
        let (before, after) = (payloads(&first), payloads(&with_cookie));
        assert!(is_notify(&after[0], NotifyType::COOKIE));
        assert_eq!(after[1..], before[..], "forced {force}");
        assert!(!challenge(&mut pair, &with_cookie));

        // B wants another group.
        pair.put(A, &with_cookie);
        let refusal = pair.take(B);
        pair.put(B, &refusal);
        let with_group = pair.take(A);
        // What B says of the request before comes once more: that was sent twice, or the network has doubled this.
        pair.put(B, &refusal);
        let last = payloads(&with_group);
        assert_eq!(last.len(), after.len());
        for (old, new) in after.iter().zip(&last) {
            assert_eq!(old.kind(), new.kind());
            assert_eq!(old == new, old.kind() != PayloadType::KE, "forced {force}: {:?}", new.kind());
        }
        let spi = |message: &Transmit| Message::parse(&message.bytes).unwrap().header.spi_i;
        assert_eq!((spi(&first), spi(&first)), (spi(&with_cookie), spi(&with_group)));
        pair.put(A, &with_group);
        pair.settle();
        pair.assert_children(1);
    }
}

#[test]
fn a_name_in_another_case_is_the_same_peer() {
    let left = Spec { local_id: "LEFT.Example", ..Spec::left() };
    let right = Spec { local_id: "Right.EXAMPLE", ..Spec::right() };
    Pair::up(&left, &right).assert_children(1);
}
