//! Phase 1 with every field of a message wrong in turn: what is told, and that nothing comes of it.

use ike::config::Phase1;
use ike::{Command, Datagram};

use crate::kit::{A, B, Pair, Spec};
use crate::message::{self, HASH, ID, KE, NONCE, SA};
use crate::{MODES, specs, up};

/// What both sides have told.
fn told(pair: &Pair) -> String {
    format!("A: {:?} B: {:?} {:?}", pair.a.log, pair.b.log, pair.b.refused)
}

/// Runs to the end and demands that nothing came up and that this was told.
#[track_caller]
fn assert_fails(mut pair: Pair, what: &str, expected: &[&str]) {
    pair.settle();
    pair.run(60);
    pair.assert_children(0);
    let up = |conn: &Option<crate::kit::twin::Twin>| conn.as_deref().is_some_and(ike::Connection::is_up);
    assert!(!up(&pair.a.conn) && !up(&pair.b.conn), "{what}: {}", told(&pair));
    assert!(pair.b.half_open.is_empty(), "{what}: a half-open connection stays");
    assert!(pair.a.registered.is_empty() && pair.b.registered.is_empty(), "{what}: an SPI stays");
    for text in expected {
        assert!(told(&pair).contains(text), "{what}: expected {text:?} in {}", told(&pair));
    }
}

#[test]
fn every_kind_of_identity_is_taken_and_a_wrong_one_refused() {
    for mode in MODES {
        for id in ["192.0.2.1", "2001:db8::1", "left.example", "left@example.com", "keyid:left"] {
            let [left, right] = specs(mode);
            let left = Spec { local_id: id, ..left };
            up(&left, &Spec { remote_id: id, ..right.clone() }).assert_children(1);
            for other in ["192.0.2.9", "2001:db8::9", "other.example", "other@example.com", "keyid:other"] {
                let pair = Pair::up(&left, &Spec { remote_id: other, ..right.clone() });
                assert_fails(pair, &format!("{mode:?} {id} is not {other}"), &[id]);
            }
            // And of the responder.
            let [left, right] = specs(mode);
            let pair = Pair::up(&left, &Spec { local_id: id, ..right });
            assert_fails(pair, &format!("{mode:?} responder {id}"), &[id, "right.example", "identity"]);
        }
    }
}

#[test]
fn proposals_without_a_common_suite_are_told_with_both_sides_values() {
    for mode in MODES {
        for (ours, theirs) in [
            ("aes256-sha256-modp2048", "aes128-sha256-modp2048"),
            ("aes256-sha256-modp2048", "aes256-sha384-modp2048"),
            ("aes256-sha256-modp2048", "aes256-sha256-ecp256"),
            ("aes256-sha256-modp2048", "3des-md5-modp1024"),
        ] {
            let [left, right] = specs(mode);
            let pair = Pair::up(&Spec { ike: vec![ours], ..left }, &Spec { ike: vec![theirs], ..right });
            assert_fails(pair, ours, &["NO_PROPOSAL_CHOSEN", "no common proposal", "modp2048"]);
        }
    }
}

#[test]
fn a_first_message_with_another_method_or_nothing_known_is_refused() {
    for mode in MODES {
        let [left, right] = specs(mode);
        for (what, kind, value, expected) in [
            ("RSA", 3, 3, "pre-shared key"),
            ("a hash nobody has", 2, 77, "no common proposal"),
            ("a group nobody has", 4, 999, "no common proposal"),
            ("a cipher nobody has", 1, 4_000, "no common proposal"),
        ] {
            let mut pair = Pair::new(&left, &right);
            pair.initiate();
            let mut first = pair.take(A);
            first.bytes = message::change(&first.bytes, SA, |sa| {
                let at = message::attribute(sa, kind);
                sa[at..at + 2].copy_from_slice(&u16::to_be_bytes(value));
            });
            pair.put(A, &first);
            let refusal = pair.take(B);
            assert_eq!(message::notifies(&refusal.bytes), [14], "{what}");
            pair.put(B, &refusal);
            // It proves nothing, and what was meant goes out once more.
            pair.run(2);
            assert!(pair.b.refused.iter().any(|why| why.contains(expected)), "{what}: {}", told(&pair));
            pair.assert_children(1);
        }
    }
}

/// Changes the answer to the first message.
fn answered(mode: Phase1, edit: impl FnOnce(&[u8]) -> Vec<u8>) -> Pair {
    let [left, right] = specs(mode);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    let mut answer = pair.take(B);
    answer.bytes = edit(&answer.bytes);
    pair.put(B, &answer);
    pair
}

#[test]
fn a_responder_that_chooses_what_was_not_offered_is_refused() {
    for mode in MODES {
        for (kind, value) in [(1, 5), (2, 1), (3, 3), (4, 2), (14, 128)] {
            let pair = answered(mode, |answer| {
                message::change(answer, SA, |sa| {
                    let at = message::attribute(sa, kind);
                    sa[at..at + 2].copy_from_slice(&u16::to_be_bytes(value));
                })
            });
            assert_fails(pair, &format!("attribute {kind}"), &["not in our offer"]);
        }
    }
}

