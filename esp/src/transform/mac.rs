//! HMAC-SHA-2 (RFC 4868), HMAC-MD5 (RFC 2403), HMAC-SHA-1 (RFC 2404) or a code made of AES over header, IV and ciphertext, with the implicit high half of an
//! extended sequence number.

use ::mac::AesMac;
use hmac::{Hmac, KeyInit};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use crate::error::SaError;
use crate::suite::Integrity;

/// A keyed state; a packet starts from a copy of it, so the key is hashed once per SA.
pub(crate) struct Mac {
    state: State,
    icv_len: usize,
    esn: bool,
}

enum State {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
    Aes(AesMac),
}

impl Mac {
    pub(super) fn new(integrity: Integrity, esn: bool, key: &[u8]) -> Result<Self, SaError> {
        let aes = || key.try_into().map_err(|_| SaError::Crypto);
        let state = match integrity {
            Integrity::AesXcbc96 => Ok(State::Aes(AesMac::xcbc(aes()?))),
            Integrity::AesCmac96 => Ok(State::Aes(AesMac::cmac(aes()?))),
            Integrity::HmacMd5_96 => Hmac::new_from_slice(key).map(State::Md5),
            Integrity::HmacSha1_96 => Hmac::new_from_slice(key).map(State::Sha1),
            Integrity::HmacSha256_128 | Integrity::HmacSha256_96 => {
                Hmac::new_from_slice(key).map(State::Sha256)
            }
            Integrity::HmacSha384_192 => Hmac::new_from_slice(key).map(State::Sha384),
            Integrity::HmacSha512_256 => Hmac::new_from_slice(key).map(State::Sha512),
        }
        .map_err(|_| SaError::Crypto)?;
        Ok(Self { state, icv_len: integrity.icv_len(), esn })
    }

    /// Writes the check value of `signed` to the front of `icv`.
    pub(super) fn sign(&self, signed: &[u8], sequence: u64, icv: &mut [u8]) {
        let full = self.compute(signed, sequence);
        for (to, from) in icv.iter_mut().zip(full.iter().take(self.icv_len)) {
            *to = *from;
        }
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, signed: &[u8], sequence: u64, icv: &[u8]) -> bool {
        let full = self.compute(signed, sequence);
        match full.get(..self.icv_len) {
            Some(want) if want.len() == icv.len() => openssl::memcmp::eq(want, icv),
            _ => false,
        }
    }

    fn compute(&self, signed: &[u8], sequence: u64) -> [u8; MAX_OUTPUT] {
        // Not transmitted, but part of the check (RFC 4303 section 2.2.1).
        let high = ((sequence >> 32) as u32).to_be_bytes();
        let high = if self.esn { high.as_slice() } else { &[] };
        let mut output = [0; MAX_OUTPUT];
        match &self.state {
            State::Md5(state) => finish(state.clone(), signed, high, &mut output),
            State::Sha1(state) => finish(state.clone(), signed, high, &mut output),
            State::Sha256(state) => finish(state.clone(), signed, high, &mut output),
            State::Sha384(state) => finish(state.clone(), signed, high, &mut output),
            State::Sha512(state) => finish(state.clone(), signed, high, &mut output),
            State::Aes(state) => {
                let mut state = state.clone();
                state.update(signed);
                state.update(high);
                for (to, from) in output.iter_mut().zip(state.finish()) {
                    *to = from;
                }
            }
        }
        output
    }
}

/// The output of SHA-512.
const MAX_OUTPUT: usize = 64;

fn finish<M: hmac::Mac>(mut mac: M, signed: &[u8], high: &[u8], output: &mut [u8; MAX_OUTPUT]) {
    mac.update(signed);
    mac.update(high);
    for (to, from) in output.iter_mut().zip(mac.finalize().into_bytes()) {
        *to = from;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sha_256_is_cut_to_either_length() {
        let code = |integrity: Integrity| {
            let mut icv = vec![0; integrity.icv_len()];
            Mac::new(integrity, false, &[9; 32]).unwrap().sign(b"a packet", 1, &mut icv);
            icv
        };
        let (long, short) = (code(Integrity::HmacSha256_128), code(Integrity::HmacSha256_96));
        assert_eq!((long.len(), short.len()), (16, 12));
        assert!(long.starts_with(&short));
    }

    #[test]
    fn hmac_of_rfc_2202_case_1() {
        let code = |integrity, key: &[u8]| {
            let mut icv = [0; 12];
            Mac::new(integrity, false, key).unwrap().sign(b"Hi There", 1, &mut icv);
            icv
        };
        let md5 = [0x92, 0x94, 0x72, 0x7a, 0x36, 0x38, 0xbb, 0x1c, 0x13, 0xf4, 0x8e, 0xf8];
        assert_eq!(code(Integrity::HmacMd5_96, &[0x0b; 16]), md5);
        let sha_1 = [0xb6, 0x17, 0x31, 0x86, 0x55, 0x05, 0x72, 0x64, 0xe2, 0x8b, 0xc0, 0xb6];
        assert_eq!(code(Integrity::HmacSha1_96, &[0x0b; 20]), sha_1);
    }
}
