//! Who a tunnel is: its tenant, its names and its addresses.

use std::net::{IpAddr, Ipv4Addr};

/// Tunnels of one tenant, below the peers that a tenant may have by default.
pub(crate) const TUNNELS_PER_TENANT: u32 = 500;
/// The first address that loads on loopback send from, but one; `flood` has 127.1.0.0/16.
const SOURCES: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 0);

/// A tunnel's place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) index: u32,
    pub(crate) per_tenant: u32,
}

impl Place {
    pub(crate) const fn tenant(self) -> u32 {
        self.index / self.per_tenant
    }

    pub(crate) fn peer_id(self) -> String {
        format!("p{}", self.index)
    }

    pub(crate) fn tenant_id(self) -> String {
        format!("load-{}", self.tenant())
    }

    /// What a node that is provisioned by us knows it by.
    pub(crate) fn identity(self) -> String {
        format!("{}.{}.load.example", self.peer_id(), self.tenant_id())
    }

    /// On loopback everyone has an address of its own, as peers do.
    pub(crate) fn source(self, server: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(server) = server else { return None };
        let address = Ipv4Addr::from_bits(SOURCES.to_bits() + self.index + 1);
        server.is_loopback().then(|| address.into())
    }

    /// Its address inside a tenant of ours: the same in every tenant.
    pub(crate) fn inner(self) -> Ipv4Addr {
        let [_, _, high, low] = (self.index % self.per_tenant).to_be_bytes();
        Ipv4Addr::new(10, 7, high, low)
    }

    /// Whom its flow number `flow` goes to: its neighbour in pairs first, then those behind, all of its tenant. `None` where there
    /// is nobody else, for nothing goes back into the tunnel that it came out of.
    pub(crate) fn partner(self, flow: u32, count: u32) -> Option<Self> {
        let first = self.tenant() * self.per_tenant;
        let members = self.per_tenant.min(count - first.min(count)).max(1);
        let own = self.index - first;
        let others = members.checked_sub(1).filter(|others| *others > 0)?;
        let next = if flow == 0 && own ^ 1 < members { own ^ 1 } else { (own + 1 + flow % others) % members };
        Some(Self { index: first + next, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(index: u32) -> Place {
        Place { index, per_tenant: 500 }
    }

    #[test]
    fn partners_are_of_the_same_tenant() {
        for count in [1, 2, 3, 499, 500, 501, 1203] {
            for index in 0..count {
                for flow in [0, 1, 7] {
                    let partner = place(index).partner(flow, count);
                    let alone = index % 500 == 0 && index + 1 == count;
                    assert_eq!(partner.is_none(), alone, "{index} of {count}");
                    let Some(partner) = partner else { continue };
                    assert!(partner.index < count, "{index} of {count}");
                    assert_ne!(partner, place(index), "{index} of {count}");
                    assert_eq!(partner.tenant(), place(index).tenant(), "{index} of {count}");
                }
            }
        }
        assert_eq!(place(4).partner(0, 10), Some(place(5)));
        assert_eq!(place(5).partner(0, 10), Some(place(4)));
        assert_eq!(place(2).partner(0, 3), Some(place(0)));
    }

    #[test]
    fn a_hundred_thousand_have_addresses_of_their_own() {
        let server = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let addresses: std::collections::BTreeSet<_> =
            (0..100_000).filter_map(|index| place(index).source(server)).collect();
        assert_eq!(addresses.len(), 100_000);
        assert!(addresses.iter().all(IpAddr::is_loopback));
        assert_eq!(place(0).source("192.0.2.1".parse().expect("an address")), None);
    }
}
