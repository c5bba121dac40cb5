//! IKE_SA_INIT and IKE_AUTH between two of our own, with everything that can differ.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::time::Duration;

use ike::config::Uniqueness;
use ike::{Command, Connection};
use kit::{A, B, Pair, Spec, ts};

#[test]
fn every_suite_and_group_comes_up() {
    for ike in [
        "aes128gcm16-prfsha256-x25519",
        "aes256gcm16-prfsha384-ecp384",
        "chacha20poly1305-prfsha512-ecp256",
        "aes128-sha256-modp2048",
        "aes256-sha512-x25519",
        "aes192-sha384-ecp256",
        "3des-md5-modp1024",
        "3des-sha1-modp1536",
    ] {
        for esp in ["aes128gcm16", "chacha20poly1305-esn", "aes256-sha256", "aes256gcm16-ecp256", "3des-sha1"]
        {
            let spec = |s: Spec| Spec { ike: vec![ike], esp: vec![esp], ..s };
            let mut pair = Pair::up(&spec(Spec::left()), &spec(Spec::right()));
            pair.assert_children(1);
            pair.assert_ike(1);
            pair.assert_alive();
            for who in [A, B] {
                pair.command(who, Command::RekeyIke);
                pair.settle();
                pair.assert_ike(1);
                pair.assert_alive();
            }
        }
    }
}

#[test]
fn the_group_of_the_responder_is_tried_next() {
    let left = Spec { ike: vec!["aes128gcm16-prfsha256-x25519-ecp256"], ..Spec::left() };
    let right = Spec { ike: vec!["aes128gcm16-prfsha256-ecp256"], ..Spec::right() };
    let mut pair = Pair::up(&left, &right);
    pair.assert_children(1);
    assert!(pair.b.refused[0].contains("ecp256 (19) is wanted"), "{:?}", pair.b.refused);
    pair.assert_alive();
}

#[test]
fn a_wrong_key_is_told_on_both_sides() {
    let mut pair = Pair::up(&Spec { psk: b"other", ..Spec::left() }, &Spec::right());
    assert!(
        pair.b.log.iter().any(|l| l.contains("left.example failed: the pre-shared keys differ")),
        "{:?}",
        pair.b.log
    );
    assert!(pair.a.log.iter().any(|l| l.contains("AUTHENTICATION_FAILED")), "{:?}", pair.a.log);
    pair.assert_children(0);
    pair.run(60);
    assert!(pair.a.conn.as_deref().is_some_and(Connection::is_finished));
    assert!(pair.b.conn.as_deref().is_some_and(Connection::is_finished));
}

#[test]
fn an_unknown_identity_is_named() {
    let pair = Pair::up(&Spec { local_id: "stranger.example", ..Spec::left() }, &Spec::right());
    assert!(pair.b.log.iter().any(|l| l.contains("stranger.example")), "{:?}", pair.b.log);
    pair.assert_children(0);
}

#[test]
fn proposals_without_overlap_are_both_named() {
    let left = Spec { ike: vec!["aes256gcm16-prfsha512-ecp384"], ..Spec::left() };
    let mut pair = Pair::up(&left, &Spec::right());
    assert!(pair.a.log.is_empty(), "an answer that proves nothing is not the last word: {:?}", pair.a.log);
    pair.run(2);
    let text = &pair.b.refused[0];
    assert!(
        text.contains("aes256gcm16-prfsha512-ecp384") && text.contains("aes128gcm16-prfsha256-x25519"),
        "{text}"
    );
    assert!(pair.a.log.iter().any(|l| l.contains("NO_PROPOSAL_CHOSEN")), "{:?}", pair.a.log);
}

#[test]
fn selectors_without_overlap_leave_the_ike_sa_up() {
    let left = Spec { remote: vec![ts("10.9.0.0", "10.9.0.255")], ..Spec::left() };
    let pair = Pair::up(&left, &Spec::right());
    pair.assert_children(0);
    pair.assert_ike(1);
    assert!(
        pair.a.log.iter().any(|l| l.contains("10.9.0.0/24") && l.contains("TS_UNACCEPTABLE")),
        "{:?}",
        pair.a.log
    );
    assert!(
        pair.b.log.iter().any(|l| l.contains("10.9.0.0/24") && l.contains("10.2.0.0/16")),
        "{:?}",
        pair.b.log
    );
}

