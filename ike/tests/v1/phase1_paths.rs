//! Phase 1 over bad paths: messages lost and repeated, strangers, and what a responder spends on them.

use std::time::Duration;

use ike::config::{Phase1, Uniqueness};
use ike::reception::Budget;
use ike::verbs::MAX_CANDIDATES;
use ike::{Command, Connection};

use crate::kit::{A, B, Pair, Spec, Who};
use crate::message;
use crate::{MODES, specs, up};

fn is_up(conn: &Option<crate::kit::twin::Twin>) -> bool {
    conn.as_deref().is_some_and(Connection::is_up)
}

/// Runs the exchange with the `number`-th message of phase 1 treated so.
fn with_message(mode: Phase1, number: usize, treat: impl Fn(&mut Pair, Who)) -> Pair {
    let [left, right] = specs(mode);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    for at in 1..number {
        pair.deliver(if at % 2 == 1 { A } else { B });
    }
    treat(&mut pair, if number % 2 == 1 { A } else { B });
    pair
}

fn messages(mode: Phase1) -> usize {
    if mode == Phase1::Main { 6 } else { 3 }
}

#[test]
fn any_one_message_may_be_lost() {
    for mode in MODES {
        for number in 1..=messages(mode) {
            for times in 1..=2 {
                let mut pair = with_message(mode, number, |pair, from| drop(pair.take(from)));
                for _ in 1..times {
                    // What is sent again is lost once more.
                    while pair.a.outbox.is_empty() && pair.b.outbox.is_empty() {
                        pair.pass(Duration::from_millis(100));
                    }
                    pair.a.outbox.clear();
                    pair.b.outbox.clear();
                }
                pair.settle();
                pair.run(25);
                pair.assert_children(1);
                assert!(is_up(&pair.a.conn) && is_up(&pair.b.conn), "{mode:?} {number} {times}");
                assert!(pair.b.half_open.is_empty());
            }
        }
    }
}

#[test]
fn any_one_message_may_come_twice() {
    for mode in MODES {
        for number in 1..=messages(mode) {
            let mut pair = with_message(mode, number, |pair, from| {
                let m = pair.take(from);
                pair.put(from, &m);
                pair.put(from, &m);
            });
            pair.settle();
            pair.run(4);
            pair.assert_children(1);
            pair.assert_ike(1);
        }
    }
}

/// Nothing but message `number` comes any more: both sides give up in time and leave nothing behind.
#[test]
fn a_peer_that_falls_silent_is_given_up_by_both() {
    for mode in MODES {
        for number in 2..messages(mode) {
            let mut pair = with_message(mode, number, |_, _| {});
            for _ in 0..100 {
                pair.a.outbox.clear();
                pair.b.outbox.clear();
                pair.pass(Duration::from_secs(1));
            }
            assert!(pair.a.conn.as_ref().unwrap().is_finished(), "{mode:?} {number}");
            assert!(pair.b.half_open.is_empty() && pair.b.conn.is_none(), "{mode:?} {number}");
            assert!(pair.a.registered.is_empty() && pair.b.registered.is_empty());
            assert!(
                pair.a.log[0].contains("after 6 transmissions") || pair.a.log[0].contains("key"),
                "{:?}",
                pair.a.log
            );
            assert!(pair.b.refused.iter().any(|r| r.contains("did not finish")), "{:?}", pair.b.refused);
        }
    }
}

#[test]
fn a_half_open_negotiation_ends_after_thirty_seconds_sharp() {
    for mode in MODES {
        let mut pair = with_message(mode, 2, |_, _| {});
        pair.pass(Duration::from_millis(29_900));
        assert_eq!(pair.b.half_open.len(), 1);
        pair.pass(Duration::from_millis(200));
        assert_eq!(pair.b.half_open.len(), 0);
    }
}

