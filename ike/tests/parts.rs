//! Policies whose selectors the peer narrows (RFC 7296 section 2.9).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use ike::wire::TrafficSelector;
use kit::{A, B, Pair, Side, Spec, ts};

fn net(n: u8) -> TrafficSelector {
    ts(&format!("10.{n}.0.0"), &format!("10.{n}.255.255"))
}

/// One policy with all these subnets on our side, 10.2.0.0/16 on the other.
fn together(nets: &[u8]) -> Spec {
    Spec { local: nets.iter().map(|&n| net(n)).collect(), remote: vec![net(2)], ..Spec::left() }
}

/// A policy for each.
fn one_by_one(nets: &[u8]) -> Spec {
    let more = nets.iter().skip(1).map(|&n| (net(2), net(n))).collect();
    Spec { local: vec![net(2)], remote: vec![net(nets[0])], more, ..Spec::right() }
}

fn policies(side: &Side) -> Vec<String> {
    let mut names: Vec<String> = side.installed.values().map(|sa| sa.policy.to_string()).collect();
    names.sort();
    names
}

fn gaps(side: &Side) -> Vec<(&str, Vec<&str>)> {
    side.gaps
        .iter()
        .map(|(policy, gap)| (policy.as_str(), gap.iter().map(String::as_str).collect()))
        .collect()
}

#[test]
fn the_rest_of_a_narrowed_policy_is_asked_for() {
    let mut pair = Pair::up(&together(&[1, 3, 4]), &one_by_one(&[1, 3, 4]));
    pair.assert_children(3);
    assert_eq!(policies(&pair.a), ["net", "net/1", "net/2"]);
    assert_eq!(policies(&pair.b), ["net", "net1", "net2"]);
    // What is told in the end is that nothing is left.
    assert_eq!(gaps(&pair.a).first(), Some(&("net", vec!["10.3.0.0/16, 10.4.0.0/16 === 10.2.0.0/16"])));
    assert_eq!(gaps(&pair.a).last(), Some(&("net", vec![])));
    assert_eq!(gaps(&pair.b), []);
    let asked = pair.a.gaps.len();
    // They live as other pairs do: rekeyed from either side, and asked for again when one is lost.
    for _ in 0..3 {
        for who in [A, B] {
            let spis: Vec<u32> = pair.side(who).installed.keys().copied().collect();
            for spi in spis {
                pair.command(who, Command::RekeyChild(spi));
            }
            pair.settle();
            pair.run(300);
            pair.assert_children(3);
        }
        pair.command(A, Command::RekeyIke);
        pair.settle();
    }
    assert_eq!(pair.a.gaps.len(), asked, "a rekeying changes nothing of it: {:?}", pair.a.gaps);
    let lost = *pair.b.installed.iter().find(|(_, sa)| &*sa.policy == "net1").unwrap().0;
    pair.command(B, Command::DeleteChild(lost));
    pair.settle();
    assert_eq!(gaps(&pair.a).last(), Some(&("net", vec!["10.3.0.0/16 === 10.2.0.0/16"])));
    pair.command(A, Command::CreateChild("net/1".into()));
    pair.settle();
    pair.assert_children(3);
    assert_eq!(gaps(&pair.a).last(), Some(&("net", vec![])));
}

#[test]
fn what_the_peer_does_not_take_is_told_and_not_asked_for_for_ever() {
    // The peer has nothing for 10.3.0.0/16, and for 10.4.0.0/16 something by itself.
    let mut pair = Pair::up(&together(&[1, 3, 4]), &one_by_one(&[1, 4]));
    pair.run(7200);
    pair.assert_children(2);
    assert_eq!(gaps(&pair.a).last(), Some(&("net", vec!["10.3.0.0/16 === 10.2.0.0/16"])));
    let refused = pair.a.log.iter().filter(|line| line.starts_with("child failed")).count();
    assert!(refused <= 2, "{:?}", pair.a.log);
    let gap = pair.a.gaps.len();
    // The pairs go on without it.
    for spi in pair.a.installed.keys().copied().collect::<Vec<_>>() {
        pair.command(A, Command::RekeyChild(spi));
    }
    pair.run(600);
    pair.assert_children(2);
    assert_eq!(pair.a.gaps.len(), gap);
    pair.command(A, Command::Close);
    pair.settle();
    assert!(pair.a.installed.is_empty());
}

