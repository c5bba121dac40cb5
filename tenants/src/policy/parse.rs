//! Reading rules: all that is wrong with them, field by field.

use culvert_proto::v1;

use super::{PeerRef, Policy, Ports, Rule, RuleAction};
use crate::cidr::Cidr;
use crate::limits;
use crate::name::{PeerName, TenantName, check_id};
use crate::tenant::Uplink;
use crate::violation::Violations;

/// Names of protocols, and whether they have ports.
const PROTOCOLS: [(&str, u8, bool); 8] = [
    ("icmp", 1, false),
    ("tcp", 6, true),
    ("udp", 17, true),
    ("dccp", 33, true),
    ("icmpv6", 58, false),
    ("ospf", 89, false),
    ("sctp", 132, true),
    ("udplite", 136, true),
];

impl Policy {
    /// The rules of a message for `tenant`, whose uplink is this.
    pub(crate) fn parse(
        tenant: &TenantName,
        policy: Option<&v1::Policy>,
        uplink: &Uplink,
        faults: &mut Violations,
    ) -> Self {
        let given = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
        if given.len() > limits::MAX_POLICY_RULES {
            faults.add("rules", format!("{} of them; at most {}", given.len(), limits::MAX_POLICY_RULES));
            return Self::default();
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(given.len());
        for (i, rule) in given.iter().enumerate() {
            let mut inner = Violations::new();
            if rules.iter().any(|other| other.name == rule.name) {
                inner.add("name", format!("{:?} is the name of another rule too", rule.name));
            }
            if let Some(rule) = Rule::parse(tenant, rule, uplink, &mut inner) {
                rules.push(rule);
            }
            faults.add_all(&format!("rules[{i}]"), inner);
        }
        Self { rules }
    }
}

impl Rule {
    fn parse(
        tenant: &TenantName,
        rule: &v1::PolicyRule,
        uplink: &Uplink,
        faults: &mut Violations,
    ) -> Option<Self> {
        if let Err(fault) = check_id(&rule.name) {
            faults.add("name", fault.to_string());
        }
        let action = parse_action(tenant, rule, faults);
        if rule.action() == v1::PolicyAction::Bypass && *uplink == Uplink::Hub {
            faults.add("action", "BYPASS needs a TUN uplink: a hub has no way out but its tunnels");
        }
        let local_subnets = parse_subnets("local_subnets", &rule.local_subnets, faults);
        let remote_subnets = parse_subnets("remote_subnets", &rule.remote_subnets, faults);
        let family = |subnets: &[Cidr], v4: bool| {
            subnets.is_empty() || subnets.iter().any(|subnet| subnet.is_ipv4() == v4)
        };
        if ![true, false].into_iter().any(|v4| family(&local_subnets, v4) && family(&remote_subnets, v4)) {
            faults.add("remote_subnets", "of another address family than local_subnets: matches nothing");
        }
        let protocol = if rule.protocol.is_empty() {
            None
        } else {
            faults.note("protocol", parse_protocol(&rule.protocol))
        };
        let local_ports = parse_ports("local_ports", &rule.local_ports, protocol, faults);
        let remote_ports = parse_ports("remote_ports", &rule.remote_ports, protocol, faults);
        Some(Self {
            name: rule.name.clone(),
            action: action?,
            local_subnets,
            remote_subnets,
            protocol,
            local_ports,
            remote_ports,
        })
    }
}

fn parse_action(tenant: &TenantName, rule: &v1::PolicyRule, faults: &mut Violations) -> Option<RuleAction> {
    let action = match v1::PolicyAction::try_from(rule.action) {
        Ok(v1::PolicyAction::Protect) => return parse_target(tenant, rule, faults).map(RuleAction::Protect),
        Ok(v1::PolicyAction::Bypass) => Some(RuleAction::Bypass),
        Ok(v1::PolicyAction::Discard) => Some(RuleAction::Discard),
        Ok(v1::PolicyAction::Unspecified) | Err(_) => {
            faults.add("action", "is missing; expected PROTECT, BYPASS or DISCARD");
            None
        }
    };
    for (field, value) in [("peer", &rule.peer), ("child", &rule.child)] {
        if !value.is_empty() {
            faults.add(field, "only a rule with the action PROTECT has one");
        }
    }
    action
}

/// The outer `None` for a fault.
fn parse_target(
    tenant: &TenantName,
    rule: &v1::PolicyRule,
    faults: &mut Violations,
) -> Option<Option<PeerRef>> {
    if rule.peer.is_empty() {
        if !rule.child.is_empty() {
            faults.add("child", "is a child of which peer? Expected `peer` too");
        }
        return Some(None);
    }
    let peer: PeerName = faults.note("peer", rule.peer.parse())?;
    if peer.tenant() != tenant {
        faults.add("peer", format!("{peer} is not a peer of {tenant}"));
        return None;
    }
    let child = Some(rule.child.clone()).filter(|child| !child.is_empty());
    if let Some(Err(fault)) = child.as_deref().map(check_id) {
        faults.add("child", fault.to_string());
    }
    Some(Some(PeerRef { peer, child }))
}

fn parse_subnets(field: &str, texts: &[String], faults: &mut Violations) -> Vec<Cidr> {
    if texts.len() > limits::MAX_RULE_SUBNETS {
        faults.add(field, format!("{} of them; at most {}", texts.len(), limits::MAX_RULE_SUBNETS));
        return Vec::new();
    }
    let parse = |(i, text): (usize, &String)| faults.note(format!("{field}[{i}]"), text.parse::<Cidr>());
    texts.iter().enumerate().filter_map(parse).collect()
}

fn parse_protocol(text: &str) -> Result<u8, String> {
    if let Some((_, number, _)) = PROTOCOLS.iter().find(|(name, _, _)| *name == text) {
        return Ok(*number);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    // 0 stands for any in a selector, and is no protocol of a packet that carries something.
    text.parse::<u8>().ok().filter(|number| digits && *number > 0).ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        let names: Vec<_> = PROTOCOLS.iter().map(|(name, _, _)| *name).collect();
        format!("{shown:?} is neither 1 to 255 nor one of {}", names.join(", "))
    })
}

