//! Which children lead the same remote subnet somewhere for the same local addresses: which of two such tunnels a packet takes could
//! not be told. Made once of what is written and held against all others, for whoever writes has the lock meanwhile.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::peer::ChildSpec;

/// The subnets of some children, in their order.
pub(crate) struct Claims<'a>(Vec<Claim<'a>>);

struct Claim<'a> {
    child: &'a ChildSpec,
    remote: HashSet<Cidr>,
    local: Ranges,
}

impl<'a> Claims<'a> {
    pub(crate) fn of(children: &'a [ChildSpec]) -> Self {
        let claim = |child: &'a ChildSpec| {
            let (remote, local) =
                (child.remote_subnets.iter().copied().collect(), Ranges::of(&child.local_subnets));
            Claim { child, remote, local }
        };
        Self(children.iter().map(claim).collect())
    }

    /// The places of children and of their remote subnets that one of the others claims too.
    pub(crate) fn also_of(&self, others: &[ChildSpec]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (i, own) in self.0.iter().enumerate() {
            for other in others.iter().filter(|other| own.meets(other)) {
                // Both sides are looked through once.
                let shared: HashSet<&Cidr> = other.remote_subnets.iter().collect();
                let places = own.child.remote_subnets.iter().enumerate();
                found.extend(places.filter(|(_, subnet)| shared.contains(subnet)).map(|(k, _)| (i, k)));
            }
        }
        found
    }

    /// The places of the remote subnets of one child that a child before it claims too, and the first that does.
    pub(crate) fn also_before(&self, place: usize) -> Vec<(usize, &'a ChildSpec)> {
        let Some((own, before)) = self.0.get(..=place).and_then(<[_]>::split_last) else { return Vec::new() };
        let before: Vec<_> = before.iter().filter(|other| own.meets(other.child)).collect();
        let subnets = own.child.remote_subnets.iter().enumerate();
        let whose =
            |subnet| before.iter().find(|other| other.remote.contains(subnet)).map(|other| other.child);
        subnets.filter_map(|(k, subnet)| Some((k, whose(subnet)?))).collect()
    }
}

impl Claim<'_> {
    /// Whether a packet could be both's.
    fn meets(&self, other: &ChildSpec) -> bool {
        other.local_subnets.iter().any(|subnet| self.local.meet(subnet))
            && other.remote_subnets.iter().any(|subnet| self.remote.contains(subnet))
    }
}

/// Ranges of addresses in the order of where they begin, each with the last address of it and of all before it.
struct Ranges(Vec<(IpAddr, IpAddr)>);

impl Ranges {
    fn of(subnets: &[Cidr]) -> Self {
        let mut all: Vec<_> = subnets.iter().map(|subnet| (subnet.first(), subnet.last())).collect();
        all.sort_unstable();
        let mut furthest = None;
        for (_, last) in &mut all {
            *last = furthest.map_or(*last, |furthest| (*last).max(furthest));
            furthest = Some(*last);
        }
        Self(all)
    }

    /// Whether one of them has an address of this subnet. All of IPv4 is before all of IPv6.
    fn meet(&self, subnet: &Cidr) -> bool {
        let begun = self.0.partition_point(|(first, _)| *first <= subnet.last());
        let furthest = begun.checked_sub(1).and_then(|at| self.0.get(at)).map(|(_, last)| *last);
        furthest.is_some_and(|last| last >= subnet.first())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet() -> impl Strategy<Value = Cidr> {
        let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|([a, b, ..], prefix)| {
            Cidr::truncated(IpAddr::from([a & 3, b & 3, 0, 0]), prefix).unwrap()
        });
        let v6 = (0u16..4, 0u8..=128).prop_map(|(word, prefix)| {
            Cidr::truncated(IpAddr::from([0x2001, word, 0, 0, 0, 0, 0, 0]), prefix).unwrap()
        });
        prop_oneof![3 => v4, 1 => v6]
    }

    proptest! {
        #[test]
        fn a_subnet_meets_where_it_overlaps_one(
            all in prop::collection::vec(subnet(), 0..6),
            subnet in subnet(),
        ) {
            let expected = all.iter().any(|one| one.overlaps(&subnet));
            prop_assert_eq!(Ranges::of(&all).meet(&subnet), expected);
        }
    }
}