/// The other way round: a peer that asks for one subnet after the other. Each of its pairs sends what it carries.
#[test]
fn pairs_that_carry_something_else_stand_side_by_side() {
    let left = Spec { more: vec![(net(3), net(2))], ..Spec::left() };
    let right = Spec { remote: vec![net(1), net(3), net(4)], ..Spec::right() };
    let mut pair = Pair::up(&left, &right);
    pair.assert_children(2);
    assert_eq!(policies(&pair.b), ["net", "net/1"]);
    assert!(pair.b.installed.values().all(|sa| sa.active));
    assert_eq!(gaps(&pair.b).last(), Some(&("net", vec!["10.2.0.0/16 === 10.4.0.0/16"])));
    for who in [B, A] {
        let spis: Vec<u32> = pair.side(who).installed.keys().copied().collect();
        for spi in spis {
            pair.command(who, Command::RekeyChild(spi));
        }
        pair.run(300);
        pair.assert_children(2);
        assert!(pair.b.installed.values().all(|sa| sa.active));
    }
    // A second pair for the same takes the place of the first.
    pair.command(A, Command::CreateChild("net".into()));
    pair.settle();
    assert_eq!(policies(&pair.b), ["net", "net/1"]);
}

#[test]
fn parts_are_not_without_number() {
    let nets: Vec<u8> = (10..60).collect();
    let mut pair = Pair::up(&together(&nets), &one_by_one(&nets));
    pair.run(600);
    // The policy itself and thirty-two parts.
    assert_eq!(pair.a.installed.len(), 33, "{:?}", policies(&pair.a));
    pair.assert_children(33);
    let (policy, gap) = pair.a.gaps.last().unwrap();
    assert_eq!((policy.as_str(), gap.len()), ("net", 1));
    assert_eq!(gap[0].matches("/16").count(), 50 - 33 + 1, "{gap:?}");
}

/// A peer that makes a pair for each of its subnets when a packet wants one, and deletes it when it is idle.
#[test]
fn pairs_that_come_and_go_take_nothing_from_those_that_stay() {
    let right = Spec { remote: vec![net(1), net(3), net(4)], ..Spec::right() };
    let left = Spec { more: vec![(net(3), net(2)), (net(4), net(2))], ..Spec::left() };
    let mut pair = Pair::up(&left, &right);
    pair.assert_children(3);
    for round in 0..100 {
        let name = if round % 2 == 0 { "net1" } else { "net2" };
        let spi = *pair.a.installed.iter().find(|(_, sa)| &*sa.policy == name).unwrap().0;
        pair.command(A, Command::DeleteChild(spi));
        pair.settle();
        pair.command(A, Command::CreateChild(name.into()));
        pair.settle();
        pair.assert_children(3);
        assert!(pair.b.installed.values().all(|sa| sa.active), "{round}: {:?}", pair.b.installed);
        assert_eq!(policies(&pair.b), ["net", "net/1", "net/2"], "{round}");
    }
}

/// One that asks for more of them than there may be is told so, and those that are there stay.
#[test]
fn one_pair_too_many_is_refused() {
    let nets: Vec<u8> = (10..50).collect();
    // Refused ones are asked for again.
    for rounds in 0..2 {
        let mut pair = Pair::up(&one_by_one(&nets), &together(&nets));
        pair.run(100 * rounds);
        let log = &pair.b.log;
        assert!(log.iter().any(|told| told.contains("has 33 Child SAs for other parts")), "{log:?}");
        assert!(pair.a.log.iter().any(|told| told.contains("NO_ADDITIONAL_SAS")), "{:?}", pair.a.log);
        pair.assert_children(33);
        assert!(pair.b.installed.values().all(|sa| sa.active));
    }
}
