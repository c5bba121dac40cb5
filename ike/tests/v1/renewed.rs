//! Quick modes that are under way while phase 1 is done anew, with a peer that takes nothing in by an IKE_SA that is to be replaced.

use std::time::Duration;

use ike::config::Phase1;
use ike::{Command, Transmit};

use crate::kit::{A, B, Pair, Who};
use crate::message::QUICK;
use crate::{MODES, specs, up};

const TICK: Duration = Duration::from_millis(50);

/// By which peers of our own know each other: here they take each other for somebody else.
const OURS: [u8; 16] =
    [0x96, 0x10, 0x89, 0x10, 0x58, 0x7f, 0x13, 0x44, 0x99, 0xa5, 0x63, 0x6d, 0x17, 0x6f, 0xa2, 0x98];

fn of_somebody_else(mut message: Transmit) -> Transmit {
    if let Some(at) = message.bytes.windows(OURS.len()).position(|octets| octets == OURS) {
        message.bytes[at] ^= 1;
    }
    message
}

/// Two that take each other for somebody else.
fn strangers(mode: Phase1) -> Pair {
    let [left, right] = specs(mode);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    run_without(&mut pair, (0, 0), Duration::from_secs(5));
    pair.assert_children(1);
    pair
}

/// Whether a message is a quick mode by the IKE_SA of these SPIs.
fn is_quick_by(message: &Transmit, spis: (u64, u64)) -> bool {
    let cookies = [spis.0.to_be_bytes(), spis.1.to_be_bytes()].concat();
    let turned = [spis.1.to_be_bytes(), spis.0.to_be_bytes()].concat();
    let ours = message.bytes.get(..16).is_some_and(|octets| *octets == cookies || *octets == turned);
    ours && message.bytes.get(18) == Some(&QUICK)
}

/// Lets time pass while quick modes by one IKE_SA get nowhere.
fn run_without(pair: &mut Pair, spis: (u64, u64), time: Duration) {
    for _ in 0..time.as_millis() / TICK.as_millis() {
        for who in [A, B] {
            let sent: Vec<_> = pair.side(who).outbox.drain(..).collect();
            let arrive = sent.into_iter().filter(|message| !is_quick_by(message, spis));
            arrive.map(of_somebody_else).for_each(|message| pair.put(who, &message));
        }
        pair.pass(TICK);
    }
}

fn installed(pair: &mut Pair, who: Who) -> Vec<u32> {
    pair.side(who).installed.keys().copied().collect()
}

/// The peer has no ear for what is asked by the old one, and is there by the new one.
#[test]
fn what_is_asked_by_an_ike_sa_that_is_replaced_is_asked_by_the_new_one() {
    for mode in MODES {
        for renewed_by in [A, B] {
            let mut pair = strangers(mode);
            let (old, spi) = (pair.a.conn.as_ref().unwrap().spis(), pair.spi(A));
            pair.command(A, Command::RekeyChild(spi));
            pair.command(renewed_by, Command::RekeyIke);
            run_without(&mut pair, old, Duration::from_secs(4));
            assert_ne!(pair.a.conn.as_ref().unwrap().spis(), old, "{mode:?}");
            assert_eq!(pair.a.ended, [(spi, Ok(()))], "{mode:?} {renewed_by:?}: {:?}", pair.a.log);
            run_without(&mut pair, old, Duration::from_secs(120));
            pair.assert_children(1);
            assert!(!installed(&mut pair, A).contains(&spi));
            pair.assert_alive_in_time();
        }
    }
}

/// Main mode ends with a word of the responder's, which the first quick mode must not overtake.
#[test]
fn a_responder_asks_for_nothing_until_its_last_message_can_have_arrived() {
    for (mode, waits) in [(Phase1::Main, true), (Phase1::Aggressive, false)] {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        let (old, spi) = (pair.a.conn.as_ref().unwrap().spis(), pair.spi(B));
        pair.command(A, Command::RekeyIke);
        pair.settle();
        assert_ne!(pair.b.conn.as_ref().unwrap().spis(), old);
        pair.command(B, Command::RekeyChild(spi));
        let asks = |pair: &Pair| pair.b.outbox.iter().any(|message| message.bytes[18] == QUICK);
        assert_eq!(asks(&pair), !waits, "{mode:?}");
        pair.pass(Duration::from_millis(100));
        pair.settle();
        assert_eq!(pair.b.ended, [(spi, Ok(()))], "{mode:?}");
    }
}

fn ends_phase_1(pair: &mut Pair, who: Who) {
    let now = pair.now;
    let side = pair.side(who);
    side.conn.as_mut().unwrap().expire(now, &mut side.host);
    side.drain();
    pair.settle();
}

#[test]
fn phase_1_that_is_ordered_while_there_is_none_is_done_once() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        ends_phase_1(&mut pair, A);
        pair.command(A, Command::RekeyIke);
        pair.settle();
        pair.run(5);
        let renewed = pair.a.log.iter().filter(|l| l.starts_with("ike rekeyed")).count();
        assert_eq!(renewed, 1, "{mode:?}: {:?}", pair.a.log);
        pair.assert_alive_in_time();
    }
}

#[test]
fn a_pair_that_is_ordered_twice_is_renewed_once() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = up(&left, &right);
    let spi = pair.spi(A);
    pair.command(A, Command::RekeyChild(spi));
    pair.command(A, Command::RekeyChild(spi));
    pair.settle();
    pair.run(2);
    assert_eq!(pair.a.log.iter().filter(|l| *l == "rekeyed").count(), 1, "{:?}", pair.a.log);
    assert_eq!(pair.a.ended, [(spi, Ok(()))]);
}

/// What was to be replaced is gone when what asks for it has to be said by another IKE_SA.
#[test]
fn what_is_asked_anew_in_place_of_a_pair_that_is_gone_is_made() {
    let mut pair = strangers(Phase1::Main);
    let (old, spi, of_b) = (pair.a.conn.as_ref().unwrap().spis(), pair.spi(A), pair.spi(B));
    pair.command(A, Command::RekeyChild(spi));
    pair.command(A, Command::RekeyIke);
    run_without(&mut pair, old, Duration::from_secs(1));
    pair.command(B, Command::ExpireChild(of_b));
    run_without(&mut pair, old, Duration::from_secs(10));
    assert_eq!(
        pair.a.log.iter().filter(|l| *l == "child up" || *l == "rekeyed").count(),
        2,
        "{:?}",
        pair.a.log
    );
    pair.assert_children(1);
}

/// The time of an older one ends while the newest waits until the peer has it.
#[test]
fn a_pair_whose_turn_comes_by_time_keeps_its_time_when_another_goes() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = up(&left, &right);
    let oldest = pair.spi(A);
    let of_b = pair.spi(B);
    pair.command(B, Command::RekeyChild(of_b));
    pair.settle();
    pair.run(4);
    let before = pair.spi(A);
    assert_ne!(before, oldest);
    pair.command(A, Command::RekeyChild(before));
    pair.settle();
    pair.command(A, Command::ExpireChild(oldest));
    pair.settle();
    pair.run(4);
    assert_ne!(pair.spi(A), before, "{:?}", pair.a.installed);
}
