//! What stands in the blocks of IOS: algorithms, IKE profiles, map entries.

use std::net::IpAddr;

use ike::Identity;

use super::cisco::Entry;
use super::lines::{Block, Line};
use super::{add_algorithm, identity_of};
use crate::exchange::export::ios::{GROUPS, IKEV1, PRF};
use crate::exchange::model::{Notes, Place};
use crate::exchange::suite::{Suite, Words};

/// An IKE profile of either version.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    pub(super) culvert: Option<Identity>,
    pub(super) device: Option<Identity>,
    pub(super) keyring: Option<String>,
    pub(super) life: Option<u64>,
    pub(super) dpd: Option<u64>,
    pub(super) aggressive: bool,
    /// It authenticates by something that Culvert does not have.
    pub(super) foreign: bool,
}

/// Encryption, integrity or hash, PRF and group.
pub(super) fn suite(body: &[Line], words: Words, notes: &mut Notes) -> Suite {
    let mut suite = Suite::default();
    for line in body {
        let all = line.words();
        let Some((kind, values)) = all.split_first() else { continue };
        let (table, values): (_, Vec<String>) = match *kind {
            // A key length is a word of its own in IKEv1.
            "encryption" | "encr" if words == IKEV1 => {
                let joined = values.join(" ");
                (words, vec![if joined == "aes 128" { "aes".to_owned() } else { joined }])
            }
            "encryption" | "encr" | "integrity" | "hash" => {
                (words, values.iter().map(|v| (*v).to_owned()).collect())
            }
            "prf" => (PRF, values.iter().map(|v| (*v).to_owned()).collect()),
            "group" => (GROUPS, values.iter().map(|v| (*v).to_owned()).collect()),
            "authentication" | "lifetime" | "description" => continue,
            _ => {
                notes.add(&line.place, "not taken over");
                continue;
            }
        };
        for value in values {
            add_algorithm(&mut suite, table, &value, &line.place, notes);
        }
    }
    suite
}

/// An identity of what stands behind its kind: all of it, for what stands for many is none.
pub(super) fn of_kind(kind: &str, words: &[&str], place: &Place, notes: &mut Notes) -> Option<Identity> {
    let found = match (kind, words) {
        ("key-id", [id]) => identity_of(&format!("keyid:{id}")).ok(),
        ("fqdn" | "host", [id]) => identity_of(&format!("fqdn:{id}")).ok(),
        ("email" | "user", [id]) if id.contains('@') => identity_of(id).ok(),
        ("address", [id] | [id, "255.255.255.255"]) => {
            let address: Option<IpAddr> = id.trim_end_matches("/128").parse().ok();
            address.filter(|address| !address.is_unspecified()).map(Identity::address)
        }
        _ => None,
    };
    if found.is_none() {
        notes.add(place, format!("{kind} {} is no single identity: it is not taken over", words.join(" ")));
    }
    found
}

/// An IKE profile of either version.
pub(super) fn profile(block: &Block, notes: &mut Notes) -> Profile {
    let mut profile = Profile::default();
    for line in &block.body {
        let place = &line.place;
        match line.words().as_slice() {
            ["match", "identity", "remote", kind, id @ ..]
            | ["match", "identity", kind @ ("address" | "host" | "user"), id @ ..] => {
                match of_kind(kind, id, place, notes) {
                    Some(_) if profile.culvert.is_some() => {
                        notes.add(place, "a peer of Culvert has one identity: the first is taken");
                    }
                    other => profile.culvert = profile.culvert.take().or(other),
                }
            }
            ["identity", "local", kind, id] => profile.device = of_kind(kind, &[*id], place, notes),
            ["self-identity", "address" | "fqdn"] => {}
            ["self-identity", "fqdn", id] => profile.device = of_kind("fqdn", &[*id], place, notes),
            ["self-identity", "user-fqdn", id] => profile.device = of_kind("email", &[*id], place, notes),
            ["keyring", "local", name] | ["keyring", name] => profile.keyring = Some((*name).to_owned()),
            ["authentication", "remote" | "local", method, ..] => profile.foreign |= *method != "pre-share",
            ["lifetime", seconds] => profile.life = seconds.parse().ok(),
            ["dpd" | "keepalive", seconds, ..] => profile.dpd = seconds.parse().ok(),
            ["initiate", "mode", "aggressive"] => profile.aggressive = true,
            // A matter of the device alone.
            [
                "description" | "nat" | "ivrf" | "vrf" | "initial-contact" | "local-address"
                | "config-exchange",
                ..,
            ]
            | ["match", "fvrf" | "address", ..] => {}
            _ => notes.add(place, "not taken over"),
        }
    }
    profile
}

/// A map entry, or an IPsec profile.
pub(super) fn entry(block: &Block, notes: &mut Notes) -> Entry {
    // Without an IKE profile it is IKEv1.
    let mut entry = Entry { place: Some(block.head.place.clone()), v1: true, ..Entry::default() };
    for line in &block.body {
        match line.words().as_slice() {
            ["set", "transform-set", names @ ..] => {
                entry.sets = names.iter().map(|name| (*name).to_owned()).collect()
            }
            ["set", "ikev2-profile", name] => (entry.profile, entry.v1) = (Some((*name).to_owned()), false),
            ["set", "isakmp-profile", name] => entry.profile = Some((*name).to_owned()),
            ["set", rest @ ..] if entry.set(rest, GROUPS, &line.place, notes) => {}
            ["match", "address", name] => entry.list = Some((*name).to_owned()),
            ["responder-only"] => entry.answers = Some(line.place.clone()),
            ["description" | "qos" | "reverse-route", ..] => {}
            _ => notes.add(&line.place, "not taken over"),
        }
    }
    entry
}
