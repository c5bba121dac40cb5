//! Cisco IOS and IOS XE: a crypto map, or a tunnel interface where everything goes through.

use ike::wire::numbers::IdType;

use super::cisco::{self, CHILD, STEP, choices, esp_of, ike_of, list_name, mask, only_ipv4, pairs};
use super::{
    OUTSIDE, Sheet, bare_identity, culvert_address, device_address, note_unsaid, pfs_group, visible_key,
    words,
};
use crate::exchange::model::{Child, Tunnel, Version};
use crate::exchange::suite::{Word, Words};

/// Of an IKEv2 proposal.
pub(crate) const IKEV2: Words = &[
    ("aes128", "aes-cbc-128"),
    ("aes192", "aes-cbc-192"),
    ("aes256", "aes-cbc-256"),
    ("aes128gcm16", "aes-gcm-128"),
    ("aes256gcm16", "aes-gcm-256"),
    ("3des", "3des"),
    ("sha256", "sha256"),
    ("sha384", "sha384"),
    ("sha512", "sha512"),
    ("sha1", "sha1"),
    ("md5", "md5"),
];
/// Pseudo-random functions of it, which have the words of hashes.
pub(crate) const PRF: Words = &[
    ("prfsha256", "sha256"),
    ("prfsha384", "sha384"),
    ("prfsha512", "sha512"),
    ("prfsha1", "sha1"),
    ("prfmd5", "md5"),
];
/// Of an ISAKMP policy.
pub(crate) const IKEV1: Words = &[
    ("aes128", "aes"),
    ("aes192", "aes 192"),
    ("aes256", "aes 256"),
    ("3des", "3des"),
    ("sha256", "sha256"),
    ("sha384", "sha384"),
    ("sha512", "sha512"),
    ("sha1", "sha"),
    ("md5", "md5"),
];
/// Of a transform set.
pub(crate) const ESP: Words = &[
    ("aes128", "esp-aes"),
    ("aes192", "esp-aes 192"),
    ("aes256", "esp-aes 256"),
    ("aes128gcm16", "esp-gcm 128"),
    ("aes192gcm16", "esp-gcm 192"),
    ("aes256gcm16", "esp-gcm 256"),
    ("3des", "esp-3des"),
    ("sha256", "esp-sha256-hmac"),
    ("sha384", "esp-sha384-hmac"),
    ("sha512", "esp-sha512-hmac"),
    ("sha1", "esp-sha-hmac"),
    ("md5", "esp-md5-hmac"),
];
/// Numbers of groups.
pub(crate) const GROUPS: Words = &[
    ("modp1024", "2"),
    ("modp1536", "5"),
    ("modp2048", "14"),
    ("modp3072", "15"),
    ("modp4096", "16"),
    ("ecp256", "19"),
    ("ecp384", "20"),
    ("ecp521", "21"),
];

/// Whether it is an address, or what stands for one, and not a name.
fn is_written_as_address(text: &str) -> bool {
    cisco::is_address(text) || text.starts_with('<')
}

/// Whether any of these tables has the word.
pub(super) fn has(tables: &[Words], word: Word) -> bool {
    tables.iter().any(|table| table.iter().any(|(ours, _)| *ours == word))
}

pub(super) fn write(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let address = culvert_address(tunnel, sheet);
    sheet.line(0, format!("! {}: type it in configuration mode", tunnel.name));
    if tunnel.version.is_v1() {
        write_ikev1(tunnel, &address, sheet)?;
    } else {
        write_ikev2(tunnel, &address, sheet)?;
    }
    if tunnel.force_udp {
        sheet.note("the device puts ESP into UDP where it finds a NAT and not otherwise");
    }
    let (mut maps, mut seq) = (false, STEP);
    for child in &tunnel.children {
        write_transforms(tunnel, child, sheet)?;
        if child.carries_all() && !child.transport {
            write_tunnel(tunnel, child, &address, sheet);
        } else if only_ipv4(child, sheet) {
            write_map(tunnel, child, seq, &address, sheet);
            (maps, seq) = (true, seq + STEP);
        }
    }
    if maps {
        sheet.line(0, format!("interface {OUTSIDE}"));
        sheet.line(1, format!("crypto map {}", tunnel.name));
        let own = tunnel.device.addresses.join(", ");
        sheet.note(format!(
            "{OUTSIDE} is the interface with the address that Culvert knows the device by ({own})"
        ));
    }
    Ok(())
}

