//! What is behind an ICV that is right: padding, pad length, next header and inner packet as a peer with the keys may
//! choose them (RFC 4303 sections 2.4 to 2.7 and 3.4.4).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unused_crate_dependencies)]

mod common;

use common::{SPI, everything, keys, udp_v4, udp_v6};
use esp::{Encryption, InboundSa, Limits, OpenError, Opened, Suite};
use openssl::symm::{Cipher, encrypt_aead};

fn suite() -> Suite {
    Suite::new(Encryption::AesGcm16_128, None, false).unwrap()
}

/// Seals octets as they are: payload, padding, pad length and next header.
fn seal(sequence: u32, text: &[u8]) -> Vec<u8> {
    let key: Vec<u8> = (0..20).map(|i| 3 + i).collect();
    let (head, iv) = ([SPI.0.to_be_bytes(), sequence.to_be_bytes()].concat(), [9; 8]);
    let nonce = [&key[16..], &iv].concat();
    let mut icv = [0; 16];
    let sealed =
        encrypt_aead(Cipher::aes_128_gcm(), &key[..16], Some(&nonce), &head, text, &mut icv).unwrap();
    [head.as_slice(), &iv, &sealed, &icv].concat()
}

/// Opens it on a fresh SA, and again: whatever is dropped for its contents was authentic, so its number is used up.
fn open(text: &[u8]) -> Result<Opened, OpenError> {
    let suite = suite();
    let mut sa = InboundSa::new(SPI, suite, &keys(&suite), everything(), 64, &Limits::default()).unwrap();
    let mut packet = seal(1, text);
    let result = sa.open(&mut packet);
    assert_eq!(sa.open(&mut seal(1, text)).unwrap_err(), OpenError::ReplayDuplicate);
    assert_eq!(sa.packets(), u64::from(result.is_ok()));
    result
}

fn packet(inner: &[u8], padding: &[u8], pad_len: u8, next: u8) -> Vec<u8> {
    [inner, padding, &[pad_len, next]].concat()
}

#[test]
fn the_padding_has_to_be_1_2_3() {
    // 36 octets: with two of padding and the trailer it is aligned.
    let inner = udp_v4(8);
    assert!(open(&packet(&inner, &[1, 2], 2, 4)).is_ok());
    for wrong in [[0, 0], [1, 1], [2, 1], [2, 2], [1, 3], [0, 1]] {
        assert_eq!(open(&packet(&inner, &wrong, 2, 4)).unwrap_err(), OpenError::BadPadding, "{wrong:?}");
    }
    let most: Vec<u8> = (1..=254).collect();
    assert!(open(&packet(&inner, &most, 254, 4)).is_ok());
    let mut odd = most;
    odd[100] ^= 1;
    assert_eq!(open(&packet(&inner, &odd, 254, 4)).unwrap_err(), OpenError::BadPadding);
}

#[test]
fn the_padding_cannot_be_longer_than_what_is_there() {
    for pad_len in [3, 4, 100, 255] {
        assert_eq!(open(&[1, 2, pad_len, 4]).unwrap_err(), OpenError::BadPadding, "{pad_len}");
    }
    // All of it is padding: nothing is inside.
    assert_eq!(open(&[1, 2, 2, 4]).unwrap_err(), OpenError::BadInner);
}

#[test]
fn the_ciphertext_ends_on_a_boundary_of_four() {
    let suite = suite();
    let inner = udp_v4(8);
    for (padding, fits) in [(0, false), (1, false), (2, true), (3, false), (6, true)] {
        let padding: Vec<u8> = (1..=padding).collect();
        let text = packet(&inner, &padding, padding.len().try_into().unwrap(), 4);
        let mut sa = InboundSa::new(SPI, suite, &keys(&suite), everything(), 64, &Limits::default()).unwrap();
        let result = sa.open(&mut seal(1, &text));
        assert_eq!(result.err(), (!fits).then_some(OpenError::Misaligned), "{padding:?}");
    }
}

#[test]
fn the_next_header_has_to_be_that_of_the_packet() {
    let (v4, v6) = (udp_v4(8), udp_v6(8));
    assert!(open(&packet(&v6, &[1, 2], 2, 41)).is_ok());
    assert_eq!(open(&packet(&v4, &[1, 2], 2, 41)).unwrap_err(), OpenError::BadInner);
    assert_eq!(open(&packet(&v6, &[1, 2], 2, 4)).unwrap_err(), OpenError::BadInner);
    assert_eq!(open(&packet(&v4, &[1, 2], 2, 59)).unwrap_err(), OpenError::Dummy);
    for next in [0, 1, 6, 17, 43, 44, 47, 50, 51, 58, 60, 94, 255] {
        assert_eq!(open(&packet(&v4, &[1, 2], 2, next)).unwrap_err(), OpenError::BadNextHeader, "{next}");
    }
}

#[test]
fn an_inner_packet_longer_than_its_frame_is_dropped_and_one_with_octets_behind_is_cut() {
    let mut long = udp_v4(8);
    long[3] += 1;
    assert_eq!(open(&packet(&long, &[1, 2], 2, 4)).unwrap_err(), OpenError::BadInner);
    // Padding for traffic flow confidentiality (section 2.7).
    let inner = udp_v4(8);
    let opened = open(&packet(&[inner.as_slice(), &[0; 64]].concat(), &[1, 2], 2, 4)).unwrap();
    assert_eq!(opened.inner.len(), inner.len());
    for (at, value) in [(0, 0x44), (0, 0x4f), (2, 0xff), (3, 19)] {
        let mut bad = udp_v4(8);
        bad[at] = value;
        assert_eq!(
            open(&packet(&bad, &[1, 2], 2, 4)).unwrap_err(),
            OpenError::BadInner,
            "octet {at} {value:x}"
        );
    }
}
