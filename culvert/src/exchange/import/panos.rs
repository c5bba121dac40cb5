//! `set` commands of Palo Alto Networks PAN-OS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ike::Identity;
use tenants::Cidr;

use super::lines::{Line, Source, lines};
use super::panos_ids::{ProxyId, children_of};
use super::{add_algorithm, identity, is_placeholder, of_address, of_digits, plain_key, starts, usable};
use crate::exchange::export::cisco::OF;
use crate::exchange::export::panos::{ESP, GROUPS, IKE};
use crate::exchange::model::{Child, End, Found, Key, Life, Notes, Place, Tunnel, Version, id_of};
use crate::exchange::suite::Suite;

/// A crypto profile of either kind.
#[derive(Clone, Debug, Default)]
struct Profile {
    suite: Suite,
    life: Option<u64>,
    kilobytes: Option<u64>,
}

/// An IKE gateway.
#[derive(Clone, Debug, Default)]
struct Gateway {
    peer: Option<String>,
    local: Option<IpAddr>,
    key: Option<Key>,
    device: Option<Identity>,
    culvert: Option<Identity>,
    version: String,
    profiles: BTreeMap<String, String>,
    aggressive: bool,
    dpd: BTreeMap<String, u64>,
    /// Where it says that the device never begins.
    answers: Option<Place>,
    foreign: bool,
}

/// A tunnel.
#[derive(Clone, Debug, Default)]
struct Ipsec {
    place: Option<Place>,
    gateway: String,
    profile: String,
    /// In order: name, ours and theirs.
    ids: Vec<ProxyId>,
    disabled: bool,
}

#[derive(Default)]
struct Config {
    ike: BTreeMap<String, Profile>,
    ipsec: BTreeMap<String, Profile>,
    gateways: BTreeMap<String, Gateway>,
    /// In the order of the file.
    tunnels: Vec<(String, Ipsec)>,
}

pub(super) fn read(sources: &[Source<'_>], own: Option<IpAddr>, notes: &mut Notes) -> Found {
    let mut config = Config::default();
    for line in lines(sources, '#') {
        let words = line.words();
        let words = match words.as_slice() {
            // Of a template of Panorama, or of a virtual system.
            ["set", "template", _, "config", rest @ ..] => rest,
            ["set", rest @ ..] => rest,
            [first, ..] if first.starts_with('<') => {
                notes.add(&line.place, "XML is not read: `set cli config-output-format set` shows commands");
                break;
            }
            _ => continue,
        };
        let words =
            if let ["devices", _, rest @ ..] | ["deviceconfig", rest @ ..] = words { rest } else { words };
        match words {
            ["network", "ike", "crypto-profiles", "ike-crypto-profiles", name, rest @ ..] => {
                profile(config.ike.entry((*name).to_owned()).or_default(), rest, &line, notes);
            }
            ["network", "ike", "crypto-profiles", "ipsec-crypto-profiles", name, rest @ ..] => {
                profile(config.ipsec.entry((*name).to_owned()).or_default(), rest, &line, notes);
            }
            ["network", "ike", "gateway", name, rest @ ..] => {
                gateway(config.gateways.entry((*name).to_owned()).or_default(), rest, &line.place, notes);
            }
            ["network", "tunnel", "ipsec", name, rest @ ..] => {
                if config.tunnels.iter().all(|(other, _)| other != name) {
                    config.tunnels.push(((*name).to_owned(), Ipsec::default()));
                }
                if let Some((_, tunnel)) = config.tunnels.iter_mut().find(|(other, _)| other == name) {
                    tunnel.place.get_or_insert_with(|| line.place.clone());
                    ipsec(tunnel, rest, &line.place, notes);
                }
            }
            _ => {}
        }
    }
    config.finish(own, notes)
}

/// A list in brackets, or one word.
fn values<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().filter(|word| !["[", "]"].contains(word)).copied().collect()
}

