//! A peer that is a cluster (RFC 6311), in earnest and otherwise: which of its messages set counters, and that none of the others do.
//! The kit moves every connection to another node before each message, so what has to go along does.

use std::time::Duration;

use ike::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use ike::wire::payload::{Notify, Payload};
use ike::wire::{Header, Message, TrafficSelector};
use ike::{Command, Transmit};
use proptest::prelude::*;

use crate::kit::tap::Wrapping;
use crate::kit::{A, B, Spec, Who, ts};
use crate::peer::{Hostile, chain, notify, other};

const INFO: ExchangeType = ExchangeType::INFORMATIONAL;
const SYNC: NotifyType = NotifyType::IKEV2_MESSAGE_ID_SYNC;
const REPLAY: NotifyType = NotifyType::IPSEC_REPLAY_COUNTER_SYNC;
const SUPPORTED: [NotifyType; 2] =
    [NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED, NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED];
const NONCE: u32 = 0x0a0b_0c0d;

/// The data of the notify: a nonce, the sender's next ID, and the one it expects.
fn data(nonce: u32, send: u32, receive: u32) -> Vec<u8> {
    [nonce, send, receive].map(u32::to_be_bytes).concat()
}

fn sync(nonce: u32, send: u32, receive: u32) -> Payload {
    Payload::Notify(Notify::with_data(SYNC, data(nonce, send, receive)))
}

fn delta(octets: &[u8]) -> Payload {
    Payload::Notify(Notify::with_data(REPLAY, octets.to_vec()))
}

/// IDs of the next requests, of `from` and of the other.
fn next_ids(h: &mut Hostile, from: Who) -> (u32, u32) {
    let initiator = h.is_initiator(from);
    let ids = h.tap.last().next_id;
    (ids[usize::from(initiator)], ids[usize::from(!initiator)])
}

/// A request of `from` with Message ID 0.
fn zero(h: &mut Hostile, from: Who, payloads: &[Payload]) -> Vec<u8> {
    let header = Header { message_id: 0, ..h.request_header(from, INFO) };
    h.tap.last().seal(header, payloads)
}

/// What the other side sends when it gets this.
fn given(h: &mut Hostile, from: Who, bytes: &[u8]) -> Vec<Transmit> {
    h.inject(from, bytes);
    h.pair.side(other(from)).outbox.drain(..).collect()
}

fn synced(h: &mut Hostile, from: Who, payloads: &[Payload]) -> Vec<Transmit> {
    let bytes = zero(h, from, payloads);
    given(h, from, &bytes)
}

/// The one answer: with Message ID 0, and nothing but this in it.
#[track_caller]
fn assert_answer(h: &mut Hostile, sent: &[Transmit], send: u32, receive: u32) {
    let answer = &sent[0].bytes;
    let header = Message::parse(answer).unwrap().header;
    assert_eq!((header.message_id, header.response, header.exchange), (0, true, INFO));
    assert_eq!(h.tap.last().open(answer), Some(vec![sync(NONCE, send, receive)]));
}

/// The requests of `from` go on with this ID.
fn go_on(h: &mut Hostile, from: Who, id: u32) {
    let initiator = h.is_initiator(from);
    h.tap.last().next_id[usize::from(initiator)] = id;
}

/// The other side of `from` asks with this ID next.
#[track_caller]
fn assert_asks_with(h: &mut Hostile, from: Who, id: u32) {
    h.command(other(from), Command::Probe);
    let request = h.take_request(other(from));
    let header = Message::parse(&request.bytes).unwrap().header;
    assert_eq!((header.message_id, header.response), (id, false));
    let answer = Header { response: true, from_initiator: !header.from_initiator, ..header };
    let bytes = h.tap.last().seal(answer, &[]);
    h.inject(from, &bytes);
}

