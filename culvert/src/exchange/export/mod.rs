//! What is typed on the remote device.

pub(crate) mod asa;
pub(crate) mod cisco;
pub(crate) mod ios;
pub(crate) mod libreswan;
pub(crate) mod panos;
pub(crate) mod strongswan;

use std::net::IpAddr;

use clap::ValueEnum;
use ike::wire::numbers::IdType;
use ike::{EspProposal, Identity, IkeProposal};

use super::model::{Child, End, Key, Tunnel};
use super::suite::{NO_PFS, Suite, Word, Words, spoken};

/// In place of what the device's own configuration says or the user knows. No device takes it, so none is configured with it
/// unawares.
pub(crate) const KEY: &str = "<PRE-SHARED-KEY>";
pub(crate) const CULVERT: &str = "<CULVERT-ADDRESS>";
pub(crate) const OUTSIDE: &str = "<OUTSIDE-INTERFACE>";

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// strongSwan: swanctl.conf
    Strongswan,
    /// Libreswan: ipsec.conf and ipsec.secrets
    Libreswan,
    /// Cisco IOS and IOS XE
    Ios,
    /// Cisco ASA
    Asa,
    /// Palo Alto Networks PAN-OS: set commands
    Panos,
}

/// What is printed.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    /// For the device.
    pub(crate) text: String,
    /// What the device cannot say, or somebody has to see to.
    pub(crate) notes: Vec<String>,
}

impl Sheet {
    fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        self.text.extend(std::iter::repeat_n(' ', depth));
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// The tunnel for a device.
///
/// # Errors
/// Why the device cannot have such a tunnel.
pub(crate) fn export(device: Device, tunnel: &Tunnel) -> Result<Sheet, String> {
    let mut sheet = Sheet::default();
    let tunnel = &with_proposals(tunnel);
    if tunnel.key == Key::Certificates && device != Device::Strongswan {
        return Err("it authenticates by certificates, which are exported for strongswan alone".to_owned());
    }
    match device {
        Device::Strongswan => strongswan::write(tunnel, &mut sheet)?,
        Device::Libreswan => libreswan::write(tunnel, &mut sheet)?,
        Device::Ios => ios::write(tunnel, &mut sheet)?,
        Device::Asa => asa::write(tunnel, &mut sheet)?,
        Device::Panos => panos::write(tunnel, &mut sheet)?,
    }
    Ok(sheet)
}

/// With the defaults of Culvert written out, which no device knows.
fn with_proposals(tunnel: &Tunnel) -> Tunnel {
    let mut tunnel = tunnel.clone();
    let v1 = tunnel.version.is_v1();
    if tunnel.ike.is_empty() {
        let defaults = if v1 { IkeProposal::defaults_in_v1() } else { IkeProposal::defaults() };
        tunnel.ike = defaults.iter().filter_map(|p| Suite::of_ike(&p.to_string()).ok()).collect();
    }
    for child in tunnel.children.iter_mut().filter(|child| child.esp.is_empty()) {
        let defaults = if v1 { EspProposal::defaults_in_v1() } else { EspProposal::defaults() };
        child.esp = defaults.iter().filter_map(|p| Suite::of_esp(&p.to_string()).ok()).collect();
    }
    tunnel
}

/// The address of Culvert, or what stands for it.
fn culvert_address(tunnel: &Tunnel, sheet: &mut Sheet) -> String {
    match tunnel.culvert.addresses.first() {
        Some(address) => address.clone(),
        None => {
            sheet.note(format!("put the address of Culvert in the place of {CULVERT} (or give --address)"));
            CULVERT.to_owned()
        }
    }
}

/// An address of `remoteAddresses` without its port, which is told.
fn without_port<'a>(address: &'a str, sheet: &mut Sheet) -> &'a str {
    let Ok(parsed) = address.parse::<tenants::RemoteAddress>() else { return address };
    let port = match parsed {
        tenants::RemoteAddress::Host(_, port) | tenants::RemoteAddress::Name(_, port) => port,
        tenants::RemoteAddress::Subnet(_) => None,
    };
    match port.and_then(|_| address.rsplit_once(':')) {
        Some((host, port)) => {
            sheet.note(format!("Culvert begins at port {port}: lead it to the device's 500 and 4500"));
            host.trim_start_matches('[').trim_end_matches(']')
        }
        None => address,
    }
}

