//! A tenant's security policy (RFC 4301 section 4.4.1): ordered rules, the first that matches decides.
//!
//! A policy is an immutable value. The control plane swaps the whole of it; a shard sees either the old or the new one, and
//! running SAs stay as they are. A policy without rules stands for the default: every tunnel protects what its selectors
//! say, found by longest prefix at a cost that does not depend on the number of tunnels, and nothing else leaves.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use esp::ip::PacketInfo;
use esp::{Selector, SelectorPair};

use crate::interval::Intervals;
use crate::model::TunnelId;
use crate::prefix::span;

/// Rules of one policy. They are searched one after the other, some nanoseconds each, for every packet of the tenant.
pub const MAX_RULES: usize = 256;

/// The rules of a tenant, in order. What no rule matches is discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<PolicyRule>,
}

/// The one without rules.
pub(crate) static DEFAULT: Policy = Policy { rules: Vec::new() };

/// One rule. An empty list matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// What becomes of a packet.
    pub action: PolicyAction,
    /// Addresses on our side: the source of what leaves, the destination of what came through a tunnel.
    pub local: Vec<RangeInclusive<IpAddr>>,
    /// Addresses on the other side.
    pub remote: Vec<RangeInclusive<IpAddr>>,
    /// IP protocol; `None` for any.
    pub protocol: Option<u8>,
    /// Ports on our side; for ICMP type and code as in [`esp::Selector`].
    pub local_ports: Vec<RangeInclusive<u16>>,
    /// Ports on the other side.
    pub remote_ports: Vec<RangeInclusive<u16>>,
}

/// What becomes of the packets of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyAction {
    /// They go through one of these tunnels, or nowhere.
    Protect(Tunnels),
    /// They go in the clear.
    Bypass,
    /// They go nowhere.
    Discard,
}

/// Tunnels of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnels {
    /// All of them.
    Any,
    /// Those with these numbers; an empty range for a peer that is not there.
    Range(RangeInclusive<u64>),
}

impl Tunnels {
    /// Whether the tunnel is one of them.
    pub fn contains(&self, tunnel: TunnelId) -> bool {
        match self {
            Self::Any => true,
            Self::Range(range) => range.contains(&tunnel.0),
        }
    }
}

/// What a policy says of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// The action of the first rule that matches.
    Rule(&'a PolicyAction),
    /// A later fragment reached a rule with ports, which would match it or not depending on its first fragment (RFC 4301
    /// section 7). It is refused: taking it past the rule would undo what the rule is for.
    Fragment,
    /// No rule matches.
    Unmatched,
}

impl Policy {
    /// A policy of these rules; `None` when there are more than [`MAX_RULES`].
    pub fn new(rules: Vec<PolicyRule>) -> Option<Self> {
        (rules.len() <= MAX_RULES).then_some(Self { rules })
    }

    /// The rules in order.
    pub fn rules(&self) -> &[PolicyRule] {
        &self.rules
    }

    /// Whether there are no rules, so that the tunnels' own selectors are the policy.
    pub(crate) fn is_default(&self) -> bool {
        self.rules.is_empty()
    }

