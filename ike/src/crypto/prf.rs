//! Pseudorandom functions and prf+ (RFC 7296 section 2.13).

use hmac::{Hmac, KeyInit, Mac};
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
pub struct Prf(pub HmacHash);

impl Prf {
    /// The PRF of a transform ID (RFC 4868).
    pub const fn from_transform(id: u16) -> Result<Self, CryptoError> {
        match id {
            5 => Ok(Self(HmacHash::Sha256)),
            6 => Ok(Self(HmacHash::Sha384)),
            7 => Ok(Self(HmacHash::Sha512)),
            _ => Err(CryptoError::Unsupported),
        }
    }

    /// Preferred key length in octets, that of SK_d, SK_pi and SK_pr.
    pub const fn key_len(self) -> usize {
        self.0.octets()
    }

    /// prf(key, parts).
    pub fn prf(self, key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
        self.0.hmac(key, parts)
    }

    /// `len` octets of prf+ (key, seed); at most 255 blocks.
    pub fn prf_plus(self, key: &[u8], seed: &[&[u8]], len: usize) -> Result<Secret, CryptoError> {
        let mut out = Zeroizing::new(Vec::with_capacity(len + self.0.octets()));
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
        let prf = Prf(HmacHash::Sha256);
        let t1 = prf.prf(b"key", &[b"seed", &[1]]).unwrap();
        let t2 = prf.prf(b"key", &[&t1, b"seed", &[2]]).unwrap();
        let out = prf.prf_plus(b"key", &[b"se", b"ed"], 50).unwrap();
        assert_eq!(out[..32], t1[..]);
        assert_eq!(out[32..], t2[..18]);
        assert!(prf.prf_plus(b"key", &[], 255 * 32 + 1).is_err());
    }

    #[test]
    fn hmac_sha256_of_rfc_4231_case_1() {
        let mac = HmacHash::Sha256.hmac(&[0x0b; 20], &[b"Hi There"]).unwrap();
        assert_eq!(mac[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }
}
