//! Whether what is configured would lead the node's own packets into a tenant's TUN device.
//!
//! A device in the node's own network namespace has routes for the remote subnets of its tenant's peers and rules, in the
//! routing table that IKE and ESP go by as well. Where a peer of anybody's lives in such a subnet, what the node sends it
//! would go into the tunnel instead. The default route is never made, so it takes nothing.

use std::net::IpAddr;

use crate::author::Author;
use crate::catalog::state::State;
use crate::cidr::Cidr;
use crate::host_name::Names;
use crate::name::{PeerName, TenantName};
use crate::peer::PeerSpec;
use crate::policy::{Policy, RuleAction};
use crate::remote::RemoteAddress;
use crate::tenant::{Tenant, TenantSpec, Uplink};
use crate::violation::Violations;

/// A peer's subnets against the addresses of all peers, and its addresses against the subnets of all.
pub(super) fn check_peer(state: &State, name: &PeerName, spec: &PeerSpec, faults: &mut Violations) {
    let tenant = state.tenants.get(name.tenant()).map(|tenant| &tenant.spec);
    if let Some(tenant) = tenant.filter(|tenant| has_routes(tenant)) {
        check_subnets(state, tenant, name, spec, faults);
    }
    for (i, remote) in spec.remote_addresses.iter().enumerate() {
        let field = format!("peer.remote_addresses[{i}]");
        if let Some(whose) = led_by_another(state, name, remote) {
            let whose =
                if whose == *name.tenant() { "another peer's subnet" } else { "a subnet of another tenant" };
            faults.add(field, format!("{remote} is in {whose} that is led into a TUN device: {ADVICE}"));
        }
    }
}

/// A tenant's rules, and the subnets of the peers that it has, once it has a device in the node's namespace.
pub(super) fn check_tenant(
    state: &State,
    author: &Author,
    before: Option<&TenantSpec>,
    tenant: &Tenant,
    faults: &mut Violations,
) {
    let Tenant { name, spec, .. } = tenant;
    if !has_routes(spec) {
        return;
    }
    let old = before.filter(|old| has_routes(old));
    // Where peers are is not held against rules: these are made for large networks, of which the system's own routes to the
    // peers may be the closer part. The router knows what the system does, and so does who has the whole node. Who has one tenant
    // does not, and would keep the others' peers from their tunnels.
    let confined = author.tenant.is_some();
    let rules = spec.policy.rules.iter().enumerate().filter(|(_, rule)| rule.action != RuleAction::Bypass);
    for (i, rule) in rules {
        for (k, subnet) in rule.remote_subnets.iter().enumerate() {
            let taken = || confined.then(|| of_another(state, old, spec, name, *subnet)).flatten();
            if let Some(fault) = too_broad(*subnet).or_else(taken) {
                faults.add(format!("tenant.policy.rules[{i}].remote_subnets[{k}]"), fault);
            }
        }
    }
    if old.is_some_and(|old| old.policy == spec.policy) {
        // The peers were checked when they were written.
        return;
    }
    let field = if old.is_some() { "tenant.policy" } else { "tenant.uplink.tun.netns" };
    for peer in state.peers_of(name) {
        let mut inner = Violations::new();
        check_subnets(state, spec, &peer.name, &peer.spec, &mut inner);
        if let Some(fault) = inner.iter().next() {
            faults.add(field, format!("{}: {}: {}", peer.name, fault.field, fault.description));
            return;
        }
    }
}

fn check_subnets(
    state: &State,
    tenant: &TenantSpec,
    name: &PeerName,
    spec: &PeerSpec,
    faults: &mut Violations,
) {
    for (i, child) in spec.children.iter().enumerate() {
        for (k, subnet) in child.remote_subnets.iter().enumerate().filter(|(_, subnet)| subnet.prefix() > 0) {
            let names = &state.index.names;
            let own =
                spec.remote_addresses.iter().find(|remote| holds(*subnet, &tenant.policy, remote, names));
            let fault = match own {
                Some(own) => Some(format!("{subnet} contains {own}, where the peer itself is: {ADVICE}")),
                None => fault_of(state, tenant, name.tenant(), Some(name), *subnet),
            };
            if let Some(fault) = fault {
                faults.add(format!("peer.children[{i}].remote_subnets[{k}]"), fault);
            }
        }
    }
}

/// What is wrong with leading a subnet into the device of a tenant. `except` is a peer that is being written.
fn fault_of(
    state: &State,
    tenant: &TenantSpec,
    name: &TenantName,
    except: Option<&PeerName>,
    subnet: Cidr,
) -> Option<String> {
    if let Some(fault) = too_broad(subnet) {
        return Some(fault);
    }
    let mut inside =
        state.index.origins.within(subnet, &state.index.names).filter(|(_, peer)| Some(&peer.name) != except);
    let (address, peer) = inside.find(|(address, _)| !is_bypassed(&tenant.policy, Cidr::host(*address)))?;
    Some(match (peer.name.tenant() == name).then_some(peer) {
        Some(peer) => format!("{subnet} contains {address}, where {} is: {ADVICE}", peer.name),
        None => of_others(subnet),
    })
}

