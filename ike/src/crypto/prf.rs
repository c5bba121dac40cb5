//! Pseudorandom functions and prf+ (RFC 7296 section 2.13).

use hmac::{Hmac, KeyInit, Mac};
use mac::AesPrf;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::CryptoError;

/// A key or intermediate secret; zeroized when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// A hash used by HMAC, as PRF or for integrity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacHash {
    /// MD5. Legacy.
    Md5,
    /// SHA-1. Legacy.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HmacHash {
    /// Octets of output, which is also the key length of the PRF.
    pub const fn octets(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The bare hash of the concatenation of `parts`.
    pub fn digest(self, parts: &[&[u8]]) -> Secret {
        match self {
            Self::Md5 => hashed::<Md5>(parts),
            Self::Sha1 => hashed::<Sha1>(parts),
            Self::Sha256 => hashed::<Sha256>(parts),
            Self::Sha384 => hashed::<Sha384>(parts),
            Self::Sha512 => hashed::<Sha512>(parts),
        }
    }

    /// HMAC over the concatenation of `parts`.
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
        match self {
            Self::Md5 => run::<Hmac<Md5>>(key, parts),
            Self::Sha1 => run::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => run::<Hmac<Sha256>>(key, parts),
            Self::Sha384 => run::<Hmac<Sha384>>(key, parts),
            Self::Sha512 => run::<Hmac<Sha512>>(key, parts),
        }
    }
}

fn hashed<D: Digest>(parts: &[&[u8]]) -> Secret {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    Zeroizing::new(digest.finalize().to_vec())
}

fn run<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
    let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| CryptoError::Library)?;
    for part in parts {
        mac.update(part);
    }
    Ok(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
}

/// The PRF of an IKE_SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prf {
    /// HMAC with a hash (RFC 4868).
    Hmac(HmacHash),
    /// A code made of AES-128 (RFC 4434, RFC 4615).
    Aes(AesPrf),
}

impl Prf {
    /// The PRF of a transform ID (RFC 4868).
    pub const fn from_transform(id: u16) -> Result<Self, CryptoError> {
        match id {
            1 => Ok(Self::Hmac(HmacHash::Md5)),
            2 => Ok(Self::Hmac(HmacHash::Sha1)),
            4 => Ok(Self::Aes(AesPrf::Xcbc)),
            5 => Ok(Self::Hmac(HmacHash::Sha256)),
            6 => Ok(Self::Hmac(HmacHash::Sha384)),
            7 => Ok(Self::Hmac(HmacHash::Sha512)),
            8 => Ok(Self::Aes(AesPrf::Cmac)),
            _ => Err(CryptoError::Unsupported),
        }
    }

    /// Preferred key length in octets, that of SK_d, SK_pi and SK_pr.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Hmac(hash) => hash.octets(),
            Self::Aes(_) => mac::LEN,
        }
    }

    /// The key of the first derivation, made of both nonces: all of them, or of a PRF whose key has a fixed length the
    /// first 8 octets of each (RFC 7296 section 2.14).
    pub fn nonce_key(self, ni: &[u8], nr: &[u8]) -> Vec<u8> {
        let part = match self {
            Self::Hmac(_) => usize::MAX,
            Self::Aes(_) => mac::LEN / 2,
        };
        ni.iter().take(part).chain(nr.iter().take(part)).copied().collect()
    }

    /// prf(key, parts).
    pub fn prf(self, key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
        match self {
            Self::Hmac(hash) => hash.hmac(key, parts),
            Self::Aes(prf) => {
                let mut keyed = prf.keyed(key);
                parts.iter().for_each(|part| keyed.update(part));
                Ok(Zeroizing::new(keyed.finish().to_vec()))
            }
        }
    }

    /// `len` octets of prf+ (key, seed); at most 255 blocks.
    pub fn prf_plus(self, key: &[u8], seed: &[&[u8]], len: usize) -> Result<Secret, CryptoError> {
        let mut out = Zeroizing::new(Vec::with_capacity(len + self.key_len()));
        let mut block = Secret::default();
        for counter in 1..=u8::MAX {
            if out.len() >= len {
                break;
            }
            let parts: Vec<&[u8]> = [&[block.as_slice()], seed, &[std::slice::from_ref(&counter)]].concat();
            block = self.prf(key, &parts)?;
            out.extend_from_slice(&block);
        }
        if out.len() < len {
            return Err(CryptoError::Unsupported);
        }
        out.truncate(len);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prf_plus_chains_its_blocks() {
        let prf = Prf::Hmac(HmacHash::Sha256);
        let t1 = prf.prf(b"key", &[b"seed", &[1]]).unwrap();
        let t2 = prf.prf(b"key", &[&t1, b"seed", &[2]]).unwrap();
        let out = prf.prf_plus(b"key", &[b"se", b"ed"], 50).unwrap();
        assert_eq!(out[..32], t1[..]);
        assert_eq!(out[32..], t2[..18]);
        assert!(prf.prf_plus(b"key", &[], 255 * 32 + 1).is_err());
    }

    #[test]
    fn every_octet_counts_and_where_it_is_cut_does_not() {
        for prf in [Prf::Hmac(HmacHash::Sha256), Prf::Aes(mac::AesPrf::Xcbc), Prf::Aes(mac::AesPrf::Cmac)] {
            let of = |key: &[u8], parts: &[&[u8]]| prf.prf(key, parts).unwrap().to_vec();
            assert_eq!(of(b"key", &[b"se", b"ed"]), of(b"key", &[b"seed"]));
            let others =
                [of(b"key", &[b"seee"]), of(b"key", &[b"see"]), of(b"key", &[]), of(b"kex", &[b"seed"])];
            assert!(!others.contains(&of(b"key", &[b"seed"])), "{prf:?}");
        }
    }

    #[test]
    fn hmac_of_rfc_2202_case_1_and_the_hashes_of_nothing() {
        let hmac = |hash: HmacHash, len| hash.hmac(&vec![0x0b; len], &[b"Hi There"]).unwrap()[..4].to_vec();
        assert_eq!(hmac(HmacHash::Md5, 16), [0x92, 0x94, 0x72, 0x7a]);
        assert_eq!(hmac(HmacHash::Sha1, 20), [0xb6, 0x17, 0x31, 0x86]);
        assert_eq!(HmacHash::Md5.digest(&[])[..4], [0xd4, 0x1d, 0x8c, 0xd9]);
        assert_eq!(HmacHash::Sha1.digest(&[b"a", b"bc"])[..4], [0xa9, 0x99, 0x3e, 0x36]);
    }

    #[test]
    fn hmac_sha256_of_rfc_4231_case_1() {
        let mac = HmacHash::Sha256.hmac(&[0x0b; 20], &[b"Hi There"]).unwrap();
        assert_eq!(mac[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }
}
