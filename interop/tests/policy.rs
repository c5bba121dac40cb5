//! What is protected, what goes in the clear, what goes nowhere; and tunnels that packets bring up.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::{LEFT, Pair, RIGHT};
use interop::charon::Connection;
use interop::command::{must, run};
use interop::daemon::{Peer, tenant};
use interop::traffic::{Flood, ping, until_ping};
use interop::wait::until;

/// A second address behind strongSwan, which no tunnel there carries.
const OTHER: &str = "10.3.0.1";
/// Culvert's own address on the wire.
const WIRE: &str = "10.99.0.2";

/// The tenant's manifest with these rules, each `name, action, remote subnet`.
fn with_rules(rules: &[(&str, &str, &str)]) -> String {
    let rule = |(name, action, remote): &(&str, &str, &str)| {
        format!("  - name: {name}\n    action: {action}\n    remoteSubnets: [{remote}]\n")
    };
    let rules: String = rules.iter().map(rule).collect();
    format!("{}policy:\n  rules:\n{rules}", tenant("acme", "acme0", "10.2.0.1/32", None))
}

/// Culvert's side protects more than strongSwan's does, and everything behind strongSwan is reached by the wire.
fn open() -> Option<Pair> {
    let pair = Pair::open()?;
    pair.lab.protect(&pair.left, "10.3.0.1/32");
    must("ip", &["-n", &pair.right, "route", "add", "default", "via", "10.99.0.1"]);
    pair.charon.load(&[Connection::usual()]);
    Some(pair)
}

fn wide(on_demand: bool) -> Peer {
    let subnets = ("10.2.0.1/32".to_owned(), "10.0.0.0/14".to_owned());
    Peer { subnets, on_demand, start: !on_demand, ..Peer::usual() }
}

/// Waits until a change of the rules has reached the kernel: packets are answered from then on, or none is.
fn takes_effect(namespace: &str, from: &str, to: &str, answered: bool) {
    let what = if answered { "packets pass" } else { "packets are dropped" };
    until(what, || ping(namespace, from, to, 1).received, |n| *n == u32::from(answered));
}

/// Waits until the kernel leads what is for `to` to the tenant's device.
fn is_led(pair: &Pair, to: &str) {
    let route = || run("ip", &["-n", &pair.right, "route", "get", to]).text;
    until("it is led to the tunnel", route, |route| route.contains("acme0"));
}

#[test]
fn one_ping_brings_the_tunnel_up_and_is_answered() {
    let Some(pair) = open() else { return };
    pair.culvertd.peer(&Peer { on_demand: true, ..Peer::usual() });
    until("the peer waits", || pair.culvertd.status("acme/left"), |s| s["state"] == "WAITING");
    assert_eq!(pair.culvertd.children("acme/left"), 0);
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 1).received, 1, "{}", pair.culvertd.log());
    pair.settled();
    assert_eq!(pair.culvertd.counter("held"), 1);
    // What the peer deletes comes back with the next packet, the whole IKE SA as well as a Child SA alone.
    for what in [["--terminate", "--child", "ct"], ["--terminate", "--ike", "t"]] {
        assert!(pair.charon.swanctl(&what).ok);
        until("the Child SA is gone", || pair.culvertd.children("acme/left"), |n| *n == 0);
        assert_eq!(ping(&pair.right, RIGHT, LEFT, 1).received, 1, "{what:?}: {}", pair.culvertd.log());
        pair.settled();
    }
}

#[test]
fn packets_for_a_peer_that_does_not_answer_wait_within_bounds() {
    let Some(mut pair) = open() else { return };
    pair.charon.kill();
    pair.culvertd.peer(&Peer { on_demand: true, ..Peer::usual() });
    is_led(&pair, LEFT);
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 40).received, 0);
    until("the bound is met", || pair.culvertd.counter("drop_hold_full"), |n| *n >= 8);
    assert_eq!(pair.culvertd.counter("held"), 32);
    assert!(pair.culvertd.alive());
}