/// Whoever has not proved its address is never sent more than it has sent, but for the one answer of aggressive mode, and that
/// is hardly more.
#[test]
fn nobody_is_made_to_send_more_than_it_gets() {
    for mode in MODES {
        let [left, right] = specs(mode);
        // The largest offer, and the smallest, with no vendor IDs.
        for bare in [false, true] {
            let mut pair = Pair::new(&left, &right);
            pair.initiate();
            let mut first = pair.take(A);
            if bare {
                let all = message::clear(&first.bytes);
                let kept: Vec<_> = all.into_iter().filter(|p| p.0 != message::VENDOR).collect();
                first.bytes = message::with(&first.bytes, &kept);
            }
            let (mut came, mut went, mut answers) = (0, 0, 0);
            for _ in 0..60 {
                pair.put(A, &first);
                came += first.bytes.len();
                while let Some(answer) = pair.b.outbox.pop_front() {
                    went += answer.bytes.len();
                    answers += 1;
                }
                let first_answer = mode == Phase1::Aggressive && answers == 1;
                assert!(
                    went <= came || (first_answer && went <= came * 3 / 2),
                    "{mode:?}: {went} for {came}"
                );
                pair.pass(Duration::from_millis(400));
            }
            assert!(answers > 20, "{mode:?} {bare}: a lost answer is sent again, {answers}");
        }
    }
}

/// CVE-2016-5361: a responder sends nothing by itself.
#[test]
fn p1f_a_responder_does_not_send_again_by_itself() {
    for mode in MODES {
        for number in (2..=messages(mode)).step_by(2) {
            let mut pair = with_message(mode, number, |_, _| {});
            pair.b.outbox.clear();
            pair.a.conn = None;
            pair.pass(Duration::from_secs(29));
            assert!(pair.b.outbox.is_empty(), "{mode:?} {number}");
        }
    }
}

/// Aggressive mode: who is called by an identity that nobody has gets an answer of the same form, at the same cost.
#[test]
fn a_stranger_is_answered_as_a_known_peer_is() {
    let [left, right] = specs(Phase1::Aggressive);
    let answer = |id: &'static str| {
        let mut pair = Pair::new(&Spec { local_id: id, ..left.clone() }, &right);
        pair.initiate();
        pair.deliver(A);
        let draws = pair.b.host.draws.iter().map(Vec::len).collect::<Vec<_>>();
        let bytes = pair.take(B).bytes;
        let cost = pair.b.half_open[0].conn.take_cost();
        let form: Vec<_> =
            message::clear(&bytes).into_iter().map(|(kind, body)| (kind, body.len())).collect();
        let id = message::clear(&bytes).into_iter().find(|p| p.0 == message::ID).unwrap().1;
        (form, id, cost, draws, pair)
    };
    let known = answer("left.example");
    let stranger = answer("nobody.example");
    assert_eq!((&known.0, &known.1, known.2, &known.3), (&stranger.0, &stranger.1, stranger.2, &stranger.3));
    assert!(known.2 > 0, "an exchange is on its account");
    let _ = std::mem::size_of::<Budget>();
    // Nothing comes of it, and the responder is told who it was.
    let mut pair = stranger.4;
    pair.run(60);
    pair.assert_children(0);
    assert!(pair.b.refused.iter().any(|r| r.contains("nobody.example")), "{:?}", pair.b.refused);
}

/// The stranger's third message, whatever key it has, does not get further than that of a wrong key.
#[test]
fn a_stranger_with_the_right_key_is_refused() {
    let [left, right] = specs(Phase1::Aggressive);
    let mut pair = Pair::new(&Spec { local_id: "nobody.example", ..left }, &right);
    pair.initiate();
    pair.settle();
    pair.run(60);
    assert!(!is_up(&pair.a.conn) && pair.b.conn.is_none() && pair.b.half_open.is_empty());
    pair.assert_children(0);
}

#[test]
fn of_several_peers_that_may_come_from_there_the_one_whose_key_fits_is_found() {
    for mode in MODES {
        let [left, right] = specs(mode);
        for at in 0..3 {
            let mut pair = Pair::new(&left, &right);
            let keys: [&'static [u8]; 2] = [b"one", b"two"];
            let other = |n: usize| {
                Spec { psk: keys[n], remote_id: ["one.example", "two.example"][n], ..right.clone() }.config()
            };
            pair.b.host.others = (0..2).map(other).collect();
            if at > 0 {
                let (first, fits) = (pair.b.host.others[at - 1].clone(), pair.b.host.peer.clone());
                pair.b.host.others[at - 1] = fits;
                pair.b.host.peer = first;
            }
            pair.initiate();
            pair.settle();
            pair.run(3);
            pair.assert_children(1);
            let found = pair.b.conn.as_ref().unwrap().config().unwrap().remote_id.clone();
            assert_eq!(found, "left.example".parse().unwrap());
        }
    }
}

/// The key decides, and then the identity: two with the same key are told apart.
#[test]
fn of_two_with_one_key_the_identity_decides() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = Pair::new(&left, &right);
    pair.b.host.others = vec![pair.b.host.peer.clone()];
    pair.b.host.peer = Spec { remote_id: "one.example", ..right.clone() }.config();
    pair.initiate();
    pair.settle();
    pair.run(3);
    pair.assert_children(1);
    // One whose identity fits but not its key is not the one.
    let mut pair = Pair::new(&left, &Spec { psk: b"other", ..right.clone() });
    pair.b.host.others = vec![Spec { remote_id: "one.example", ..right }.config()];
    pair.initiate();
    pair.settle();
    pair.run(60);
    pair.assert_children(0);
    assert!(pair.b.conn.is_none(), "{:?}", pair.b.log);
}

