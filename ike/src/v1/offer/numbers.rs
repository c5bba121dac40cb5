//! IKEv1's numbers of algorithms against IKEv2's (RFC 2409 appendix A, RFC 2407 sections 4.4.4 and 4.5, RFC 4868, and the
//! registries of both).

use crate::proposal::table::SHA256_96;
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

/// How the two ends of phase 1 prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Both know a key.
    PreSharedKey,
}

impl Method {
    /// The value of the attribute.
    pub(crate) const fn value(self) -> u16 {
        match self {
            Self::PreSharedKey => 1,
        }
    }

    /// What a value stands for, in words, also where it is none that can be chosen.
    pub(crate) fn told(value: u16) -> String {
        let name = match value {
            1 => "pre-shared key",
            2 => "DSS signatures",
            3 => "RSA signatures",
            4 => "RSA encryption",
            5 => "revised RSA encryption",
            9 => "ECDSA with SHA-256 on P-256",
            10 => "ECDSA with SHA-384 on P-384",
            11 => "ECDSA with SHA-512 on P-521",
            64_221..=64_224 => "hybrid authentication",
            65_001..=65_010 => "extended authentication (XAUTH)",
            _ => return format!("authentication method {value}"),
        };
        name.to_owned()
    }
}

/// What an unknown number of IKEv1 is moved by, so that it prints as a number and is none of IKEv2's: into the range for
/// private use.
const UNKNOWN: u16 = 0x8000;

/// Ciphers of phase 1: IKEv1's number, IKEv2's.
const CIPHERS: &[(u16, u16)] = &[(1, 2), (2, 5), (3, 7), (4, 4), (5, 3), (6, 6), (7, 12), (8, 23)];
/// Hashes: IKEv1's number, the PRF of IKEv2, and the integrity algorithm.
const HASHES: &[(u16, u16, u16)] = &[(1, 1, 1), (2, 2, 2), (4, 5, 12), (5, 6, 13), (6, 7, 14)];
/// The one hash that IKEv2 has as a PRF alone, Tiger.
const TIGER: u16 = 3;
/// Transforms of ESP whose numbers are not the same: IKEv1's, IKEv2's.
const ESP: &[(u16, u16)] = &[(22, 23), (23, 21)];
/// Those that are the same.
const ESP_SAME: &[u16] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 18, 19, 20];
/// Authentication in ESP: IKEv1's number, IKEv2's.
const AUTH: &[(u16, u16)] = &[
    (1, 1),
    (2, 2),
    (3, 3),
    (4, 4),
    (5, 12),
    (5, SHA256_96),
    (6, 13),
    (7, 14),
    (9, 5),
    (11, 9),
    (12, 10),
    (13, 11),
];

fn known(kind: TransformType, id: u16) -> Transform {
    Transform::new(kind, id)
}

fn unknown(kind: TransformType, number: u16) -> Transform {
    Transform { unknown_attribute: true, ..Transform::new(kind, UNKNOWN | number) }
}

fn there(table: &[(u16, u16)], number: u16) -> Option<u16> {
    table.iter().find(|(v1, _)| *v1 == number).map(|(_, v2)| *v2)
}

fn back(table: &[(u16, u16)], id: u16) -> Option<u16> {
    table.iter().find(|(_, v2)| *v2 == id).map(|(v1, _)| *v1)
}

/// The cipher of a number in phase 1.
pub(super) fn cipher(number: u16) -> Transform {
    let kind = TransformType::ENCR;
    there(CIPHERS, number).map_or_else(|| unknown(kind, number), |id| known(kind, id))
}

/// The number of a cipher in phase 1. AEADs have none.
pub(super) fn of_cipher(id: u16) -> Option<u16> {
    back(CIPHERS, id)
}

/// PRF and integrity algorithm of a hash.
pub(super) fn hash(number: u16) -> Vec<Transform> {
    match HASHES.iter().find(|(v1, ..)| *v1 == number) {
        Some((_, prf, integ)) => {
            vec![known(TransformType::INTEG, *integ), known(TransformType::PRF, *prf)]
        }
        None if number == TIGER => vec![known(TransformType::PRF, TIGER)],
        None => vec![unknown(TransformType::PRF, number)],
    }
}

/// The number of the hash of a PRF, with the integrity algorithm that goes with it.
pub(super) fn of_prf(id: u16) -> Option<(u16, u16)> {
    HASHES.iter().find(|(_, prf, _)| *prf == id).map(|(v1, _, integ)| (*v1, *integ))
}

