//! Explicit Congestion Notification across the tunnel (RFC 6040, normal mode).

use crate::ip;

/// The two ECN bits of an IP header (RFC 3168 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ecn {
    /// The transport does not use ECN.
    #[default]
    NotEct,
    /// ECN-capable transport, codepoint 1.
    Ect1,
    /// ECN-capable transport, codepoint 0.
    Ect0,
    /// Congestion was experienced.
    Ce,
}

impl Ecn {
    /// From the two low bits of a TOS or traffic class octet.
    pub fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            0b11 => Self::Ce,
            _ => Self::NotEct,
        }
    }

    /// The two bits.
    pub fn bits(self) -> u8 {
        self as u8
    }

    /// What an inner packet carries, and what its outer header shall carry (RFC 6040 section 4.1: copied).
    pub fn of(packet: &[u8]) -> Self {
        Self::from_bits(ip::traffic_class(packet))
    }
}

/// Merges the outer header's mark into an inner packet just taken out of the tunnel (RFC 6040 section 4.2, figure 4).
///
/// False when the packet must be dropped: the path marked congestion, but the inner transport would never notice.
pub fn decapsulate(packet: &mut [u8], outer: Ecn) -> bool {
    let inner = Ecn::of(packet);
    let merged = match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => return false,
        (Ecn::NotEct, _) | (Ecn::Ce, _) => inner,
        (_, Ecn::Ce) => Ecn::Ce,
        (Ecn::Ect0, Ecn::Ect1) => Ecn::Ect1,
        (_, _) => inner,
    };
    if merged != inner {
        ip::set_traffic_class(packet, ip::traffic_class(packet) & !3 | merged.bits());
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn v4(ecn: Ecn) -> Vec<u8> {
        let mut packet = vec![0x45, 0xb8, 0, 20, 0, 1, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet[1] |= ecn.bits();
        let sum = sum(&packet);
        packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
        packet
    }

    fn v6(ecn: Ecn) -> Vec<u8> {
        let mut packet = vec![0u8; 40];
        packet[0] = 0x6b;
        packet[1] = 0x8f | ecn.bits() << 4;
        packet
    }

    fn sum(header: &[u8]) -> u16 {
        let mut sum: u32 =
            header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// RFC 6040 figure 4, row by row: arriving inner header, then arriving outer header.
    #[test]
    fn figure_4() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        let outers = [NotEct, Ect0, Ect1, Ce];
        let table = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in outers.into_iter().zip(row) {
                for make in [v4, v6] {
                    let mut packet = make(inner);
                    let kept = decapsulate(&mut packet, outer);
                    assert_eq!(kept.then(|| Ecn::of(&packet)), expected, "{inner:?} under {outer:?}");
                    if kept {
                        assert_eq!(packet, make(Ecn::of(&packet)), "only ECN and checksum change");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_round_trip() {
        for bits in 0..4 {
            assert_eq!(Ecn::from_bits(bits).bits(), bits);
        }
    }
}
