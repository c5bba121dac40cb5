//! Keyrings of IOS: whose a key is, and which of several is that of a peer.

use ike::Identity;
use tenants::Cidr;

use super::acl_entry::{Masks, subnet};
use super::lines::Line;
use super::plain_key;
use crate::exchange::model::{Key, Notes, Place};

/// Whom a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Identity(Identity),
    /// Whoever is there; of everywhere if the prefix is 0.
    Subnet(Cidr),
    Host(String),
}

/// The keys of a ring, those as well that the file does not show: they are for nobody else.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<(Of, Key)>);

impl Keys {
    /// The key for a peer: that of its identity, else of where it is, and of the smallest subnet.
    pub(super) fn best<'a>(rings: impl Iterator<Item = &'a Self>, peer: &str, who: &Identity) -> Key {
        let address = peer.parse().ok();
        let fits = |of: &Of| match of {
            Of::Identity(identity) => (identity == who).then_some(u16::MAX),
            Of::Host(name) => (name == peer).then_some(u16::MAX - 1),
            Of::Subnet(all) if all.prefix() == 0 => Some(0),
            Of::Subnet(subnet) => {
                address.is_some_and(|address| subnet.contains(address)).then(|| u16::from(subnet.prefix()))
            }
        };
        let mut best: Option<(u16, &Key)> = None;
        for (of, key) in rings.flat_map(|ring| &ring.0) {
            if let Some(fit) = fits(of).filter(|fit| best.is_none_or(|(before, _)| *fit > before)) {
                best = Some((fit, key));
            }
        }
        best.map_or(Key::Unknown, |(_, key)| key.clone())
    }
}

/// A key as it stands, without whose it is.
fn key(words: &[&str], place: &Place, notes: &mut Notes) -> Key {
    match words {
        ["0", key] | [key] => plain_key(key, place, notes),
        ["6" | "7", _] => {
            notes.add(
                place,
                "the key is encrypted: set the variable that the manifest names, or put it there",
            );
            Key::Unknown
        }
        _ => {
            notes.add(place, "the key is not taken over: set the variable that the manifest names");
            Key::Unknown
        }
    }
}

/// An address, a subnet, or what stands for an address.
fn of_address(words: &[&str], place: &Place, notes: &mut Notes) -> Option<Of> {
    let found = match words {
        [address] if address.contains('/') => {
            address.parse().map_err(|error: tenants::CidrError| error.to_string())
        }
        ["0.0.0.0"] => subnet("0.0.0.0", "0.0.0.0", Masks::Network),
        [address] if address.starts_with('<') => return Some(Of::Host((*address).to_owned())),
        [address] => address.parse().map(Cidr::host).map_err(|_| format!("{address} is no address")),
        [address, mask, ..] => subnet(address, mask, Masks::Network),
        [] => Err("no address".to_owned()),
    };
    found.map(Of::Subnet).map_err(|fault| notes.add(place, fault)).ok()
}

/// `KEY address 192.0.2.1`, `0 KEY hostname name`.
pub(super) fn key_of_line(keys: &mut Keys, words: &[&str], place: &Place, notes: &mut Notes) {
    let at = words.iter().skip(1).position(|word| ["address", "ipv6", "hostname"].contains(word));
    let Some((said, [kind, of @ ..])) = at.and_then(|at| words.split_at_checked(at + 1)) else {
        return notes.add(place, "the key is not taken over");
    };
    let of: Vec<&str> = of.iter().copied().filter(|word| *word != "no-xauth").collect();
    let of = match (*kind, of.as_slice()) {
        ("hostname", [name, ..]) => Some(Of::Host((*name).to_owned())),
        (_, of) => of_address(of, place, notes),
    };
    let key = key(said, place, notes);
    keys.0.extend(of.map(|of| (of, key)));
}

/// The lines of a ring.
pub(super) fn keyring(keys: &mut Keys, body: &[Line], notes: &mut Notes) {
    let (mut whose, mut said) = (Vec::new(), None);
    for line in body {
        let place = &line.place;
        match line.words().as_slice() {
            // IKEv1 says both in a line.
            ["pre-shared-key", kind @ ("address" | "hostname" | "ipv6"), rest @ ..] => {
                let at = rest.iter().position(|word| *word == "key").unwrap_or(rest.len());
                let (of, key) = rest.split_at_checked(at).unwrap_or((rest, &[]));
                let words = [key.get(1..).unwrap_or_default(), &[*kind], of].concat();
                key_of_line(keys, &words, place, notes);
            }
            ["peer", _] => flush(keys, &mut whose, &mut said),
            ["address", rest @ ..] => whose.extend(of_address(rest, place, notes)),
            ["hostname", name] => whose.push(Of::Host((*name).to_owned())),
            ["identity", kind @ ("address" | "fqdn" | "email" | "key-id"), id] => {
                let of = super::ios_parts::of_kind(kind, &[*id], place, notes);
                whose.extend(of.map(Of::Identity));
            }
            ["identity", ..] => notes.add(place, "a key for several identities is not taken over"),
            ["pre-shared-key", "remote", ..] => {
                notes.add(
                    place,
                    "Culvert has one key for both directions: that of the other direction is taken",
                );
                said.get_or_insert(Key::Unknown);
            }
            ["pre-shared-key", "local", rest @ ..] | ["pre-shared-key", rest @ ..] => {
                said = Some(key(rest, place, notes));
            }
            ["description", ..] => {}
            _ => notes.add(place, "not taken over"),
        }
    }
    flush(keys, &mut whose, &mut said);
}

/// The key of a `peer`, which is read to its end.
fn flush(keys: &mut Keys, whose: &mut Vec<Of>, said: &mut Option<Key>) {
    if let Some(key) = said.take() {
        keys.0.extend(whose.iter().map(|of| (of.clone(), key.clone())));
    }
    whose.clear();
}
