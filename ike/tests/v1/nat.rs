//! NAT traversal (RFC 3947, and the drafts that peers still announce).

use std::net::SocketAddr;
use std::time::Duration;

use ike::config::Phase1;
use ike::{Command, Nat};

use crate::kit::{A, B, Pair, Spec};
use crate::message::{self, NAT_D, VENDOR};
use crate::{MODES, specs};

const DRAFTS: [&[u8]; 3] = [
    b"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56",
    b"\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48",
    b"\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f",
];
const RFC: &[u8] = b"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f";
const OUTSIDE: &str = "203.0.113.9:1024";
const OUTSIDE_NATT: &str = "203.0.113.9:2048";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Delivers until both are silent, A behind a NAT that gives each of its ports one of its own.
fn settle_behind(pair: &mut Pair, ports: (SocketAddr, SocketAddr)) {
    for _ in 0..200 {
        if let Some(mut m) = pair.a.outbox.pop_front() {
            let natt = m.local.port() == 4500;
            m.local = if natt { ports.1 } else { ports.0 };
            if !m.keepalive {
                pair.put(A, &m);
            }
        } else if let Some(mut m) = pair.b.outbox.pop_front() {
            let natt = m.remote == ports.1;
            assert!(natt || m.remote == ports.0, "{} is not where A is", m.remote);
            m.remote = SocketAddr::new(pair.a.addr.ip(), if natt { 4500 } else { 500 });
            if !m.keepalive {
                pair.put(B, &m);
            }
        } else {
            return;
        }
    }
    panic!("the two never fall silent");
}

fn run_behind(pair: &mut Pair, seconds: u64, ports: (SocketAddr, SocketAddr)) {
    for _ in 0..seconds {
        pair.pass(Duration::from_secs(1));
        settle_behind(pair, ports);
    }
}

fn ports() -> (SocketAddr, SocketAddr) {
    (addr(OUTSIDE), addr(OUTSIDE_NATT))
}

/// Up, with A behind a NAT and only this of NAT traversal announced by it.
fn behind(mode: Phase1, announced: Option<&[u8]>) -> Pair {
    let [left, right] = specs(mode);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    if let Some(vendor) = announced {
        let first = pair.a.outbox.front_mut().unwrap();
        let known = |body: &[u8]| body == RFC || DRAFTS.contains(&body);
        let all = message::clear(&first.bytes).into_iter();
        let kept: Vec<_> =
            all.filter(|(kind, body)| *kind != VENDOR || !known(body) || body == vendor).collect();
        first.bytes = message::with(&first.bytes, &kept);
    }
    settle_behind(&mut pair, ports());
    run_behind(&mut pair, 4, ports());
    pair
}

#[test]
fn a_nat_is_found_and_both_float_to_4500() {
    for mode in MODES {
        for vendor in [RFC, DRAFTS[0], DRAFTS[1], DRAFTS[2]] {
            let pair = behind(mode, Some(vendor));
            pair.assert_children(1);
            let (a, b) = (pair.a.conn.as_ref().unwrap(), pair.b.conn.as_ref().unwrap());
            assert_eq!(a.nat(), Nat { local: true, remote: false });
            assert_eq!(b.nat(), Nat { local: false, remote: true });
            assert!(a.encapsulates() && b.encapsulates());
            assert_eq!(a.addresses(), (addr("192.0.2.1:4500"), addr("192.0.2.2:4500")));
            assert_eq!(b.addresses(), (addr("192.0.2.2:4500"), addr(OUTSIDE_NATT)));
            let path = (addr("192.0.2.2:4500"), addr(OUTSIDE_NATT));
            assert!(pair.b.installed.values().all(|sa| sa.path == path), "{:?}", pair.b.installed);
        }
    }
}

#[test]
fn without_a_nat_all_stays_on_500() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        while let Some(who) = [A, B].into_iter().find(|who| !pair.side(*who).outbox.is_empty()) {
            let m = pair.take(who);
            assert!(!m.natt && m.local.port() == 500 && m.remote.port() == 500);
            pair.put(who, &m);
        }
        for side in [&pair.a, &pair.b] {
            let conn = side.conn.as_ref().unwrap();
            assert_eq!(conn.nat(), Nat::default());
            assert!(!conn.encapsulates());
        }
    }
}

