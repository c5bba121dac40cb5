//! Address ranges as prefixes.

use std::net::IpAddr;

use esp::Selector;

/// An address as a number whose top bits are the network, for both families alike.
pub(crate) fn key_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << V4_SHIFT,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of such a number.
pub(crate) fn address_of(key: u128, v4: bool) -> IpAddr {
    if v4 { IpAddr::V4(((key >> V4_SHIFT) as u32).into()) } else { IpAddr::V6(key.into()) }
}

/// Bits of an address of this family.
pub(crate) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The top `length` bits.
pub(crate) fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(u128::BITS - u32::from(length)).unwrap_or(0)
}

/// The prefixes that together are the selector's address range, at most 2 for each bit of the address.
pub(crate) fn prefixes(selector: &Selector) -> Vec<(u128, u8)> {
    let (low, high) = span(selector.start, selector.end);
    prefixes_between(low, high)
}

/// The lowest and the highest number of a range of addresses, with the bits that IPv4 does not have set in the highest.
pub(crate) fn span(start: IpAddr, end: IpAddr) -> (u128, u128) {
    (key_of(start), key_of(end) | !mask(width(start)))
}

/// The prefixes that together are the numbers from `low` to `high`.
pub(crate) fn prefixes_between(mut low: u128, high: u128) -> Vec<(u128, u8)> {
    let mut prefixes = Vec::new();
    while low <= high {
        // The largest block that starts here: bounded by the alignment of `low` and by what is left.
        let left = high - low;
        let aligned = low.trailing_zeros().min(u128::BITS);
        let fits = (left.checked_add(1)).map_or(u128::BITS, u128::ilog2);
        let host_bits = aligned.min(fits);
        prefixes.push((low, (u128::BITS - host_bits) as u8));
        match 1u128.checked_shl(host_bits).and_then(|size| low.checked_add(size)) {
            Some(next) => low = next,
            None => break,
        }
    }
    prefixes
}

const V4_SHIFT: u32 = 96;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(v4: bool, bits: u128) -> IpAddr {
        address_of(if v4 { bits << V4_SHIFT } else { bits }, v4)
    }

    proptest! {
        /// The prefixes cover the range and nothing else, each address once.
        #[test]
        fn prefixes_are_the_range(v4 in any::<bool>(), a in any::<u128>(), b in any::<u128>(), near in any::<bool>(),
                                  probe in any::<u128>()) {
            let b = if near { a.wrapping_add(b % 1000) } else { b };
            let (a, b, probe) = if v4 { (a as u32 as u128, b as u32 as u128, probe as u32 as u128) } else { (a, b, probe) };
            let selector = Selector::range(address(v4, a.min(b)), address(v4, a.max(b)));
            let prefixes = prefixes(&selector);
            prop_assert!(prefixes.len() <= 254);
            for probe in [probe, a, b, a.wrapping_sub(1), b.wrapping_add(1)] {
                let probe = address(v4, probe);
                let hits = prefixes.iter().filter(|(key, length)| key_of(probe) & mask(*length) == *key).count();
                prop_assert_eq!(hits, usize::from(selector.contains(probe)));
            }
        }
    }

    #[test]
    fn everything_is_one_prefix() {
        for text in ["0.0.0.0", "::"] {
            let all = Selector::subnet(text.parse().unwrap(), 0);
            assert_eq!(prefixes(&all), [(0, 0)]);
        }
    }
}