#[test]
fn a_responder_that_chooses_two_transforms_is_refused() {
    for mode in MODES {
        let pair = answered(mode, |answer| {
            message::change(answer, SA, |sa| {
                let transform = sa[16..].to_vec();
                let mut doubled = sa[..16].to_vec();
                doubled[15] = 2;
                let length = u16::try_from(8 + 2 * transform.len()).unwrap();
                doubled[10..12].copy_from_slice(&length.to_be_bytes());
                doubled.push(3);
                doubled.extend(&transform[1..]);
                doubled.extend(&transform);
                *sa = doubled;
            })
        });
        assert_fails(pair, "two transforms", &["not in our offer"]);
    }
}

/// What does not even have the form of an answer changes nothing: the true one is still taken.
#[test]
fn an_answer_of_the_wrong_form_changes_nothing() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        pair.deliver(A);
        let answer = pair.take(B);
        let zero_spi = |m: &[u8]| [&m[..8], &[0; 8], &m[16..]].concat();
        let encrypted = |m: &[u8]| [&m[..19], &[1], &m[20..]].concat();
        let with_id = |m: &[u8]| [&m[..20], &[0, 0, 0, 9], &m[24..]].concat();
        let other_exchange =
            |m: &[u8]| [&m[..18], &[if mode == Phase1::Main { 4 } else { 2 }], &m[19..]].concat();
        let without_sa = |m: &[u8]| {
            message::with(m, &message::clear(m).into_iter().filter(|p| p.0 != SA).collect::<Vec<_>>())
        };
        let twice = |m: &[u8]| {
            let all = message::clear(m);
            message::with(m, &[all.clone(), all].concat())
        };
        let edits: [&dyn Fn(&[u8]) -> Vec<u8>; 6] =
            [&zero_spi, &encrypted, &with_id, &other_exchange, &without_sa, &twice];
        for (i, edit) in edits.iter().enumerate() {
            let bytes = edit(&answer.bytes);
            let before = pair.a.conn.as_ref().unwrap().counters().dropped;
            let datagram =
                Datagram { local: answer.remote, remote: answer.local, natt: false, bytes: &bytes };
            // Past the host, which takes one without an SPI of the responder for a first message.
            pair.a.conn.as_mut().unwrap().handle_datagram(pair.now, &mut pair.a.host, datagram);
            pair.a.drain();
            assert!(pair.a.outbox.is_empty(), "{mode:?} {i}");
            assert_eq!(pair.a.conn.as_ref().unwrap().counters().dropped, before + 1, "{mode:?} {i}");
        }
        pair.put(B, &answer);
        pair.settle();
        pair.run(3);
        pair.assert_children(1);
    }
}

#[test]
fn public_values_that_are_none_are_refused_on_both_sides() {
    for mode in MODES {
        let [left, right] = specs(mode);
        for bad in [
            vec![0; 256],
            {
                let mut one = vec![0; 256];
                one[255] = 1;
                one
            },
            vec![0xff; 256],
            vec![7; 255],
            vec![7; 257],
        ] {
            // The initiator's: in the third message, or the first.
            let mut pair = Pair::new(&left, &right);
            pair.initiate();
            if mode == Phase1::Main {
                pair.deliver(A);
                pair.deliver(B);
            }
            let mut request = pair.take(A);
            request.bytes = message::change(&request.bytes, KE, |ke| ke.clone_from(&bad));
            pair.put(A, &request);
            if mode == Phase1::Aggressive {
                // Refused without any state; the true one, which comes again, is not the worse for it.
                assert!(pair.b.half_open.is_empty() && pair.b.outbox.is_empty(), "{:?}", pair.b.refused);
                assert!(pair.b.refused[0].contains("public value"), "{:?}", pair.b.refused);
                pair.run(3);
                pair.assert_children(1);
            } else {
                assert_fails(pair, "initiator's", &["public value"]);
            }
            // The responder's.
            let mut pair = Pair::new(&left, &right);
            pair.initiate();
            pair.deliver(A);
            if mode == Phase1::Main {
                pair.deliver(B);
                pair.deliver(A);
            }
            let mut answer = pair.take(B);
            answer.bytes = message::change(&answer.bytes, KE, |ke| ke.clone_from(&bad));
            pair.put(B, &answer);
            assert_fails(pair, "responder's", &[]);
        }
    }
}

#[test]
fn a_wrong_hash_of_the_responder_is_refused_in_aggressive_mode() {
    let pair = answered(Phase1::Aggressive, |answer| message::change(answer, HASH, |hash| hash[0] ^= 1));
    assert_fails(pair, "HASH_R", &["pre-shared key"]);
    let pair = answered(Phase1::Aggressive, |answer| message::change(answer, HASH, |hash| hash.truncate(8)));
    assert_fails(pair, "HASH_R cut", &["pre-shared key"]);
    // The hash covers nonce, key and identity.
    for kind in [NONCE, ID] {
        let pair = answered(Phase1::Aggressive, |answer| {
            message::change(answer, kind, |body| *body.last_mut().unwrap() ^= 1)
        });
        assert_fails(pair, "covered by HASH_R", &["pre-shared key"]);
    }
}

