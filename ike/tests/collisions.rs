//! Exchanges that cross: `../shared/protocol.md` section 1, message by message, both ends' SAs asserted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use kit::{A, B, Pair, Spec, Who};

fn up() -> Pair {
    Pair::up(&Spec::left(), &Spec::right())
}

fn rekey(pair: &mut Pair, who: Who) {
    let spi = pair.spi(who);
    pair.command(who, Command::RekeyChild(spi));
}

fn delete(pair: &mut Pair, who: Who) {
    let spi = pair.spi(who);
    pair.command(who, Command::DeleteChild(spi));
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
        rekey(pair, A);
        rekey(pair, B);
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
        rekey(pair, A);
        rekey(pair, B);
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
fn c4_a_request_late_while_the_old_one_is_being_deleted() {
    let mut pair = up();
    rekey(&mut pair, A);
    let late = pair.take(A);
    rekey(&mut pair, B);
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
    rekey(&mut pair, A);
    let late = pair.take(A);
    rekey(&mut pair, B);
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
fn c9_to_c11_rekey_and_delete_cross() {
    for order in 0..3 {
        let mut pair = up();
        rekey(&mut pair, A);
        let request = pair.take(A);
        delete(&mut pair, B);
        let delete = pair.take(B);
        match order {
            0 => {
                pair.put(A, &request);
                pair.put(B, &delete);
            }
            1 => {
                pair.put(A, &request);
                pair.deliver(B);
                pair.put(B, &delete);
            }
            _ => {
                pair.put(B, &delete);
                pair.deliver(A);
                pair.put(A, &request);
            }
        }
        pair.settle();
        pair.run(60);
        pair.assert_children(0);
        pair.assert_ike(1);
    }
}

#[test]
fn c12_the_new_one_is_deleted_before_its_answer_arrives() {
    let mut pair = up();
    rekey(&mut pair, A);
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

#[test]
fn c13_and_c14_both_delete_the_child_sa() {
    for late in [false, true] {
        let mut pair = up();
        delete(&mut pair, A);
        delete(&mut pair, B);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        if late {
            pair.deliver(B);
        }
        pair.put(B, &b);
        pair.settle();
        pair.assert_children(0);
        pair.assert_ike(1);
    }
}

#[test]
fn c18_the_soft_lifetime_of_a_replaced_one_is_ignored() {
    let mut pair = up();
    let old = pair.spi(B);
    rekey(&mut pair, A);
    pair.deliver(A);
    pair.command(B, Command::RekeyChild(old));
    pair.settle();
    pair.run(10);
    pair.assert_children(1);
}

#[test]
fn x1_child_and_ike_rekey_cross() {
    let mut pair = up();
    rekey(&mut pair, A);
    pair.command(B, Command::RekeyIke);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    pair.settle();
    pair.assert_children(1);
    pair.run(60);
    pair.assert_children(1);
    pair.assert_ike(1);
    assert!(pair.a.log.contains(&"ike rekeyed".to_owned()) && pair.a.log.contains(&"rekeyed".to_owned()));
    pair.assert_alive();
}

#[test]
fn x3_a_child_delete_crosses_an_ike_rekey() {
    let mut pair = up();
    delete(&mut pair, A);
    pair.command(B, Command::RekeyIke);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    pair.settle();
    pair.run(60);
    pair.assert_children(0);
    pair.assert_ike(1);
    assert!(pair.a.log.contains(&"ike rekeyed".to_owned()));
}

#[test]
fn x4_and_x5_a_close_crosses() {
    for child_delete in [false, true] {
        let mut pair = up();
        if child_delete {
            delete(&mut pair, A)
        } else {
            rekey(&mut pair, A)
        }
        pair.command(B, Command::Close);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        pair.settle();
        pair.run(60);
        pair.assert_children(0);
        assert!(pair.a.conn.as_ref().unwrap().is_finished() && pair.b.conn.as_ref().unwrap().is_finished());
    }
}

#[test]
fn i1_both_rekey_the_ike_sa() {
    with_nonces(24, |pair| {
        pair.command(A, Command::RekeyIke);
        pair.command(B, Command::RekeyIke);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        pair.settle();
        pair.run(120);
        pair.assert_ike(1);
        pair.assert_children(1);
        pair.assert_alive();
    });
}

#[test]
fn i2_and_i3_an_answer_is_late() {
    with_nonces(16, |pair| {
        pair.command(A, Command::RekeyIke);
        pair.command(B, Command::RekeyIke);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        let late = pair.take(B);
        pair.deliver(A);
        pair.deliver(B);
        while !pair.a.outbox.is_empty() {
            pair.deliver(A);
        }
        pair.put(B, &late);
        pair.settle();
        pair.run(150);
        pair.assert_ike(1);
        pair.assert_children(1);
        pair.assert_alive();
    });
}

#[test]
fn i4_and_i5_the_request_of_one_is_lost_or_late() {
    for late in [false, true] {
        let mut pair = up();
        pair.command(A, Command::RekeyIke);
        let request = pair.take(A);
        pair.command(B, Command::RekeyIke);
        pair.deliver(B);
        pair.deliver(A);
        if late {
            pair.put(A, &request);
        }
        pair.settle();
        pair.run(120);
        pair.assert_ike(1);
        pair.assert_children(1);
        pair.assert_alive();
    }
}

#[test]
fn i8_to_i10_a_delete_of_the_ike_sa_crosses() {
    for both in [false, true] {
        let mut pair = up();
        pair.command(A, if both { Command::Close } else { Command::RekeyIke });
        pair.command(B, Command::Close);
        let (a, b) = (pair.take(A), pair.take(B));
        pair.put(A, &a);
        pair.put(B, &b);
        pair.settle();
        pair.run(60);
        pair.assert_children(0);
        assert!(pair.a.conn.as_ref().unwrap().is_finished() && pair.b.conn.as_ref().unwrap().is_finished());
    }
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
                    rekey(&mut pair, who)
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
