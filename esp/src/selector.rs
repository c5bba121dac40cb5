//! Traffic selectors (RFC 7296 section 3.13.1) and the check of RFC 4301 section 5.2.

use std::fmt;
use std::net::IpAddr;

use crate::ip::PacketInfo;

/// One range of addresses, protocol and ports. Both ends of a range are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selector {
    /// IP protocol; 0 for any.
    pub protocol: u8,
    /// Lowest address.
    pub start: IpAddr,
    /// Highest address, of the same family.
    pub end: IpAddr,
    /// Lowest port. For ICMP: type in the high octet, code in the low one.
    pub start_port: u16,
    /// Highest port. `start_port` 65535 with `end_port` 0 is OPAQUE: only packets without visible ports.
    pub end_port: u16,
}

impl Selector {
    /// Every protocol and port of an address range.
    pub fn range(start: IpAddr, end: IpAddr) -> Self {
        Self { protocol: 0, start, end, start_port: 0, end_port: u16::MAX }
    }

    /// Every protocol and port of the network `address/prefix`; a prefix longer than the address means one host.
    pub fn subnet(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let bits = address.to_bits();
                Self::range(IpAddr::V4((bits & !host).into()), IpAddr::V4((bits | host).into()))
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let bits = address.to_bits();
                Self::range(IpAddr::V6((bits & !host).into()), IpAddr::V6((bits | host).into()))
            }
        }
    }

    /// Whether a packet with this address on this selector's side is inside.
    ///
    /// `port` is `None` for packets that show none: protocols without ports and fragments other than the first. Those
    /// match only a selector of all ports or OPAQUE (RFC 4301 section 4.4.1.1).
    #[inline]
    pub fn matches(&self, address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        (self.protocol == 0 || self.protocol == protocol) && self.contains(address) && self.has_port(port)
    }

    /// Whether the address is in the range; never across families.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.start, self.end, address) {
            // As numbers, which compare in a step; octet by octet it would be a hundred instructions for every packet.
            (IpAddr::V4(start), IpAddr::V4(end), IpAddr::V4(address)) => {
                (start.to_bits()..=end.to_bits()).contains(&address.to_bits())
            }
            (IpAddr::V6(start), IpAddr::V6(end), IpAddr::V6(address)) => {
                (start.to_bits()..=end.to_bits()).contains(&address.to_bits())
            }
            _ => false,
        }
    }

    fn has_port(&self, port: Option<u16>) -> bool {
        match port {
            _ if self.start_port == 0 && self.end_port == u16::MAX => true,
            Some(port) => self.start_port <= port && port <= self.end_port,
            None => self.start_port == u16::MAX && self.end_port == 0,
        }
    }

    /// The prefix length, when the range is exactly one network.
    pub fn prefix(&self) -> Option<u8> {
        let (low, high, width) = match (self.start, self.end) {
            (IpAddr::V4(low), IpAddr::V4(high)) => {
                (u128::from(low.to_bits()), u128::from(high.to_bits()), 32)
            }
            (IpAddr::V6(low), IpAddr::V6(high)) => (low.to_bits(), high.to_bits(), 128u32),
            _ => return None,
        };
        let host = low ^ high;
        let host_bits = u128::BITS - host.leading_zeros();
        // One network: the bits that differ are all the low ones, zero below and one above.
        let whole = host.count_ones() == host_bits && low & host == 0;
        whole.then_some((width - host_bits) as u8)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            Some(prefix) => write!(f, "{}/{prefix}", self.start)?,
            None => write!(f, "{}-{}", self.start, self.end)?,
        }
        if self.protocol != 0 {
            write!(f, "[{}]", self.protocol)?;
        }
        match (self.start_port, self.end_port) {
            (0, u16::MAX) => Ok(()),
            (u16::MAX, 0) => f.write_str("[opaque]"),
            (low, high) if low == high => write!(f, "[port {low}]"),
            (low, high) => write!(f, "[ports {low}-{high}]"),
        }
    }
}

