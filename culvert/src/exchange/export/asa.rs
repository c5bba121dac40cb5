//! Cisco ASA: a crypto map and a tunnel group, or a tunnel interface where everything goes through.

use ike::wire::numbers::IdType;

use super::cisco::{self, CHILD, STEP, choices, esp_of, ike_of, list_name, mask, pairs};
use super::ios::has;
use super::{Sheet, bare_identity, culvert_address, note_unsaid, pfs_group, visible_key, words};
use crate::exchange::model::{Child, Tunnel, Version};
use crate::exchange::suite::{Suite, Words};

/// Of an IKEv2 policy.
pub(crate) const IKEV2: Words = &[
    ("aes128", "aes"),
    ("aes192", "aes-192"),
    ("aes256", "aes-256"),
    ("aes128gcm16", "aes-gcm"),
    ("aes192gcm16", "aes-gcm-192"),
    ("aes256gcm16", "aes-gcm-256"),
    ("3des", "3des"),
    ("sha256", "sha256"),
    ("sha384", "sha384"),
    ("sha512", "sha512"),
    ("sha1", "sha"),
    ("md5", "md5"),
];
/// Pseudo-random functions of it, which have the words of hashes.
pub(crate) const PRF: Words = &[
    ("prfsha256", "sha256"),
    ("prfsha384", "sha384"),
    ("prfsha512", "sha512"),
    ("prfsha1", "sha"),
    ("prfmd5", "md5"),
];
/// Of an IKEv1 policy.
pub(crate) const IKEV1: Words = &[
    ("aes128", "aes"),
    ("aes192", "aes-192"),
    ("aes256", "aes-256"),
    ("3des", "3des"),
    ("sha1", "sha"),
    ("md5", "md5"),
];
/// Of an IPsec proposal of IKEv2.
pub(crate) const ESP: Words = &[
    ("aes128", "aes"),
    ("aes192", "aes-192"),
    ("aes256", "aes-256"),
    ("aes128gcm16", "aes-gcm"),
    ("aes192gcm16", "aes-gcm-192"),
    ("aes256gcm16", "aes-gcm-256"),
    ("3des", "3des"),
    ("sha256", "sha-256"),
    ("sha384", "sha-384"),
    ("sha512", "sha-512"),
    ("sha1", "sha-1"),
    ("md5", "md5"),
];
/// Of a transform set of IKEv1.
pub(crate) const TRANSFORMS: Words = &[
    ("aes128", "esp-aes"),
    ("aes192", "esp-aes-192"),
    ("aes256", "esp-aes-256"),
    ("3des", "esp-3des"),
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
    ("x25519", "31"),
];

/// What most devices call the interface towards the Internet.
const OUTSIDE: &str = "outside";
/// What a crypto map is called here; an interface has one.
const MAP: &str = "culvert";

pub(super) fn write(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let address = culvert_address(tunnel, sheet);
    if !cisco::is_address(&address) && !address.starts_with('<') {
        return Err(format!("ASA takes an address of Culvert and no name such as {address}"));
    }
    sheet.line(0, format!("! {}: type it in configuration mode", tunnel.name));
    write_identity(tunnel, sheet)?;
    if tunnel.culvert.identity.to_string() != address {
        let identity = &tunnel.culvert.identity;
        sheet.note(format!("ASA knows Culvert by its address and not by localIdentity, {identity}"));
    }
    if tunnel.version.is_v1() {
        write_ikev1(tunnel, sheet)?
    } else {
        write_ikev2(tunnel, sheet)?
    }
    let mut seq = STEP;
    for child in &tunnel.children {
        write_proposals(tunnel, child, sheet)?;
        if child.carries_all() && !child.transport {
            write_interface(tunnel, child, &address, sheet);
        } else {
            write_map(tunnel, child, seq, &address, sheet);
            seq += STEP;
        }
    }
    if seq > STEP {
        sheet.line(0, format!("crypto map {MAP} interface {OUTSIDE}"));
        sheet.note(format!(
            "where {OUTSIDE} has a crypto map already, use its name in the place of {MAP}, and other numbers"
        ));
    }
    if tunnel.force_udp {
        sheet.note("the device puts ESP into UDP where it finds a NAT and not otherwise");
    }
    sheet.line(0, format!("tunnel-group {address} type ipsec-l2l"));
    sheet.line(0, format!("tunnel-group {address} ipsec-attributes"));
    let key = visible_key(&tunnel.key, sheet)?;
    if tunnel.version.is_v1() {
        sheet.line(1, format!("ikev1 pre-shared-key {key}"));
    } else {
        sheet.line(1, format!("ikev2 remote-authentication pre-shared-key {key}"));
        sheet.line(1, format!("ikev2 local-authentication pre-shared-key {key}"));
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(1, format!("isakmp keepalive threshold {dpd} retry 5"));
    }
    Ok(())
}

