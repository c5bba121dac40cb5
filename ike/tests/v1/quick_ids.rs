//! What a pair is for (RFC 2409 section 5.5, RFC 2407 section 4.6.2): subnets, ranges, hosts, protocol and port, and what is
//! told where the two sides differ.

use ike::Command;
use ike::config::{Mode, Phase1};
use ike::wire::TrafficSelector;

use crate::kit::{A, Pair, Spec, ts};
use crate::{specs, up};

fn main_mode() -> [Spec; 2] {
    specs(Phase1::Main)
}

/// Both sides with these selectors, A's own first.
fn with(ours: TrafficSelector, theirs: TrafficSelector) -> [Spec; 2] {
    let [left, right] = main_mode();
    [
        Spec { local: vec![ours], remote: vec![theirs], ..left },
        Spec { local: vec![theirs], remote: vec![ours], ..right },
    ]
}

fn of(selector: TrafficSelector, protocol: u8, port: u16) -> TrafficSelector {
    let (start_port, end_port) = if port == 0 { (0, u16::MAX) } else { (port, port) };
    TrafficSelector { protocol, start_port, end_port, ..selector }
}

#[test]
fn every_kind_of_selector_that_can_be_said_is_agreed_on() {
    let host = ts("10.1.0.1", "10.1.0.1");
    for (ours, theirs) in [
        (ts("10.1.0.0", "10.1.255.255"), ts("10.2.0.0", "10.2.0.255")),
        (host, ts("10.2.0.0", "10.2.255.255")),
        (ts("10.1.0.3", "10.1.0.77"), ts("10.2.0.5", "10.2.0.5")),
        (ts("0.0.0.0", "255.255.255.255"), ts("10.2.0.0", "10.2.255.255")),
        (ts("2001:db8::", "2001:db8::ffff"), ts("2001:db8:1::3", "2001:db8:1::9")),
        (ts("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ts("2001:db8:1::3", "2001:db8:1::3")),
        (of(host, 17, 0), of(ts("10.2.0.0", "10.2.255.255"), 17, 1701)),
        (of(host, 6, 22), of(ts("10.2.0.0", "10.2.255.255"), 6, 0)),
        (of(host, 47, 0), of(ts("10.2.0.1", "10.2.0.1"), 47, 0)),
    ] {
        let [left, right] = with(ours, theirs);
        let mut pair = up(&left, &right);
        pair.assert_children(1);
        pair.assert_alive_in_time();
        let pair = up(&right, &left);
        pair.assert_children(1);
    }
}

#[test]
fn what_cannot_be_said_is_told_and_not_asked_for() {
    let several = TrafficSelector { protocol: 6, start_port: 20, end_port: 30, ..ts("10.1.0.1", "10.1.0.1") };
    let [left, right] = with(several, ts("10.2.0.0", "10.2.255.255"));
    let pair = up(&left, &right);
    pair.assert_children(0);
    assert!(pair.a.log.iter().any(|l| l.contains("10.1.0.1") && l.contains("20")), "{:?}", pair.a.log);
}

#[test]
fn subnets_that_differ_are_told_with_both_sides_values() {
    for (theirs, mine) in [
        ("10.1.0.0/17", ts("10.1.0.0", "10.1.127.255")),
        ("10.9.0.0/16", ts("10.9.0.0", "10.9.255.255")),
        ("10.1.0.1", ts("10.1.0.1", "10.1.0.1")),
    ] {
        let [left, right] = main_mode();
        let right = Spec { remote: vec![mine], ..right };
        let pair = up(&left, &right);
        pair.assert_children(0);
        let told = |log: &[String], texts: &[&str]| log.iter().any(|l| texts.iter().all(|t| l.contains(t)));
        assert!(
            told(&pair.a.log, &["INVALID_ID_INFORMATION", "10.1.0.0/16", "10.2.0.0/16"]),
            "{:?}",
            pair.a.log
        );
        assert!(told(&pair.b.log, &["10.1.0.0/16", "10.2.0.0/16", theirs]), "{:?}", pair.b.log);
    }
}

#[test]
fn protocol_and_port_that_differ_are_told() {
    let [left, _] = with(of(ts("10.1.0.1", "10.1.0.1"), 17, 0), of(ts("10.2.0.1", "10.2.0.1"), 17, 1701));
    for (protocol, port) in [(17, 1702), (6, 1701), (6, 0)] {
        let ours = of(ts("10.2.0.1", "10.2.0.1"), protocol, port);
        let [_, right] = with(of(ts("10.1.0.1", "10.1.0.1"), protocol, 0), ours);
        let pair = up(&left, &right);
        pair.assert_children(0);
        assert!(pair.b.log.iter().any(|l| l.contains("1701")), "{:?}", pair.b.log);
    }
}

/// A peer that asks for less than is configured gets it.
#[test]
fn a_part_of_what_is_configured_is_agreed_on_as_such() {
    let [left, right] = main_mode();
    let pair = up(&Spec { local: vec![ts("10.1.7.0", "10.1.7.255")], ..left }, &right);
    pair.assert_children(1);
    let policy = |side: &crate::kit::Side| side.installed.values().next().unwrap().policy.to_string();
    assert_eq!(policy(&pair.a), "net");
    assert_ne!(policy(&pair.b), "net", "a part of it");
}

#[test]
fn several_subnets_are_a_pair_each_and_what_is_refused_is_told() {
    let nets = |n: std::ops::Range<u8>, side: u8| -> Vec<TrafficSelector> {
        n.map(|i| ts(&format!("10.{side}.{i}.0"), &format!("10.{side}.{i}.255"))).collect()
    };
    let [left, right] = main_mode();
    let left = Spec { local: nets(0..3, 1), remote: nets(0..2, 2), ..left };
    let right = Spec { local: nets(0..2, 2), remote: nets(0..3, 1), ..right };
    let mut pair = up(&left, &right);
    pair.run(6);
    pair.assert_children(6);
    assert!(pair.a.gaps.is_empty() && pair.b.gaps.is_empty(), "{:?} {:?}", pair.a.gaps, pair.b.gaps);
    // Renewed one by one, whoever asks.
    let spis: Vec<u32> = pair.a.installed.keys().copied().collect();
    for spi in spis {
        pair.command(A, Command::RekeyChild(spi));
        pair.settle();
        pair.run(30);
        pair.assert_children(6);
    }
    // The other has less.
    let mut pair = up(&left, &Spec { remote: nets(0..2, 1), ..right });
    pair.run(10);
    pair.assert_children(4);
    assert_eq!(pair.a.gaps.len(), 1, "{:?}", pair.a.gaps);
    assert!(pair.a.gaps[0].1.iter().any(|gap| gap.contains("10.1.2.0/24")), "{:?}", pair.a.gaps);
}

#[test]
fn modes_that_differ_are_told() {
    let ends = (ts("192.0.2.1", "192.0.2.1"), ts("192.0.2.2", "192.0.2.2"));
    let [left, right] = with(ends.0, ends.1);
    let [left_transport, right_transport] =
        [left.clone(), right.clone()].map(|spec| Spec { mode: Mode::Transport, ..spec });
    up(&left_transport, &right_transport).assert_children(1);
    for (left, right) in [(&left_transport, &right), (&left, &right_transport)] {
        let pair = up(left, right);
        pair.assert_children(0);
        assert!(pair.b.log.iter().any(|l| l.contains("mode, configured is")), "{:?}", pair.b.log);
        assert!(
            pair.a.log.iter().any(|l| l.contains("NO_PROPOSAL_CHOSEN") || l.contains("NO_PROPOSAL_CHOSEN")),
            "{:?}",
            pair.a.log
        );
    }
}

#[test]
fn no_transport_mode_through_a_nat() {
    let [left, right] = with(ts("192.0.2.1", "192.0.2.1"), ts("192.0.2.2", "192.0.2.2")).map(|spec| Spec {
        mode: Mode::Transport,
        force_encapsulation: true,
        ..spec
    });
    let pair = Pair::up(&left, &right);
    pair.assert_children(0);
    assert!(pair.a.log.iter().any(|l| l.contains("transport mode")), "{:?}", pair.a.log);
}
