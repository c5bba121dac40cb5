//! Rekeyings and deletes of the IKE_SA that cross (i1 to i15): RFC 7296 sections 2.8 and 2.25.2, message by message, both
//! ends' SAs asserted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use kit::{A, B, Pair, Spec};

fn up() -> Pair {
    Pair::up(&Spec::left(), &Spec::right())
}

/// Different rounds put the lowest nonce into each of the four places sooner or later.
fn up_after(round: u64) -> Pair {
    let mut pair = up();
    for side in [&mut pair.a, &mut pair.b] {
        ike::Host::random(&mut side.host, &mut vec![0; usize::try_from(round).unwrap()]);
    }
    pair
}

/// Both have asked for a rekeying, each has the other's request, and the answers are under way.
fn both_have_asked(round: u64) -> Pair {
    let mut pair = up_after(round);
    pair.command(A, Command::RekeyIke);
    pair.command(B, Command::RekeyIke);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    pair
}

#[test]
fn i1_both_rekey_the_ike_sa() {
    for round in 0..24 {
        let pair = &mut both_have_asked(round);
        pair.settle();
        pair.run(120);
        pair.assert_ike(1);
        pair.assert_children(1);
        pair.assert_alive();
    }
}

/// A's answer is late. Who has the lowest nonce decides whether this is I2 (B won) or I3 (B lost).
fn an_answer_is_late(rounds: std::ops::Range<u64>) -> [usize; 2] {
    let mut seen = [0; 2];
    for round in rounds {
        let pair = &mut both_have_asked(round);
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
        let a_initiated = pair.a.log.contains(&"ike rekeyed by us".to_owned());
        seen[usize::from(a_initiated)] += 1;
    }
    seen
}

#[test]
fn i2_an_answer_is_late_and_the_other_won() {
    assert!(an_answer_is_late(0..12)[0] > 0);
}

#[test]
fn i3_an_answer_is_late_and_the_other_lost() {
    assert!(an_answer_is_late(0..12)[1] > 0);
}

/// A's request is held back while B's exchange goes through; `then` decides what becomes of it.
fn a_request_is_held(then: impl FnOnce(&mut Pair, &ike::Transmit)) {
    let mut pair = up();
    pair.command(A, Command::RekeyIke);
    let request = pair.take(A);
    pair.command(B, Command::RekeyIke);
    pair.deliver(B);
    pair.deliver(A);
    then(&mut pair, &request);
    pair.settle();
    pair.run(120);
    pair.assert_ike(1);
    pair.assert_children(1);
    assert_eq!(pair.a.log.iter().filter(|l| l.starts_with("ike rekeyed")).count(), 1, "{:?}", pair.a.log);
    pair.assert_alive();
}

#[test]
fn i4_the_request_of_one_is_lost() {
    a_request_is_held(|_, _| {});
}

#[test]
fn i5_the_request_of_one_is_late() {
    a_request_is_held(|pair, request| {
        pair.deliver(B); // The delete of the old one comes first; TEMPORARY_FAILURE then meets a closed SA.
        pair.put(A, request);
    });
}

#[test]
fn i6_temporary_failure_comes_before_the_delete() {
    a_request_is_held(|pair, request| {
        let deletion = pair.take(B);
        pair.put(A, request);
        pair.deliver(B);
        pair.put(B, &deletion);
    });
}

