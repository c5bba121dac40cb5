//! What is accepted, what is refused and how, and what comes of it.

use std::sync::Arc;

use super::*;
use crate::name::TenantName;
use crate::tenant::TenantSpec;
use crate::violation::Violations;

fn acme() -> TenantName {
    TenantName::from_id("acme").unwrap()
}

fn rule(name: &str, action: v1::PolicyAction) -> v1::PolicyRule {
    v1::PolicyRule { name: name.to_owned(), action: action.into(), ..Default::default() }
}

fn tenant(rules: Vec<v1::PolicyRule>, tun: bool) -> v1::Tenant {
    let kind = if tun {
        let device = "tun-acme".to_owned();
        v1::uplink::Kind::Tun(v1::uplink::Tun { device, ..Default::default() })
    } else {
        v1::uplink::Kind::Hub(v1::uplink::Hub {})
    };
    v1::Tenant {
        uplink: Some(v1::Uplink { kind: Some(kind) }),
        policy: Some(v1::Policy { rules }),
        ..Default::default()
    }
}

fn faults(rules: Vec<v1::PolicyRule>, tun: bool) -> Vec<(String, String)> {
    let faults: Violations = TenantSpec::parse(&acme(), &tenant(rules, tun)).unwrap_err();
    faults.iter().map(|fault| (fault.field.clone(), fault.description.clone())).collect()
}

#[test]
fn a_policy_survives_being_written() {
    let rules = vec![
        v1::PolicyRule {
            local_subnets: vec!["10.0.0.0/8".into(), "2001:db8::/32".into()],
            remote_subnets: vec!["10.1.0.0/16".into()],
            protocol: "tcp".into(),
            local_ports: vec!["8000-8099".into()],
            remote_ports: vec!["443".into(), "80".into()],
            peer: "tenants/acme/peers/b1".into(),
            child: "lan".into(),
            ..rule("web", v1::PolicyAction::Protect)
        },
        v1::PolicyRule { protocol: "47".into(), ..rule("gre", v1::PolicyAction::Bypass) },
        rule("rest", v1::PolicyAction::Discard),
    ];
    let spec = TenantSpec::parse(&acme(), &tenant(rules.clone(), true)).unwrap();
    assert_eq!(spec.to_proto().policy.unwrap().rules, rules);
    assert_eq!(TenantSpec::parse(&acme(), &spec.to_proto()).unwrap(), spec);
}

#[test]
fn every_fault_has_its_field() {
    let bad = v1::PolicyRule {
        name: "X".into(),
        local_subnets: vec!["10.0.0.1/8".into()],
        protocol: "tcpp".into(),
        remote_ports: vec!["80".into()],
        peer: "tenants/other/peers/b1".into(),
        ..rule("", v1::PolicyAction::Protect)
    };
    let ports = v1::PolicyRule {
        protocol: "udp".into(),
        local_ports: vec!["9-8".into(), "http".into(), "1-".into()],
        child: "lan".into(),
        ..rule("ports", v1::PolicyAction::Discard)
    };
    let families = v1::PolicyRule {
        local_subnets: vec!["10.0.0.0/8".into()],
        remote_subnets: vec!["2001:db8::/32".into()],
        ..rule("ports", v1::PolicyAction::Unspecified)
    };
    let found = faults(vec![bad, ports, families], true);
    let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "policy.rules[0].name",
            "policy.rules[0].peer",
            "policy.rules[0].local_subnets[0]",
            "policy.rules[0].protocol",
            "policy.rules[0].remote_ports",
            "policy.rules[1].child",
            "policy.rules[1].local_ports[0]",
            "policy.rules[1].local_ports[1]",
            "policy.rules[1].local_ports[2]",
            "policy.rules[2].name",
            "policy.rules[2].action",
            "policy.rules[2].remote_subnets",
        ],
        "{found:#?}"
    );
    assert!(found[6].1.contains("did you mean 8-9"), "{found:?}");
}

#[test]
fn a_hub_cannot_bypass() {
    let found = faults(vec![rule("out", v1::PolicyAction::Bypass)], false);
    assert_eq!(found[0].0, "policy.rules[0].action");
    assert!(found[0].1.contains("TUN uplink"), "{found:?}");
}

#[test]
fn there_is_a_bound() {
    let rules = (0..257).map(|i| rule(&format!("r{i}"), v1::PolicyAction::Discard)).collect();
    assert_eq!(faults(rules, true)[0].0, "policy.rules");
}

