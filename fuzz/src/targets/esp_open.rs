//! ESP packets: any octets, and any octets sealed under the right key, so that what is behind the ICV is reached. In tunnel
//! and in transport mode.

use std::net::IpAddr;
use std::sync::Arc;

use esp::transport::{Hosts, MAX_PACKET, Upper};
use esp::{Encryption, InboundSa, Limits, OpenError, OutboundSa, SaKeys, Selector, SelectorPair, Spi, Suite};
use openssl::symm::{Cipher, encrypt_aead};

use crate::input::Input;

const SPI: u32 = 0x0410_0007;

fn keys(suite: &Suite) -> SaKeys {
    SaKeys::new(vec![3; suite.key_len()], vec![5; suite.integrity_key_len()])
}

fn selectors() -> Arc<SelectorPair> {
    let net = |v4: [u8; 4], v6: u16| {
        let v6 = IpAddr::from([0x2001, 0xdb8, v6, 0, 0, 0, 0, 0]);
        vec![
            Selector::subnet(v4.into(), 16),
            Selector { protocol: 17, start_port: 9, ..Selector::subnet(v6, 48) },
        ]
    };
    Arc::new(SelectorPair { local: net([10, 1, 0, 0], 1), remote: net([10, 2, 0, 0], 2) })
}

fn hosts(v6: bool) -> Hosts {
    let host = |net: u16| match v6 {
        true => IpAddr::from([0x2001, 0xdb8, net, 0, 0, 0, 0, 1]),
        false => IpAddr::from([10, net as u8, 0, 1]),
    };
    Hosts::new(host(1), host(2)).expect("of one family")
}

/// Both halves of a pair.
pub(crate) fn pair() -> (InboundSa, OutboundSa) {
    let suite = Suite::new(Encryption::AesGcm16_128, None, true).expect("they go together");
    let inbound = InboundSa::new(Spi(SPI), suite, &keys(&suite), selectors(), 64, &Limits::default());
    let outbound = OutboundSa::new(Spi(SPI), suite, &keys(&suite), &[7; 32], &Limits::default());
    (inbound.expect("an SA"), outbound.expect("an SA"))
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8();
    let encryption = input.pick(&Encryption::ALL);
    let integrity = (!encryption.is_aead()).then(|| input.pick(&esp::Integrity::ALL));
    let sealed_by_hand = how & 3 == 0;
    let v6 = how & 32 != 0;
    let hosts = (how & 16 != 0).then(|| hosts(v6));
    let suite = if sealed_by_hand {
        Suite::new(Encryption::AesGcm16_128, None, how & 4 != 0)
    } else {
        Suite::new(encryption, integrity, how & 4 != 0)
    };
    let suite = suite.expect("they go together");
    let limits = Limits::default();
    let mut inbound =
        InboundSa::new(Spi(SPI), suite, &keys(&suite), selectors(), 64, &limits).expect("an SA");
    let mut outbound = OutboundSa::new(Spi(SPI), suite, &keys(&suite), &[7; 32], &limits).expect("an SA");
    for _ in 0..4 {
        if input.is_empty() {
            break;
        }
        match how & 3 {
            0 => {
                let sequence = input.u32();
                let packet = by_hand(&suite, sequence, input.block());
                open(&mut inbound, hosts, packet, true);
            }
            1 => {
                let inner = input.block();
                let mut packet = vec![0; outbound.sealed_len(inner.len())];
                let sealed = match hosts {
                    None => outbound.seal(inner, &mut packet),
                    Some(_) => Upper::of(inner).and_then(|upper| {
                        let at = outbound.payload_offset();
                        packet[at..at + upper.len()].copy_from_slice(&inner[upper.header_len()..]);
                        outbound.seal_transport(&mut packet, &upper, 0)
                    }),
                };
                if let Ok(sealed) = sealed {
                    packet.truncate(sealed.len);
                    open(&mut inbound, hosts, packet, true);
                }
            }
            _ => {
                let mut packet = input.block().to_vec();
                if how & 8 == 0 && packet.len() >= 4 {
                    packet[..4].copy_from_slice(&SPI.to_be_bytes());
                }
                open(&mut inbound, hosts, packet, false);
            }
        }
    }
}

/// Payload, padding, pad length and next header as they come, with an ICV that is right.
fn by_hand(suite: &Suite, sequence: u32, text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    while !text.len().is_multiple_of(4) {
        text.insert(0, 0);
    }
    let (spi, low, iv) = (SPI.to_be_bytes(), sequence.to_be_bytes(), [9; 8]);
    let aad = if suite.esn { [&spi[..], &[0; 4], &low].concat() } else { [spi, low].concat() };
    let nonce = [&[3; 4][..], &iv].concat();
    let mut tag = [0; 16];
    let sealed = encrypt_aead(Cipher::aes_128_gcm(), &[3; 16], Some(&nonce), &aad, &text, &mut tag);
    [&spi[..], &low, &iv, &sealed.expect("AES-GCM takes any text"), &tag].concat()
}

fn open(inbound: &mut InboundSa, hosts: Option<Hosts>, packet: Vec<u8>, authentic: bool) {
    let (top, delivered) = (inbound.top(), inbound.packets());
    let mut again = packet.clone();
    let mut packet = packet;
    let mut rebuilt = vec![0; MAX_PACKET];
    let result = match &hosts {
        None => inbound.open(&mut packet),
        Some(hosts) => inbound.open_transport(&mut packet, hosts, 0, &mut rebuilt),
    };
    let packet = if hosts.is_some() { rebuilt } else { packet };
    match &result {
        Ok(opened) => {
            assert!(authentic, "a forgery was opened");
            let inner = &packet[opened.inner.clone()];
            assert_eq!(inner.len(), opened.info.len);
            assert!(inbound.selectors().matches_inbound(&opened.info), "outside of the selectors");
            assert_eq!(esp::ip::parse(inner), Some(opened.info), "what was cut off was not needed");
            let mut forwarded = inner.to_vec();
            for ecn in 0..4 {
                let _ = esp::ecn::decapsulate(&mut forwarded, esp::ecn::Ecn::from_bits(ecn));
                let _ = esp::ip::decrement_ttl(&mut forwarded);
            }
            let after = esp::ip::parse(&forwarded).expect("still a packet");
            assert_eq!((after.source, after.destination), (opened.info.source, opened.info.destination));
            assert_eq!(inbound.packets(), delivered + 1);
        }
        Err(error) => {
            drop(error.to_string());
            assert_eq!(inbound.packets(), delivered, "dropped and counted as delivered");
            if !authentic {
                assert_eq!(inbound.top(), top, "a forgery moved the window");
            }
        }
    }
    let used_up = !matches!(
        result,
        Err(OpenError::Truncated
            | OpenError::WrongSpi
            | OpenError::Misaligned
            | OpenError::BadSequence
            | OpenError::IcvMismatch)
    );
    if used_up {
        let replayed = inbound.open(&mut again);
        assert!(
            matches!(
                replayed,
                Err(OpenError::ReplayDuplicate | OpenError::ReplayTooOld | OpenError::BadSequence)
            ),
            "a replay gives {replayed:?}"
        );
    }
}
