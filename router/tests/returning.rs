//! ICMP errors of routers between the hosts, which no selector takes by their own addresses (RFC 4301 section 6.2).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Gateway, Remote, hopped, udp};
use esp::icmp::{self, IcmpError};
use router::TenantId;
use router::policy::{Policy, PolicyAction, PolicyRule, Tunnels};

const FIRST: &str = "10.1.0.0/16";
const SECOND: &str = "10.2.0.0/16";

/// What a router elsewhere says of a packet.
fn error(about: &[u8]) -> Vec<u8> {
    let mut out = vec![0; icmp::MAX_LEN];
    let info = esp::ip::parse(about).unwrap();
    let router = "192.168.0.1".parse().unwrap();
    let len = icmp::write(IcmpError::TooBig { mtu: 1300 }, router, about, &info, &mut out).unwrap();
    out.truncate(len);
    out
}

/// Two sites that speak with each other and with nobody else.
fn sites(gateway: &Gateway) -> (TenantId, Remote, Remote) {
    let tenant = gateway.hub(1);
    let first = gateway.connect(tenant, 1, 11, SECOND, FIRST);
    (tenant, first, gateway.connect(tenant, 2, 12, FIRST, SECOND))
}

#[test]
fn an_error_of_a_router_reaches_the_sender_of_what_it_is_about() {
    for shards in [1, 2] {
        let gateway = Gateway::start(shards);
        let (_, mut first, mut second) = sites(&gateway);
        let ping = udp("10.2.0.1", "10.1.0.1", 1, 600);
        second.send(&ping);
        let arrived = first.receive();
        assert_eq!(arrived, hopped(&ping));
        let error = error(&arrived);
        first.send(&error);
        assert_eq!(second.receive(), hopped(&error));
    }
}

#[test]
fn an_error_about_what_the_tunnel_does_not_carry_is_refused() {
    let gateway = Gateway::start(1);
    let (_, mut first, mut second) = sites(&gateway);
    for (source, destination) in [("10.2.0.1", "10.3.0.1"), ("10.3.0.1", "10.1.0.1")] {
        first.send(&error(&udp(source, destination, 1, 600)));
    }
    gateway.wait_for("esp_selector_mismatch", 2);
    // One to another host than the sender.
    let mut other = error(&udp("10.2.0.1", "10.1.0.1", 1, 600));
    other[19] = 9;
    common::fix_checksum(&mut other);
    first.send(&other);
    gateway.wait_for("esp_selector_mismatch", 3);
    let ping = udp("10.1.0.1", "10.2.0.1", 1, 10);
    first.send(&ping);
    assert_eq!(second.receive(), hopped(&ping), "and nothing before it");
}

#[test]
fn a_rule_that_discards_errors_is_kept() {
    for wide in [false, true] {
        for to in [None, Some(SECOND)] {
            a_rule_is_kept(wide, to);
        }
    }
}

/// Where the selectors of the first tunnel have the router or not, and the rule an address or none.
fn a_rule_is_kept(wide: bool, to: Option<&str>) {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut first = gateway.connect(tenant, 1, 11, SECOND, if wide { "0.0.0.0/0" } else { FIRST });
    let mut second = gateway.connect(tenant, 2, 12, FIRST, SECOND);
    let rule = |action, protocol| PolicyRule {
        action,
        local: Vec::new(),
        remote: Vec::new(),
        protocol,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    };
    let protect = rule(PolicyAction::Protect(Tunnels::Any), Some(17));
    let about = udp("10.2.0.1", "10.1.0.1", 1, 600);
    gateway.handle.set_policy(tenant, Policy::new(vec![protect.clone()]).unwrap()).unwrap();
    first.send(&error(&about));
    assert_eq!(second.receive(), hopped(&error(&about)), "no rule is about it");
    let mut discard = rule(PolicyAction::Discard, Some(1));
    if to.is_some() {
        discard.remote = vec!["10.2.0.0".parse().unwrap()..="10.2.255.255".parse().unwrap()];
    }
    gateway.handle.set_policy(tenant, Policy::new(vec![discard, protect]).unwrap()).unwrap();
    let ping = udp("10.1.0.1", "10.2.0.1", 1, 10);
    first.send(&error(&about));
    first.send(&ping);
    assert_eq!(second.receive(), hopped(&ping), "and nothing before it");
}
