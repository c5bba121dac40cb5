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
