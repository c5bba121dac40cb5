//! `ipsec.conf` and `ipsec.secrets` of Libreswan 4 and later.

use ike::Identity;
use ike::wire::numbers::IdType;
use tenants::Cidr;

use super::{Sheet, bare_identity, culvert_address, note_unsaid, quoted_key, without_port};
use crate::exchange::model::{Child, Starts, Tunnel, Version};
use crate::exchange::suite::{NO_PFS, Suite, Word, Words, reduced, spoken};

/// Between the name of a peer and that of its child in the name of a connection.
pub(crate) const OF: &str = "--";

/// Libreswan's words.
pub(crate) const WORDS: Words = &[
    ("aes128gcm16", "aes_gcm128"),
    ("aes192gcm16", "aes_gcm192"),
    ("aes256gcm16", "aes_gcm256"),
    ("chacha20poly1305", "chacha20_poly1305"),
    ("aes128", "aes128"),
    ("aes192", "aes192"),
    ("aes256", "aes256"),
    ("3des", "3des"),
    ("sha256", "sha2_256"),
    ("sha384", "sha2_384"),
    ("sha512", "sha2_512"),
    ("sha1", "sha1"),
    ("md5", "md5"),
    ("aesxcbc", "aes_xcbc"),
    ("aescmac", "aes_cmac"),
    ("prfsha256", "sha2_256"),
    ("prfsha384", "sha2_384"),
    ("prfsha512", "sha2_512"),
    ("prfsha1", "sha1"),
    ("prfmd5", "md5"),
    ("prfaesxcbc", "aes_xcbc"),
    ("modp1024", "dh2"),
    ("modp1536", "dh5"),
    ("modp2048", "dh14"),
    ("modp3072", "dh15"),
    ("modp4096", "dh16"),
    ("modp6144", "dh17"),
    ("modp8192", "dh18"),
    ("ecp256", "dh19"),
    ("ecp384", "dh20"),
    ("ecp521", "dh21"),
    ("x25519", "dh31"),
];

/// Where no integrity algorithm and no address is said.
const DEFAULT_ROUTE: &str = "%defaultroute";

pub(super) fn write(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let name = &tunnel.name;
    sheet.line(
        0,
        format!("# /etc/ipsec.d/{name}.conf; load it with: ipsec auto --add NAME, or ipsec restart"),
    );
    sheet.line(0, format!("conn {name}"));
    let mut say = |key: &str, value: &str| sheet.line(4, format!("{key}={value}"));
    say("ikev2", if tunnel.version.is_v1() { "no" } else { "yes" });
    if tunnel.version.is_v1() {
        sheet.note("since Libreswan 5.0 IKEv1 is off unless `config setup` has ikev1-policy=accept");
    }
    let mut say = |key: &str, value: &str| sheet.line(4, format!("{key}={value}"));
    if tunnel.version == Version::V1Aggressive {
        say("aggressive", "yes");
    }
    say("authby", "secret");
    let addresses = &tunnel.device.addresses;
    let single = addresses.iter().find(|address| !address.contains('/'));
    let left = single.map_or(DEFAULT_ROUTE, |address| without_port(address, sheet));
    if addresses.len() > usize::from(single.is_some()) {
        sheet.note("of remoteAddresses the device takes one address of its own");
    }
    sheet.line(4, format!("left={left}"));
    sheet.line(4, format!("leftid={}", identity(&tunnel.device.identity)?));
    let right = culvert_address(tunnel, sheet);
    sheet.line(4, format!("right={right}"));
    sheet.line(4, format!("rightid={}", identity(&tunnel.culvert.identity)?));
    let ike = ike_proposals(&tunnel.ike, sheet)?;
    sheet.line(4, format!("ike={ike}"));
    if let Some(life) = tunnel.ike_life.end() {
        sheet.line(4, format!("ikelifetime={life}s"));
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(4, format!("dpddelay={dpd}s"));
        sheet.line(4, format!("dpdtimeout={}s", dpd * 4));
    }
    if tunnel.force_udp {
        sheet.line(4, "encapsulation=yes");
    }
    sheet.line(4, "auto=ignore");
    for child in &tunnel.children {
        write_child(tunnel, child, sheet)?;
    }
    sheet.line(0, "");
    sheet.line(0, format!("# /etc/ipsec.d/{name}.secrets"));
    let (device, culvert) = (identity(&tunnel.device.identity)?, identity(&tunnel.culvert.identity)?);
    let key = quoted_key(&tunnel.key, sheet);
    sheet.line(0, format!("{device} {culvert} : PSK {key}"));
    Ok(())
}

