//! The key schedule and the encryption of IKEv1 (RFC 2409 section 5 and appendix B).

use openssl::symm::{Cipher, Crypter, Mode};
use zeroize::Zeroizing;

use crate::crypto::CryptoError;
use crate::crypto::keys::{ChildKeys, EspKeys, encryption_key_len};
use crate::crypto::prf::{HmacHash, Prf, Secret};
use crate::crypto::sk::Integrity;
use crate::proposal::table::{AES_CBC, SHA256_96};
use crate::proposal::{EspChoice, IkeChoice};
use crate::wire::numbers::ProtocolId;

/// ENCR_3DES of IKEv2's numbers.
const TRIPLE_DES: u16 = 3;

/// A cipher of phase 1, in CBC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

/// Which algorithms protect an ISAKMP SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    /// The hash; as HMAC it is the PRF.
    pub(crate) hash: HmacHash,
    encryption: Encryption,
}

impl Suite {
    /// The suite of a choice.
    pub(crate) fn new(choice: &IkeChoice) -> Result<Self, CryptoError> {
        let encryption = match (choice.encr.id, choice.encr.key_bits) {
            (AES_CBC, Some(128)) => Encryption::Aes128,
            (AES_CBC, Some(192)) => Encryption::Aes192,
            (AES_CBC, Some(256)) => Encryption::Aes256,
            (TRIPLE_DES, None) => Encryption::TripleDes,
            _ => return Err(CryptoError::Unsupported),
        };
        match Prf::from_transform(choice.prf.id)? {
            Prf::Hmac(hash) => Ok(Self { hash, encryption }),
            Prf::Aes(_) => Err(CryptoError::Unsupported),
        }
    }

    fn cipher(self) -> Cipher {
        match self.encryption {
            Encryption::Aes128 => Cipher::aes_128_cbc(),
            Encryption::Aes192 => Cipher::aes_192_cbc(),
            Encryption::Aes256 => Cipher::aes_256_cbc(),
            Encryption::TripleDes => Cipher::des_ede3_cbc(),
        }
    }

    pub(crate) const fn key_len(self) -> usize {
        match self.encryption {
            Encryption::Aes128 => 16,
            Encryption::Aes192 | Encryption::TripleDes => 24,
            Encryption::Aes256 => 32,
        }
    }

    /// Octets of a block of the cipher, and of its IV.
    pub(crate) const fn block(self) -> usize {
        match self.encryption {
            Encryption::TripleDes => 8,
            _ => 16,
        }
    }

    /// The IV of phase 1's first encrypted message: hash(g^xi | g^xr), cut to a block.
    pub(crate) fn first_iv(self, gxi: &[u8], gxr: &[u8]) -> Vec<u8> {
        self.iv(&[gxi, gxr])
    }

    /// The IV of an exchange's first message in phase 2: hash(last block of phase 1 | message ID), cut to a block.
    pub(crate) fn phase2_iv(self, last_block: &[u8], message_id: u32) -> Vec<u8> {
        self.iv(&[last_block, &message_id.to_be_bytes()])
    }

    fn iv(self, parts: &[&[u8]]) -> Vec<u8> {
        // The shortest hash has 16 octets, as many as the longest block.
        self.hash.digest(parts).iter().take(self.block()).copied().collect()
    }

    fn prf(self, key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
        self.hash.hmac(key, parts)
    }
}

/// The keys of an ISAKMP SA.
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Skeyid {
    /// SKEYID, which authenticates phase 1.
    pub(crate) id: Secret,
    /// SKEYID_d, from which the keys of Child SAs are derived.
    pub(crate) d: Secret,
    /// SKEYID_a, which authenticates phase 2.
    pub(crate) a: Secret,
    /// The key of the cipher, made of SKEYID_e.
    pub(crate) key: Secret,
}

impl std::fmt::Debug for Skeyid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Skeyid(..)")
    }
}

/// The keys with a pre-shared key: SKEYID = prf(pre-shared key, Ni_b | Nr_b).
pub(crate) fn skeyid_psk(
    suite: Suite,
    psk: &[u8],
    ni: &[u8],
    nr: &[u8],
    shared: &[u8],
    spi_i: u64,
    spi_r: u64,
) -> Result<Skeyid, CryptoError> {
    finish(suite, schedule(suite, suite.prf(psk, &[ni, nr])?, shared, (spi_i, spi_r))?)
}