/// One for the whole device.
fn write_identity(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let identity = &tunnel.device.identity;
    match identity.kind {
        IdType::ID_IPV4_ADDR | IdType::ID_IPV6_ADDR => sheet.line(0, "crypto isakmp identity address"),
        IdType::ID_KEY_ID => {
            sheet.line(0, format!("crypto isakmp identity key-id {}", bare_identity(identity)?))
        }
        IdType::ID_FQDN => {
            sheet.line(0, "crypto isakmp identity hostname");
            sheet
                .note(format!("the device's hostname and domain-name must make up its identity, {identity}"));
        }
        _ => return Err(format!("ASA cannot call itself {identity}")),
    }
    sheet.note("the identity is that of the device towards all its peers");
    Ok(())
}

fn write_ikev2(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let suites = ike_of(tunnel, |word| has(&[IKEV2, PRF, GROUPS], word), sheet)?;
    for (at, suite) in suites.iter().enumerate() {
        sheet.line(0, format!("crypto ikev2 policy {}", (at + 1) * STEP));
        sheet.line(1, format!("encryption {}", words(IKEV2, &suite.encryption)));
        let integrity = if suite.is_aead() { "null".to_owned() } else { words(IKEV2, &suite.integrity) };
        sheet.line(1, format!("integrity {integrity}"));
        sheet.line(1, format!("group {}", words(GROUPS, &suite.groups)));
        sheet.line(1, format!("prf {}", words(PRF, &suite.prf)));
        if let Some(life) = tunnel.ike_life.end() {
            sheet.line(1, format!("lifetime seconds {life}"));
        }
    }
    sheet.line(0, format!("crypto ikev2 enable {OUTSIDE}"));
    Ok(())
}

fn write_ikev1(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let suites = ike_of(tunnel, |word| has(&[IKEV1, PRF, GROUPS], word), sheet)?;
    for (at, suite) in choices(&suites, "ike.proposals", sheet).iter().enumerate() {
        sheet.line(0, format!("crypto ikev1 policy {}", (at + 1) * STEP));
        sheet.line(1, "authentication pre-share");
        sheet.line(1, format!("encryption {}", words(IKEV1, &suite.encryption)));
        sheet.line(1, format!("hash {}", words(IKEV1, &suite.integrity)));
        sheet.line(1, format!("group {}", words(GROUPS, &suite.groups)));
        if let Some(life) = tunnel.ike_life.end() {
            sheet.line(1, format!("lifetime {life}"));
        }
    }
    sheet.line(0, format!("crypto ikev1 enable {OUTSIDE}"));
    Ok(())
}

/// The proposals of a child, and their names.
fn proposals(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) -> Result<Vec<(String, Suite)>, String> {
    let suites = if tunnel.version.is_v1() {
        let suites = esp_of(child, |word| has(&[TRANSFORMS], word), sheet)?;
        choices(&suites, &format!("child {}", child.name), sheet)
    } else {
        esp_of(child, |word| has(&[ESP], word), sheet)?
    };
    let name = list_name(tunnel, child);
    Ok(suites.into_iter().enumerate().map(|(at, suite)| (format!("{name}-{}", at + 1), suite)).collect())
}