/// No more keys are tried than the bound.
#[test]
fn who_is_beyond_the_bound_of_candidates_is_not_tried() {
    for (before, comes_up) in [(MAX_CANDIDATES - 1, true), (MAX_CANDIDATES, false)] {
        let [left, right] = specs(Phase1::Main);
        let mut pair = Pair::new(&left, &right);
        let fits = pair.b.host.peer.clone();
        let other = Spec { psk: b"other", remote_id: "other.example", ..right }.config();
        pair.b.host.peer = other.clone();
        pair.b.host.others = vec![other; before - 1];
        pair.b.host.others.push(fits);
        pair.initiate();
        pair.settle();
        pair.run(5);
        assert_eq!(is_up(&pair.a.conn), comes_up);
    }
}

#[test]
fn while_it_is_not_known_who_is_configured_nothing_is_refused() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.b.host.peer_not_ready = true;
        pair.initiate();
        pair.settle();
        pair.run(3);
        assert!(pair.a.log.is_empty(), "{mode:?}: {:?}", pair.a.log);
        pair.b.host.peer_not_ready = false;
        pair.run(20);
        pair.assert_children(1);
    }
}

#[test]
fn the_older_connection_is_kept_where_that_is_configured() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let right = Spec { uniqueness: Uniqueness::Keep, ..right };
        for (other, comes_up) in [("203.0.113.9:500", false), ("192.0.2.1:4500", true)] {
            let mut pair = Pair::new(&left, &right);
            pair.b.host.connected = Some(other.parse().unwrap());
            pair.initiate();
            pair.settle();
            pair.run(60);
            assert_eq!(is_up(&pair.a.conn), comes_up, "{mode:?} {other}");
            assert!(comes_up || pair.b.refused.iter().any(|r| r.contains(other.rsplit_once(':').unwrap().0)));
        }
    }
}

#[test]
fn where_nobody_answers_a_first_message_is_sent_once_if_so_wanted() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        pair.command(A, Command::Once);
        pair.pass(Duration::from_secs(60));
        assert_eq!(pair.a.outbox.len(), 1, "{mode:?}");
        assert!(pair.a.conn.as_ref().unwrap().is_finished());
        // Who answers is spoken to as often as needed.
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        pair.command(A, Command::Once);
        pair.deliver(A);
        pair.deliver(B);
        let _ = pair.take(A);
        pair.run(10);
        pair.assert_children(1);
    }
}

/// libreswan CVE-2023-30570: refused, and then a message to the SPI that nothing is kept under.
#[test]
fn p1f_after_a_refusal_in_aggressive_mode_nothing_is_kept() {
    let [left, right] = specs(Phase1::Aggressive);
    let mut pair = Pair::new(&left, &Spec { ike: vec!["3des-md5-modp1024"], ..right });
    pair.initiate();
    let first = pair.take(A);
    pair.put(A, &first);
    assert!(pair.b.half_open.is_empty() && pair.b.registered.is_empty());
    for spi_r in [[0; 8], [1; 8], [0, 0, 0, 0, 0, 0, 0x20, 1]] {
        let mut second = first.clone();
        second.bytes[8..16].copy_from_slice(&spi_r);
        pair.put(A, &second);
        assert!(pair.b.half_open.is_empty() && pair.b.conn.is_none());
    }
}

