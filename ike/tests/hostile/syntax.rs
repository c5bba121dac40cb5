//! INVALID_SYNTAX on an IKE_SA that is up (RFC 7296 section 2.21.3): who says it has deleted the IKE_SA, and so has who is told, without another
//! word.

use ike::Command;
use ike::wire::numbers::{ExchangeType, NotifyType};
use ike::wire::payload::Payload;

use crate::kit::{A, B};
use crate::peer::{Hostile, chain, child_request, notify};

/// What is ordered of a side.
type Order<'a> = &'a dyn Fn(&mut Hostile) -> Command;

/// A side asks something, and is told that it makes no sense.
fn answered(command: impl Fn(&mut Hostile) -> Command) -> Hostile {
    let mut h = Hostile::up();
    let command = command(&mut h);
    h.command(A, command);
    h.answer(A, &[notify(NotifyType::INVALID_SYNTAX)]);
    h
}

#[test]
fn a_peer_that_takes_a_request_for_nonsense_has_ended_the_connection() {
    let rekey = |h: &mut Hostile| Command::RekeyChild(h.pair.spi(A));
    let delete = |h: &mut Hostile| Command::DeleteChild(h.pair.spi(A));
    let commands: [(&str, Order<'_>); 4] = [
        ("CREATE_CHILD_SA", &rekey),
        ("CREATE_CHILD_SA", &|_| Command::RekeyIke),
        ("INFORMATIONAL", &delete),
        ("INFORMATIONAL", &|_| Command::Probe),
    ];
    for (exchange, command) in commands {
        let mut h = answered(command);
        assert_eq!(h.ask(B, ExchangeType::INFORMATIONAL, &[]), None, "{exchange}: it would seem to be there");
        let a = &h.pair.a;
        assert!(!a.conn.as_ref().unwrap().is_up() && a.installed.is_empty(), "{exchange}");
        assert!(a.outbox.is_empty(), "{exchange}: nobody is there that could be told");
        let why = a.log.last().unwrap();
        assert!(why.contains(&format!("answered {exchange} with INVALID_SYNTAX")), "{why}");
    }
}

/// What is said of an IKE_SA is not said of the one that has taken its place.
#[test]
fn the_ike_sa_that_has_taken_its_place_stays() {
    let mut h = Hostile::up();
    h.command(A, Command::RekeyIke);
    h.deliver(A);
    h.deliver(B);
    // A deletes the old one.
    h.answer(A, &[notify(NotifyType::INVALID_SYNTAX)]);
    assert!(h.pair.a.conn.as_ref().unwrap().is_up());
    h.settle();
    h.pair.assert_children(1);
}

#[test]
fn the_ike_sa_that_the_peer_has_made_meanwhile_stays() {
    let mut h = Hostile::up();
    h.command(A, Command::RekeyIke);
    h.command(B, Command::RekeyIke);
    h.deliver(B);
    h.answer(A, &[notify(NotifyType::INVALID_SYNTAX)]);
    assert!(h.pair.a.conn.as_ref().unwrap().is_up());
    // The answer to B, which has never seen A's request.
    h.settle();
    h.pair.run(90);
    h.pair.assert_ike(1);
    h.pair.assert_children(1);
}

/// We keep the IKE_SA, and ask at once whether the peer has.
#[test]
fn a_peer_that_was_told_is_asked_whether_it_is_there() {
    let mut nonsense = child_request(A, 0x9999);
    nonsense.push(Payload::Nonce(vec![7; 32]));
    for (exchange, request) in [
        (ExchangeType::CREATE_CHILD_SA, nonsense),
        (ExchangeType::INFORMATIONAL, vec![Payload::Nonce(vec![7; 32])]),
        (ExchangeType(43), vec![]),
    ] {
        let mut h = Hostile::up();
        let (first, plain) = chain(&request);
        let header = h.request_header(A, exchange);
        let bytes = h.tap.last().seal_octets(header, first, &plain, &crate::kit::tap::Wrapping::default());
        h.inject(A, &bytes);
        assert_eq!(h.pair.b.outbox.len(), 2, "the answer and the question");
        drop(h.pair.take(B));
        assert_eq!(h.asked(B), Some(vec![]));
        assert!(h.pair.b.conn.as_ref().unwrap().is_up(), "it may well be there");
        // It is not.
        for _ in 0..400 {
            h.pair.pass(std::time::Duration::from_secs(1));
            h.pair.b.outbox.clear();
        }
        assert!(!h.pair.b.conn.as_ref().unwrap().is_up());
        let why = h.pair.b.log.last().unwrap();
        assert!(why.contains("no answer to INFORMATIONAL"), "{why}");
    }
}
