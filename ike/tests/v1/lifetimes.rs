//! What ends by itself: phase 1 by what it has carried, pairs that were replaced, and what goes with them.

use std::time::Duration;

use ike::Command;
use ike::config::{Life, Phase1, V1, Version};

use crate::kit::{A, B, Spec};
use crate::{MODES, specs, up};

#[test]
fn phase_1_that_has_carried_what_was_agreed_on_is_renewed() {
    for mode in MODES {
        let life = Life { kilobytes: Some(2), ..Life::default() };
        let version = Version::V1(V1 { mode, life });
        let [left, right] = specs(mode).map(|spec| Spec { version, dpd: Duration::from_secs(10), ..spec });
        let mut pair = up(&left, &right);
        let first = pair.a.conn.as_ref().unwrap().spis();
        pair.run(600);
        assert_ne!(pair.a.conn.as_ref().unwrap().spis(), first);
        let renewed = |log: &[String]| log.iter().filter(|l| l.starts_with("ike rekeyed")).count();
        assert!((1..60).contains(&renewed(&pair.a.log)), "{:?}", pair.a.log);
        pair.assert_children(1);
        assert!(pair.a.conn.as_ref().unwrap().ike_sas() <= 3);
    }
}

/// Some say of what has no bound that its bound is zero.
#[test]
fn phase_1_with_a_lifetime_of_zero_octets_is_not_renewed_for_them() {
    for mode in MODES {
        let version = Version::V1(V1 { mode, life: Life { kilobytes: Some(0), ..Life::default() } });
        let [left, right] = specs(mode).map(|spec| Spec { version, dpd: Duration::from_secs(10), ..spec });
        let mut pair = up(&left, &right);
        let first = pair.a.conn.as_ref().unwrap().spis();
        pair.run(600);
        assert_eq!(pair.a.conn.as_ref().unwrap().spis(), first, "{:?}", pair.a.log);
    }
}

/// RFC 2407 section 4.5.4: what the initiator offers is agreed on, and who keeps phase 1 for longer holds one that the other has not.
#[test]
fn both_sides_know_how_long_phase_1_lasts() {
    for mode in MODES {
        for seconds in [[3_600, 14_400], [14_400, 3_600], [0, 14_400]] {
            let [left, right] = specs(mode);
            let of = |spec: Spec, seconds| {
                let life = Life { time: Duration::from_secs(seconds), ..Life::default() };
                Spec { version: Version::V1(V1 { mode, life }), ..spec }
            };
            let pair = up(&of(left, seconds[0]), &of(right, seconds[1]));
            let agreed = Some(Duration::from_secs(seconds[0])).filter(|agreed| !agreed.is_zero());
            for side in [&pair.a, &pair.b] {
                assert_eq!(side.conn.as_ref().unwrap().agreed_lifetime(), agreed, "{mode:?} {seconds:?}");
            }
        }
    }
}

#[test]
fn the_old_pair_goes_ten_seconds_after_the_new_one_is_used() {
    for who in [A, B] {
        let [left, right] = specs(Phase1::Main);
        let mut pair = up(&left, &right);
        let old = (pair.spi(A), pair.spi(B));
        let spi = pair.spi(who);
        pair.command(who, Command::RekeyChild(spi));
        pair.settle();
        pair.run(2);
        // Whoever has renewed sends by the old one for some seconds yet: the other asks again if it has missed something.
        assert_eq!(pair.spi(who), if who == A { old.0 } else { old.1 });
        pair.run(2);
        assert_ne!(pair.spi(who), if who == A { old.0 } else { old.1 });
        pair.run(8);
        assert!(pair.a.installed.contains_key(&old.0) && pair.b.installed.contains_key(&old.1));
        pair.run(3);
        pair.assert_children(1);
        let lingers =
            |side: &crate::kit::Side, spi| side.lingering.iter().any(|(s, l)| *s == spi && !l.is_zero());
        assert!(lingers(&pair.a, old.0) && lingers(&pair.b, old.1));
    }
}

#[test]
fn a_pair_whose_lifetime_ends_is_deleted_on_both_sides() {
    for who in [A, B] {
        let [left, right] = specs(Phase1::Main);
        let mut pair = up(&left, &right);
        let spi = pair.spi(who);
        pair.command(who, Command::ExpireChild(spi));
        pair.settle();
        pair.assert_children(0);
        assert!(pair.side(who).log.contains(&"removed Expired".to_owned()));
    }
}

/// Without a pair, an IKE_SA or anything to do a connection is over; with one of them it is not.
#[test]
fn a_connection_ends_when_nothing_is_left_of_it() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = up(&left, &right);
    let now = pair.now;
    pair.a.conn.as_mut().unwrap().expire(now, &mut pair.a.host);
    pair.a.drain();
    pair.settle();
    assert!(pair.a.conn.as_ref().unwrap().is_up() && pair.b.conn.as_ref().unwrap().is_up());
    let spi = pair.spi(A);
    pair.command(A, Command::ExpireChild(spi));
    assert!(pair.a.conn.as_ref().unwrap().is_finished());
    assert!(pair.a.registered.is_empty());
}