fn write_child(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) -> Result<(), String> {
    sheet.line(0, "");
    sheet.line(0, format!("conn {}{OF}{}", tunnel.name, child.name));
    sheet.line(4, format!("also={}", tunnel.name));
    if child.transport {
        // Between the two ends, which goes without saying.
        sheet.line(4, "type=transport");
    } else {
        sheet.line(4, subnets("left", &child.device));
        sheet.line(4, subnets("right", &child.culvert));
        if !tunnel.version.is_v1() && child.device.len() * child.culvert.len() > 1 {
            sheet.note(format!("child {}: the device makes a Child SA for each pair of subnets", child.name));
        }
    }
    let (esp, pfs) = esp_proposals(child, sheet)?;
    sheet.line(4, format!("esp={esp}"));
    sheet.line(4, format!("pfs={}", if pfs { "yes" } else { "no" }));
    if child.esp.iter().any(|suite| suite.integrity.contains(&"sha256_96")) {
        sheet.line(4, "sha2-truncbug=yes");
    }
    if let Some(life) = child.life.end() {
        sheet.line(4, format!("salifetime={life}s"));
    }
    note_unsaid(child, false, sheet);
    let auto = match tunnel.starts {
        Starts::Device => "start",
        Starts::Culvert => "add",
        Starts::Packets => "ondemand",
    };
    sheet.line(4, format!("auto={auto}"));
    Ok(())
}

fn ike_proposals(suites: &[Suite], sheet: &mut Sheet) -> Result<String, String> {
    let known = |word| WORDS.iter().any(|(ours, _)| *ours == word);
    let suites = reduced(suites, known, &mut sheet.notes);
    let text = |suite: &Suite| {
        if !suite.is_aead() && !suite.prf_goes_without_saying() {
            sheet.notes.push("the device takes the PRF from the integrity algorithm".to_owned());
        }
        let middle = if suite.is_aead() { &suite.prf } else { &suite.integrity };
        [&suite.encryption, middle, &suite.groups].map(|list| joined(list)).join("-")
    };
    let texts: Vec<String> = suites.iter().map(text).collect();
    if texts.is_empty() {
        Err("Libreswan has none of the algorithms of ike.proposals".to_owned())
    } else {
        Ok(texts.join(","))
    }
}

/// With whether there is a group among them.
fn esp_proposals(child: &Child, sheet: &mut Sheet) -> Result<(String, bool), String> {
    let known = |word| WORDS.iter().any(|(ours, _)| *ours == word) || [NO_PFS, "sha256_96"].contains(&word);
    let suites = reduced(&child.esp, known, &mut sheet.notes);
    let mut pfs = false;
    let mut texts = Vec::new();
    for suite in &suites {
        let groups: Vec<Word> = suite.groups.iter().filter(|group| **group != NO_PFS).copied().collect();
        pfs |= !groups.is_empty();
        if groups.len() < suite.groups.len() && !groups.is_empty() {
            sheet.note(format!(
                "child {}: the device has a key exchange in each rekeying or in none",
                child.name
            ));
        }
        // The same on the wire; `sha2-truncbug` says that it is cut shorter.
        let whole = |word: &Word| if *word == "sha256_96" { "sha256" } else { *word };
        let integrity: Vec<Word> = suite.integrity.iter().map(whole).collect();
        let parts = [&suite.encryption, &integrity, &groups].into_iter().filter(|list| !list.is_empty());
        texts.push(parts.map(|list| joined(list)).collect::<Vec<_>>().join("-"));
    }
    if texts.is_empty() {
        return Err(format!("Libreswan has none of the algorithms of child {}", child.name));
    }
    Ok((texts.join(","), pfs))
}

fn joined(list: &[Word]) -> String {
    spoken(WORDS, list).0.join("+")
}

fn subnets(side: &str, subnets: &[Cidr]) -> String {
    match subnets {
        [only] => format!("{side}subnet={only}"),
        all => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            format!("{side}subnets={{{}}}", all.join(" "))
        }
    }
}

/// A name has an `@` in front, and a key ID is in brackets.
fn identity(identity: &Identity) -> Result<String, String> {
    let bare = bare_identity(identity)?;
    Ok(match identity.kind {
        IdType::ID_FQDN => format!("@{bare}"),
        IdType::ID_KEY_ID => format!("@[{bare}]"),
        _ => bare,
    })
}