/// libreswan CVE-2020-1763, CVE-2022-23094: Informational and nonsense without any state.
#[test]
fn p1f_an_informational_without_any_state_is_dropped() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    let first = pair.take(A);
    for exchange in [message::INFORMATIONAL, message::QUICK, 3, 6, 33, 255] {
        for flags in 0..4 {
            for id in [0u32, 7] {
                let mut m = first.clone();
                m.bytes[18] = exchange;
                m.bytes[19] = flags;
                m.bytes[20..24].copy_from_slice(&id.to_be_bytes());
                pair.put(A, &m);
            }
        }
    }
    assert!(pair.b.half_open.is_empty() && pair.b.outbox.is_empty());
}

/// libreswan CVE-2019-12312 for IKEv1, and the rest of phase 2: not before phase 1 is done.
#[test]
fn p1f_nothing_of_phase_2_is_looked_at_before_phase_1_is_done() {
    for mode in MODES {
        for number in 2..=messages(mode) {
            let mut pair = with_message(mode, number, |_, _| {});
            if pair.b.half_open.is_empty() {
                continue;
            }
            let held: Vec<_> = pair.b.outbox.drain(..).collect();
            let spis = pair.b.half_open[0].conn.spis();
            for exchange in [message::QUICK, message::INFORMATIONAL] {
                for encrypted in [0, 1, 3] {
                    let mut bytes = [spis.1.to_be_bytes(), spis.0.to_be_bytes()].concat();
                    bytes.extend([8, 0x10, exchange, encrypted, 0, 0, 0, 5, 0, 0, 0, 60]);
                    bytes.extend([0x5a; 32]);
                    let template = ike::Transmit {
                        local: pair.a.addr,
                        remote: pair.b.addr,
                        natt: false,
                        keepalive: false,
                        bytes,
                    };
                    pair.put(A, &template);
                    // At the most what was said last is said again.
                    let answers: Vec<_> = pair.b.outbox.drain(..).collect();
                    assert!(
                        answers
                            .iter()
                            .all(|m| message::exchange(&m.bytes) == if mode == Phase1::Main { 2 } else { 4 })
                    );
                    assert!(pair.b.conn.is_none() && pair.b.installed.is_empty(), "{mode:?} {number}");
                }
            }
            // And it goes on.
            for m in held {
                pair.put(B, &m);
            }
            pair.settle();
            pair.run(5);
            pair.assert_children(1);
        }
    }
}

/// libreswan CVE-2024-2357: nobody has a key for who asks.
#[test]
fn p1f_a_peer_without_a_key_leaves_nothing_behind() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.b.host.peer = Spec { ..right.clone() }
            .v1(if mode == Phase1::Main { Phase1::Aggressive } else { Phase1::Main })
            .config();
        pair.initiate();
        pair.settle();
        pair.run(60);
        assert!(pair.b.conn.is_none() && pair.b.half_open.is_empty() && pair.b.registered.is_empty());
        assert!(!pair.b.refused.is_empty());
    }
}

#[test]
fn a_refusal_in_clear_ends_the_first_phase_1_and_does_not_touch_what_is_up() {
    let [left, right] = specs(Phase1::Main);
    // As B makes it for a proposal that it does not take.
    let mut other = Pair::new(&left, &Spec { ike: vec!["3des-md5-modp1024"], ..right.clone() });
    other.initiate();
    other.deliver(A);
    let refusal = other.take(B);
    assert_eq!(message::notifies(&refusal.bytes), [14]);
    let mut pair = up(&left, &right);
    let spis = pair.a.conn.as_ref().unwrap().spis();
    let mut forged = refusal;
    forged.bytes[..8].copy_from_slice(&spis.0.to_be_bytes());
    for spi_r in [0, spis.1] {
        forged.bytes[8..16].copy_from_slice(&spi_r.to_be_bytes());
        pair.put(B, &forged);
    }
    pair.run(5);
    pair.assert_children(1);
    assert!(is_up(&pair.a.conn));
    // One that is being renewed stays as it is, and is tried again.
    pair.command(A, Command::RekeyIke);
    let first = pair.take(A);
    forged.bytes[..16].copy_from_slice(&[&first.bytes[..8], &[0; 8]].concat());
    pair.put(B, &forged);
    pair.pass(Duration::from_secs(2));
    assert!(is_up(&pair.a.conn) && pair.a.log.last().unwrap().contains("not rekeyed"), "{:?}", pair.a.log);
    pair.run(30);
    pair.assert_children(1);
    assert_eq!(pair.a.log.last().unwrap(), "ike rekeyed by us");
}
