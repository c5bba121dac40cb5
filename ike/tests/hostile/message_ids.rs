//! Message IDs and flags: reuse, windows, answers nobody asked for, replays (RFC 7296 sections 2.1 to 2.3).

use ike::Command;
use ike::wire::numbers::{ExchangeType, NotifyType, ProtocolId};
use ike::wire::payload::{Notify, Payload};

use crate::kit::tap::Wrapping;
use crate::kit::{A, B, Pair, Spec};
use crate::peer::{Hostile, chain, child_request, notify, other};

const INFO: ExchangeType = ExchangeType::INFORMATIONAL;
const CHILD: ExchangeType = ExchangeType::CREATE_CHILD_SA;

#[test]
fn a_reused_id_gets_the_old_answer_whatever_it_asks() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let header = h.request_header(from, INFO);
        let first = h.tap.last().seal(header, &[]);
        h.inject(from, &first);
        let answer = h.pair.take(other(from));
        let before = h.snapshot(other(from));
        for payloads in [
            vec![Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] }],
            child_request(from, 0x9999),
            vec![notify(NotifyType::AUTHENTICATION_FAILED)],
        ] {
            let again = h.tap.last().seal(header, &payloads);
            h.inject(from, &again);
            assert_eq!(h.pair.take(other(from)).bytes, answer.bytes, "the stored answer");
            assert_eq!(h.snapshot(other(from)), before);
        }
        h.tap.last().next_id[usize::from(header.from_initiator)] += 1;
        h.assert_alive();
    }
}

/// Who has only seen the SPIs gets nothing sent, however often he shows the ID of the last request.
#[test]
fn a_forged_retransmission_gets_no_answer() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let header = h.request_header(from, INFO);
        let first = h.tap.last().seal(header, &[]);
        h.inject(from, &first);
        let answer = h.pair.take(other(from));
        for at in 0..first.len() {
            let mut forged = first.clone();
            forged[at] ^= 1;
            let before = h.pair.side(other(from)).outbox.len();
            h.inject(from, &forged);
            assert_eq!(h.pair.side(other(from)).outbox.len(), before, "octet {at}");
        }
        h.assert_dropped(from, &first[..28], "a header alone");
        h.inject(from, &first);
        assert_eq!(h.pair.take(other(from)).bytes, answer.bytes, "the true one");
        h.tap.last().next_id[usize::from(header.from_initiator)] += 1;
        h.assert_alive();
    }
}

#[test]
fn an_id_outside_of_the_window_is_dropped() {
    for from in [A, B] {
        let mut h = Hostile::up();
        // So that there is something before the one answered last.
        for _ in 0..3 {
            assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
        }
        let next = h.request_header(from, INFO);
        for by in [1, 2, 3, 1000, u32::MAX - 1, u32::MAX - 2, u32::MAX / 2] {
            let header = ike::wire::Header { message_id: next.message_id.wrapping_add(by), ..next };
            let close =
                h.tap.last().seal(header, &[Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] }]);
            h.assert_dropped(from, &close, &format!("ID by {by}"));
        }
        h.assert_alive();
    }
}

#[test]
fn an_answer_to_nothing_is_dropped() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let initiator = h.is_initiator(from);
        for exchange in [INFO, CHILD, ExchangeType::IKE_AUTH, ExchangeType::IKE_SA_INIT, ExchangeType(0)] {
            for id in [0, 1, 2, 3, u32::MAX] {
                let header = h.tap.last().header(initiator, true, exchange, id);
                let bytes = h.tap.last().seal(header, &[notify(NotifyType::AUTHENTICATION_FAILED)]);
                h.assert_dropped(from, &bytes, &format!("an answer to {exchange} {id}"));
            }
        }
        h.assert_alive();
    }
}

#[test]
fn an_answer_of_another_exchange_is_dropped_and_the_right_one_still_counts() {
    let mut h = Hostile::up();
    h.command(A, Command::Probe);
    let request = h.take_request(A);
    let asked = ike::wire::Message::parse(&request.bytes).unwrap().header;
    for exchange in [CHILD, ExchangeType::IKE_AUTH, ExchangeType(99)] {
        let header = h.tap.last().header(false, true, exchange, asked.message_id);
        let bytes = h.tap.last().seal(header, &[notify(NotifyType::TEMPORARY_FAILURE)]);
        h.assert_dropped(B, &bytes, &format!("{exchange} in answer to INFORMATIONAL"));
    }
    h.pair.put(A, &request);
    h.settle();
    h.command(A, Command::Probe);
    assert!(h.asked(A).is_some(), "the window was freed by the right answer");
}

#[test]
fn the_initiator_flag_of_the_wrong_side_is_dropped() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let header = h.request_header(from, INFO);
        let close = [Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] }];
        // Sealed with the key of the side that the flag claims, and with the sender's own.
        let claimed = ike::wire::Header { from_initiator: !header.from_initiator, ..header };
        let bytes = h.tap.last().seal(claimed, &close);
        h.assert_dropped(from, &bytes, "the flag turned, and the key with it");
        let how = Wrapping { by_initiator: Some(header.from_initiator), ..Wrapping::default() };
        let (first, plain) = chain(&close);
        let bytes = h.tap.last().seal_octets(claimed, first, &plain, &how);
        h.assert_dropped(from, &bytes, "the flag turned, with the right key");
        let mut turned = h.tap.last().seal(header, &close);
        turned[19] ^= 0x08;
        h.assert_dropped(from, &turned, "the flag turned after sealing");
        let mut reserved = h.tap.last().seal(header, &close);
        reserved[19] ^= 0x80;
        h.assert_dropped(from, &reserved, "a reserved flag turned after sealing");
        h.assert_alive();
    }
}

