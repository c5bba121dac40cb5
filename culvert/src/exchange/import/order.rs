//! Lists of crypto maps as one list of rules, of which the first that fits decides.
//!
//! A `deny` says of a packet that this entry of the map does not protect it, and the device goes on with the next entry. In one list of rules
//! there is no going on: what later entries protect of a packet that is denied stands before the rule that lets it out.

use std::ops::RangeInclusive;

use tenants::Cidr;
use tenants::limits::MAX_POLICY_RULES;

use crate::exchange::model::{Carrier, Notes, Place, Rule};

pub(super) type Ports = RangeInclusive<u16>;

/// Some packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packets {
    pub(super) culvert: Vec<Cidr>,
    pub(super) device: Vec<Cidr>,
    /// Empty: all.
    pub(super) protocol: String,
    /// Empty: all.
    pub(super) culvert_ports: Vec<Ports>,
    pub(super) device_ports: Vec<Ports>,
}

impl Packets {
    /// Those that are among these as well.
    fn common(&self, other: &Self) -> Option<Self> {
        let protocol = match (self.protocol.as_str(), other.protocol.as_str()) {
            (one, "") | ("", one) => one.to_owned(),
            (one, same) if one == same => one.to_owned(),
            _ => return None,
        };
        Some(Self {
            culvert: some(common_subnets(&self.culvert, &other.culvert))?,
            device: some(common_subnets(&self.device, &other.device))?,
            protocol,
            culvert_ports: common_ports(&self.culvert_ports, &other.culvert_ports)?,
            device_ports: common_ports(&self.device_ports, &other.device_ports)?,
        })
    }

    /// Whether all of these are among the others.
    fn is_within(&self, other: &Self) -> bool {
        let subnets = |own: &[Cidr], others: &[Cidr]| {
            own.iter().all(|own| others.iter().any(|other| is_within(own, other)))
        };
        let ports = |own: &[Ports], others: &[Ports]| {
            let fits = |own: &Ports| {
                others.iter().any(|other| other.contains(own.start()) && other.contains(own.end()))
            };
            others.is_empty() || (!own.is_empty() && own.iter().all(fits))
        };
        subnets(&self.culvert, &other.culvert)
            && subnets(&self.device, &other.device)
            && (other.protocol.is_empty() || other.protocol == self.protocol)
            && ports(&self.culvert_ports, &other.culvert_ports)
            && ports(&self.device_ports, &other.device_ports)
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn is_within(inner: &Cidr, outer: &Cidr) -> bool {
    inner.prefix() >= outer.prefix() && outer.contains(inner.first())
}

/// Of two subnets that have something in common one is within the other.
fn common_subnets(a: &[Cidr], b: &[Cidr]) -> Vec<Cidr> {
    let mut common: Vec<Cidr> = Vec::new();
    for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
        let inner = if is_within(a, b) {
            a
        } else if is_within(b, a) {
            b
        } else {
            continue;
        };
        if !common.contains(inner) {
            common.push(*inner);
        }
    }
    common
}

/// `None` where there are none, for an empty list is all.
fn common_ports(a: &[Ports], b: &[Ports]) -> Option<Vec<Ports>> {
    match (a, b) {
        ([], ports) | (ports, []) => Some(ports.to_vec()),
        (a, b) => {
            let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
            let common = pairs.map(|(a, b)| *a.start().max(b.start())..=*a.end().min(b.end()));
            some(common.filter(|ports| !ports.is_empty()).collect())
        }
    }
}

/// An entry of a list.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) packets: Packets,
    /// The child that it is for; without one the map goes on with its next entry.
    pub(super) carrier: Option<Carrier>,
    /// The tunnel interface that it stands for, which has what the routes of the device lead into it.
    pub(super) interface: Option<String>,
}

/// The rules that come to the same as these lists, each that of a map entry, in their order. None, and a note, if a tenant cannot
/// have so many.
pub(super) fn rules(lists: &[Vec<Step>], notes: &mut Notes) -> Vec<Rule> {
    let mut rest: Vec<Step> = Vec::new();
    for list in lists.iter().rev() {
        let mut own: Vec<Step> = Vec::new();
        for step in list {
            if step.carrier.is_none() {
                own.extend(denied(step, &rest, notes));
            }
            own.push(step.clone());
            own = without_idle(own);
            if own.len() > MAX_POLICY_RULES {
                note_too_many(step, notes);
                return Vec::new();
            }
        }
        note_routes(&own, &rest, notes);
        own.append(&mut rest);
        rest = without_idle(own);
        if let Some(step) = list.first().filter(|_| rest.len() > MAX_POLICY_RULES) {
            note_too_many(step, notes);
            return Vec::new();
        }
    }
    rest.into_iter().map(rule).collect()
}

/// What later entries have of packets that an entry denies.
fn denied(step: &Step, later: &[Step], notes: &mut Notes) -> Vec<Step> {
    let part = |later: &Step| Some(Step { packets: step.packets.common(&later.packets)?, ..later.clone() });
    let mut parts: Vec<Step> = later.iter().filter_map(part).collect();
    // The deny itself comes behind them.
    while parts.pop_if(|last| last.carrier.is_none()).is_some() {}
    for interface in parts.iter().filter_map(|part| part.interface.as_ref()) {
        notes.add(
            &step.place,
            format!("whether {interface} takes it or it leaves unprotected, the routes of the device say: a rule puts it into {interface}"),
        );
    }
    parts
}

/// Of two interfaces for the same packets the first rule would have all of them.
fn note_routes(own: &[Step], later: &[Step], notes: &mut Notes) {
    let interfaces = |steps: &[Step]| -> Vec<(String, Step)> {
        steps.iter().filter_map(|step| Some((step.interface.clone()?, step.clone()))).collect()
    };
    for (name, step) in interfaces(own) {
        for (other, _) in interfaces(later).iter().filter(|(_, other)| other.packets.is_within(&step.packets))
        {
            notes.add(
                &step.place,
                format!("what goes by {name} and what by {other}, the routes of the device say: as the rules are, {name} has all of it"),
            );
        }
    }
}

fn note_too_many(step: &Step, notes: &mut Notes) {
    notes.add(
        &step.place,
        format!("with it there are more rules than a tenant has ({MAX_POLICY_RULES}): none are made, and children carry whatever their subnets hold"),
    );
}

/// Without rules that nothing reaches. Of each child one stays: a child that no rule is for would be none.
fn without_idle(steps: Vec<Step>) -> Vec<Step> {
    let mut kept: Vec<Step> = Vec::new();
    for step in steps {
        let has_rule = step.carrier.is_none() || kept.iter().any(|other| other.carrier == step.carrier);
        if !(has_rule && kept.iter().any(|other| step.packets.is_within(&other.packets))) {
            kept.push(step);
        }
    }
    kept
}

fn rule(step: Step) -> Rule {
    let text = |ports: &Ports| match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    let packets = step.packets;
    Rule {
        protect: step.carrier,
        culvert_ports: packets.culvert_ports.iter().map(text).collect(),
        device_ports: packets.device_ports.iter().map(text).collect(),
        culvert: packets.culvert,
        device: packets.device,
        protocol: packets.protocol,
    }
}
