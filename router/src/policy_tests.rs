//! First match wins, against the plain reading of the rules.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn any_rule(action: PolicyAction) -> PolicyRule {
    PolicyRule {
        action,
        local: Vec::new(),
        remote: Vec::new(),
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    }
}

fn net(third: u8, prefix: u32) -> RangeInclusive<IpAddr> {
    let low = Ipv4Addr::new(10, 0, third, 0).to_bits() & !(u32::MAX >> prefix);
    IpAddr::V4(low.into())..=IpAddr::V4((low | u32::MAX >> prefix).into())
}

fn packet(source: u8, destination: u8, protocol: u8, port: Option<u16>) -> PacketInfo {
    PacketInfo {
        source: IpAddr::V4(Ipv4Addr::new(10, 0, source, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(10, 0, destination, 1)),
        protocol,
        source_port: port.map(|_| 4000),
        destination_port: port,
        len: 40,
    }
}

fn mirrored(packet: &PacketInfo) -> PacketInfo {
    PacketInfo {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ..*packet
    }
}

#[test]
fn without_rules_nothing_matches() {
    let policy = Policy::default();
    assert!(policy.is_default());
    assert_eq!(policy.outbound(&packet(1, 2, 6, Some(80))), Verdict::Unmatched);
}

#[test]
fn there_is_a_bound() {
    let rules = |count| vec![any_rule(PolicyAction::Discard); count];
    assert!(Policy::new(rules(MAX_RULES)).is_some());
    assert!(Policy::new(rules(MAX_RULES + 1)).is_none());
}

#[test]
fn a_family_does_not_match_the_other() {
    let all_v6 = IpAddr::V6(0.into())..=IpAddr::V6(u128::MAX.into());
    let rule = PolicyRule { remote: vec![all_v6], ..any_rule(PolicyAction::Bypass) };
    let policy = Policy::new(vec![rule]).unwrap();
    assert_eq!(policy.outbound(&packet(1, 2, 6, Some(80))), Verdict::Unmatched);
}

#[test]
fn later_fragments_do_not_slip_past_a_rule_with_ports() {
    let web =
        PolicyRule { protocol: Some(6), remote_ports: vec![80..=80], ..any_rule(PolicyAction::Discard) };
    let policy = Policy::new(vec![web, any_rule(PolicyAction::Bypass)]).unwrap();
    assert_eq!(policy.outbound(&packet(1, 2, 6, None)), Verdict::Fragment);
    assert_eq!(policy.outbound(&packet(1, 2, 17, None)), Verdict::Rule(&PolicyAction::Bypass));
    assert_eq!(policy.outbound(&packet(1, 2, 6, Some(81))), Verdict::Rule(&PolicyAction::Bypass));
    assert_eq!(policy.outbound(&packet(1, 2, 6, Some(80))), Verdict::Rule(&PolicyAction::Discard));
}

#[test]
fn a_tunnel_brings_only_what_it_protects() {
    let rule =
        PolicyRule { remote: vec![net(2, 24)], ..any_rule(PolicyAction::Protect(Tunnels::Range(64..=127))) };
    let policy = Policy::new(vec![rule]).unwrap();
    let inbound = packet(2, 1, 6, Some(80));
    assert!(policy.admits(&inbound, TunnelId(64)) && policy.admits(&inbound, TunnelId(127)));
    assert!(!policy.admits(&inbound, TunnelId(128)));
    assert!(!policy.admits(&mirrored(&inbound), TunnelId(64)));
}

/// What a rule says, spelt out.
fn naive(rule: &PolicyRule, packet: &PacketInfo) -> Option<bool> {
    let inside = |ranges: &[RangeInclusive<IpAddr>], address: IpAddr| {
        ranges.is_empty() || ranges.iter().any(|r| *r.start() <= address && address <= *r.end())
    };
    if rule.protocol.is_some() && rule.protocol != Some(packet.protocol) {
        return Some(false);
    }
    if !inside(&rule.local, packet.source) || !inside(&rule.remote, packet.destination) {
        return Some(false);
    }
    let mut unknown = false;
    for (ranges, port) in
        [(&rule.local_ports, packet.source_port), (&rule.remote_ports, packet.destination_port)]
    {
        if ranges.is_empty() {
            continue;
        }
        match port {
            Some(port) if !ranges.iter().any(|r| *r.start() <= port && port <= *r.end()) => {
                return Some(false);
            }
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(true)
}

fn nets() -> impl Strategy<Value = Vec<RangeInclusive<IpAddr>>> {
    prop::collection::vec((0u8..8, 16u32..=26).prop_map(|(third, prefix)| net(third, prefix)), 0..3)
}

fn ports() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
    prop::collection::vec((0u16..6, 0u16..3).prop_map(|(low, more)| low..=low + more), 0..2)
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let action = prop_oneof![
        Just(PolicyAction::Protect(Tunnels::Any)),
        (0u64..4).prop_map(|at| PolicyAction::Protect(Tunnels::Range(at..=at + 1))),
        Just(PolicyAction::Bypass),
        Just(PolicyAction::Discard),
    ];
    (action, nets(), nets(), prop::option::of(prop_oneof![Just(6u8), Just(17)]), ports(), ports()).prop_map(
        |(action, local, remote, protocol, local_ports, remote_ports)| PolicyRule {
            action,
            local,
            remote,
            protocol,
            local_ports,
            remote_ports,
        },
    )
}

proptest! {
    #[test]
    fn the_first_match_decides(
        rules in prop::collection::vec(rule(), 0..12),
        source in 0u8..8,
        destination in 0u8..8,
        protocol in prop_oneof![Just(6u8), Just(17), Just(1)],
        ports in prop::option::of((0u16..8, 0u16..8)),
        tunnel in 0u64..6,
    ) {
        let policy = Policy::new(rules.clone()).unwrap();
        let packet = PacketInfo {
            source_port: ports.map(|p| p.0),
            destination_port: ports.map(|p| p.1),
            ..packet(source, destination, protocol, None)
        };
        let mut expected = Verdict::Unmatched;
        for rule in &rules {
            match naive(rule, &packet) {
                Some(true) => { expected = Verdict::Rule(&rule.action); break; }
                None => { expected = Verdict::Fragment; break; }
                Some(false) => {}
            }
        }
        let protects = match &expected {
            Verdict::Rule(PolicyAction::Protect(Tunnels::Any)) => true,
            Verdict::Rule(PolicyAction::Protect(Tunnels::Range(range))) => range.contains(&tunnel),
            _ => false,
        };
        prop_assert_eq!(policy.outbound(&packet), expected);
        prop_assert_eq!(policy.admits(&mirrored(&packet), TunnelId(tunnel)), protects);
    }
}

#[test]
fn bypassed_destinations_are_those_that_no_rule_before_decides() {
    let by_destination =
        |action, third, prefix| PolicyRule { remote: vec![net(third, prefix)], ..any_rule(action) };
    let rules = vec![
        by_destination(PolicyAction::Discard, 5, 24),
        PolicyRule { protocol: Some(17), ..by_destination(PolicyAction::Bypass, 6, 24) },
        by_destination(PolicyAction::Bypass, 4, 22),
        by_destination(PolicyAction::Protect(Tunnels::Any), 0, 16),
        by_destination(PolicyAction::Bypass, 8, 24),
    ];
    let (v4, v6) = Policy::new(rules).unwrap().bypassed_destinations();
    let nets: Vec<_> = v4
        .prefixes()
        .map(|(key, prefix)| (crate::prefix::address_of(key, true).to_string(), prefix))
        .collect();
    // 10.0.5.0/24 is discarded before; 10.0.6.0/24 only for one protocol, which the kernel's routes cannot tell.
    assert_eq!(nets, [("10.0.4.0".to_owned(), 24), ("10.0.7.0".to_owned(), 24)]);
    assert!(v6.is_empty());
}
