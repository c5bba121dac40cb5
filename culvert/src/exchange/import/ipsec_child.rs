//! What a connection of `ipsec.conf` says of its child.

use ike::IkeProposal;
use tenants::Cidr;

use super::cisco::merged;
use super::dialects::proposals;
use super::ipsec::{Section, Values};
use super::{boolean, seconds};
use crate::exchange::model::{Child, Life, Notes};
use crate::exchange::suite::{NO_PFS, Suite, Word};

/// The child of a connection, by this name: `own` is the side of the device.
pub(super) fn child(
    name: String,
    section: &Section,
    values: &Values,
    (own, other): (&str, &str),
    (v1, ike): (bool, &[Suite]),
    notes: &mut Notes,
) -> Option<Child> {
    let value = |key: &str| values.get(key).map(|(value, _)| value.as_str());
    let transport = match value("type") {
        None | Some("tunnel") => false,
        Some("transport") => true,
        Some(other) => {
            notes.add(&section.place, format!("type={other} is not taken over, nor is the connection"));
            return None;
        }
    };
    let (device, culvert) = (subnets(own, values, notes), subnets(other, values, notes));
    if device.is_empty() || culvert.is_empty() {
        notes.add(&section.place, "no subnets of both sides: such a connection is not taken over");
        return None;
    }
    let cut = ["sha2-truncbug", "sha2_truncbug"].iter().find_map(|key| values.get(*key));
    let cut = cut.filter(|(value, place)| boolean(value, place, notes));
    if let Some((_, place)) = cut.filter(|_| !v1) {
        notes.add(place, "Culvert cuts SHA-256 short in IKEv1 alone: not taken over");
    }
    let truncated = cut.is_some() && v1;
    let has_pfs = has_pfs(values, notes);
    let groups = if has_pfs { renewal_groups(v1, ike) } else { Vec::new() };
    let mut esp = proposals(values.get("esp").or_else(|| values.get("phase2alg")), Some(&groups), notes);
    for suite in &mut esp {
        if !has_pfs && values.contains_key("pfs") {
            suite.groups.clear();
        }
        for word in suite.integrity.iter_mut().filter(|word| truncated && **word == "sha256") {
            *word = "sha256_96";
        }
    }
    let esp = if v1 { merged(esp) } else { esp };
    let life = ["salifetime", "keylife", "lifetime"].iter().find_map(|key| time(key, values, notes));
    Some(Child { name, transport, culvert, device, esp, life: Life { rekey: None, life }, life_bytes: None })
}

/// Whether a child is renewed with a key exchange of its own, whatever `esp` says. At Libreswan that goes without saying.
fn has_pfs(values: &Values, notes: &mut Notes) -> bool {
    if let Some((pfs, place)) = values.get("pfs") {
        return boolean(pfs, place, notes);
    }
    let of_strongswan = ["keyexchange", "leftauth", "rightauth"].iter().any(|key| values.contains_key(*key))
        || ["ike", "esp"].iter().any(|key| values.get(*key).is_some_and(|(text, _)| text.ends_with('!')));
    values.contains_key("ikev2") || !of_strongswan
}

/// The groups of IKE, as Libreswan has it, or those that Culvert has for it; and that it may be without, which leaves it to the device.
fn renewal_groups(v1: bool, ike: &[Suite]) -> Vec<Word> {
    let defaults = if v1 { IkeProposal::defaults_in_v1() } else { IkeProposal::defaults() };
    let defaults = defaults.iter().filter_map(|proposal| Suite::of_ike(&proposal.to_string()).ok());
    let all = if ike.is_empty() { defaults.collect() } else { ike.to_vec() };
    let mut groups: Vec<Word> = Vec::new();
    for group in all.iter().flat_map(|suite| suite.groups.iter().copied()).chain([NO_PFS]) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// The subnets of a side, or the side itself.
fn subnets(side: &str, values: &Values, notes: &mut Notes) -> Vec<Cidr> {
    let said = values.get(&format!("{side}subnets")).or_else(|| values.get(&format!("{side}subnet")));
    let Some((text, place)) = said else {
        let address = values.get(side).and_then(|(address, _)| address.parse().ok());
        return address.map(Cidr::host).into_iter().collect();
    };
    let mut all = Vec::new();
    for text in text.trim_matches(['{', '}']).split([',', ' ']).filter(|text| !text.is_empty()) {
        let (subnet, limits) = text.split_once('[').unwrap_or((text, ""));
        if !limits.is_empty() {
            notes.add(
                place,
                format!("{text}: a child of Culvert has subnets; a rule of the tenant can say [{limits}"),
            );
        }
        match subnet.parse().map(Cidr::host).or_else(|_| subnet.parse::<Cidr>()) {
            Ok(subnet) => all.push(subnet),
            Err(error) => notes.add(place, format!("{error}")),
        }
    }
    all
}

/// Of what is said under this key the seconds, unless they are none.
pub(super) fn time(key: &str, values: &Values, notes: &mut Notes) -> Option<u64> {
    let (value, place) = values.get(key)?;
    let time = seconds(value);
    if time.is_none() {
        notes.add(place, format!("{key}={value} is no time"));
    }
    time.filter(|time| *time > 0)
}
