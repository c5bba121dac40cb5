//! Answers that are lost while the side that sent them goes on with what they made. Found by fuzzing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use kit::{A, B, Pair, Spec};

/// B has the new pair and rekeys it at once, while A still waits for the answer that made it. A must not say that
/// there is no such pair: B would throw it away, and A would install it from the retransmitted answer.
#[test]
fn a_pair_whose_answer_is_under_way_is_rekeyed_later() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    let (old, old_of_b) = (pair.spi(A), pair.spi(B));
    pair.command(A, Command::RekeyChild(old));
    pair.deliver(A);
    pair.take(B);
    let new = *pair.b.installed.keys().find(|spi| **spi != old_of_b).unwrap();
    pair.command(B, Command::RekeyChild(new));
    pair.deliver(B);
    pair.deliver(A);
    assert!(pair.b.installed.contains_key(&new), "B keeps its pair: {:?}", pair.b.log);
    pair.run(60);
    pair.assert_children(1);
    assert!(!pair.b.installed.contains_key(&new), "and has rekeyed it since");
    pair.assert_ike(1);
    pair.assert_alive();
}

/// The request before it was lost, so the peer takes none with a later Message ID (RFC 7296 section 2.3).
#[test]
fn a_close_reaches_a_peer_that_has_missed_a_request() {
    for command in [|_| Command::Probe, Command::RekeyChild, Command::DeleteChild] {
        let mut pair = Pair::up(&Spec::left(), &Spec::right());
        let spi = pair.spi(A);
        pair.command(A, command(spi));
        pair.take(A);
        pair.command(A, Command::Close);
        pair.run(1);
        let b = pair.b.conn.as_ref().unwrap();
        assert!(!b.is_up(), "{:?}", pair.b.log);
        assert!(pair.b.installed.is_empty());
    }
}

/// What was refused is put off for minutes. Whoever orders it waits for it.
#[test]
fn what_is_ordered_is_not_put_off() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    let spi = pair.spi(A);
    pair.b.host.free_spis = false;
    pair.command(A, Command::RekeyChild(spi));
    pair.run(900);
    assert!(matches!(&pair.a.ended[..], [(at, Err(_))] if *at == spi), "{:?}", pair.a.ended);
    pair.b.host.free_spis = true;
    pair.command(A, Command::RekeyChild(spi));
    pair.settle();
    assert_eq!(pair.a.ended.last(), Some(&(spi, Ok(()))));
    pair.assert_children(1);

    // B is busy for a moment.
    let theirs = pair.spi(B);
    pair.command(B, Command::RekeyChild(theirs));
    let busy = pair.take(B);
    pair.command(A, Command::RekeyIke);
    pair.settle();
    pair.put(B, &busy);
    pair.settle();
    let rekeyed = |pair: &Pair| pair.a.log.iter().any(|line| line == "ike rekeyed by us");
    assert!(!rekeyed(&pair));
    pair.command(A, Command::RekeyIke);
    pair.settle();
    assert!(rekeyed(&pair), "{:?}", pair.a.log);
    pair.assert_ike(1);
    pair.assert_alive();
}

/// The pair that was to be rekeyed is lost, and before another is made in its place nobody wants one any more.
#[test]
fn who_waits_for_a_policy_that_is_gone_is_told() {
    let [left, right] = Spec::with_policies(2);
    let mut pair = Pair::up(&left, &right);
    let (ours, theirs) = pair
        .a
        .installed
        .iter()
        .find(|(_, sa)| *sa.policy == *"net1")
        .map(|(spi, sa)| (*spi, sa.spi_out))
        .unwrap();
    pair.b.conn.as_mut().unwrap().forget_child(theirs);
    pair.b.drain();
    pair.command(A, Command::RekeyChild(ours));
    pair.deliver(A);
    let unknown = pair.take(B);
    // B is busy, so that the new one has to wait.
    pair.command(B, Command::RekeyIke);
    let rekeying = pair.take(B);
    pair.put(B, &unknown);
    pair.deliver(A);
    pair.deliver(B);
    assert_eq!(pair.a.ended, [], "another is to be made");
    let config = Spec::left().config();
    pair.a.host.peer = config.clone();
    pair.a.conn.as_mut().unwrap().set_config(config);
    pair.put(B, &rekeying);
    pair.run(60);
    assert!(matches!(&pair.a.ended[..], [(at, Err(_))] if *at == ours), "{:?}", pair.a.ended);
    pair.assert_children(1);
}