/// What a Child SA carries: traffic between any of `local` and any of `remote`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectorPair {
    /// Our side.
    pub local: Vec<Selector>,
    /// The peer's side.
    pub remote: Vec<Selector>,
}

impl SelectorPair {
    /// Whether a packet that came from the peer is inside (RFC 4301 section 5.2, step 4).
    pub fn matches_inbound(&self, packet: &PacketInfo) -> bool {
        matches_any(&self.remote, packet.source, packet.protocol, packet.source_port)
            && matches_any(&self.local, packet.destination, packet.protocol, packet.destination_port)
    }

    /// Whether a packet may be sent to the peer.
    pub fn matches_outbound(&self, packet: &PacketInfo) -> bool {
        matches_any(&self.local, packet.source, packet.protocol, packet.source_port)
            && matches_any(&self.remote, packet.destination, packet.protocol, packet.destination_port)
    }
}

fn matches_any(selectors: &[Selector], address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
    selectors.iter().any(|selector| selector.matches(address, protocol, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        ]
    }

    fn bits(address: IpAddr) -> (bool, u128) {
        match address {
            IpAddr::V4(address) => (true, u128::from(address.to_bits())),
            IpAddr::V6(address) => (false, address.to_bits()),
        }
    }

    proptest! {
        #[test]
        fn range_is_a_range(start in address(), end in address(), probe in address()) {
            let selector = Selector::range(start, end);
            let same = bits(start).0 == bits(end).0 && bits(start).0 == bits(probe).0;
            let inside = same && bits(start).1 <= bits(probe).1 && bits(probe).1 <= bits(end).1;
            prop_assert_eq!(selector.matches(probe, 6, Some(80)), inside);
            prop_assert_eq!(selector.matches(probe, 6, None), inside);
        }

        #[test]
        fn subnet_has_its_prefix(address in address(), prefix in 0u8..=128) {
            let width = if address.is_ipv4() { 32 } else { 128 };
            let selector = Selector::subnet(address, prefix);
            prop_assert!(selector.contains(address));
            prop_assert_eq!(selector.prefix(), Some(prefix.min(width)));
        }

        #[test]
        fn ports_and_protocol(start in any::<u16>(), end in any::<u16>(), port in any::<u16>(),
                              protocol in any::<u8>(), wanted in any::<u8>()) {
            let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let selector = Selector { protocol: wanted, start_port: start, end_port: end, ..Selector::range(host, host) };
            let protocol_fits = wanted == 0 || wanted == protocol;
            prop_assert_eq!(selector.matches(host, protocol, Some(port)), protocol_fits && start <= port && port <= end);
            let any_or_opaque = (start, end) == (0, u16::MAX) || (start, end) == (u16::MAX, 0);
            prop_assert_eq!(selector.matches(host, protocol, None), protocol_fits && any_or_opaque);
        }
    }

    #[test]
    fn opaque_takes_only_packets_without_ports() {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let selector = Selector { start_port: u16::MAX, end_port: 0, ..Selector::range(host, host) };
        assert!(selector.matches(host, 17, None));
        assert!(!selector.matches(host, 17, Some(0)));
        assert!(!selector.matches(host, 17, Some(u16::MAX)));
    }

    #[test]
    fn prints_as_people_write_it() {
        let subnet = Selector::subnet("10.1.2.3".parse().unwrap(), 16);
        assert_eq!(subnet.to_string(), "10.1.0.0/16");
        let odd = Selector::range("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap());
        assert_eq!(odd.to_string(), "10.0.0.1-10.0.0.9");
        let web = Selector { protocol: 6, start_port: 443, end_port: 443, ..subnet };
        assert_eq!(web.to_string(), "10.1.0.0/16[6][port 443]");
        assert_eq!(Selector::subnet("::".parse().unwrap(), 0).to_string(), "::/0");
    }
}