#[test]
fn bypass_goes_in_the_clear_and_discard_nowhere() {
    let Some(pair) = open() else { return };
    pair.culvertd.peer(&wide(true));
    // By default the whole of the peer's subnets is protected: nothing of it leaves in the clear.
    is_led(&pair, OTHER);
    assert_eq!(ping(&pair.right, WIRE, OTHER, 1).received, 0);
    let protect = ("rest", "PROTECT", "10.0.0.0/8");
    let opened = || pair.culvertd.apply(&[with_rules(&[("open", "BYPASS", "10.3.0.0/24"), protect])]);
    opened();
    takes_effect(&pair.right, WIRE, OTHER, true);
    assert_eq!(ping(&pair.right, WIRE, OTHER, 3).received, 3, "{}", pair.culvertd.log());
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 3).received, 3, "{}", pair.culvertd.log());
    pair.culvertd.apply(&[with_rules(&[("closed", "DISCARD", "10.3.0.0/24"), protect])]);
    takes_effect(&pair.right, WIRE, OTHER, false);
    let before = pair.culvertd.counter("drop_policy_discard");
    assert_eq!(ping(&pair.right, WIRE, OTHER, 3).received, 0);
    assert!(pair.culvertd.counter("drop_policy_discard") >= before + 3);
    // The implied rule: no rule at all is for that.
    opened();
    takes_effect(&pair.right, WIRE, OTHER, true);
    pair.culvertd.apply(&[with_rules(&[("one", "PROTECT", "10.1.0.1/32")])]);
    takes_effect(&pair.right, WIRE, OTHER, false);
    assert_eq!(ping(&pair.right, WIRE, OTHER, 3).received, 0);
    until_ping(&pair.right, RIGHT, LEFT);
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 3).received, 3);
    let said = pair.culvertd.cli(&["describe", "tenants/acme"]);
    assert!(said.text.contains("implied") && said.text.contains("DISCARD"), "{}", said.text);
}

/// What comes through a tunnel has to be what the policy would send by it (RFC 4301 section 5.2).
#[test]
fn what_comes_in_meets_the_same_policy() {
    let Some(pair) = open() else { return };
    pair.culvertd.peer(&wide(false));
    until_ping(&pair.right, RIGHT, LEFT);
    pair.culvertd.apply(&[with_rules(&[("none", "DISCARD", "10.1.0.0/24")])]);
    takes_effect(&pair.left, LEFT, RIGHT, false);
    let before = pair.culvertd.counter("drop_policy_inbound");
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 0);
    assert!(pair.culvertd.counter("drop_policy_inbound") >= before + 3);
    pair.culvertd.apply(&[with_rules(&[("all", "PROTECT", "10.1.0.0/24")])]);
    takes_effect(&pair.left, LEFT, RIGHT, true);
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3);
}

#[test]
fn a_rule_names_a_peer_that_comes_after_it_and_after_a_restart() {
    let Some(mut pair) = open() else { return };
    let named =
        format!("{}    peer: tenants/acme/peers/left\n", with_rules(&[("all", "PROTECT", "10.1.0.0/24")]));
    pair.culvertd.apply(&[named]);
    pair.culvertd.peer(&wide(false));
    until_ping(&pair.right, RIGHT, LEFT);
    pair.culvertd.restart();
    until_ping(&pair.right, RIGHT, LEFT);
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3, "{}", pair.culvertd.log());
}

#[test]
fn the_order_of_rules_changes_without_a_gap() {
    let Some(pair) = open() else { return };
    pair.culvertd.peer(&wide(false));
    until_ping(&pair.right, RIGHT, LEFT);
    let protect = ("inner", "PROTECT", "10.1.0.0/24");
    let others = [("open", "BYPASS", "10.3.0.0/24"), ("closed", "DISCARD", "10.3.0.0/16")];
    pair.culvertd.apply(&[with_rules(&[protect, others[0], others[1]])]);
    let flood = Flood::start(&pair.right, RIGHT, LEFT);
    for _ in 0..5 {
        pair.culvertd.apply(&[with_rules(&[others[1], others[0], protect])]);
        takes_effect(&pair.right, WIRE, OTHER, false);
        pair.culvertd.apply(&[with_rules(&[others[0], protect, others[1]])]);
        takes_effect(&pair.right, WIRE, OTHER, true);
    }
    let pings = flood.stop();
    assert!(pings.sent >= 500);
    assert_eq!(pings.sent, pings.received, "{pings:?}\n{}", pair.culvertd.log());
}
