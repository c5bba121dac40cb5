//! Identification (RFC 2407 section 4.6.2): who a peer is in phase 1, and what an SA is for in phase 2.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::identity::{Identity, MAX_IDENTITY};
use crate::wire::error::WireError;
use crate::wire::numbers::IdType;
use crate::wire::reader::Reader;
use crate::wire::ts::TrafficSelector;

/// The body of an Identification payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    /// The kind of identity.
    pub(crate) kind: IdType,
    /// IP protocol, 0 for any.
    pub(crate) protocol: u8,
    /// Port, 0 for any.
    pub(crate) port: u16,
    /// The identity, address, subnet or range.
    pub(crate) data: Vec<u8>,
}

impl Id {
    /// Reads the body.
    pub(crate) fn parse(mut r: Reader<'_>) -> Result<Self, WireError> {
        let (kind, protocol, port) = (IdType(r.u8()?), r.u8()?, r.u16()?);
        let data = r.take_rest();
        if data.is_empty() || data.len() > MAX_IDENTITY {
            return Err(WireError::BadField("identity length"));
        }
        Ok(Self { kind, protocol, port, data: data.to_vec() })
    }

    /// The body octet by octet: IDii_b and IDir_b of RFC 2409 section 5.
    pub(crate) fn body(&self) -> Vec<u8> {
        let [high, low] = self.port.to_be_bytes();
        [&[self.kind.0, self.protocol, high, low], self.data.as_slice()].concat()
    }

    /// An identity of phase 1. The kinds that IKEv2 has too have the same numbers.
    pub(crate) fn of_identity(identity: &Identity) -> Self {
        Self { kind: identity.kind, protocol: 0, port: 0, data: identity.data.clone() }
    }

    /// The identity, unless it is one of many addresses, which nobody is.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match self.kind {
            IdType::IPV4_SUBNET | IdType::IPV6_SUBNET | IdType::IPV4_RANGE | IdType::IPV6_RANGE => None,
            kind => Some(Identity { kind, data: self.data.clone() }),
        }
    }

    /// What stands for a selector: a host, a subnet where the range is one, else a range. `None` where there are several
    /// ports but not all of them, or a port of no protocol, which cannot be said.
    pub(crate) fn of_selector(selector: &TrafficSelector) -> Option<Self> {
        let TrafficSelector { protocol, start_port, end_port, start, end } = *selector;
        let port = match (start_port, end_port) {
            (0, u16::MAX) => 0,
            (start, end) if start == end && start != 0 && protocol != 0 => start,
            _ => return None,
        };
        let (kind, data) = match (start, end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => {
                let kinds = [IdType::ID_IPV4_ADDR, IdType::IPV4_SUBNET, IdType::IPV4_RANGE];
                addresses(kinds, start.octets(), end.octets())?
            }
            (IpAddr::V6(start), IpAddr::V6(end)) => {
                let kinds = [IdType::ID_IPV6_ADDR, IdType::IPV6_SUBNET, IdType::IPV6_RANGE];
                addresses(kinds, start.octets(), end.octets())?
            }
            _ => return None,
        };
        Some(Self { kind, protocol, port, data })
    }

    /// The selector that it stands for. `None` for names, reversed ranges, masks with holes, a port of no protocol and data
    /// of another length than its kind has.
    pub(crate) fn selector(&self) -> Option<TrafficSelector> {
        let (start, end) = match self.kind {
            IdType::ID_IPV4_ADDR => host(v4(&self.data)?),
            IdType::ID_IPV6_ADDR => host(v6(&self.data)?),
            IdType::IPV4_SUBNET => subnet(halves(&self.data, v4)?)?,
            IdType::IPV6_SUBNET => subnet(halves(&self.data, v6)?)?,
            IdType::IPV4_RANGE => halves(&self.data, v4)?,
            IdType::IPV6_RANGE => halves(&self.data, v6)?,
            _ => return None,
        };
        let (start_port, end_port) = match (self.protocol, self.port) {
            (_, 0) => (0, u16::MAX),
            (0, _) => return None,
            (_, port) => (port, port),
        };
        let protocol = self.protocol;
        (start <= end).then_some(TrafficSelector { protocol, start_port, end_port, start, end })
    }
}

impl fmt::Display for Id {
    /// As an identity or, where it is none, as a selector. Whatever a peer sends has some text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.identity(), self.selector()) {
            (Some(identity), _) => identity.fmt(f),
            (None, Some(selector)) => selector.fmt(f),
            (None, None) => write!(f, "{}:{:02x?}", self.kind, self.data),
        }
    }
}

