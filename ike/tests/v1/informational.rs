//! Notifies and deletes, with a peer that has the keys: what is believed, and what is not.

use std::time::Duration;

use ike::config::Phase1;
use ike::{Command, Connection};

use crate::kit::{A, B, Pair, Spec};
use crate::message::HASH;
use crate::peer::{self, How, INFORM, QUICK};
use crate::{MODES, message, specs, up};

const R_U_THERE: u16 = 36_136;
const R_U_THERE_ACK: u16 = 36_137;
const INITIAL_CONTACT: u16 = 24_578;
const ESP: u8 = 3;
const IKE: u8 = 1;

fn pair() -> Pair {
    let [left, right] = specs(Phase1::Main);
    up(&left, &right)
}

fn with_dpd(seconds: [u64; 2]) -> Pair {
    let [left, right] = specs(Phase1::Main);
    let dpd = |spec: Spec, s| Spec { dpd: Duration::from_secs(s), ..spec };
    up(&dpd(left, seconds[0]), &dpd(right, seconds[1]))
}

fn is_up(pair: &Pair) -> [bool; 2] {
    [&pair.a, &pair.b].map(|side| side.conn.as_deref().is_some_and(Connection::is_up))
}

#[test]
fn a_silent_peer_is_asked_and_given_up() {
    for dpd in [[10, 0], [0, 10]] {
        let pair = &mut with_dpd(dpd);
        pair.run(100);
        assert_eq!(is_up(pair), [true; 2], "who answers stays");
        pair.assert_children(1);
        // Nothing arrives any more, nor is a new phase 1 answered.
        for _ in 0..90 {
            pair.pass(Duration::from_secs(1));
            pair.a.outbox.clear();
            pair.b.outbox.clear();
        }
        assert_eq!(is_up(pair), [dpd[0] == 0, dpd[1] == 0]);
        let asker = if dpd[0] > 0 { &pair.a } else { &pair.b };
        assert!(asker.log.last().unwrap().contains("no answer"), "{:?}", asker.log);
        assert!(asker.asked > 0, "the host was asked first");
    }
}

#[test]
fn a_host_that_has_seen_packets_need_not_ask() {
    let pair = &mut with_dpd([10, 0]);
    for _ in 0..60 {
        pair.pass(Duration::from_secs(1));
        let now = pair.now;
        pair.command(A, Command::Heard(Some(now)));
        assert!(pair.a.outbox.is_empty());
    }
    assert!(pair.a.asked > 0);
}

#[test]
fn only_the_answer_to_what_was_asked_counts() {
    let pair = &mut with_dpd([10, 0]);
    while pair.a.outbox.is_empty() {
        pair.pass(Duration::from_secs(1));
    }
    let question = pair.take(A);
    let (parts, _) = peer::open(pair, &question.bytes, None);
    let number = u32::from_be_bytes(parts[1].1[24..28].try_into().unwrap());
    let cookies = peer::cookies(pair);
    let strange = [
        number.wrapping_sub(1).to_be_bytes().to_vec(),
        (number + 9).to_be_bytes().to_vec(),
        vec![],
        vec![0; 8],
    ];
    for (id, data) in (900..).zip(strange) {
        let ack = peer::notify(R_U_THERE_ACK, IKE, &cookies, &data);
        let forged = peer::seal(pair, How { id, ..INFORM }, &[ack]).0;
        peer::inject(pair, B, &forged);
    }
    // The same question once more, not another one an interval later.
    while pair.a.outbox.is_empty() {
        pair.pass(Duration::from_secs(1));
    }
    let question = pair.take(A);
    let (parts, _) = peer::open(pair, &question.bytes, None);
    assert_eq!(parts[1].1[24..28], (number + 1).to_be_bytes());
    for _ in 0..60 {
        pair.a.outbox.clear();
        pair.pass(Duration::from_secs(1));
    }
    assert_eq!(is_up(pair), [false, true], "{:?}", pair.a.log);
}

