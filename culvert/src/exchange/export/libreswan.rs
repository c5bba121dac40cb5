//! `ipsec.conf` and `ipsec.secrets` of Libreswan 4 and later.

use ike::Identity;
use ike::wire::numbers::IdType;
use tenants::Cidr;

use super::{Sheet, bare_identity, culvert_address, note_unsaid, pfs_group, quoted_key, without_port};
use crate::exchange::model::{Child, Starts, Tunnel, Version};
use crate::exchange::suite::{NO_PFS, Suite, Word, Words, reduced, spoken, understood};

/// Between the name of a peer and that of its child in the name of a connection.
pub(crate) const OF: &str = "--";

/// Libreswan's words. Since version 4 it is built without the group modp1024, and a connection with it is not loaded.
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

/// Groups of Quick Mode, which has none of elliptic curves there.
const QUICK_GROUPS: Words = &[
    ("modp1536", "dh5"),
    ("modp2048", "dh14"),
    ("modp3072", "dh15"),
    ("modp4096", "dh16"),
    ("modp6144", "dh17"),
    ("modp8192", "dh18"),
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
    let ike = ike_proposals(tunnel, sheet)?;
    sheet.line(4, format!("ike={ike}"));
    if let Some(life) = tunnel.ike_life.end() {
        sheet.line(4, format!("ikelifetime={life}s"));
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(4, format!("dpddelay={dpd}s"));
        if tunnel.version.is_v1() {
            // In IKEv2 it gives up when it has retransmitted for long enough.
            sheet.line(4, format!("dpdtimeout={}s", dpd * 4));
        }
    }
    if tunnel.force_udp {
        sheet.line(4, "encapsulation=yes");
    }
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
    let (esp, pfs) = esp_proposals(tunnel, child, sheet)?;
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

fn ike_proposals(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<String, String> {
    let v1 = tunnel.version.is_v1();
    // With an integrity algorithm comes the PRF of its name, of which these have none.
    let lacks = |word| word == "aescmac" || (v1 && word == "aesxcbc");
    let known = |word| WORDS.iter().any(|(ours, _)| *ours == word) && !lacks(word);
    let suites = reduced(&tunnel.ike, known, &mut sheet.notes);
    if suites.iter().any(|suite| !suite.is_aead() && !suite.prf_goes_without_saying()) {
        sheet.note("the device takes the PRF from the integrity algorithm");
    }
    let text = |suite: &Suite| {
        let middle = if suite.is_aead() { &suite.prf } else { &suite.integrity };
        proposal(&[&suite.encryption, middle], &joined(&suite.groups))
    };
    let texts: Vec<String> = listed(suites, v1).iter().map(text).collect();
    if texts.is_empty() {
        Err("Libreswan has none of the algorithms of ike.proposals".to_owned())
    } else {
        Ok(texts.join(","))
    }
}

/// With whether there is a group in them, which is the same in all: it loads no connection with several.
fn esp_proposals(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) -> Result<(String, bool), String> {
    let v1 = tunnel.version.is_v1();
    let group = if v1 { pfs_group(child, QUICK_GROUPS, sheet) } else { renewal_group(tunnel, child, sheet) };
    let wanted = group.and_then(|group| understood(WORDS, group)).unwrap_or(NO_PFS);
    let fits = |suite: &Suite| match suite.groups.as_slice() {
        [] => wanted == NO_PFS,
        groups => groups.contains(&wanted),
    };
    let fitting: Vec<Suite> = child.esp.iter().filter(|suite| fits(suite)).cloned().collect();
    if fitting.len() < child.esp.len() {
        sheet.note(format!("child {}: proposals without {wanted} are left out", child.name));
    }
    let fitting: Vec<Suite> =
        fitting.into_iter().map(|suite| Suite { groups: Vec::new(), ..suite }).collect();
    let lacks = |word| v1 && word == "chacha20poly1305";
    let known = |word| (WORDS.iter().any(|(ours, _)| *ours == word) || word == "sha256_96") && !lacks(word);
    let suites = reduced(&fitting, known, &mut sheet.notes);
    let text = |suite: &Suite| {
        // The same on the wire; `sha2-truncbug` says that it is cut shorter.
        let whole = |word: &Word| if *word == "sha256_96" { "sha256" } else { *word };
        let integrity: Vec<Word> = suite.integrity.iter().map(whole).collect();
        proposal(&[&suite.encryption, &integrity], group.unwrap_or_default())
    };
    let texts: Vec<String> = listed(suites, v1).iter().map(text).collect();
    if texts.is_empty() {
        return Err(format!("Libreswan has none of the algorithms of child {}", child.name));
    }
    Ok((texts.join(","), group.is_some()))
}

/// Version 4.10 renews a Child SA of IKEv2 with the group of the IKE SA, whatever `esp` says: one that Culvert takes for both.
fn renewal_group(tunnel: &Tunnel, child: &Child, sheet: &mut Sheet) -> Option<&'static str> {
    let any = pfs_group(child, WORDS, sheet)?;
    let all: Vec<Word> = tunnel.ike.iter().flat_map(|suite| suite.groups.iter().copied()).collect();
    let of_ike: Vec<&'static str> = spoken(WORDS, &all).0;
    let has = |group: &str| {
        understood(WORDS, group)
            .is_some_and(|group| child.esp.iter().any(|suite| suite.groups.contains(&group)))
    };
    let optional = child.esp.iter().any(|suite| suite.groups.contains(&NO_PFS));
    let both = of_ike.iter().find(|group| has(group)).copied();
    if both.is_none() || both != of_ike.first().copied() {
        let first = of_ike.first().and_then(|group| understood(WORDS, group)).unwrap_or_default();
        sheet.note(format!(
            "child {}: the device renews it with the group of the IKE SA, as first {first}, which espProposals has not",
            child.name
        ));
    }
    both.or((!optional).then_some(any))
}

/// As it takes them: a list of algorithms within a proposal in IKEv2 alone.
fn listed(suites: Vec<Suite>, v1: bool) -> Vec<Suite> {
    if v1 { suites.iter().flat_map(|suite| suite.choices(usize::MAX)).collect() } else { suites }
}

/// The semicolon says that a group follows, which after `-` would be a PRF or an integrity algorithm where there is none.
fn proposal(lists: &[&[Word]], groups: &str) -> String {
    let lists: Vec<String> = lists.iter().filter(|list| !list.is_empty()).map(|list| joined(list)).collect();
    let lists = lists.join("-");
    if groups.is_empty() { lists } else { format!("{lists};{groups}") }
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
