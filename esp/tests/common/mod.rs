//! What the integration tests share: suites, keys and packets.
#![allow(dead_code, unreachable_pub)] // Not every test file uses everything.

use std::net::IpAddr;
use std::sync::Arc;

use esp::{Encryption, InboundSa, Integrity, Limits, OutboundSa, SaKeys, Selector, SelectorPair, Spi, Suite};

pub const SPI: Spi = Spi(0x0410_0007);

/// Every suite that exists, with and without ESN.
pub fn suites() -> Vec<Suite> {
    let mut suites = Vec::new();
    for encryption in Encryption::ALL {
        let integrities = if encryption.is_aead() { vec![None] } else { Integrity::ALL.map(Some).to_vec() };
        for integrity in integrities {
            for esn in [false, true] {
                suites.push(Suite::new(encryption, integrity, esn).unwrap());
            }
        }
    }
    suites
}

pub fn keys(suite: &Suite) -> SaKeys {
    let octets = |len: usize, from: u8| (0..len).map(|i| from.wrapping_add(i as u8)).collect();
    SaKeys::new(octets(suite.key_len(), 3), octets(suite.integrity_key_len(), 101))
}

/// Selectors that let every packet through.
pub fn everything() -> Arc<SelectorPair> {
    let all =
        vec![Selector::subnet(IpAddr::from([0, 0, 0, 0]), 0), Selector::subnet(IpAddr::from([0u16; 8]), 0)];
    Arc::new(SelectorPair { local: all.clone(), remote: all })
}

pub fn pair(suite: Suite) -> (OutboundSa, InboundSa) {
    let outbound = OutboundSa::new(SPI, suite, &keys(&suite), &[7; 32], &Limits::default()).unwrap();
    let inbound = InboundSa::new(SPI, suite, &keys(&suite), everything(), 1024, &Limits::default()).unwrap();
    (outbound, inbound)
}

/// A UDP packet over IPv4 from 10.0.0.1 to 10.9.0.2 with `len` octets of payload.
pub fn udp_v4(len: usize) -> Vec<u8> {
    let total = (28 + len) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 9, 0, 2]);
    packet.extend([0x13, 0x88, 0, 53]);
    packet.extend(((8 + len) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((0..len).map(|i| i as u8));
    packet
}

/// A UDP packet over IPv6 with `len` octets of payload.
pub fn udp_v6(len: usize) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((8 + len) as u16).to_be_bytes());
    packet.extend([17, 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend([0x13, 0x88, 0, 53]);
    packet.extend(((8 + len) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((0..len).map(|i| i as u8));
    packet
}