#[test]
fn a_sync_is_answered_and_both_go_on_from_there() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let (theirs, ours) = next_ids(&mut h, from);
        let sent = synced(&mut h, from, &[sync(NONCE, theirs + 10, ours + 5)]);
        assert_eq!(sent.len(), 1);
        assert_answer(&mut h, &sent, ours + 5, theirs + 10);
        let told = format!("synced: {} of ours, {} of the peer's", ours + 5, theirs + 10);
        assert_eq!(h.pair.side(other(from)).log.last(), Some(&told));
        let skipped = h.request_header(from, INFO);
        for id in [theirs.saturating_sub(1), theirs, theirs + 9, theirs + 11] {
            let bytes = h.tap.last().seal(Header { message_id: id, ..skipped }, &[]);
            h.assert_dropped(from, &bytes, "what was expected before, or is beyond");
        }
        go_on(&mut h, from, theirs + 10);
        assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        assert_asks_with(&mut h, from, ours + 5);
        assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
    }
}

#[test]
fn the_next_id_of_all_is_as_good_as_a_later_one() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let (theirs, ours) = next_ids(&mut h, from);
        let sent = synced(&mut h, from, &[sync(NONCE, theirs, ours)]);
        assert_answer(&mut h, &sent, ours, theirs);
        h.assert_alive();
    }
}

#[test]
fn an_expected_id_that_is_too_low_is_corrected_in_the_answer() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for _ in 0..3 {
            let (_, ours) = next_ids(&mut h, from);
            assert_asks_with(&mut h, from, ours);
        }
        let (theirs, ours) = next_ids(&mut h, from);
        let sent = synced(&mut h, from, &[sync(NONCE, theirs + 1, 0)]);
        assert_answer(&mut h, &sent, ours, theirs + 1);
        assert_asks_with(&mut h, from, ours);
    }
}

#[test]
fn an_own_id_that_is_too_low_is_ignored() {
    for from in [A, B] {
        let mut h = Hostile::up();
        for _ in 0..3 {
            assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        }
        let (theirs, ours) = next_ids(&mut h, from);
        for send in [0, 1, theirs - 2, theirs - 1] {
            let bytes = zero(&mut h, from, &[sync(NONCE, send, ours + 7)]);
            h.assert_dropped(from, &bytes, &format!("it has sent {send} already"));
        }
        h.assert_alive();
    }
}

#[test]
fn a_sync_that_is_sent_again_is_answered_alike_until_what_it_is_about_has_come() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let (theirs, ours) = next_ids(&mut h, from);
        let request = zero(&mut h, from, &[sync(NONCE, theirs + 4, ours + 4)]);
        let first = given(&mut h, from, &request);
        let told = h.snapshot(other(from));
        for _ in 0..3 {
            assert_eq!(given(&mut h, from, &request), first, "the very same");
        }
        h.pair.pass(Duration::from_secs(60));
        assert_eq!(given(&mut h, from, &request), first);
        assert_eq!(h.snapshot(other(from)), told, "it was done once");
        go_on(&mut h, from, theirs + 4);
        assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        h.assert_dropped(from, &request, "a late one");
        // And after another one.
        h.pair.pass(Duration::from_secs(60));
        let again = synced(&mut h, from, &[sync(NONCE, theirs + 50, ours)]);
        assert_eq!(again.len(), 1);
        h.assert_dropped(from, &request, "the one before");
        let same = zero(&mut h, from, &[sync(NONCE + 1, theirs + 50, ours)]);
        h.pair.pass(Duration::from_secs(60));
        h.assert_dropped(from, &same, "of another member, that has not learned of the last one");
        go_on(&mut h, from, theirs + 50);
        h.assert_alive();
    }
}

