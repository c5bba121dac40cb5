//! What becomes of the crypto maps and tunnel interfaces of IOS and ASA: children of one peer, if they lead to the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tenants::Cidr;

use super::acl::List;
use super::interface::Interface;
use super::order::{Packets, Step, rules};
use super::{free, usable};
use crate::exchange::model::{Carrier, Child, Found, Life, Notes, Place, Tunnel, id_of};
use crate::exchange::suite::{Suite, Word, Words, understood};

/// How long a child lives, as a device says it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lives {
    seconds: Option<u64>,
    /// 0 is without a limit.
    kilobytes: Option<u64>,
}

impl Lives {
    /// The words behind `security-association lifetime`.
    pub(super) fn read(&mut self, words: &[&str], place: &Place, notes: &mut Notes) {
        let number = words.last().and_then(|number| number.parse::<u64>().ok());
        match (words, number) {
            (["seconds", _], Some(seconds)) => self.seconds = Some(seconds),
            (["days", _], Some(days)) => self.seconds = days.checked_mul(86_400),
            (["kilobytes", _], Some(kilobytes)) => self.kilobytes = Some(kilobytes),
            (["kilobytes", "unlimited" | "disable"], _) => self.kilobytes = Some(0),
            _ => notes.add(place, "no lifetime that is known here"),
        }
    }

    /// What is not said here is what the whole device has.
    fn or(self, device: Self) -> Self {
        Self { seconds: self.seconds.or(device.seconds), kilobytes: self.kilobytes.or(device.kilobytes) }
    }
}

/// What a map entry or an IPsec profile says.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Of its first line.
    pub(super) place: Option<Place>,
    pub(super) peer: Option<String>,
    /// Transform sets or proposals.
    pub(super) sets: Vec<String>,
    pub(super) pfs: Option<Word>,
    pub(super) lives: Lives,
    pub(super) list: Option<String>,
    /// The IKE profile.
    pub(super) profile: Option<String>,
    pub(super) v1: bool,
    pub(super) aggressive: bool,
    pub(super) transport: bool,
    /// Where it says that the device never begins.
    pub(super) answers: Option<Place>,
}

impl Entry {
    /// The other end of a map entry.
    pub(super) fn peer(&self, notes: &mut Notes) -> Option<&str> {
        if let (None, Some(place)) = (&self.peer, &self.place) {
            notes.add(place, "the map entry has no peer: it is not taken over");
        }
        self.peer.as_deref()
    }

    /// A `set` that both devices have, the words behind it; whether it is one.
    pub(super) fn set(&mut self, words: &[&str], groups: Words, place: &Place, notes: &mut Notes) -> bool {
        match words {
            ["peer", peer, rest @ ..] => {
                let further = rest.iter().any(|word| !["dynamic", "default"].contains(word));
                if further || self.peer.is_some() {
                    notes.add(place, "a peer of Culvert has one other end: further peers are not taken over");
                }
                self.peer.get_or_insert_with(|| (*peer).to_owned());
            }
            ["pfs", group] => {
                let number = group.trim_start_matches("group");
                self.pfs = understood(groups, number);
                if self.pfs.is_none() {
                    notes.add(place, format!("{group} is no group of Culvert"));
                }
            }
            ["pfs"] => {
                notes.add(place, "the group that pfs stands for depends on the device's version: say which")
            }
            ["security-association", "lifetime", rest @ ..] => {
                self.lives.read(rest, place, notes);
            }
            ["connection-type", kind] => self.answers = (*kind == "answer-only").then(|| place.clone()),
            // A matter of the device alone.
            ["security-association", "replay" | "idle-time" | "level" | "dummy", ..]
            | ["nat-t-disable" | "reverse-route" | "df-bit" | "validate-icmp-errors", ..] => {}
            _ => return false,
        }
        true
    }
}

/// A policy of IKE.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) place: Place,
    pub(super) suites: Vec<Suite>,
    pub(super) life: Option<u64>,
}

/// By number.
pub(super) type Policies = BTreeMap<u32, Policy>;

/// What the policies come to for a peer of the entry here: their proposals and one lifetime.
pub(super) fn all_of(policies: &Policies, place: &Place, notes: &mut Notes) -> (Vec<Suite>, Option<u64>) {
    if policies.is_empty() {
        note_defaults(place, "policy of IKE", notes);
    }
    let life = policies.values().find_map(|policy| policy.life);
    for other in policies.values().filter(|policy| policy.life.is_some() && policy.life != life) {
        notes.add(&other.place, "a peer of Culvert has one lifetime: that of a policy before is taken");
    }
    (policies.values().flat_map(|policy| policy.suites.clone()).collect(), life)
}

