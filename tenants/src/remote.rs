//! Where a peer may come from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::cidr::{Cidr, CidrError};
use crate::host_name::{HostName, Names};

/// An element of `remote_addresses`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RemoteAddress {
    /// One address, and the UDP port to initiate to if it is not the usual one.
    Host(IpAddr, Option<u16>),
    /// Any address of a subnet.
    Subnet(Cidr),
    /// The addresses that a name resolves to, and the port as above.
    Name(HostName, Option<u16>),
}

impl RemoteAddress {
    /// The addresses it stands for, where that is no matter of a resolver. The port does not count: behind a NAT the peer's is
    /// any.
    pub fn subnet(&self) -> Option<Cidr> {
        match self {
            Self::Host(address, _) => Some(Cidr::host(*address)),
            Self::Subnet(subnet) => Some(*subnet),
            Self::Name(..) => None,
        }
    }

    /// Where we can initiate to it: at one address, or at those of a name, and not at any of a subnet.
    pub(crate) const fn is_destination(&self) -> bool {
        matches!(self, Self::Host(..) | Self::Name(..))
    }

    fn admits(&self, address: IpAddr, names: &Names) -> bool {
        match self {
            Self::Host(host, _) => *host == address,
            Self::Subnet(subnet) => subnet.contains(address),
            Self::Name(name, _) => names.is_at(name, address),
        }
    }
}

/// True if a peer that may come from `addresses` may come from `address`.
pub(crate) fn admits(addresses: &[RemoteAddress], address: IpAddr, names: &Names) -> bool {
    addresses.is_empty() || addresses.iter().any(|remote| remote.admits(address, names))
}

/// True if some address is in both, whatever names resolve to; an empty list stands for all. Two names may turn out to be
/// one address: then the key tells whose negotiation it is.
pub(crate) fn overlap(a: &[RemoteAddress], b: &[RemoteAddress]) -> bool {
    let common = |a: &RemoteAddress, b: &RemoteAddress| match (a, b) {
        (RemoteAddress::Name(a, _), RemoteAddress::Name(b, _)) => a == b,
        (a, b) => a.subnet().zip(b.subnet()).is_some_and(|(a, b)| a.overlaps(&b)),
    };
    a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| common(a, b)))
}

impl FromStr for RemoteAddress {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        const EXPECTED: &str = "192.0.2.1, 192.0.2.1:4500, [2001:db8::1]:4500, 192.0.2.0/24, branch.example.net or branch.example.net:4500";
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Host(address.to_canonical(), None));
        }
        if text.contains('/') {
            return text.parse().map(Self::Subnet);
        }
        if let Ok(address) = text.parse::<SocketAddr>()
            && address.port() != 0
        {
            return Ok(Self::Host(address.ip().to_canonical(), Some(address.port())));
        }
        let fault = |fault: &str| CidrError::new(text, format!("{fault}; expected {EXPECTED}"));
        let (name, port) = match text.rsplit_once(':') {
            // More colons are of a broken IPv6 address.
            Some((name, _)) if name.contains(':') => return Err(fault("not an address")),
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let number = |port: &str| {
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            port.parse().ok().filter(|port| digits && *port != 0)
        };
        let name = name.parse().map_err(fault)?;
        match port.map(number) {
            Some(None) => Err(fault("the port is not 1 to 65535")),
            port => Ok(Self::Name(name, port.flatten())),
        }
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address, None) => write!(f, "{address}"),
            Self::Host(address, Some(port)) => write!(f, "{}", SocketAddr::new(*address, *port)),
            Self::Subnet(subnet) => write!(f, "{subnet}"),
            Self::Name(name, None) => write!(f, "{name}"),
            Self::Name(name, Some(port)) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<RemoteAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn admits(addresses: &[RemoteAddress], address: &str, names: &Names) -> bool {
        super::admits(addresses, address.parse().unwrap(), names)
    }

    #[test]
    fn forms_round_trip() {
        for text in [
            "192.0.2.1",
            "192.0.2.1:4500",
            "2001:db8::1",
            "[2001:db8::1]:500",
            "192.0.2.0/24",
            "::/0",
            "gateway.example.org",
            "gateway.example.org:4500",
            "localhost",
        ] {
            assert_eq!(text.parse::<RemoteAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "Gateway.Example:500".parse::<RemoteAddress>().unwrap().to_string(),
            "gateway.example:500"
        );
    }

    #[test]
    fn what_looks_like_a_broken_address_is_no_name() {
        for (text, fault) in [
            ("192.0.2.1:0", "neither an address nor a host name"),
            ("192.0.2.1:99999", "neither an address nor a host name"),
            ("10.0.0.300", "neither an address nor a host name"),
            ("10.0.0.300:500", "neither an address nor a host name"),
            ("192.0.2.1/24", "did you mean 192.0.2.0/24"),
            ("10.0.0.0/33", "is not 0 to 32"),
            ("gateway.example/24", "not an address before the '/'"),
            ("2001:db8:::1", "not an address"),
            ("fe80::1%eth0", "not an address"),
            ("gateway.example:0", "the port is not 1 to 65535"),
            ("gateway.example:+5", "the port is not 1 to 65535"),
            ("gateway.example:", "the port is not 1 to 65535"),
            ("gate way", "not a host name; expected 192.0.2.1"),
            ("", "not a host name"),
        ] {
            let error = text.parse::<RemoteAddress>().unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
        }
    }

    #[test]
    fn an_empty_list_is_everywhere() {
        let (none, host, net) = (parse(&[]), parse(&["192.0.2.1:500"]), parse(&["192.0.2.0/24"]));
        assert!(overlap(&none, &host) && overlap(&host, &net) && overlap(&none, &none));
        assert!(!overlap(&host, &parse(&["192.0.2.2", "2001:db8::/32"])));
        let names = Names::default();
        assert!(admits(&none, "::1", &names) && admits(&net, "192.0.2.77", &names));
        assert!(!admits(&host, "192.0.2.2", &names));
    }

    #[test]
    fn a_name_admits_the_addresses_that_it_last_resolved_to() {
        let (named, names) = (parse(&["gw.example:4500", "198.51.100.0/24"]), Names::default());
        assert!(!admits(&named, "192.0.2.1", &names), "an unresolved name admits nobody");
        names.note(&"gw.example".parse().unwrap(), Ok(vec!["192.0.2.1".parse().unwrap()]));
        assert!(admits(&named, "192.0.2.1", &names) && admits(&named, "198.51.100.7", &names));
        assert!(!admits(&named, "192.0.2.2", &names));
        assert!(overlap(&named, &parse(&["GW.example"])) && !overlap(&named, &parse(&["other.example"])));
    }
}
