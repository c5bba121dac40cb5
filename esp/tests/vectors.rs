//! Packets made by others: DPDK, Linux xfrm (through Scapy) and RFC 7634. The files are third-party data that lies beside
//! the project; where it is absent the tests say so and pass.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;

use common::everything;
use esp::{Encryption, InboundSa, Integrity, Limits, OpenError, SaKeys, Spi, Suite};
use serde_json::Value;

fn load(file: &str) -> Option<Value> {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/{}"), file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(_) => {
            eprintln!("skipped: no third-party vectors beside the project ({file})");
            None
        }
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u32 {
    match value.as_str() {
        Some(text) => match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
            None => text.parse().unwrap(),
        },
        None => value.as_u64().unwrap() as u32,
    }
}

fn gcm(key_len: usize) -> Encryption {
    match key_len {
        16 => Encryption::AesGcm16_128,
        24 => Encryption::AesGcm16_192,
        _ => Encryption::AesGcm16_256,
    }
}

fn inbound(spi: u32, suite: Suite, keys: SaKeys) -> InboundSa {
    InboundSa::new(Spi(spi), suite, &keys, everything(), 64, &Limits::default()).unwrap()
}

/// Opens the packet, and makes sure that one bit more or less is noticed.
fn expect_inner(mut sa: InboundSa, mut packet: Vec<u8>, inner: &[u8], name: &str) {
    for position in [4, 8, packet.len() / 2, packet.len() - 1] {
        let mut broken = packet.clone();
        broken[position] ^= 0x40;
        assert!(sa.open(&mut broken).is_err(), "{name}: octet {position}");
    }
    let opened = sa.open(&mut packet).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&packet[opened.inner], inner, "{name}");
}

#[test]
fn dpdk() {
    let Some(vectors) = load("dpdk/esp_vectors.json") else { return };
    let mut done = 0;
    for vector in vectors.as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let mut key = hex(&vector["key"].as_str().map_or(Value::from(""), Value::from));
        let integrity = match vector["auth"].as_str() {
            Some("MD5_HMAC") => Some(Integrity::HmacMd5_96),
            Some("SHA256_HMAC") => Some(Integrity::HmacSha256_128),
            Some("SHA384_HMAC") => Some(Integrity::HmacSha384_192),
            Some("SHA512_HMAC") => Some(Integrity::HmacSha512_256),
            _ => None,
        };
        let (suite, keys) = match (vector["cipher"].as_str(), integrity) {
            (Some("AES_GCM"), None) => {
                let suite = Suite::new(gcm(key.len()), None, false).unwrap();
                key.extend(hex(&vector["salt"]));
                (suite, SaKeys::new(key, Vec::new()))
            }
            (Some(cipher @ ("AES_CBC" | "3DES_CBC")), Some(integrity)) => {
                let encryption =
                    if cipher == "AES_CBC" { Encryption::AesCbc128 } else { Encryption::TripleDesCbc };
                let suite = Suite::new(encryption, Some(integrity), false).unwrap();
                (suite, SaKeys::new(key, hex(&vector["auth_key"])))
            }
            _ => continue,
        };
        let packet = hex(&vector["ipsec_packet"]);
        let outer_header = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let sa = inbound(number(&vector["spi"]), suite, keys);
        let inner = hex(&vector["plaintext_packet"]);
        if name == "pkt_aes_256_gcm_v6" || name == "pkt_aes_128_cbc_hmac_sha256_v6" {
            // The inner packet is IPv6, whatever its contents.
            assert_eq!(inner[0] >> 4, 6);
        }
        expect_inner(sa, packet[outer_header..].to_vec(), &inner, name);
        done += 1;
    }
    assert_eq!(done, 14, "five AES-GCM, five AES-CBC and four 3DES packets are in the set");
}

#[test]
fn linux_xfrm() {
    let Some(vectors) = load("scapy/esp_linux_reference.json") else { return };
    let mut done = 0;
    for vector in vectors.as_array().unwrap() {
        if vector["cipher"] != "AES-GCM" {
            continue;
        }
        let title = vector["title"].as_str().unwrap();
        let esn = vector["esn"].as_bool().unwrap();
        let suite = Suite::new(Encryption::AesGcm16_128, None, esn).unwrap();
        let spi = number(&vector["spi"]);
        let keys = SaKeys::new(hex(&vector["key_with_salt"]), Vec::new());
        let packet = hex(&vector["esp_packet"]);
        let mut sa = inbound(spi, suite, keys.clone());
        if esn {
            // The high half is not in the packet: it only verifies where the window says that it is 1.
            assert_eq!(sa.open(&mut packet.clone()).unwrap_err(), OpenError::IcvMismatch, "{title}");
            sa = inbound(spi, suite, keys);
            sa.resume_at(u64::from(number(&vector["esn_high"])) << 32).unwrap();
        }
        let mut buffer = packet.clone();
        let opened = sa.open(&mut buffer).unwrap_or_else(|error| panic!("{title}: {error}"));
        assert_eq!(opened.info.protocol, 1, "{title}: an ICMP echo");
        assert_eq!(opened.sequence, u64::from(esn) << 32 | 1);
        done += 1;
    }
    assert_eq!(done, 2);
}

#[test]
fn rfc_7634_appendix_a() {
    let Some(vectors) = load("rfc-examples/rfc7634.json") else { return };
    let vector = &vectors["esp"];
    let suite = Suite::new(Encryption::ChaCha20Poly1305, None, false).unwrap();
    let keys = SaKeys::new(hex(&vector["keymat"]), Vec::new());
    let packet = hex(&vector["esp_packet"]);
    expect_inner(
        inbound(0x0102_0304, suite, keys),
        packet[20..].to_vec(),
        &hex(&vector["source_packet"]),
        "RFC 7634",
    );
}
