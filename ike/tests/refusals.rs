//! Rekeyings that the peer refuses for good, and what becomes of a rekeying that was asked for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::time::Duration;

use ike::Command;
use kit::{A, B, Pair, Spec, Who};
use proptest::prelude::*;

const HOUR: u64 = 3600;

/// When each line with this text came, in seconds from now on, for as long as told.
fn times(pair: &mut Pair, who: Who, text: &str, seconds: u64) -> Vec<u64> {
    let count = |pair: &mut Pair| pair.side(who).log.iter().filter(|line| line.contains(text)).count();
    let mut times = vec![0; count(pair)];
    for second in 1..=seconds {
        pair.run(1);
        times.resize(count(pair), second);
    }
    times
}

/// Each wait is longer than the one before, until the longest.
fn assert_growing(times: &[u64], longest: u64) {
    let waits: Vec<u64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(waits.len() > 8, "{waits:?}");
    for (at, wait) in waits.iter().enumerate() {
        // With jitter, and a second for the pace of the test.
        let base = (2u64 << at.min(20)).min(longest);
        assert!((base..=base * 3 / 2 + 1).contains(wait), "{waits:?}: the {at}th");
    }
}

/// PFS on one side only: IKE_AUTH has no key exchange of its own, so it does not show before the first rekeying.
#[test]
fn a_child_sa_whose_rekeying_is_refused_stays() {
    let left = Spec { esp: vec!["aes128gcm16-x25519"], ..Spec::left() };
    let mut pair = Pair::up(&left, &Spec::right());
    let old = pair.spi(A);
    pair.command(A, Command::RekeyChild(old));
    pair.settle();
    let refused = "child failed: the peer refused to rekey the Child SA with NO_PROPOSAL_CHOSEN; offered was [aes128gcm16-x25519";
    let times = times(&mut pair, A, refused, 2 * HOUR);
    assert_growing(&times, 300);
    assert_eq!(pair.spi(A), old);
    pair.assert_children(1);
    pair.assert_ike(1);
    assert!(!pair.a.log.iter().any(|line| line.contains("TEMPORARY_FAILURE")), "nobody said that");
    // The responder sees both sides' groups.
    let both =
        "perfect forward secrecy differs: the peer wants [x25519] for the Child SA, configured is [nopfs]";
    assert!(pair.b.log.iter().any(|line| line.contains(both)), "{:?}", pair.b.log);
    assert_eq!(pair.a.ended.len(), 1);
    assert!(pair.a.ended[0].1.as_ref().is_err_and(|why| why.contains("NO_PROPOSAL_CHOSEN")));
    // Its own lifetime ends it, and only it.
    pair.command(A, Command::ExpireChild(old));
    pair.settle();
    assert!(pair.a.installed.is_empty() && pair.a.conn.as_ref().unwrap().is_up());
}

#[test]
fn an_ike_sa_whose_rekeying_is_refused_stays() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    for (other, told) in [
        ("aes256gcm16-prfsha384-ecp384", "the peer refused our proposals [aes128gcm16-prfsha256-x25519]"),
        ("aes128gcm16-prfsha256-ecp384", "refused our proposals"),
    ] {
        let changed = Spec { ike: vec![other], ..Spec::right() }.config();
        pair.b.conn.as_mut().unwrap().set_config(changed);
        pair.a.log.clear();
        pair.command(A, Command::RekeyIke);
        pair.settle();
        let times = times(&mut pair, A, told, 2 * HOUR);
        assert_growing(&times, 300);
        pair.assert_ike(1);
        pair.assert_children(1);
        // The peer's configuration is mended: the next try is a new beginning.
        let config = Spec::right().config();
        pair.b.conn.as_mut().unwrap().set_config(config);
        pair.run(500);
        assert_eq!(pair.a.log.iter().filter(|line| *line == "ike rekeyed by us").count(), 1);
    }
    let changed = Spec { ike: vec!["aes256gcm16-prfsha384-ecp384"], ..Spec::right() }.config();
    pair.b.conn.as_mut().unwrap().set_config(changed);
    pair.command(A, Command::RekeyIke);
    pair.settle();
    // What is told at the end of its lifetime is what the peer said.
    let (now, host) = (pair.now, &mut pair.a.host);
    pair.a.conn.as_mut().unwrap().expire(now, host);
    pair.a.drain();
    let last = pair.a.log.last().unwrap();
    assert!(last.contains("lifetime") && last.contains("with NO_PROPOSAL_CHOSEN"), "{last}");
}

/// What was planned again after a refusal is done once the peer does it.
#[test]
fn an_ike_sa_that_the_peer_has_rekeyed_is_not_rekeyed_once_more() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    let changed = Spec { ike: vec!["aes256gcm16-prfsha384-ecp384"], ..Spec::right() }.config();
    pair.b.conn.as_mut().unwrap().set_config(changed);
    pair.command(A, Command::RekeyIke);
    pair.settle();
    pair.run(20);
    assert!(pair.a.log.iter().any(|line| line.contains("not rekeyed")), "{:?}", pair.a.log);
    pair.b.conn.as_mut().unwrap().set_config(Spec::right().config());
    pair.a.log.clear();
    pair.command(B, Command::RekeyIke);
    pair.settle();
    pair.run(HOUR);
    assert_eq!(pair.a.log, ["ike rekeyed"]);
    pair.assert_ike(1);
}

