//! The running configuration of Cisco IOS and IOS XE.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ike::Identity;

use super::acl::List;
use super::acl_entry::{Masks, Objects, subnet};
use super::cisco::{Draft, Entry, Lives, Policies, Policy, Set, all_of, merged, note_defaults};
use super::interface::Interface;
use super::ios_keys::{Keys, key_of_line, keyring};
use super::ios_parts::{Profile, entry, profile, suite};
use super::lines::{Block, Source, blocks, lines};
use super::{identity, identity_of, is_placeholder, of_address, starts, usable};
use crate::exchange::export::ios::{ESP, IKEV1, IKEV2};
use crate::exchange::model::{End, Found, Key, Life, Notes, Place, Tunnel, Version, id_of};
use crate::exchange::suite::{Suite, understood};

#[derive(Default)]
struct Config {
    hostname: String,
    domain: String,
    /// Of IKEv2.
    proposals: BTreeMap<String, Vec<Suite>>,
    /// Names of proposals, by the name of the policy.
    policies: BTreeMap<String, Vec<String>>,
    ikev2: BTreeMap<String, Profile>,
    /// Of IKEv1.
    isakmp: Policies,
    isakmp_profiles: BTreeMap<String, Profile>,
    /// For both versions, by keyring. Those without a keyring are under the empty name.
    keys: BTreeMap<String, Keys>,
    /// `crypto isakmp identity` and `keepalive`.
    identity: Option<Identity>,
    keepalive: Option<u64>,
    lives: Lives,
    sets: BTreeMap<String, Set>,
    profiles: BTreeMap<String, Entry>,
    maps: BTreeMap<(String, u32), Entry>,
    lists: BTreeMap<String, List>,
    objects: Objects,
    /// Addresses of interfaces, by name; and where a map is applied.
    addresses: BTreeMap<String, IpAddr>,
    applied: BTreeMap<String, String>,
    tunnels: Vec<Interface>,
}

