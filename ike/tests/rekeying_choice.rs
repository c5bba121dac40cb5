//! A rekeying changes no algorithms that both sides still have, and takes the group that was sent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use kit::{A, B, Pair, Spec, Who};

/// Both have all of it, in opposite orders, so that either would choose something else.
fn opposite() -> (Spec, Spec) {
    let left = Spec {
        ike: vec!["aes256-aes128-sha512-sha256-ecp256-x25519", "aes128gcm16-prfsha384-x25519"],
        esp: vec!["aes128gcm16-ecp256-x25519"],
        ..Spec::left()
    };
    let right = Spec {
        ike: vec!["aes128gcm16-prfsha384-x25519", "aes128-aes256-sha256-sha512-x25519-ecp256"],
        esp: vec!["aes128gcm16-x25519-ecp256"],
        ..Spec::right()
    };
    (left, right)
}

fn choice(pair: &mut Pair, who: Who) -> String {
    pair.side(who).conn.as_ref().unwrap().choice().unwrap().to_string()
}

fn spis(pair: &mut Pair, who: Who) -> (u64, u64) {
    pair.side(who).conn.as_ref().unwrap().spis()
}

/// One request and one answer.
fn exchange(pair: &mut Pair, by: Who) {
    let other = if by == A { B } else { A };
    pair.deliver(by);
    pair.deliver(other);
}

#[test]
fn an_ike_sa_keeps_its_algorithms() {
    let (left, right) = opposite();
    for first in [A, B] {
        let mut pair = Pair::new(&left, &right);
        pair.initiate_from(first);
        pair.settle();
        let chosen = choice(&mut pair, A);
        for by in [A, B, B, A] {
            let before = spis(&mut pair, by);
            pair.command(by, Command::RekeyIke);
            exchange(&mut pair, by);
            assert_ne!(spis(&mut pair, by), before, "no INVALID_KE_PAYLOAD in between");
            pair.settle();
            pair.assert_ike(1);
            assert_eq!([choice(&mut pair, A), choice(&mut pair, B)], [chosen.clone(), chosen.clone()]);
        }
    }
}

#[test]
fn a_child_sa_has_the_group_of_who_asks() {
    let (left, right) = opposite();
    for by in [A, B] {
        let mut pair = Pair::up(&left, &right);
        for _ in 0..2 {
            let old = pair.spi(by);
            pair.command(by, Command::RekeyChild(old));
            exchange(&mut pair, by);
            assert_ne!(pair.spi(by), old, "no INVALID_KE_PAYLOAD in between");
            pair.settle();
            pair.assert_children(1);
        }
    }
}
