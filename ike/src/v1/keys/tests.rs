//! NIST's cases of the key derivation (CAVS 17.3), which lie beside the project, and the formulas of RFC 2409 written out.
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

const AES128: (u16, Option<u16>) = (12, Some(128));
const AES192: (u16, Option<u16>) = (12, Some(192));
const AES256: (u16, Option<u16>) = (12, Some(256));
const DES3: (u16, Option<u16>) = (3, None);

fn choice(encr: (u16, Option<u16>), prf: u16) -> IkeChoice {
    let encr = Transform { key_bits: encr.1, ..Transform::new(TransformType::ENCR, encr.0) };
    IkeChoice { encr, integ: None, prf: Transform::new(TransformType::PRF, prf), group: 14 }
}

fn suite(encr: (u16, Option<u16>), prf: u16) -> Suite {
    Suite::new(&choice(encr, prf)).unwrap()
}

fn octets(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The cases of a file: the PRF of each and its fields by name.
fn load(name: &str) -> Option<Vec<(u16, HashMap<String, String>)>> {
    let path = format!("{}/../../shared/vectors/nss-cavs-ike/{name}", env!("CARGO_MANIFEST_DIR"));
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no third-party vectors beside the project (nss-cavs-ike/{name})");
        return None;
    };
    let mut prf = 0;
    let mut cases: Vec<(u16, HashMap<String, String>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(hash) = line.strip_prefix("[SHA-") {
            prf = match hash {
                "1]" => 2,
                "256]" => 5,
                "384]" => 6,
                "512]" => 7,
                other => panic!("SHA-{other}"),
            };
        } else if line.starts_with("COUNT") {
            cases.push((prf, HashMap::new()));
        } else if let (Some((name, value)), false) = (line.split_once(" = "), line.starts_with(['[', '#'])) {
            cases.last_mut().unwrap().1.insert(name.to_owned(), value.to_owned());
        }
    }
    Some(cases)
}

fn check(name: &str, derive: impl Fn(Suite, &dyn Fn(&str) -> Vec<u8>, &[u8], (u64, u64)) -> Skeyid) {
    let Some(cases) = load(name) else { return };
    for (prf, fields) in &cases {
        let field = |name: &str| octets(&fields[name]);
        let cookie = |name: &str| u64::from_str_radix(&fields[name], 16).unwrap();
        let (shared, cky) = (field("g^xy"), (cookie("CKY_I"), cookie("CKY_R")));
        let suite = suite(AES128, *prf);
        let keys = derive(suite, &field, &shared, cky);
        assert_eq!(*keys.id, field("SKEYID"));
        assert_eq!(*keys.d, field("SKEYID_d"));
        assert_eq!(*keys.a, field("SKEYID_a"));
        // A key of 16 octets is the beginning of SKEYID_e, which all of these hashes are longer than.
        assert_eq!(*keys.key, field("SKEYID_e")[..16]);
        assert_eq!(*schedule(suite, keys.id, &shared, cky).unwrap().e, field("SKEYID_e"));
    }
    // 100 cases in each of 17 groups.
    assert_eq!(cases.len(), 1_700);
}

#[test]
fn keys_with_a_pre_shared_key_are_derived_as_nist_expects() {
    check("ikev1_psk.fax", |suite, field, shared, (i, r)| {
        skeyid_psk(suite, &field("pre-shared-key"), &field("Ni"), &field("Nr"), shared, i, r).unwrap()
    });
}

#[test]
fn keys_with_signatures_are_derived_as_nist_expects() {
    check("ikev1_dsa.fax", |suite, field, shared, (i, r)| {
        skeyid_signature(suite, &field("Ni"), &field("Nr"), shared, i, r).unwrap()
    });
}

