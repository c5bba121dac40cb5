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

/// Transforms of one suite that differ in how the pair is carried: the one that is answered is the one that fits.
#[cfg(feature = "test-hooks")]
#[test]
fn of_equal_suites_the_one_of_the_right_mode_is_answered() {
    use crate::message::SA;
    use crate::peer::{self, How, QUICK};
    // Tunnel is 1, transport 2, and a tunnel in UDP 3 (RFC 2407 section 4.5, RFC 3947 section 5.1).
    for (in_udp, modes, fitting) in [
        (false, [2, 1], 2),
        (false, [3, 1], 2),
        (false, [1, 2], 1),
        (true, [1, 3], 2),
        (true, [4, 3], 2),
        (true, [3, 1], 1),
    ] {
        let [left, right] = specs(Phase1::Main).map(|spec| Spec { force_encapsulation: in_udp, ..spec });
        let pair = &mut up(&left, &right);
        let (id, parts, _) = peer::quick_request(pair, A);
        let mut parts = parts[1..].to_vec();
        let body = &mut parts.iter_mut().find(|part| part.0 == SA).unwrap().1;
        // Behind DOI, situation, and the proposal's 12 octets.
        let one = body.split_off(20);
        for (number, mode) in (1..).zip(modes) {
            let mut transform = one.clone();
            (transform[0], transform[4]) = (if number == 1 { 3 } else { 0 }, number);
            let at = transform.windows(3).position(|octets| octets == [0x80, 4, 0]).unwrap();
            transform[at + 3] = mode;
            body.extend(transform);
        }
        body[15] = 2;
        let length = u16::try_from(body.len() - 8).unwrap();
        body[10..12].copy_from_slice(&length.to_be_bytes());
        let (first, iv) = peer::seal(pair, How { id, ..QUICK }, &parts);
        peer::inject(pair, A, &first);
        let answer = pair.take(B);
        let (said, _) = peer::open(pair, &answer.bytes, Some(&iv));
        let answered = &said.iter().find(|part| part.0 == SA).expect("an answer").1;
        assert_eq!(answered[24], fitting, "{in_udp} {modes:?}");
        assert_eq!(pair.b.installed.len(), 2);
    }
}