#[test]
fn a_message_comes_back_to_its_sender() {
    let mut h = Hostile::up();
    for who in [A, B] {
        let spi = h.pair.spi(who);
        h.command(who, Command::RekeyChild(spi));
        let mine = h.take_request(who);
        h.assert_dropped(other(who), &mine.bytes, "its own request");
        h.pair.put(who, &mine);
        h.settle();
        h.pair.assert_children(1);
    }
}

#[test]
fn the_spis_of_another_are_dropped() {
    let mut h = Hostile::up();
    let header = h.request_header(A, INFO);
    for (spi_i, spi_r) in [
        (header.spi_i, header.spi_r ^ 1),
        (header.spi_i ^ 1, header.spi_r),
        (0, header.spi_r),
        (header.spi_i, 0),
        (header.spi_r, header.spi_i),
    ] {
        let bytes = h.tap.last().seal(ike::wire::Header { spi_i, spi_r, ..header }, &[]);
        h.assert_dropped(A, &bytes, "SPIs of another IKE_SA");
    }
    h.assert_alive();
}

#[test]
fn every_message_of_a_handshake_and_of_a_life_is_replayed_to_both_sides() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    let mut seen = Vec::new();
    pair.initiate();
    let settle = |pair: &mut Pair, seen: &mut Vec<_>| {
        while let Some(from) = [A, B].into_iter().find(|w| !pair.side(*w).outbox.is_empty()) {
            let message = pair.take(from);
            pair.put(from, &message);
            seen.push((from, message));
        }
    };
    settle(&mut pair, &mut seen);
    for who in [A, B] {
        let spi = pair.spi(who);
        for command in [Command::RekeyChild(spi), Command::RekeyIke, Command::Probe] {
            pair.command(who, command);
            settle(&mut pair, &mut seen);
        }
    }
    let state = |pair: &mut Pair| {
        let mut of = |who| {
            let side = pair.side(who);
            let conn = side.conn.as_ref().unwrap();
            (conn.spis(), conn.ike_sas(), side.installed.clone(), side.log.clone())
        };
        (of(A), of(B))
    };
    let before = state(&mut pair);
    assert!(seen.len() > 20);
    for (from, message) in seen.iter().chain(seen.iter().rev()) {
        for to in [*from, other(*from)] {
            pair.put(to, message);
        }
        // Stored answers may go out again, but nothing new.
        for who in [A, B] {
            for sent in pair.side(who).outbox.drain(..) {
                assert!(seen.iter().any(|(_, m)| m.bytes == sent.bytes), "something new was sent");
            }
        }
    }
    assert_eq!(state(&mut pair), before);
    pair.assert_alive();
}

/// Whatever size a peer states, no more requests are under way than eight, and always one.
#[test]
fn a_stated_window_is_made_use_of_within_bounds() {
    let [left, right] = Spec::with_policies(20);
    let size = |size: u32| size.to_be_bytes().to_vec();
    for (stated, used) in [
        (size(u32::MAX), 8),
        (size(9), 8),
        (size(0), 8),
        (size(1), 8),
        (vec![], 8),
        (vec![255; 3], 8),
        (vec![255; 5], 8),
        (vec![0; 300], 8),
    ] {
        let mut h = Hostile::new(&left, &right);
        h.pair.initiate();
        h.settle();
        let what = format!("{stated:?}");
        let notify = Payload::Notify(Notify::with_data(NotifyType::SET_WINDOW_SIZE, stated));
        assert_eq!(h.ask(A, INFO, &[notify]), Some(vec![]), "{what}");
        let spis: Vec<u32> = h.pair.b.installed.keys().copied().collect();
        for spi in spis {
            h.command(B, Command::RekeyChild(spi));
        }
        assert_eq!(h.pair.b.outbox.len(), used, "{what}");
    }
}

/// A peer that sends more than we have stated is answered within the window and not beyond it.
#[test]
fn requests_beyond_the_window_are_dropped() {
    let [left, right] = Spec::with_policies(4);
    for from in [A, B] {
        let mut h = Hostile::new(&left, &right);
        h.pair.initiate();
        h.settle();
        let next = h.request_header(from, INFO);
        for ahead in (0..6).rev() {
            let header = ike::wire::Header { message_id: next.message_id + ahead, ..next };
            let bytes = h.tap.last().seal(header, &[]);
            if ahead < 4 {
                h.inject(from, &bytes);
                assert_eq!(h.pair.side(other(from)).outbox.drain(..).count(), 1, "{ahead}");
            } else {
                h.assert_dropped(from, &bytes, &format!("{ahead} ahead"));
            }
        }
        h.tap.last().next_id[usize::from(next.from_initiator)] += 4;
        assert_eq!(h.ask(from, INFO, &[]), Some(vec![]));
    }
}