    /// For a packet that leaves.
    pub(crate) fn outbound(&self, packet: &PacketInfo) -> Verdict<'_> {
        self.evaluate(&Sides {
            local: (packet.source, packet.source_port),
            remote: (packet.destination, packet.destination_port),
            protocol: packet.protocol,
        })
    }

    /// Whether a rule has it that a packet that leaves goes nowhere.
    pub(crate) fn discards(&self, packet: &PacketInfo) -> bool {
        self.outbound(packet) == Verdict::Rule(&PolicyAction::Discard)
    }

    /// Whether some rule is about a packet that came through a tunnel.
    pub(crate) fn is_about_inbound(&self, packet: &PacketInfo) -> bool {
        self.inbound(packet) != Verdict::Unmatched
    }

    /// Whether a rule has it that a packet that came through a tunnel goes nowhere.
    pub(crate) fn discards_inbound(&self, packet: &PacketInfo) -> bool {
        self.inbound(packet) == Verdict::Rule(&PolicyAction::Discard)
    }

    /// Whether a packet may have come through this tunnel (RFC 4301 section 5.2).
    pub(crate) fn admits(&self, packet: &PacketInfo, tunnel: TunnelId) -> bool {
        match self.inbound(packet) {
            Verdict::Rule(PolicyAction::Protect(tunnels)) => tunnels.contains(tunnel),
            _ => false,
        }
    }

    fn inbound(&self, packet: &PacketInfo) -> Verdict<'_> {
        self.evaluate(&Sides {
            local: (packet.destination, packet.destination_port),
            remote: (packet.source, packet.source_port),
            protocol: packet.protocol,
        })
    }

    /// The addresses, of IPv4 and of IPv6, whose packets leave in the clear whatever else they are: those of the bypass rules
    /// that look at nothing but the destination, less those of the rules before.
    pub(crate) fn bypassed_destinations(&self) -> (Intervals, Intervals) {
        let (mut bypassed, mut decided) = (<[Intervals; 2]>::default(), <[Intervals; 2]>::default());
        for rule in &self.rules {
            let bypass = rule.action == PolicyAction::Bypass && rule.is_by_destination();
            for (v4, (bypassed, decided)) in
                [true, false].into_iter().zip(bypassed.iter_mut().zip(&mut decided))
            {
                let covered = rule.destinations(v4);
                if bypass {
                    let mut more = covered.clone();
                    more.subtract(decided);
                    bypassed.extend(&more);
                }
                decided.extend(&covered);
            }
        }
        let [v4, v6] = bypassed;
        (v4, v6)
    }

    /// Where the kernel has to lead packets for them to meet the policy at all: the destinations that rules which do not
    /// let them out in the clear name. A rule for all destinations adds nothing: a default route would also catch the
    /// tunnels' own packets.
    pub(crate) fn routed(&self) -> SelectorPair {
        let rules = self.rules.iter().filter(|rule| rule.action != PolicyAction::Bypass);
        let ranges = rules.flat_map(|rule| &rule.remote);
        let remote = ranges.map(|range| Selector::range(*range.start(), *range.end())).collect();
        SelectorPair { local: Vec::new(), remote }
    }

    fn evaluate(&self, sides: &Sides) -> Verdict<'_> {
        for rule in &self.rules {
            match rule.matches(sides) {
                Match::Yes => return Verdict::Rule(&rule.action),
                Match::Unknown => return Verdict::Fragment,
                Match::No => {}
            }
        }
        Verdict::Unmatched
    }
}

/// A packet as a rule looks at it.
struct Sides {
    local: (IpAddr, Option<u16>),
    remote: (IpAddr, Option<u16>),
    protocol: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// The packet does not show the ports that the rule asks for.
    Unknown,
}

impl PolicyRule {
    fn matches(&self, sides: &Sides) -> Match {
        let protocol = self.protocol.is_none_or(|protocol| protocol == sides.protocol);
        if !protocol || !covers(&self.local, sides.local.0) || !covers(&self.remote, sides.remote.0) {
            return Match::No;
        }
        match (port(&self.local_ports, sides.local.1), port(&self.remote_ports, sides.remote.1)) {
            (Match::No, _) | (_, Match::No) => Match::No,
            (Match::Yes, Match::Yes) => Match::Yes,
            _ => Match::Unknown,
        }
    }

    /// The addresses of one family that the rule may apply to, as the destination of what leaves.
    fn destinations(&self, v4: bool) -> Intervals {
        let mut all = Intervals::default();
        if self.remote.is_empty() {
            all.add(0, u128::MAX);
        }
        for range in self.remote.iter().filter(|range| range.start().is_ipv4() == v4) {
            let (low, high) = span(*range.start(), *range.end());
            all.add(low, high);
        }
        all
    }

    /// Whether only addresses of the other side matter, so that a route can say the same.
    fn is_by_destination(&self) -> bool {
        self.local.is_empty()
            && self.protocol.is_none()
            && self.local_ports.is_empty()
            && self.remote_ports.is_empty()
    }
}

fn covers(ranges: &[RangeInclusive<IpAddr>], address: IpAddr) -> bool {
    // Addresses of IPv4 are below all of IPv6, so a range of one family holds none of the other.
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&address))
}

fn port(ranges: &[RangeInclusive<u16>], port: Option<u16>) -> Match {
    match port {
        _ if ranges.is_empty() => Match::Yes,
        Some(port) if ranges.iter().any(|range| range.contains(&port)) => Match::Yes,
        Some(_) => Match::No,
        None => Match::Unknown,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#[path = "policy_tests.rs"]
mod tests;
