//! The algorithms Culvert implements, one row each. A further algorithm is one more row here and one arm in `crypto`.

use super::iana;
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

/// One row: the word used in configuration and the transform it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Algorithm {
    /// The word in a proposal, as strongSwan and Libreswan users write it.
    pub word: &'static str,
    /// The transform on the wire.
    pub transform: Transform,
    /// Encryption that authenticates as well (RFC 5282): no INTEG transform goes with it.
    pub aead: bool,
    /// May be used for an IKE SA.
    pub ike: bool,
    /// May be used for an ESP SA.
    pub esp: bool,
    /// No longer strong enough for anything new (RFC 8221, RFC 8247): for peers that have nothing better.
    pub legacy: bool,
}

impl Algorithm {
    const fn legacy(self) -> Self {
        Self { legacy: true, ..self }
    }
}

const fn encr(word: &'static str, id: u16, key_bits: Option<u16>, aead: bool) -> Algorithm {
    let transform = Transform { kind: TransformType::ENCR, id, key_bits, unknown_attribute: false };
    Algorithm { word, transform, aead, ike: true, esp: true, legacy: false }
}

const fn other(word: &'static str, kind: TransformType, id: u16, ike: bool, esp: bool) -> Algorithm {
    Algorithm { word, transform: Transform::new(kind, id), aead: false, ike, esp, legacy: false }
}

/// ENCR_3DES.
pub const TRIPLE_DES: u16 = 3;
/// ENCR_AES_CBC.
pub const AES_CBC: u16 = 12;
/// ENCR_AES_GCM_16.
pub const AES_GCM_16: u16 = 20;
/// ENCR_CHACHA20_POLY1305.
pub const CHACHA20_POLY1305: u16 = 28;
/// INTEG, but not on the wire: stands for HMAC-SHA-256 cut to 96 bits.
pub const SHA256_96: u16 = 1_025;

/// Every algorithm. The first word of a transform is the one it is printed with.
pub const ALGORITHMS: &[Algorithm] = &[
    encr("aes128gcm16", AES_GCM_16, Some(128), true),
    encr("aes192gcm16", AES_GCM_16, Some(192), true),
    encr("aes256gcm16", AES_GCM_16, Some(256), true),
    encr("chacha20poly1305", CHACHA20_POLY1305, None, true),
    encr("aes128", AES_CBC, Some(128), false),
    encr("aes192", AES_CBC, Some(192), false),
    encr("aes256", AES_CBC, Some(256), false),
    other("sha256", TransformType::INTEG, 12, true, true),
    other("sha384", TransformType::INTEG, 13, true, true),
    other("sha512", TransformType::INTEG, 14, true, true),
    other("aesxcbc", TransformType::INTEG, 5, true, true),
    other("aescmac", TransformType::INTEG, 8, true, true),
    // IKEv1 alone, for IKEv2 had only ever the other.
    other("sha256_96", TransformType::INTEG, SHA256_96, false, true),
    other("prfsha256", TransformType::PRF, 5, true, false),
    other("prfsha384", TransformType::PRF, 6, true, false),
    other("prfsha512", TransformType::PRF, 7, true, false),
    other("prfaesxcbc", TransformType::PRF, 4, true, false),
    other("prfaescmac", TransformType::PRF, 8, true, false),
    other("modp2048", TransformType::KE, 14, true, true),
    other("modp3072", TransformType::KE, 15, true, true),
    other("modp4096", TransformType::KE, 16, true, true),
    other("modp6144", TransformType::KE, 17, true, true),
    other("modp8192", TransformType::KE, 18, true, true),
    other("ecp256", TransformType::KE, 19, true, true),
    other("ecp384", TransformType::KE, 20, true, true),
    other("ecp521", TransformType::KE, 21, true, true),
    other("x25519", TransformType::KE, 31, true, true),
    // No key exchange of its own; beside groups it leaves the choice to the peer.
    other("nopfs", TransformType::KE, 0, false, true),
    other("esn", TransformType::ESN, 1, false, true),
    other("noesn", TransformType::ESN, 0, false, true),
    encr("3des", TRIPLE_DES, None, false).legacy(),
    other("md5", TransformType::INTEG, 1, true, true).legacy(),
    other("sha1", TransformType::INTEG, 2, true, true).legacy(),
    other("prfmd5", TransformType::PRF, 1, true, false).legacy(),
    other("prfsha1", TransformType::PRF, 2, true, false).legacy(),
    other("modp1024", TransformType::KE, 2, true, true).legacy(),
    other("modp1536", TransformType::KE, 5, true, true).legacy(),
    // Other spellings in use.
    encr("aes128gcm128", AES_GCM_16, Some(128), true),
    encr("aes256gcm128", AES_GCM_16, Some(256), true),
    other("sha", TransformType::INTEG, 2, true, true).legacy(),
    other("sha2_256", TransformType::INTEG, 12, true, true),
    other("sha2_384", TransformType::INTEG, 13, true, true),
    other("sha2_512", TransformType::INTEG, 14, true, true),
    other("curve25519", TransformType::KE, 31, true, true),
];

/// The row a word stands for.
pub fn by_word(word: &str) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().find(|a| a.word == word)
}

/// The row of a transform.
pub fn by_transform(t: &Transform) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().find(|a| a.transform == *t)
}

/// Whether this encryption transform needs no separate integrity algorithm.
pub const fn is_aead(id: u16) -> bool {
    matches!(id, AES_GCM_16 | CHACHA20_POLY1305)
}

/// The words of those that are legacy, each once.
pub fn legacy(transforms: &[Transform]) -> Vec<&'static str> {
    let mut words = Vec::new();
    for row in transforms.iter().filter_map(by_transform).filter(|row| row.legacy) {
        if !words.contains(&row.word) {
            words.push(row.word);
        }
    }
    words
}

/// The word for a transform, or what the registry calls one that Culvert does not know.
pub fn word(t: &Transform) -> String {
    by_transform(t).map_or_else(|| iana::name(t), |row| row.word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal::{EspProposal, IkeProposal};

    #[test]
    fn a_transform_is_printed_with_the_first_of_its_words_and_legacy_in_each() {
        for row in ALGORITHMS {
            let first = by_transform(&row.transform).unwrap();
            assert_eq!(by_word(first.word).unwrap().transform, row.transform);
            assert_eq!(first.legacy, row.legacy, "{}", row.word);
        }
    }

    #[test]
    fn no_default_proposal_has_a_legacy_algorithm() {
        assert!(IkeProposal::defaults().iter().all(|p| p.legacy().is_empty()));
        assert!(EspProposal::defaults().iter().all(|p| p.legacy().is_empty()));
    }
}
