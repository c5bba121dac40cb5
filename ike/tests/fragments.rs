//! Large messages in fragments (RFC 7383), between two of our own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::net::Ipv4Addr;

use ike::Transmit;
use ike::wire::message::Message;
use ike::wire::{TrafficSelector, numbers::PayloadType};
use kit::{A, B, Pair, Spec};

/// So many selectors that IKE_AUTH takes several datagrams.
fn many(side: u8) -> Vec<TrafficSelector> {
    (0..100)
        .map(|n| {
            TrafficSelector::range(
                Ipv4Addr::new(10, side, n, 0).into(),
                Ipv4Addr::new(10, side, n, 99).into(),
            )
        })
        .collect()
}

fn large() -> (Spec, Spec) {
    let left = Spec { local: many(1), remote: many(2), ..Spec::left() };
    let right = Spec { local: many(2), remote: many(1), ..Spec::right() };
    (left, right)
}

/// The pair with A's IKE_AUTH request waiting to be sent.
fn before_auth() -> Pair {
    let (left, right) = large();
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    pair
}

fn next(message: &Transmit) -> PayloadType {
    Message::parse(&message.bytes).unwrap().header.next
}

#[test]
fn large_messages_go_in_fragments_and_small_ones_whole() {
    let mut pair = before_auth();
    let fragments = pair.a.outbox.len();
    assert!(fragments >= 3, "{fragments}");
    assert!(pair.a.outbox.iter().all(|m| m.bytes.len() <= 1228 && next(m) == PayloadType::SKF));
    for _ in 0..fragments {
        pair.deliver(A);
    }
    assert!(pair.b.outbox.len() >= 3, "the answer is as large");
    pair.settle();
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn order_and_repetition_do_not_matter() {
    let mut pair = before_auth();
    let fragments: Vec<Transmit> = pair.a.outbox.drain(..).collect();
    for fragment in fragments.iter().rev() {
        pair.put(A, fragment);
        pair.put(A, fragment);
    }
    // The last one completed it; the repetition of the first then counts as a retransmission and is answered again.
    pair.settle();
    pair.assert_children(1);
    // Replayed afterwards, only the first is answered.
    for (number, fragment) in fragments.iter().enumerate() {
        let before = pair.b.outbox.len();
        pair.put(A, fragment);
        assert_eq!(pair.b.outbox.len() > before, number == 0, "fragment {number}");
        pair.b.outbox.clear();
    }
    pair.assert_alive();
}

#[test]
fn a_lost_fragment_is_made_good_by_retransmission() {
    for lost in 0..3 {
        let mut pair = before_auth();
        pair.a.outbox.remove(lost);
        pair.settle();
        pair.run(3);
        pair.assert_children(1);
    }
    for lost in 0..3 {
        let mut pair = before_auth();
        while !pair.a.outbox.is_empty() {
            pair.deliver(A);
        }
        pair.b.outbox.remove(lost);
        pair.settle();
        pair.run(3);
        pair.assert_children(1);
        pair.assert_alive();
    }
}

#[test]
fn a_forged_fragment_spoils_nothing() {
    let mut pair = before_auth();
    let fragments: Vec<Transmit> = pair.a.outbox.drain(..).collect();
    for (number, fragment) in fragments.iter().enumerate() {
        for at in [28 + 4, 28 + 5, 28 + 6, 28 + 7, 60, fragment.bytes.len() - 1] {
            let mut forged = fragment.clone();
            forged.bytes[at] ^= 1;
            pair.put(A, &forged);
        }
        assert!(pair.b.outbox.is_empty(), "fragment {number}");
        pair.put(A, fragment);
    }
    pair.settle();
    pair.assert_children(1);
}
