//! Palo Alto Networks PAN-OS, as `set` commands of configuration mode. A tunnel is always an interface; its proxy IDs are the
//! selectors.

use ike::Identity;
use ike::wire::numbers::IdType;

use super::ios::has;
use super::{Sheet, bare_identity, culvert_address, device_address, note_unsaid, pfs_group, visible_key};
use crate::exchange::model::{Child, Life, Tunnel, Version};
use crate::exchange::suite::{Suite, Words, reduced, spoken};

/// Of an IKE crypto profile.
pub(crate) const IKE: Words = &[
    ("aes128", "aes-128-cbc"),
    ("aes192", "aes-192-cbc"),
    ("aes256", "aes-256-cbc"),
    ("aes128gcm16", "aes-128-gcm"),
    ("aes256gcm16", "aes-256-gcm"),
    ("3des", "3des"),
    ("sha256", "sha256"),
    ("sha384", "sha384"),
    ("sha512", "sha512"),
    ("sha1", "sha1"),
    ("md5", "md5"),
];
/// Of an IPsec crypto profile; the same words.
pub(crate) const ESP: Words = IKE;
/// Pseudo-random functions, which are the hash.
pub(crate) const PRF: Words = &[
    ("prfsha256", "sha256"),
    ("prfsha384", "sha384"),
    ("prfsha512", "sha512"),
    ("prfsha1", "sha1"),
    ("prfmd5", "md5"),
];
/// Groups.
pub(crate) const GROUPS: Words = &[
    ("modp1024", "group2"),
    ("modp1536", "group5"),
    ("modp2048", "group14"),
    ("modp3072", "group15"),
    ("modp4096", "group16"),
    ("ecp256", "group19"),
    ("ecp384", "group20"),
    ("ecp521", "group21"),
];

/// In place of the interface towards Culvert and of that of the tunnel.
const OUTSIDE: &str = "ethernet1/1";
const TUNNEL: &str = "tunnel.";
/// Its first number; each further IPsec tunnel has an interface of its own.
const FIRST: usize = 100;

pub(super) fn write(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    sheet.line(0, format!("# {}: type it in configuration mode, then commit", tunnel.name));
    write_ike_profile(tunnel, sheet)?;
    write_gateway(tunnel, sheet)?;
    let groups = groups_of(tunnel);
    for (at, children) in groups.into_iter().enumerate() {
        let interface = format!("{TUNNEL}{}", FIRST + at);
        write_tunnel(tunnel, children, &interface, sheet)?;
        sheet.note(format!(
            "{interface} needs a zone, a virtual router, and routes to what is behind Culvert"
        ));
    }
    sheet.note(format!("{OUTSIDE} and the numbers of tunnel interfaces are examples"));
    if tunnel.force_udp {
        sheet.note("the device puts ESP into UDP where it finds a NAT and not otherwise");
    }
    Ok(())
}

/// Children that can share an IPsec tunnel, whose crypto profile is one.
fn groups_of(tunnel: &Tunnel) -> Vec<Vec<&Child>> {
    let mut groups: Vec<Vec<&Child>> = Vec::new();
    for child in &tunnel.children {
        let same = |other: &&Child| {
            (&other.esp, other.life, other.life_bytes) == (&child.esp, child.life, child.life_bytes)
        };
        match groups.iter_mut().find(|group| group.first().is_some_and(same)) {
            Some(group) => group.push(child),
            None => groups.push(vec![child]),
        }
    }
    groups
}

fn write_ike_profile(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let profile = format!("set network ike crypto-profiles ike-crypto-profiles {}", tunnel.name);
    let suites = reduced(&tunnel.ike, |word| has(&[IKE, PRF, GROUPS], word), &mut sheet.notes);
    if suites.is_empty() {
        return Err("the device has none of the algorithms of ike.proposals".to_owned());
    }
    let hashes: Vec<&str> =
        suites
            .iter()
            .flat_map(|suite| {
                if suite.is_aead() { spoken(PRF, &suite.prf).0 } else { spoken(IKE, &suite.integrity).0 }
            })
            .collect();
    let encryption = suites.iter().flat_map(|suite| spoken(IKE, &suite.encryption).0).collect();
    let groups = suites.iter().flat_map(|suite| spoken(GROUPS, &suite.groups).0).collect();
    sheet.line(0, format!("{profile} encryption {}", list(encryption)));
    sheet.line(0, format!("{profile} hash {}", list(hashes)));
    sheet.line(0, format!("{profile} dh-group {}", list(groups)));
    if suites.len() > 1 {
        sheet.note("the device has one list of each kind of algorithm: ike.proposals are run together");
    }
    write_life(&profile, tunnel.ike_life, sheet);
    Ok(())
}

