//! Several requests under way at a time (SET_WINDOW_SIZE, RFC 7296 section 2.3).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::time::Duration;

use ike::{Command, Transmit};
use kit::{A, B, Pair, Spec, Who};

/// More policies than the window takes.
const POLICIES: u8 = 20;
const WINDOW: usize = 8;

fn outbox(pair: &mut Pair, who: Who) -> Vec<Transmit> {
    pair.side(who).outbox.drain(..).collect()
}

/// The pair after IKE_AUTH, with what A sends next still in its outbox.
fn after_auth(policies: u8) -> Pair {
    let [left, right] = Spec::with_policies(policies);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    for from in [A, B, A, B] {
        pair.deliver(from);
    }
    pair
}

fn rekey_all(pair: &mut Pair, who: Who) {
    let spis: Vec<u32> = pair.side(who).installed.keys().copied().collect();
    for spi in spis {
        pair.command(who, Command::RekeyChild(spi));
    }
}

#[test]
fn requests_for_several_policies_go_together_and_in_any_order() {
    let mut pair = after_auth(POLICIES);
    let mut rounds = 0;
    while !pair.a.outbox.is_empty() {
        let requests = outbox(&mut pair, A);
        assert!(requests.len() <= WINDOW, "{}", requests.len());
        for request in requests.iter().rev() {
            pair.put(A, request);
        }
        // Every second answer overtakes the one before it.
        let mut answers = outbox(&mut pair, B);
        answers.chunks_mut(2).for_each(<[_]>::reverse);
        for answer in &answers {
            pair.put(B, answer);
        }
        rounds += 1;
    }
    pair.assert_children(usize::from(POLICIES));
    assert!(rounds <= 4, "{rounds} rounds for {POLICIES} policies");
}

#[test]
fn each_answer_makes_room() {
    let mut pair = after_auth(POLICIES);
    assert_eq!(pair.a.outbox.len(), WINDOW);
    let first = pair.take(A);
    pair.put(A, &first);
    assert_eq!(pair.a.outbox.len(), WINDOW - 1);
    pair.deliver(B);
    assert_eq!(pair.a.outbox.len(), WINDOW);
}

#[test]
fn with_one_policy_no_window_is_stated_and_requests_wait() {
    let [left, right] = Spec::with_policies(POLICIES);
    // The responder has one policy only, and so states no window; what else is asked of it, it refuses.
    let mut pair = Pair::new(&left, &Spec { more: vec![], ..right });
    pair.initiate();
    for from in [A, B, A, B] {
        pair.deliver(from);
    }
    for _ in 1..POLICIES {
        assert_eq!(pair.a.outbox.len(), 1);
        pair.deliver(A);
        pair.deliver(B);
    }
    pair.assert_children(1);
}

#[test]
fn lost_answers_are_sent_again_for_every_request_of_the_window() {
    let mut pair = after_auth(POLICIES);
    for request in outbox(&mut pair, A) {
        pair.put(A, &request);
    }
    assert_eq!(outbox(&mut pair, B).len(), WINDOW);
    pair.run(60);
    pair.assert_children(usize::from(POLICIES));
    assert_eq!(pair.b.conn.as_ref().unwrap().counters().answered_again, WINDOW as u64);
}

#[test]
fn a_peer_that_is_silent_is_given_up_once() {
    let mut pair = after_auth(POLICIES);
    pair.pass(Duration::from_secs(600));
    let downs = pair.a.log.iter().filter(|line| line.starts_with("down")).count();
    assert_eq!(downs, 1, "{:?}", pair.a.log);
    assert!(pair.a.installed.is_empty());
}

#[test]
fn requests_about_one_pair_or_the_ike_sa_wait_for_each_other() {
    let mut pair = after_auth(3);
    pair.settle();
    let spi = *pair.a.installed.keys().next().unwrap();
    pair.command(A, Command::RekeyChild(spi));
    pair.command(A, Command::DeleteChild(spi));
    pair.command(A, Command::RekeyIke);
    pair.command(A, Command::Probe);
    assert_eq!(pair.a.outbox.len(), 1, "the rekeying of the pair, and nothing beside it");
    let others: Vec<u32> = pair.a.installed.keys().copied().filter(|other| *other != spi).collect();
    for other in others {
        pair.command(A, Command::RekeyChild(other));
    }
    assert_eq!(pair.a.outbox.len(), 3, "other policies do not wait");
    pair.settle();
    assert!(pair.a.log.iter().any(|line| line == "ike rekeyed by us"), "{:?}", pair.a.log);
    pair.assert_ike(1);
    pair.assert_children(3);
}

#[test]
fn both_sides_rekey_all_at_once() {
    let mut pair = after_auth(POLICIES);
    pair.settle();
    rekey_all(&mut pair, A);
    rekey_all(&mut pair, B);
    pair.run(60);
    pair.assert_children(usize::from(POLICIES));
    pair.assert_ike(1);
}

/// The window of a rekeyed IKE_SA is one until it is stated again, which the first messages on it do.
#[test]
fn a_rekeyed_ike_sa_has_a_window_again() {
    for who in [A, B] {
        let mut pair = after_auth(POLICIES);
        pair.settle();
        pair.command(who, Command::RekeyIke);
        pair.settle();
        rekey_all(&mut pair, who);
        assert_eq!(pair.side(who).outbox.len(), 1, "no window is stated yet");
        pair.deliver(who);
        let other = if who == A { B } else { A };
        pair.deliver(other);
        assert_eq!(pair.side(who).outbox.len(), WINDOW);
        pair.settle();
        pair.assert_children(usize::from(POLICIES));
    }
}
