//! `swanctl.conf` of strongSwan.

use super::lines::Source;
use super::sections::{Section, parse};
use super::{boolean, identity, is_placeholder, key_of, of_address, seconds};
use crate::exchange::export::strongswan::NO_GROUP;
use crate::exchange::model::{Child, End, Found, Key, Life, Notes, Place, Starts, Tunnel, Version, id_of};
use crate::exchange::suite::{NO_PFS, Suite};

/// What is a matter of the device alone.
const OWN: &[&str] = &[
    "dpd_timeout",
    "unique",
    "fragmentation",
    "keyingtries",
    "rand_time",
    "send_cert",
    "send_certreq",
    "dscp",
    "close_action",
    "dpd_action",
    "rand_bytes",
    "rand_packets",
    "rekey_bytes",
    "rekey_packets",
    "updown",
    "hostaccess",
    "policies",
    "policies_fwd_out",
    "reqid",
    "priority",
    "interface",
    "mark_in",
    "mark_out",
    "if_id_in",
    "if_id_out",
    "replay_window",
    "hw_offload",
    "copy_df",
    "copy_ecn",
    "copy_dscp",
    "mobike",
    "reauth_time",
    "local_port",
    "set_mark_in",
    "set_mark_out",
];

pub(super) fn read(sources: &[Source<'_>], notes: &mut Notes) -> Found {
    let mut found = Found::default();
    let mut secrets: Vec<(Vec<String>, Key)> = Vec::new();
    let roots: Vec<Section> = sources.iter().map(|source| parse(source, notes)).collect();
    for section in roots.iter().flat_map(|root| &root.sections) {
        match section.name.as_str() {
            "connections" => {
                for connection in &section.sections {
                    found.tunnels.extend(tunnel(connection, found.tunnels.len(), notes));
                }
            }
            "secrets" => {
                section.sections.iter().for_each(|secret| secrets.extend(self::secret(secret, notes)))
            }
            other => notes.add(&section.place, format!("the section {other} is not taken over")),
        }
    }
    for root in &roots {
        for (key, _, place) in &root.values {
            notes.add(place, format!("{key} outside of a section"));
        }
    }
    for tunnel in &mut found.tunnels {
        let ids = [tunnel.culvert.identity.to_string(), tunnel.device.identity.to_string()];
        let named = |(names, _): &&(Vec<String>, Key)| names.iter().any(|name| ids.contains(name));
        // The one that names most of the two ends; one without a name is for all.
        let best = secrets
            .iter()
            .filter(named)
            .max_by_key(|(names, _)| names.iter().filter(|n| ids.contains(n)).count());
        if let Some((_, key)) = best.or_else(|| secrets.iter().find(|(names, _)| names.is_empty())) {
            tunnel.key = key.clone();
        }
    }
    found
}

/// Without its quotes, if it has any.
fn bare(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn list(text: &str) -> Vec<&str> {
    bare(text).split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn tunnel(section: &Section, number: usize, notes: &mut Notes) -> Option<Tunnel> {
    let name = id_of(&section.name, &format!("peer-{}", number + 1));
    let (mut version, mut aggressive, mut rekey, mut over) = (2, false, None, None);
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    let (mut ike, mut dpd, mut force_udp) = (Vec::new(), None, false);
    for (key, value, place) in &section.values {
        match key.as_str() {
            "version" => match bare(value) {
                "1" => version = 1,
                "2" => {}
                _ => notes.add(place, "Culvert speaks one version of IKE with a peer: 2 is taken"),
            },
            "aggressive" => aggressive = boolean(bare(value), place, notes),
            "local_addrs" => local = addresses(value, place, notes),
            "remote_addrs" => remote = addresses(value, place, notes),
            "proposals" => ike = suites(value, Suite::of_ike, place, notes),
            "rekey_time" => rekey = time(value, place, notes),
            "over_time" => over = time(value, place, notes),
            "dpd_delay" => dpd = time(value, place, notes).filter(|seconds| *seconds > 0),
            "encap" => force_udp = boolean(bare(value), place, notes),
            key if OWN.contains(&key) => {}
            key => notes.add(place, format!("{key} is not taken over")),
        }
    }
    let (mut device, mut culvert, mut children) = (None, None, Vec::new());
    let (mut starts, mut sides) = (None, (false, false));
    for inner in &section.sections {
        match inner.name.as_str() {
            "children" => {
                for child in &inner.sections {
                    let ends = (&culvert_subnet(&remote), &culvert_subnet(&local));
                    if let Some((child, start)) = self::child(child, ends, notes) {
                        starts.get_or_insert(start);
                        children.push(child);
                    }
                }
            }
            side if side.starts_with("local") => {
                (device, sides.0) = (end(inner, notes)?.or(device), true);
            }
            side if side.starts_with("remote") => {
                (culvert, sides.1) = (end(inner, notes)?.or(culvert), true);
            }
            other => notes.add(&inner.place, format!("the section {other} is not taken over")),
        }
    }
    if sides != (true, true) {
        notes.add(&section.place, format!("without local and remote {CERTIFICATE}"));
        return None;
    }
    let address = |addresses: &[String]| addresses.first().and_then(|address| of_address(address));
    let Some((culvert, device)) =
        culvert.or_else(|| address(&remote)).zip(device.or_else(|| address(&local)))
    else {
        notes.add(&section.place, "no id of both sides: such a connection is not taken over");
        return None;
    };
    if children.is_empty() {
        notes.add(&section.place, "no child: such a connection is not taken over");
        return None;
    }
    // Longer than any clock runs is without an end.
    let life = rekey.zip(over).and_then(|(rekey, over): (u64, u64)| rekey.checked_add(over));
    let starts = match starts {
        Some(Starts::Culvert) if local.iter().all(|address| address.contains('/')) => Starts::Device,
        Some(starts) => starts,
        None => Starts::Device,
    };
    Some(Tunnel {
        name,
        version: Version::of(version == 1, aggressive),
        culvert: End { addresses: remote, identity: culvert },
        device: End { addresses: local, identity: device },
        key: Key::Unknown,
        ike,
        ike_life: Life { rekey, life },
        dpd,
        starts,
        force_udp,
        children,
    })
}

/// What goes without saying.
const CERTIFICATE: &str =
    "it authenticates by a certificate: the connection is not taken over, for only psk is taken over";

/// A side: `None` where it authenticates by something that Culvert does not have.
fn end(section: &Section, notes: &mut Notes) -> Option<Option<ike::Identity>> {
    let mut id = None;
    if section.values.iter().all(|(key, ..)| key != "auth") {
        notes.add(&section.place, format!("without auth {CERTIFICATE}"));
        return None;
    }
    for (key, value, place) in &section.values {
        match key.as_str() {
            "auth" if bare(value) != "psk" => {
                let fault =
                    format!("auth = {} is not taken over, nor is the connection: only psk is", bare(value));
                notes.add(place, fault);
                return None;
            }
            "auth" => {}
            "id" => id = identity(bare(value), place, notes),
            key => notes.add(place, format!("{key} is not taken over")),
        }
    }
    Some(id)
}

fn child(
    section: &Section,
    (culvert_end, device_end): (&Option<tenants::Cidr>, &Option<tenants::Cidr>),
    notes: &mut Notes,
) -> Option<(Child, Starts)> {
    let (mut device, mut culvert, mut esp) = (Vec::new(), Vec::new(), Vec::new());
    let (mut transport, mut life, mut life_bytes, mut starts) =
        (false, Life::default(), None, Starts::Culvert);
    for (key, value, place) in &section.values {
        match key.as_str() {
            "local_ts" => device = subnets(value, *device_end, place, notes),
            "remote_ts" => culvert = subnets(value, *culvert_end, place, notes),
            "esp_proposals" => esp = suites(value, Suite::of_esp, place, notes),
            "mode" => match bare(value) {
                "tunnel" => {}
                "transport" => transport = true,
                other => {
                    notes.add(place, format!("mode = {other} is not taken over, nor is the child"));
                    return None;
                }
            },
            "rekey_time" => life.rekey = time(value, place, notes),
            "life_time" => life.life = time(value, place, notes),
            "life_bytes" => life_bytes = bare(value).parse().ok(),
            "start_action" => match bare(value) {
                "none" => {}
                "start" => starts = Starts::Device,
                // Either side begins, with its first packet.
                "trap" | "trap|start" | "start|trap" => starts = Starts::Packets,
                other => notes.add(place, format!("start_action = {other} is not taken over")),
            },
            key if OWN.contains(&key) => {}
            key => notes.add(place, format!("{key} is not taken over")),
        }
    }
    // What is not said is dynamic: the end itself.
    for (subnets, end) in [(&mut device, device_end), (&mut culvert, culvert_end)] {
        if subnets.is_empty() {
            subnets.extend(*end);
        }
    }
    if device.is_empty() || culvert.is_empty() {
        notes.add(&section.place, "no subnets of both sides: such a child is not taken over");
        return None;
    }
    let name = id_of(&section.name, "net");
    Some((Child { name, transport, culvert, device, esp, life, life_bytes }, starts))
}

/// The end itself, if it is one address.
fn culvert_subnet(addresses: &[String]) -> Option<tenants::Cidr> {
    addresses.first().and_then(|address| address.parse().ok()).map(tenants::Cidr::host)
}

fn addresses(value: &str, place: &Place, notes: &mut Notes) -> Vec<String> {
    let mut all = Vec::new();
    for address in list(value) {
        if address.starts_with("%any") || ["0.0.0.0/0", "::/0"].contains(&address) {
            continue;
        }
        match address.parse::<tenants::RemoteAddress>() {
            Ok(address) => all.push(address.to_string()),
            Err(_) if is_placeholder(address) => {
                notes.add(place, format!("{address} is to be replaced by an address"))
            }
            Err(error) => notes.add(place, format!("{error}")),
        }
    }
    all
}

fn subnets(value: &str, end: Option<tenants::Cidr>, place: &Place, notes: &mut Notes) -> Vec<tenants::Cidr> {
    let mut all = Vec::new();
    for text in list(value) {
        let (subnet, limits) = text.split_once('[').unwrap_or((text, ""));
        if !limits.is_empty() {
            notes.add(
                place,
                format!("{text}: a child of Culvert has subnets; a rule of the tenant can say [{limits}"),
            );
        }
        if subnet.trim() == "dynamic" {
            match end {
                Some(end) => all.push(end),
                None => notes.add(place, "dynamic: the address is not in the file"),
            }
            continue;
        }
        let subnet = subnet.trim();
        let host = subnet.parse().ok().map(tenants::Cidr::host);
        match host.map_or_else(|| subnet.parse(), Ok) {
            Ok(subnet) => all.push(subnet),
            Err(error) => notes.add(place, format!("{error}")),
        }
    }
    all
}

fn suites(
    value: &str,
    parse: impl Fn(&str) -> Result<Suite, String>,
    place: &Place,
    notes: &mut Notes,
) -> Vec<Suite> {
    let mut all = Vec::new();
    for text in list(value) {
        // Words that only strongSwan has.
        let word = |word: &str| match word {
            NO_GROUP => NO_PFS.to_owned(),
            "aes" => "aes128".to_owned(),
            "aes128gcm" | "aes192gcm" | "aes256gcm" => format!("{word}16"),
            other => other.to_owned(),
        };
        let ours = text.split('-').map(word).collect::<Vec<_>>().join("-");
        match parse(&ours) {
            _ if text == "default" => {}
            Ok(suite) => all.push(suite),
            Err(error) => notes.add(place, format!("{text}: {error}")),
        }
    }
    all
}

fn time(value: &str, place: &Place, notes: &mut Notes) -> Option<u64> {
    let time = seconds(bare(value));
    if time.is_none() {
        notes.add(place, format!("{value} is no time"));
    }
    time.filter(|time| *time > 0)
}

/// A key and whose it is.
fn secret(section: &Section, notes: &mut Notes) -> Option<(Vec<String>, Key)> {
    if !section.name.starts_with("ike") {
        notes.add(
            &section.place,
            format!("the secret {} is not taken over: Culvert has keys of IKE", section.name),
        );
        return None;
    }
    let mut said: Vec<Option<String>> = Vec::new();
    let mut key = None;
    for (field, value, place) in &section.values {
        match field.as_str() {
            "secret" => key = Some(key_of(bare(value), place, notes)),
            id if id.starts_with("id") => {
                said.push(identity(bare(value), place, notes).map(|id| id.to_string()));
            }
            other => notes.add(place, format!("{other} is not taken over")),
        }
    }
    // Of names of which none is understood: it is not one for all.
    let is_for_none = !said.is_empty() && said.iter().all(Option::is_none);
    key.filter(|_| !is_for_none).map(|key| (said.into_iter().flatten().collect(), key))
}
