//! The checksum of the Internet protocols (RFC 1071) and its update (RFC 1624).

/// The checksum over several pieces. All but the last must have an even number of octets.
pub(crate) fn of(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for piece in pieces {
        let (words, rest) = piece.as_chunks::<2>();
        for word in words {
            sum += u32::from(u16::from_be_bytes(*word));
            // An inner packet has at most 2^15 words, so this cannot overflow before it is folded; it is cheap anyway.
            sum = (sum & 0xffff) + (sum >> 16);
        }
        if let Some(octet) = rest.first() {
            sum += u32::from(*octet) << 8;
        }
    }
    !fold(sum)
}

/// The checksum after one 16-bit word changed (RFC 1624 equation 3).
pub(crate) fn adjust(checksum: u16, before: u16, after: u16) -> u16 {
    !fold(u32::from(!checksum) + u32::from(!before) + u32::from(after))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(of(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    proptest! {
        #[test]
        fn an_update_is_as_good_as_a_new_sum(mut data in proptest::collection::vec(any::<u8>(), 4..80), word in any::<u16>(),
                                             at in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
            let at = at.index(data.len() / 2) * 2;
            let cut = cut.index(data.len() / 2) * 2;
            let (old, before) = (of(&[&data]), u16::from_be_bytes([data[at], data[at + 1]]));
            data[at..at + 2].copy_from_slice(&word.to_be_bytes());
            // Both ways of writing zero are right.
            let same = |a: u16, b: u16| a == b || a ^ b == u16::MAX && (a == 0 || b == 0);
            prop_assert!(same(adjust(old, before, word), of(&[&data])));
            prop_assert_eq!(of(&[&data[..cut], &data[cut..]]), of(&[&data]));
        }
    }
}