#[test]
fn esp_proposals_without_overlap_are_named() {
    let pair = Pair::up(&Spec { esp: vec!["aes256-sha256"], ..Spec::left() }, &Spec::right());
    assert!(
        pair.b.log.iter().any(|l| l.contains("aes256-sha256") && l.contains("aes128gcm16")),
        "{:?}",
        pair.b.log
    );
    assert!(pair.a.log.iter().any(|l| l.contains("NO_PROPOSAL_CHOSEN")), "{:?}", pair.a.log);
}

#[test]
fn a_wider_offer_is_narrowed() {
    let left = Spec { remote: vec![ts("0.0.0.0", "255.255.255.255")], ..Spec::left() };
    Pair::up(&left, &Spec::right()).assert_children(1);
}

#[test]
fn lost_messages_are_sent_again_on_either_way() {
    for lost in 0..4 {
        let mut pair = Pair::new(&Spec::left(), &Spec::right());
        pair.initiate();
        for step in 0..4 {
            let from = if step % 2 == 0 { A } else { B };
            if step == lost {
                pair.take(from);
                break;
            }
            pair.deliver(from);
        }
        pair.run(5);
        pair.assert_children(1);
        pair.assert_ike(1);
    }
}

#[test]
fn nobody_answers() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.a.outbox.len(), 6);
    assert!(
        pair.a.log[0].contains("no answer to IKE_SA_INIT from 192.0.2.2:500 after 6"),
        "{:?}",
        pair.a.log
    );
    pair.pass(Duration::from_secs(60));
    assert!(pair.a.conn.as_deref().is_some_and(Connection::is_finished));
}

#[test]
fn liveness_keeps_an_idle_connection_and_ends_a_dead_one() {
    let spec = |s: Spec| Spec { dpd: Duration::from_secs(30), ..s };
    let mut pair = Pair::up(&spec(Spec::left()), &spec(Spec::right()));
    pair.run(300);
    pair.assert_children(1);
    pair.b.conn = None;
    pair.pass(Duration::from_secs(120));
    assert!(pair.a.log.iter().any(|l| l.contains("no answer to INFORMATIONAL")), "{:?}", pair.a.log);
    assert!(pair.a.installed.is_empty());
}

#[test]
fn a_close_is_answered_and_removes_everything() {
    for who in [A, B] {
        let mut pair = Pair::up(&Spec::left(), &Spec::right());
        pair.command(who, Command::Close);
        pair.settle();
        pair.assert_children(0);
        pair.run(30);
        assert!(pair.a.conn.as_deref().is_some_and(Connection::is_finished));
        assert!(pair.b.conn.as_deref().is_some_and(Connection::is_finished));
    }
}

#[test]
fn the_end_of_the_hard_lifetime_is_told_to_the_peer() {
    for who in [A, B] {
        let mut pair = Pair::up(&Spec::left(), &Spec::right());
        let now = pair.now;
        let side = pair.side(who);
        side.conn.as_mut().unwrap().expire(now, &mut side.host);
        side.drain();
        assert!(side.installed.is_empty(), "no key outlives its SA");
        pair.settle();
        pair.assert_children(0);
        pair.run(30);
        for side in [&pair.a, &pair.b] {
            assert!(side.conn.as_deref().is_some_and(Connection::is_finished), "{:?}", side.log);
        }
    }
}

#[test]
fn damaged_messages_change_nothing() {
    for ike in ["aes128gcm16-prfsha256-x25519", "aes128-sha256-x25519", "chacha20poly1305-prfsha256-x25519"] {
        let spec = |s: Spec| Spec { ike: vec![ike], ..s };
        let mut pair = Pair::up(&spec(Spec::left()), &spec(Spec::right()));
        let spi = pair.spi(A);
        pair.command(A, Command::RekeyChild(spi));
        let good = pair.take(A);
        for at in 0..good.bytes.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad.bytes[at] ^= 1 << bit;
                pair.put(A, &bad);
                let mut short = good.clone();
                short.bytes.truncate(at);
                pair.put(A, &short);
            }
        }
        assert!(pair.b.outbox.is_empty(), "{ike}: nothing damaged was answered");
        pair.put(A, &good);
        pair.settle();
        pair.assert_children(1);
        pair.assert_ike(1);
    }
}

