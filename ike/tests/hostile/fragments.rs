//! Fragments (RFC 7383) that overlap, never end, lie about their number, or hide what else is in the message.

use ike::wire::numbers::{ExchangeType, PayloadType, ProtocolId};
use ike::wire::payload::Payload;

use crate::kit::tap::Wrapping;
use crate::kit::{A, B, Who};
use crate::peer::{Hostile, chain, other};

const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

/// A fragment of the next request.
fn fragment(h: &mut Hostile, from: Who, (n, total): (u16, u16), first: PayloadType, plain: &[u8]) -> Vec<u8> {
    let header = h.request_header(from, INFO);
    let how = Wrapping { fragment: Some((n, total)), ..Wrapping::default() };
    h.tap.last().seal_octets(header, first, plain, &how)
}

/// An INFORMATIONAL request in three parts that deletes the Child SA.
fn delete_in_three(h: &mut Hostile, from: Who) -> (PayloadType, [Vec<u8>; 3]) {
    let spis = vec![h.pair.spi(from)];
    let (first, whole) = chain(&[Payload::Delete { protocol: ProtocolId::ESP, spis }]);
    (first, [whole[..3].to_vec(), whole[3..7].to_vec(), whole[7..].to_vec()])
}

#[test]
fn numbers_that_cannot_be_are_dropped() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for number in [(0, 0), (0, 1), (0, 5), (2, 1), (6, 5), (65_535, 1), (1, 0)] {
            let bytes = fragment(&mut h, from, number, PayloadType::NONE, &[]);
            h.assert_dropped(from, &bytes, &format!("fragment {number:?}"));
        }
        for number in [(1, 65), (1, 1000), (65_535, 65_535), (1, 65_535)] {
            let bytes = fragment(&mut h, from, number, PayloadType::NONE, &[]);
            h.assert_dropped(from, &bytes, &format!("{number:?}: more than are put together"));
        }
        h.assert_alive();
    }
}

#[test]
fn fragments_without_end_hold_little_and_harm_nothing() {
    let mut h = Hostile::up();
    // The last one never comes; each is as long as a datagram.
    for round in 0..3 {
        for n in 1..64 {
            let bytes = fragment(&mut h, A, (n, 64), PayloadType::NONE, &vec![round; 60_000]);
            h.inject(A, &bytes);
            assert!(h.pair.b.outbox.is_empty());
        }
    }
    // The whole would be four megabytes, so what was kept has been thrown away.
    assert!(h.dropped(B) > 80, "{}", h.dropped(B));
    h.assert_alive();
}

#[test]
fn totals_that_change_start_anew_or_are_dropped() {
    let mut h = Hostile::up();
    let (first, parts) = delete_in_three(&mut h, A);
    for total in [2u16, 3, 4, 5] {
        let bytes = fragment(&mut h, A, (1, total), first, &parts[0]);
        h.inject(A, &bytes);
    }
    // Five is the largest seen: those of three are late now.
    for n in 0..3u16 {
        let bytes = fragment(&mut h, A, (n + 1, 3), first, &parts[usize::from(n)]);
        h.assert_dropped(A, &bytes, "a fragment of a smaller total");
    }
    assert_eq!(h.pair.b.installed.len(), 1);
    h.assert_alive();
}

#[test]
fn overlapping_fragments_are_those_that_came_last_and_one_message() {
    let mut h = Hostile::up();
    let (first, parts) = delete_in_three(&mut h, A);
    for (n, plain) in [(1, vec![0xff; 900]), (2, vec![1; 900]), (1, parts[0].clone()), (2, parts[1].clone())]
    {
        let bytes = fragment(&mut h, A, (n, 3), first, &plain);
        h.inject(A, &bytes);
        assert!(h.pair.b.outbox.is_empty());
    }
    let last = fragment(&mut h, A, (3, 3), PayloadType::NONE, &parts[2]);
    h.inject(A, &last);
    assert_eq!(h.pair.b.outbox.len(), 1, "one answer");
    assert!(h.pair.b.installed.is_empty(), "what the last ones said");
    let answered = h.pair.take(B);
    // All of them again: only the first is a retransmission (RFC 7383 section 2.6.1).
    let bytes = fragment(&mut h, A, (1, 3), first, &parts[0]);
    h.inject(A, &bytes);
    assert_eq!(h.pair.take(B).bytes, answered.bytes);
    h.inject(A, &last);
    assert!(h.pair.b.outbox.is_empty());
}

