//! `ipsec.conf` and `ipsec.secrets`: of Libreswan, and as strongSwan had them.
//!
//! The device is `left`, unless that is where anybody may come from, or `right` goes by the default route. Connections with the
//! same two identities are children of one peer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ike::Identity;

use super::cisco::merged;
use super::dialects::proposals;
use super::ipsec_child::{child, time};
use super::lines::Source;
use super::{boolean, identity, is_placeholder, key_of, of_address};
use crate::exchange::export::libreswan::OF;
use crate::exchange::model::{End, Found, Key, Life, Notes, Place, Starts, Tunnel, Version, id_of};

/// What is a matter of the device alone.
const OWN: &[&str] = &[
    "dpdtimeout",
    "dpdaction",
    "keyingtries",
    "rekey",
    "rekeymargin",
    "rekeyfuzz",
    "fragmentation",
    "ike-frag",
    "nic-offload",
    "mtu",
    "priority",
    "reqid",
    "replay-window",
    "mark",
    "vti-interface",
    "vti-routing",
    "vti-shared",
    "ipsec-interface",
    "leftupdown",
    "rightupdown",
    "leftsourceip",
    "leftnexthop",
    "rightnexthop",
    "leftfirewall",
    "closeaction",
    "reauth",
    "salifetime-bytes",
    "negotiationshunt",
    "failureshunt",
    "leftinterface-ip",
    "hostaddrfamily",
    "clientaddrfamily",
    "mobike",
    "overlapip",
    "initial-contact",
    "send-vendorid",
    "decap-dscp",
    "nopmtudisc",
    "accept-redirect",
    "margintime",
    "inactivity",
];

/// The section whose values all others have.
const DEFAULTS: &str = "%default";

/// Values by key.
pub(super) type Values = BTreeMap<String, (String, Place)>;

/// A connection as it stands.
pub(super) struct Section {
    name: String,
    pub(super) place: Place,
    values: Values,
    /// The sections that it refers to.
    also: Vec<(String, Place)>,
}

pub(super) fn read(sources: &[Source<'_>], notes: &mut Notes) -> Found {
    let mut sections = Vec::new();
    let mut secrets = Vec::new();
    for source in sources {
        read_file(source, &mut sections, &mut secrets, notes);
    }
    let defaults = sections.iter().find(|section| section.name == DEFAULTS);
    for (name, place) in defaults.iter().flat_map(|section| &section.also) {
        notes.add(place, format!("also={name} in {DEFAULTS} is not taken over"));
    }
    let defaults = defaults.map(|section| section.values.clone());
    let mut found = Found::default();
    let connections = || sections.iter().filter(|section| section.name != DEFAULTS);
    // What others are made of is no connection, but for one that says where its peer is and when it begins.
    let used: BTreeSet<&str> =
        connections().flat_map(|section| &section.also).map(|(name, _)| name.as_str()).collect();
    for section in connections() {
        let own = with_others(section, &sections, notes);
        let used = used.contains(section.name.as_str())
            && !["auto", "right"].iter().all(|key| own.contains_key(*key));
        let mut values = defaults.clone().unwrap_or_default();
        values.extend(own);
        if used || values.get("auto").is_some_and(|(auto, _)| auto == "ignore") {
            continue;
        }
        if let Some(tunnel) = tunnel(section, &values, notes) {
            add(&mut found, tunnel, &section.place, notes);
        }
    }
    for tunnel in &mut found.tunnels {
        let ids = [&tunnel.culvert.identity, &tunnel.device.identity];
        let count = |names: &[Identity]| names.iter().filter(|name| ids.contains(name)).count();
        let fitting = |(names, _): &&(Vec<Identity>, Key)| names.is_empty() || count(names) > 0;
        if let Some((_, key)) = secrets.iter().filter(fitting).max_by_key(|(names, _)| count(names)) {
            tunnel.key = key.clone();
        }
    }
    found
}

fn read_file(
    source: &Source<'_>,
    sections: &mut Vec<Section>,
    secrets: &mut Vec<(Vec<Identity>, Key)>,
    notes: &mut Notes,
) {
    // Within `config setup`, which is about the daemon.
    let mut setup = false;
    for (at, raw) in source.text.lines().enumerate() {
        let place = Place { file: Arc::clone(&source.name), line: at + 1 };
        let text = raw.split(" #").next().unwrap_or_default().trim_end();
        let (trimmed, indented) = (text.trim(), text.starts_with([' ', '\t']));
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if indented {
            match (trimmed.split_once('='), sections.last_mut()) {
                _ if setup => {}
                (Some((key, value)), Some(section)) => {
                    let value = value.trim().trim_matches('"').to_owned();
                    let key = key.trim().to_ascii_lowercase();
                    if key == "also" {
                        section.also.push((value, place));
                    } else if let Some((_, before)) = section.values.insert(key.clone(), (value, place)) {
                        notes.add(&before, format!("{key} is there once more below, which is taken"));
                    }
                }
                _ => notes.add(&place, "neither a section nor a value"),
            }
            continue;
        }
        setup = false;
        match trimmed.split_once(char::is_whitespace) {
            Some(("conn", name)) => {
                sections.push(Section {
                    name: name.trim().to_owned(),
                    place,
                    values: BTreeMap::new(),
                    also: Vec::new(),
                });
            }
            Some(("config", _)) => setup = true,
            Some(("version", _)) => {}
            _ => match secret(raw.trim(), &place, notes) {
                Some((names, key)) => secrets.extend(names.map(|names| (names, key))),
                None => {
                    notes.add(&place, "neither a connection nor a pre-shared key; an include is not followed")
                }
            },
        }
    }
}

/// The values of a section, and behind them those of the sections that it refers to: of those the last before the others, and what several
/// refer to behind all of these, as strongSwan has it.
fn with_others(section: &Section, all: &[Section], notes: &mut Notes) -> Values {
    let mut found = Others { all, path: Vec::new(), seen: BTreeSet::new(), values: Values::new() };
    found.visit(section, notes);
    found.values
}

/// What a section is made of, those that give way first.
struct Others<'a> {
    all: &'a [Section],
    /// From the section to where we are.
    path: Vec<&'a str>,
    seen: BTreeSet<&'a str>,
    values: Values,
}