fn profile(profile: &mut Profile, words: &[&str], line: &Line, notes: &mut Notes) {
    let (table, found) = match words {
        ["encryption", rest @ ..] | ["hash", rest @ ..] => (IKE, values(rest)),
        ["esp", "encryption" | "authentication", rest @ ..] => (ESP, values(rest)),
        ["dh-group", "no-pfs"] => return,
        ["dh-group", rest @ ..] => (GROUPS, values(rest)),
        ["lifetime", unit, number] => {
            let seconds = match *unit {
                "seconds" => Some(1),
                "minutes" => Some(60),
                "hours" => Some(3600),
                "days" => Some(86_400),
                _ => None,
            };
            let life =
                number.parse::<u64>().ok().zip(seconds).and_then(|(number, unit)| number.checked_mul(unit));
            if life.is_none() {
                notes.add(&line.place, "no time that is known here");
            }
            profile.life = life;
            return;
        }
        ["lifesize", unit, number] => {
            let factor = match *unit {
                "kb" => Some(1),
                "mb" => Some(1 << 10),
                "gb" => Some(1 << 20),
                "tb" => Some(1 << 30),
                _ => None,
            };
            profile.kilobytes =
                number.parse::<u64>().ok().zip(factor).and_then(|(number, unit)| number.checked_mul(unit));
            return;
        }
        _ => return notes.add(&line.place, "not taken over"),
    };
    for word in found.into_iter().filter(|word| *word != "none" && *word != "non-auth") {
        add_algorithm(&mut profile.suite, table, word, &line.place, notes);
    }
}

fn gateway(gateway: &mut Gateway, words: &[&str], place: &Place, notes: &mut Notes) {
    match words {
        ["peer-address", "ip" | "fqdn", address] => {
            if is_placeholder(address) {
                notes.add(place, format!("{address} is to be replaced by an address"));
            } else {
                gateway.peer = Some((*address).to_owned());
            }
        }
        ["peer-address", "dynamic"] => {}
        ["local-address", "ip", address] => {
            gateway.local = address.split('/').next().and_then(|address| address.parse().ok());
        }
        ["authentication", "pre-shared-key", "key", key]
            if key.starts_with("-AQ==") || key.starts_with("-AQ=") =>
        {
            notes.add(
                place,
                "the key is encrypted: set the variable that the manifest names, or put it there",
            );
        }
        ["authentication", "pre-shared-key", "key", key] => gateway.key = Some(plain_key(key, place, notes)),
        ["authentication", "certificate", ..] => {
            notes.add(
                place,
                "certificates are not taken over, nor is the gateway: Culvert knows pre-shared keys",
            );
            gateway.foreign = true;
        }
        [side @ ("local-id" | "peer-id"), "type", kind, "id", id] => {
            let found = match *kind {
                "keyid" => match of_digits(id).map(String::from_utf8) {
                    Some(Ok(text)) => identity(&format!("keyid:{text}"), place, notes),
                    Some(Err(_)) => {
                        notes.add(place, "a key ID that is no text is not taken over");
                        None
                    }
                    None => identity(&format!("keyid:{id}"), place, notes),
                },
                "fqdn" => identity(&format!("fqdn:{id}"), place, notes),
                "ipaddr" | "ufqdn" => identity(id, place, notes),
                _ => {
                    notes.add(place, format!("an identity of type {kind} is not taken over"));
                    None
                }
            };
            *(if *side == "local-id" { &mut gateway.device } else { &mut gateway.culvert }) = found;
        }
        ["protocol", "version", version] => gateway.version = (*version).to_owned(),
        ["protocol", version, "ike-crypto-profile", name] => {
            gateway.profiles.insert((*version).to_owned(), (*name).to_owned());
        }
        ["protocol", "ikev1", "exchange-mode", mode] => {
            gateway.aggressive = *mode == "aggressive";
            if *mode == "auto" {
                notes.add(place, "Culvert has one mode with a peer: main is taken");
            }
        }
        ["protocol", version, "dpd", "interval", seconds] => {
            gateway.dpd.extend(seconds.parse().ok().map(|seconds| ((*version).to_owned(), seconds)));
        }
        ["disabled", "yes"] => {
            notes.add(place, "it is disabled: neither it nor a tunnel by it is taken over");
            gateway.foreign = true;
        }
        ["protocol-common", "passive-mode", passive] => {
            gateway.answers = (*passive == "yes").then(|| place.clone());
        }
        // A matter of the device alone.
        ["local-address", "interface", ..]
        | ["protocol", _, "dpd", ..]
        | ["protocol-common" | "comment" | "disabled", ..] => {}
        _ => notes.add(place, "not taken over"),
    }
}

