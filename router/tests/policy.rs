//! The tenant's policy on the packet path, and tunnels on demand.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use common::{Gateway, Remote, hopped, subnet, udp};
use esp::{Limits, SelectorPair};
use router::policy::{Policy, PolicyAction, PolicyRule, Tunnels};
use router::{RouterEvent, TenantId, TunnelConfig, TunnelId};

const ANY: &str = "0.0.0.0/0";

fn net(text: &str) -> RangeInclusive<IpAddr> {
    let selector = subnet(text);
    selector.start..=selector.end
}

fn rule(action: PolicyAction, local: &[&str], remote: &[&str]) -> PolicyRule {
    PolicyRule {
        action,
        local: local.iter().map(|text| net(text)).collect(),
        remote: remote.iter().map(|text| net(text)).collect(),
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    }
}

fn protect(tunnel: u64) -> PolicyAction {
    PolicyAction::Protect(Tunnels::Range(tunnel..=tunnel))
}

fn apply(gateway: &Gateway, tenant: TenantId, rules: Vec<PolicyRule>) {
    gateway.handle.set_policy(tenant, Policy::new(rules).unwrap()).unwrap();
}

fn declare(gateway: &Gateway, tenant: TenantId, tunnel: u64, remote: &str, on_demand: bool) {
    let selectors = SelectorPair { local: vec![subnet(ANY)], remote: vec![subnet(remote)] };
    let config = TunnelConfig { tenant, tunnel: TunnelId(tunnel), selectors, on_demand };
    gateway.handle.declare_tunnel(config).unwrap();
}

/// Two branches of one tenant that sends between them.
fn branches(gateway: &Gateway) -> (TenantId, Remote, Remote) {
    let tenant = gateway.hub(1);
    let first = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let second = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    (tenant, first, second)
}

#[test]
fn rules_are_reordered_while_traffic_flows() {
    let gateway = Gateway::start(2);
    let (tenant, mut first, mut second) = branches(&gateway);
    let own = || [rule(protect(1), &[], &["10.1.0.0/16"]), rule(protect(2), &[], &["10.2.0.0/16"])];
    let quarantine = || rule(PolicyAction::Discard, &[], &["10.2.9.0/24"]);
    let ping = |number| udp("10.1.0.1", "10.2.9.1", number, 40);

    apply(&gateway, tenant, [own().to_vec(), vec![quarantine()]].concat());
    first.send(&ping(1));
    assert_eq!(second.receive(), hopped(&ping(1)), "the protect rule comes first");

    apply(&gateway, tenant, [vec![quarantine()], own().to_vec()].concat());
    first.send(&ping(2));
    gateway.wait_for("drop_policy_discard", 1);
    let elsewhere = udp("10.1.0.1", "10.2.8.1", 3, 40);
    first.send(&elsewhere);
    assert_eq!(second.receive(), hopped(&elsewhere), "the running SAs stay");

    apply(&gateway, tenant, own().to_vec());
    first.send(&ping(4));
    assert_eq!(second.receive(), hopped(&ping(4)));
    apply(&gateway, tenant, Vec::new());
    first.send(&ping(5));
    assert_eq!(second.receive(), hopped(&ping(5)), "the default policy");
    assert_eq!(gateway.stats_of(first.spi).drops, [("drop_policy_discard", 1)]);
}

#[test]
fn what_no_rule_matches_is_discarded() {
    let gateway = Gateway::start(1);
    let (tenant, mut first, mut second) = branches(&gateway);
    let rules = vec![rule(protect(1), &[], &["10.1.0.0/16"]), rule(protect(2), &[], &["10.2.0.0/24"])];
    apply(&gateway, tenant, rules);
    first.send(&udp("10.1.0.1", "10.2.1.1", 1, 40));
    first.send(&udp("10.1.0.1", "10.2.0.1", 2, 40));
    assert_eq!(second.receive()[28..32], 2u32.to_be_bytes());
    assert_eq!(gateway.counter("drop_policy_discard"), 1);
}