fn write_proposals(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) -> Result<(), String> {
    note_unsaid(child, true, sheet);
    for (name, suite) in proposals(tunnel, child, sheet)? {
        if tunnel.version.is_v1() {
            let both =
                format!("{} {}", words(TRANSFORMS, &suite.encryption), words(TRANSFORMS, &suite.integrity));
            sheet.line(0, format!("crypto ipsec ikev1 transform-set {name} {both}"));
            if child.transport {
                sheet.line(0, format!("crypto ipsec ikev1 transform-set {name} mode transport"));
            }
        } else {
            sheet.line(0, format!("crypto ipsec ikev2 ipsec-proposal {name}"));
            sheet.line(1, format!("protocol esp encryption {}", words(ESP, &suite.encryption)));
            let integrity = if suite.is_aead() { "null".to_owned() } else { words(ESP, &suite.integrity) };
            sheet.line(1, format!("protocol esp integrity {integrity}"));
        }
    }
    Ok(())
}

/// What a map entry and a profile both say, each line after this.
fn write_sets(tunnel: &Tunnel, child: &Child, prefix: &str, depth: usize, sheet: &mut Sheet) {
    let named = proposals(tunnel, child, &mut Sheet::default()).unwrap_or_default();
    let names = named.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
    let kind = if tunnel.version.is_v1() { "ikev1 transform-set" } else { "ikev2 ipsec-proposal" };
    sheet.line(depth, format!("{prefix}set {kind} {names}"));
    if let Some(group) = pfs_group(child, GROUPS, sheet) {
        sheet.line(depth, format!("{prefix}set pfs group{group}"));
    }
    if let Some(life) = child.life.end() {
        sheet.line(depth, format!("{prefix}set security-association lifetime seconds {life}"));
    }
    if let Some(bytes) = child.life_bytes {
        sheet.line(depth, format!("{prefix}set security-association lifetime kilobytes {}", bytes / 1024));
    }
}

fn write_map(tunnel: &Tunnel, child: &Child, seq: usize, address: &str, sheet: &mut Sheet) {
    let list = list_name(tunnel, child);
    sheet.line(0, format!("access-list {list} remark {CHILD} {}", child.name));
    for (device, culvert) in pairs(child) {
        let side = |subnet: tenants::Cidr| match subnet.is_ipv4() {
            true => format!("{} {}", subnet.first(), mask(subnet, false)),
            false => subnet.to_string(),
        };
        sheet.line(0, format!("access-list {list} extended permit ip {} {}", side(device), side(culvert)));
    }
    let prefix = format!("crypto map {MAP} {seq} ");
    sheet.line(0, format!("{prefix}match address {list}"));
    sheet.line(0, format!("{prefix}set peer {address}"));
    write_sets(tunnel, child, &prefix, 0, sheet);
    if child.transport && !tunnel.version.is_v1() {
        sheet.line(0, format!("{prefix}set ikev2 mode transport"));
    }
    if tunnel.version == Version::V1Aggressive {
        sheet.line(0, format!("{prefix}set ikev1 phase1-mode aggressive"));
    }
}

fn write_interface(tunnel: &Tunnel, child: &Child, address: &str, sheet: &mut Sheet) {
    let name = list_name(tunnel, child);
    let family = if child.device.iter().all(tenants::Cidr::is_ipv4) { "ipv4" } else { "ipv6" };
    sheet.line(0, format!("crypto ipsec profile {name}"));
    write_sets(tunnel, child, "", 1, sheet);
    let interface = cisco::interface_of(tunnel, child);
    sheet.line(0, format!("interface {interface}"));
    sheet.line(1, format!("description {CHILD} {}", child.name));
    sheet.line(1, format!("nameif {name}"));
    sheet.line(1, format!("tunnel source interface {OUTSIDE}"));
    sheet.line(1, format!("tunnel destination {address}"));
    sheet.line(1, format!("tunnel mode ipsec {family}"));
    sheet.line(1, format!("tunnel protection ipsec profile {name}"));
    sheet.note(format!(
        "give {interface} an address of the device, and route into it what is for the other side; the number is an example"
    ));
}