/// The keys with signatures: SKEYID = prf(Ni_b | Nr_b, g^xy). Nobody proves himself that way yet; the rest of the schedule is
/// the same, and there are as many vectors for it.
#[cfg(test)]
pub(crate) fn skeyid_signature(
    suite: Suite,
    ni: &[u8],
    nr: &[u8],
    shared: &[u8],
    spi_i: u64,
    spi_r: u64,
) -> Result<Skeyid, CryptoError> {
    let id = suite.prf(&[ni, nr].concat(), &[shared])?;
    finish(suite, schedule(suite, id, shared, (spi_i, spi_r))?)
}

/// SKEYID with what is derived from it: `d`, `a` and `e`.
struct Schedule {
    id: Secret,
    d: Secret,
    a: Secret,
    e: Secret,
}

fn schedule(suite: Suite, id: Secret, shared: &[u8], cky: (u64, u64)) -> Result<Schedule, CryptoError> {
    let (cky_i, cky_r) = (cky.0.to_be_bytes(), cky.1.to_be_bytes());
    let next = |before: &[u8], n: u8| suite.prf(&id, &[before, shared, &cky_i, &cky_r, &[n]]);
    let d = next(&[], 0)?;
    let a = next(&d, 1)?;
    let e = next(&a, 2)?;
    Ok(Schedule { id, d, a, e })
}

fn finish(suite: Suite, schedule: Schedule) -> Result<Skeyid, CryptoError> {
    let Schedule { id, d, a, e } = schedule;
    Ok(Skeyid { id, d, a, key: stretch(suite, &e)? })
}

/// The key of the cipher: SKEYID_e cut to its length or, where it is too short, K1 | K2 | ... with K1 = prf(SKEYID_e, 0) and
/// each further one the PRF of the one before (appendix B).
fn stretch(suite: Suite, e: &[u8]) -> Result<Secret, CryptoError> {
    let length = suite.key_len();
    if let Some(key) = e.get(..length) {
        return Ok(Zeroizing::new(key.to_vec()));
    }
    blocks(length, |before| match before {
        None => suite.prf(e, &[&[0]]),
        Some(before) => suite.prf(e, &[before]),
    })
}

/// `length` octets of the blocks that `next` makes of the one before.
fn blocks(
    length: usize,
    next: impl Fn(Option<&[u8]>) -> Result<Secret, CryptoError>,
) -> Result<Secret, CryptoError> {
    let mut block = next(None)?;
    // Room for all of it, so that no part of a key stays behind where the memory was before.
    let mut out = Zeroizing::new(Vec::with_capacity(length + block.len()));
    out.extend_from_slice(&block);
    while out.len() < length {
        block = next(Some(&block))?;
        out.extend_from_slice(&block);
    }
    out.truncate(length);
    Ok(out)
}

/// Encrypts a message's payloads, filled up with zeros to whole blocks. `iv` becomes that of the next message: the last
/// block.
pub(crate) fn encrypt(
    suite: Suite,
    key: &[u8],
    iv: &mut Vec<u8>,
    plain: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let length = plain.len().next_multiple_of(suite.block());
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    text.extend_from_slice(plain);
    text.resize(length, 0);
    let sealed = cbc(suite, Mode::Encrypt, key, iv, &text)?.to_vec();
    *iv = last_block(suite, &sealed)?;
    Ok(sealed)
}

/// Decrypts a message's payloads, padding included. Besides, there is the IV of the next message. A wrong key is not
/// noticed here but when the payloads are read.
pub(crate) fn decrypt(
    suite: Suite,
    key: &[u8],
    iv: &[u8],
    sealed: &[u8],
) -> Result<(Secret, Vec<u8>), CryptoError> {
    if !sealed.len().is_multiple_of(suite.block()) {
        return Err(CryptoError::Malformed);
    }
    let next = last_block(suite, sealed)?;
    Ok((cbc(suite, Mode::Decrypt, key, iv, sealed)?, next))
}

fn last_block(suite: Suite, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let at = sealed.len().checked_sub(suite.block()).ok_or(CryptoError::Malformed)?;
    sealed.get(at..).map(<[u8]>::to_vec).ok_or(CryptoError::Malformed)
}