#[test]
fn a_rekeying_ends_for_whoever_asked_for_it() {
    type Befalls = fn(&mut Pair, u32);
    let cases: [(Befalls, Result<(), &str>); 7] = [
        (|_, _| {}, Ok(())),
        // The peer has lost the pair: one is made anew in its place.
        (
            |pair, old| {
                let theirs = pair.a.installed[&old].spi_out;
                pair.b.conn.as_mut().unwrap().forget_child(theirs);
                pair.b.drain();
            },
            Ok(()),
        ),
        // The peer rekeys it as well.
        (
            |pair, old| {
                let theirs = pair.a.installed[&old].spi_out;
                pair.command(B, Command::RekeyChild(theirs));
            },
            Ok(()),
        ),
        // The peer deletes it.
        (
            |pair, old| {
                let theirs = pair.a.installed[&old].spi_out;
                pair.command(B, Command::DeleteChild(theirs));
                pair.deliver(B);
            },
            Err("deleted by the peer"),
        ),
        // We do.
        (|pair, old| pair.command(A, Command::DeleteChild(old)), Ok(())),
        // The peer has lost it, and takes no new one.
        (
            |pair, old| {
                let theirs = pair.a.installed[&old].spi_out;
                pair.b.conn.as_mut().unwrap().forget_child(theirs);
                let other = Spec { esp: vec!["chacha20poly1305"], ..Spec::right() };
                pair.b.conn.as_mut().unwrap().set_config(other.config());
                pair.b.drain();
            },
            Err("NO_PROPOSAL_CHOSEN"),
        ),
        // We have no SPI for now.
        (|pair, _| pair.a.host.free_spis = false, Ok(())),
    ];
    for (at, (befalls, expected)) in cases.into_iter().enumerate() {
        let mut pair = Pair::up(&Spec::left(), &Spec::right());
        let old = pair.spi(A);
        pair.command(A, Command::RekeyChild(old));
        befalls(&mut pair, old);
        pair.run(300);
        let [(spi, outcome)] = pair.a.ended.as_slice() else { panic!("case {at}: {:?}", pair.a.ended) };
        assert_eq!(*spi, old);
        match expected {
            Ok(()) => assert_eq!(*outcome, Ok(()), "case {at}"),
            Err(why) => assert!(outcome.as_ref().is_err_and(|e| e.contains(why)), "case {at}: {outcome:?}"),
        }
    }
    // What is not there ends at once.
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    pair.command(A, Command::RekeyChild(7));
    assert!(pair.a.ended[0].1.as_ref().is_err_and(|why| why.contains("ended before")));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Rekey(bool),
    Delete(bool),
    RekeyIke(bool),
    Forget(bool),
    Deliver(bool),
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<bool>().prop_map(Step::Rekey),
        1 => any::<bool>().prop_map(Step::Delete),
        1 => any::<bool>().prop_map(Step::RekeyIke),
        1 => any::<bool>().prop_map(Step::Forget),
        8 => any::<bool>().prop_map(Step::Deliver),
        2 => (0u8..4).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// In whatever order things happen, each pair that is to be rekeyed ends its waiting, once for each time it waits.
    #[test]
    fn every_rekeying_that_is_asked_for_ends(steps in steps()) {
        let [left, right] = Spec::with_policies(2);
        let mut pair = Pair::up(&left, &right);
        let mut asked = [vec![], vec![]];
        for step in steps {
            let who = |a: bool| if a { A } else { B };
            match step {
                Step::Rekey(a) | Step::Delete(a) | Step::Forget(a) => {
                    let installed: Vec<u32> = pair.side(who(a)).installed.keys().copied().collect();
                    let Some(&spi) = installed.last() else { continue };
                    match step {
                        Step::Rekey(_) => {
                            asked[usize::from(a)].push(spi);
                            pair.command(who(a), Command::RekeyChild(spi));
                        }
                        Step::Delete(_) => pair.command(who(a), Command::DeleteChild(spi)),
                        _ => {
                            pair.side(who(a)).conn.as_mut().unwrap().forget_child(spi);
                            pair.side(who(a)).drain();
                        }
                    }
                }
                Step::RekeyIke(a) => pair.command(who(a), Command::RekeyIke),
                Step::Deliver(a) if !pair.side(who(a)).outbox.is_empty() => pair.deliver(who(a)),
                Step::Deliver(_) => {}
                Step::Pass(seconds) => pair.pass(Duration::from_secs(seconds.into())),
            }
        }
        pair.run(400);
        for (a, asked) in [false, true].into_iter().zip(asked) {
            let side = pair.side(if a { A } else { B });
            let over = side.log.iter().any(|line| line.starts_with("down"));
            for spi in &asked {
                let ended = side.ended.iter().filter(|(ended, _)| ended == spi).count();
                let times = asked.iter().filter(|other| *other == spi).count();
                prop_assert!(over || (1..=times).contains(&ended), "{spi:x}: {ended} ends of {times}: {:?}", side.log);
            }
        }
    }
}
