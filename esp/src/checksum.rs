//! The checksum of the Internet protocols (RFC 1071) and its update (RFC 1624).

/// The checksum over several pieces. All but the last must have an even number of octets.
pub(crate) fn of(pieces: &[&[u8]]) -> u16 {
    !pieces.iter().fold(0, |so_far, piece| add(so_far, sum(piece)))
}

/// The one's complement sum of the 16-bit words, a last odd octet filled up with zero. Not complemented.
pub(crate) fn sum(octets: &[u8]) -> u16 {
    // In the byte order of the machine and four octets at a time, which the compiler turns into vector instructions: the sum of
    // swapped words is the swapped sum (RFC 1071 section 2). A packet has at most 2^14 of them, so 64 bits hold them all.
    let (words, rest) = octets.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total += u64::from(u32::from_ne_bytes(last));
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff_ffff) + (total >> 32);
    u16::from_be(fold(total as u32))
}

/// The sum of two sums.
pub(crate) fn add(a: u16, b: u16) -> u16 {
    fold(u32::from(a) + u32::from(b))
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

    /// As RFC 1071 section 1 says it.
    fn word_by_word(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in octets.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_longest_packet_does_not_overflow() {
        assert_eq!(sum(&[0xff; 65_535]), word_by_word(&[0xff; 65_535]));
    }

    proptest! {
        #[test]
        fn four_octets_at_a_time_are_as_good_as_two(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(sum(&octets), word_by_word(&octets));
        }

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