/// Each prefers a group the other does not guess.
fn groups_differ(late: bool) {
    let spec = |s: Spec, ike| Spec { ike: vec![ike], ..s };
    let mut pair = Pair::up(
        &spec(Spec::left(), "aes128gcm16-prfsha256-x25519-ecp256"),
        &spec(Spec::right(), "aes128gcm16-prfsha256-ecp256-x25519"),
    );
    pair.command(A, Command::RekeyIke);
    pair.command(B, Command::RekeyIke);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    let held = late.then(|| pair.take(B));
    if let Some(held) = held {
        while !pair.a.outbox.is_empty() {
            pair.deliver(A);
        }
        pair.put(B, &held);
    }
    pair.settle();
    pair.run(120);
    pair.assert_ike(1);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn i7_both_rekey_with_the_wrong_group() {
    groups_differ(false);
    groups_differ(true);
}

fn a_close_crosses(command: Command, late: bool) {
    let mut pair = up();
    pair.command(A, command);
    pair.command(B, Command::Close);
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    if late {
        while !pair.b.outbox.is_empty() {
            pair.deliver(B);
        }
    }
    pair.put(B, &b);
    pair.settle();
    pair.run(60);
    pair.assert_children(0);
    for side in [&pair.a, &pair.b] {
        assert!(side.conn.as_ref().unwrap().is_finished());
        assert_eq!(side.log.iter().filter(|l| l.starts_with("down")).count(), 1, "{:?}", side.log);
    }
}

#[test]
fn i8_a_rekey_crosses_a_close() {
    a_close_crosses(Command::RekeyIke, false);
}

#[test]
fn i9_a_rekey_crosses_a_close_that_is_late() {
    a_close_crosses(Command::RekeyIke, true);
}

#[test]
fn i10_both_close() {
    a_close_crosses(Command::Close, false);
    a_close_crosses(Command::Close, true);
}

/// The delete of the old IKE_SA comes while our own rekeying is unanswered: it is answered, and ours forgotten.
#[test]
fn i11_the_old_one_is_deleted_while_a_request_is_unanswered() {
    let mut pair = up();
    pair.command(A, Command::RekeyIke);
    pair.command(B, Command::RekeyIke);
    pair.take(A); // Never arrives.
    pair.deliver(B);
    pair.deliver(A);
    pair.deliver(B); // The delete.
    pair.deliver(A);
    pair.pass(std::time::Duration::from_secs(60));
    assert!(pair.a.outbox.is_empty(), "nothing is sent again");
    pair.assert_ike(1);
    pair.assert_children(1);
    pair.assert_alive();
}

/// The last request on an IKE_SA that was rekeyed is its own delete, whatever else waits to be done.
#[test]
fn i12_the_last_request_on_the_old_one_is_its_delete() {
    let mut pair = up();
    let spi = pair.spi(A);
    pair.command(A, Command::RekeyIke);
    pair.command(A, Command::RekeyChild(spi));
    let old = pair.a.conn.as_ref().unwrap().spis();
    let mut on_the_old = Vec::new();
    while !(pair.a.outbox.is_empty() && pair.b.outbox.is_empty()) {
        if let Some(message) = pair.a.outbox.pop_front() {
            let header = ike::wire::Header::parse(
                &mut ike::wire::reader::Reader::new(&message.bytes),
                message.bytes.len(),
            );
            let header = header.unwrap();
            if header.spi_i == old.0 && !header.response {
                on_the_old.push(header.exchange);
            }
            pair.put(A, &message);
        }
        if !pair.b.outbox.is_empty() {
            pair.deliver(B);
        }
    }
    use ike::wire::numbers::ExchangeType;
    assert_eq!(on_the_old, [ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL]);
    pair.assert_children(1);
    pair.assert_ike(1);
}

/// Both ends are over, and said so once.
fn assert_over(pair: &mut Pair) {
    pair.run(120);
    pair.assert_children(0);
    for side in [&pair.a, &pair.b] {
        assert!(side.conn.as_ref().unwrap().is_finished(), "{:?}", side.log);
        assert_eq!(side.log.iter().filter(|l| l.starts_with("down")).count(), 1, "{:?}", side.log);
    }
}

/// Both rekey, and B closes as soon as it knows which one stays. A learns of that before it has B's answer, and must not
/// go on by an IKE_SA that is deleted.
#[test]
fn i13_a_close_overtakes_the_answer_to_a_rekey_that_crossed() {
    for round in 0..12 {
        let pair = &mut both_have_asked(round);
        let late = pair.take(B);
        pair.deliver(A);
        pair.take(B); // Its delete of the one that does not stay never arrives.
        pair.command(B, Command::Close);
        while !pair.b.outbox.is_empty() {
            pair.deliver(B);
        }
        pair.put(B, &late);
        assert_over(pair);
    }
}

/// The same with an answer that refuses, while the deleted IKE_SA is remembered and after that.
#[test]
fn i14_a_close_overtakes_the_refusal_of_a_rekey() {
    for seconds in [0, 15] {
        let mut pair = up();
        let pair = &mut pair;
        pair.command(A, Command::RekeyIke);
        let request = pair.take(A);
        pair.command(B, Command::RekeyIke);
        pair.deliver(B);
        pair.deliver(A);
        pair.take(B); // The delete of the old one never arrives.
        pair.put(A, &request);
        let refusal = pair.take(B);
        pair.command(B, Command::Close);
        while !pair.b.outbox.is_empty() {
            pair.deliver(B);
        }
        pair.pass(std::time::Duration::from_secs(seconds));
        pair.put(B, &refusal);
        assert_over(pair);
    }
}

/// A side that rekeys again and again remembers the old ones no longer than there is room.
#[test]
fn i15_one_side_rekeys_again_and_again() {
    let mut pair = up();
    let pair = &mut pair;
    let mut answers = Vec::new();
    for _ in 0..15 {
        pair.command(A, Command::RekeyIke);
        pair.deliver(A);
        pair.deliver(B);
        pair.deliver(A); // The delete of the old one, whose answer is late.
        answers.push(pair.take(B));
    }
    pair.pass(std::time::Duration::from_secs(5));
    pair.a.outbox.clear();
    for answer in &answers {
        pair.put(B, answer);
    }
    // B has forgotten them all by now, and A none.
    pair.pass(std::time::Duration::from_secs(6));
    assert_eq!(pair.a.conn.as_ref().unwrap().local_spis().len(), 16);
    for _ in 0..4 {
        pair.command(A, Command::RekeyIke);
        pair.settle();
        assert!(pair.a.conn.as_ref().unwrap().local_spis().len() <= 17);
        pair.assert_ike(1);
    }
    pair.assert_children(1);
    pair.assert_alive();
}
