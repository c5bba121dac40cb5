//! Identification (RFC 2407 section 4.6.2): who a peer is in phase 1, and what an SA is for in phase 2.

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