#[test]
fn what_is_under_way_is_asked_anew_behind_all_that_was_used() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let to = other(from);
        let spi = h.pair.spi(to);
        h.command(to, Command::RekeyChild(spi));
        let asked = h.asked(to).expect("a request");
        let lost = h.take_request(to);
        let (theirs, ours) = next_ids(&mut h, from);
        // The member knows nothing of the request.
        let sent = synced(&mut h, from, &[sync(NONCE, theirs, ours - 1)]);
        let [_, anew] = sent.as_slice() else { panic!("{sent:?}") };
        assert_answer(&mut h, &sent, ours, theirs);
        let header = Message::parse(&anew.bytes).unwrap().header;
        assert_eq!(
            (header.message_id, header.response, header.exchange),
            (ours, false, ExchangeType::CREATE_CHILD_SA)
        );
        assert_eq!(h.tap.last().open(&anew.bytes), Some(asked), "the same under another ID");
        // An answer to the lost one is none any more.
        let old = Message::parse(&lost.bytes).unwrap().header;
        let busy = [notify(NotifyType::TEMPORARY_FAILURE)];
        let answer =
            |id| Header { response: true, from_initiator: !old.from_initiator, message_id: id, ..old };
        let late = h.tap.last().seal(answer(old.message_id), &busy);
        h.assert_dropped(from, &late, "the answer that was lost");
        // It is sent again as any request is.
        h.pair.pass(Duration::from_secs(8));
        assert!(h.pair.side(to).outbox.drain(..).any(|again| again.bytes == anew.bytes));
        let gone = h.tap.last().seal(answer(ours), &[notify(NotifyType::CHILD_SA_NOT_FOUND)]);
        h.inject(from, &gone);
        assert!(h.dropped(to) == 1, "the answer to the new one is taken");
    }
}

fn many(side: u8) -> Vec<TrafficSelector> {
    let of = |n| ts(&format!("10.{side}.{n}.0"), &format!("10.{side}.{n}.99"));
    (0..60).map(of).collect()
}

#[test]
fn a_request_in_fragments_is_asked_anew_in_fragments() {
    let left = Spec { local: many(1), remote: many(2), ..Spec::left() };
    let right = Spec { local: many(2), remote: many(1), ..Spec::right() };
    let mut h = Hostile::up_with(&left, &right);
    let spi = h.pair.spi(B);
    h.command(B, Command::RekeyChild(spi));
    let lost: Vec<Transmit> = h.pair.b.outbox.drain(..).collect();
    assert!(lost.len() > 1);
    let (theirs, ours) = next_ids(&mut h, A);
    let sent = synced(&mut h, A, &[sync(NONCE, theirs, ours)]);
    let lengths = |sent: &[Transmit]| sent.iter().map(|one| one.bytes.len()).collect::<Vec<_>>();
    assert_eq!(lengths(&sent[1..]), lengths(&lost));
    for one in &sent[1..] {
        assert_eq!(Message::parse(&one.bytes).unwrap().header.message_id, ours);
    }
}

#[test]
fn requests_of_a_window_are_asked_anew_in_their_order() {
    let [left, right] = Spec::with_policies(4);
    let mut h = Hostile::up_many(&left, &right);
    let spis: Vec<u32> = h.pair.b.installed.keys().copied().collect();
    for spi in spis {
        h.command(B, Command::RekeyChild(spi));
    }
    h.look();
    let lost: Vec<Transmit> = h.pair.b.outbox.drain(..).collect();
    assert_eq!(lost.len(), 4);
    let (theirs, ours) = next_ids(&mut h, A);
    let sent = synced(&mut h, A, &[sync(NONCE, theirs, 0)]);
    assert_eq!(sent.len(), 5);
    for ((old, new), id) in lost.iter().zip(&sent[1..]).zip(ours..) {
        let (old, new) = (&old.bytes, &new.bytes);
        assert_eq!(Message::parse(new).unwrap().header.message_id, id);
        assert_eq!(h.tap.last().open(new), h.tap.last().open(old));
    }
}

#[test]
fn without_an_agreement_nothing_is_synchronized() {
    for from in [A, B] {
        let mut h = Hostile::new(&Spec::left(), &Spec::right());
        h.pair.initiate();
        h.deliver(A);
        h.deliver(B);
        // As if the side that the test speaks for had said nothing of it.
        if from == B {
            h.deliver(A);
        }
        let said = h.asked(from).expect("IKE_AUTH");
        let supported = |p: &Payload| matches!(p, Payload::Notify(n) if SUPPORTED.contains(&n.kind));
        assert_eq!(said.iter().filter(|p| supported(p)).count(), 2, "both say it: {said:?}");
        let message = h.take_request(from);
        let header = Message::parse(&message.bytes).unwrap().header;
        let without: Vec<Payload> = said.into_iter().filter(|p| !supported(p)).collect();
        let bytes = h.tap.last().seal(header, &without);
        h.inject(from, &bytes);
        if from == A {
            let answer = h.asked(B).expect("an answer");
            assert!(!answer.iter().any(supported), "it is not offered to who has not offered it");
            h.deliver(B);
        }
        h.settle();
        h.pair.assert_children(1);
        // So that 0 is none of the window.
        for _ in 0..2 {
            assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        }
        let (theirs, ours) = next_ids(&mut h, from);
        let bytes = zero(&mut h, from, &[sync(NONCE, theirs + 1, ours)]);
        h.assert_dropped(from, &bytes, "not agreed on");
        let unknown = h.ask(from, INFO, &[delta(&[0, 0, 1, 0])]);
        assert_eq!(unknown, Some(vec![]), "a status that says nothing (RFC 7296 section 3.10.1)");
        assert!(!h.pair.side(other(from)).log.iter().any(|line| line.starts_with("advanced")));
        h.assert_alive();
    }
}