#[test]
fn a_question_is_answered_with_its_number_and_a_strange_one_is_not() {
    let pair = &mut pair();
    let cookies = peer::cookies(pair);
    for (id, data, answered) in [(1, vec![1, 2, 3, 4], true), (2, vec![], false), (3, vec![0; 5], false)] {
        let question = peer::notify(R_U_THERE, IKE, &cookies, &data);
        let sealed = peer::seal(pair, How { id, ..INFORM }, &[question]).0;
        peer::inject(pair, A, &sealed);
        assert_eq!(pair.b.outbox.len(), usize::from(answered));
        if answered {
            let answer = pair.take(B);
            let (parts, _) = peer::open(pair, &answer.bytes, None);
            assert_eq!(parts[1], peer::notify(R_U_THERE_ACK, IKE, &cookies, &data));
        }
        peer::assert_dropped(pair, A, &sealed, "the question once more");
    }
}

/// CVE-2019-10155 and the like: HASH is what proves an Informational.
#[test]
fn p1f_an_informational_without_its_hash_is_dropped() {
    let pair = &mut pair();
    let spi = pair.spi(A);
    let delete = peer::delete(ESP, &[&spi.to_be_bytes()]);
    let cookies = peer::cookies(pair);
    for parts in [
        vec![delete.clone()],
        vec![peer::delete(IKE, &[&cookies])],
        vec![peer::notify(INITIAL_CONTACT, IKE, &cookies, &[])],
    ] {
        let forged = peer::seal(pair, How { wrong: true, ..INFORM }, &parts).0;
        peer::assert_dropped(pair, A, &forged, "a wrong hash");
        let first = parts[0].0;
        let forged = peer::seal_plain(pair, INFORM, first, &message::chain(&parts)).0;
        peer::assert_dropped(pair, A, &forged, "no hash");
        // In clear.
        let (mut clear, _) = peer::seal_plain(pair, INFORM, first, &message::chain(&parts));
        clear[19] = 0;
        clear.truncate(28);
        clear.extend(message::chain(&parts));
        let length = u32::try_from(clear.len()).unwrap();
        clear[24..28].copy_from_slice(&length.to_be_bytes());
        peer::assert_dropped(pair, A, &clear, "in clear");
        for id in [0u32, 77] {
            clear[20..24].copy_from_slice(&id.to_be_bytes());
            peer::assert_dropped(pair, A, &clear, "in clear");
        }
    }
    // Under another Message ID than it was made for.
    let (mut moved, _) = peer::seal(pair, INFORM, &[delete]);
    moved[23] ^= 1;
    peer::assert_dropped(pair, A, &moved, "another Message ID");
}

#[test]
fn a_delete_names_pairs_of_its_sender_and_is_carried_out_once() {
    let pair = &mut pair();
    let (ours, theirs) = (pair.spi(A), pair.spi(B));
    for (id, spi) in [(1, theirs), (2, 7), (3, 0)] {
        let delete = peer::delete(ESP, &[&spi.to_be_bytes()]);
        let sealed = peer::seal(pair, How { id, ..INFORM }, &[delete]).0;
        peer::inject(pair, A, &sealed);
        assert_eq!(pair.b.installed.len(), 1, "{spi:#x} is not one of A's");
    }
    for spis in [&[][..], &[&[1][..]], &[&[0; 8]]] {
        let sealed = peer::seal(pair, How { id: 50, ..INFORM }, &[peer::delete(ESP, spis)]).0;
        peer::inject(pair, A, &sealed);
        assert_eq!(pair.b.installed.len(), 1);
    }
    let delete = peer::delete(ESP, &[&ours.to_be_bytes(), &7u32.to_be_bytes(), &ours.to_be_bytes()]);
    let sealed = peer::seal(pair, How { id: 4, ..INFORM }, std::slice::from_ref(&delete)).0;
    peer::inject(pair, A, &sealed);
    assert!(pair.b.installed.is_empty());
    assert_eq!(pair.b.log.iter().filter(|l| l.starts_with("removed")).count(), 1);
    let again = peer::seal(pair, How { id: 5, ..INFORM }, &[delete]).0;
    peer::inject(pair, A, &again);
    assert_eq!(pair.b.log.iter().filter(|l| l.starts_with("removed")).count(), 1);
}

