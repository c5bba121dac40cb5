//! Digital signatures in AUTH (RFC 7427): the forms in which they are named. Nothing is signed or verified here.

use std::fmt;

/// A hash that is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA2-256.
    Sha256,
    /// SHA2-384.
    Sha384,
    /// SHA2-512.
    Sha512,
}

impl Hash {
    /// Every one, the shortest first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Octets of its value.
    pub const fn octets(self) -> u8 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Where the hashes of SHA2 are told apart, in the last part of an object identifier of NIST's arc.
    const fn nist(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha384 => 2,
            Self::Sha512 => 3,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// How something is signed. SHA-1 is none of them: it is not strong enough for a signature (RFC 8247 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Ed25519 (RFC 8420), which hashes by itself.
    Ed25519,
    /// ECDSA of whichever curve the key has.
    Ecdsa(Hash),
    /// RSASSA-PSS, with a salt as long as the hash.
    RsaPss(Hash),
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
}

/// Of the registry of hash algorithms (RFC 7427 section 7, RFC 8420 section 2): none, as the signature takes the message itself.
const IDENTITY: u16 = 5;

/// What we can verify, as it is said in SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4).
pub const HASHES: [u16; 4] = [2, 3, 4, IDENTITY];

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const INTEGER: u8 = 0x02;
const NULL: &[u8] = &[0x05, 0x00];

const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// 1.2.840.10045.4.3, and the hash.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// 1.2.840.113549.1.1, and the algorithm.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const MGF1: u8 = 8;
const PSS: u8 = 10;
/// 2.16.840.1.101.3.4.2, and the hash.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// One value of DER of less than 128 octets, which all here are.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[tag, length], content.as_slice()].concat()
}

/// An object identifier that ends in `last`.
fn oid(arc: &[u8], last: u8) -> Vec<u8> {
    der(OID, &[arc, &[last]])
}

impl Scheme {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Ed25519,
        Self::Ecdsa(Hash::Sha256),
        Self::Ecdsa(Hash::Sha384),
        Self::Ecdsa(Hash::Sha512),
        Self::RsaPss(Hash::Sha256),
        Self::RsaPss(Hash::Sha384),
        Self::RsaPss(Hash::Sha512),
        Self::RsaPkcs1(Hash::Sha256),
        Self::RsaPkcs1(Hash::Sha384),
        Self::RsaPkcs1(Hash::Sha512),
    ];

    /// The hash as SIGNATURE_HASH_ALGORITHMS names it: only one that the other side has said may be used.
    pub const fn hash(self) -> u16 {
        match self {
            Self::Ed25519 => IDENTITY,
            Self::Ecdsa(hash) | Self::RsaPss(hash) | Self::RsaPkcs1(hash) => match hash {
                Hash::Sha256 => 2,
                Hash::Sha384 => 3,
                Hash::Sha512 => 4,
            },
        }
    }

    /// The AlgorithmIdentifier (RFC 7427 appendix A, RFC 8420 appendix A).
    pub fn identifier(self) -> Vec<u8> {
        let sha2 = |hash: Hash| der(SEQUENCE, &[&oid(SHA2, hash.nist()), NULL]);
        match self {
            Self::Ed25519 => der(SEQUENCE, &[&der(OID, &[ED25519])]),
            Self::Ecdsa(hash) => der(SEQUENCE, &[&oid(ECDSA, hash.nist() + 1)]),
            Self::RsaPkcs1(hash) => der(SEQUENCE, &[&oid(PKCS1, hash.nist() + 10), NULL]),
            Self::RsaPss(hash) => {
                let mask = der(SEQUENCE, &[&oid(PKCS1, MGF1), &sha2(hash)]);
                let salt = der(INTEGER, &[&[hash.octets()]]);
                let fields = [der(0xa0, &[&sha2(hash)]), der(0xa1, &[&mask]), der(0xa2, &[&salt])];
                der(SEQUENCE, &[&oid(PKCS1, PSS), &der(SEQUENCE, &[&fields.concat()])])
            }
        }
    }

    /// The scheme of an AlgorithmIdentifier. NULL for parameters that say nothing may stand or be left out, as some do (RFC 4055 section
    /// 2.1 wants both to be read), and so may a trailer of RSASSA-PSS that is what goes without saying.
    pub fn read(identifier: &[u8]) -> Option<Self> {
        let plain = |octets: &[u8]| without_nulls(octets);
        let wanted = plain(identifier)?;
        Self::ALL.into_iter().find(|scheme| plain(&scheme.identifier()).as_ref() == Some(&wanted))
    }

    /// All, for people.
    pub(crate) fn list() -> String {
        Self::ALL.map(|scheme| scheme.to_string()).join(", ")
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("ed25519"),
            Self::Ecdsa(hash) => write!(f, "ecdsa-{}", hash.word()),
            Self::RsaPss(hash) => write!(f, "rsa-pss-{}", hash.word()),
            Self::RsaPkcs1(hash) => write!(f, "rsa-{}", hash.word()),
        }
    }
}