#[test]
fn only_the_first_fragment_says_what_is_inside() {
    let mut h = Hostile::up();
    let (_, parts) = delete_in_three(&mut h, A);
    let before = h.snapshot(B);
    // The first says NONE, the others DELETE: octets are left over.
    for n in 0..3u16 {
        let kind = if n == 0 { PayloadType::NONE } else { PayloadType::DELETE };
        let bytes = fragment(&mut h, A, (n + 1, 3), kind, &parts[usize::from(n)]);
        h.inject(A, &bytes);
    }
    let answer = h.pair.take(B);
    let answer = h.tap.last().open(&answer.bytes).unwrap();
    assert_eq!(crate::peer::errors(&answer), [ike::wire::numbers::NotifyType::INVALID_SYNTAX]);
    h.say_that_it_is_there(A);
    assert_eq!(h.snapshot(B), before);
    h.tap.last().next_id[1] += 1;
    h.assert_alive();
}

#[test]
fn unknown_payloads_around_fragments_are_not_believed() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let before = h.snapshot(other(from));
        let header = h.request_header(from, INFO);
        let outer = vec![Payload::Opaque(PayloadType(200), vec![5; 30]); 90];
        for n in 1..=40 {
            let mut outer = outer.clone();
            outer.push(Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] });
            let how = Wrapping { fragment: Some((n, 40)), outer, ..Wrapping::default() };
            let bytes = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
            h.inject(from, &bytes);
        }
        let answer = h.pair.take(other(from));
        assert_eq!(h.tap.last().open(&answer.bytes), Some(vec![]), "an empty request");
        assert_eq!(h.snapshot(other(from)), before);
        // And more payloads than a message may have.
        let header = ike::wire::Header { message_id: header.message_id + 1, ..header };
        let how = Wrapping {
            fragment: Some((1, 2)),
            outer: vec![Payload::Opaque(PayloadType(200), vec![]); 97],
            ..Wrapping::default()
        };
        let bytes = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
        let count = h.dropped(other(from));
        h.inject(from, &bytes);
        assert_eq!(h.snapshot(other(from)), before);
        assert!(h.dropped(other(from)) >= count);
    }
}

#[test]
fn fragments_of_a_request_survive_those_of_an_answer_in_between() {
    // A request and an answer may be under way at once, whatever the windows.
    let mut h = Hostile::up();
    h.command(B, ike::Command::Probe);
    let asked = ike::wire::Message::parse(&h.take_request(B).bytes).unwrap().header;
    let (first, parts) = delete_in_three(&mut h, A);
    for n in 0..3u16 {
        let request = fragment(&mut h, A, (n + 1, 3), first, &parts[usize::from(n)]);
        h.inject(A, &request);
        let header = h.tap.last().header(true, true, INFO, asked.message_id);
        let how = Wrapping { fragment: Some((n + 1, 3)), ..Wrapping::default() };
        let answer = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
        h.inject(A, &answer);
    }
    assert!(h.pair.b.installed.is_empty(), "the request was put together");
    h.command(B, ike::Command::Probe);
    h.pair.take(B);
    assert!(h.asked(B).is_some(), "and the answer");
}

#[test]
fn fragments_are_dropped_where_they_were_not_agreed_on() {
    // RFC 7383 section 2.3: only after both have said so in IKE_SA_INIT.
    let mut h = Hostile::new(&crate::kit::Spec::left(), &crate::kit::Spec::right());
    h.pair.initiate();
    let mut first = h.take_request(A);
    let message = ike::wire::Message::parse(&first.bytes).unwrap();
    let kept: Vec<Payload> = message
        .chain
        .payloads
        .iter()
        .filter(|p| !matches!(p, Payload::Notify(n) if n.kind == ike::wire::numbers::NotifyType::IKEV2_FRAGMENTATION_SUPPORTED))
        .cloned()
        .collect();
    first.bytes = ike::wire::Message::encode(message.header, &kept);
    h.tap.saw(&first.bytes, [&h.pair.a.host.draws, &h.pair.b.host.draws]);
    h.pair.put(A, &first);
    h.look();
    let header = h.tap.last().header(true, false, ExchangeType::IKE_AUTH, 1);
    let how = Wrapping { fragment: Some((1, 1)), ..Wrapping::default() };
    let bytes = h.tap.last().seal_octets(header, PayloadType::NONE, &[], &how);
    h.assert_dropped(A, &bytes, "a fragment nobody agreed on");
}
