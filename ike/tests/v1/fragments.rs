//! The fragments of Cisco and others, between two of ours and from a stranger.

use std::time::Duration;

use ike::Transmit;
use ike::config::Phase1;

use crate::kit::{A, B, Pair, Spec};
use crate::message;
use crate::{MODES, specs};

const FRAGMENT: u8 = 132;

/// A message in fragments of this size.
fn split(m: &Transmit, size: usize) -> Vec<Transmit> {
    let chunks: Vec<&[u8]> = m.bytes.chunks(size).collect();
    let piece = |(number, data): (usize, &&[u8])| {
        let last = number + 1 == chunks.len();
        let mut body = vec![0, 1, u8::try_from(number + 1).unwrap(), u8::from(last)];
        body.extend(*data);
        let mut bytes = message::with(&m.bytes, &[(FRAGMENT, body)]);
        bytes[19] = 0;
        Transmit { bytes, ..m.clone() }
    };
    chunks.iter().enumerate().map(piece).collect()
}

#[test]
fn every_message_after_the_first_may_come_in_fragments() {
    for mode in MODES {
        for (size, backwards) in [(100, false), (64, true), (37, false)] {
            let [left, right] = specs(mode);
            let mut pair = Pair::new(&left, &right);
            pair.initiate();
            let mut first = true;
            for _ in 0..100 {
                let Some(who) = [A, B].into_iter().find(|who| !pair.side(*who).outbox.is_empty()) else {
                    break;
                };
                let m = pair.take(who);
                if std::mem::take(&mut first) {
                    pair.put(who, &m);
                    continue;
                }
                let mut pieces = split(&m, size);
                if backwards {
                    pieces.reverse();
                }
                for piece in pieces {
                    pair.put(who, &piece);
                    pair.put(who, &piece);
                }
            }
            pair.run(5);
            pair.assert_children(1);
        }
    }
}

/// strongSwan CVE-2013-6076: numbers and lengths that lead astray, before phase 1 and after it.
#[test]
fn p1f_crafted_fragments_change_nothing() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    let third = pair.take(A);
    let bad = |pair: &mut Pair, m: &Transmit| {
        for number in [0u8, 1, 2, 31, 32, 33, 255] {
            for last in [0u8, 1, 0xff] {
                for data in [vec![], vec![0; 1], vec![0xff; 1_000], m.bytes.clone()] {
                    let body = [vec![0, 9, number, last], data].concat();
                    let mut bytes = message::with(&m.bytes, &[(FRAGMENT, body.clone())]);
                    bytes[19] = 0;
                    // What is whole is taken for what it is, so nothing that is.
                    if number == 1 && last & 1 == 1 && body.len() > 1_004 || body[4..] == m.bytes[..] {
                        continue;
                    }
                    pair.put(A, &Transmit { bytes: bytes.clone(), ..m.clone() });
                    let twice = message::with(&m.bytes, &[(FRAGMENT, body.clone()), (FRAGMENT, body)]);
                    pair.put(A, &Transmit { bytes: twice, ..m.clone() });
                    bytes.truncate(31);
                    bytes[24..28].copy_from_slice(&31u32.to_be_bytes());
                    pair.put(A, &Transmit { bytes, ..m.clone() });
                }
            }
        }
    };
    bad(&mut pair, &third);
    assert!(pair.b.outbox.is_empty());
    assert!(pair.b.half_open[0].conn.half_open_octets() < 40_000);
    pair.put(A, &third);
    pair.settle();
    pair.run(4);
    pair.assert_children(1);
    let before = (pair.b.installed.clone(), pair.b.log.clone());
    bad(&mut pair, &third);
    assert_eq!((pair.b.installed.clone(), pair.b.log.clone()), before);
    pair.assert_alive_in_time();
}

#[test]
fn a_fragment_within_fragments_is_not_taken() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    let third = pair.take(A);
    let inner = split(&third, 2_000).remove(0);
    for piece in split(&inner, 100) {
        pair.put(A, &piece);
    }
    assert!(pair.b.outbox.is_empty());
    pair.put(A, &third);
    assert!(!pair.b.outbox.is_empty());
}

/// What is large goes in fragments to who has announced that it takes them, and whole to who has not.
#[test]
fn large_messages_of_ours_go_in_fragments_where_both_know_them() {
    let [left, right] = specs(Phase1::Aggressive);
    // An identity of this length on top of a large group.
    let name: &'static str = Box::leak("a".repeat(500).into_boxed_str());
    let ike = vec!["aes256-sha512-modp8192"];
    let left = Spec { remote_id: name, ike: ike.clone(), ..left };
    let right = Spec { local_id: name, ike, ..right };
    for known in [true, false] {
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        if !known {
            let first = pair.a.outbox.front_mut().unwrap();
            let all = message::clear(&first.bytes);
            let kept: Vec<_> =
                all.into_iter().filter(|p| !p.1.starts_with(&[0x40, 0x48, 0xb7, 0xd5])).collect();
            first.bytes = message::with(&first.bytes, &kept);
        }
        let mut seen = 0;
        for _ in 0..100 {
            let Some(who) = [A, B].into_iter().find(|who| !pair.side(*who).outbox.is_empty()) else { break };
            let m = pair.take(who);
            seen += usize::from(m.bytes[16] == FRAGMENT);
            // Whether the peer takes them is not known with the first.
            let first = m.bytes[8..16] == [0; 8];
            assert!(!known || first || m.bytes.len() <= 1_228);
            pair.put(who, &m);
        }
        pair.pass(Duration::from_secs(1));
        pair.settle();
        pair.assert_children(1);
        assert_eq!(seen > 0, known, "{seen}");
    }
}