/// The shortest way to say a range: of the kinds given for a host, a subnet and a range, with what goes with it.
fn addresses<const N: usize>(kinds: [IdType; 3], start: [u8; N], end: [u8; N]) -> Option<(IdType, Vec<u8>)> {
    let [host, subnet, range] = kinds;
    if start > end {
        return None;
    }
    if start == end {
        return Some((host, start.to_vec()));
    }
    let mask: Vec<u8> = start.iter().zip(end).map(|(a, b)| !(a ^ b)).collect();
    let aligned = start.iter().zip(&mask).all(|(octet, mask)| octet & !mask == 0);
    let (kind, second) = if aligned && contiguous(&mask) { (subnet, mask) } else { (range, end.to_vec()) };
    Some((kind, [start.to_vec(), second].concat()))
}

/// Whether no one follows a zero.
fn contiguous(mask: &[u8]) -> bool {
    let ones: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
    let leading = mask.iter().try_fold(0, |leading, octet| match octet.leading_ones() {
        8 => Ok(leading + 8),
        last => Err(leading + last),
    });
    let (Ok(leading) | Err(leading)) = leading;
    ones == leading
}

const fn host(address: IpAddr) -> (IpAddr, IpAddr) {
    (address, address)
}

fn v4(data: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into())
}

fn v6(data: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into())
}

fn halves(data: &[u8], of: fn(&[u8]) -> Option<IpAddr>) -> Option<(IpAddr, IpAddr)> {
    let (first, second) = data.split_at_checked(data.len() / 2)?;
    Some((of(first)?, of(second)?))
}

