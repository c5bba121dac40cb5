//! A tenant's security policy (RFC 4301 section 4.4.1): ordered rules, the first that matches decides.
//!
//! `mod.rs` is the policy and its rules, `parse.rs` how they are read, `effective.rs` what packets meet in the end, the
//! default and the implied rule included.

mod effective;
mod parse;

use std::fmt;

use culvert_proto::v1;

pub use effective::effective_rules;

use crate::cidr::Cidr;
use crate::name::PeerName;
#[cfg(test)]
use crate::{peer::Peer, tenant::Tenant};

/// The rules in order; without any the default stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// At most [`crate::limits::MAX_POLICY_RULES`].
    pub rules: Vec<Rule>,
}

/// One rule. An empty list matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the policy.
    pub name: String,
    /// What becomes of a packet.
    pub action: RuleAction,
    /// Addresses on our side.
    pub local_subnets: Vec<Cidr>,
    /// Addresses on the other side.
    pub remote_subnets: Vec<Cidr>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Ports on our side.
    pub local_ports: Vec<Ports>,
    /// Ports on the other side.
    pub remote_ports: Vec<Ports>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// It goes through a tunnel of this peer or nowhere; `None`: of the peer whose subnets say so.
    Protect(Option<PeerRef>),
    /// It goes in the clear.
    Bypass,
    /// It goes nowhere.
    Discard,
}

/// Whose tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRef {
    /// A peer of the same tenant. It need not exist.
    pub peer: PeerName,
    /// One of its children; all of them if `None`.
    pub child: Option<String>,
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub low: u16,
    /// The highest.
    pub high: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

impl Policy {
    /// As a message; absent for the default.
    pub(crate) fn to_proto(&self) -> Option<v1::Policy> {
        let rules = self.rules.iter().map(Rule::to_proto).collect();
        (!self.rules.is_empty()).then_some(v1::Policy { rules })
    }
}

impl Rule {
    fn to_proto(&self) -> v1::PolicyRule {
        let texts = |subnets: &[Cidr]| subnets.iter().map(ToString::to_string).collect();
        let ports = |ports: &[Ports]| ports.iter().map(ToString::to_string).collect();
        let (action, target) = match &self.action {
            RuleAction::Protect(target) => (v1::PolicyAction::Protect, target.as_ref()),
            RuleAction::Bypass => (v1::PolicyAction::Bypass, None),
            RuleAction::Discard => (v1::PolicyAction::Discard, None),
        };
        v1::PolicyRule {
            name: self.name.clone(),
            action: action.into(),
            local_subnets: texts(&self.local_subnets),
            remote_subnets: texts(&self.remote_subnets),
            protocol: self.protocol.map(parse::protocol_text).unwrap_or_default(),
            local_ports: ports(&self.local_ports),
            remote_ports: ports(&self.remote_ports),
            peer: target.map(|target| target.peer.to_string()).unwrap_or_default(),
            child: target.and_then(|target| target.child.clone()).unwrap_or_default(),
        }
    }

    /// Whether only remote addresses matter, so that routes can say the same.
    pub(crate) fn is_by_destination(&self) -> bool {
        self.local_subnets.is_empty()
            && self.protocol.is_none()
            && self.local_ports.is_empty()
            && self.remote_ports.is_empty()
    }
}

#[cfg(test)]
mod tests;
