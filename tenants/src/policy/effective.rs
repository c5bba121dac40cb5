//! What packets meet: the rules that are configured or stand by default, and the one that is implied.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use culvert_proto::v1;
use prost::Message as _;

use super::{PeerRef, Policy, RuleAction};
use crate::cidr::Cidr;
use crate::limits::{MAX_ANSWER_OCTETS, MAX_EFFECTIVE_RULES};
use crate::name::PeerName;
use crate::peer::{ChildSpec, Peer};
use crate::tenant::{Tenant, Uplink};

/// The rules of a tenant with these peers, in the order in which packets meet them, and how many there are: only the first
/// [`MAX_EFFECTIVE_RULES`] and [`MAX_ANSWER_OCTETS`] are given, the last one always. All peers are looked at, so it may take a while.
pub fn effective_rules(tenant: &Tenant, peers: &[Arc<Peer>]) -> (Vec<v1::EffectiveRule>, usize) {
    let policy = &tenant.spec.policy;
    let (mut rules, count) = if policy.rules.is_empty() {
        by_default(peers)
    } else {
        (configured(policy, tenant, peers), policy.rules.len())
    };
    rules.truncate(SHOWN);
    let mut octets = 0;
    let is_too_much = |rule: &v1::EffectiveRule| {
        octets += rule.encoded_len();
        octets > MAX_ANSWER_OCTETS
    };
    if let Some(shown) = rules.iter().position(is_too_much) {
        rules.truncate(shown);
    }
    rules.push(v1::EffectiveRule {
        name: "implied".to_owned(),
        action: v1::PolicyAction::Discard.into(),
        implied: true,
        note: "what no rule matches goes nowhere".to_owned(),
        ..Default::default()
    });
    (rules, count + 1)
}

/// Those that are given, but for the last.
const SHOWN: usize = MAX_EFFECTIVE_RULES - 1;

/// One rule per child of every peer: the longest prefixes first, as a packet goes to the most specific subnet, then in the
/// order of names. A child with subnets of several lengths has a rule for each. The first [`SHOWN`] of them, and how many there are.
fn by_default(peers: &[Arc<Peer>]) -> (Vec<v1::EffectiveRule>, usize) {
    let mut keys = Vec::new();
    for peer in peers {
        for child in &peer.spec.children {
            let lengths: BTreeSet<u8> = child.remote_subnets.iter().map(|subnet| subnet.prefix()).collect();
            keys.extend(lengths.into_iter().map(|length| (Reverse(length), &peer.name, child)));
        }
    }
    let count = keys.len();
    let order = |a: &(_, &PeerName, &ChildSpec), b: &(_, &PeerName, &ChildSpec)| {
        (&a.0, a.1, &a.2.name).cmp(&(&b.0, b.1, &b.2.name))
    };
    if count > SHOWN {
        // Of those beyond nothing is written.
        keys.select_nth_unstable_by(SHOWN, order);
        keys.truncate(SHOWN);
    }
    keys.sort_by(order);
    let rule = |(Reverse(length), name, child): (Reverse<u8>, &PeerName, &ChildSpec)| {
        let subnets = child.remote_subnets.iter().filter(|subnet| subnet.prefix() == length).copied();
        default_rule(name, child, &subnets.collect::<Vec<_>>())
    };
    (keys.into_iter().map(rule).collect(), count)
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
    let target = |rule: &super::Rule| match &rule.action {
        RuleAction::Protect(target) => target.as_ref().map(|target| target.peer.clone()),
        _ => None,
    };
    // All peers are looked through once, however many rules there are.
    let targets: HashSet<PeerName> = policy.rules.iter().filter_map(target).collect();
    let targets: HashMap<&PeerName, &Arc<Peer>> =
        peers.iter().filter(|peer| targets.contains(&peer.name)).map(|peer| (&peer.name, peer)).collect();
    let rule = |rule: &super::Rule| {
        let note = match &rule.action {
            RuleAction::Protect(Some(target)) => missing(target, &targets),
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
fn missing(target: &PeerRef, peers: &HashMap<&PeerName, &Arc<Peer>>) -> String {
    let Some(peer) = peers.get(&target.peer) else {
        return "the peer does not exist: nothing carries such packets".to_owned();
    };
    match &target.child {
        Some(child) if peer.spec.child(child).is_none() => {
            "the peer has no such child: nothing carries such packets".to_owned()
        }
        _ => String::new(),
    }
}
