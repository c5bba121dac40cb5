//! NATs of the kinds of RFC 4787: how they map, what they let in, and when they forget.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// When two packets of one inner address get the same outer port (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Always.
    EndpointIndependent,
    /// When they go to the same address.
    AddressDependent,
    /// When they go to the same address and port ("symmetric").
    AddressAndPortDependent,
}

/// Whose packets are let in (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those of addresses that were sent to.
    AddressDependent,
    /// Those of addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// The kind of a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKind {
    /// How it maps.
    pub mapping: Mapping,
    /// What it lets in.
    pub filtering: Filtering,
    /// How long a mapping lives without an outbound packet (RFC 4787 REQ-5: two minutes at least).
    pub expiry: Duration,
}

impl NatKind {
    /// All nine combinations, with mappings that live a little longer than keepalives need.
    pub fn all() -> impl Iterator<Item = Self> {
        let mappings =
            [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
        let filterings =
            [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
        mappings.into_iter().flat_map(move |mapping| {
            filterings.map(|filtering| Self { mapping, filtering, expiry: Duration::from_secs(60) })
        })
    }
}

#[derive(Debug)]
struct Entry {
    inner: SocketAddr,
    /// What the mapping depends on.
    key: Option<(IpAddr, Option<u16>)>,
    outer: u16,
    last: Duration,
    sent_to: Vec<SocketAddr>,
}

/// A NAT with one public address.
#[derive(Debug)]
pub struct Nat {
    kind: NatKind,
    public: IpAddr,
    entries: Vec<Entry>,
    next_port: u16,
}

impl Nat {
    /// A NAT of a kind.
    pub const fn new(kind: NatKind, public: IpAddr) -> Self {
        Self { kind, public, entries: Vec::new(), next_port: 20_000 }
    }

    /// Its public address.
    pub const fn public(&self) -> IpAddr {
        self.public
    }

    /// Forgets every mapping: peers behind it appear with new ports.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    /// The outer source of a packet from inside.
    pub fn outbound(&mut self, now: Duration, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        self.expire(now);
        let key = match self.kind.mapping {
            Mapping::EndpointIndependent => None,
            Mapping::AddressDependent => Some((to.ip(), None)),
            Mapping::AddressAndPortDependent => Some((to.ip(), Some(to.port()))),
        };
        let at = match self.entries.iter().position(|e| e.inner == from && e.key == key) {
            Some(at) => at,
            None => {
                self.next_port = self.next_port.checked_add(1).unwrap_or(20_000);
                let outer = self.next_port;
                self.entries.push(Entry { inner: from, key, outer, last: now, sent_to: Vec::new() });
                self.entries.len() - 1
            }
        };
        let entry = self.entries.get_mut(at)?;
        entry.last = now;
        if !entry.sent_to.contains(&to) {
            entry.sent_to.push(to);
        }
        Some(SocketAddr::new(self.public, entry.outer))
    }

    /// The inner destination of a packet from outside, or `None` when it is filtered.
    pub fn inbound(&mut self, now: Duration, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        self.expire(now);
        let filtering = self.kind.filtering;
        let admits = |e: &&Entry| match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => e.sent_to.iter().any(|s| s.ip() == from.ip()),
            Filtering::AddressAndPortDependent => e.sent_to.contains(&from),
        };
        self.entries.iter().find(|e| e.outer == to.port()).filter(admits).map(|e| e.inner)
    }

    fn expire(&mut self, now: Duration) {
        let expiry = self.kind.expiry;
        self.entries.retain(|e| now.saturating_sub(e.last) <= expiry);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn mapping_and_filtering_are_as_the_rfc_names_them() {
        let (inner, a, a2, b) =
            (addr("10.0.0.1:500"), addr("1.1.1.1:500"), addr("1.1.1.1:4500"), addr("2.2.2.2:500"));
        for kind in NatKind::all() {
            let mut nat = Nat::new(kind, addr("9.9.9.9:1").ip());
            let outer = nat.outbound(Duration::ZERO, inner, a).unwrap();
            let same_address = nat.outbound(Duration::ZERO, inner, a2).unwrap() == outer;
            let same_all = nat.outbound(Duration::ZERO, inner, b).unwrap() == outer;
            let expected = match kind.mapping {
                Mapping::EndpointIndependent => (true, true),
                Mapping::AddressDependent => (true, false),
                Mapping::AddressAndPortDependent => (false, false),
            };
            assert_eq!((same_address, same_all), expected, "{kind:?}");
            assert_eq!(nat.inbound(Duration::ZERO, a, outer), Some(inner));
            let stranger = nat.inbound(Duration::ZERO, addr("3.3.3.3:500"), outer).is_some();
            assert_eq!(stranger, kind.filtering == Filtering::EndpointIndependent, "{kind:?}");
            let late = kind.expiry + Duration::from_secs(1);
            assert_eq!(nat.inbound(late, a, outer), None, "forgotten");
        }
    }
}