#[test]
fn suites_are_those_of_ciphers_in_cbc_mode_with_a_hash() {
    for (encr, key, block) in [(AES128, 16, 16), (AES192, 24, 16), (AES256, 32, 16), (DES3, 24, 8)] {
        for prf in [1, 2, 5, 6, 7] {
            let suite = suite(encr, prf);
            assert_eq!((suite.key_len(), suite.block()), (key, block));
            assert_eq!((suite.cipher().key_len(), suite.cipher().block_size()), (key, block));
        }
    }
    for (encr, prf) in [
        ((20, Some(128)), 5),
        ((28, None), 5),
        ((12, None), 5),
        ((12, Some(64)), 5),
        ((3, Some(192)), 5),
        ((2, None), 5),
        (AES128, 4),
        (AES128, 8),
        (AES128, 3),
    ] {
        assert_eq!(Suite::new(&choice(encr, prf)), Err(CryptoError::Unsupported), "{encr:?} {prf}");
    }
}

#[test]
fn a_key_longer_than_the_hash_is_stretched() {
    // MD5 makes 16 octets, SHA-1 20.
    for (encr, prf, hash) in
        [(AES256, 1, HmacHash::Md5), (DES3, 1, HmacHash::Md5), (AES256, 2, HmacHash::Sha1)]
    {
        let suite = suite(encr, prf);
        let e = vec![7; hash.octets()];
        let k1 = hash.hmac(&e, &[&[0]]).unwrap();
        let k2 = hash.hmac(&e, &[&k1]).unwrap();
        let expected = [k1.as_slice(), &k2].concat()[..suite.key_len()].to_vec();
        assert_eq!(*stretch(suite, &e).unwrap(), expected);
    }
    // One that is not goes without.
    let e: Vec<u8> = (0..32).collect();
    assert_eq!(stretch(suite(AES256, 5), &e).unwrap()[..], e[..]);
    assert_eq!(stretch(suite(AES192, 5), &e).unwrap()[..], e[..24]);
}

#[test]
fn ivs_are_the_beginning_of_a_hash() {
    let suite = suite(DES3, 2);
    assert_eq!(suite.first_iv(b"a", b"bc"), [0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a]);
    let digest = HmacHash::Sha1.digest(&[&[9; 8], &[0, 0, 1, 2]]);
    assert_eq!(suite.phase2_iv(&[9; 8], 0x102), digest[..8]);
}

#[test]
fn aes_in_cbc_mode_is_that_of_sp_800_38a() {
    let key = octets("2b7e151628aed2a6abf7158809cf4f3c");
    let first: Vec<u8> = (0..16).collect();
    let plain = octets(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef",
    );
    let sealed = octets(
        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e22229516",
    );
    let suite = suite(AES128, 5);
    // In two messages, of which the second goes on with the IV of the first.
    let mut iv = first.clone();
    for (at, to) in [(0, 32), (32, 48)] {
        assert_eq!(encrypt(suite, &key, &mut iv, &plain[at..to]).unwrap(), sealed[at..to]);
        assert_eq!(iv, sealed[to - 16..to]);
    }
    let (opened, next) = decrypt(suite, &key, &first, &sealed).unwrap();
    assert_eq!((opened.as_slice(), next.as_slice()), (plain.as_slice(), &sealed[32..]));
}

#[test]
fn what_is_no_number_of_blocks_is_refused() {
    let suite = suite(DES3, 2);
    let (key, iv) = ([1; 24], [2; 8]);
    for length in [0, 1, 7, 9, 15] {
        assert_eq!(decrypt(suite, &key, &iv, &vec![0; length]), Err(CryptoError::Malformed), "{length}");
    }
    assert!(decrypt(suite, &key, &iv, &[0; 16]).is_ok());
    // Never reached by a peer: a key or an IV of another cipher.
    assert_eq!(decrypt(suite, &key[..16], &iv, &[0; 16]), Err(CryptoError::Library));
    assert_eq!(decrypt(suite, &key, &[2; 16], &[0; 16]), Err(CryptoError::Library));
    assert_eq!(encrypt(suite, &key, &mut iv.to_vec(), &[]), Err(CryptoError::Malformed));
}