fn write_ikev2(tunnel: &Tunnel, address: &str, sheet: &mut Sheet) -> Result<(), String> {
    let name = &tunnel.name;
    let suites = ike_of(tunnel, |word| has(&[IKEV2, PRF, GROUPS], word), sheet)?;
    for (at, suite) in suites.iter().enumerate() {
        sheet.line(0, format!("crypto ikev2 proposal {name}-{}", at + 1));
        sheet.line(1, format!("encryption {}", words(IKEV2, &suite.encryption)));
        if !suite.integrity.is_empty() {
            sheet.line(1, format!("integrity {}", words(IKEV2, &suite.integrity)));
        }
        if !suite.prf_goes_without_saying() {
            sheet.line(1, format!("prf {}", words(PRF, &suite.prf)));
        }
        sheet.line(1, format!("group {}", words(GROUPS, &suite.groups)));
    }
    sheet.line(0, format!("crypto ikev2 policy {name}"));
    for at in 1..=suites.len() {
        sheet.line(1, format!("proposal {name}-{at}"));
    }
    sheet.line(0, format!("crypto ikev2 keyring {name}"));
    sheet.line(1, "peer culvert");
    let kind = if is_written_as_address(address) { "address" } else { "hostname" };
    sheet.line(2, format!("{kind} {address}"));
    let key = visible_key(&tunnel.key, sheet)?;
    sheet.line(2, format!("pre-shared-key {key}"));
    sheet.line(0, format!("crypto ikev2 profile {name}"));
    let (culvert, device) = (&tunnel.culvert.identity, &tunnel.device.identity);
    let kind = |identity: &ike::Identity| match identity.kind {
        IdType::ID_FQDN => "fqdn",
        IdType::ID_RFC822_ADDR => "email",
        IdType::ID_KEY_ID => "key-id",
        _ => "address",
    };
    let mask = if culvert.kind == IdType::ID_IPV4_ADDR { " 255.255.255.255" } else { "" };
    sheet.line(1, format!("match identity remote {} {}{mask}", kind(culvert), bare_identity(culvert)?));
    sheet.line(1, format!("identity local {} {}", kind(device), bare_identity(device)?));
    sheet.line(1, "authentication remote pre-share");
    sheet.line(1, "authentication local pre-share");
    sheet.line(1, format!("keyring local {name}"));
    if let Some(life) = tunnel.ike_life.end() {
        sheet.line(1, format!("lifetime {life}"));
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(1, format!("dpd {dpd} 5 periodic"));
    }
    Ok(())
}

fn write_ikev1(tunnel: &Tunnel, address: &str, sheet: &mut Sheet) -> Result<(), String> {
    let name = &tunnel.name;
    let suites = ike_of(tunnel, |word| has(&[IKEV1, PRF, GROUPS], word), sheet)?;
    for (at, suite) in choices(&suites, "ike.proposals", sheet).iter().enumerate() {
        if !suite.prf_goes_without_saying() {
            sheet.note("the device takes the PRF from the hash");
        }
        sheet.line(0, format!("crypto isakmp policy {}", (at + 1) * STEP));
        sheet.line(1, format!("encryption {}", words(IKEV1, &suite.encryption)));
        sheet.line(1, format!("hash {}", words(IKEV1, &suite.integrity)));
        sheet.line(1, "authentication pre-share");
        sheet.line(1, format!("group {}", words(GROUPS, &suite.groups)));
        if let Some(life) = tunnel.ike_life.end() {
            sheet.line(1, format!("lifetime {life}"));
        }
    }
    let key = visible_key(&tunnel.key, sheet)?;
    sheet.line(0, format!("crypto keyring {name}"));
    let kind = if is_written_as_address(address) { "address" } else { "hostname" };
    sheet.line(1, format!("pre-shared-key {kind} {address} key {key}"));
    sheet.line(0, format!("crypto isakmp profile {name}"));
    sheet.line(1, format!("keyring {name}"));
    let (culvert, device) = (&tunnel.culvert.identity, &tunnel.device.identity);
    match device.kind {
        IdType::ID_IPV4_ADDR => sheet.line(1, "self-identity address"),
        IdType::ID_RFC822_ADDR => {
            sheet.line(1, format!("self-identity user-fqdn {}", bare_identity(device)?))
        }
        IdType::ID_FQDN => {
            let own = bare_identity(device)?;
            sheet.note(format!(
                "the device's hostname and its ip domain name must make up its identity, {own}"
            ));
            sheet.line(1, "self-identity fqdn");
        }
        _ => return Err(format!("IOS cannot call itself {device} in IKEv1")),
    }
    match culvert.kind {
        IdType::ID_IPV4_ADDR => sheet.line(1, format!("match identity address {culvert} 255.255.255.255")),
        IdType::ID_FQDN => sheet.line(1, format!("match identity host {}", bare_identity(culvert)?)),
        IdType::ID_RFC822_ADDR => sheet.line(1, format!("match identity user {}", bare_identity(culvert)?)),
        _ => return Err(format!("IOS cannot match the identity {culvert} in IKEv1")),
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(1, format!("keepalive {dpd} retry 5"));
    }
    if tunnel.version == Version::V1Aggressive {
        sheet.line(1, "initiate mode aggressive");
    }
    Ok(())
}