/// What is not in the file is what the device has by itself, which differs from one version to the next.
pub(super) fn note_defaults(place: &Place, what: &str, notes: &mut Notes) {
    notes.add(
        place,
        format!(
            "there is no {what}: the device has the defaults of its release, and the peer those of Culvert"
        ),
    );
}

/// A transform set or a proposal.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) suite: Suite,
    pub(super) transport: bool,
}

/// What is found, as it comes together.
#[derive(Default)]
pub(super) struct Draft {
    /// What the whole device says of its children.
    lives: Lives,
    /// By what tells peers apart.
    tunnels: Vec<(String, Tunnel)>,
    /// Those of map entries, and behind them those of interfaces, which have whatever the routes lead there.
    lists: Vec<Vec<Step>>,
    /// Some list says more than the children can.
    ordered: bool,
    /// Something that the device protects is not taken over.
    lacking: bool,
}

impl Draft {
    pub(super) fn new(lives: Lives) -> Self {
        Self { lives, ..Self::default() }
    }

    /// Something that the device protects is not taken over, which was told.
    pub(super) const fn lack(&mut self) {
        self.lacking = true;
    }

    /// The children of a map entry, on the tunnel of this key.
    pub(super) fn add_map(
        &mut self,
        key: &str,
        entry: &Entry,
        sets: &BTreeMap<String, Set>,
        lists: &BTreeMap<String, List>,
        skeleton: impl FnOnce(&mut Notes) -> Result<Tunnel, String>,
        notes: &mut Notes,
    ) {
        let Some(place) = &entry.place else { return };
        let list = entry.list.as_ref().and_then(|name| Some((name, lists.get(name)?)));
        let Some((list_name, list)) = list else {
            notes.add(place, "the map entry has no access list: it is not taken over");
            return;
        };
        let lives = self.lives;
        let Some((tunnel_at, tunnel)) = self.tunnel(key, place, skeleton, notes) else { return };
        let selection = list.select(list_name, notes);
        let lacks = selection.lacks;
        let first = tunnel.children.len();
        for selected in selection.children {
            let mut child = child(selected.name, entry, lives, sets, place, notes);
            (child.culvert, child.device) = (selected.culvert, selected.device);
            push(tunnel, child);
        }
        let steps = selection.entries.into_iter().map(|(place, packets, child)| Step {
            place,
            packets,
            carrier: child.map(|child| Carrier { tunnel: tunnel_at, child: first + child }),
            interface: None,
        });
        self.lists.push(steps.collect());
        self.ordered |= !selection.plain;
        self.lacking |= lacks;
    }

    /// The child of a tunnel interface, which carries everything.
    pub(super) fn add_interface(
        &mut self,
        key: &str,
        interface: &Interface,
        (any, entry): &(IpAddr, Entry),
        sets: &BTreeMap<String, Set>,
        skeleton: impl FnOnce(&mut Notes) -> Result<Tunnel, String>,
        notes: &mut Notes,
    ) {
        let Some(place) = &entry.place else { return };
        let lives = self.lives;
        let Some((tunnel_at, tunnel)) = self.tunnel(key, place, skeleton, notes) else { return };
        let name = interface.child.as_ref().unwrap_or(&interface.name);
        let mut child = child(id_of(name, "net"), entry, lives, sets, place, notes);
        let all: Vec<Cidr> = Cidr::truncated(*any, 0).into_iter().collect();
        (child.culvert, child.device) = (all.clone(), all.clone());
        let carrier = Carrier { tunnel: tunnel_at, child: tunnel.children.len() };
        push(tunnel, child);
        let packets = Packets {
            culvert: all.clone(),
            device: all,
            protocol: String::new(),
            culvert_ports: Vec::new(),
            device_ports: Vec::new(),
        };
        let (place, interface) = (place.clone(), Some(interface.name.clone()));
        self.lists.push(vec![Step { place, packets, carrier: Some(carrier), interface }]);
    }

    /// The tunnel of this key, and its place among all. Why there is none is told where the entry stands.
    fn tunnel(
        &mut self,
        key: &str,
        place: &Place,
        skeleton: impl FnOnce(&mut Notes) -> Result<Tunnel, String>,
        notes: &mut Notes,
    ) -> Option<(usize, &mut Tunnel)> {
        if self.tunnels.iter().all(|(other, _)| other != key) {
            let mut tunnel = match skeleton(notes) {
                Ok(tunnel) => tunnel,
                Err(fault) => {
                    notes.add(place, fault);
                    self.lack();
                    return None;
                }
            };
            tunnel.name = free(&tunnel.name, |name| self.tunnels.iter().any(|(_, other)| other.name == name));
            self.tunnels.push((key.to_owned(), tunnel));
        }
        let mut all = self.tunnels.iter_mut().enumerate();
        all.find(|(_, (other, _))| other == key).map(|(at, (_, tunnel))| (at, tunnel))
    }

