//! Answers that make an implementation go round for ever: each round has a bound, or a pause that grows.

use std::time::Duration;

use ike::wire::message::Message;
use ike::wire::numbers::{NotifyType, ProtocolId};
use ike::wire::payload::{Notify, Payload};
use ike::{Command, Connection, Transmit};

use crate::kit::{A, B, Spec};
use crate::peer::{Hostile, notify};

/// Answers IKE_SA_INIT requests of A with what `reply` says until A sends none; returns how many it sent.
fn init_rounds(left: &Spec, mut reply: impl FnMut(usize) -> Notify) -> (usize, Hostile) {
    let mut h = Hostile::new(left, &Spec::right());
    h.pair.initiate();
    let mut rounds = 0;
    while let Some(request) = h.pair.a.outbox.pop_front() {
        rounds += 1;
        assert!(rounds < 100, "without end");
        let header = Message::parse(&request.bytes).unwrap().header;
        let header = ike::wire::Header { from_initiator: false, response: true, ..header };
        let bytes = Message::encode(header, &[Payload::Notify(reply(rounds))]);
        let answer =
            Transmit { local: h.pair.b.addr, remote: h.pair.a.addr, natt: false, keepalive: false, bytes };
        h.pair.put(B, &answer);
    }
    h.pair.pass(Duration::from_secs(2));
    (rounds, h)
}

#[test]
fn cookies_without_end_end() {
    let (rounds, h) =
        init_rounds(&Spec::left(), |n| Notify::with_data(NotifyType::COOKIE, vec![n as u8; 20]));
    assert_eq!(rounds, 7, "the first and six more");
    assert!(h.pair.a.log[0].starts_with("down"), "{:?}", h.pair.a.log);
}

#[test]
fn a_cookie_of_a_length_no_cookie_has_is_not_returned() {
    // RFC 7296 section 2.6: 1 to 64 octets. A larger one would have us send what cannot be sent.
    for len in [0, 65, 1000, 60_000] {
        let (rounds, h) = init_rounds(&Spec::left(), |_| Notify::with_data(NotifyType::COOKIE, vec![1; len]));
        assert_eq!(rounds, 1, "{len} octets");
        assert_eq!(h.pair.a.conn.as_ref().unwrap().counters().dropped, 1);
        assert!(h.pair.a.log.is_empty(), "another answer may still come: {:?}", h.pair.a.log);
    }
    for len in [1, 64] {
        let (rounds, _) = init_rounds(&Spec::left(), |_| Notify::with_data(NotifyType::COOKIE, vec![1; len]));
        assert_eq!(rounds, 7, "{len} octets");
    }
}

#[test]
fn groups_wanted_in_turn_end() {
    let left = Spec { ike: vec!["aes128gcm16-prfsha256-x25519-ecp256"], ..Spec::left() };
    let (rounds, h) = init_rounds(&left, |n| {
        Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, vec![0, if n % 2 == 1 { 19 } else { 31 }])
    });
    assert_eq!(rounds, 7);
    assert!(h.pair.a.log[0].starts_with("down"), "{:?}", h.pair.a.log);
}

#[test]
fn a_group_that_was_not_offered_is_not_taken() {
    for data in [vec![0, 14], vec![0, 31], vec![4, 1], vec![], vec![0], vec![0, 0, 31]] {
        let (rounds, h) =
            init_rounds(&Spec::left(), |_| Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, data.clone()));
        assert_eq!(rounds, 1, "{data:?}");
        assert!(h.pair.a.log[0].contains("is wanted by the peer"), "{:?}", h.pair.a.log);
    }
}

#[test]
fn a_group_that_was_not_offered_is_not_taken_in_the_middle_of_a_life() {
    let spec = |s: Spec| Spec { esp: vec!["aes128gcm16-x25519"], ..s };
    for ike in [false, true] {
        for data in [vec![0, 14], vec![0, 19], vec![4, 1], vec![], vec![0], vec![0, 0, 31]] {
            let mut h = Hostile::up_with(&spec(Spec::left()), &spec(Spec::right()));
            let spi = h.pair.spi(A);
            h.command(A, if ike { Command::RekeyIke } else { Command::RekeyChild(spi) });
            assert!(creates(&h.asked(A).unwrap()));
            h.answer(A, &[Payload::Notify(Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, data.clone()))]);
            assert_eq!(h.asked(A), None, "{data:?} of which nothing was offered");
        }
    }
}

/// Answers every request of A with `reply`, letting at most `hours` pass; returns how many requests came at once
/// without a pause at most, and how many in all.
fn life_rounds(h: &mut Hostile, reply: impl Fn(&[Payload]) -> Vec<Payload>, hours: u64) -> (usize, usize) {
    let (mut most, mut all) = (0, 0);
    for _ in 0..hours * 3600 {
        let mut burst = 0;
        while let Some(asked) = h.asked(A) {
            burst += 1;
            assert!(burst < 50, "without end and without a pause: {asked:?}");
            h.answer(A, &reply(&asked));
        }
        most = most.max(burst);
        all += burst;
        h.pair.pass(Duration::from_secs(1));
        h.pair.b.outbox.clear();
    }
    (most, all)
}

/// Whether a request is for a Child SA or an IKE_SA.
fn creates(asked: &[Payload]) -> bool {
    asked.iter().any(|p| matches!(p, Payload::Sa(_)))
}