#[test]
fn one_follows_the_other_after_a_second() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let (theirs, ours) = next_ids(&mut h, from);
        assert_eq!(synced(&mut h, from, &[sync(NONCE, theirs + 1, ours)]).len(), 1);
        let next = zero(&mut h, from, &[sync(NONCE, theirs + 2, ours)]);
        h.pair.pass(Duration::from_millis(999));
        h.assert_dropped(from, &next, "too soon");
        h.pair.pass(Duration::from_millis(1));
        assert_eq!(given(&mut h, from, &next).len(), 1);
        go_on(&mut h, from, theirs + 2);
        h.assert_alive();
    }
}

#[test]
fn a_forged_sync_changes_nothing() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let (theirs, ours) = next_ids(&mut h, from);
        let request = zero(&mut h, from, &[sync(NONCE, theirs + 1, ours)]);
        for at in 0..request.len() {
            let mut forged = request.clone();
            forged[at] ^= 1;
            assert_eq!(given(&mut h, from, &forged), [], "octet {at}");
        }
        let header = Header { message_id: 0, ..h.request_header(from, INFO) };
        let how = Wrapping { by_initiator: Some(!header.from_initiator), ..Wrapping::default() };
        let (first, plain) = chain(&[sync(NONCE, theirs + 1, ours)]);
        let bytes = h.tap.last().seal_octets(header, first, &plain, &how);
        h.assert_dropped(from, &bytes, "by the key of its receiver");
        assert_eq!(given(&mut h, from, &request).len(), 1, "the true one");
    }
}

#[test]
fn what_is_no_sync_by_its_form_is_ignored() {
    for from in [A, B] {
        let mut h = Hostile::up();
        // So that 0 is none of the window.
        for _ in 0..2 {
            assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        }
        let (theirs, ours) = next_ids(&mut h, from);
        let good = || sync(NONCE, theirs + 1, ours);
        let short = |octets: usize| {
            Payload::Notify(Notify::with_data(
                SYNC,
                [data(NONCE, theirs + 1, ours), vec![0; 9]].concat()[..octets].to_vec(),
            ))
        };
        for (payloads, what) in [
            (vec![short(0)], "no data"),
            (vec![short(3)], "no whole nonce"),
            (vec![short(11)], "an octet too few"),
            (vec![short(13)], "an octet too many"),
            (vec![good(), good()], "twice"),
            (vec![good(), Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] }], "a delete beside it"),
            (vec![notify(NotifyType::INITIAL_CONTACT), good()], "another notify before it"),
            (vec![good(), delta(&[1, 2, 3])], "a delta of three octets"),
            (vec![good(), delta(&[0; 4]), delta(&[0; 4])], "two deltas"),
            (vec![good(), Payload::Opaque(PayloadType::VENDOR_ID, vec![1; 16])], "something else"),
            (vec![sync(NONCE, u32::MAX, ours)], "the last ID"),
            (vec![sync(NONCE, u32::MAX / 2 + 1, ours)], "an ID that nobody comes to"),
            (vec![sync(NONCE, theirs + 1, u32::MAX)], "the last ID of ours"),
        ] {
            let bytes = zero(&mut h, from, &payloads);
            h.assert_dropped(from, &bytes, what);
        }
        let header = Header { message_id: 0, ..h.request_header(from, ExchangeType::CREATE_CHILD_SA) };
        let bytes = h.tap.last().seal(header, &[good()]);
        h.assert_dropped(from, &bytes, "another exchange");
        // With an ID that is expected it is any other notify that says nothing.
        assert_eq!(h.ask(from, INFO, &[good()]), Some(vec![]));
        h.assert_alive();
    }
}