fn write_gateway(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let gateway = format!("set network ike gateway {}", tunnel.name);
    let address = culvert_address(tunnel, sheet);
    let kind = if super::cisco::is_address(&address) || address.starts_with('<') { "ip" } else { "fqdn" };
    sheet.line(0, format!("{gateway} peer-address {kind} {address}"));
    sheet.line(0, format!("{gateway} local-address interface {OUTSIDE}"));
    if let Some(own) = device_address(&tunnel.device) {
        sheet.line(0, format!("{gateway} local-address ip {own}"));
        sheet.note(format!("give {own} the prefix length that it has at {OUTSIDE}"));
    }
    let key = visible_key(&tunnel.key, sheet)?;
    sheet.line(0, format!("{gateway} authentication pre-shared-key key {key}"));
    sheet.line(0, format!("{gateway} local-id {}", identity(&tunnel.device.identity)?));
    sheet.line(0, format!("{gateway} peer-id {}", identity(&tunnel.culvert.identity)?));
    let (version, protocol) = if tunnel.version.is_v1() { ("ikev1", "ikev1") } else { ("ikev2", "ikev2") };
    sheet.line(0, format!("{gateway} protocol version {version}"));
    sheet.line(0, format!("{gateway} protocol {protocol} ike-crypto-profile {}", tunnel.name));
    if tunnel.version.is_v1() {
        let mode = if tunnel.version == Version::V1Aggressive { "aggressive" } else { "main" };
        sheet.line(0, format!("{gateway} protocol ikev1 exchange-mode {mode}"));
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(0, format!("{gateway} protocol {protocol} dpd enable yes"));
        sheet.line(0, format!("{gateway} protocol {protocol} dpd interval {dpd}"));
    }
    sheet.line(0, format!("{gateway} protocol-common nat-traversal enable yes"));
    Ok(())
}

fn write_tunnel(
    tunnel: &Tunnel,
    children: Vec<&Child>,
    interface: &str,
    sheet: &mut Sheet,
) -> Result<(), String> {
    let Some(first) = children.first() else { return Ok(()) };
    let name = format!("{}--{}", tunnel.name, first.name);
    let profile = format!("set network ike crypto-profiles ipsec-crypto-profiles {name}");
    let groupless: Vec<Suite> =
        first.esp.iter().map(|suite| Suite { groups: Vec::new(), ..suite.clone() }).collect();
    let suites = reduced(&groupless, |word| has(&[ESP], word), &mut sheet.notes);
    let encryption: Vec<&str> = suites.iter().flat_map(|suite| spoken(ESP, &suite.encryption).0).collect();
    let mut integrity: Vec<&str> = suites.iter().flat_map(|suite| spoken(ESP, &suite.integrity).0).collect();
    if encryption.is_empty() {
        return Err(format!("the device has none of the algorithms of child {}", first.name));
    }
    if integrity.is_empty() {
        integrity.push("none");
    }
    if suites.len() > 1 {
        sheet.note(format!("child {}: the device has one list of each kind of algorithm", first.name));
    }
    sheet.line(0, format!("{profile} esp encryption {}", list(encryption)));
    sheet.line(0, format!("{profile} esp authentication {}", list(integrity)));
    let group = pfs_group(first, GROUPS, sheet).unwrap_or("no-pfs");
    sheet.line(0, format!("{profile} dh-group {group}"));
    write_life(&profile, first.life, sheet);
    if let Some(bytes) = first.life_bytes {
        sheet.line(0, format!("{profile} lifesize kb {}", bytes / 1024));
    }
    let ipsec = format!("set network tunnel ipsec {name}");
    sheet.line(0, format!("set network interface tunnel units {interface} comment \"{name}\""));
    sheet.line(0, format!("{ipsec} tunnel-interface {interface}"));
    sheet.line(0, format!("{ipsec} auto-key ike-gateway {}", tunnel.name));
    sheet.line(0, format!("{ipsec} auto-key ipsec-crypto-profile {name}"));
    for child in children {
        if child.transport {
            return Err(format!("PAN-OS has no transport mode, which child {} is in", child.name));
        }
        note_unsaid(child, true, sheet);
        let all: Vec<_> = super::cisco::pairs(child);
        for (at, (device, culvert)) in all.iter().enumerate() {
            // One name for each pair.
            let suffix =
                if all.len() > 1 { format!("{}{}", super::cisco::OF, at + 1) } else { String::new() };
            let family = if device.is_ipv4() { "proxy-id" } else { "proxy-id-v6" };
            let id = format!("{ipsec} auto-key {family} {}{suffix}", child.name);
            sheet.line(0, format!("{id} local {device}"));
            sheet.line(0, format!("{id} remote {culvert}"));
            sheet.line(0, format!("{id} protocol any"));
        }
    }
    Ok(())
}

/// PAN-OS takes whole numbers of any unit, seconds from 180 on.
fn write_life(profile: &str, life: Life, sheet: &mut Sheet) {
    if let Some(seconds) = life.end() {
        sheet.line(0, format!("{profile} lifetime seconds {seconds}"));
    }
}

fn list(mut words: Vec<&str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    words.retain(|word| {
        !seen.contains(word) && {
            seen.push(word);
            true
        }
    });
    match words.as_slice() {
        [only] => (*only).to_owned(),
        all => format!("[ {} ]", all.join(" ")),
    }
}

/// A key ID is its octets in hexadecimal digits.
fn identity(identity: &Identity) -> Result<String, String> {
    Ok(match identity.kind {
        IdType::ID_FQDN => format!("type fqdn id {}", bare_identity(identity)?),
        IdType::ID_RFC822_ADDR => format!("type ufqdn id {}", bare_identity(identity)?),
        IdType::ID_KEY_ID => {
            let digits = identity.data.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
            format!("type keyid id {digits}")
        }
        _ => format!("type ipaddr id {}", bare_identity(identity)?),
    })
}