fn ipsec(tunnel: &mut Ipsec, words: &[&str], place: &Place, notes: &mut Notes) {
    match words {
        ["auto-key", "ike-gateway", name] => tunnel.gateway = (*name).to_owned(),
        ["auto-key", "ipsec-crypto-profile", name] => tunnel.profile = (*name).to_owned(),
        ["auto-key", family @ ("proxy-id" | "proxy-id-v6"), name, rest @ ..] => {
            let ipv4 = *family == "proxy-id";
            if tunnel.ids.iter().all(|id| id.name != *name || id.ipv4 != ipv4) {
                let (place, name) = (place.clone(), (*name).to_owned());
                tunnel.ids.push(ProxyId { place, name, ipv4, device: None, culvert: None });
            }
            let Some(id) = tunnel.ids.iter_mut().find(|id| id.name == *name && id.ipv4 == ipv4) else {
                return;
            };
            let mut rest = rest;
            // Several may stand in one line.
            while let [key, value, behind @ ..] = rest {
                rest = behind;
                let subnet = |notes: &mut Notes| match value
                    .parse()
                    .map(Cidr::host)
                    .or_else(|_| value.parse::<Cidr>())
                {
                    Ok(subnet) => Some(subnet),
                    Err(error) => {
                        notes.add(place, format!("{error}"));
                        None
                    }
                };
                match *key {
                    "local" => id.device = subnet(notes),
                    "remote" => id.culvert = subnet(notes),
                    "protocol" if *value == "any" => {}
                    _ => notes.add(
                        place,
                        "a child of Culvert has subnets; a rule of the tenant can say protocol and ports",
                    ),
                }
            }
        }
        ["manual-key" | "global-protect-satellite", ..] => {
            notes.add(place, "Culvert negotiates its keys: not taken over")
        }
        ["disabled", "yes"] => {
            notes.add(place, "it is disabled: it is not taken over");
            tunnel.disabled = true;
        }
        // A matter of the device alone.
        [
            "tunnel-interface"
            | "tunnel-monitor"
            | "anti-replay"
            | "anti-replay-window"
            | "copy-tos"
            | "copy-flow-label"
            | "enable-gre-encapsulation"
            | "disabled"
            | "ipsec-mode"
            | "comment",
            ..,
        ] => {}
        _ => notes.add(place, "not taken over"),
    }
}

impl Config {
    fn finish(self, own: Option<IpAddr>, notes: &mut Notes) -> Found {
        let mut tunnels: Vec<(String, Tunnel)> = Vec::new();
        for (name, ipsec) in &self.tunnels {
            let Some(place) = &ipsec.place else { continue };
            let Some(gateway) = self.gateways.get(&ipsec.gateway) else {
                notes.add(place, "the tunnel has no gateway that is here: it is not taken over");
                continue;
            };
            if gateway.foreign || ipsec.disabled {
                continue;
            }
            if tunnels.iter().all(|(other, _)| *other != ipsec.gateway) {
                let Some(tunnel) = self.skeleton(&ipsec.gateway, gateway, own, place, notes) else {
                    continue;
                };
                tunnels.push((ipsec.gateway.clone(), tunnel));
            }
            let Some((_, tunnel)) = tunnels.iter_mut().find(|(other, _)| *other == ipsec.gateway) else {
                continue;
            };
            tunnel.children.extend(self.children(name, ipsec, place, notes));
        }
        let tunnels = tunnels.into_iter().map(|(_, tunnel)| tunnel);
        let tunnels = tunnels.filter(|tunnel| !tunnel.children.is_empty()).collect();
        Found { tunnels, ..Found::default() }
    }

