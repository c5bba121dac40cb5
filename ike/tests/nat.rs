//! NAT detection (RFC 7296 section 2.23): what is hashed, and that either part of an address counts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use ike::wire::numbers::NotifyType;
use ike::wire::{Message, Payloads};
use ike::{Command, Nat, Transmit};
use kit::{A, B, Pair, Spec};

fn first() -> (Pair, Transmit) {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let first = pair.take(A);
    (pair, first)
}

fn found(change: impl Fn(&mut Transmit)) -> Nat {
    let (mut pair, mut first) = first();
    change(&mut first);
    pair.put(A, &first);
    pair.b.conn.as_ref().unwrap().nat()
}

#[test]
fn the_hash_is_of_spis_address_and_port() {
    let (_, first) = first();
    let message = Message::parse(&first.bytes).unwrap();
    for (kind, ip) in [
        (NotifyType::NAT_DETECTION_SOURCE_IP, [192, 0, 2, 1]),
        (NotifyType::NAT_DETECTION_DESTINATION_IP, [192, 0, 2, 2]),
    ] {
        let hashed = [&message.header.spi_i.to_be_bytes()[..], &[0; 8], &ip, &500u16.to_be_bytes()].concat();
        let notify = Payloads(&message.chain.payloads).notify(kind).unwrap();
        assert_eq!(notify.data, openssl::sha::sha1(&hashed), "{kind}");
    }
}

#[test]
fn a_changed_port_is_a_nat_as_a_changed_address_is() {
    assert_eq!(found(|_| {}), Nat { local: false, remote: false });
    assert_eq!(found(|m| m.local.set_port(1024)), Nat { local: false, remote: true });
    assert_eq!(found(|m| m.local.set_ip([203, 0, 113, 9].into())), Nat { local: false, remote: true });
    assert_eq!(found(|m| m.remote.set_port(1024)), Nat { local: true, remote: false });
    assert_eq!(found(|m| m.remote.set_ip([203, 0, 113, 9].into())), Nat { local: true, remote: false });
}

/// Delivers until both are silent; what A sends seems to come from `outside`.
fn settle_behind(pair: &mut Pair, outside: SocketAddr) {
    loop {
        if let Some(mut message) = pair.a.outbox.pop_front() {
            message.local = outside;
            pair.put(A, &message);
        } else if let Some(mut message) = pair.b.outbox.pop_front() {
            message.remote = pair.a.addr;
            pair.put(B, &message);
        } else {
            return;
        }
    }
}

fn remote_of(side: &kit::Side) -> SocketAddr {
    side.conn.as_ref().unwrap().addresses().1
}

#[test]
fn a_peer_behind_a_nat_is_followed_to_another_address_and_port() {
    let (before, after): (SocketAddr, SocketAddr) =
        ("203.0.113.9:1024".parse().unwrap(), "198.51.100.7:2048".parse().unwrap());
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    settle_behind(&mut pair, before);
    assert!(pair.b.conn.as_ref().unwrap().nat().remote);
    assert_eq!(remote_of(&pair.b), before);
    let ours = SocketAddr::new(pair.b.addr.ip(), 4500);
    assert!(pair.b.installed.values().all(|sa| sa.path == (ours, before)), "{:?}", pair.b.installed);

    // What is not authentic moves nobody.
    pair.command(A, Command::Probe);
    let mut forged = pair.take(A);
    forged.local = after;
    let genuine = forged.clone();
    *forged.bytes.last_mut().unwrap() ^= 1;
    pair.put(A, &forged);
    assert_eq!(remote_of(&pair.b), before);

    pair.put(A, &genuine);
    assert_eq!(remote_of(&pair.b), after);
    assert_eq!(pair.b.log.last().unwrap(), "moved to 198.51.100.7:2048", "so that ESP follows");
    assert!(
        pair.b.outbox.iter().all(|answer| answer.remote == after),
        "answered to where the request came from"
    );
    settle_behind(&mut pair, after);
    // Its own requests go there as well.
    pair.command(B, Command::Probe);
    assert_eq!(pair.take(B).remote, after);
}

/// Delivers until both are silent, each behind a NAT: what goes to where A was before is lost.
fn settle_between(pair: &mut Pair, outside_a: SocketAddr, outside_b: SocketAddr) {
    loop {
        if let Some(mut message) = pair.a.outbox.pop_front() {
            let inside: SocketAddr = "10.9.9.9:500".parse().unwrap();
            (message.local, message.remote) = (outside_a, inside);
            message.remote.set_port(if message.natt { 4500 } else { 500 });
            pair.put(A, &message);
        } else if let Some(mut message) = pair.b.outbox.pop_front() {
            if message.remote == outside_a {
                (message.local, message.remote) = (outside_b, pair.a.addr);
                message.remote.set_port(if message.natt { 4500 } else { 500 });
                pair.put(B, &message);
            }
        } else {
            return;
        }
    }
}