fn peer(id: &str, children: &[(&str, &[&str])]) -> Arc<Peer> {
    let local = |remote: &[&str]| if remote[0].contains(':') { "fd00::/8" } else { "10.0.0.0/8" };
    let child = |(name, remote): &(&str, &[&str])| v1::Child {
        name: (*name).to_owned(),
        local_subnets: vec![local(remote).into()],
        remote_subnets: remote.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let message = v1::Peer {
        local_identity: "hub.example".into(),
        remote_identity: format!("{id}.example"),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".into())) }),
        children: children.iter().map(child).collect(),
        ..Default::default()
    };
    let spec = crate::peer::PeerSpec::parse(&acme(), &message).unwrap();
    let meta = crate::meta::Meta {
        revision: 1,
        created: std::time::UNIX_EPOCH,
        updated: std::time::UNIX_EPOCH,
        request_id: String::new(),
    };
    Arc::new(Peer { name: PeerName::from_id(acme(), id).unwrap(), tenant: 1, uid: 1, spec, meta })
}

fn effective(rules: Vec<v1::PolicyRule>, peers: &[Arc<Peer>]) -> (Vec<v1::EffectiveRule>, usize) {
    let meta = peer("x", &[("lan", &["10.9.0.0/16"])]).meta.clone();
    let spec = TenantSpec::parse(&acme(), &tenant(rules, true)).unwrap();
    effective_rules(&Tenant { name: acme(), number: 1, spec, meta }, peers)
}

#[test]
fn the_default_is_shown_in_the_order_packets_meet_it() {
    let peers = [
        peer("b1", &[("lan", &["10.1.0.0/16", "10.1.7.0/24"]), ("all", &["0.0.0.0/0"])]),
        peer("b2", &[("lan", &["10.2.0.0/16"])]),
    ];
    let (rules, count) = effective(Vec::new(), &peers);
    let shown: Vec<_> =
        rules.iter().map(|rule| (rule.name.as_str(), rule.remote_subnets.join(","))).collect();
    assert_eq!(
        shown,
        [
            ("b1/lan", "10.1.7.0/24".to_owned()),
            ("b1/lan", "10.1.0.0/16".to_owned()),
            ("b2/lan", "10.2.0.0/16".to_owned()),
            ("b1/all", "0.0.0.0/0".to_owned()),
            ("implied", String::new()),
        ]
    );
    assert_eq!((count, rules[4].action()), (5, v1::PolicyAction::Discard));
    assert!(rules.iter().all(|rule| rule.implied));
}

#[test]
fn rules_stand_instead_of_the_default_and_say_what_is_missing() {
    let peers = [peer("b1", &[("lan", &["10.1.0.0/16"])])];
    let to = |name: &str, peer: &str, child: &str| v1::PolicyRule {
        peer: peer.into(),
        child: child.into(),
        ..rule(name, v1::PolicyAction::Protect)
    };
    let udp = v1::PolicyRule { protocol: "udp".into(), ..rule("udp", v1::PolicyAction::Bypass) };
    let rules = vec![
        udp,
        to("one", "tenants/acme/peers/b1", "lan"),
        to("two", "tenants/acme/peers/b1", "wan"),
        to("three", "tenants/acme/peers/b3", ""),
    ];
    let (rules, count) = effective(rules, &peers);
    let notes: Vec<_> = rules.iter().map(|rule| rule.note.split(':').next().unwrap_or_default()).collect();
    assert_eq!(count, 5);
    assert_eq!(
        notes,
        [
            "uplink.tun.clear_device is not set",
            "",
            "the peer has no such child",
            "the peer does not exist",
            "what no rule matches goes nowhere",
        ]
    );
}

#[test]
fn many_are_cut_but_the_last_is_shown() {
    let peers: Vec<_> = (0..1200).map(|i| peer(&format!("b{i}"), &[("lan", &["10.1.0.0/16"])])).collect();
    let (rules, count) = effective(Vec::new(), &peers);
    assert_eq!((rules.len(), count), (1000, 1201));
    assert_eq!(rules.last().unwrap().name, "implied");
}

/// Every client takes an answer of 4 MiB, and without larger ones nobody could read the tenant.
#[test]
fn large_ones_are_cut_by_what_they_take_and_the_last_is_shown() {
    let subnets: Vec<String> =
        (0..64).map(|low| format!("2001:db8:1234:5678:9abc:def0:1234:{low:x}/128")).collect();
    let subnets: Vec<&str> = subnets.iter().map(String::as_str).collect();
    let peers: Vec<_> = (0..1200).map(|i| peer(&format!("b{i}"), &[("lan", &subnets)])).collect();
    let (rules, count) = effective(Vec::new(), &peers);
    let octets: usize = rules.iter().map(prost::Message::encoded_len).sum();
    assert_eq!(count, 1201);
    assert!((1 << 20..3 << 20).contains(&octets) && rules.len() < 1000, "{} rules of {octets}", rules.len());
    assert_eq!(rules.last().unwrap().name, "implied");
}

#[test]
fn a_policy_that_no_cluster_could_store_is_refused_by_its_field() {
    let catalog = crate::Catalog::in_memory().unwrap();
    let subnets: Vec<String> =
        (0..64).map(|low| format!("2001:db8:1234:5678:9abc:def0:1234:{low:x}/128")).collect();
    let wide = |number: usize| v1::PolicyRule {
        local_subnets: subnets.clone(),
        remote_subnets: subnets.clone(),
        ..rule(&format!("r{number}"), v1::PolicyAction::Discard)
    };
    let create = |tenant_id: &str, rules: usize| {
        let tenant = Some(tenant((0..rules).map(wide).collect(), true));
        let request =
            v1::CreateTenantRequest { tenant_id: tenant_id.to_owned(), tenant, ..Default::default() };
        catalog.create_tenant(&request)
    };
    create("acme", 64).unwrap();
    let refused = create("zeta", 256).unwrap_err().to_string();
    assert!(refused.contains("tenant.policy.rules") && refused.contains("at most 524288"), "{refused}");
}