    fn skeleton(
        &self,
        name: &str,
        gateway: &Gateway,
        own: Option<IpAddr>,
        place: &Place,
        notes: &mut Notes,
    ) -> Option<Tunnel> {
        let v1 = match gateway.version.as_str() {
            "ikev2" => false,
            "ikev2-preferred" => {
                notes
                    .add(place, "ikev2-preferred: Culvert speaks one version of IKE with a peer: 2 is taken");
                false
            }
            // What the device does unless it is told.
            _ => true,
        };
        let own = own.or(gateway.local);
        let culvert = gateway.culvert.clone().or_else(|| gateway.peer.as_deref().and_then(of_address));
        let device = gateway.device.clone().or_else(|| own.map(Identity::address));
        let Some((culvert, device)) = culvert.zip(device) else {
            notes.add(
                place,
                "the gateway does not say who both sides are; --address says where the device is",
            );
            return None;
        };
        if gateway.key.is_none() {
            notes.add(place, "the gateway has no key that can be read");
        }
        let version = if v1 { "ikev1" } else { "ikev2" };
        let profile =
            gateway.profiles.get(version).and_then(|name| self.ike.get(name)).cloned().unwrap_or_default();
        // The hash is the PRF, and with an AEAD nothing else.
        let suite = profile.suite.with_prf_of_integrity();
        let ike = usable(suite, Suite::ike_text, Suite::of_ike, place, notes);
        let addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
        Some(Tunnel {
            name: id_of(name, "peer"),
            version: Version::of(v1, gateway.aggressive),
            culvert: End { addresses: gateway.peer.iter().cloned().collect(), identity: culvert },
            key: gateway.key.clone().unwrap_or(Key::Unknown),
            ike,
            ike_life: Life { rekey: None, life: profile.life },
            dpd: gateway.dpd.get(version).copied(),
            starts: starts(gateway.answers.as_ref(), &addresses, notes),
            device: End { addresses, identity: device },
            force_udp: false,
            children: Vec::new(),
        })
    }

    fn children(&self, name: &str, ipsec: &Ipsec, place: &Place, notes: &mut Notes) -> Vec<Child> {
        let profile = self.ipsec.get(&ipsec.profile).cloned().unwrap_or_default();
        let esp = usable(profile.suite, Suite::esp_text, Suite::of_esp, place, notes);
        let mut children: Vec<Child> = Vec::new();
        let empty = |name: &str| Child {
            name: id_of(name, "net"),
            transport: false,
            culvert: Vec::new(),
            device: Vec::new(),
            esp: esp.clone(),
            life: Life { rekey: None, life: profile.life },
            life_bytes: profile.kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024)),
        };
        for (name, pairs) in children_of(&ipsec.ids, notes) {
            let mut child = empty(&name);
            for (device, culvert) in pairs {
                for (list, subnet) in [(&mut child.culvert, culvert), (&mut child.device, device)] {
                    if !list.contains(&subnet) {
                        list.push(subnet);
                    }
                }
            }
            children.push(child);
        }
        if ipsec.ids.is_empty() {
            let mut child = empty(name.split_once(OF).map_or(name, |(_, child)| child));
            let all: Vec<Cidr> = Cidr::truncated([0, 0, 0, 0].into(), 0).into_iter().collect();
            (child.culvert, child.device) = (all.clone(), all);
            children.push(child);
            notes.add(
                place,
                "without proxy IDs everything goes through the tunnel: its routes say what, on both sides",
            );
        }
        children
    }
}