fn write_transforms(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) -> Result<(), String> {
    let suites = esp_of(child, |word| has(&[ESP], word), sheet)?;
    note_unsaid(child, true, sheet);
    for (at, suite) in choices(&suites, &format!("child {}", child.name), sheet).iter().enumerate() {
        let both = [words(ESP, &suite.encryption), words(ESP, &suite.integrity)].join(" ");
        let set =
            format!("crypto ipsec transform-set {}-{} {}", list_name(tunnel, child), at + 1, both.trim_end());
        sheet.line(0, set);
        sheet.line(1, if child.transport { "mode transport" } else { "mode tunnel" });
    }
    Ok(())
}

/// The names of what [`write_transforms`] has written.
fn transform_names(tunnel: &Tunnel, child: &Child) -> String {
    let mut quiet = Sheet::default();
    let suites = esp_of(child, |word| has(&[ESP], word), &mut quiet).unwrap_or_default();
    let count = choices(&suites, "", &mut quiet).len();
    let names = (1..=count).map(|at| format!("{}-{at}", list_name(tunnel, child)));
    names.collect::<Vec<_>>().join(" ")
}

fn write_sets(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) {
    sheet.line(1, format!("set transform-set {}", transform_names(tunnel, child)));
    if let Some(group) = pfs_group(child, GROUPS, sheet) {
        sheet.line(1, format!("set pfs group{group}"));
    }
    if let Some(life) = child.life.end() {
        sheet.line(1, format!("set security-association lifetime seconds {life}"));
    }
    if let Some(bytes) = child.life_bytes {
        sheet.line(1, format!("set security-association lifetime kilobytes {}", bytes / 1024));
    }
    let profile = if tunnel.version.is_v1() { "isakmp-profile" } else { "ikev2-profile" };
    sheet.line(1, format!("set {profile} {}", tunnel.name));
}

fn write_map(tunnel: &Tunnel, child: &Child, seq: usize, address: &str, sheet: &mut Sheet) {
    let list = list_name(tunnel, child);
    sheet.line(0, format!("ip access-list extended {list}"));
    sheet.line(1, format!("remark {CHILD} {}", child.name));
    for (device, culvert) in pairs(child) {
        let side = |subnet: tenants::Cidr| format!("{} {}", subnet.first(), mask(subnet, true));
        sheet.line(1, format!("permit ip {} {}", side(device), side(culvert)));
    }
    sheet.line(0, format!("crypto map {} {seq} ipsec-isakmp", tunnel.name));
    let dynamic = if is_written_as_address(address) { "" } else { " dynamic" };
    sheet.line(1, format!("set peer {address}{dynamic}"));
    write_sets(tunnel, child, sheet);
    sheet.line(1, format!("match address {list}"));
}

fn write_tunnel(tunnel: &Tunnel, child: &Child, address: &str, sheet: &mut Sheet) {
    let name = list_name(tunnel, child);
    let family = if child.device.iter().all(tenants::Cidr::is_ipv4) { "ipv4" } else { "ipv6" };
    sheet.line(0, format!("crypto ipsec profile {name}"));
    write_sets(tunnel, child, sheet);
    let interface = cisco::interface_of(tunnel, child);
    sheet.line(0, format!("interface {interface}"));
    sheet.line(1, format!("description {CHILD} {}", child.name));
    sheet.line(1, format!("ip unnumbered {OUTSIDE}"));
    let source = device_address(&tunnel.device).map_or_else(|| OUTSIDE.to_owned(), |own| own.to_string());
    sheet.line(1, format!("tunnel source {source}"));
    sheet.line(1, format!("tunnel destination {address}"));
    sheet.line(1, format!("tunnel mode ipsec {family}"));
    sheet.line(1, format!("tunnel protection ipsec profile {name}"));
    sheet.note(format!(
        "{OUTSIDE} is the interface towards Culvert; route into {interface} what is for the other side"
    ));
}