#[test]
fn hashes_are_those_of_rfc_2409() {
    let suite = suite(AES128, 5);
    let prf = |seed: &[u8]| HmacHash::Sha256.hmac(b"key", &[seed]).unwrap();
    let expected = prf(b"xiyr\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02SAID");
    assert_eq!(phase1_hash(suite, b"key", b"xi", b"yr", (1, 2), b"SA", b"ID").unwrap(), expected);
    assert_eq!(hash1(suite, b"key", 258, b"rest").unwrap(), prf(b"\x00\x00\x01\x02rest"));
    assert_eq!(hash2(suite, b"key", 258, b"ni", b"rest").unwrap(), prf(b"\x00\x00\x01\x02nirest"));
    assert_eq!(hash3(suite, b"key", 258, b"ni", b"nr").unwrap(), prf(b"\x00\x00\x00\x01\x02ninr"));
}

fn esp(encr: (u16, Option<u16>), integ: Option<u16>) -> EspChoice {
    let encr = Transform { key_bits: encr.1, ..Transform::new(TransformType::ENCR, encr.0) };
    let integ = integ.map(|id| Transform::new(TransformType::INTEG, id));
    EspChoice { encr, integ, esn: false, group: None }
}

#[test]
fn each_direction_has_the_keys_of_its_receivers_spi() {
    let suite = suite(AES128, 2);
    for (choice, encryption, integrity) in [
        (esp((20, Some(256)), None), 36, 0),
        (esp(AES128, Some(2)), 16, 20),
        (esp(DES3, Some(1)), 24, 16),
        (esp(AES256, Some(12)), 32, 32),
        (esp(AES256, Some(SHA256_96)), 32, 32),
        (esp(AES256, Some(14)), 32, 64),
    ] {
        for shared in [None, Some(b"g^xy".as_slice())] {
            let keys = child(suite, b"d", &choice, shared, (b"ni", b"nr"), 0x0a0b_0c0d, 7).unwrap();
            for (keys, spi) in [(&keys.initiator, [0, 0, 0, 7]), (&keys.responder, [10, 11, 12, 13])] {
                let seed = [shared.unwrap_or_default(), &[3], &spi, b"ni", b"nr"].concat();
                let mut all = Vec::new();
                let mut block = HmacHash::Sha1.hmac(b"d", &[&seed]).unwrap();
                while all.len() < encryption + integrity {
                    all.extend_from_slice(&block);
                    block = HmacHash::Sha1.hmac(b"d", &[&block, &seed]).unwrap();
                }
                assert_eq!(keys.encryption[..], all[..encryption]);
                assert_eq!(keys.integrity[..], all[encryption..encryption + integrity]);
            }
        }
    }
    let bogus = child(suite, b"d", &esp((21, Some(128)), None), None, (b"ni", b"nr"), 1, 2);
    assert_eq!(bogus.err(), Some(CryptoError::Unsupported));
}

#[test]
fn keys_do_not_print() {
    let keys = skeyid_psk(suite(AES128, 5), b"hunter2", b"ni", b"nr", b"shared", 1, 2).unwrap();
    assert_eq!(format!("{keys:?}"), "Skeyid(..)");
}

proptest! {
    #[test]
    fn what_is_encrypted_opens(
        plain in prop::collection::vec(any::<u8>(), 1..200),
        key in any::<[u8; 32]>(),
        iv in any::<[u8; 16]>(),
        cipher in prop::sample::select(vec![AES128, AES192, AES256, DES3]),
    ) {
        let suite = suite(cipher, 5);
        let (key, first) = (&key[..suite.key_len()], &iv[..suite.block()]);
        let mut iv = first.to_vec();
        let sealed = encrypt(suite, key, &mut iv, &plain).unwrap();
        // None is added where it fits.
        prop_assert_eq!(sealed.len(), plain.len().next_multiple_of(suite.block()));
        let (opened, next) = decrypt(suite, key, first, &sealed).unwrap();
        prop_assert_eq!(next, iv);
        let (text, padding) = opened.split_at(plain.len());
        prop_assert_eq!(text, plain.as_slice());
        prop_assert!(padding.iter().all(|&octet| octet == 0));
    }
}