/// The trailer field of RSASSA-PSS with its one value (RFC 4055 section 3.1).
const TRAILER: &[u8] = &[0xa3, 0x03, 0x02, 0x01, 0x01];

/// The values of a DER text one after the other, each constructed one by its tag alone, without NULLs and the trailer; nothing where it is
/// not DER of short values.
fn without_nulls(octets: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = octets;
    while let [tag, length, following @ ..] = rest {
        let (content, behind) =
            following.split_at_checked(usize::from(*length)).filter(|_| *length < 0x80)?;
        let whole = rest.get(..2 + content.len())?;
        if whole == TRAILER || whole == NULL {
            // Says what goes without saying.
        } else if tag & 0x20 != 0 {
            out.push(*tag);
            out.extend(without_nulls(content)?);
            // Where it ends, so that what stands in it and what behind are not the same.
            out.push(0);
        } else {
            out.extend(whole);
        }
        rest = behind;
    }
    rest.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_written_as_in_the_rfcs() {
        // RFC 7427 appendix A.1.2, A.3.2, A.4.3 and RFC 8420 appendix A.
        for (scheme, octets) in [
            (Scheme::RsaPkcs1(Hash::Sha256), "300d06092a864886f70d01010b0500"),
            (Scheme::RsaPkcs1(Hash::Sha512), "300d06092a864886f70d01010d0500"),
            (Scheme::Ecdsa(Hash::Sha256), "300a06082a8648ce3d040302"),
            (Scheme::Ecdsa(Hash::Sha384), "300a06082a8648ce3d040303"),
            (
                Scheme::RsaPss(Hash::Sha256),
                "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06\
                 096086480165030402010500a203020120",
            ),
            (Scheme::Ed25519, "300506032b6570"),
        ] {
            let written: String = scheme.identifier().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(written, octets, "{scheme}");
        }
    }

    #[test]
    fn each_scheme_is_read_as_it_is_written_and_without_nulls_as_well() {
        for scheme in Scheme::ALL {
            let identifier = scheme.identifier();
            assert_eq!(Scheme::read(&identifier), Some(scheme));
            assert!(HASHES.contains(&scheme.hash()));
            for cut in 0..identifier.len() {
                assert_eq!(Scheme::read(&identifier[..cut]), None, "{scheme} {cut}");
            }
            assert_eq!(Scheme::read(&[identifier, vec![0]].concat()), None);
        }
        let bare = der(SEQUENCE, &[&oid(PKCS1, 11)]);
        assert_eq!(Scheme::read(&bare), Some(Scheme::RsaPkcs1(Hash::Sha256)));
        // SHA-1 with RSA and with ECDSA.
        assert_eq!(Scheme::read(&der(SEQUENCE, &[&oid(PKCS1, 5), NULL])), None);
        assert_eq!(
            Scheme::read(&der(SEQUENCE, &[&der(OID, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]])])),
            None
        );
        // RSASSA-PSS by its defaults is SHA-1.
        assert_eq!(Scheme::read(&der(SEQUENCE, &[&oid(PKCS1, PSS), &der(SEQUENCE, &[])])), None);
    }

    #[test]
    fn the_salt_and_the_mask_have_to_be_of_the_hash() {
        let sha2 = |n: u8| der(SEQUENCE, &[&oid(SHA2, n)]);
        let pss = |hash: u8, mask: u8, salt: u8, more: &[u8]| {
            let mask = der(SEQUENCE, &[&oid(PKCS1, MGF1), &sha2(mask)]);
            let fields =
                [der(0xa0, &[&sha2(hash)]), der(0xa1, &[&mask]), der(0xa2, &[&der(INTEGER, &[&[salt]])])];
            der(SEQUENCE, &[&oid(PKCS1, PSS), &der(SEQUENCE, &[&fields.concat(), more])])
        };
        assert_eq!(Scheme::read(&pss(1, 1, 32, &[])), Some(Scheme::RsaPss(Hash::Sha256)));
        assert_eq!(Scheme::read(&pss(3, 3, 64, TRAILER)), Some(Scheme::RsaPss(Hash::Sha512)));
        for (hash, mask, salt) in [(1, 2, 32), (1, 1, 20), (2, 2, 32)] {
            assert_eq!(Scheme::read(&pss(hash, mask, salt, &[])), None, "{hash} {mask} {salt}");
        }
    }
}
