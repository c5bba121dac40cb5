//! Packets and keys that are the same each time.

use esp::{Encryption, SaKeys, Suite};

/// An IPv4 packet of UDP with `len` octets in all. Its addresses are numbers, so that a table of any size has them.
pub(crate) fn inner_packet(source: u32, destination: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((len as u16).to_be_bytes());
    packet.extend([0, 7, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend([0x30, 0x39, 0, 80]);
    packet.extend((len as u16 - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((packet.len()..len).map(|at| at as u8));
    let sum = sum16(&packet[..20]);
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    packet
}

/// The same keys for every SA of a suite: what differs between SAs is where they lie.
pub(crate) fn keys(suite: &Suite) -> SaKeys {
    let encryption = suite.encryption.cipher_key_len() + suite.encryption.salt_len();
    let integrity = suite.integrity.map_or(0, |integrity| integrity.key_len());
    SaKeys::new((0..encryption).map(|at| at as u8).collect(), vec![7; integrity])
}

/// Other keys for each pair, as negotiated ones are; the salt is that of [`keys`].
pub(crate) fn keys_of(suite: &Suite, pair: u32) -> SaKeys {
    let (key, salt) = key_and_salt(suite.encryption);
    SaKeys::new([key_of(&key, pair), salt.to_vec()].concat(), Vec::new())
}

/// The key of a pair, made of that of all.
pub(crate) fn key_of(key: &[u8], pair: u32) -> Vec<u8> {
    let mut key = key.to_vec();
    key[..4].copy_from_slice(&pair.to_be_bytes());
    key
}

/// The key and the salt in [`keys`] of an AEAD.
pub(crate) fn key_and_salt(encryption: Encryption) -> (Vec<u8>, [u8; 4]) {
    let len = encryption.cipher_key_len();
    let all: Vec<u8> = (0..len + 4).map(|at| at as u8).collect();
    (all[..len].to_vec(), [all[len], all[len + 1], all[len + 2], all[len + 3]])
}

/// The sum of the words in ones' complement (RFC 1071).
pub(crate) fn sum16(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded + (folded >> 16)) as u16
}
