//! Subnets in CIDR notation, strict: what is meant must be what is written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A subnet. Its host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A text that is not a subnet; displays as the text, the fault and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}: {fault}")]
pub struct CidrError {
    text: String,
    fault: String,
}

impl CidrError {
    /// The text is cut: it may be anything.
    pub(crate) fn new(text: &str, fault: impl Into<String>) -> Self {
        Self { text: text.chars().take(64).collect(), fault: fault.into() }
    }
}

impl Cidr {
    /// `0.0.0.0/0`.
    pub const EVERYTHING_V4: Self = Self { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), prefix: 0 };

    /// The subnet of `address` with `prefix` bits; host bits are cleared. `None` if the prefix is too long.
    pub fn truncated(address: IpAddr, prefix: u8) -> Option<Self> {
        if prefix > width(address) {
            return None;
        }
        Some(Self { address: from_bits(address, bits(address) & network_mask(address, prefix)), prefix })
    }

    /// The subnet of one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: width(address) }
    }

    /// Length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// The last address, that of all host bits set.
    pub fn last(&self) -> IpAddr {
        from_bits(self.address, bits(self.address) | !network_mask(self.address, self.prefix))
    }

    /// True if it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// True if `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::truncated(address, self.prefix).is_some_and(|other| other == *self)
    }

    /// True if they have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let fault = |fault: String| Err(CidrError::new(text, fault));
        let (address, prefix) = match text.split_once('/') {
            Some(parts) => parts,
            None => {
                return match text.parse::<IpAddr>() {
                    Ok(address) => fault(format!("no prefix length, did you mean {}", Cidr::host(address))),
                    Err(_) => {
                        fault("not a subnet, expected the form 10.0.0.0/24 or 2001:db8::/32".to_owned())
                    }
                };
            }
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return fault(
                "not an address before the '/', expected the form 10.0.0.0/24 or 2001:db8::/32".to_owned(),
            );
        };
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return fault(format!(
                "an IPv4 address in IPv6 notation, write {v4} with its IPv4 prefix length"
            ));
        }
        // Digits only: `parse` would take "+24".
        let length =
            if prefix.bytes().all(|b| b.is_ascii_digit()) { prefix.parse::<u8>().ok() } else { None };
        let Some(subnet) = length.and_then(|length| Self::truncated(address, length)) else {
            return fault(format!("prefix length {prefix:?} is not 0 to {}", width(address)));
        };
        if subnet.address != address {
            return fault(format!("host bits set, did you mean {subnet}"));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bits of an address of this family.
pub(crate) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of the family of `like` with these bits; those beyond its width are ignored.
fn from_bits(like: IpAddr, bits: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32)),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::from_bits(bits)),
    }
}

/// Ones for the bits of the network; the prefix must not be longer than the address.
fn network_mask(address: IpAddr, prefix: u8) -> u128 {
    let host_bits = u32::from(width(address) - prefix);
    u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &str) -> String {
        text.parse::<Cidr>().unwrap_err().to_string()
    }

    #[test]
    fn faults_say_what_may_have_been_meant() {
        assert_eq!(fault("10.0.0.1/24"), "10.0.0.1/24: host bits set, did you mean 10.0.0.0/24");
        assert_eq!(fault("2001:db8::1/32"), "2001:db8::1/32: host bits set, did you mean 2001:db8::/32");
        assert_eq!(fault("10.0.0.1"), "10.0.0.1: no prefix length, did you mean 10.0.0.1/32");
        assert_eq!(fault("10.0.0.0/33"), "10.0.0.0/33: prefix length \"33\" is not 0 to 32");
        assert_eq!(fault("10.0.0.0/+8"), "10.0.0.0/+8: prefix length \"+8\" is not 0 to 32");
        assert_eq!(fault("10.0.0.0/"), "10.0.0.0/: prefix length \"\" is not 0 to 32");
        assert!(fault("10.0.0/24").contains("not an address"));
        assert!(fault("lan").contains("expected the form"));
        assert!(fault("::ffff:10.0.0.0/120").contains("10.0.0.0"));
    }

    #[test]
    fn the_ends_of_the_range() {
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert_eq!(all.last().to_string(), "255.255.255.255");
        assert!(!all.contains("::1".parse().unwrap()));
        let all6: Cidr = "::/0".parse().unwrap();
        assert_eq!(all6.last().to_string(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()))
        ]
    }

    proptest! {
        #[test]
        fn text_round_trips_and_host_bits_are_refused(address in any_address(), prefix in 0u8..=128) {
            let Some(subnet) = Cidr::truncated(address, prefix) else {
                return Ok(());
            };
            if !matches!(subnet.first(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
                prop_assert_eq!(subnet.to_string().parse::<Cidr>().unwrap(), subnet);
            }
            let strict = format!("{address}/{prefix}").parse::<Cidr>();
            if address != subnet.first() {
                let text = strict.unwrap_err().to_string();
                let meant = format!("did you mean {subnet}");
                prop_assert!(text.ends_with(&meant) || text.contains("IPv4"));
            }
            prop_assert!(subnet.contains(address) && subnet.contains(subnet.last()));
        }

        #[test]
        fn overlap_is_a_common_end(a in any_address(), b in any_address(), p in 0u8..=128, q in 0u8..=128) {
            if let (Some(a), Some(b)) = (Cidr::truncated(a, p), Cidr::truncated(b, q)) {
                let ranges = a.is_ipv4() == b.is_ipv4() && a.first() <= b.last() && b.first() <= a.last();
                prop_assert_eq!(a.overlaps(&b), ranges);
                prop_assert_eq!(b.overlaps(&a), ranges);
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "\\PC*") {
            let _ = text.parse::<Cidr>();
        }
    }
}