impl<'a> Others<'a> {
    fn visit(&mut self, section: &'a Section, notes: &mut Notes) {
        /// References that lead on to further ones: nobody nests them deeper.
        const MAX_DEPTH: usize = 8;
        self.path.push(&section.name);
        for (name, place) in &section.also {
            match self.all.iter().find(|other| other.name == *name && other.name != DEFAULTS) {
                Some(other) if !self.path.contains(&other.name.as_str()) && self.path.len() <= MAX_DEPTH => {
                    if self.seen.insert(&other.name) {
                        self.visit(other, notes);
                    }
                }
                _ => notes.add(place, format!("also={name} leads nowhere")),
            }
        }
        self.path.pop();
        self.values.extend(section.values.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// A line such as `@a @b : PSK "key"`. Without names it is for all; with none that is understood it is for nobody.
fn secret(text: &str, place: &Place, notes: &mut Notes) -> Option<(Option<Vec<Identity>>, Key)> {
    let at = text.find(": PSK").or_else(|| text.find(":PSK"))?;
    let (names, rest) = text.split_at_checked(at)?;
    let key = rest.trim_start_matches(':').trim().strip_prefix("PSK")?.trim();
    let names = names.split_whitespace().filter(|name| !name.starts_with('%'));
    let said: Vec<_> = names.map(|name| end_identity(name, place, notes)).collect();
    let is_for_none = !said.is_empty() && said.iter().all(Option::is_none);
    // A comment may follow.
    let key = match key.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((inner, _)) => format!("\"{inner}\""),
        None => key.split_whitespace().next().unwrap_or_default().to_owned(),
    };
    let names = (!is_for_none).then(|| said.into_iter().flatten().collect());
    Some((names, key_of(&key, place, notes)))
}

/// `@name`, `@[key id]`, a mail address or an address.
fn end_identity(text: &str, place: &Place, notes: &mut Notes) -> Option<Identity> {
    match text.strip_prefix("@[").and_then(|text| text.strip_suffix(']')) {
        Some(key) => identity(&format!("keyid:{key}"), place, notes),
        // strongSwan has two in front of a mail address.
        None => identity(text.strip_prefix("@@").unwrap_or(text), place, notes),
    }
}

fn tunnel(section: &Section, values: &Values, notes: &mut Notes) -> Option<Tunnel> {
    let value = |key: &str| values.get(key).map(|(value, _)| value.as_str());
    let (left, right) = (value("left").unwrap_or_default(), value("right").unwrap_or_default());
    let from_anywhere = |text: &str| text.starts_with("%any") || text == "%group";
    let (own, other) = if right == "%defaultroute" || (from_anywhere(left) && !from_anywhere(right)) {
        ("right", "left")
    } else {
        ("left", "right")
    };
    if let Some((fault, place)) = foreign(section, values) {
        notes.add(
            place,
            format!("{fault} is not taken over, nor is the connection: Culvert knows pre-shared keys"),
        );
        return None;
    }
    let (device, culvert) = (end(own, section, values, notes), end(other, section, values, notes));
    let (device, culvert) = device.zip(culvert)?;
    let v1 = match (value("keyexchange"), value("ikev2")) {
        (Some("ikev1"), _) | (None, Some("no" | "never")) => true,
        (Some("ike"), None) => {
            notes.add(
                &section.place,
                "keyexchange=ike: Culvert speaks one version of IKE with a peer: 2 is taken",
            );
            false
        }
        _ => false,
    };
    let is_on = |key: &str, notes: &mut Notes| {
        // What `auto` says goes without saying.
        let said = values.get(key).filter(|(value, _)| value != "auto");
        said.is_some_and(|(value, place)| boolean(value, place, notes))
    };
    let aggressive = is_on("aggressive", notes) | is_on("aggrmode", notes);
    let ike = proposals(values.get("ike"), None, notes);
    // There are no lists within a proposal of IKEv1.
    let ike = if v1 { merged(ike) } else { ike };
    let (name, of_child) = match section.name.split_once(OF) {
        Some((peer, child)) => (id_of(peer, "peer"), id_of(child, "net")),
        None => (id_of(&section.name, "peer"), id_of(&section.name, "net")),
    };
    let child = child(of_child, section, values, (own, other), (v1, &ike), notes)?;
    let starts = match value("auto").unwrap_or("ignore") {
        "start" | "up" => Starts::Device,
        "ondemand" | "route" => Starts::Packets,
        _ if device.addresses.is_empty() => Starts::Device,
        _ => Starts::Culvert,
    };
    let known = |key: &str| KNOWN.contains(&key) || OWN.contains(&key);
    for (key, (_, place)) in values.iter().filter(|(key, _)| !known(key)) {
        notes.add(place, format!("{key} is not taken over"));
    }
    Some(Tunnel {
        name,
        version: Version::of(v1, aggressive),
        culvert,
        device,
        key: Key::Unknown,
        ike,
        ike_life: Life { rekey: None, life: time("ikelifetime", values, notes) },
        dpd: time("dpddelay", values, notes),
        starts,
        force_udp: is_on("encapsulation", notes) | is_on("forceencaps", notes),
        children: vec![child],
    })
}

/// What keeps it from authenticating by a pre-shared key, and where that stands. Who does not say how has a certificate, at either of the two.
fn foreign<'a>(section: &'a Section, values: &'a Values) -> Option<(String, &'a Place)> {
    ["leftauth", "rightauth"].into_iter().find_map(|key| {
        match values
            .get(key)
            .map(|said| (key, said))
            .or_else(|| values.get("authby").map(|said| ("authby", said)))
        {
            Some((_, (auth, _))) if ["secret", "psk"].contains(&auth.as_str()) => None,
            Some((key, (auth, place))) => Some((format!("{key}={auth}"), place)),
            None => Some(("a certificate, which goes without authby=secret,".to_owned(), &section.place)),
        }
    })
}

/// What [`tunnel`] and [`child`] look at.
const KNOWN: &[&str] = &[
    "left",
    "right",
    "leftid",
    "rightid",
    "leftsubnet",
    "rightsubnet",
    "leftsubnets",
    "rightsubnets",
    "authby",
    "leftauth",
    "rightauth",
    "keyexchange",
    "ikev2",
    "aggressive",
    "aggrmode",
    "ike",
    "esp",
    "phase2alg",
    "pfs",
    "ikelifetime",
    "salifetime",
    "keylife",
    "lifetime",
    "dpddelay",
    "type",
    "auto",
    "encapsulation",
    "forceencaps",
    "sha2-truncbug",
    "sha2_truncbug",
];

fn end(side: &str, section: &Section, values: &Values, notes: &mut Notes) -> Option<End> {
    let mut addresses = Vec::new();
    if let Some((address, place)) = values.get(side) {
        match address.parse::<tenants::RemoteAddress>() {
            _ if address.starts_with('%') => {}
            _ if is_placeholder(address) => {
                notes.add(place, format!("{address} is to be replaced by an address"))
            }
            Ok(address) => addresses.push(address.to_string()),
            Err(error) => notes.add(place, format!("{error}")),
        }
    }
    let identity = match values.get(&format!("{side}id")) {
        Some((id, place)) => end_identity(id, place, notes),
        None => addresses.first().and_then(|address| of_address(address)),
    };
    if identity.is_none() {
        notes.add(&section.place, format!("{side}id is missing: such a connection is not taken over"));
    }
    Some(End { addresses, identity: identity? })
}

/// Connections of the same two ends are children of one peer, which is said once what the first of them says of it.
fn add(found: &mut Found, tunnel: Tunnel, place: &Place, notes: &mut Notes) {
    let same = |other: &&mut Tunnel| {
        (other.version, &other.culvert, &other.device) == (tunnel.version, &tunnel.culvert, &tunnel.device)
    };
    let Some(there) = found.tunnels.iter_mut().find(same) else {
        return found.tunnels.push(tunnel);
    };
    let differing = [
        ("ike", there.ike != tunnel.ike),
        ("ikelifetime", there.ike_life != tunnel.ike_life),
        ("dpddelay", there.dpd != tunnel.dpd),
        ("auto", there.starts != tunnel.starts),
        ("encapsulation", there.force_udp != tunnel.force_udp),
    ];
    for (key, _) in differing.iter().filter(|(_, differs)| *differs) {
        notes.add(
            place,
            format!(
                "{key} is of the peer, and another connection with it before has it otherwise, which is taken"
            ),
        );
    }
    there.children.extend(tunnel.children);
}
