//! Traffic flow confidentiality by padding (RFC 4303 section 2.7).

/// How much to add to inner packets so that their sizes say less. The receiver finds the packet's end by its own header, so
/// in transport mode it is for what has one ([`crate::transport::Upper::may_be_padded`]). Not for a peer that announced ESP_TFC_PADDING_NOT_SUPPORTED
/// (RFC 7296 section 3.10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TfcPadding {
    /// Nothing.
    #[default]
    Off,
    /// Up to the next multiple of so many octets.
    Multiple(u16),
    /// Up to so many octets; with `u16::MAX` every packet is as large as the path takes.
    Fixed(u16),
}

impl TfcPadding {
    /// Octets to seal for an inner packet of `inner_len`. Never more than `max`, the largest that fits the path, unless
    /// the packet itself is larger.
    pub fn payload_len(self, inner_len: usize, max: usize) -> usize {
        let wanted = match self {
            Self::Off | Self::Multiple(0) => inner_len,
            Self::Multiple(unit) => inner_len.next_multiple_of(usize::from(unit)),
            Self::Fixed(len) => usize::from(len),
        };
        wanted.min(max).max(inner_len)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn up_to_the_mtu_and_never_less_than_the_packet() {
        assert_eq!(TfcPadding::Off.payload_len(77, 1400), 77);
        assert_eq!(TfcPadding::Multiple(256).payload_len(77, 1400), 256);
        assert_eq!(TfcPadding::Multiple(256).payload_len(256, 1400), 256);
        assert_eq!(TfcPadding::Multiple(256).payload_len(1300, 1400), 1400);
        assert_eq!(TfcPadding::Multiple(0).payload_len(77, 1400), 77);
        assert_eq!(TfcPadding::Fixed(u16::MAX).payload_len(77, 1400), 1400);
        assert_eq!(TfcPadding::Fixed(500).payload_len(777, 1400), 777);
        assert_eq!(TfcPadding::Fixed(500).payload_len(1500, 1400), 1500);
    }
}
