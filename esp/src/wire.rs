//! Layout of an ESP packet (RFC 4303 section 2): SPI, sequence number, IV, payload, padding, pad length, next header, ICV.

use crate::suite::Suite;

/// SPI and sequence number.
pub const ESP_HEADER_LEN: usize = 8;

/// The most that any suite adds to an inner packet: header 8, IV 16, padding 15, trailer 2, ICV 32.
pub const MAX_OVERHEAD: usize = ESP_HEADER_LEN + 16 + 15 + TRAILER_LEN + 32;

/// Pad length and next header.
pub(crate) const TRAILER_LEN: usize = 2;

/// What the padding of any length begins with: 1, 2, 3... (RFC 4303 section 2.4). Copied and compared as a whole, which is a tenth of
/// the instructions of doing it octet by octet.
#[allow(clippy::indexing_slicing, reason = "the compiler fills it, and would say so")]
pub(crate) static PADDING: [u8; 255] = {
    let mut octets = [0; 255];
    let mut at = 0;
    while at < 255 {
        octets[at] = at as u8 + 1;
        at += 1;
    }
    octets
};

/// Next header: IPv4 in tunnel mode (IP protocol number of IP-in-IP).
pub(crate) const NEXT_HEADER_IPV4: u8 = 4;
/// Next header: IPv6 in tunnel mode.
pub(crate) const NEXT_HEADER_IPV6: u8 = 41;
/// Next header: dummy packet (RFC 4303 section 2.6).
pub(crate) const NEXT_HEADER_NONE: u8 = 59;

/// Where the parts of a sealed packet begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The IV, right after the header.
    pub(crate) iv: usize,
    /// The payload, and with it the ciphertext.
    pub(crate) payload: usize,
    /// Octets of padding for this payload.
    pub(crate) padding: usize,
    /// The ICV, right after the ciphertext.
    pub(crate) icv: usize,
    /// The whole packet.
    pub(crate) total: usize,
}

impl Layout {
    /// The layout for a payload of `inner_len` octets.
    pub(crate) fn for_payload(suite: &Suite, inner_len: usize) -> Self {
        let align = suite.encryption.alignment();
        let payload = payload_offset(suite);
        let unpadded = inner_len + TRAILER_LEN;
        let padded = unpadded.next_multiple_of(align);
        let icv = payload + padded;
        Self { iv: ESP_HEADER_LEN, payload, padding: padded - unpadded, icv, total: icv + suite.icv_len() }
    }
}

/// Where the payload begins.
pub(crate) fn payload_offset(suite: &Suite) -> usize {
    ESP_HEADER_LEN + suite.encryption.iv_len()
}

/// Splits a big-endian number off the front of a packet.
pub(crate) fn read_u32(packet: &[u8], at: usize) -> Option<u32> {
    let bytes = packet.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::suite::{Encryption, Integrity};

    #[test]
    fn overhead_has_its_bound() {
        for encryption in Encryption::ALL {
            let integrities: Vec<_> =
                if encryption.is_aead() { vec![None] } else { Integrity::ALL.map(Some).to_vec() };
            for integrity in integrities {
                let suite = Suite::new(encryption, integrity, false).unwrap();
                for len in 0..2000 {
                    let layout = Layout::for_payload(&suite, len);
                    assert!(layout.total - len <= MAX_OVERHEAD);
                    assert_eq!((layout.icv - layout.payload) % encryption.alignment(), 0);
                    assert!(layout.padding < encryption.alignment());
                }
            }
        }
    }
}
