//! Exchanges that cross on Child SAs (c1 to c20): RFC 7296 sections 1.4.1, 2.8 and 2.25, message by message, both ends' SAs asserted.
//! `collisions_mixed.rs` has those against the IKE_SA.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;
#[path = "kit/owed.rs"]
mod owed;

use ike::Command;
use kit::{A, B, Pair, Spec, Who};
use owed::owes_the_delete;

fn up() -> Pair {
    Pair::up(&Spec::left(), &Spec::right())
}

/// Events that say that the policy is down.
fn downs(side: &kit::Side) -> usize {
    side.log.iter().filter(|l| l.contains("DeletedByPeer") || *l == "removed Deleted").count()
}

/// Different seeds put the lowest nonce into each of the four places sooner or later.
fn with_nonces(rounds: u64, test: impl Fn(&mut Pair)) {
    for round in 0..rounds {
        let mut pair = up();
        for side in [&mut pair.a, &mut pair.b] {
            let mut skip = vec![0; usize::try_from(round).unwrap()];
            ike::Host::random(&mut side.host, &mut skip);
        }
        test(&mut pair);
    }
}

#[test]
fn c1_both_rekey_the_child_sa() {
    with_nonces(24, |pair| {
        pair.rekey(A);
        pair.rekey(B);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        assert_eq!((pair.a.installed.len(), pair.b.installed.len()), (2, 2));
        pair.deliver(A);
        pair.deliver(B);
        assert_eq!((pair.a.installed.len(), pair.b.installed.len()), (3, 3), "all three receive");
        pair.settle();
        pair.assert_children(1);
        pair.assert_alive();
    });
}

#[test]
fn c2_an_answer_is_late_and_the_delete_comes_first() {
    with_nonces(16, |pair| {
        pair.rekey(A);
        pair.rekey(B);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        let late = pair.take(B);
        pair.deliver(A); // A's answer: B settles and deletes.
        pair.deliver(B); // B's delete.
        pair.deliver(A);
        pair.put(B, &late);
        pair.settle();
        pair.assert_children(1);
        pair.assert_alive();
    });
}

#[test]
fn c3_the_survivor_is_deleted_before_the_late_answer() {
    with_nonces(16, |pair| {
        pair.rekey(A);
        pair.rekey(B);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        let late = pair.take(B);
        pair.deliver(A);
        while !pair.b.outbox.is_empty() {
            pair.deliver(B);
            pair.deliver(A);
        }
        for spi in pair.b.installed.keys().copied().collect::<Vec<_>>() {
            pair.command(B, Command::DeleteChild(spi));
        }
        while !pair.b.outbox.is_empty() {
            pair.deliver(B);
            pair.deliver(A);
        }
        pair.put(B, &late); // Must not bring anything back.
        pair.settle();
        pair.run(10);
        pair.assert_children(0);
        pair.assert_ike(1);
    });
}

/// Of two pairs the one that stays is deleted before the late answer arrives that makes the other: that one is all there is.
#[test]
fn c3_only_the_survivor_is_deleted_before_the_late_answer() {
    let lost = std::cell::Cell::new(0);
    with_nonces(16, |pair| {
        let old = pair.spi(B);
        pair.rekey(A);
        pair.rekey(B);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        let late = pair.take(B);
        pair.deliver(A);
        while !pair.b.outbox.is_empty() {
            pair.deliver(B);
            pair.deliver(A);
        }
        if pair.b.installed.contains_key(&old) {
            return;
        }
        lost.set(lost.get() + 1);
        pair.delete(B);
        pair.deliver(B);
        pair.deliver(A);
        pair.put(B, &late);
        pair.settle();
        pair.assert_children(1);
        pair.run(200);
        pair.assert_children(1);
        pair.assert_alive();
    });
    assert!((1..16).contains(&lost.get()), "A has to lose sometimes: {}", lost.get());
}