/// RFC 3947 section 3.2: HASH(CKY-I | CKY-R | IP | port), that of the destination first.
#[test]
fn the_hash_is_of_spis_address_and_port() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    let third = pair.take(A).bytes;
    let found: Vec<_> = message::clear(&third).into_iter().filter(|p| p.0 == NAT_D).map(|p| p.1).collect();
    let hash = |ip: [u8; 4]| openssl::sha::sha256(&[&third[..16], &ip, &[1, 244]].concat()).to_vec();
    assert_eq!(found, [hash([192, 0, 2, 2]), hash([192, 0, 2, 1])]);
}

#[test]
fn encapsulation_can_be_forced_by_either_side() {
    for mode in MODES {
        for forced in [A, B] {
            let [mut left, mut right] = specs(mode);
            (if forced == A { &mut left } else { &mut right }).force_encapsulation = true;
            let mut pair = Pair::up(&left, &right);
            pair.run(4);
            pair.assert_children(1);
            for side in [&pair.a, &pair.b] {
                let conn = side.conn.as_ref().unwrap();
                assert!(conn.encapsulates(), "{mode:?} {forced:?}");
                assert_eq!(conn.addresses().1.port(), 4500);
                assert!(
                    side.installed.values().all(|sa| sa.path.0.port() == 4500 && sa.path.1.port() == 4500)
                );
            }
        }
    }
}

#[test]
fn a_peer_that_does_no_nat_traversal_is_not_encapsulated_for() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        let first = pair.a.outbox.front_mut().unwrap();
        let all = message::clear(&first.bytes);
        let kept: Vec<_> = all.into_iter().filter(|p| p.0 != VENDOR).collect();
        first.bytes = message::with(&first.bytes, &kept);
        pair.settle();
        pair.run(4);
        pair.assert_children(1);
        assert!(pair.b.conn.as_ref().is_some_and(|b| !b.encapsulates()));
    }
}

#[test]
fn a_peer_whose_nat_forgets_it_is_followed_by_what_is_authentic_alone() {
    for mode in MODES {
        let mut pair = behind(mode, None);
        let after = addr("198.51.100.7:3072");
        let spi = pair.spi(A);
        pair.command(A, Command::RekeyChild(spi));
        let mut genuine = pair.take(A);
        genuine.local = after;
        let mut forged = genuine.clone();
        *forged.bytes.last_mut().unwrap() ^= 1;
        pair.put(A, &forged);
        let remote = |pair: &Pair| pair.b.conn.as_ref().unwrap().addresses().1;
        assert_eq!(remote(&pair), addr(OUTSIDE_NATT));
        pair.put(A, &genuine);
        assert_eq!(remote(&pair), after);
        assert!(pair.b.log.contains(&"moved to 198.51.100.7:3072".into()), "{:?}", pair.b.log);
        // A replay from where it was does not bring it back.
        let mut replay = genuine.clone();
        replay.local = addr(OUTSIDE_NATT);
        pair.put(A, &replay);
        assert_eq!(remote(&pair), after);
    }
}

#[test]
fn only_a_peer_behind_a_nat_moves() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = crate::up(&left, &right);
    let before = pair.b.conn.as_ref().unwrap().addresses().1;
    let spi = pair.spi(A);
    pair.command(A, Command::RekeyChild(spi));
    let mut m = pair.take(A);
    m.local = addr("198.51.100.7:500");
    pair.put(A, &m);
    assert_eq!(pair.b.conn.as_ref().unwrap().addresses().1, before);
    assert_eq!(pair.take(B).remote, m.local, "an answer goes to where the request came from");

    // Nor one that is not, where we are.
    for mode in MODES {
        let mut pair = behind(mode, None);
        let elsewhere = addr("198.51.100.7:4500");
        let spi = pair.spi(B);
        pair.command(B, Command::RekeyChild(spi));
        let mut m = pair.take(B);
        (m.local, m.remote) = (elsewhere, SocketAddr::new(pair.a.addr.ip(), 4500));
        pair.put(B, &m);
        assert_eq!(pair.take(A).remote, elsewhere, "it is authentic");
        pair.command(A, Command::RemoteMoved(elsewhere));
        let remote = pair.a.conn.as_ref().unwrap().addresses().1;
        assert_eq!(remote, SocketAddr::new(pair.b.addr.ip(), 4500), "{mode:?}");
    }
}