#[test]
fn damaged_first_messages_never_panic_and_never_come_up() {
    let fresh = || {
        let mut pair = Pair::new(&Spec::left(), &Spec::right());
        pair.initiate();
        pair
    };
    let first = fresh().take(A);
    for at in 0..first.bytes.len() {
        for bit in 0..8 {
            let mut pair = fresh();
            let mut bad = pair.take(A);
            bad.bytes[at] ^= 1 << bit;
            pair.put(A, &bad);
            pair.settle();
            // Both sign the first message as they saw it, so the two views must differ in AUTH.
            pair.assert_children(0);
        }
    }
}

/// The responder is up as soon as it has sent its answer. If that is lost, whatever it asks for next reaches an
/// initiator that has not authenticated it.
#[test]
fn an_initiator_serves_nothing_before_the_peer_is_authenticated() {
    let commands =
        |spi| [Command::RekeyIke, Command::RekeyChild(spi), Command::DeleteChild(spi), Command::Close];
    for which in 0..4 {
        let mut pair = Pair::new(&Spec::left(), &Spec::right());
        pair.initiate();
        pair.deliver(A);
        pair.deliver(B);
        pair.deliver(A);
        pair.take(B);
        let spi = pair.spi(B);
        let command = commands(spi)[which].clone();
        pair.command(B, command);
        pair.deliver(B);
        assert!(pair.a.outbox.is_empty(), "no answer");
        assert_eq!(pair.a.conn.as_ref().unwrap().ike_sas(), 1);
        pair.run(60);
        if which < 2 {
            pair.assert_ike(1);
            pair.assert_children(1);
            pair.assert_alive();
        } else {
            pair.assert_children(0);
        }
    }
}

#[test]
fn a_second_connection_is_refused_where_the_first_is_kept() {
    for (uniqueness, up, refused) in [
        (Uniqueness::Keep, Some("192.0.2.9:500"), true),
        (Uniqueness::Keep, Some("192.0.2.1:500"), false),
        (Uniqueness::Keep, None, false),
        (Uniqueness::Replace, Some("192.0.2.9:500"), false),
    ] {
        let mut pair = Pair::new(&Spec::left(), &Spec { uniqueness, ..Spec::right() });
        pair.b.host.connected = up.map(|up| up.parse().unwrap());
        pair.initiate();
        pair.settle();
        let is_up = |side: &kit::Side| side.conn.as_ref().unwrap().is_up();
        assert_eq!((is_up(&pair.a), is_up(&pair.b)), (!refused, !refused), "{uniqueness:?} {up:?}");
        pair.assert_children(usize::from(!refused));
        if refused {
            assert!(pair.a.log[0].contains("AUTHENTICATION_FAILED"), "{:?}", pair.a.log);
            assert!(pair.b.log[0].contains("is connected from 192.0.2.9:500"), "{:?}", pair.b.log);
        }
    }
}

#[test]
fn who_cannot_authenticate_does_not_learn_who_is_connected() {
    let left = Spec { psk: b"wrong", ..Spec::left() };
    let mut pair = Pair::new(&left, &Spec { uniqueness: Uniqueness::Keep, ..Spec::right() });
    pair.b.host.connected = Some("192.0.2.9:500".parse().unwrap());
    pair.initiate();
    pair.settle();
    assert!(pair.b.log[0].contains("the pre-shared keys differ"), "{:?}", pair.b.log);
}

#[test]
fn no_iv_of_an_aead_is_used_twice() {
    for ike in ["aes128gcm16-prfsha256-x25519", "chacha20poly1305-prfsha512-ecp256"] {
        let spec = |s: Spec| Spec { ike: vec![ike], ..s };
        let mut pair = Pair::up(&spec(Spec::left()), &spec(Spec::right()));
        let mut ivs = std::collections::BTreeSet::new();
        for _ in 0..20 {
            pair.command(A, Command::Probe);
            let request = pair.take(A);
            pair.put(A, &request);
            let answer = pair.take(B);
            pair.put(B, &answer);
            for (from, message) in [(0, request), (1, answer)] {
                // Behind the header and the generic header of the encrypted payload.
                assert!(ivs.insert((from, message.bytes[32..40].to_vec())), "an IV twice");
            }
        }
    }
}

#[test]
fn what_was_chosen_before_the_peer_was_known_must_be_one_of_its_own_proposals() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    // Another peer of this address allows what the first message offers; this one does not.
    pair.b.host.peer = Spec { ike: vec!["aes256gcm16-prfsha384-x25519"], ..Spec::right() }.config();
    pair.initiate();
    pair.settle();
    assert!(pair.b.log[0].contains("no common proposal"), "{:?}", pair.b.log);
    pair.assert_children(0);
}