#[test]
fn a_packet_must_come_by_the_tunnel_that_protects_it() {
    let gateway = Gateway::start(1);
    let (tenant, mut first, mut second) = branches(&gateway);
    let rules = vec![
        rule(protect(2), &[], &["10.1.7.0/24"]),
        rule(protect(1), &[], &["10.1.0.0/16"]),
        rule(protect(2), &[], &["10.2.0.0/16"]),
    ];
    apply(&gateway, tenant, rules);
    // Inside the SA's selectors, but the policy has this network behind the other tunnel.
    first.send(&udp("10.1.7.1", "10.2.0.1", 1, 40));
    first.send(&udp("10.1.8.1", "10.2.0.1", 2, 40));
    assert_eq!(second.receive()[28..32], 2u32.to_be_bytes());
    assert_eq!(gateway.counter("drop_policy_inbound"), 1);
    // A rule whose tunnel does not carry the packet does not fall through to the next.
    second.send(&udp("10.2.0.1", "10.1.7.1", 3, 40));
    gateway.wait_for("drop_policy_no_tunnel", 1);
    assert!(first.is_silent());
}

#[test]
fn a_hub_has_no_way_in_the_clear() {
    let gateway = Gateway::start(1);
    let (tenant, mut first, second) = branches(&gateway);
    let rules =
        vec![rule(PolicyAction::Bypass, &[], &["10.2.0.0/16"]), rule(protect(1), &[], &["10.1.0.0/16"])];
    apply(&gateway, tenant, rules);
    first.send(&udp("10.1.0.1", "10.2.0.1", 1, 40));
    gateway.wait_for("drop_bypass_no_device", 1);
    assert!(second.is_silent());
}

#[test]
fn fragments_do_not_pass_rules_with_ports() {
    let gateway = Gateway::start(1);
    let (tenant, mut first, mut second) = branches(&gateway);
    let dns = PolicyRule {
        protocol: Some(17),
        remote_ports: vec![53..=53],
        ..rule(PolicyAction::Discard, &[], &["10.2.0.0/16"])
    };
    let rules = vec![dns, rule(protect(1), &[], &["10.1.0.0/16"]), rule(protect(2), &[], &["10.2.0.0/16"])];
    apply(&gateway, tenant, rules);
    let mut later = udp("10.1.0.1", "10.2.0.1", 1, 40);
    later[7] = 3;
    first.send(&later);
    first.send(&udp("10.1.0.1", "10.2.0.1", 2, 40));
    assert_eq!(second.receive()[28..32], 2u32.to_be_bytes());
    assert_eq!(gateway.counter("drop_policy_fragment"), 1);
}

#[test]
fn a_tunnel_that_is_down_is_not_gone_round() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    declare(&gateway, tenant, 2, "10.2.0.0/16", false);
    let mut first = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let wide = gateway.connect(tenant, 3, 13, ANY, ANY);
    first.send(&udp("10.1.0.1", "10.2.0.1", 1, 40));
    gateway.wait_for("drop_no_outbound_sa", 1);
    assert!(wide.is_silent());
    let mut second = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    first.send(&udp("10.1.0.1", "10.2.0.1", 2, 40));
    assert_eq!(second.receive()[28..32], 2u32.to_be_bytes());
    gateway.handle.undeclare_tunnel(tenant, TunnelId(2));
    first.send(&udp("10.1.0.1", "10.2.0.1", 3, 40));
    let mut wide = wide;
    assert_eq!(wide.receive()[28..32], 3u32.to_be_bytes());
}

