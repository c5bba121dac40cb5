//! A peer that has the keys of phase 1 and seals whatever it likes.

use std::collections::BTreeMap;

use ike::{Connection, Transmit};

use crate::kit::{A, B, Installed, Pair, Who};
use crate::message::{self, HASH, Parts};

pub fn other(who: Who) -> Who {
    if who == A { B } else { A }
}

/// What must be as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    up: bool,
    spis: Vec<u64>,
    pub installed: BTreeMap<u32, Installed>,
    pub log: Vec<String>,
    waiting: usize,
}

pub fn snapshot(pair: &mut Pair, who: Who) -> Snapshot {
    let side = pair.side(who);
    let conn = side.conn.as_ref().expect("a connection");
    Snapshot {
        up: conn.is_up(),
        spis: conn.local_spis(),
        installed: side.installed.clone(),
        log: side.log.clone(),
        waiting: side.outbox.len(),
    }
}

fn conn(pair: &mut Pair, who: Who) -> &Connection {
    pair.side(who).conn.as_ref().expect("a connection")
}

/// What a message of phase 2 says, its HASH first, and the IV of the next.
pub fn open(pair: &mut Pair, message: &[u8], iv: Option<&[u8]>) -> (Parts, Vec<u8>) {
    let (plain, iv) = conn(pair, A).v1_decrypt(message, iv).expect("a message of the IKE_SA");
    (message::parts(message[16], &plain), iv)
}

/// How a message of phase 2 is to be sealed.
#[derive(Clone, Copy, Default)]
pub struct How<'a> {
    pub exchange: u8,
    pub id: u32,
    pub iv: Option<&'a [u8]>,
    /// By which of the hashes: none, one or both nonces.
    pub nonces: &'a [&'a [u8]],
    /// A bit of the hash is wrong.
    pub wrong: bool,
    pub commit: bool,
}

pub const QUICK: How<'_> =
    How { exchange: message::QUICK, id: 77, iv: None, nonces: &[], wrong: false, commit: false };
pub const INFORM: How<'_> = How { exchange: message::INFORMATIONAL, ..QUICK };

/// Seals payloads, the HASH before them.
pub fn seal(pair: &mut Pair, how: How<'_>, parts: &[(u8, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    seal_octets(pair, how, parts.first().map_or(0, |first| first.0), &message::chain(parts))
}

/// Seals octets behind the HASH that covers them.
pub fn seal_octets(pair: &mut Pair, how: How<'_>, first: u8, rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut hash = conn(pair, A).v1_hash(how.id, how.nonces, rest).expect("a hash");
    if how.wrong {
        hash[0] ^= 1;
    }
    let mut plain = message::chain(&[(HASH, hash)]);
    plain[0] = first;
    plain.extend(rest);
    seal_plain(pair, how, HASH, &plain)
}

/// Seals octets as they are.
pub fn seal_plain(pair: &mut Pair, how: How<'_>, first: u8, plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let sealed = conn(pair, A).v1_encrypt(how.exchange, how.id, how.iv, (first, plain));
    let (mut message, iv) = sealed.expect("sealing takes any octets");
    if how.commit {
        message[19] |= 2;
    }
    (message, iv)
}

/// The next message of a side, the fifth or sixth of main mode, with further payloads. `before` is the one that it answers, if that was
/// encrypted.
pub fn add_to_main(pair: &mut Pair, from: Who, before: Option<&[u8]>, more: &Parts) -> Transmit {
    let message = pair.take(from);
    let side = pair.side(from).conn.as_mut().expect("a connection").alone();
    let bytes = side.v1_add_to_main(&message.bytes, before, more).expect("a message of main mode");
    Transmit { bytes, ..message }
}

/// Hands octets to the other side of `from`.
pub fn inject(pair: &mut Pair, from: Who, bytes: &[u8]) {
    let (local, remote) = (pair.side(from).addr, pair.side(other(from)).addr);
    let message = Transmit { local, remote, natt: false, keepalive: false, bytes: bytes.to_vec() };
    pair.put(from, &message);
}

/// What is injected must be counted and change nothing.
#[track_caller]
pub fn assert_dropped(pair: &mut Pair, from: Who, bytes: &[u8], what: &str) {
    let to = other(from);
    let dropped = |pair: &mut Pair| conn(pair, to).counters().dropped;
    let (before, count) = (snapshot(pair, to), dropped(pair));
    inject(pair, from, bytes);
    assert_eq!(snapshot(pair, to), before, "{what}");
    assert_eq!(dropped(pair), count + 1, "{what} is counted");
}

/// The first message of a quick mode that a side would send now; its own way to the other is blocked.
pub fn quick_request(pair: &mut Pair, from: Who) -> (u32, Parts, Vec<u8>) {
    let spi = pair.spi(from);
    pair.command(from, ike::Command::RekeyChild(spi));
    let bytes = pair.take(from).bytes;
    let id = message::message_id(&bytes);
    let (parts, iv) = open(pair, &bytes, None);
    (id, parts, iv)
}

pub fn nonce(parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    parts.iter().find(|p| p.0 == message::NONCE).expect("a nonce").1.clone()
}

/// A Notify payload.
pub fn notify(kind: u16, protocol: u8, spi: &[u8], data: &[u8]) -> (u8, Vec<u8>) {
    let mut body = vec![0, 0, 0, 1, protocol, u8::try_from(spi.len()).unwrap()];
    body.extend(kind.to_be_bytes());
    body.extend(spi);
    body.extend(data);
    (message::NOTIFY, body)
}

/// A Delete payload.
pub fn delete(protocol: u8, spis: &[&[u8]]) -> (u8, Vec<u8>) {
    let size = spis.first().map_or(4, |spi| spi.len());
    let mut body = vec![0, 0, 0, 1, protocol, u8::try_from(size).unwrap()];
    body.extend(u16::try_from(spis.len()).unwrap().to_be_bytes());
    spis.iter().for_each(|spi| body.extend(*spi));
    (message::DELETE, body)
}

/// Both cookies of the IKE_SA in use.
pub fn cookies(pair: &mut Pair) -> Vec<u8> {
    let (local, remote) = conn(pair, A).spis();
    let a_began = conn(pair, A).initiator_spi() == local;
    let (i, r) = if a_began { (local, remote) } else { (remote, local) };
    [i.to_be_bytes(), r.to_be_bytes()].concat()
}
