//! What becomes of the crypto maps and tunnel interfaces of IOS and ASA: children of one peer, if they lead to the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tenants::Cidr;

use super::acl::{List, note_passed_on};
use super::{free, usable};
use crate::exchange::export::cisco::CHILD;
use crate::exchange::model::{Child, Found, Life, Notes, Place, Rule, Tunnel, id_of};
use crate::exchange::suite::{Suite, Word, Words, understood};

/// What a map entry or an IPsec profile says.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Of its first line.
    pub(super) place: Option<Place>,
    pub(super) peer: Option<String>,
    /// Transform sets or proposals.
    pub(super) sets: Vec<String>,
    pub(super) pfs: Option<Word>,
    pub(super) life: Option<u64>,
    pub(super) kilobytes: Option<u64>,
    pub(super) list: Option<String>,
    /// The IKE profile.
    pub(super) profile: Option<String>,
    pub(super) v1: bool,
    pub(super) aggressive: bool,
    pub(super) transport: bool,
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
            ["security-association", "lifetime", "seconds", seconds] => self.life = seconds.parse().ok(),
            ["security-association", "lifetime", "kilobytes", "unlimited"] => {}
            ["security-association", "lifetime", "kilobytes", kilobytes] => {
                self.kilobytes = kilobytes.parse().ok()
            }
            // A matter of the device alone.
            ["security-association", "replay" | "idle-time" | "level" | "dummy", ..]
            | [
                "nat-t-disable" | "reverse-route" | "df-bit" | "connection-type" | "validate-icmp-errors",
                ..,
            ] => {}
            _ => return false,
        }
        true
    }
}

/// A tunnel interface.
pub(super) struct Interface {
    place: Place,
    name: String,
    /// An address, or the name of an interface.
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) profile: Option<String>,
    ipv6: bool,
    child: Option<String>,
}

impl Interface {
    pub(super) fn new(name: &str, place: Place) -> Self {
        let (source, destination) = (String::new(), String::new());
        Self { place, name: name.to_owned(), source, destination, profile: None, ipv6: false, child: None }
    }

    /// A line that both devices have.
    pub(super) fn line(&mut self, words: &[&str]) {
        match words {
            ["tunnel", "destination", destination] => self.destination = (*destination).to_owned(),
            ["tunnel", "mode", "ipsec", family, ..] => self.ipv6 = *family == "ipv6",
            ["tunnel", "protection", "ipsec", "profile", profile] => {
                self.profile = Some((*profile).to_owned())
            }
            ["description", rest @ ..] => {
                self.child = rest.join(" ").strip_prefix(CHILD).map(|child| child.trim().to_owned());
            }
            _ => {}
        }
    }

    /// What its profile says, as if it stood here.
    pub(super) fn entry(&self, profiles: &BTreeMap<String, Entry>, notes: &mut Notes) -> Option<Entry> {
        let found = self.profile.as_ref().and_then(|name| profiles.get(name));
        if found.is_none() {
            notes.add(&self.place, "there is no such profile: the interface is not taken over");
        }
        found.map(|entry| Entry { place: Some(self.place.clone()), ..entry.clone() })
    }
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
    /// By what tells peers apart.
    tunnels: Vec<(String, Tunnel)>,
    rules: Vec<(Place, Rule)>,
    /// Some list says more than the children can.
    ordered: bool,
}

impl Draft {
    /// The children of a map entry, on the tunnel of this key.
    pub(super) fn add_map(
        &mut self,
        key: &str,
        entry: &Entry,
        sets: &BTreeMap<String, Set>,
        lists: &BTreeMap<String, List>,
        skeleton: impl FnOnce(&mut Notes) -> Option<Tunnel>,
        notes: &mut Notes,
    ) {
        let Some(place) = &entry.place else { return };
        let list = entry.list.as_ref().and_then(|name| Some((name, lists.get(name)?)));
        let Some((list_name, list)) = list else {
            notes.add(place, "the map entry has no access list: it is not taken over");
            return;
        };
        let Some(tunnel) = self.tunnel(key, skeleton, notes) else { return };
        let mut selection = list.select(list_name, &tunnel.name, notes);
        for selected in selection.children {
            let mut child = child(selected.name.clone(), entry, sets, place, notes);
            (child.culvert, child.device) = (selected.culvert, selected.device);
            let name = push(tunnel, child);
            for (_, rule) in &mut selection.rules {
                if let Some((_, child)) = rule.protect.as_mut().filter(|(_, child)| *child == selected.name) {
                    child.clone_from(&name);
                }
            }
        }
        self.ordered |= !selection.plain;
        self.rules.extend(selection.rules);
    }

    /// The child of a tunnel interface, which carries everything.
    pub(super) fn add_interface(
        &mut self,
        key: &str,
        interface: &Interface,
        entry: &Entry,
        sets: &BTreeMap<String, Set>,
        skeleton: impl FnOnce(&mut Notes) -> Option<Tunnel>,
        notes: &mut Notes,
    ) {
        let Some(place) = &entry.place else { return };
        let Some(tunnel) = self.tunnel(key, skeleton, notes) else { return };
        let name = interface.child.as_ref().unwrap_or(&interface.name);
        let mut child = child(id_of(name, "net"), entry, sets, place, notes);
        let any: IpAddr = if interface.ipv6 { [0u16; 8].into() } else { [0, 0, 0, 0].into() };
        let all: Vec<Cidr> = Cidr::truncated(any, 0).into_iter().collect();
        (child.culvert, child.device) = (all.clone(), all);
        push(tunnel, child);
    }

    fn tunnel(
        &mut self,
        key: &str,
        skeleton: impl FnOnce(&mut Notes) -> Option<Tunnel>,
        notes: &mut Notes,
    ) -> Option<&mut Tunnel> {
        if self.tunnels.iter().all(|(other, _)| other != key) {
            let mut tunnel = skeleton(notes)?;
            tunnel.name = free(&tunnel.name, |name| self.tunnels.iter().any(|(_, other)| other.name == name));
            self.tunnels.push((key.to_owned(), tunnel));
        }
        self.tunnels.iter_mut().find(|(other, _)| other == key).map(|(_, tunnel)| tunnel)
    }

    pub(super) fn finish(self, notes: &mut Notes) -> Found {
        let rules = if self.ordered {
            note_passed_on(&self.rules, notes);
            self.rules.into_iter().map(|(_, rule)| rule).collect()
        } else {
            Vec::new()
        };
        let tunnels = self.tunnels.into_iter().map(|(_, tunnel)| tunnel);
        Found { tunnels: tunnels.filter(|tunnel| !tunnel.children.is_empty()).collect(), rules }
    }
}

/// Gives a tunnel a child, and tells what it is called: two lists may call theirs the same.
fn push(tunnel: &mut Tunnel, mut child: Child) -> String {
    child.name = free(&child.name, |name| tunnel.children.iter().any(|other| other.name == name));
    let name = child.name.clone();
    tunnel.children.push(child);
    name
}

/// A child without subnets.
fn child(
    name: String,
    entry: &Entry,
    sets: &BTreeMap<String, Set>,
    place: &Place,
    notes: &mut Notes,
) -> Child {
    let (mut esp, mut transport) = (Vec::new(), entry.transport);
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
    let life = Life { rekey: None, life: entry.life };
    let life_bytes = entry.kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024));
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