#[test]
fn who_is_behind_a_nat_keeps_it_open() {
    for mode in MODES {
        let mut pair = behind(mode, None);
        let (mut of_a, mut of_b) = (0, 0);
        for _ in 0..100 {
            pair.pass(Duration::from_secs(1));
            of_a += pair.a.outbox.iter().filter(|m| m.keepalive && m.bytes == [0xff] && m.natt).count();
            of_b += pair.b.outbox.iter().filter(|m| m.keepalive).count();
            pair.a.outbox.clear();
            pair.b.outbox.clear();
        }
        assert_eq!((of_a, of_b), (5, 0), "{mode:?}");
    }
}

#[test]
fn phase_1_is_renewed_over_4500_by_who_is_behind_the_nat_and_by_the_other() {
    for mode in MODES {
        for who in [A, B] {
            let mut pair = behind(mode, None);
            pair.command(who, Command::RekeyIke);
            assert!(pair.side(who).outbox.iter().all(|m| m.natt));
            settle_behind(&mut pair, ports());
            run_behind(&mut pair, 15, ports());
            pair.assert_ike(1);
            for side in [&pair.a, &pair.b] {
                assert!(
                    side.log.iter().any(|l| l.starts_with("ike rekeyed")),
                    "{mode:?} {who:?} {:?}",
                    side.log
                );
                assert!(side.conn.as_ref().unwrap().encapsulates());
            }
            assert_eq!(pair.b.conn.as_ref().unwrap().addresses().1, addr(OUTSIDE_NATT));
            let spi = pair.spi(B);
            pair.command(B, Command::RekeyChild(spi));
            settle_behind(&mut pair, ports());
            run_behind(&mut pair, 30, ports());
            pair.assert_children(1);
        }
    }
}

/// The NAT has forgotten its port, and the first that comes from the new one is phase 1: the pairs follow there as well.
#[test]
fn pairs_follow_a_peer_whose_new_phase_1_comes_from_elsewhere() {
    for mode in MODES {
        let mut pair = behind(mode, None);
        let after = (addr("198.51.100.7:1024"), addr("198.51.100.7:3072"));
        pair.command(A, Command::RekeyIke);
        settle_behind(&mut pair, after);
        run_behind(&mut pair, 15, after);
        assert_eq!(pair.b.conn.as_ref().unwrap().addresses().1, after.1);
        let told = pair.b.log.iter().filter(|line| line.starts_with("moved")).collect::<Vec<_>>();
        assert_eq!(told, ["moved to 198.51.100.7:3072"], "{mode:?}: {:?}", pair.b.log);
        pair.assert_children(1);
    }
}

/// Two peers behind one NAT: each is known by its port, and neither is taken for the other.
#[test]
fn two_behind_one_nat_are_told_apart() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let second = Spec { local_id: "second.example", psk: b"of the second", ..left.clone() };
        let mut first = behind(mode, None);
        let mut other =
            Pair::new(&second, &Spec { remote_id: "second.example", psk: b"of the second", ..right.clone() });
        // B has both configured.
        other.b.host.others = vec![right.config()];
        let ports = (addr("203.0.113.9:1025"), addr("203.0.113.9:2049"));
        other.initiate();
        settle_behind(&mut other, ports);
        run_behind(&mut other, 4, ports);
        other.assert_children(1);
        let remote = |pair: &Pair| pair.b.conn.as_ref().unwrap().addresses().1;
        assert_eq!((remote(&first), remote(&other)), (addr(OUTSIDE_NATT), ports.1));
        assert_eq!(
            other.b.conn.as_ref().unwrap().config().unwrap().remote_id,
            "second.example".parse().unwrap()
        );
        // What one of them sends is nothing to the connection of the other.
        let spi = other.spi(A);
        other.command(A, Command::RekeyChild(spi));
        let stray = other.take(A);
        let before = first.b.installed.clone();
        first.put(A, &stray);
        assert_eq!(first.b.installed, before);
    }
}
