//! A tenant's policy and its tunnels as the router takes them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use esp::{Selector, SelectorPair};
use ike::supervise::Start;
use router::policy::{Policy, PolicyAction, PolicyRule, Tunnels};
use router::{TenantId, TunnelConfig};
use tenants::{ChildSpec, Cidr, PeerName, PeerRef, Ports, Rule, RuleAction};

use crate::convert;
use crate::numbered::Numbered;

/// Peers by their names: a tenant may have as many rules as peers, each of which names another.
type Peers<'a> = HashMap<&'a PeerName, &'a Numbered>;

/// The rules of a policy with these peers.
pub(crate) fn policy<'a>(
    policy: &tenants::Policy,
    peers: impl Iterator<Item = &'a Arc<Numbered>>,
) -> Option<Policy> {
    let peers: Peers<'_> = peers.map(|peer| (&peer.name, &**peer)).collect();
    Policy::new(policy.rules.iter().map(|r| rule(r, &peers)).collect())
}

fn rule(rule: &Rule, peers: &Peers<'_>) -> PolicyRule {
    let action = match &rule.action {
        RuleAction::Protect(None) => PolicyAction::Protect(Tunnels::Any),
        RuleAction::Protect(Some(target)) => PolicyAction::Protect(Tunnels::Range(tunnels(target, peers))),
        RuleAction::Bypass => PolicyAction::Bypass,
        RuleAction::Discard => PolicyAction::Discard,
    };
    PolicyRule {
        action,
        local: addresses(&rule.local_subnets),
        remote: addresses(&rule.remote_subnets),
        protocol: rule.protocol,
        local_ports: ports(&rule.local_ports),
        remote_ports: ports(&rule.remote_ports),
    }
}

/// The tunnels of a rule's peer; none while it is not there.
fn tunnels(target: &PeerRef, peers: &Peers<'_>) -> RangeInclusive<u64> {
    #[allow(clippy::reversed_empty_ranges)] // Nothing is in it, which is what it says.
    const NONE: RangeInclusive<u64> = 1..=0;
    let Some(peer) = peers.get(&target.peer) else { return NONE };
    match &target.child {
        None => convert::tunnels_of(peer.uid),
        Some(child) => peer.tunnel_id(child).map_or(NONE, |tunnel| tunnel.0..=tunnel.0),
    }
}

fn addresses(subnets: &[Cidr]) -> Vec<RangeInclusive<IpAddr>> {
    subnets.iter().map(|subnet| subnet.first()..=subnet.last()).collect()
}

fn ports(ports: &[Ports]) -> Vec<RangeInclusive<u16>> {
    ports.iter().map(|ports| ports.low..=ports.high).collect()
}

/// A peer's tunnels, whether or not they are up.
pub(crate) fn declarations(peer: &Numbered) -> impl Iterator<Item = TunnelConfig> {
    let plan = convert::plan(&peer.spec);
    let on_demand = [plan.start, plan.lost].contains(&Start::OnDemand);
    peer.spec.children.iter().filter_map(move |child| {
        let tunnel = peer.tunnel_id(&child.name)?;
        Some(TunnelConfig { tenant: TenantId(peer.tenant), tunnel, selectors: selectors(child), on_demand })
    })
}

fn selectors(child: &ChildSpec) -> SelectorPair {
    let all = |subnets: &[Cidr]| {
        subnets.iter().map(|subnet| Selector::range(subnet.first(), subnet.last())).collect()
    };
    SelectorPair { local: all(&child.local_subnets), remote: all(&child.remote_subnets) }
}
