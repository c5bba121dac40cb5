//! What arrives on the NAT traversal port (RFC 3948 section 2).

use esp::Spi;

/// One UDP datagram of port 4500.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Datagram {
    /// ESP, with the SPI in its first four octets.
    Esp(Spi),
    /// IKE: what follows the non-ESP marker.
    Ike,
    /// A single octet 0xff.
    Keepalive,
    /// Too short to be any of them.
    Runt,
}

/// Octets of zero that mark IKE.
pub(crate) const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// The whole of a NAT keepalive.
pub(crate) const KEEPALIVE: [u8; 1] = [0xff];

impl Datagram {
    pub(crate) fn classify(datagram: &[u8]) -> Self {
        match datagram.first_chunk::<4>() {
            Some(&NON_ESP_MARKER) => Self::Ike,
            Some(spi) => Self::Esp(Spi(u32::from_be_bytes(*spi))),
            None if datagram == KEEPALIVE => Self::Keepalive,
            None => Self::Runt,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn four_kinds() {
        assert_eq!(Datagram::classify(&[0xff]), Datagram::Keepalive);
        for runt in [&[][..], &[0], &[0xfe], &[0xff, 0xff], &[0, 0, 0]] {
            assert_eq!(Datagram::classify(runt), Datagram::Runt);
        }
        assert_eq!(Datagram::classify(&[0, 0, 0, 0]), Datagram::Ike);
        assert_eq!(Datagram::classify(&[0, 0, 0, 0, 1]), Datagram::Ike);
        assert_eq!(Datagram::classify(&[0, 0, 0, 1, 9]), Datagram::Esp(Spi(1)));
        assert_eq!(Datagram::classify(&[0xff, 0xff, 0xff, 0xff]), Datagram::Esp(Spi(u32::MAX)));
    }
}
