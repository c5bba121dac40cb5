//! Where a peer may come from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::cidr::{Cidr, CidrError};

/// An element of `remote_addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteAddress {
    /// One address, and the UDP port to initiate to if it is not the usual one.
    Host(IpAddr, Option<u16>),
    /// Any address of a subnet.
    Subnet(Cidr),
}

impl RemoteAddress {
    /// The addresses it stands for. The port does not count: behind a NAT the peer's is any.
    pub fn subnet(&self) -> Cidr {
        match self {
            Self::Host(address, _) => Cidr::host(*address),
            Self::Subnet(subnet) => *subnet,
        }
    }
}

/// True if a peer that may come from `addresses` may come from `address`.
pub(crate) fn admits(addresses: &[RemoteAddress], address: IpAddr) -> bool {
    addresses.is_empty() || addresses.iter().any(|remote| remote.subnet().contains(address))
}

/// True if some address is in both; an empty list stands for all.
pub(crate) fn overlap(a: &[RemoteAddress], b: &[RemoteAddress]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| a.subnet().overlaps(&b.subnet())))
}

impl FromStr for RemoteAddress {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Host(address.to_canonical(), None));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => {
                Ok(Self::Host(address.ip().to_canonical(), Some(address.port())))
            }
            _ if text.contains('/') => text.parse().map(Self::Subnet),
            _ => Err(CidrError::new(
                text,
                "not an address, expected 192.0.2.1, 192.0.2.1:4500, [2001:db8::1]:4500 or 192.0.2.0/24",
            )),
        }
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address, None) => write!(f, "{address}"),
            Self::Host(address, Some(port)) => write!(f, "{}", SocketAddr::new(*address, *port)),
            Self::Subnet(subnet) => write!(f, "{subnet}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<RemoteAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn forms_round_trip() {
        for text in
            ["192.0.2.1", "192.0.2.1:4500", "2001:db8::1", "[2001:db8::1]:500", "192.0.2.0/24", "::/0"]
        {
            assert_eq!(text.parse::<RemoteAddress>().unwrap().to_string(), text);
        }
        for text in ["gateway.example.org", "192.0.2.1:0", "192.0.2.1:99999", "192.0.2.1/24", ""] {
            assert!(text.parse::<RemoteAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_list_is_everywhere() {
        let (none, host, net) = (parse(&[]), parse(&["192.0.2.1:500"]), parse(&["192.0.2.0/24"]));
        assert!(overlap(&none, &host) && overlap(&host, &net) && overlap(&none, &none));
        assert!(!overlap(&host, &parse(&["192.0.2.2", "2001:db8::/32"])));
        assert!(admits(&none, "::1".parse().unwrap()) && admits(&net, "192.0.2.77".parse().unwrap()));
        assert!(!admits(&host, "192.0.2.2".parse().unwrap()));
    }
}