/// libreswan CVE-2023-38712: what follows the Delete of the IKE_SA that it came by.
#[test]
fn p1f_a_delete_of_the_ike_sa_may_be_followed_by_more() {
    let order: [fn(&[u8], &[u8]) -> Vec<(u8, Vec<u8>)>; 5] = [
        |cookies, spi| vec![peer::delete(IKE, &[cookies]), peer::delete(ESP, &[spi])],
        |cookies, spi| {
            vec![peer::delete(ESP, &[spi]), peer::delete(IKE, &[cookies]), peer::delete(ESP, &[spi])]
        },
        |cookies, _| vec![peer::delete(IKE, &[cookies, cookies]), peer::delete(IKE, &[cookies])],
        |cookies, _| vec![peer::delete(IKE, &[cookies]), peer::notify(R_U_THERE, IKE, cookies, &[0; 4])],
        |cookies, _| vec![peer::delete(IKE, &[cookies]), peer::notify(INITIAL_CONTACT, IKE, cookies, &[])],
    ];
    for (number, order) in order.into_iter().enumerate() {
        let pair = &mut pair();
        let (spi, cookies) = (pair.spi(A).to_be_bytes(), peer::cookies(pair));
        let sealed = peer::seal(pair, INFORM, &order(&cookies, &spi)).0;
        peer::inject(pair, A, &sealed);
        assert!(pair.b.conn.as_ref().unwrap().ike_sas() == 0, "{number}");
        pair.b.outbox.clear();
        peer::inject(pair, A, &sealed);
        assert!(pair.b.outbox.is_empty());
    }
}

/// In IKEv1 the pairs do not hang on the IKE_SA: they stay, and another is made when one is needed.
#[test]
fn the_end_of_phase_1_leaves_the_pairs() {
    for mode in MODES {
        for who in [A, B] {
            let [left, right] = specs(mode);
            let mut pair = up(&left, &right);
            let now = pair.now;
            let side = pair.side(who);
            side.conn.as_mut().unwrap().expire(now, &mut side.host);
            side.drain();
            pair.settle();
            pair.assert_children(1);
            assert_eq!(pair.a.conn.as_ref().unwrap().ike_sas() + pair.b.conn.as_ref().unwrap().ike_sas(), 0);
            pair.assert_alive_in_time();
            pair.assert_ike(1);
        }
    }
}

#[test]
fn close_ends_both_sides() {
    for who in [A, B] {
        let pair = &mut pair();
        pair.command(who, Command::Close);
        pair.settle();
        pair.assert_children(0);
        assert_eq!(is_up(pair), [false; 2]);
        assert!(pair.a.registered.is_empty() && pair.b.registered.is_empty());
    }
}

/// RFC 2407 section 4.6.3.3, in a message of its own: what was there before is gone, and what is newer is not.
#[test]
fn initial_contact_by_itself_removes_what_is_older() {
    let pair = &mut pair();
    pair.command(A, Command::RekeyIke);
    pair.settle();
    let old = pair.spi(B);
    let spi = pair.spi(A);
    pair.command(A, Command::RekeyChild(spi));
    pair.settle();
    pair.run(1);
    let cookies = peer::cookies(pair);
    let sealed = peer::seal(pair, INFORM, &[peer::notify(INITIAL_CONTACT, IKE, &cookies, &[])]).0;
    assert_eq!(pair.b.conn.as_ref().unwrap().ike_sas(), 2);
    peer::inject(pair, A, &sealed);
    assert_eq!(pair.b.conn.as_ref().unwrap().ike_sas(), 1);
    assert!(!pair.b.installed.contains_key(&old), "the old pair is gone");
    assert_eq!(pair.b.installed.len(), 1, "{:?}", pair.b.log);
    let kept = pair.b.installed.clone();
    peer::inject(pair, A, &sealed);
    assert_eq!(pair.b.installed, kept, "once");
}

