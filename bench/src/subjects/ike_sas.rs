//! `ike`: decoding messages, answering IKE_SA_INIT, a whole handshake of both sides, and a connection that goes to another node.
//!
//! The two sides and the messages between them are those of the tests of `ike`.

#[path = "../../../ike/tests/kit/mod.rs"]
mod kit;

use std::hint::black_box;

use ike::wire::message::Message;
use ike::{Connection, Resume, Snapshot};
use kit::{A, B, Pair, Spec};
use snapshot::{decode, encode};

use super::bare::each;
use super::{Kind, Subject, Work};

/// A message of a handshake: those of IKE_SA_INIT are the first two.
fn message(number: usize) -> Vec<u8> {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    for sender in [A, B, A, B].into_iter().take(number) {
        pair.deliver(sender);
    }
    pair.take([A, B, A, B][number]).bytes
}

fn parse(number: usize) -> Work {
    let bytes = message(number);
    Box::new(move || drop(black_box(Message::parse(black_box(&bytes)).unwrap())))
}

/// Both sides that have begun, and nothing delivered.
fn begun(rounds: usize) -> Vec<Pair> {
    let pair = || {
        let mut pair = Pair::new(&Spec::left(), &Spec::right());
        pair.initiate();
        pair
    };
    (0..rounds).map(|_| pair()).collect()
}

fn sa_init(rounds: usize) -> Work {
    let begun = begun(rounds).into_iter().map(|mut pair| (pair.take(A), pair));
    each(begun.collect(), |(request, pair)| pair.put(A, request))
}

/// From the request of IKE_AUTH to its answer, with the Child SA.
fn auth(rounds: usize) -> Work {
    let ready = begun(rounds).into_iter().map(|mut pair| {
        pair.deliver(A);
        pair.deliver(B);
        (pair.take(A), pair)
    });
    each(ready.collect(), |(request, pair)| pair.put(A, request))
}

fn handshake(rounds: usize) -> Work {
    let fresh = (0..rounds).map(|_| Pair::new(&Spec::left(), &Spec::right()));
    each(fresh.collect(), |pair| {
        pair.initiate();
        pair.settle();
        assert_eq!(pair.b.installed.len(), 1);
    })
}

/// The responder's side of an established connection with one Child SA, into octets.
fn give(_: usize) -> Work {
    let pair = Pair::up(&Spec::left(), &Spec::right());
    Box::new(move || {
        let conn = pair.b.conn.as_ref().unwrap();
        black_box(encode(&conn.snapshot(pair.now).unwrap()));
    })
}

/// And out of them.
fn take_over(_: usize) -> Work {
    let pair = Pair::up(&Spec::left(), &Spec::right());
    let octets = encode(&pair.b.conn.as_ref().unwrap().snapshot(pair.now).unwrap());
    Box::new(move || {
        let snapshot: Snapshot = decode(black_box(&octets)).unwrap();
        let config = pair.b.config.clone();
        drop(black_box(Connection::restore(&snapshot, pair.now, Resume::Exactly, config).unwrap()));
    })
}

pub(crate) fn subjects() -> Vec<Subject> {
    let own = |name, prepare| Subject { name, kind: Kind::Own, over: None, rounds: 1000, prepare };
    let crypto = |name, prepare| Subject { name, kind: Kind::Crypto, over: None, rounds: 20, prepare };
    vec![
        own("ike parse IKE_SA_INIT request", |_| parse(0)),
        own("ike parse IKE_SA_INIT response", |_| parse(1)),
        own("ike parse IKE_AUTH request", |_| parse(2)),
        crypto("ike IKE_SA_INIT responder x25519", sa_init),
        crypto("ike IKE_AUTH responder psk", auth),
        crypto("ike handshake both sides", handshake),
        own("ike snapshot", give),
        own("ike restore", take_over),
    ]
}