/// What is wrong with a subnet of a rule in which another tenant's peer is that what there was before, `old`, leads nowhere.
fn of_another(
    state: &State,
    old: Option<&TenantSpec>,
    tenant: &TenantSpec,
    name: &TenantName,
    subnet: Cidr,
) -> Option<String> {
    if subnet.prefix() == 0 {
        return None;
    }
    let mut inside = state.index.origins.within(subnet, &state.index.names);
    let taken = inside.any(|(address, peer)| {
        peer.name.tenant() != name
            && is_led(&tenant.policy, address)
            && !old.is_some_and(|old| is_led(&old.policy, address))
    });
    taken.then(|| of_others(subnet))
}

/// Where another tenant's peers are is not this tenant's business.
fn of_others(subnet: Cidr) -> String {
    format!("{subnet} contains the address of a peer of another tenant: {ADVICE}")
}

/// Whether rules lead what is sent to this address into the device.
fn is_led(policy: &Policy, address: IpAddr) -> bool {
    let host = Cidr::host(address);
    let mut led = policy.rules.iter().filter(|rule| rule.action != RuleAction::Bypass);
    led.any(|rule| rule.remote_subnets.iter().any(|subnet| subnet.prefix() > 0 && subnet.overlaps(&host)))
        && !is_bypassed(policy, host)
}

/// What is wrong with a subnet that holds most of everything. The default route is never made.
fn too_broad(subnet: Cidr) -> Option<String> {
    let most = broadest(subnet);
    (1..most).contains(&subnet.prefix()).then(|| {
        format!(
            "{subnet} would lead most of what the node itself sends into the TUN device; expected a prefix of {most} bits \
             or more, uplink.tun.netns, or a default route, for which the system's routes are left alone"
        )
    })
}

/// The tenant whose peers have a subnet with a device's route that takes what is sent to `remote`. Where a name will lead to
/// is not known: what it resolves to now is looked at, and the router asks the system before it sends.
fn led_by_another(state: &State, name: &PeerName, remote: &RemoteAddress) -> Option<TenantName> {
    let addresses = match remote {
        RemoteAddress::Host(address, _) => vec![*address],
        RemoteAddress::Name(host, _) => {
            state.index.names.get(host).map(|found| found.addresses).unwrap_or_default()
        }
        RemoteAddress::Subnet(_) => Vec::new(),
    };
    addresses.iter().find_map(|address| led_from(state, name, address))
}

fn led_from(state: &State, name: &PeerName, address: &IpAddr) -> Option<TenantName> {
    let shortest = broadest(Cidr::host(*address));
    let around = (shortest..=Cidr::host(*address).prefix()).filter_map(|p| Cidr::truncated(*address, p));
    let mut owners = around.flat_map(|subnet| state.index.tenants_with(subnet, name));
    let led = |owner: &&TenantName| {
        let tenant = state.tenants.get(*owner);
        tenant.is_some_and(|t| has_routes(&t.spec) && !is_bypassed(&t.spec.policy, Cidr::host(*address)))
    };
    owners.find(led).cloned()
}

/// Whether a route to the subnet takes everything that is sent to `remote`.
fn holds(subnet: Cidr, policy: &Policy, remote: &RemoteAddress, names: &Names) -> bool {
    let takes = |theirs: Cidr| {
        subnet.contains(theirs.first()) && subnet.contains(theirs.last()) && !is_bypassed(policy, theirs)
    };
    match remote {
        RemoteAddress::Name(name, _) => {
            names.get(name).is_some_and(|found| found.addresses.into_iter().map(Cidr::host).any(takes))
        }
        RemoteAddress::Host(address, _) => takes(Cidr::host(*address)),
        RemoteAddress::Subnet(theirs) => takes(*theirs),
    }
}

/// Whether the policy keeps routes away from these addresses: the first rule about them lets everything out in the clear.
fn is_bypassed(policy: &Policy, theirs: Cidr) -> bool {
    let within = |subnet: &Cidr| subnet.contains(theirs.first()) && subnet.contains(theirs.last());
    let first = policy.rules.iter().find(|rule| {
        rule.remote_subnets.is_empty() || rule.remote_subnets.iter().any(|s| s.overlaps(&theirs))
    });
    first.is_some_and(|rule| {
        rule.action == RuleAction::Bypass
            && (rule.remote_subnets.is_empty() || rule.remote_subnets.iter().any(within))
            && rule.local_subnets.is_empty()
            && rule.protocol.is_none()
            && rule.local_ports.is_empty()
            && rule.remote_ports.is_empty()
    })
}

/// Whether the tenant has a device in the node's own namespace.
fn has_routes(tenant: &TenantSpec) -> bool {
    matches!(&tenant.uplink, Uplink::Tun(tun) if tun.netns.is_none())
}

/// The shortest prefix with a route, that of 10.0.0.0/8 (RFC 1918) and fc00::/7 (RFC 4193). The router has the same.
fn broadest(subnet: Cidr) -> u8 {
    if subnet.is_ipv4() { 8 } else { 7 }
}

const ADVICE: &str = "with the TUN device in the node's own network namespace, what the node sends there would go into the tunnel; \
                      use other subnets, a rule that bypasses that address, or uplink.tun.netns of the tenant";