/// The same in quick mode (RFC 2407 section 4.6.3): what is asked for by it is newer.
#[test]
fn initial_contact_in_quick_mode_removes_what_is_older() {
    let pair = &mut pair();
    pair.command(A, Command::RekeyIke);
    pair.settle();
    let old = pair.spi(B);
    let (id, mut parts, _) = peer::quick_request(pair, A);
    assert_eq!(parts.remove(0).0, HASH);
    parts.push(peer::notify(INITIAL_CONTACT, IKE, &peer::cookies(pair), &[]));
    let sealed = peer::seal(pair, How { id, ..QUICK }, &parts).0;
    assert_eq!(pair.b.conn.as_ref().unwrap().ike_sas(), 2);
    peer::inject(pair, A, &sealed);
    assert_eq!(pair.b.conn.as_ref().unwrap().ike_sas(), 1);
    assert!(!pair.b.installed.contains_key(&old), "the old pair is gone");
    assert_eq!(pair.b.installed.len(), 1, "{:?}", pair.b.log);
}

#[test]
fn initial_contact_on_an_ike_sa_that_is_not_new_changes_nothing() {
    let pair = &mut pair();
    pair.command(A, Command::RekeyIke);
    pair.settle();
    pair.pass(Duration::from_secs(31));
    let cookies = peer::cookies(pair);
    let sealed = peer::seal(pair, INFORM, &[peer::notify(INITIAL_CONTACT, IKE, &cookies, &[])]).0;
    let before = pair.b.installed.clone();
    peer::inject(pair, A, &sealed);
    assert_eq!(pair.b.installed, before);
}

/// A peer that has lost all it had says so in phase 1, and what there was is gone.
#[test]
fn initial_contact_in_phase_1_takes_the_place_of_what_was_there() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        pair.run(10);
        let old = pair.b.installed.clone();
        // A has forgotten everything.
        pair.a.conn = None;
        pair.a.installed.clear();
        pair.a.host = Pair::new(&left, &right).a.host;
        pair.a.host.random_from(77);
        pair.a.host.skip_spis(3);
        pair.a.registered.clear();
        pair.initiate();
        pair.settle();
        pair.run(5);
        pair.assert_children(1);
        assert!(old.keys().all(|spi| !pair.b.installed.contains_key(spi)));
        assert!(pair.b.log.iter().any(|l| l.contains("newer connection")), "{:?}", pair.b.log);
    }
}

/// A responder that has lost all it had says so as well: in the sixth message of main mode, or in a message of its own. What the
/// initiator took for a pair is made anew.
#[test]
fn a_responder_that_has_lost_everything_says_so_when_phase_1_comes_anew() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        pair.run(10);
        let old = pair.a.installed.clone();
        // B has forgotten everything.
        pair.b.conn = None;
        pair.b.installed.clear();
        pair.b.host = Pair::new(&left, &right).b.host;
        pair.b.host.random_from(78);
        pair.b.host.skip_spis(3);
        pair.b.registered.clear();
        pair.command(A, Command::RekeyIke);
        pair.settle();
        pair.run(5);
        pair.assert_children(1);
        assert!(old.keys().all(|spi| !pair.a.installed.contains_key(spi)), "{mode:?}: {:?}", pair.a.log);
    }
}

/// All pairs are deleted while phase 1 is renewed: an IKE_SA alone is of no use to anybody, so they are asked for again.
#[test]
fn what_the_peer_deletes_while_phase_1_is_renewed_is_made_anew() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        pair.run(10);
        let first = pair.b.installed.keys().copied().next().unwrap();
        pair.command(A, Command::RekeyIke);
        let begun = pair.take(A);
        pair.command(B, Command::DeleteChild(first));
        let deleted = pair.take(B);
        pair.put(B, &deleted);
        assert!(pair.a.installed.is_empty(), "{:?}", pair.a.log);
        pair.put(A, &begun);
        pair.settle();
        pair.run(5);
        pair.assert_children(1);
    }
}

