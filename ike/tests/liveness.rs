//! Signs of life (RFC 7296 section 2.4).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::time::Duration;

use kit::{A, Pair, Spec};

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
        assert!(time <= within * SECOND + SECOND / 5, "{interval}: {time:?}");
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