/// The single address of the device, if that is where it is.
fn device_address(device: &End) -> Option<IpAddr> {
    device.addresses.iter().find_map(|address| address.parse().ok())
}

/// The key as a device takes it that knows visible characters only.
fn visible_key(key: &Key, sheet: &mut Sheet) -> Result<String, String> {
    let Key::Known(key) = key else {
        sheet.note(format!("put the pre-shared key in the place of {KEY} (or give --psk-file)"));
        return Ok(KEY.to_owned());
    };
    let visible = |byte: &u8| byte.is_ascii_graphic() && !b"\"'?\\".contains(byte);
    match key.iter().all(visible) {
        true if !key.is_empty() => Ok(String::from_utf8_lossy(key).into_owned()),
        _ => Err("the key has characters that the device does not take on its command line".to_owned()),
    }
}

/// The key in quotes, or as hexadecimal digits where that would not be the same.
fn quoted_key(key: &Key, sheet: &mut Sheet) -> String {
    let Key::Known(key) = key else {
        sheet.note(format!("put the pre-shared key in the place of {KEY} (or give --psk-file)"));
        return format!("\"{KEY}\"");
    };
    let plain = |byte: &u8| (byte.is_ascii_graphic() || *byte == b' ') && !b"\"\\".contains(byte);
    // What begins with 0x or 0s is digits to the device.
    let digits = key.starts_with(b"0x") || key.starts_with(b"0s");
    if key.iter().all(plain) && !digits {
        return format!("\"{}\"", String::from_utf8_lossy(key));
    }
    key.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The text of an identity without its kind, of characters that end no word of a configuration.
fn bare_identity(identity: &Identity) -> Result<String, String> {
    let text = identity.to_string();
    let bare = match identity.kind {
        IdType::ID_DER_ASN1_DN => {
            return Err(format!("a distinguished name is not written for this device: {text:?}"));
        }
        IdType::ID_KEY_ID => text.trim_start_matches("keyid:").to_owned(),
        _ => text,
    };
    let safe = |c: char| c.is_ascii_graphic() && !"\"'?\\;{}#".contains(c);
    if bare.chars().all(safe) {
        Ok(bare)
    } else {
        Err(format!("the device does not take the identity {bare:?}"))
    }
}

/// The words of a device for a list; there is at least one, for [`super::suite::reduced`] has seen to it.
fn words(words: Words, list: &[Word]) -> String {
    spoken(words, list).0.join(" ")
}

/// The groups for rekeyings of their own, where a device takes one: the first that it has.
fn pfs_group(child: &Child, groups: Words, sheet: &mut Sheet) -> Option<&'static str> {
    let mut all: Vec<Word> = Vec::new();
    for group in child.esp.iter().flat_map(|suite| &suite.groups) {
        if !all.contains(group) {
            all.push(group);
        }
    }
    let wanted: Vec<Word> = all.iter().filter(|group| **group != NO_PFS).copied().collect();
    let (known, _) = spoken(groups, &wanted);
    if known.len() > 1 || (all.len() > 1 && !known.is_empty()) {
        sheet.note(format!("child {}: of the groups {} the device takes one", child.name, all.join(", ")));
    }
    if known.is_empty() && !wanted.is_empty() && !all.contains(&NO_PFS) {
        sheet.note(format!("child {}: the device has none of the groups {}", child.name, wanted.join(", ")));
    }
    known.first().copied()
}

/// What a child says that a device has no word for.
fn note_unsaid(child: &Child, bytes: bool, sheet: &mut Sheet) {
    // Without one they take short sequence numbers.
    if child.esp.iter().any(|suite| suite.esn == ["esn"]) {
        sheet.note(format!(
            "child {}: the device is not told of esn; proposals with it alone are not agreed on unless it takes extended sequence numbers by itself",
            child.name
        ));
    }
    if child.life_bytes.is_some() && !bytes {
        sheet.note(format!("child {}: lifetime.lifeBytes is Culvert's alone", child.name));
    }
}