/// A refusal of something else is not one of what is asked for.
#[test]
fn an_error_about_another_spi_refuses_nothing_where_several_are_asked_for() {
    let [left, right] = Spec::with_policies(2).map(|spec| spec.v1(Phase1::Main));
    let pair = &mut up(&left, &right);
    pair.assert_children(2);
    let spis: Vec<u32> = pair.a.installed.keys().copied().collect();
    for spi in &spis {
        pair.command(A, Command::RekeyChild(*spi));
    }
    let error = peer::notify(14, ESP, &[9, 9, 9, 9], &[]);
    let sealed = peer::seal(pair, INFORM, &[error]).0;
    peer::inject(pair, B, &sealed);
    assert!(pair.a.ended.is_empty());
    pair.settle();
    pair.run(20);
    assert_eq!(pair.a.ended.len(), 2);
    assert!(pair.a.ended.iter().all(|(_, outcome)| outcome.is_ok()), "{:?}", pair.a.ended);
    pair.assert_children(2);
}

/// INVALID-SPI (RFC 2408 section 3.14.1) is about a pair that the peer does not have, not about what it is asked for meanwhile.
#[test]
fn an_invalid_spi_replaces_the_pair_that_it_names_and_refuses_nothing() {
    const INVALID_SPI: u16 = 11;
    let [left, right] = Spec::with_policies(2).map(|spec| spec.v1(Phase1::Main));
    for in_data in [false, true] {
        let pair = &mut up(&left, &right);
        pair.run(20);
        let pairs: Vec<_> = pair.a.installed.iter().map(|(spi, sa)| (*spi, sa.spi_out)).collect();
        let [(renewed, _), (lost, theirs)] = pairs[..] else { panic!("{pairs:?}") };
        pair.command(A, Command::RekeyChild(renewed));
        let about = theirs.to_be_bytes();
        let (spi, data) = if in_data { (&[][..], &about[..]) } else { (&about[..], &[][..]) };
        let told = peer::seal(pair, INFORM, &[peer::notify(INVALID_SPI, ESP, spi, data)]).0;
        peer::inject(pair, B, &told);
        assert!(pair.a.ended.is_empty(), "{:?}", pair.a.ended);
        pair.settle();
        pair.run(20);
        assert_eq!(pair.a.ended, [(renewed, Ok(()))]);
        assert!(!pair.a.installed.contains_key(&lost), "{:?}", pair.a.log);
        pair.assert_children(2);
    }
}

/// One that comes with the first packets has overtaken the third message of quick mode, and who says it of every pair is not to have
/// one after the other made.
#[test]
fn an_invalid_spi_about_a_pair_that_is_new_or_not_there_changes_nothing() {
    let pair = &mut pair();
    pair.command(A, Command::RekeyChild(pair.a.installed.keys().copied().next().unwrap()));
    pair.settle();
    let before = pair.a.installed.clone();
    let spis: Vec<u32> = before.values().map(|sa| sa.spi_out).chain([7]).collect();
    for (id, spi) in (300..).zip(spis) {
        let told = peer::notify(11, ESP, &spi.to_be_bytes(), &[]);
        let told = peer::seal(pair, How { id, ..INFORM }, &[told]).0;
        peer::inject(pair, B, &told);
    }
    assert!(pair.a.outbox.is_empty(), "nothing is asked for");
    assert_eq!(pair.a.installed, before);
}

/// A refusal and CONNECTED in one message: the place of what is refused is not taken by another.
#[test]
fn what_is_refused_and_what_is_connected_are_not_mixed_up() {
    let pair = &mut pair();
    let error = peer::notify(14, ESP, &[], &[]);
    let connected = peer::notify(16_384, ESP, &[], &[]);
    let (id, ..) = peer::quick_request(pair, A);
    let sealed = peer::seal(pair, How { id, ..INFORM }, &[error, connected]).0;
    let before = pair.a.installed.clone();
    peer::inject(pair, B, &sealed);
    assert_eq!(pair.a.installed, before);
    assert_eq!(pair.a.ended.len(), 1);
}

/// Phase 1 over and over, each with its keys: no more IKE_SAs than the bound.
#[test]
fn a_peer_that_does_phase_1_over_and_over_is_bounded() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        for _ in 0..20 {
            pair.command(A, Command::RekeyIke);
            pair.settle();
        }
        assert!(pair.b.conn.as_ref().unwrap().ike_sas() <= 16);
        assert_eq!(is_up(&pair), [true; 2]);
        pair.run(150);
        pair.assert_ike(1);
        pair.assert_children(1);
        pair.assert_alive_in_time();
    }
}