/// The first and last address of a subnet; bits of the host in its address count for nothing.
fn subnet(pair: (IpAddr, IpAddr)) -> Option<(IpAddr, IpAddr)> {
    match pair {
        (IpAddr::V4(address), IpAddr::V4(mask)) => {
            let first = address & mask;
            contiguous(&mask.octets()).then(|| (first.into(), (first | !mask).into()))
        }
        (IpAddr::V6(address), IpAddr::V6(mask)) => {
            let first = address & mask;
            contiguous(&mask.octets()).then(|| (first.into(), (first | !mask).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Identification;

    fn id(kind: IdType, data: &[u8]) -> Id {
        Id { kind, protocol: 0, port: 0, data: data.to_vec() }
    }

    fn range(start: &str, end: &str) -> TrafficSelector {
        TrafficSelector::range(start.parse().unwrap(), end.parse().unwrap())
    }

    #[test]
    fn selectors_are_said_in_the_shortest_way_and_come_back() {
        for (start, end, kind, octets) in [
            ("10.1.0.7", "10.1.0.7", IdType::ID_IPV4_ADDR, 4),
            ("10.1.0.0", "10.1.255.255", IdType::IPV4_SUBNET, 8),
            ("10.1.0.0", "10.1.0.1", IdType::IPV4_SUBNET, 8),
            ("0.0.0.0", "255.255.255.255", IdType::IPV4_SUBNET, 8),
            ("10.1.0.1", "10.1.0.2", IdType::IPV4_RANGE, 8),
            ("10.1.0.0", "10.1.0.2", IdType::IPV4_RANGE, 8),
            ("10.1.0.128", "10.1.1.127", IdType::IPV4_RANGE, 8),
            ("2001:db8::1", "2001:db8::1", IdType::ID_IPV6_ADDR, 16),
            ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", IdType::IPV6_SUBNET, 32),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", IdType::IPV6_SUBNET, 32),
            ("2001:db8::1", "2001:db8::9", IdType::IPV6_RANGE, 32),
        ] {
            let selector = range(start, end);
            let id = Id::of_selector(&selector).unwrap();
            assert_eq!((id.kind, id.data.len(), id.protocol, id.port), (kind, octets, 0, 0), "{selector}");
            assert_eq!(id.selector(), Some(selector));
            assert_eq!(Id::parse(Reader::new(&id.body())), Ok(id));
        }
    }

    #[test]
    fn one_port_or_all_of_them_can_be_said() {
        let all = range("10.1.0.7", "10.1.0.7");
        for (protocol, start_port, end_port, said) in [
            (6, 80, 80, Some(80)),
            (6, 0, u16::MAX, Some(0)),
            (17, u16::MAX, u16::MAX, Some(u16::MAX)),
            (6, 80, 90, None),
            // Port 0 alone, OPAQUE, and a port of any protocol.
            (6, 0, 0, None),
            (6, u16::MAX, 0, None),
            (0, 80, 80, None),
        ] {
            let selector = TrafficSelector { protocol, start_port, end_port, ..all };
            let id = Id::of_selector(&selector);
            assert_eq!(id.as_ref().map(|id| id.port), said, "{selector}");
            assert!(id.is_none_or(|id| id.selector() == Some(selector) && id.protocol == protocol));
        }
        let odd = Id { port: 80, ..id(IdType::ID_IPV4_ADDR, &[10, 1, 0, 7]) };
        assert_eq!(odd.selector(), None);
    }

    /// An identification of another kind than was expected brought libreswan down (CVE-2023-38711).
    #[test]
    fn what_is_no_selector_is_none() {
        for kind in [2, 3, 9, 10, 11, 12, 0, 255] {
            for data in [&[10, 0, 0, 1][..], &[10, 0, 0, 0, 255, 0, 0, 0], &[0; 16], &[0; 32], b"name"] {
                assert_eq!(id(IdType(kind), data).selector(), None, "{kind}");
            }
        }
        for kind in [1, 4, 5, 6, 7, 8] {
            let kind = IdType(kind);
            let octets = match kind {
                IdType::ID_IPV4_ADDR => 4,
                IdType::IPV4_SUBNET | IdType::IPV4_RANGE => 8,
                IdType::ID_IPV6_ADDR => 16,
                _ => 32,
            };
            for length in 0..=40 {
                assert_eq!(
                    id(kind, &vec![0; length]).selector().is_some(),
                    length == octets,
                    "{kind} {length}"
                );
            }
        }
        // Reversed, and masks with holes.
        assert_eq!(id(IdType::IPV4_RANGE, &[10, 0, 0, 2, 10, 0, 0, 1]).selector(), None);
        for mask in [[255, 0, 255, 0], [0, 255, 255, 255], [255, 255, 253, 0], [0, 0, 0, 1]] {
            assert_eq!(id(IdType::IPV4_SUBNET, &[&[10, 0, 0, 0], &mask[..]].concat()).selector(), None);
        }
        // Bits of the host do not count.
        let odd = id(IdType::IPV4_SUBNET, &[10, 1, 2, 3, 255, 255, 0, 0]);
        assert_eq!(odd.selector(), Some(range("10.1.0.0", "10.1.255.255")));
        let reversed =
            TrafficSelector { start: [10, 0, 0, 2].into(), end: [10, 0, 0, 1].into(), ..range("::", "::") };
        assert_eq!(Id::of_selector(&reversed), None);
    }

    #[test]
    fn identities_go_there_and_back() {
        for text in ["branch-1.acme.example", "alice@acme.example", "10.0.0.1", "2001:db8::1", "keyid:x"] {
            let identity: Identity = text.parse().unwrap();
            let id = Id::of_identity(&identity);
            assert_eq!((id.protocol, id.port), (0, 0));
            assert_eq!(id.body(), Identification::from(identity.clone()).body());
            assert_eq!(id.identity(), Some(identity));
        }
        for kind in [4, 6, 7, 8] {
            assert_eq!(id(IdType(kind), &[0; 8]).identity(), None);
        }
        // What phase 1 usually has in it beside the identity.
        let id = Id { protocol: 17, port: 500, ..id(IdType::ID_FQDN, b"a.example") };
        assert_eq!(id.body()[..4], [2, 17, 0x01, 0xf4]);
        assert_eq!(id.identity(), Some(Identity::fqdn("a.example")));
    }

    /// Malformed packets brought libreswan down when they were logged (CVE-2020-1763, CVE-2022-23094).
    #[test]
    fn whatever_a_peer_sends_prints() {
        for (kind, data, text) in [
            (IdType::ID_FQDN, &b"a.example"[..], "a.example"),
            (IdType::ID_IPV4_ADDR, &[10, 0, 0, 1], "10.0.0.1"),
            (IdType::IPV4_SUBNET, &[10, 1, 0, 0, 255, 255, 0, 0], "10.1.0.0/16"),
            (IdType::IPV4_RANGE, &[10, 0, 0, 1, 10, 0, 0, 5], "10.0.0.1-10.0.0.5"),
            (IdType::IPV4_SUBNET, &[7], "IdType(4):[07]"),
            (IdType::IPV6_RANGE, &[], "IdType(8):[]"),
            (IdType::ID_FQDN, &[0xff, 0], "ID_FQDN:[ff, 00]"),
        ] {
            assert_eq!(id(kind, data).to_string(), text);
        }
    }

    /// Names of a length that they cannot have brought strongSwan down (CVE-2013-6075).
    #[test]
    fn a_distinguished_name_of_any_length_is_but_octets() {
        for length in 1..10 {
            let id = id(IdType::ID_DER_ASN1_DN, &vec![0x30; length]);
            let identity = id.identity().unwrap();
            assert!(!identity.to_string().is_empty());
            assert_eq!((&identity.data, id.selector()), (&id.data, None));
        }
        let long = [vec![11, 0, 0, 0], vec![1; MAX_IDENTITY]].concat();
        assert!(Id::parse(Reader::new(&long)).is_ok());
        let longer = [long, vec![1]].concat();
        assert_eq!(Id::parse(Reader::new(&longer)), Err(WireError::BadField("identity length")));
    }
}
