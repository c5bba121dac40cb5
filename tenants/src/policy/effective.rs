//! What packets meet: the rules that are configured or stand by default, and the one that is implied.

use std::collections::BTreeMap;
use std::sync::Arc;

use culvert_proto::v1;

use super::{PeerRef, Policy, RuleAction};
use crate::cidr::Cidr;
use crate::limits::MAX_EFFECTIVE_RULES;
use crate::name::PeerName;
use crate::peer::{ChildSpec, Peer};
use crate::tenant::{Tenant, Uplink};

/// The rules of a tenant with these peers, in the order in which packets meet them, and how many there are: only the first
/// [`MAX_EFFECTIVE_RULES`] are given, the last one always.
pub fn effective_rules(tenant: &Tenant, peers: &[Arc<Peer>]) -> (Vec<v1::EffectiveRule>, usize) {
    let policy = &tenant.spec.policy;
    let mut rules =
        if policy.rules.is_empty() { by_default(peers) } else { configured(policy, tenant, peers) };
    let count = rules.len() + 1;
    rules.truncate(MAX_EFFECTIVE_RULES - 1);
    rules.push(v1::EffectiveRule {
        name: "implied".to_owned(),
        action: v1::PolicyAction::Discard.into(),
        implied: true,
        note: "what no rule matches goes nowhere".to_owned(),
        ..Default::default()
    });
    (rules, count)
}

/// One rule per child of every peer: the longest prefixes first, as a packet goes to the most specific subnet, then in the
/// order of names. A child with subnets of several lengths has a rule for each.
fn by_default(peers: &[Arc<Peer>]) -> Vec<v1::EffectiveRule> {
    let mut keyed = Vec::new();
    for peer in peers {
        for child in &peer.spec.children {
            let mut lengths: BTreeMap<u8, Vec<Cidr>> = BTreeMap::new();
            for subnet in &child.remote_subnets {
                lengths.entry(subnet.prefix()).or_default().push(*subnet);
            }
            for (length, subnets) in lengths {
                keyed.push((std::cmp::Reverse(length), &peer.name, child, subnets));
            }
        }
    }
    keyed.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    keyed.into_iter().map(|(_, name, child, subnets)| default_rule(name, child, &subnets)).collect()
}

fn default_rule(peer: &PeerName, child: &ChildSpec, remote: &[Cidr]) -> v1::EffectiveRule {
    let texts = |subnets: &[Cidr]| subnets.iter().map(ToString::to_string).collect();
    let peer = peer.to_string();
    let id = peer.rsplit('/').next().unwrap_or_default();
    v1::EffectiveRule {
        name: format!("{id}/{}", child.name),
        action: v1::PolicyAction::Protect.into(),
        local_subnets: texts(&child.local_subnets),
        remote_subnets: texts(remote),
        child: child.name.clone(),
        implied: true,
        peer,
        ..Default::default()
    }
}

fn configured(policy: &Policy, tenant: &Tenant, peers: &[Arc<Peer>]) -> Vec<v1::EffectiveRule> {
    let rule = |rule: &super::Rule| {
        let note = match &rule.action {
            RuleAction::Protect(Some(target)) => missing(target, peers),
            RuleAction::Bypass if !rule.is_by_destination() => match &tenant.spec.uplink {
                Uplink::Tun(tun) if tun.clear_device.is_none() => {
                    "uplink.tun.clear_device is not set: such packets are dropped".to_owned()
                }
                _ => String::new(),
            },
            _ => String::new(),
        };
        let rule = rule.to_proto();
        v1::EffectiveRule {
            name: rule.name,
            action: rule.action,
            local_subnets: rule.local_subnets,
            remote_subnets: rule.remote_subnets,
            protocol: rule.protocol,
            local_ports: rule.local_ports,
            remote_ports: rule.remote_ports,
            peer: rule.peer,
            child: rule.child,
            implied: false,
            note,
        }
    };
    policy.rules.iter().map(rule).collect()
}

/// What of the target is not there.
fn missing(target: &PeerRef, peers: &[Arc<Peer>]) -> String {
    let Some(peer) = peers.iter().find(|peer| peer.name == target.peer) else {
        return "the peer does not exist: nothing carries such packets".to_owned();
    };
    match &target.child {
        Some(child) if peer.spec.child(child).is_none() => {
            "the peer has no such child: nothing carries such packets".to_owned()
        }
        _ => String::new(),
    }
}
