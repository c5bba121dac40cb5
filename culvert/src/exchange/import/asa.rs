//! The running configuration of Cisco ASA.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ike::Identity;

use super::acl::List;
use super::acl_entry::{Masks, Objects, subnet};
use super::cisco::{Draft, Entry, Lives, Policies, Policy, Set, all_of, merged};
use super::interface::Interface;
use super::lines::{Block, Line, Source, blocks, lines};
use super::{add_algorithm, identity, plain_key, starts, usable};
use crate::exchange::export::asa::{ESP, GROUPS, IKEV1, IKEV2, PRF, TRANSFORMS};
use crate::exchange::export::cisco::OF;
use crate::exchange::model::{End, Found, Key, Life, Notes, Place, Tunnel, Version, id_of};
use crate::exchange::suite::{Suite, Words};

/// How a tunnel group authenticates.
#[derive(Clone, Debug, Default)]
struct Group {
    v1: Option<Key>,
    v2: Option<Key>,
    dpd: Option<u64>,
}

/// What a map entry or a profile says, for either version of IKE.
#[derive(Clone, Debug, Default)]
struct Both {
    /// With the proposals of IKEv2.
    entry: Entry,
    /// The transform sets of IKEv1.
    v1_sets: Vec<String>,
}

impl Both {
    /// Of the version that a peer can have.
    fn one(mut self, notes: &mut Notes) -> Entry {
        match (&self.entry.place, self.entry.sets.is_empty(), self.v1_sets.is_empty()) {
            (_, true, false) => (self.entry.sets, self.entry.v1) = (self.v1_sets, true),
            (Some(place), false, false) => {
                notes.add(
                    place,
                    "for both versions: Culvert speaks one version of IKE with a peer: 2 is taken",
                );
            }
            _ => {}
        }
        self.entry
    }
}

#[derive(Default)]
struct Config {
    hostname: String,
    domain: String,
    identity: Option<Identity>,
    ikev2: Policies,
    ikev1: Policies,
    lives: Lives,
    sets: BTreeMap<String, Set>,
    profiles: BTreeMap<String, Both>,
    maps: BTreeMap<(String, u32), Both>,
    applied: BTreeMap<String, String>,
    lists: BTreeMap<String, List>,
    objects: Objects,
    groups: BTreeMap<String, Group>,
    /// Of interfaces, by `nameif`.
    addresses: BTreeMap<String, IpAddr>,
    tunnels: Vec<Interface>,
}

