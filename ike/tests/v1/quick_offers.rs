//! What a pair is made with: suites, perfect forward secrecy, extended sequence numbers, lifetimes.

use std::time::Duration;

use ike::Command;
use ike::config::{Life, Phase1};

use crate::kit::{A, B, Spec, Who};
use crate::{specs, up};

fn with(ours: &'static str, theirs: &'static str) -> [Spec; 2] {
    let [left, right] = specs(Phase1::Main);
    [Spec { esp: vec![ours], ..left }, Spec { esp: vec![theirs], ..right }]
}

#[test]
fn pfs_is_agreed_on_where_both_can() {
    for (ours, theirs) in [
        ("aes128gcm16", "aes128gcm16"),
        ("aes128gcm16-ecp256", "aes128gcm16-ecp256"),
        ("aes128gcm16-ecp256", "aes128gcm16-ecp384-ecp256"),
        // The peer may want what we ask for second, or nothing of it.
        ("aes128gcm16-modp2048-ecp256", "aes128gcm16-ecp256"),
        ("aes128gcm16-modp2048-ecp256-nopfs", "aes128gcm16"),
        ("aes128gcm16", "aes128gcm16-modp2048-nopfs"),
        ("aes128gcm16-nopfs-modp2048", "aes128gcm16-modp2048"),
    ] {
        let [left, right] = with(ours, theirs);
        for (left, right) in [(&left, &right), (&right, &left)] {
            let mut pair = up(left, right);
            pair.run(5);
            pair.assert_children(1);
            pair.assert_alive_in_time();
        }
    }
}

#[test]
fn pfs_that_differs_is_told_on_both_sides() {
    for (ours, theirs, told) in [
        ("aes128gcm16", "aes128gcm16-ecp256", "ecp256"),
        ("aes128gcm16-ecp256", "aes128gcm16", "ecp256"),
        ("aes128gcm16-ecp256", "aes128gcm16-ecp384", "ecp384"),
    ] {
        let [left, right] = with(ours, theirs);
        let pair = up(&left, &right);
        pair.assert_children(0);
        assert!(pair.b.log.iter().any(|l| l.contains(told)), "{:?}", pair.b.log);
        assert!(pair.a.log.iter().any(|l| l.contains("NO_PROPOSAL_CHOSEN")), "{:?}", pair.a.log);
    }
}

#[test]
fn suites_that_differ_are_told_on_both_sides() {
    for (ours, theirs) in [
        ("aes128gcm16", "aes256gcm16"),
        ("aes128-sha256", "aes128-sha384"),
        ("aes128-sha256", "aes128gcm16"),
        ("aes128gcm16-esn", "aes128gcm16-noesn"),
    ] {
        let [left, right] = with(ours, theirs);
        let pair = up(&left, &right);
        pair.assert_children(0);
        assert!(pair.b.log.iter().any(|l| l.contains("configured is [")), "{:?}", pair.b.log);
        assert!(pair.a.log.iter().any(|l| l.contains("NO_PROPOSAL_CHOSEN")), "{:?}", pair.a.log);
    }
}

/// RFC 2407 section 4.5.4: a responder that keeps a pair for less says so, and each side knows what the other one keeps.
#[test]
fn lifetimes_are_told_both_ways() {
    let life = |seconds, kilobytes| Life { time: Duration::from_secs(seconds), kilobytes };
    for (ours, theirs, ours_told, theirs_told) in [
        // What A is told of B's, and B of A's.
        (life(3_600, None), life(3_600, None), (3_600, None), (3_600, None)),
        (life(3_600, None), life(1_200, None), (1_200, None), (3_600, None)),
        (life(1_200, None), life(3_600, None), (1_200, None), (1_200, None)),
        (life(3_600, None), life(3_600, Some(2_048)), (3_600, Some(2_048)), (3_600, None)),
        (life(3_600, Some(1_024)), life(3_600, Some(2_048)), (3_600, Some(1_024)), (3_600, Some(1_024))),
        (life(3_600, Some(4_096)), life(3_600, Some(2_048)), (3_600, Some(2_048)), (3_600, Some(4_096))),
    ] {
        let [left, right] = specs(Phase1::Main);
        let mut pair = up(&Spec { life: ours, ..left }, &Spec { life: theirs, ..right });
        let expected = [(A, ours_told), (B, theirs_told)];
        for (who, (seconds, kilobytes)) in expected {
            let spi = pair.spi(who);
            let limit = pair.side(who).limits[&spi];
            assert_eq!(limit.time, Some(Duration::from_secs(seconds)), "{who:?} {ours:?} {theirs:?}");
            assert_eq!(limit.octets, kilobytes.map(|k| k * 1_024), "{who:?} {ours:?} {theirs:?}");
        }
    }
}

#[test]
fn a_pair_that_cannot_be_made_for_lack_of_an_spi_is_made_later() {
    for who in [A, B] {
        let [left, right] = specs(Phase1::Main);
        let mut pair = crate::kit::Pair::new(&left, &right);
        pair.side(who).host.free_spis = false;
        pair.initiate();
        pair.settle();
        pair.run(4);
        pair.assert_children(0);
        let other = if who == A { Who::A } else { Who::B };
        assert!(pair.side(other).log.iter().any(|l| l.contains("no SPI is free")));
        pair.side(who).host.free_spis = true;
        pair.run(120);
        pair.assert_children(1);
    }
}

#[cfg(feature = "test-hooks")]
#[test]
fn a_peer_that_refuses_is_asked_less_and_less_and_then_served() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = up(&left, &right);
    pair.b.conn.as_mut().unwrap().alone().refuse_everything();
    let spi = pair.spi(A);
    pair.command(A, Command::RekeyChild(spi));
    let mut asked = 0;
    for _ in 0..600 {
        asked += pair.a.outbox.len();
        pair.settle();
        pair.pass(Duration::from_secs(1));
    }
    assert!((3..20).contains(&asked), "{asked}");
    pair.assert_children(1);
    assert!(
        matches!(&pair.a.ended[..], [(at, Err(why))] if *at == spi && why.contains("refused quick mode")),
        "{:?}",
        pair.a.ended
    );
}

#[test]
fn what_is_ordered_is_not_put_off() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = up(&left, &right);
    pair.run(5);
    let spi = pair.spi(A);
    pair.b.host.free_spis = false;
    pair.command(A, Command::RekeyChild(spi));
    pair.run(900);
    assert!(matches!(&pair.a.ended[..], [(at, Err(_))] if *at == spi), "{:?}", pair.a.ended);
    pair.b.host.free_spis = true;
    pair.command(A, Command::RekeyChild(spi));
    pair.settle();
    assert_eq!(pair.a.ended.last(), Some(&(spi, Ok(()))), "{:?}", pair.a.log);
}