/// As most nodes in a cloud are behind a NAT, and most of their branches. The branch gets another address from its provider.
#[test]
fn behind_a_nat_of_its_own_a_peer_is_followed_where_it_answers() {
    let [before, after, ours]: [SocketAddr; 3] =
        ["203.0.113.9:1024", "198.51.100.7:2048", "192.0.2.1:4500"].map(|at| at.parse().unwrap());
    let up = || {
        let spec = |spec: Spec| Spec { dpd: Duration::from_secs(30), ..spec };
        let mut pair = Pair::new(&spec(Spec::left()), &spec(Spec::right()));
        pair.initiate();
        settle_between(&mut pair, before, ours);
        let nat = pair.b.conn.as_ref().unwrap().nat();
        assert!(nat.local && nat.remote);
        assert_eq!(remote_of(&pair.b), before);
        pair
    };

    // By its IKE, and by its ESP.
    for by_esp in [false, true] {
        let mut pair = up();
        if by_esp {
            pair.command(B, Command::RemoteMoved(after));
        } else {
            pair.command(A, Command::Probe);
        }
        settle_between(&mut pair, after, ours);
        for _ in 0..3 {
            pair.pass(Duration::from_secs(1));
            settle_between(&mut pair, after, ours);
        }
        assert_eq!(remote_of(&pair.b), after, "by ESP: {by_esp}");
        assert_eq!(pair.b.log.last().unwrap(), "moved to 198.51.100.7:2048");
        pair.command(B, Command::Probe);
        assert_eq!(pair.b.outbox.len(), 1, "it is known where it is");
    }

    // Whoever passes a packet on from elsewhere leads nobody there: the peer answers where it was.
    let mut pair = up();
    pair.command(B, Command::RemoteMoved(after));
    settle_between(&mut pair, before, ours);
    assert_eq!(remote_of(&pair.b), before);
    pair.command(B, Command::Probe);
    assert_eq!(pair.b.outbox.len(), 1);

    // The question may end without an answer, with an IKE_SA that the peer rekeys.
    let mut pair = up();
    pair.command(B, Command::RemoteMoved(after));
    pair.b.outbox.clear();
    pair.command(A, Command::RekeyIke);
    settle_between(&mut pair, after, ours);
    assert_eq!(remote_of(&pair.b), after, "{:?}", pair.b.log);
    pair.command(B, Command::Probe);
    assert_eq!(pair.b.outbox.len(), 1, "it is known where it is");

    // It is at neither, though something comes from it again and again: that shows, and does not last.
    let mut pair = up();
    for _ in 0..90 {
        pair.pass(Duration::from_secs(1));
        pair.command(B, Command::RemoteMoved(after));
        pair.command(B, Command::Heard(Some(pair.now)));
        pair.b.outbox.clear();
        if !pair.b.conn.as_ref().unwrap().is_up() {
            break;
        }
    }
    assert!(!pair.b.conn.as_ref().unwrap().is_up(), "{:?}", pair.b.log);
}

#[test]
fn a_peer_that_is_not_behind_a_nat_does_not_move() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    let before = remote_of(&pair.b);
    pair.command(A, Command::Probe);
    let mut request = pair.take(A);
    request.local = "198.51.100.7:500".parse().unwrap();
    pair.put(A, &request);
    assert_eq!(remote_of(&pair.b), before);
    // The answer goes to where the request came from all the same (section 2.11).
    assert_eq!(pair.take(B).remote, request.local);
}

#[test]
fn a_negotiation_over_the_nat_traversal_port_stays_there() {
    let (mut pair, mut first) = first();
    first.natt = true;
    first.local.set_port(4500);
    first.remote.set_port(4500);
    pair.put(A, &first);
    let answer = pair.take(B);
    assert_eq!((answer.natt, answer.local, answer.remote), (true, first.remote, first.local));
}

#[test]
fn our_own_address_is_the_one_that_the_answer_came_to() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    let ours = pair.a.addr;
    pair.a.addr = "0.0.0.0:500".parse().unwrap();
    pair.initiate();
    let mut request = pair.take(A);
    assert_eq!(request.local.ip().to_string(), "0.0.0.0", "the kernel chooses one");
    request.local = ours;
    pair.put(A, &request);
    pair.deliver(B);
    assert!(!pair.a.conn.as_ref().unwrap().nat().local);
    assert_eq!(pair.take(A).local, ours);
}

#[test]
fn esp_goes_by_the_nat_traversal_ports_also_where_ike_stays_on_its_own() {
    let mut pair = Pair::new(&Spec::left(), &Spec { force_encapsulation: true, ..Spec::right() });
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    let mut auth = pair.take(A);
    (auth.natt, auth.local, auth.remote) = (false, pair.a.addr, pair.b.addr);
    pair.put(A, &auth);
    let natt = |addr: SocketAddr| SocketAddr::new(addr.ip(), 4500);
    let expected = (natt(pair.b.addr), natt(pair.a.addr));
    assert_eq!(pair.b.installed.values().map(|sa| sa.path).collect::<Vec<_>>(), [expected]);
    assert_eq!(remote_of(&pair.b), pair.a.addr);
}

#[test]
fn a_connection_that_is_over_keeps_no_mapping_alive() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    settle_behind(&mut pair, "203.0.113.9:1024".parse().unwrap());
    let keepalives = |pair: &mut Pair| pair.a.outbox.drain(..).filter(|t| t.keepalive).count();
    pair.pass(Duration::from_secs(59));
    assert_eq!(keepalives(&mut pair), 2, "every 20 s from the side behind it");
    pair.command(A, Command::Close);
    pair.pass(Duration::from_secs(60));
    assert_eq!(keepalives(&mut pair), 0);
}