/// The name that people know the protocol by, else its number.
pub(super) fn protocol_text(protocol: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, number, _)| *number == protocol);
    known.map_or_else(|| protocol.to_string(), |(name, _, _)| (*name).to_owned())
}

fn parse_ports(field: &str, texts: &[String], protocol: Option<u8>, faults: &mut Violations) -> Vec<Ports> {
    if texts.is_empty() {
        return Vec::new();
    }
    if !protocol.is_some_and(|protocol| PROTOCOLS.iter().any(|row| row.1 == protocol && row.2)) {
        faults
            .add(field, "only a protocol that has ports can be told by them: tcp, udp, sctp, dccp, udplite");
        return Vec::new();
    }
    if texts.len() > limits::MAX_RULE_PORTS {
        faults.add(field, format!("{} of them; at most {}", texts.len(), limits::MAX_RULE_PORTS));
        return Vec::new();
    }
    let parse = |(i, text): (usize, &String)| faults.note(format!("{field}[{i}]"), parse_range(text));
    texts.iter().enumerate().filter_map(parse).collect()
}

fn parse_range(text: &str) -> Result<Ports, String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (port(low), port(high)) {
        (Some(low), Some(high)) if low <= high => Ok(Ports { low, high }),
        (Some(low), Some(high)) => Err(format!("{text} ends before it begins, did you mean {high}-{low}")),
        _ => {
            let shown: String = text.chars().take(32).collect();
            Err(format!("{shown:?} is neither a port nor a range, expected such as 443 or 8000-8099"))
        }
    }
}
