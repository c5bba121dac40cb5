//! What IOS and ASA have in common: addresses with masks, access lists, and one proposal for each choice.

use std::net::{IpAddr, Ipv4Addr};

use tenants::Cidr;

use super::Sheet;
use crate::exchange::model::{Child, Tunnel};
use crate::exchange::suite::{Suite, Word, reduced};

/// Between the name of a peer and that of its child in the name of an access list.
pub(crate) const OF: &str = "--";
/// What a remark in an access list begins with that names the child of what follows.
pub(crate) const CHILD: &str = "culvert child";
/// Policies and transform sets that are written for a list of algorithms: what a person still looks through.
pub(super) const MAX_CHOICES: usize = 8;
/// The number of the first policy or map entry, and from one to the next.
pub(super) const STEP: usize = 10;

/// The name of a child's access list, transform sets and map entries.
pub(super) fn list_name(tunnel: &Tunnel, child: &Child) -> String {
    format!("{}{OF}{}", tunnel.name, child.name)
}

/// The tunnel interface of a child; its number is an example.
pub(super) fn interface_of(tunnel: &Tunnel, child: &Child) -> String {
    let at = tunnel.children.iter().position(|other| other.name == child.name).unwrap_or_default();
    format!("Tunnel{}", 100 + at)
}

/// Pairs of subnets of the device and of Culvert, which is what an access list has, in one family.
pub(super) fn pairs(child: &Child) -> Vec<(Cidr, Cidr)> {
    let all = child.device.iter().flat_map(|device| child.culvert.iter().map(|culvert| (*device, *culvert)));
    all.filter(|(device, culvert)| device.is_ipv4() == culvert.is_ipv4()).collect()
}

/// The mask of a subnet of IPv4, or its opposite as IOS has it in access lists.
pub(super) fn mask(subnet: Cidr, wildcard: bool) -> String {
    let ones = u32::MAX.checked_shl(32 - u32::from(subnet.prefix().min(32))).unwrap_or(0);
    Ipv4Addr::from(if wildcard { !ones } else { ones }).to_string()
}

/// Whether the child is of IPv4 alone, and if not, that it is left out.
pub(super) fn only_ipv4(child: &Child, sheet: &mut Sheet) -> bool {
    let all = child.device.iter().chain(&child.culvert).all(|subnet: &Cidr| subnet.is_ipv4());
    if !all {
        sheet.note(format!(
            "child {} has subnets of IPv6, which a crypto map of the device does not take",
            child.name
        ));
    }
    all
}

/// Of the IKE proposals what the device has.
pub(super) fn ike_of(
    tunnel: &Tunnel,
    knows: impl Fn(Word) -> bool,
    sheet: &mut Sheet,
) -> Result<Vec<Suite>, String> {
    let suites = reduced(&tunnel.ike, knows, &mut sheet.notes);
    if suites.is_empty() {
        Err("the device has none of the algorithms of ike.proposals".to_owned())
    } else {
        Ok(suites)
    }
}

/// Of the ESP proposals what the device has, groups apart.
pub(super) fn esp_of(
    child: &Child,
    knows: impl Fn(Word) -> bool,
    sheet: &mut Sheet,
) -> Result<Vec<Suite>, String> {
    let groupless: Vec<Suite> =
        child.esp.iter().map(|suite| Suite { groups: Vec::new(), ..suite.clone() }).collect();
    let suites = reduced(&groupless, knows, &mut sheet.notes);
    if suites.is_empty() {
        return Err(format!("the device has none of the algorithms of child {}", child.name));
    }
    Ok(suites)
}

/// Single choices of all these.
pub(super) fn choices(suites: &[Suite], what: &str, sheet: &mut Sheet) -> Vec<Suite> {
    let all: Vec<Suite> = suites.iter().flat_map(|suite| suite.choices(usize::MAX)).collect();
    if all.len() > MAX_CHOICES {
        sheet.note(format!("of {} combinations of {what} the first {MAX_CHOICES} are written", all.len()));
    }
    all.into_iter().take(MAX_CHOICES).collect()
}

/// The address of Culvert, of IPv4 for a map.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}