/// The cipher of a transform of ESP.
pub(super) fn esp(number: u8) -> Transform {
    let (kind, number) = (TransformType::ENCR, u16::from(number));
    match there(ESP, number) {
        Some(id) => known(kind, id),
        None if ESP_SAME.contains(&number) => known(kind, number),
        None => unknown(kind, number),
    }
}

/// The transform of ESP of a cipher. ChaCha20-Poly1305 has none.
pub(super) fn of_esp(id: u16) -> Option<u8> {
    let number = back(ESP, id).or_else(|| ESP_SAME.contains(&id).then_some(id))?;
    u8::try_from(number).ok()
}

/// The integrity algorithm of an authentication in ESP. SHA-256 is cut to 96 bits by peers that follow a draft.
pub(super) fn auth(number: u16, short_sha256: bool) -> Transform {
    let kind = TransformType::INTEG;
    match there(AUTH, number) {
        Some(12) if short_sha256 => known(kind, SHA256_96),
        Some(id) => known(kind, id),
        None => unknown(kind, number),
    }
}

/// The authentication in ESP of an integrity algorithm. AES-CMAC has none.
pub(super) fn of_auth(id: u16) -> Option<u16> {
    back(AUTH, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal::table;

    #[test]
    fn numbers_of_our_algorithms_come_back() {
        for row in table::ALGORITHMS {
            let t = row.transform;
            match t.kind {
                TransformType::ENCR => {
                    let esp_id = of_esp(t.id).map(|n| esp(n).id);
                    assert_eq!(esp_id, (t.id != table::CHACHA20_POLY1305).then_some(t.id), "{}", row.word);
                    let ike_id = of_cipher(t.id).map(|n| cipher(n).id);
                    assert_eq!(ike_id, (!row.aead).then_some(t.id), "{}", row.word);
                }
                TransformType::INTEG => {
                    let id = of_auth(t.id).map(|n| auth(n, t.id == SHA256_96).id);
                    assert_eq!(id, (t.id != 8).then_some(t.id), "{}", row.word);
                }
                TransformType::PRF if !matches!(t.id, 4 | 8) => {
                    let (number, integ) = of_prf(t.id).unwrap();
                    let integ = Transform::new(TransformType::INTEG, integ);
                    assert_eq!(hash(number), [integ, t], "{}", row.word);
                }
                TransformType::PRF => assert_eq!(of_prf(t.id), None, "{}", row.word),
                _ => {}
            }
        }
    }

    /// RFC 2407 section 4.4.4, RFC 4868 section 4 and the registry.
    #[test]
    fn numbers_are_those_of_the_registry() {
        assert_eq!(
            [of_cipher(3), of_cipher(12), of_cipher(23), of_cipher(20)],
            [Some(5), Some(7), Some(8), None]
        );
        assert_eq!([of_prf(1), of_prf(2), of_prf(5)], [Some((1, 1)), Some((2, 2)), Some((4, 12))]);
        assert_eq!(
            [of_esp(3), of_esp(12), of_esp(20), of_esp(23), of_esp(21)].map(Option::unwrap),
            [3, 12, 20, 22, 23]
        );
        let auths = [1, 2, 5, 12, 13, 14, SHA256_96].map(|id| of_auth(id).unwrap());
        assert_eq!(auths, [1, 2, 9, 5, 6, 7, 5]);
        assert_eq!((auth(5, false).id, auth(5, true).id, auth(6, true).id), (12, SHA256_96, 13));
    }

    #[test]
    fn unknown_numbers_print_and_are_marked() {
        for (t, text) in [
            (cipher(99), "ENCR(32867)"),
            (esp(10), "ENCR(32778)"),
            (auth(8, false), "INTEG(32776)"),
            (hash(9)[0], "PRF(32777)"),
        ] {
            assert!(t.unknown_attribute);
            assert_eq!(table::word(&t), text);
        }
        for (t, text) in [
            (cipher(1), "ENCR_DES"),
            (cipher(3), "ENCR_BLOWFISH"),
            (esp(2), "ENCR_DES"),
            (esp(11), "ENCR_NULL"),
            (hash(3)[0], "PRF_HMAC_TIGER"),
            (auth(5, true), "sha256_96"),
        ] {
            assert!(!t.unknown_attribute);
            assert_eq!(table::word(&t), text);
        }
    }

    #[test]
    fn methods_are_told_in_words() {
        assert_eq!(Method::told(Method::PreSharedKey.value()), "pre-shared key");
        assert_eq!(Method::told(65_001), "extended authentication (XAUTH)");
        assert_eq!(Method::told(7), "authentication method 7");
    }
}