    pub(super) fn finish(mut self, notes: &mut Notes) -> Found {
        // A list that permits nothing leaves a tunnel without children, and what is behind it moves up.
        let (mut kept, mut places) = (0, Vec::with_capacity(self.tunnels.len()));
        for (_, tunnel) in &self.tunnels {
            places.push(kept);
            kept += usize::from(!tunnel.children.is_empty());
        }
        for carrier in self.lists.iter_mut().flatten().filter_map(|step| step.carrier.as_mut()) {
            carrier.tunnel = places.get(carrier.tunnel).copied().unwrap_or_default();
        }
        let rules = if self.ordered { rules(&self.lists, notes) } else { Vec::new() };
        let tunnels = self.tunnels.into_iter().map(|(_, tunnel)| tunnel);
        let tunnels = tunnels.filter(|tunnel| !tunnel.children.is_empty()).collect();
        Found { tunnels, rules, lacking: self.lacking }
    }
}

/// Gives a tunnel a child: two lists may call theirs the same.
fn push(tunnel: &mut Tunnel, mut child: Child) {
    child.name = free(&child.name, |name| tunnel.children.iter().any(|other| other.name == name));
    tunnel.children.push(child);
}

/// A child without subnets.
fn child(
    name: String,
    entry: &Entry,
    device: Lives,
    sets: &BTreeMap<String, Set>,
    place: &Place,
    notes: &mut Notes,
) -> Child {
    let (mut esp, mut transport) = (Vec::new(), entry.transport);
    if entry.sets.is_empty() {
        note_defaults(place, "transform set or proposal", notes);
    }
    for name in &entry.sets {
        match sets.get(name) {
            Some(set) => {
                transport |= set.transport;
                let with_group = Suite { groups: entry.pfs.into_iter().collect(), ..set.suite.clone() };
                esp.extend(usable(with_group, Suite::esp_text, Suite::of_esp, place, notes));
            }
            None => notes.add(place, format!("there is no transform set or proposal {name}")),
        }
    }
    let lives = entry.lives.or(device);
    let life = Life { rekey: None, life: lives.seconds };
    let limit = lives.kilobytes.filter(|kilobytes| *kilobytes > 0);
    let life_bytes = limit.map(|kilobytes| kilobytes.saturating_mul(1024));
    Child { name, transport, culvert: Vec::new(), device: Vec::new(), esp: merged(esp), life, life_bytes }
}

/// Runs of single choices as one proposal each, where that means the same in the same order: an exporter has taken it apart.
pub(super) fn merged(suites: Vec<Suite>) -> Vec<Suite> {
    let mut rest = suites.as_slice();
    let mut merged = Vec::new();
    while !rest.is_empty() {
        let run = (2..=rest.len()).rev().find_map(|length| {
            let run = rest.get(..length)?;
            let joined = joined(run);
            (joined.choices(usize::MAX) == run).then_some((length, joined))
        });
        let (length, suite) = run.unwrap_or_else(|| (1, rest.first().cloned().unwrap_or_default()));
        merged.push(suite);
        rest = rest.get(length..).unwrap_or_default();
    }
    merged
}

/// All algorithms of some proposals in one.
fn joined(suites: &[Suite]) -> Suite {
    let mut joined = Suite::default();
    for suite in suites {
        for (list, more) in [
            (&mut joined.encryption, &suite.encryption),
            (&mut joined.integrity, &suite.integrity),
            (&mut joined.prf, &suite.prf),
            (&mut joined.groups, &suite.groups),
            (&mut joined.esn, &suite.esn),
        ] {
            let new: Vec<Word> = more.iter().filter(|word| !list.contains(word)).copied().collect();
            list.extend(new);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_apart_is_put_together_and_nothing_else() {
        let single = |text: &str| Suite::of_ike(text).unwrap();
        let whole = single("aes256-aes128-sha256-sha1-modp2048");
        assert_eq!(merged(whole.choices(usize::MAX)), std::slice::from_ref(&whole));
        let apart = vec![single("aes256-sha256-modp2048"), single("3des-sha1-modp1024")];
        assert_eq!(merged(apart.clone()), apart);
        let both = [whole.choices(usize::MAX), apart.clone()].concat();
        assert_eq!(merged(both), [vec![whole], apart].concat());
    }
}