#[test]
fn closes_that_cross_are_both_answered() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    for who in [A, B] {
        pair.command(who, Command::Close);
    }
    let deletes = [pair.take(A), pair.take(B)];
    for (from, delete) in [A, B].into_iter().zip(&deletes) {
        pair.put(from, delete);
    }
    // An answer each, so that nobody asks again.
    assert_eq!((pair.a.outbox.len(), pair.b.outbox.len()), (1, 1));
    pair.settle();
    pair.pass(Duration::from_secs(60));
    assert!(pair.a.outbox.is_empty() && pair.b.outbox.is_empty());
    assert!([&pair.a, &pair.b].iter().all(|side| side.conn.as_ref().unwrap().is_finished()));
}

#[test]
fn a_peer_that_is_not_ready_yet_is_served_by_the_retransmission() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.b.host.peer_not_ready = true;
    pair.initiate();
    pair.settle();
    assert!(pair.b.log.is_empty() && pair.a.log.is_empty(), "nobody was refused");
    pair.b.host.peer_not_ready = false;
    pair.run(2);
    pair.assert_children(1);
    pair.assert_alive();
}

/// Peers differ in whether a rekey has a key exchange of its own: some insist on it, some know none.
#[test]
fn a_key_exchange_that_is_optional_suits_every_peer() {
    let optional = "aes128gcm16-x25519-ecp256-modp2048-nopfs";
    for other in ["aes128gcm16", "aes128gcm16-modp2048", "aes128gcm16-x25519", optional] {
        for (left, right) in [(optional, other), (other, optional)] {
            let spec = |s: Spec, esp: &'static str| Spec { esp: vec![esp], ..s };
            let mut pair = Pair::up(&spec(Spec::left(), left), &spec(Spec::right(), right));
            pair.assert_children(1);
            pair.assert_alive();
            pair.assert_alive();
            let failed = pair.a.log.iter().chain(&pair.b.log).filter(|line| line.contains("failed"));
            assert_eq!(failed.count(), 0, "{left} and {right}: {:?} {:?}", pair.a.log, pair.b.log);
        }
    }
    let spec = |s: Spec, esp: &'static str| Spec { esp: vec![esp], ..s };
    let mut pair =
        Pair::up(&spec(Spec::left(), "aes128gcm16-x25519"), &spec(Spec::right(), "aes128gcm16-nopfs"));
    let spi = pair.spi(A);
    pair.command(A, Command::RekeyChild(spi));
    pair.settle();
    assert!(pair.a.log.iter().any(|line| line.contains("NO_PROPOSAL_CHOSEN")), "{:?}", pair.a.log);
}

/// There are peers that refuse a wrong guess of the group without saying which it should be.
#[test]
fn the_group_that_was_used_before_is_guessed() {
    let spec = |s: Spec| Spec {
        ike: vec!["aes128gcm16-prfsha256-ecp256"],
        esp: vec!["aes128gcm16-x25519-ecp256-ecp384"],
        ..s
    };
    let right = Spec { esp: vec!["aes128gcm16-ecp384"], ..spec(Spec::right()) };
    let mut pair = Pair::up(&spec(Spec::left()), &right);
    let rekey = |pair: &mut Pair| {
        let (spi, before) = (pair.spi(A), pair.a.host.draws.len());
        pair.command(A, Command::RekeyChild(spi));
        let asked = pair.take(A);
        pair.put(A, &asked);
        pair.settle();
        pair.assert_children(1);
        // A private value and a nonce; with a second guess one more value.
        pair.a.host.draws.len() - before
    };
    // The IKE_SA's group is guessed; the other side wants another one and says so.
    assert!(rekey(&mut pair) > 2);
    // From then on that one is guessed.
    assert_eq!(rekey(&mut pair), 2);
}

#[test]
fn without_a_free_spi_the_first_policy_is_made_later() {
    for count in [1, 3] {
        let [left, right] = Spec::with_policies(count);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        pair.a.host.free_spis = false;
        pair.settle();
        assert!(pair.a.conn.as_ref().unwrap().is_up());
        pair.assert_children(0);
        let told = pair.a.log.iter().filter(|line| line.contains("no SPI is free")).count();
        assert_eq!(told, usize::from(count), "{:?}", pair.a.log);
        pair.a.host.free_spis = true;
        pair.run(10);
        pair.assert_children(usize::from(count));
    }
}