#[test]
fn c4_a_request_late_while_the_old_one_is_being_deleted() {
    let mut pair = up();
    pair.rekey(A);
    let late = pair.take(A);
    pair.rekey(B);
    pair.deliver(B);
    pair.deliver(A);
    pair.put(A, &late); // B has rekeyed and is deleting: TEMPORARY_FAILURE.
    pair.settle();
    pair.run(30);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn c5_a_request_after_the_old_one_is_gone() {
    let mut pair = up();
    pair.rekey(A);
    let late = pair.take(A);
    pair.rekey(B);
    pair.deliver(B);
    pair.deliver(A);
    pair.deliver(B);
    pair.deliver(A);
    pair.put(A, &late); // CHILD_SA_NOT_FOUND
    pair.settle();
    pair.run(30);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn c6_a_request_after_the_old_and_the_new_one_are_gone() {
    let mut pair = up();
    pair.rekey(A);
    let late = pair.take(A);
    pair.rekey(B);
    for from in [B, A, B, A] {
        pair.deliver(from);
    }
    pair.delete(B);
    pair.deliver(B);
    pair.deliver(A);
    pair.put(A, &late); // CHILD_SA_NOT_FOUND; nothing is made afresh.
    pair.settle();
    pair.run(30);
    pair.assert_children(0);
    pair.assert_ike(1);
}

/// Each prefers a group the other does not guess, so both are told to try again.
fn groups_differ() -> Pair {
    // The IKE_SA's group, which would be guessed first, is in neither list.
    let spec = |s: Spec, esp| Spec { esp: vec![esp], ike: vec!["aes128gcm16-prfsha256-ecp384"], ..s };
    let mut pair = Pair::up(
        &spec(Spec::left(), "aes128gcm16-x25519-ecp256"),
        &spec(Spec::right(), "aes128gcm16-ecp256-x25519"),
    );
    pair.rekey(A);
    pair.rekey(B);
    pair
}

#[test]
fn c7_both_rekey_with_the_wrong_group() {
    let mut pair = groups_differ();
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    let (a, b) = (pair.take(A), pair.take(B)); // INVALID_KE_PAYLOAD each.
    pair.put(A, &a);
    pair.put(B, &b);
    pair.settle();
    pair.run(10);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn c8_both_rekey_with_the_wrong_group_and_one_retry_is_late() {
    let mut pair = groups_differ();
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    let late = pair.take(A);
    pair.deliver(B);
    pair.deliver(A);
    pair.put(A, &late);
    pair.settle();
    pair.run(30);
    pair.assert_children(1);
    pair.assert_alive();
}

/// A has asked to rekey, B to delete; `order` delivers the two requests. In the end nothing is left.
fn rekey_against_delete(order: impl FnOnce(&mut Pair, &ike::Transmit, &ike::Transmit)) {
    let mut pair = up();
    pair.rekey(A);
    let request = pair.take(A);
    pair.delete(B);
    let deletion = pair.take(B);
    order(&mut pair, &request, &deletion);
    pair.settle();
    pair.run(60);
    pair.assert_children(0);
    pair.assert_ike(1);
    assert_eq!(downs(&pair.a), 1, "{:?}", pair.a.log);
    assert_eq!(downs(&pair.b), 1, "{:?}", pair.b.log);
}

#[test]
fn c9_rekey_and_delete_cross() {
    rekey_against_delete(|pair, request, deletion| {
        pair.put(A, request);
        pair.put(B, deletion);
    });
}

#[test]
fn c10_the_delete_is_late() {
    rekey_against_delete(|pair, request, deletion| {
        pair.put(A, request);
        pair.deliver(B); // TEMPORARY_FAILURE
        pair.put(B, deletion);
    });
}

#[test]
fn c11_the_rekey_is_late() {
    rekey_against_delete(|pair, request, deletion| {
        pair.put(B, deletion);
        pair.deliver(A);
        pair.put(A, request); // CHILD_SA_NOT_FOUND
    });
}

#[test]
fn c12_the_new_one_is_deleted_before_its_answer_arrives() {
    let mut pair = up();
    pair.rekey(A);
    pair.deliver(A);
    let late = pair.take(B);
    let new = *pair.b.installed.keys().max().unwrap();
    pair.command(B, Command::DeleteChild(new));
    pair.deliver(B);
    pair.deliver(A);
    pair.put(B, &late);
    pair.settle();
    pair.assert_children(0);
    pair.assert_ike(1);
}

fn both_delete(late: bool) {
    let mut pair = up();
    pair.delete(A);
    pair.delete(B);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    if late {
        pair.deliver(B);
    }
    pair.put(B, &b);
    pair.settle();
    pair.assert_children(0);
    pair.assert_ike(1);
    assert_eq!((downs(&pair.a), downs(&pair.b)), (1, 1));
}

#[test]
fn c13_both_delete_the_child_sa() {
    both_delete(false);
}

#[test]
fn c14_both_delete_and_one_request_is_late() {
    both_delete(true);
}

/// B has lost the pair without a word: A's rekeying finds nothing and makes a new one.
#[test]
fn c15_the_pair_was_lost_silently() {
    let mut pair = up();
    let (a, b) = (pair.spi(A), pair.spi(B));
    pair.b.conn.as_mut().unwrap().forget_child(b);
    pair.b.drain();
    pair.command(A, Command::RekeyChild(a));
    pair.settle();
    pair.assert_children(1);
    assert!(pair.a.log.contains(&"removed LostByPeer".to_owned()), "{:?}", pair.a.log);
    assert_eq!(pair.a.log.iter().filter(|l| *l == "child up").count(), 2);
    pair.assert_alive();
}

/// B deletes the old pair itself, before its own answer has arrived.
#[test]
fn c16_the_responder_deletes_the_old_one() {
    let mut pair = up();
    let old = pair.spi(B);
    pair.rekey(A);
    pair.deliver(A);
    let answer = pair.take(B);
    pair.command(B, Command::DeleteChild(old));
    pair.deliver(B);
    pair.deliver(A);
    pair.put(B, &answer);
    pair.settle();
    pair.assert_children(1);
    pair.assert_alive();
}

/// The old pair ends at the responder, which waits for the initiator's delete: it goes, and traffic moves over.
#[test]
fn c17_hard_lifetime_of_the_replaced_one() {
    let mut pair = up();
    let old = pair.spi(B);
    pair.rekey(A);
    pair.deliver(A);
    pair.deliver(B);
    let deletion = pair.take(A);
    pair.command(B, Command::ExpireChild(old));
    pair.settle();
    pair.put(A, &deletion);
    pair.settle();
    pair.assert_children(1);
    assert_ne!(pair.spi(B), old);
    pair.assert_alive();
}

/// The new pair is deleted at the responder before the old one's delete arrives: both go.
#[test]
fn c19_the_new_one_is_deleted_first() {
    let mut pair = up();
    let old = pair.spi(B);
    pair.rekey(A);
    pair.deliver(A);
    pair.deliver(B);
    let deletion = pair.take(A);
    let new = *pair.b.installed.keys().find(|spi| **spi != old).unwrap();
    pair.command(B, Command::DeleteChild(new));
    pair.deliver(B);
    pair.put(A, &deletion);
    pair.settle();
    pair.assert_children(0);
    pair.assert_ike(1);
}

/// The other's traffic has moved to the pair that is left at `who`.
fn traffic_moves(pair: &mut Pair, who: Who) {
    let other = if who == A { B } else { A };
    let seen = pair.side(who).installed.values().next().unwrap().spi_out;
    pair.command(other, Command::InboundSeen(seen));
    pair.settle();
}

#[test]
fn a_pair_whose_delete_is_owed_goes_in_the_end() {
    let mut pair = up();
    let old = pair.spi(A);
    pair.rekey(A);
    owes_the_delete(&mut pair, A, old);
    pair.settle();
    traffic_moves(&mut pair, A);
    assert_eq!((pair.a.installed.len(), pair.b.installed.len()), (1, 2));
    pair.run(170);
    assert_eq!(pair.b.installed.len(), 2, "not before its time");
    pair.run(20);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn a_pair_whose_delete_is_owed_after_a_collision_goes_in_the_end() {
    let lost = std::cell::Cell::new(0);
    with_nonces(16, |pair| {
        let old = pair.spi(B);
        pair.rekey(A);
        pair.rekey(B);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        owes_the_delete(pair, B, old);
        pair.settle();
        traffic_moves(pair, B);
        lost.set(lost.get() + u32::from(pair.a.installed.len() == 2));
        pair.run(200);
        pair.assert_children(1);
        pair.assert_alive();
    });
    assert!((1..16).contains(&lost.get()), "A has to lose sometimes: {}", lost.get());
}

/// Ours was refused, and by then the peer has taken away what it had made itself: the old pair is still to be rekeyed.
#[test]
fn a_refusal_counts_where_what_crossed_is_gone() {
    let spec = |s: Spec, esp| Spec { esp: vec![esp], ike: vec!["aes128gcm16-prfsha256-ecp384"], ..s };
    let mut pair = Pair::up(
        &spec(Spec::left(), "aes128gcm16-x25519-ecp256"),
        &spec(Spec::right(), "aes128gcm16-ecp256"),
    );
    let old = pair.spi(B);
    pair.rekey(A);
    pair.rekey(B);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    let refusal = pair.take(B); // INVALID_KE_PAYLOAD
    owes_the_delete(&mut pair, B, old);
    pair.deliver(A);
    pair.delete(B);
    pair.deliver(B);
    pair.deliver(A);
    pair.put(B, &refusal);
    pair.settle();
    pair.run(30);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn a_pair_whose_delete_is_owed_after_a_refusal_goes_in_the_end() {
    let spec = |s: Spec, esp| Spec { esp: vec![esp], ike: vec!["aes128gcm16-prfsha256-ecp384"], ..s };
    let mut pair = Pair::up(
        &spec(Spec::left(), "aes128gcm16-x25519-ecp256"),
        &spec(Spec::right(), "aes128gcm16-ecp256"),
    );
    let old = pair.spi(B);
    pair.rekey(A);
    pair.rekey(B);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    owes_the_delete(&mut pair, B, old);
    pair.settle();
    traffic_moves(&mut pair, B);
    assert_eq!((pair.a.installed.len(), pair.b.installed.len()), (2, 1), "{:?}", pair.a.log);
    pair.run(200);
    pair.assert_children(1);
    pair.assert_alive();
}

/// The delete after a rekeying is never answered: the IKE_SA is dead, and everything on it.
#[test]
fn c20_the_delete_times_out() {
    let mut pair = up();
    pair.rekey(A);
    pair.deliver(A);
    pair.deliver(B);
    pair.b.conn = None;
    pair.pass(std::time::Duration::from_secs(120));
    assert!(pair.a.installed.is_empty());
    assert_eq!(pair.a.log.iter().filter(|l| l.starts_with("down")).count(), 1, "{:?}", pair.a.log);
    assert!(pair.a.conn.as_ref().unwrap().is_finished());
}

#[test]
fn c18_the_soft_lifetime_of_a_replaced_one_is_ignored() {
    let mut pair = up();
    let old = pair.spi(B);
    pair.rekey(A);
    pair.deliver(A);
    pair.command(B, Command::RekeyChild(old));
    pair.settle();
    pair.run(10);
    pair.assert_children(1);
}

/// Any message of a rekeying, by either side and of either kind, lost once.
#[test]
fn one_loss_anywhere_in_a_rekeying_is_made_good() {
    for ike in [false, true] {
        for who in [A, B] {
            for lost in 0..4 {
                let mut pair = up();
                if ike {
                    pair.command(who, Command::RekeyIke)
                } else {
                    pair.rekey(who)
                }
                for step in 0..4 {
                    let from = if (step % 2 == 0) == (who == A) { A } else { B };
                    if step == lost {
                        pair.take(from);
                        break;
                    }
                    pair.deliver(from);
                }
                pair.run(10);
                pair.assert_children(1);
                pair.run(120);
                pair.assert_ike(1);
                pair.assert_alive();
            }
        }
    }
}
