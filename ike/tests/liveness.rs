//! Signs of life (RFC 7296 section 2.4).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::time::Duration;

use ike::Command;
use kit::{A, B, Pair, Spec};

const SECOND: Duration = Duration::from_secs(1);

/// How long it takes A to notice that B is gone, and how often it asks.
fn noticed(interval: Duration) -> (Duration, usize) {
    let mut pair = Pair::up(&Spec { dpd: interval, ..Spec::left() }, &Spec::right());
    let heard = pair.now;
    while !pair.a.log.iter().any(|line| line.starts_with("down: no answer to INFORMATIONAL")) {
        pair.pass(SECOND / 10);
        assert!(pair.now < heard + 3 * interval + 120 * SECOND, "{:?}", pair.a.log);
    }
    (pair.now - heard, pair.a.outbox.len())
}

#[test]
fn a_peer_that_is_asked_often_is_soon_noticed_to_be_gone() {
    for (interval, within) in [(1, 4), (2, 8), (5, 20), (10, 40), (30, 72), (60, 102)] {
        let (time, asked) = noticed(interval * SECOND);
        assert!(time <= within * SECOND + SECOND / 2, "{interval}: {time:?}");
        assert!(time >= interval * 3 * SECOND || interval > 10, "{interval}: {time:?} is too hasty");
        assert_eq!(asked, 6, "{interval}");
    }
}

/// Loss is no death: one answer in six is enough, and then it is asked anew.
#[test]
fn one_answer_is_enough() {
    let mut pair = Pair::up(&Spec { dpd: SECOND, ..Spec::left() }, &Spec::right());
    for _ in 0..20 {
        pair.pass(SECOND * 3);
        let last = pair.a.outbox.pop_back().unwrap();
        pair.a.outbox.clear();
        pair.put(A, &last);
        pair.settle();
    }
    pair.assert_children(1);
}

/// B's ESP is heard by A's host, which is asked for it.
#[test]
fn esp_is_a_sign_of_life() {
    let mut pair = Pair::up(&Spec { dpd: 30 * SECOND, ..Spec::left() }, &Spec::right());
    for _ in 0..50 {
        // It is asked once when the interval is over, counted from what it said before.
        let asked = pair.a.asked;
        pair.pass(SECOND * 24);
        assert_eq!(pair.a.asked, asked);
        pair.pass(SECOND * 6);
        assert_eq!(pair.a.asked, asked + 1);
        let heard = pair.now - SECOND * 6;
        pair.command(A, Command::Heard(Some(heard)));
        pair.pass(SECOND * 23 + SECOND / 2);
        assert_eq!(pair.a.asked, asked + 1);
        pair.pass(SECOND / 2);
        assert_eq!(pair.a.asked, asked + 2);
        pair.command(A, Command::Heard(Some(pair.now)));
        assert!(pair.a.outbox.is_empty(), "the peer is not asked");
    }
}

#[test]
fn a_host_that_has_heard_nothing_has_the_peer_asked() {
    let up = || Pair::up(&Spec { dpd: 30 * SECOND, ..Spec::left() }, &Spec::right());
    // It says so, and the peer is asked at once.
    for early in [None, Some(SECOND * 31), Some(SECOND * 3600)] {
        let mut pair = up();
        let before = pair.now.checked_sub(early.unwrap_or_default()).filter(|_| early.is_some());
        pair.pass(30 * SECOND);
        assert!(pair.a.outbox.is_empty());
        pair.command(A, Command::Heard(before));
        assert_eq!(pair.a.outbox.len(), 1, "{early:?}");
        // What it says after that changes nothing.
        pair.command(A, Command::Heard(None));
        pair.settle();
        pair.command(A, Command::Heard(None));
        assert!(pair.a.outbox.is_empty());
    }
    // It says nothing.
    let mut pair = up();
    pair.pass(30 * SECOND);
    assert_eq!((pair.a.asked, pair.a.outbox.len()), (1, 0));
    pair.pass(SECOND / 4);
    assert_eq!((pair.a.asked, pair.a.outbox.len()), (1, 1));
    // An IKE message is heard before it answers.
    let mut pair = up();
    pair.pass(30 * SECOND);
    let spi = pair.spi(B);
    pair.command(B, Command::RekeyChild(spi));
    pair.settle();
    pair.pass(29 * SECOND);
    assert_eq!((pair.a.asked, pair.a.outbox.len()), (1, 0));
    pair.command(A, Command::Heard(None));
    assert!(pair.a.outbox.is_empty(), "it is not asked for that any more");
    // Without a Child SA there is no ESP.
    let mut pair = up();
    let spi = pair.spi(A);
    pair.command(A, Command::DeleteChild(spi));
    pair.settle();
    pair.pass(30 * SECOND);
    assert_eq!((pair.a.asked, pair.a.outbox.len()), (0, 1));
}