#[test]
fn a_rekeyed_ike_sa_is_synchronized_as_well_from_its_first_id_on() {
    for from in [A, B] {
        let mut h = Hostile::up();
        h.command(A, Command::RekeyIke);
        h.settle();
        h.pair.assert_ike(1);
        assert_eq!(next_ids(&mut h, from).0, 0);
        // The first request of all has the ID that a sync has, and is none.
        assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        let again = zero(&mut h, from, &[]);
        assert_eq!(given(&mut h, from, &again).len(), 1, "the stored answer");
        let sent = synced(&mut h, from, &[sync(NONCE, 9, 9)]);
        let ours = next_ids(&mut h, from).1.max(9);
        assert_answer(&mut h, &sent, ours, 9);
        let dropped = zero(&mut h, from, &[]);
        h.assert_dropped(from, &dropped, "what was answered before");
        go_on(&mut h, from, 9);
        h.assert_alive();
    }
}

#[test]
fn replay_counters_are_advanced_with_a_sync_and_without() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let to = other(from);
        let spi = h.pair.spi(to);
        let told = |h: &mut Hostile| -> Vec<String> {
            h.pair.side(to).log.iter().filter(|line| line.starts_with("advanced")).cloned().collect()
        };
        let (theirs, ours) = next_ids(&mut h, from);
        let request = zero(&mut h, from, &[sync(NONCE, theirs, ours), delta(&[0, 1, 0, 0])]);
        let sent = given(&mut h, from, &request);
        assert_answer(&mut h, &sent, ours, theirs);
        let first = format!("advanced [{spi:x}] by 65536");
        assert_eq!(told(&mut h), std::slice::from_ref(&first));
        assert_eq!(given(&mut h, from, &request), sent);
        assert_eq!(told(&mut h).len(), 1, "not once more for one that is sent again");
        // By itself it is an exchange like any other.
        let long = delta(&(1u64 << 40).to_be_bytes());
        assert_eq!(h.ask(from, INFO, std::slice::from_ref(&long)), None, "too soon: as if it had not come");
        h.pair.pass(Duration::from_secs(1));
        assert_eq!(h.ask(from, INFO, &[long]), Some(vec![]));
        assert_eq!(told(&mut h), [first, format!("advanced [{spi:x}] by {}", 1u64 << 40)]);
        for nothing in [vec![], vec![0; 4], vec![0; 8], vec![1; 3], vec![1; 9]] {
            h.pair.pass(Duration::from_secs(1));
            assert_eq!(h.ask(from, INFO, &[delta(&nothing)]), Some(vec![]));
        }
        assert_eq!(told(&mut h).len(), 2);
        h.assert_alive();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the peer says, neither direction goes back: what has been used is not used again, and not taken again.
    #[test]
    fn no_id_goes_back(
        steps in prop::collection::vec((any::<bool>(), 0..40u32, 0..40u32, any::<u32>(), 0..3_000u64), 1..20),
    ) {
        let mut h = Hostile::up();
        let (mut theirs, mut ours) = next_ids(&mut h, A);
        for (asks, send, receive, nonce, wait) in steps {
            if asks {
                go_on(&mut h, A, theirs);
                prop_assert_eq!(h.ask(A, INFO, &[]), Some(vec![]));
                theirs += 1;
                assert_asks_with(&mut h, A, ours);
                ours += 1;
            } else if let [answer] = synced(&mut h, A, &[sync(nonce, send, receive)]).as_slice() {
                prop_assert!(send >= theirs);
                let after = ours.max(receive);
                let opened = h.tap.last().open(&answer.bytes);
                prop_assert_eq!(opened, Some(vec![sync(nonce, after, send)]));
                (theirs, ours) = (send, after);
            }
            h.pair.pass(Duration::from_millis(wait));
        }
    }
}