/// The key went with the offer, so there is one group, whatever else is configured.
#[test]
fn another_group_than_that_of_the_key_is_refused_in_aggressive_mode() {
    let ike = vec!["aes256-sha256-modp2048-modp1536"];
    let [left, right] = specs(Phase1::Aggressive).map(|spec| Spec { ike: ike.clone(), ..spec });
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    let mut answer = pair.take(B);
    answer.bytes = message::change(&answer.bytes, SA, |sa| {
        let at = message::attribute(sa, 4);
        sa[at..at + 2].copy_from_slice(&5u16.to_be_bytes());
    });
    pair.put(B, &answer);
    assert_fails(pair, "another group", &["not in our offer"]);
}

/// The third message may be in clear (RFC 2409 section 5.4), so that its hash alone says whether the initiator has the key.
#[test]
fn a_wrong_hash_of_the_initiator_is_refused_in_aggressive_mode() {
    let [left, right] = specs(Phase1::Aggressive);
    for hash in [vec![0; 32], vec![0x5a; 32], vec![1], vec![0; 64]] {
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        pair.deliver(A);
        pair.deliver(B);
        let mut third = pair.take(A);
        third.bytes = message::with(&third.bytes, &[(HASH, hash)]);
        third.bytes[19] = 0;
        pair.put(A, &third);
        assert!(pair.b.conn.is_none() && pair.b.half_open.is_empty(), "{:?}", pair.b.refused);
        assert!(pair.b.refused[0].contains("pre-shared key"), "{:?}", pair.b.refused);
        assert_eq!(message::notifies(&pair.take(B).bytes), [23], "INVALID-HASH-INFORMATION");
    }
}

#[test]
fn damage_to_an_encrypted_proof_of_main_mode_is_noticed() {
    let [left, right] = specs(Phase1::Main);
    for at in [28, 40, 60, 75] {
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        for who in [A, B, A, B] {
            pair.deliver(who);
        }
        let mut fifth = pair.take(A);
        if let Some(octet) = fifth.bytes.get_mut(at) {
            *octet ^= 1;
        }
        pair.put(A, &fifth);
        assert_fails(pair, "fifth message", &["INVALID_HASH_INFORMATION"]);
    }
    // The sixth: whatever cannot be read is dropped, for the true one may come; one with a wrong HASH_R ends it.
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    for who in [A, B, A, B, A] {
        pair.deliver(who);
    }
    let sixth = pair.take(B);
    // HASH_R covers nothing behind itself (RFC 2409 section 5): INITIAL-CONTACT, which fills the last two blocks.
    for at in 28..sixth.bytes.len() - 32 {
        let mut forged = sixth.clone();
        forged.bytes[at] ^= 0x10;
        let mut copy = Pair::new(&left, &right);
        copy.initiate();
        for who in [A, B, A, B, A] {
            copy.deliver(who);
        }
        let _ = copy.take(B);
        // The same octets of both, for the kit draws the same.
        copy.put(B, &forged);
        assert!(!copy.a.conn.as_ref().unwrap().is_up(), "octet {at}");
    }
    pair.put(B, &sixth);
    assert!(pair.a.conn.as_ref().unwrap().is_up());
}

/// Phase 1 that is over does not change when any of its messages comes again, damaged or not.
#[test]
fn nothing_of_phase_1_changes_a_connection_that_is_up() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        let mut all = Vec::new();
        while let Some(who) = [A, B].into_iter().find(|who| !pair.side(*who).outbox.is_empty()) {
            let m = pair.take(who);
            pair.put(who, &m);
            all.push((who, m));
        }
        pair.run(2);
        pair.assert_children(1);
        let before = (pair.a.installed.clone(), pair.b.installed.clone());
        let (logs, answered) =
            ((pair.a.log.clone(), pair.b.log.clone()), pair.b.conn.as_ref().unwrap().counters());
        for (who, m) in &all {
            for damage in [None, Some(19), Some(20), Some(m.bytes.len() - 1)] {
                let mut again = m.clone();
                if let Some(at) = damage {
                    again.bytes[at] ^= 2;
                }
                pair.put(*who, &again);
                pair.settle();
            }
        }
        pair.run(40);
        assert_eq!((pair.a.installed.clone(), pair.b.installed.clone()), before, "{mode:?}");
        assert_eq!((pair.a.log.clone(), pair.b.log.clone()), logs, "{mode:?}");
        assert!(pair.b.conn.as_ref().unwrap().counters().answered_again > answered.answered_again);
        assert!(pair.b.half_open.is_empty());
        let spi = pair.spi(A);
        pair.command(A, Command::RekeyChild(spi));
        pair.settle();
        assert_eq!(pair.a.ended.last(), Some(&(spi, Ok(()))));
    }
}