#[test]
fn temporary_failure_for_ever_ends_after_a_while() {
    for ike in [false, true] {
        let mut h = Hostile::up();
        let spi = h.pair.spi(A);
        h.command(A, if ike { Command::RekeyIke } else { Command::RekeyChild(spi) });
        let (most, all) = life_rounds(
            &mut h,
            |asked| if creates(asked) { vec![notify(NotifyType::TEMPORARY_FAILURE)] } else { vec![] },
            1,
        );
        assert!(most <= 2, "each after a pause; the last one is followed by the delete of the IKE_SA");
        assert!((10..20).contains(&all), "{all} requests");
        assert!(h.pair.a.log.iter().any(|l| l.contains("TEMPORARY_FAILURE")), "{:?}", h.pair.a.log);
        assert!(h.pair.a.conn.as_deref().is_some_and(Connection::is_finished));
    }
}

#[test]
fn child_sa_not_found_for_ever_is_no_loop() {
    let mut h = Hostile::up();
    let spi = h.pair.spi(A);
    h.command(A, Command::RekeyChild(spi));
    let reply = |asked: &[Payload]| {
        if creates(asked) {
            vec![Payload::Notify(Notify::about_esp(NotifyType::CHILD_SA_NOT_FOUND, spi))]
        } else {
            vec![]
        }
    };
    let (most, _) = life_rounds(&mut h, reply, 1);
    // The rekeying, and the new one instead of the pair the peer has lost.
    assert!(most <= 2, "{most} at once");
    assert!(h.pair.a.log.iter().any(|l| l.starts_with("child failed")), "{:?}", h.pair.a.log);
}

#[test]
fn groups_wanted_in_turn_in_the_middle_of_a_life_end() {
    let spec = |s: Spec| Spec {
        ike: vec!["aes128gcm16-prfsha256-x25519-ecp256"],
        esp: vec!["aes128gcm16-x25519-ecp256"],
        ..s
    };
    for ike in [false, true] {
        let mut h = Hostile::up_with(&spec(Spec::left()), &spec(Spec::right()));
        let spi = h.pair.spi(A);
        h.command(A, if ike { Command::RekeyIke } else { Command::RekeyChild(spi) });
        let reply = |asked: &[Payload]| {
            let sent = asked
                .iter()
                .find_map(|p| if let Payload::Ke { group, .. } = p { Some(*group) } else { None });
            match sent {
                Some(group) => {
                    let wanted = if group == 31 { 19 } else { 31 };
                    vec![Payload::Notify(Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, vec![0, wanted]))]
                }
                None => vec![],
            }
        };
        let (most, all) = life_rounds(&mut h, reply, 1);
        assert!(most <= 6, "{most} at once");
        assert!(all < 100, "{all} in an hour");
    }
}

/// NONE is a group that may be asked for where it was offered, and is no other way to ask for nothing.
#[test]
fn a_group_that_is_none_is_no_key_exchange() {
    for (esp, data, goes_on) in [
        ("aes128gcm16-x25519-nopfs", vec![0, 0], true),
        ("aes128gcm16-x25519-nopfs", vec![], false),
        ("aes128gcm16-x25519-nopfs", vec![0, 0, 0], false),
        ("aes128gcm16-x25519", vec![0, 0], false),
    ] {
        let spec = |s: Spec| Spec { esp: vec![esp], ..s };
        let mut h = Hostile::up_with(&spec(Spec::left()), &spec(Spec::right()));
        let spi = h.pair.spi(A);
        h.command(A, Command::RekeyChild(spi));
        let has_key = |asked: &[Payload]| asked.iter().any(|p| matches!(p, Payload::Ke { .. }));
        assert!(has_key(&h.asked(A).expect("a request")));
        h.answer(A, &[Payload::Notify(Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, data.clone()))]);
        let again = h.asked(A);
        assert_eq!(again.is_some_and(|asked| creates(&asked) && !has_key(&asked)), goes_on, "{esp} {data:?}");
        let refused = h.pair.a.log.iter().any(|line| line.contains("group"));
        assert_eq!(refused, !goes_on, "{esp} {data:?}: {:?}", h.pair.a.log);
    }
}

#[test]
fn a_bad_answer_for_ever_leaves_what_is_there() {
    let mut h = Hostile::up();
    let spi = h.pair.spi(A);
    h.command(A, Command::RekeyChild(spi));
    let reply = |asked: &[Payload]| {
        if creates(asked) {
            let [i, r] = crate::peer::selectors(A);
            vec![crate::peer::esp_answer("aes256gcm16-esn", 7), Payload::Nonce(vec![8; 32]), i, r]
        } else {
            vec![]
        }
    };
    let (most, all) = life_rounds(&mut h, reply, 1);
    assert!(most <= 2, "the request and the delete of what the peer made");
    assert!(all < 60, "{all} in an hour");
    assert!(h.pair.a.conn.as_deref().is_some_and(Connection::is_up), "{:?}", h.pair.a.log);
    assert_eq!(h.pair.spi(A), spi);
}

#[test]
fn a_delete_that_is_never_answered_does_not_hold_the_end_up() {
    let mut h = Hostile::up();
    h.command(A, Command::Close);
    let told = h.asked(A).expect("a delete");
    assert!(matches!(&told[0], Payload::Delete { protocol: ProtocolId::IKE, .. }));
    h.pair.a.outbox.clear();
    h.pair.pass(Duration::from_secs(60));
    assert!(h.pair.a.conn.as_deref().is_some_and(Connection::is_finished));
}