/// One branch that is up, and one on demand.
fn on_demand(gateway: &Gateway) -> (TenantId, Remote) {
    let tenant = gateway.hub(1);
    declare(gateway, tenant, 2, "10.2.0.0/16", true);
    (tenant, gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16"))
}

fn wanted(gateway: &mut Gateway) -> TunnelId {
    loop {
        match gateway.next_event() {
            RouterEvent::Wanted { tunnel, .. } => return tunnel,
            RouterEvent::FirstInbound { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_packet_waits_for_its_tunnel() {
    for shards in [1, 4] {
        let mut gateway = Gateway::start(shards);
        let (tenant, mut first) = on_demand(&gateway);
        let pings: Vec<_> = (0..5).map(|number| udp("10.1.0.1", "10.2.0.1", number, 40)).collect();
        for ping in &pings {
            first.send(ping);
        }
        gateway.wait_for("held", 5);
        assert_eq!(wanted(&mut gateway), TunnelId(2));
        let mut second = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
        for ping in &pings {
            assert_eq!(second.receive(), hopped(ping), "in the order they came");
        }
        let pong = udp("10.2.0.1", "10.1.0.1", 9, 40);
        second.send(&pong);
        assert_eq!(first.receive(), hopped(&pong));
    }
}

#[test]
fn what_waits_has_a_bound_and_a_failure_empties_it() {
    let mut gateway = Gateway::start(1);
    let (tenant, mut first) = on_demand(&gateway);
    for number in 0..40 {
        first.send(&udp("10.1.0.1", "10.2.0.1", number, 40));
    }
    gateway.wait_for("drop_hold_full", 8);
    assert_eq!(gateway.counter("held"), 32);
    assert_eq!(wanted(&mut gateway), TunnelId(2));
    gateway.handle.drop_held(tenant, TunnelId(2));
    gateway.wait_for("drop_hold_failed", 32);
    // The next packet finds room. It does not ask again so soon.
    first.send(&udp("10.1.0.1", "10.2.0.1", 99, 40));
    gateway.wait_for("held", 33);
    gateway.handle.undeclare_tunnel(tenant, TunnelId(2));
    gateway.wait_for("drop_hold_failed", 33);
}

#[test]
fn tunnels_that_never_come_up_keep_nobody_waiting() {
    let mut gateway = Gateway::start(1);
    let scanned = gateway.hub(1);
    let mut scanner = gateway.connect(scanned, 1, 11, ANY, "10.1.0.0/16");
    for tunnel in 0..100u64 {
        declare(&gateway, scanned, 100 + tunnel, &format!("10.2.{tunnel}.0/24"), true);
    }
    for number in 0..33 {
        for tunnel in 0..100 {
            scanner.send(&udp("10.1.0.1", &format!("10.2.{tunnel}.1"), number, 40));
        }
        gateway.wait_for("esp_received", u64::from(number + 1) * 100);
    }
    let mut asked: Vec<_> = (0..100).map(|_| wanted(&mut gateway)).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 100, "each is asked for, room or not");
    let other = gateway.hub(2);
    declare(&gateway, other, 2, "10.2.0.0/16", true);
    let mut first = gateway.connect(other, 1000, 12, ANY, "10.1.0.0/16");
    let ping = udp("10.1.0.1", "10.2.0.1", 7, 40);
    first.send(&ping);
    while wanted(&mut gateway) != TunnelId(2) {}
    let mut second = gateway.connect(other, 2, 13, ANY, "10.2.0.0/16");
    assert_eq!(second.receive(), hopped(&ping));
}

#[test]
fn a_pair_that_is_gone_is_asked_for_again() {
    let mut gateway = Gateway::start(2);
    let (tenant, mut first) = on_demand(&gateway);
    let second = gateway.install(tenant, 2, 12, ANY, "10.2.0.0/16", Limits::default());
    gateway.handle.activate(second.spi);
    gateway.handle.remove(second.spi);
    assert!(matches!(gateway.next_event(), RouterEvent::Removed { .. }));
    first.send(&udp("10.1.0.1", "10.2.0.1", 1, 40));
    assert_eq!(wanted(&mut gateway), TunnelId(2));
}

#[test]
fn selectors_with_ports_do_not_take_fragments() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut first = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let mut second =
        gateway.install_with(common::socket(12), tenant, 2, ("0.0.0.0/0", "0.0.0.0/0"), |child| {
            child.options.outer_mtu = Some(700);
            child.selectors.remote = vec![esp::Selector {
                protocol: 17,
                start_port: 5001,
                end_port: 5001,
                ..common::subnet("10.2.0.0/16")
            }];
        });
    gateway.handle.activate(second.spi);
    let whole = udp("10.1.0.1", "10.2.0.1", 7, 1372);
    first.send(&whole);
    assert_eq!(second.receive(), hopped(&whole));
    assert_eq!((gateway.counter("inner_fragmented"), gateway.counter("outer_fragmented")), (0, 1));
    // Cut elsewhere: the first fragment shows the ports, the later one cannot prove them.
    let mut later = udp("10.1.0.1", "10.2.0.1", 7, 172);
    later[7] = 40;
    common::fix_checksum(&mut later);
    first.send(&later);
    gateway.wait_for("drop_no_route", 1);
    let mut inward = udp("10.2.0.1", "10.1.0.1", 1, 100);
    inward[7] = 40;
    common::fix_checksum(&mut inward);
    second.send(&inward);
    gateway.wait_for("esp_selector_mismatch", 1);
}
