//! Probes: inner UDP packets that say who sent them to whom, which one it is, and when.

use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::time::Instant;

/// Octets of an IPv4 and a UDP header.
const HEADERS: usize = 28;
/// Octets of a probe's own fields.
const FIELDS: usize = 32;
/// Octets of the smallest probe.
pub(crate) const SMALLEST: usize = HEADERS + FIELDS;
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
    /// When it was sent, as [`clock`] tells it, or was to be sent where its sender was late.
    pub sent: u64,
}

/// Nanoseconds since the first call in this process: sender and receiver of a probe are in the same one.
pub(crate) fn clock(now: Instant) -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = BEGIN.get_or_init(|| now);
    u64::try_from(now.saturating_duration_since(*begin).as_nanos()).unwrap_or(u64::MAX)
}

impl Probe {
    /// The whole inner packet of `len` octets, at least those of its headers and fields.
    pub fn packet(&self, source: Ipv4Addr, destination: Ipv4Addr, len: usize) -> Vec<u8> {
        let len = len.max(SMALLEST);
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
        out.extend_from_slice(&self.sent.to_be_bytes());
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
        let long = |at: usize| fields.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        Some(Self { flow, number: long(16)?, sent: long(24)? })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_survives_its_packet() {
        let probe = Probe { flow: Flow { tenant: 1, from: 2, to: 3 }, number: 1 << 40, sent: 7 };
        let packet = probe.packet([10, 0, 1, 1].into(), [10, 0, 2, 1].into(), 200);
        assert_eq!(packet.len(), 200);
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(Probe::parse(&packet), Some(probe));
        assert_eq!(Probe::parse(&packet[..50]), None);
    }
}