pub(super) fn read(sources: &[Source<'_>], own: Option<IpAddr>, notes: &mut Notes) -> Found {
    let mut config = Config::default();
    let blocks = blocks(lines(sources, '!'));
    // Lists refer to objects wherever these stand, and groups to other objects.
    for kind in ["object", "object-group"] {
        for block in blocks.iter().filter(|block| block.head.words().starts_with(&[kind, "network"])) {
            config.object(block, notes);
        }
    }
    for block in &blocks {
        config.block(block, notes);
    }
    config.finish(own, notes)
}

impl Config {
    fn block(&mut self, block: &Block, notes: &mut Notes) {
        let (place, body) = (&block.head.place, &block.body);
        match block.head.words().as_slice() {
            ["hostname", name] => self.hostname = (*name).to_owned(),
            ["domain-name", name] => self.domain = (*name).to_owned(),
            ["crypto", "isakmp", "identity", "key-id", id] => {
                self.identity = identity(&format!("keyid:{id}"), place, notes);
            }
            ["crypto", "isakmp", "identity", "hostname"] => {
                let name = format!("{}.{}", self.hostname, self.domain);
                self.identity = identity(&format!("fqdn:{}", name.trim_end_matches('.')), place, notes);
            }
            ["crypto", "isakmp", "identity", ..] => {}
            ["crypto", "ikev2", "policy", number] => {
                let (suite, life) = policy(body, IKEV2, notes);
                let suites = usable(suite, Suite::ike_text, Suite::of_ike, place, notes);
                let policy = Policy { place: place.clone(), suites, life };
                self.ikev2.insert(number.parse().unwrap_or(u32::MAX), policy);
            }
            ["crypto", "ikev1", "policy", number] => {
                let (suite, life) = policy(body, IKEV1, notes);
                if body.iter().any(|line| line.words() == ["authentication", "pre-share"]) {
                    let suite = suite.with_prf_of_integrity();
                    let suites = usable(suite, Suite::ike_text, Suite::of_ike, place, notes);
                    let policy = Policy { place: place.clone(), suites, life };
                    self.ikev1.insert(number.parse().unwrap_or(u32::MAX), policy);
                } else {
                    notes.add(place, "the policy is not for pre-shared keys: it is not taken over");
                }
            }
            ["crypto", "ipsec", "ikev2", "ipsec-proposal", name] => {
                let set = self.sets.entry((*name).to_owned()).or_default();
                body.iter().for_each(|line| proposal(line, set, notes));
            }
            ["crypto", "ipsec", "ikev1", "transform-set", name, "mode", "transport"] => {
                self.sets.entry((*name).to_owned()).or_default().transport = true;
            }
            ["crypto", "ipsec", "ikev1", "transform-set", name, words @ ..] => {
                let set = self.sets.entry((*name).to_owned()).or_default();
                for word in words {
                    add_algorithm(&mut set.suite, TRANSFORMS, word, place, notes);
                }
            }
            ["crypto", "ipsec", "profile", name] => {
                let both = self.profiles.entry((*name).to_owned()).or_default();
                both.entry.place = Some(place.clone());
                for line in body {
                    match line.words().as_slice() {
                        ["set", rest @ ..] if set(both, rest, &line.place, notes) => {}
                        ["responder-only"] => both.entry.answers = Some(line.place.clone()),
                        _ => notes.add(&line.place, "not taken over"),
                    }
                }
            }
            ["crypto", "map", name, "interface", interface] => {
                self.applied.insert((*name).to_owned(), (*interface).to_owned());
            }
            ["crypto", "map", _, _, "ipsec-isakmp", "dynamic", ..] | ["crypto", "dynamic-map", ..] => {
                notes.add(
                    place,
                    "a dynamic map is for peers without an address: make a peer of Culvert for each",
                );
            }
            ["crypto", "map", name, seq, rest @ ..] => {
                let both =
                    self.maps.entry(((*name).to_owned(), seq.parse().unwrap_or(u32::MAX))).or_default();
                both.entry.place.get_or_insert_with(|| place.clone());
                match rest {
                    ["match", "address", list] => both.entry.list = Some((*list).to_owned()),
                    ["set", rest @ ..] if set(both, rest, place, notes) => {}
                    _ => notes.add(place, "not taken over"),
                }
            }
            ["crypto", "ipsec", "security-association", "lifetime", rest @ ..] => {
                self.lives.read(rest, place, notes);
            }
            [
                "crypto",
                "ikev1" | "ikev2",
                "enable" | "am-disable" | "cookie-challenge" | "limit" | "remote-access",
                ..,
            ]
            | [
                "crypto",
                "ipsec",
                "security-association" | "df-bit" | "fragmentation" | "inner-routing-lookup",
                ..,
            ]
            | ["crypto", "ca" | "key" | "engine" | "isakmp", ..] => {}
            ["crypto", ..] => notes.add(place, "the command is not taken over"),
            ["access-list", name, "extended", rest @ ..] => {
                let list = self.lists.entry((*name).to_owned()).or_default();
                list.add(rest, Masks::Network, &self.objects, place);
            }
            ["access-list", name, "remark", rest @ ..] => {
                let list = self.lists.entry((*name).to_owned()).or_default();
                let words: Vec<&str> = std::iter::once("remark").chain(rest.iter().copied()).collect();
                list.add(&words, Masks::Network, &self.objects, place);
            }
            ["tunnel-group", name, "ipsec-attributes"] => {
                let group = self.groups.entry((*name).to_owned()).or_default();
                body.iter().for_each(|line| attribute(line, group, notes));
            }
            ["tunnel-group", name, "type", kind] if *kind != "ipsec-l2l" => {
                notes.add(place, format!("{name} is of type {kind}, which Culvert does not have"));
            }
            ["interface", name] => self.interface(name, block),
            _ => {}
        }
    }

    fn object(&mut self, block: &Block, notes: &mut Notes) {
        let Some(name) = block.head.words.get(2) else { return };
        let mut all = Vec::new();
        for line in &block.body {
            let of = |name: &str| {
                self.objects.get(name).cloned().ok_or_else(|| format!("there is no object {name}"))
            };
            let host = |host: &str| {
                host.parse()
                    .map(|host| vec![tenants::Cidr::host(host)])
                    .map_err(|_| format!("{host} is no address"))
            };
            let network =
                |address: &str, mask: &str| subnet(address, mask, Masks::Network).map(|subnet| vec![subnet]);
            let parsed = |text: &str| {
                text.parse().map(|subnet| vec![subnet]).map_err(|error: tenants::CidrError| error.to_string())
            };
            let found = match line.words().as_slice() {
                ["host", address] | ["network-object", "host", address] => host(address),
                ["subnet", address, mask] | ["network-object", address, mask] if *address != "object" => {
                    network(address, mask)
                }
                ["subnet", text] | ["network-object", text] => parsed(text),
                ["network-object", "object", name] | ["group-object", name] => of(name),
                ["description" | "nat", ..] => continue,
                _ => Err("not taken over".to_owned()),
            };
            match found {
                Ok(subnets) => all.extend(subnets),
                Err(fault) => notes.add(&line.place, fault),
            }
        }
        self.objects.entry(name.clone()).or_default().extend(all);
    }

    fn interface(&mut self, name: &str, block: &Block) {
        let mut tunnel = Interface::new(name, block.head.place.clone());
        let (mut nameif, mut address) = (name.to_owned(), None);
        for line in &block.body {
            match line.words().as_slice() {
                ["nameif", name] => nameif = (*name).to_owned(),
                ["ip", "address", own, _, ..] => address = own.parse().ok(),
                ["tunnel", "source", "interface", source] => tunnel.source = (*source).to_owned(),
                words => tunnel.line(words, &line.place),
            }
        }
        if let Some(address) = address {
            self.addresses.insert(nameif, address);
        }
        if tunnel.profile.is_some() {
            self.tunnels.push(tunnel);
        }
    }

    fn finish(mut self, own: Option<IpAddr>, notes: &mut Notes) -> Found {
        let mut draft = Draft::new(self.lives);
        for ((map, _), both) in std::mem::take(&mut self.maps) {
            let entry = both.one(notes);
            let outside = self.applied.get(&map).and_then(|interface| self.addresses.get(interface)).copied();
            let Some(peer) = entry.peer(notes) else {
                draft.lack();
                continue;
            };
            let name = entry.list.clone().unwrap_or(map);
            let key = format!("{peer} {}", entry.v1);
            let skeleton = |notes: &mut Notes| self.skeleton(&entry, peer, own.or(outside), &name, notes);
            draft.add_map(&key, &entry, &self.sets, &self.lists, skeleton, notes);
        }
        let profiles = std::mem::take(&mut self.profiles);
        let profiles: BTreeMap<String, Entry> =
            profiles.into_iter().map(|(name, both)| (name, both.one(notes))).collect();
        for tunnel in &self.tunnels {
            let Some(read) = tunnel.entry(&profiles, notes) else {
                draft.lack();
                continue;
            };
            let entry = &read.1;
            let source = self.addresses.get(&tunnel.source).copied();
            let key = format!("{} {}", tunnel.destination, entry.v1);
            let name = tunnel.profile.as_deref().unwrap_or_default();
            let skeleton =
                |notes: &mut Notes| self.skeleton(entry, &tunnel.destination, own.or(source), name, notes);
            draft.add_interface(&key, tunnel, &read, &self.sets, skeleton, notes);
        }
        draft.finish(notes)
    }

    /// The tunnel to a peer, without its children; or why it is not taken over.
    fn skeleton(
        &self,
        entry: &Entry,
        peer: &str,
        own: Option<IpAddr>,
        name: &str,
        notes: &mut Notes,
    ) -> Result<Tunnel, String> {
        let place = entry.place.as_ref().ok_or("it stands nowhere")?;
        let device = self.identity.clone().or_else(|| own.map(Identity::address));
        let device = device
            .ok_or("where the device is, and so what it calls itself, is not in the file: give --address")?;
        let address: Option<IpAddr> = peer.parse().ok();
        if address.is_none() {
            notes.add(place, format!("{peer} is to be replaced by an address"));
        }
        let culvert = address.map(Identity::address).unwrap_or_else(|| Identity::fqdn("culvert.invalid"));
        let group = self.groups.get(peer).cloned().unwrap_or_default();
        let key = if entry.v1 { group.v1 } else { group.v2 };
        if key.is_none() {
            notes
                .add(place, format!("the tunnel group {peer} has no pre-shared key for this version of IKE"));
        }
        let (suites, life) = all_of(if entry.v1 { &self.ikev1 } else { &self.ikev2 }, place, notes);
        let ike = if entry.v1 { merged(suites) } else { suites };
        let addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
        Ok(Tunnel {
            name: id_of(name.split(OF).next().unwrap_or(name), "peer"),
            version: Version::of(entry.v1, entry.aggressive),
            culvert: End { addresses: address.iter().map(ToString::to_string).collect(), identity: culvert },
            key: key.unwrap_or(Key::Unknown),
            ike,
            ike_life: Life { rekey: None, life },
            dpd: group.dpd,
            starts: starts(entry.answers.as_ref(), &addresses, notes),
            device: End { addresses, identity: device },
            force_udp: false,
            children: Vec::new(),
        })
    }
}

fn set(both: &mut Both, words: &[&str], place: &Place, notes: &mut Notes) -> bool {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match words {
        ["ikev2", "ipsec-proposal", names @ ..] => both.entry.sets = named(names),
        ["ikev1", "transform-set", names @ ..] => both.v1_sets = named(names),
        ["ikev2", "mode", "transport"] => both.entry.transport = true,
        ["ikev1", "phase1-mode", "aggressive", ..] => both.entry.aggressive = true,
        ["ikev1", "phase1-mode", "main"] => {}
        words => return both.entry.set(words, GROUPS, place, notes),
    }
    true
}

/// A policy's algorithms, and its lifetime.
fn policy(body: &[Line], words: Words, notes: &mut Notes) -> (Suite, Option<u64>) {
    let (mut suite, mut life) = (Suite::default(), None);
    for line in body {
        let all = line.words();
        let Some((kind, values)) = all.split_first() else { continue };
        let table = match *kind {
            "encryption" | "integrity" | "hash" => words,
            "prf" => PRF,
            "group" => GROUPS,
            "lifetime" => {
                life = values.last().and_then(|seconds| seconds.parse().ok());
                continue;
            }
            "authentication" => continue,
            _ => {
                notes.add(&line.place, "not taken over");
                continue;
            }
        };
        for value in values.iter().filter(|value| **value != "null") {
            add_algorithm(&mut suite, table, value, &line.place, notes);
        }
    }
    (suite, life)
}

fn proposal(line: &Line, set: &mut Set, notes: &mut Notes) {
    match line.words().as_slice() {
        ["protocol", "esp", "encryption" | "integrity", values @ ..] => {
            for value in values.iter().filter(|value| **value != "null") {
                add_algorithm(&mut set.suite, ESP, value, &line.place, notes);
            }
        }
        _ => notes.add(&line.place, "not taken over"),
    }
}

fn attribute(line: &Line, group: &mut Group, notes: &mut Notes) {
    let place = &line.place;
    match line.words().as_slice() {
        ["ikev1", "pre-shared-key", key] | ["pre-shared-key", key] => {
            group.v1 = Some(plain_key(key, place, notes))
        }
        ["ikev2", side @ ("remote-authentication" | "local-authentication"), "pre-shared-key", key] => {
            let key = plain_key(key, place, notes);
            if group.v2.as_ref().is_some_and(|other| *other != key) {
                notes.add(
                    place,
                    format!("Culvert has one key for both directions, and that of {side} is another"),
                );
            }
            group.v2.get_or_insert(key);
        }
        ["ikev2", "remote-authentication" | "local-authentication", method, ..] => {
            notes.add(place, format!("{method} is not taken over: Culvert knows pre-shared keys"));
        }
        ["isakmp", "keepalive", "threshold", seconds, ..] => group.dpd = seconds.parse().ok(),
        ["isakmp", "keepalive", "disable"] | ["peer-id-validate" | "chain", ..] => {}
        _ => notes.add(place, "not taken over"),
    }
}
