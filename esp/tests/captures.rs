//! ESP in captures of others (tcpdump), with the algorithms of their time. The files are third-party data that lies beside
//! the project; where it is absent the tests say so and pass.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.
#![allow(clippy::disallowed_methods)] // The files are read here, not by the crate.

mod common;

use common::everything;
use esp::{Encryption, InboundSa, Integrity, Limits, OpenError, SaKeys, Spi, Suite};

/// The ESP packets of a capture, which is one of Ethernet frames; in UDP those of port 4500.
fn esp_packets(file: &str) -> Option<Vec<Vec<u8>>> {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/tcpdump/{}"), file);
    let Ok(octets) = std::fs::read(&path) else {
        eprintln!("skipped: no third-party vectors beside the project (tcpdump/{file})");
        return None;
    };
    assert_eq!(octets[..4], [0xd4, 0xc3, 0xb2, 0xa1], "pcap, little-endian");
    let (mut packets, mut rest) = (Vec::new(), &octets[24..]);
    while let Some(header) = rest.get(..16) {
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let ip = &rest[16 + 14..16 + len];
        let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
        let payload = &ip[usize::from(ip[0] & 0xf) * 4..];
        packets.push(match ip[9] {
            50 => payload.to_vec(),
            17 => payload[8..].to_vec(),
            other => panic!("IP protocol {other}"),
        });
        rest = &rest[16 + len..];
    }
    Some(packets)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Opens every packet; each is an ICMP echo of 84 octets or its like.
fn all_open(file: &str, spi: u32, suite: Suite, keys: &SaKeys) {
    let Some(packets) = esp_packets(file) else { return };
    assert_eq!(packets.len(), 8, "{file}");
    let mut sa = InboundSa::new(Spi(spi), suite, keys, everything(), 64, &Limits::default()).unwrap();
    for (number, packet) in (1..).zip(packets) {
        let mut broken = packet.clone();
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(sa.open(&mut broken).unwrap_err(), OpenError::IcvMismatch, "{file} {number}");
        let mut packet = packet;
        let opened = sa.open(&mut packet).unwrap_or_else(|error| panic!("{file} {number}: {error}"));
        assert_eq!((opened.sequence, opened.info.protocol), (number, 1), "{file}");
    }
}

#[test]
fn triple_des_with_md5() {
    let suite = Suite::new(Encryption::TripleDesCbc, Some(Integrity::HmacMd5_96), false).unwrap();
    let keys = SaKeys::new(hex("4043434545464649494a4a4c4c4f4f515152525454575758"), hex(&"8765".repeat(8)));
    all_open("02-sunrise-sunset-esp.pcap", 0x1234_5678, suite, &keys);
    all_open("espudp1.pcap", 0x1234_5678, suite, &keys);
}

#[test]
fn aes_with_sha_1() {
    let suite = Suite::new(Encryption::AesCbc256, Some(Integrity::HmacSha1_96), false).unwrap();
    let key = "aaaabbbbccccdddd4043434545464649494a4a4c4c4f4f515152525454575758";
    let keys = SaKeys::new(hex(key), hex(&"8765".repeat(10)));
    all_open("08-sunrise-sunset-aes.pcap", 0xd123_4567, suite, &keys);
}