fn cbc(suite: Suite, mode: Mode, key: &[u8], iv: &[u8], text: &[u8]) -> Result<Secret, CryptoError> {
    if key.len() != suite.key_len() || iv.len() != suite.block() {
        return Err(CryptoError::Library);
    }
    let mut crypter = Crypter::new(suite.cipher(), mode, key, Some(iv))?;
    crypter.pad(false);
    let mut out = Zeroizing::new(vec![0; text.len() + suite.block()]);
    let n = crypter.update(text, &mut out)?;
    let rest = out.get_mut(n..).ok_or(CryptoError::Library)?;
    let n = n + crypter.finalize(rest)?;
    out.truncate(n);
    Ok(out)
}

/// HASH_I and HASH_R: prf(SKEYID, g^x | g^y | CKY | CKY | SAi_b | ID_b). For HASH_I the values of the initiator go first,
/// for HASH_R those of the responder; the SA is the initiator's for both.
pub(crate) fn phase1_hash(
    suite: Suite,
    skeyid: &[u8],
    first: &[u8],
    second: &[u8],
    cky: (u64, u64),
    sai_b: &[u8],
    id_b: &[u8],
) -> Result<Secret, CryptoError> {
    suite.prf(skeyid, &[first, second, &cky.0.to_be_bytes(), &cky.1.to_be_bytes(), sai_b, id_b])
}

/// HASH(1) of Quick Mode, and the HASH of Informational: prf(SKEYID_a, M-ID | what follows the HASH payload).
pub(crate) fn hash1(suite: Suite, a: &[u8], message_id: u32, rest: &[u8]) -> Result<Secret, CryptoError> {
    suite.prf(a, &[&message_id.to_be_bytes(), rest])
}

/// HASH(2): prf(SKEYID_a, M-ID | Ni_b | what follows the HASH payload).
pub(crate) fn hash2(
    suite: Suite,
    a: &[u8],
    message_id: u32,
    ni: &[u8],
    rest: &[u8],
) -> Result<Secret, CryptoError> {
    suite.prf(a, &[&message_id.to_be_bytes(), ni, rest])
}

/// HASH(3): prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b).
pub(crate) fn hash3(
    suite: Suite,
    a: &[u8],
    message_id: u32,
    ni: &[u8],
    nr: &[u8],
) -> Result<Secret, CryptoError> {
    suite.prf(a, &[&[0], &message_id.to_be_bytes(), ni, nr])
}

/// The keys of a Child SA: KEYMAT = prf(SKEYID_d, [g^xy |] protocol | SPI | Ni_b | Nr_b), for each direction with the SPI that
/// its receiver chose (section 5.5). The key of encryption is taken before that of integrity (RFC 2401 section 4.6.2).
pub(crate) fn child(
    suite: Suite,
    d: &[u8],
    choice: &EspChoice,
    shared: Option<&[u8]>,
    nonces: (&[u8], &[u8]),
    spi_to_initiator: u32,
    spi_to_responder: u32,
) -> Result<ChildKeys, CryptoError> {
    let encryption = encryption_key_len(choice.encr.id, choice.encr.key_bits)?;
    let integrity = match choice.integ.map(|t| t.id) {
        Some(SHA256_96) => HmacHash::Sha256.octets(),
        Some(id) => Integrity::from_transform(id)?.key_len(),
        None => 0,
    };
    let one = |spi: u32| -> Result<EspKeys, CryptoError> {
        let keymat = keymat(suite, d, shared, nonces, spi, encryption + integrity)?;
        let (head, tail) = keymat.split_at_checked(encryption).ok_or(CryptoError::Library)?;
        Ok(EspKeys { encryption: Zeroizing::new(head.to_vec()), integrity: Zeroizing::new(tail.to_vec()) })
    };
    Ok(ChildKeys { initiator: one(spi_to_responder)?, responder: one(spi_to_initiator)? })
}

/// K1 | K2 | ..., each one with the one before in front of its seed.
fn keymat(
    suite: Suite,
    d: &[u8],
    shared: Option<&[u8]>,
    (ni, nr): (&[u8], &[u8]),
    spi: u32,
    length: usize,
) -> Result<Secret, CryptoError> {
    let (shared, spi) = (shared.unwrap_or_default(), spi.to_be_bytes());
    blocks(length, |before| {
        suite.prf(d, &[before.unwrap_or_default(), shared, &[ProtocolId::ESP.0], &spi, ni, nr])
    })
}

#[cfg(test)]
mod tests;
