//! Pseudorandom functions and prf+ (RFC 7296 section 2.13).

use hmac::{Hmac, KeyInit, Mac};
use mac::AesPrf;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::CryptoError;

/// A key or intermediate secret; zeroized when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// A hash used by HMAC, as PRF or for integrity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacHash {
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
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// HMAC over the concatenation of `parts`.
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
        match self {
            Self::Sha256 => run::<Hmac<Sha256>>(key, parts),
            Self::Sha384 => run::<Hmac<Sha384>>(key, parts),
            Self::Sha512 => run::<Hmac<Sha512>>(key, parts),
        }
    }
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
    fn hmac_sha256_of_rfc_4231_case_1() {
        let mac = HmacHash::Sha256.hmac(&[0x0b; 20], &[b"Hi There"]).unwrap();
        assert_eq!(mac[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }
}
