//! What the registry calls the algorithms that Culvert does not implement ("IKEv2 Parameters", transform types 1 to 12), so
//! that a peer's offer is told in words. A name is one word of a proposal: it has no `-`.

use super::table::SHA256_96;
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

/// Encryption algorithms (transform type 1), without the `ENCR_` in front.
const ENCR: &[(u16, &str)] = &[
    (1, "DES_IV64"),
    (2, "DES"),
    (3, "3DES"),
    (4, "RC5"),
    (5, "IDEA"),
    (6, "CAST"),
    (7, "BLOWFISH"),
    (8, "3IDEA"),
    (9, "DES_IV32"),
    (11, "NULL"),
    (12, "AES_CBC"),
    (13, "AES_CTR"),
    (14, "AES_CCM_8"),
    (15, "AES_CCM_12"),
    (16, "AES_CCM_16"),
    (18, "AES_GCM_8"),
    (19, "AES_GCM_12"),
    (20, "AES_GCM_16"),
    (21, "NULL_AUTH_AES_GMAC"),
    (23, "CAMELLIA_CBC"),
    (24, "CAMELLIA_CTR"),
    (25, "CAMELLIA_CCM_8"),
    (26, "CAMELLIA_CCM_12"),
    (27, "CAMELLIA_CCM_16"),
    (28, "CHACHA20_POLY1305"),
    (29, "AES_CCM_8_IIV"),
    (30, "AES_GCM_16_IIV"),
    (31, "CHACHA20_POLY1305_IIV"),
    (32, "KUZNYECHIK_MGM_KTREE"),
    (33, "MAGMA_MGM_KTREE"),
    (34, "KUZNYECHIK_MGM_MAC_KTREE"),
    (35, "MAGMA_MGM_MAC_KTREE"),
];

/// Pseudorandom functions (transform type 2), without the `PRF_` in front.
const PRF: &[(u16, &str)] = &[
    (1, "HMAC_MD5"),
    (2, "HMAC_SHA1"),
    (3, "HMAC_TIGER"),
    (4, "AES128_XCBC"),
    (5, "HMAC_SHA2_256"),
    (6, "HMAC_SHA2_384"),
    (7, "HMAC_SHA2_512"),
    (8, "AES128_CMAC"),
    (9, "HMAC_STREEBOG_512"),
];

/// Integrity algorithms (transform type 3), without the `AUTH_` in front.
const INTEG: &[(u16, &str)] = &[
    (1, "HMAC_MD5_96"),
    (2, "HMAC_SHA1_96"),
    (3, "DES_MAC"),
    (4, "KPDK_MD5"),
    (5, "AES_XCBC_96"),
    (6, "HMAC_MD5_128"),
    (7, "HMAC_SHA1_160"),
    (8, "AES_CMAC_96"),
    (9, "AES_128_GMAC"),
    (10, "AES_192_GMAC"),
    (11, "AES_256_GMAC"),
    (12, "HMAC_SHA2_256_128"),
    (13, "HMAC_SHA2_384_192"),
    (14, "HMAC_SHA2_512_256"),
    // None of the registry, but of IKEv1 peers that cut it short.
    (SHA256_96, "HMAC_SHA2_256_96"),
];

/// Key exchange methods (transform types 4 and 6 to 12). The registry's names are phrases ("1024-bit MODP Group"), so these
/// are the words of other implementations' configurations.
const KE: &[(u16, &str)] = &[
    (0, "none"),
    (1, "modp768"),
    (2, "modp1024"),
    (5, "modp1536"),
    (14, "modp2048"),
    (15, "modp3072"),
    (16, "modp4096"),
    (17, "modp6144"),
    (18, "modp8192"),
    (19, "ecp256"),
    (20, "ecp384"),
    (21, "ecp521"),
    (22, "modp1024s160"),
    (23, "modp2048s224"),
    (24, "modp2048s256"),
    (25, "ecp192"),
    (26, "ecp224"),
    (27, "ecp224bp"),
    (28, "ecp256bp"),
    (29, "ecp384bp"),
    (30, "ecp512bp"),
    (31, "x25519"),
    (32, "x448"),
    (33, "gost256"),
    (34, "gost512"),
    (35, "mlkem512"),
    (36, "mlkem768"),
    (37, "mlkem1024"),
];

/// The first transform type of the additional key exchanges (RFC 9370 section 2.2.1), and how many there are.
const ADDITIONAL: (u8, u8) = (6, 7);

/// A transform in words.
pub(crate) fn name(t: &Transform) -> String {
    let of = |table: &[(u16, &'static str)]| table.iter().find(|(id, _)| *id == t.id).map(|(_, name)| *name);
    let (prefix, known) = match t.kind {
        TransformType::ENCR => ("ENCR_", of(ENCR)),
        TransformType::PRF => ("PRF_", of(PRF)),
        TransformType::INTEG => ("AUTH_", of(INTEG)),
        TransformType::KE => ("", of(KE)),
        _ => ("", None),
    };
    let additional = t.kind.0.checked_sub(ADDITIONAL.0).filter(|n| *n < ADDITIONAL.1);
    let name = match (known, additional) {
        (Some(name), _) => format!("{prefix}{name}"),
        // Types and numbers are told even where nobody has a name for them.
        (None, Some(n)) => match of(KE) {
            Some(name) => format!("ke{}_{name}", n + 1),
            None => format!("ke{}({})", n + 1, t.id),
        },
        (None, None) => format!("{}({})", t.kind, t.id),
    };
    match t.key_bits {
        Some(bits) => format!("{name}_{bits}"),
        None => name,
    }
}

/// A key exchange group in words, with its number.
pub(crate) fn group(id: u16) -> String {
    format!("{} ({id})", name(&Transform::new(TransformType::KE, id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_implemented_has_a_name_of_one_word() {
        for (kind, id, bits, expected) in [
            (TransformType::ENCR, 16, Some(128), "ENCR_AES_CCM_16_128"),
            (TransformType::ENCR, 3, None, "ENCR_3DES"),
            (TransformType::PRF, 2, None, "PRF_HMAC_SHA1"),
            (TransformType::INTEG, 2, None, "AUTH_HMAC_SHA1_96"),
            (TransformType::KE, 2, None, "modp1024"),
            (TransformType(6), 36, None, "ke1_mlkem768"),
            (TransformType(12), 0, None, "ke7_none"),
            (TransformType(7), 999, None, "ke2(999)"),
            (TransformType::ENCR, 1024, Some(256), "ENCR(1024)_256"),
            (TransformType(13), 1, None, "TransformType(13)(1)"),
        ] {
            let name = name(&Transform { key_bits: bits, ..Transform::new(kind, id) });
            assert_eq!(name, expected);
            assert!(!name.contains(['-', ',', ' ']), "{name} is one word");
        }
        assert_eq!(group(2), "modp1024 (2)");
        assert_eq!(group(999), "KE(999) (999)");
    }
}
