//! Proxy IDs of PAN-OS, and the children that they make up.

use tenants::Cidr;

use crate::exchange::export::cisco::OF;
use crate::exchange::model::{Notes, Place};

/// A pair of subnets that a tunnel is for.
#[derive(Clone, Debug)]
pub(super) struct ProxyId {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) ipv4: bool,
    pub(super) device: Option<Cidr>,
    pub(super) culvert: Option<Cidr>,
}

/// Subnets of the device and of Culvert.
pub(super) type Pair = (Cidr, Cidr);
/// By the name that the device has for them.
type Named = (String, Pair);

/// The children that proxy IDs are of, as the device calls them: one for each, but where an exporter has taken a child apart into all pairs
/// of its subnets, `lan--1`, `lan--2` and so on.
pub(super) fn children_of(ids: &[ProxyId], notes: &mut Notes) -> Vec<(String, Vec<Pair>)> {
    let numbered = |name: &str| -> Option<String> {
        let (base, number) = name.rsplit_once(OF)?;
        number.parse::<usize>().is_ok().then(|| base.to_owned())
    };
    let mut groups: Vec<(Option<String>, Vec<Named>)> = Vec::new();
    for id in ids {
        let Some(pair) = id.device.zip(id.culvert) else {
            notes.add(&id.place, "the proxy ID does not say both sides: it is not taken over");
            continue;
        };
        let (base, one) = (numbered(&id.name), (id.name.clone(), pair));
        match groups.iter_mut().find(|(other, _)| base.is_some() && *other == base) {
            Some((_, group)) => group.push(one),
            None => groups.push((base, vec![one])),
        }
    }
    let mut children = Vec::new();
    for (base, group) in groups {
        let pairs: Vec<Pair> = group.iter().map(|(_, pair)| *pair).collect();
        match base {
            Some(base) if pairs.len() > 1 && are_all(&pairs) => children.push((base, pairs)),
            _ => children.extend(group.into_iter().map(|(name, pair)| (name, vec![pair]))),
        }
    }
    children
}

/// Whether these are all pairs of the subnets in them, of one address family each.
fn are_all(pairs: &[Pair]) -> bool {
    pairs.iter().all(|(device, _)| {
        let all = pairs.iter().map(|(_, culvert)| (*device, *culvert));
        all.filter(|(device, culvert)| device.is_ipv4() == culvert.is_ipv4())
            .all(|pair| pairs.contains(&pair))
    })
}
