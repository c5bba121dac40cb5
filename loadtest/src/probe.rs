//! Probes: inner UDP packets that say who sent them to whom and which one it is, and the ledger of what arrived.

use std::net::Ipv4Addr;

/// Octets of an IPv4 and a UDP header.
const HEADERS: usize = 28;
/// Octets of a probe's own fields.
const FIELDS: usize = 24;
/// Marks a probe.
const MAGIC: u32 = 0x4375_6c76;
/// UDP port of probes: discard.
const PORT: u16 = 9;

/// Who sends to whom. Numbers are unique over all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Tenant of the sender.
    pub tenant: u32,
    /// The sender.
    pub from: u32,
    /// The receiver.
    pub to: u32,
}

/// One numbered packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its flow.
    pub flow: Flow,
    /// Its number, from 0.
    pub number: u64,
}

impl Probe {
    /// The whole inner packet of `len` octets, at least those of its headers and fields.
    pub fn packet(&self, source: Ipv4Addr, destination: Ipv4Addr, len: usize) -> Vec<u8> {
        let len = len.max(HEADERS + FIELDS);
        let total = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        let udp_len = u16::try_from(len - 20).unwrap_or(u16::MAX).to_be_bytes();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&[0x45, 0]);
        out.extend_from_slice(&total);
        out.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
        out.extend_from_slice(&source.octets());
        out.extend_from_slice(&destination.octets());
        let sum = checksum(&out).to_be_bytes();
        if let Some(field) = out.get_mut(10..12) {
            field.copy_from_slice(&sum);
        }
        out.extend_from_slice(&PORT.to_be_bytes());
        out.extend_from_slice(&PORT.to_be_bytes());
        out.extend_from_slice(&udp_len);
        // No UDP checksum: ESP protects the packet.
        out.extend_from_slice(&[0, 0]);
        for field in [MAGIC, self.flow.tenant, self.flow.from, self.flow.to] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&self.number.to_be_bytes());
        out.resize(len, 0);
        out
    }

    /// Reads an inner packet; `None` when it is no probe.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let fields = packet.get(HEADERS..HEADERS + FIELDS)?;
        let word = |at: usize| fields.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        if word(0)? != MAGIC {
            return None;
        }
        let flow = Flow { tenant: word(4)?, from: word(8)?, to: word(12)? };
        let number = fields.get(16..24)?.try_into().ok().map(u64::from_be_bytes)?;
        Some(Self { flow, number })
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|w| w.iter().fold(0u32, |sum, b| (sum << 8) | u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Which probes of one flow have arrived. One bit each.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    seen: Vec<u64>,
    /// Different probes that arrived.
    pub received: u64,
    /// Probes that arrived again.
    pub duplicates: u64,
}

impl Ledger {
    /// Checks a probe off.
    pub fn note(&mut self, number: u64) {
        let (word, bit) = (usize::try_from(number / 64).unwrap_or(usize::MAX), number % 64);
        // A day at 100,000 a second; a number beyond it is not one of ours.
        if word > 135_000_000 {
            return;
        }
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if let Some(seen) = self.seen.get_mut(word) {
            if *seen & (1 << bit) == 0 {
                *seen |= 1 << bit;
                self.received += 1;
            } else {
                self.duplicates += 1;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_survives_its_packet() {
        let probe = Probe { flow: Flow { tenant: 1, from: 2, to: 3 }, number: 1 << 40 };
        let packet = probe.packet([10, 0, 1, 1].into(), [10, 0, 2, 1].into(), 200);
        assert_eq!(packet.len(), 200);
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(Probe::parse(&packet), Some(probe));
        assert_eq!(Probe::parse(&packet[..50]), None);
    }

    #[test]
    fn the_ledger_counts_each_once() {
        let mut ledger = Ledger::default();
        for n in [0, 1, 64, 1, 63] {
            ledger.note(n);
        }
        assert_eq!((ledger.received, ledger.duplicates), (4, 1));
    }
}
