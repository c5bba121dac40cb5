//! What is made of a device's configuration.
//!
//! Whatever of it is about IPsec and is not taken over is noted with its line. What is about something else, in a file that holds
//! all of a device's configuration, is passed over.

mod acl;
mod acl_entry;
mod asa;
mod cisco;
mod dialects;
mod interface;
mod ios;
mod ios_keys;
mod ios_parts;
mod ipsec;
mod ipsec_child;
mod lines;
pub(crate) mod octets;
mod order;
mod panos;
mod panos_ids;
mod sections;
mod swanctl;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cisco;
#[cfg(test)]
mod tests_left_out;
#[cfg(test)]
mod tests_names;
#[cfg(test)]
mod tests_rules;
#[cfg(test)]
mod tests_strongswan;

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::ValueEnum;
use ike::Identity;

use super::model::{Found, Key, MAX_NAME, Notes, Place, Starts};
use super::suite::{Suite, Words, understood};
use lines::Source;
use octets::{is_text, octets_of};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// strongSwan: swanctl.conf
    Swanctl,
    /// Libreswan, or strongSwan's old way: ipsec.conf and ipsec.secrets
    Ipsec,
    /// Cisco IOS and IOS XE: the running configuration
    Ios,
    /// Cisco ASA: the running configuration
    Asa,
    /// Palo Alto Networks PAN-OS: set commands
    Panos,
}

/// What is in these files, each with its name.
pub(crate) fn import(
    format: Format,
    files: &[(String, String)],
    own: Option<IpAddr>,
    notes: &mut Notes,
) -> Found {
    let sources: Vec<Source<'_>> =
        files.iter().map(|(name, text)| Source { name: name.as_str().into(), text }).collect();
    let mut found = match format {
        Format::Swanctl => swanctl::read(&sources, notes),
        Format::Ipsec => ipsec::read(&sources, notes),
        Format::Ios => ios::read(&sources, own, notes),
        Format::Asa => asa::read(&sources, own, notes),
        Format::Panos => panos::read(&sources, own, notes),
    };
    // What the device tells apart may be the same in the characters of Culvert.
    let mut peers: Vec<String> = Vec::new();
    for tunnel in &mut found.tunnels {
        tunnel.name = free(&tunnel.name, |name| peers.iter().any(|other| other == name));
        peers.push(tunnel.name.clone());
        let mut children: Vec<String> = Vec::new();
        for child in &mut tunnel.children {
            child.name = free(&child.name, |name| children.iter().any(|other| other == name));
            children.push(child.name.clone());
        }
    }
    found
}

/// The name, or if it is taken, the name with the first number that makes it another, and cut where it would be too long with it.
fn free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|n| {
        let number = format!("-{n}");
        let cut: String = name.chars().take(MAX_NAME - number.len()).collect();
        format!("{}{number}", cut.trim_end_matches('-'))
    });
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// Who begins with a device that does so when it has a packet, unless it says, there, that it only answers.
fn starts(answers: Option<&Place>, addresses: &[String], notes: &mut Notes) -> Starts {
    match answers {
        None => Starts::Device,
        Some(place) if addresses.is_empty() => {
            notes.add(
                place,
                "the device only answers, and nobody begins: where it is is not in the file; give --address",
            );
            Starts::Device
        }
        Some(_) => Starts::Culvert,
    }
}

/// Who is at an address. A name is none of those who are there: devices say the address that it resolves to.
fn of_address(text: &str) -> Option<Identity> {
    text.parse().ok().map(Identity::address)
}

/// Whether it is on, in any of the words for it. Of another it is told that it is not known.
fn boolean(text: &str, place: &Place, notes: &mut Notes) -> bool {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" | "enabled" | "on" => true,
        "no" | "false" | "0" | "disabled" | "off" => false,
        _ => {
            notes.add(place, format!("{text} is neither yes nor no: no is taken"));
            false
        }
    }
}

/// Whether it stands for what somebody is to put there: `<PRE-SHARED-KEY>`.
fn is_placeholder(text: &str) -> bool {
    text.starts_with('<') && text.ends_with('>')
}

/// A key as it stands. One that is masked is none.
fn plain_key(text: &str, place: &Place, notes: &mut Notes) -> Key {
    /// What ASA shows of any key.
    const MASKED: &str = "*****";
    if is_placeholder(text) || text == MASKED {
        notes.add(
            place,
            "the key is not in the file; set the variable that the manifest names, or put it there",
        );
        return Key::Unknown;
    }
    Key::Known(octets_of(text))
}

/// A key of strongSwan or Libreswan: in quotes, or as digits behind 0x or 0s.
fn key_of(text: &str, place: &Place, notes: &mut Notes) -> Key {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if is_placeholder(bare) {
        return plain_key(bare, place, notes);
    }
    let encoded = match (text.starts_with('"'), bare.get(..2)) {
        (false, Some("0x")) => bare.get(2..).and_then(of_digits),
        (false, Some("0s")) => bare.get(2..).and_then(|digits| BASE64_STANDARD.decode(digits).ok()),
        _ => Some(octets_of(bare)),
    };
    match encoded {
        Some(key) if !key.is_empty() => Key::Known(key),
        _ => {
            notes.add(place, "the key is empty, or not the digits that its beginning announces");
            Key::Unknown
        }
    }
}

/// Octets of hexadecimal digits.
fn of_digits(digits: &str) -> Option<Vec<u8>> {
    let pair =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let even = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    even.then(|| digits.as_bytes().chunks(2).map(pair).collect()).flatten()
}

/// A time with a unit or without: `3600`, `60m`, `1h`, `1d`. Seconds.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (text.get(..at)?, 1),
        Some((at, 'm')) => (text.get(..at)?, 60),
        Some((at, 'h')) => (text.get(..at)?, 3600),
        Some((at, 'd')) => (text.get(..at)?, 86_400),
        Some((at, 'w')) => (text.get(..at)?, 604_800),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// What Culvert takes of algorithms that stand together: proposals without an algorithm that has to be there are left out.
fn usable(
    suite: Suite,
    text: impl Fn(&Suite) -> String,
    parse: impl Fn(&str) -> Result<Suite, String>,
    place: &Place,
    notes: &mut Notes,
) -> Vec<Suite> {
    let mut usable = Vec::new();
    let apart = suite.apart();
    if apart.is_empty() {
        notes.add(place, "left out, as there is no cipher in it that Culvert has");
    }
    for suite in apart {
        match parse(&text(&suite)) {
            Ok(_) => usable.push(suite),
            Err(error) => notes.add(place, format!("left out, as Culvert could not have it: {error}")),
        }
    }
    usable
}

/// Adds the algorithm that a device has this word for.
fn add_algorithm(suite: &mut Suite, words: Words, theirs: &str, place: &Place, notes: &mut Notes) {
    match understood(words, theirs) {
        Some(ours) => drop(suite.add_word(ours)),
        None => notes.add(place, format!("{theirs} is no algorithm of Culvert")),
    }
}

/// An identity of its text, or why it is none.
fn identity(text: &str, place: &Place, notes: &mut Notes) -> Option<Identity> {
    identity_of(text).map_err(|fault| notes.add(place, fault)).ok()
}

/// An identity of its text. Its octets are those that the device says, so nothing may stand for another there.
fn identity_of(text: &str) -> Result<Identity, String> {
    if !is_text(text) {
        return Err(format!("the identity {text} is no UTF-8, and is not taken over"));
    }
    text.parse().map_err(|error: ike::IdentityError| error.to_string())
}