pub(super) fn read(sources: &[Source<'_>], own: Option<IpAddr>, notes: &mut Notes) -> Found {
    let mut config = Config::default();
    let blocks = blocks(lines(sources, '!'));
    // Lists refer to groups wherever these stand.
    for block in blocks.iter().filter(|block| block.head.words().starts_with(&["object-group", "network"])) {
        config.object_group(block, notes);
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
            ["ip", "domain", "name", name] | ["ip", "domain-name", name] => self.domain = (*name).to_owned(),
            ["crypto", "ikev2", "proposal", name, ..] => {
                let mut suite = suite(body, IKEV2, notes);
                if suite.prf.is_empty() {
                    suite = suite.with_prf_of_integrity();
                }
                let suites = usable(suite, Suite::ike_text, Suite::of_ike, place, notes);
                self.proposals.insert((*name).to_owned(), suites);
            }
            ["crypto", "ikev2", "policy", name] => {
                let named = body.iter().filter_map(|line| match line.words().as_slice() {
                    ["proposal", name] => Some((*name).to_owned()),
                    _ => None,
                });
                self.policies.insert((*name).to_owned(), named.collect());
            }
            ["crypto", "ikev2", "keyring", name] | ["crypto", "keyring", name, ..] => {
                keyring(self.keys.entry((*name).to_owned()).or_default(), body, notes);
            }
            ["crypto", "ikev2", "profile", name] => {
                let profile = profile(block, notes);
                self.ikev2.insert((*name).to_owned(), profile);
            }
            ["crypto", "isakmp", "profile", name] => {
                let mut profile = profile(block, notes);
                for line in body {
                    if line.words() == ["self-identity", "fqdn"] {
                        profile.device = self.fqdn();
                    }
                }
                self.isakmp_profiles.insert((*name).to_owned(), profile);
            }
            ["crypto", "isakmp", "policy", number] => {
                let mut suite = suite(body, IKEV1, notes);
                if suite.integrity.is_empty() {
                    // What goes without saying.
                    suite.add_word("sha1");
                }
                let life = body.iter().find_map(|line| match line.words().as_slice() {
                    ["lifetime", seconds] => seconds.parse().ok(),
                    _ => None,
                });
                let psk = body.iter().any(|line| line.words() == ["authentication", "pre-share"]);
                if psk {
                    let suite = suite.with_prf_of_integrity();
                    let suites = usable(suite, Suite::ike_text, Suite::of_ike, place, notes);
                    let policy = Policy { place: place.clone(), suites, life };
                    self.isakmp.insert(number.parse().unwrap_or(u32::MAX), policy);
                } else {
                    notes.add(place, "the policy is not for pre-shared keys: it is not taken over");
                }
            }
            ["crypto", "isakmp", "key", rest @ ..] => {
                key_of_line(self.keys.entry(String::new()).or_default(), rest, place, notes);
            }
            ["crypto", "isakmp", "identity", "hostname"] => self.identity = self.fqdn(),
            ["crypto", "isakmp", "identity", "key-id", id] => {
                self.identity = identity(&format!("keyid:{id}"), place, notes);
            }
            ["crypto", "isakmp", "identity", "address"] => {}
            ["crypto", "isakmp", "keepalive", seconds, ..] => self.keepalive = seconds.parse().ok(),
            ["crypto", "ipsec", "transform-set", name, words @ ..] => {
                self.transform_set(name, words, block, notes);
            }
            ["crypto", "ipsec", "profile", name] => {
                let entry = entry(block, notes);
                self.profiles.insert((*name).to_owned(), entry);
            }
            ["crypto", "map", name, seq, "ipsec-isakmp", rest @ ..] => {
                if rest.first() == Some(&"dynamic") {
                    notes.add(
                        place,
                        "a dynamic map is for peers without an address: make a peer of Culvert for each",
                    );
                    return;
                }
                let entry = entry(block, notes);
                self.maps.insert(((*name).to_owned(), seq.parse().unwrap_or(u32::MAX)), entry);
            }
            ["crypto", "map", name, "local-address", interface] => {
                self.applied.insert((*name).to_owned(), (*interface).to_owned());
            }
            ["crypto", "map", ..] => notes.add(place, "the map is not taken over"),
            ["crypto", "ipsec", "security-association", "lifetime", rest @ ..] => {
                self.lives.read(rest, place, notes);
            }
            [
                "crypto",
                "ikev2" | "isakmp",
                "dpd" | "nat" | "invalid-spi-recovery" | "fragmentation" | "limit" | "window",
                ..,
            ]
            | [
                "crypto",
                "ipsec",
                "security-association" | "df-bit" | "fragmentation" | "nat-transparency",
                ..,
            ]
            | ["crypto", "pki" | "key" | "logging" | "engine" | "call" | "mib", ..] => {}
            ["crypto", ..] => notes.add(place, "the command is not taken over"),
            ["ip", "access-list", "extended", name] => {
                let list = self.lists.entry((*name).to_owned()).or_default();
                for line in body {
                    list.add(&line.words(), Masks::Wildcard, &self.objects, &line.place);
                }
            }
            ["access-list", number, rest @ ..] if extended(number) => {
                let list = self.lists.entry((*number).to_owned()).or_default();
                list.add(rest, Masks::Wildcard, &self.objects, place);
            }
            ["interface", name] => self.interface(name, block),
            _ => {}
        }
    }

    fn fqdn(&self) -> Option<Identity> {
        let name = if self.domain.is_empty() {
            self.hostname.clone()
        } else {
            format!("{}.{}", self.hostname, self.domain)
        };
        identity_of(&name).ok()
    }

    fn object_group(&mut self, block: &Block, notes: &mut Notes) {
        let Some(name) = block.head.words.get(2) else { return };
        let mut all = Vec::new();
        for line in &block.body {
            let found = match line.words().as_slice() {
                ["host", host] => {
                    host.parse().map(tenants::Cidr::host).map_err(|_| format!("{host} is no address"))
                }
                ["description", ..] => continue,
                [address, mask] => subnet(address, mask, Masks::Network),
                _ => Err("not taken over".to_owned()),
            };
            match found {
                Ok(subnet) => all.push(subnet),
                Err(fault) => notes.add(&line.place, fault),
            }
        }
        self.objects.insert(name.clone(), all);
    }

    fn transform_set(&mut self, name: &str, words: &[&str], block: &Block, notes: &mut Notes) {
        let mut set = Set::default();
        let mut rest = words;
        while let [first, behind @ ..] = rest {
            // A key length is a word of its own.
            let long = behind.first().filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
            let word = long.map_or_else(|| (*first).to_owned(), |bits| format!("{first} {bits}"));
            rest = behind.get(usize::from(long.is_some())..).unwrap_or_default();
            let plain = match word.as_str() {
                "esp-aes 128" => "esp-aes",
                "esp-gcm" => "esp-gcm 128",
                other => other,
            };
            match understood(ESP, plain) {
                Some(ours) => drop(set.suite.add_word(ours)),
                None => notes.add(&block.head.place, format!("{word} is no algorithm of Culvert")),
            }
        }
        for line in &block.body {
            match line.words().as_slice() {
                ["mode", "tunnel"] => {}
                ["mode", "transport", ..] => set.transport = true,
                _ => notes.add(&line.place, "not taken over"),
            }
        }
        self.sets.insert(name.to_owned(), set);
    }

    fn interface(&mut self, name: &str, block: &Block) {
        let mut tunnel = Interface::new(name, block.head.place.clone());
        for line in &block.body {
            match line.words().as_slice() {
                ["ip", "address", address, _] => {
                    if let Ok(address) = address.parse() {
                        self.addresses.insert(name.to_owned(), address);
                    }
                }
                ["crypto", "map", map] => {
                    self.applied.entry((*map).to_owned()).or_insert_with(|| name.to_owned());
                }
                ["tunnel", "source", source] => tunnel.source = (*source).to_owned(),
                words => tunnel.line(words, &line.place),
            }
        }
        if tunnel.profile.is_some() {
            self.tunnels.push(tunnel);
        }
    }

    fn finish(self, own: Option<IpAddr>, notes: &mut Notes) -> Found {
        let mut draft = Draft::new(self.lives);
        for ((map, _), entry) in &self.maps {
            let interface =
                self.applied.get(map).and_then(|interface| self.addresses.get(interface)).copied();
            let Some(peer) = entry.peer(notes) else {
                draft.lack();
                continue;
            };
            let key = format!("{peer} {:?}", entry.profile);
            // A list may have a number for a name.
            let named = entry.list.clone().filter(|list| list.contains(|c: char| c.is_ascii_alphabetic()));
            let fallback = named.unwrap_or_else(|| map.clone());
            let skeleton =
                |notes: &mut Notes| self.skeleton(entry, peer, own.or(interface), &fallback, notes);
            draft.add_map(&key, entry, &self.sets, &self.lists, skeleton, notes);
        }
        for tunnel in &self.tunnels {
            let Some(read) = tunnel.entry(&self.profiles, notes) else {
                draft.lack();
                continue;
            };
            let entry = &read.1;
            let source = tunnel.source.parse().ok().or_else(|| self.addresses.get(&tunnel.source).copied());
            let key = format!("{} {:?}", tunnel.destination, entry.profile);
            let name = tunnel.profile.clone().unwrap_or_default();
            let skeleton =
                |notes: &mut Notes| self.skeleton(entry, &tunnel.destination, own.or(source), &name, notes);
            draft.add_interface(&key, tunnel, &read, &self.sets, skeleton, notes);
        }
        draft.finish(notes)
    }

    /// The tunnel of a map entry or a profile, without its children; or why it is not taken over.
    fn skeleton(
        &self,
        entry: &Entry,
        peer: &str,
        own: Option<IpAddr>,
        fallback: &str,
        notes: &mut Notes,
    ) -> Result<Tunnel, String> {
        let place = entry.place.as_ref().ok_or("it stands nowhere")?;
        let profiles = if entry.v1 { &self.isakmp_profiles } else { &self.ikev2 };
        let profile = match &entry.profile {
            Some(name) => profiles.get(name).cloned().ok_or_else(|| format!("there is no profile {name}"))?,
            None => Profile::default(),
        };
        if profile.foreign {
            return Err(
                "the profile does not authenticate by pre-shared keys: it is not taken over".to_owned()
            );
        }
        let own_identity = self.identity.clone().filter(|_| entry.v1);
        let device = profile.device.clone().or(own_identity).or_else(|| own.map(Identity::address));
        let device = device
            .ok_or("where the device is, and so what it calls itself, is not in the file: give --address")?;
        if is_placeholder(peer) {
            notes.add(place, format!("{peer} is to be replaced by an address"));
        }
        let culvert = profile.culvert.clone().or_else(|| of_address(peer)).ok_or_else(|| {
            format!(
                "what {peer} calls itself is not in the file: it is not taken over; an IKE profile says it"
            )
        })?;
        let rings = profile.keyring.iter().chain(self.keys.keys().filter(|_| profile.keyring.is_none()));
        let key = Keys::best(rings.filter_map(|ring| self.keys.get(ring)), peer, &culvert);
        if key == Key::Unknown {
            notes.add(place, format!("there is no key for {peer} that can be read"));
        }
        let name = entry.profile.as_deref().unwrap_or(fallback);
        let (ike, life) = if entry.v1 {
            let (suites, life) = all_of(&self.isakmp, place, notes);
            (merged(suites), life)
        } else {
            (self.proposals_of(entry, place, notes), profile.life)
        };
        let addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
        Ok(Tunnel {
            name: id_of(name.split(crate::exchange::export::cisco::OF).next().unwrap_or(name), "peer"),
            version: Version::of(entry.v1, profile.aggressive),
            culvert: End {
                addresses: Some(peer.to_owned()).filter(|p| !is_placeholder(p)).into_iter().collect(),
                identity: culvert,
            },
            key,
            ike,
            ike_life: Life { rekey: None, life },
            dpd: profile.dpd.or(self.keepalive.filter(|_| entry.v1)),
            starts: starts(entry.answers.as_ref(), &addresses, notes),
            device: End { addresses, identity: device },
            force_udp: false,
            children: Vec::new(),
        })
    }

    /// Those of the policy of the same name as an exporter writes it, else of all policies.
    fn proposals_of(&self, entry: &Entry, place: &Place, notes: &mut Notes) -> Vec<Suite> {
        let named = entry.profile.as_ref().and_then(|name| self.policies.get(name));
        let names: Vec<&String> =
            named.map_or_else(|| self.policies.values().flatten().collect(), |p| p.iter().collect());
        if names.is_empty() {
            note_defaults(place, "policy of IKE with a proposal", notes);
        }
        names.into_iter().filter_map(|name| self.proposals.get(name)).flatten().cloned().collect()
    }
}

fn extended(number: &str) -> bool {
    number.parse().is_ok_and(|number: u16| (100..200).contains(&number) || (2000..2700).contains(&number))
}
