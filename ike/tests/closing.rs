//! Connections that are closed while the peer may have an IKE_SA that we do not know yet.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use kit::{A, B, Pair, Spec};

fn is_closed(pair: &Pair, what: &str) {
    for side in [&pair.a, &pair.b] {
        assert!(
            side.conn.as_ref().is_none_or(|conn| !conn.is_up()),
            "{what}: {:?} {:?}",
            pair.a.log,
            pair.b.log
        );
        assert!(side.installed.is_empty(), "{what}: {:?}", side.installed);
    }
}

/// Our rekeying of the IKE_SA, or the answer to it, is under way or lost: the peer goes on by the old one or by the new one.
#[test]
fn a_close_reaches_a_peer_whose_ike_sa_is_being_rekeyed() {
    for (asked, answered) in [(false, false), (true, false), (true, true)] {
        for comes in [false, true] {
            let mut pair = Pair::up(&Spec::left(), &Spec::right());
            pair.command(A, Command::RekeyIke);
            let request = pair.take(A);
            let mut answer = None;
            if asked {
                pair.put(A, &request);
                answer = Some(pair.take(B));
            }
            if answered {
                pair.put(B, answer.as_ref().unwrap());
            }
            pair.command(A, Command::Close);
            match answer.filter(|_| comes && !answered) {
                Some(answer) => pair.put(B, &answer),
                None if comes && !asked => pair.put(A, &request),
                None => {}
            }
            pair.run(20);
            is_closed(&pair, &format!("asked {asked}, answered {answered}, comes {comes}"));
        }
    }
}

/// Both rekey it: whichever IKE_SA has survived at the peer.
#[test]
fn a_close_reaches_a_peer_that_rekeys_the_ike_sa_as_well() {
    for seed in 0..8 {
        for (to_b, to_a) in [(false, true), (true, true), (true, false), (false, false)] {
            let mut pair = Pair::up(&Spec::left(), &Spec::right());
            pair.a.host.random_from(seed);
            pair.command(A, Command::RekeyIke);
            pair.command(B, Command::RekeyIke);
            let (ours, theirs) = (pair.take(A), pair.take(B));
            pair.put(B, &theirs);
            pair.put(A, &ours);
            let (our_answer, their_answer) = (pair.take(A), pair.take(B));
            if to_b {
                pair.put(A, &our_answer);
            }
            pair.command(A, Command::Close);
            if to_a {
                pair.put(B, &their_answer);
            }
            pair.run(30);
            is_closed(&pair, &format!("seed {seed}, to the peer {to_b}, to us {to_a}"));
        }
    }
}

/// The peer has taken us for who we are, and its answer is still under way.
#[test]
fn a_close_reaches_a_peer_that_is_up_before_us() {
    for late in [false, true] {
        let mut pair = Pair::new(&Spec::left(), &Spec::right());
        pair.initiate();
        pair.deliver(A);
        pair.deliver(B);
        let request = pair.take(A);
        if late {
            pair.command(A, Command::Close);
        }
        pair.put(A, &request);
        let answer = pair.take(B);
        if !late {
            pair.command(A, Command::Close);
        }
        pair.put(B, &answer);
        pair.run(20);
        is_closed(&pair, &format!("late {late}"));
        assert!(!pair.a.log.iter().any(|line| line == "established"), "{:?}", pair.a.log);
    }
}

/// What the peer has never seen is not brought up to be closed.
#[test]
fn a_close_brings_nothing_up() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    pair.take(A);
    pair.command(A, Command::Close);
    pair.run(60);
    is_closed(&pair, "nothing came");
    assert!(!pair.b.log.iter().any(|line| line == "established"), "{:?}", pair.b.log);
}

/// The peer is busy and refuses: the old one is the one in use.
#[test]
fn a_close_reaches_a_peer_that_does_not_rekey() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    let theirs = pair.spi(B);
    pair.command(B, Command::RekeyChild(theirs));
    pair.take(B);
    pair.command(A, Command::RekeyIke);
    let request = pair.take(A);
    pair.command(A, Command::Close);
    pair.put(A, &request);
    pair.run(20);
    is_closed(&pair, "refused");
}
