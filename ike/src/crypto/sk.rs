//! Protection of the SK payload (RFC 7296 section 3.14, RFC 5282 for AEADs).

use mac::AesPrf;
use openssl::symm::{Cipher, Crypter, Mode};
#[cfg(not(culvert_fuzz))]
use openssl::symm::{decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

use super::CryptoError;
use super::auth::equal;
use super::keys::encryption_key_len;
use super::prf::{HmacHash, Prf, Secret};
#[cfg(culvert_fuzz)]
use super::toy_aead::{decrypt_aead, encrypt_aead};
use crate::host::Host;
use crate::proposal::IkeChoice;
use crate::proposal::table::{AES_CBC, AES_GCM_16, CHACHA20_POLY1305, TRIPLE_DES};

/// Octets of the ICV of both AEADs.
const AEAD_TAG: usize = 16;
/// Octets of the AEADs' explicit IV.
const AEAD_IV: usize = 8;
/// Octets of an AES block, the largest there is.
const AES_BLOCK: usize = 16;
/// Octets of a block of 3DES.
const DES_BLOCK: usize = 8;

/// An integrity algorithm that is not part of the encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// HMAC with a hash, cut to half (RFC 4868), or to 96 bits for MD5 and SHA-1 (RFC 2403, RFC 2404).
    Hmac(HmacHash),
    /// A code made of AES-128, cut to 96 bits (RFC 3566, RFC 4494).
    Aes(AesPrf),
}

impl Integrity {
    /// The algorithm of a transform ID.
    pub const fn from_transform(id: u16) -> Result<Self, CryptoError> {
        match id {
            1 => Ok(Self::Hmac(HmacHash::Md5)),
            2 => Ok(Self::Hmac(HmacHash::Sha1)),
            5 => Ok(Self::Aes(AesPrf::Xcbc)),
            8 => Ok(Self::Aes(AesPrf::Cmac)),
            12 => Ok(Self::Hmac(HmacHash::Sha256)),
            13 => Ok(Self::Hmac(HmacHash::Sha384)),
            14 => Ok(Self::Hmac(HmacHash::Sha512)),
            _ => Err(CryptoError::Unsupported),
        }
    }

    /// Octets of key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Hmac(hash) => hash.octets(),
            Self::Aes(_) => mac::LEN,
        }
    }

    /// Octets of the ICV.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::Hmac(HmacHash::Md5 | HmacHash::Sha1) | Self::Aes(_) => 12,
            Self::Hmac(hash) => hash.octets() / 2,
        }
    }

    /// The uncut code of `parts`.
    fn code(self, key: &[u8], parts: &[&[u8]]) -> Result<Secret, CryptoError> {
        match self {
            Self::Hmac(hash) => hash.hmac(key, parts),
            Self::Aes(code) => Prf::Aes(code).prf(key, parts),
        }
    }
}

/// Which algorithms protect an IKE_SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkSuite {
    encryption: u16,
    key_bits: Option<u16>,
    key_len: usize,
    integrity: Option<Integrity>,
}

impl SkSuite {
    /// The suite of a choice.
    pub fn new(choice: &IkeChoice) -> Result<Self, CryptoError> {
        let integrity = choice.integ.map(|t| Integrity::from_transform(t.id)).transpose()?;
        let (encryption, key_bits) = (choice.encr.id, choice.encr.key_bits);
        Ok(Self { encryption, key_bits, key_len: encryption_key_len(encryption, key_bits)?, integrity })
    }

    /// Octets of SK_ei and SK_er.
    pub const fn encryption_key_len(&self) -> usize {
        self.key_len
    }

    /// Octets of SK_ai and SK_ar.
    pub const fn integrity_key_len(&self) -> usize {
        match self.integrity {
            Some(integrity) => integrity.key_len(),
            None => 0,
        }
    }

    fn cipher(&self) -> Result<Cipher, CryptoError> {
        Ok(match (self.encryption, self.key_bits) {
            (AES_GCM_16, Some(128)) => Cipher::aes_128_gcm(),
            (AES_GCM_16, Some(192)) => Cipher::aes_192_gcm(),
            (AES_GCM_16, Some(256)) => Cipher::aes_256_gcm(),
            (CHACHA20_POLY1305, None) => Cipher::chacha20_poly1305(),
            (AES_CBC, Some(128)) => Cipher::aes_128_cbc(),
            (AES_CBC, Some(192)) => Cipher::aes_192_cbc(),
            (AES_CBC, Some(256)) => Cipher::aes_256_cbc(),
            (TRIPLE_DES, None) => Cipher::des_ede3_cbc(),
            _ => return Err(CryptoError::Unsupported),
        })
    }

    /// Octets of a block, for ciphers in CBC mode.
    const fn block(&self) -> usize {
        if self.encryption == TRIPLE_DES { DES_BLOCK } else { AES_BLOCK }
    }

    const fn iv_len(&self) -> usize {
        if self.integrity.is_some() { self.block() } else { AEAD_IV }
    }

    /// Octets of the ICV, or of the AEAD's tag.
    const fn icv_len(&self) -> usize {
        match self.integrity {
            Some(integrity) => integrity.icv_len(),
            None => AEAD_TAG,
        }
    }

    /// Octets of padding and pad length behind `plain` octets.
    const fn padding(&self, plain: usize) -> usize {
        if self.integrity.is_some() { self.block() - plain % self.block() } else { 1 }
    }

    /// Octets of the SK payload's body for `plain` octets of inner payloads.
    pub const fn sealed_len(&self, plain: usize) -> usize {
        self.iv_len() + plain + self.padding(plain) + self.icv_len()
    }
}

/// One direction of an IKE_SA's protection.
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct SkKey {
    suite: SkSuite,
    encryption: Secret,
    integrity: Secret,
    /// AEAD IVs are a counter, so that none is used twice under a key (RFC 5282 section 3.1).
    next_iv: u64,
}

impl std::fmt::Debug for SkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SkKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl SkKey {
    /// The key of one direction.
    pub const fn new(suite: SkSuite, encryption: Secret, integrity: Secret) -> Self {
        Self { suite, encryption, integrity, next_iv: 0 }
    }

    /// The algorithms.
    pub const fn suite(&self) -> SkSuite {
        self.suite
    }

    /// The next IV of an AEAD.
    pub(crate) const fn next_iv(&self) -> u64 {
        self.next_iv
    }

    /// The same with this for its next IV.
    pub(crate) fn resumed_at(self, next_iv: u64) -> Self {
        Self { next_iv, ..self }
    }

    /// Copies of the keys for encryption and for integrity.
    pub(crate) fn secrets(&self) -> (Secret, Secret) {
        (self.encryption.clone(), self.integrity.clone())
    }

    /// Seals `plain`. `head` is the message up to and including the SK payload's generic header, its lengths already
    /// those of the finished message. Returns the whole message.
    pub fn seal(&mut self, head: &[u8], plain: &[u8], host: &mut dyn Host) -> Result<Vec<u8>, CryptoError> {
        let pad = self.suite.padding(plain.len());
        let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + pad));
        text.extend_from_slice(plain);
        text.resize(plain.len() + pad - 1, 0);
        text.push(u8::try_from(pad - 1).map_err(|_| CryptoError::Library)?);
        let mut out = Vec::with_capacity(head.len() + self.suite.sealed_len(plain.len()));
        out.extend_from_slice(head);
        let cipher = self.suite.cipher()?;
        match self.suite.integrity {
            None => {
                let iv = self.next_iv.to_be_bytes();
                self.next_iv = self.next_iv.checked_add(1).ok_or(CryptoError::Library)?;
                let (key, nonce) = self.aead_key_and_nonce(&iv)?;
                let mut tag = [0; AEAD_TAG];
                let sealed = encrypt_aead(cipher, key, Some(&nonce), head, &text, &mut tag)?;
                out.extend_from_slice(&iv);
                out.extend_from_slice(&sealed);
                out.extend_from_slice(&tag);
            }
            Some(integrity) => {
                let mut room = [0; AES_BLOCK];
                let iv = room.get_mut(..self.suite.iv_len()).ok_or(CryptoError::Library)?;
                host.random(iv);
                out.extend_from_slice(iv);
                out.extend_from_slice(&self.cbc(Mode::Encrypt, cipher, iv, &text)?);
                let icv = integrity.code(&self.integrity, &[&out])?;
                out.extend_from_slice(icv.get(..self.suite.icv_len()).ok_or(CryptoError::Library)?);
            }
        }
        Ok(out)
    }

    /// Opens a message whose SK body starts at `body`. Returns the inner payloads.
    pub fn open(&self, message: &[u8], body: usize) -> Result<Secret, CryptoError> {
        let (head, sealed) = message.split_at_checked(body).ok_or(CryptoError::Malformed)?;
        let icv_at = sealed.len().checked_sub(self.suite.icv_len()).ok_or(CryptoError::Malformed)?;
        let (iv_and_text, icv) = sealed.split_at_checked(icv_at).ok_or(CryptoError::Malformed)?;
        let (iv, text) = iv_and_text.split_at_checked(self.suite.iv_len()).ok_or(CryptoError::Malformed)?;
        let cipher = self.suite.cipher()?;
        let mut plain = match self.suite.integrity {
            None => {
                let (key, nonce) = self.aead_key_and_nonce(iv)?;
                let opened = decrypt_aead(cipher, key, Some(&nonce), head, text, icv);
                Zeroizing::new(opened.map_err(|_| CryptoError::Integrity)?)
            }
            Some(integrity) => {
                let expected = integrity.code(&self.integrity, &[head, iv_and_text])?;
                if !expected.get(..icv.len()).is_some_and(|e| equal(e, icv)) {
                    return Err(CryptoError::Integrity);
                }
                if text.is_empty() || text.len() % self.suite.block() != 0 {
                    return Err(CryptoError::Malformed);
                }
                self.cbc(Mode::Decrypt, cipher, iv, text)?
            }
        };
        // The padding's content is the sender's choice; its length is not (RFC 7296 section 3.14).
        let pad = usize::from(plain.pop().ok_or(CryptoError::Malformed)?);
        let len = plain.len().checked_sub(pad).ok_or(CryptoError::Malformed)?;
        plain.truncate(len);
        Ok(plain)
    }

    /// Splits key and salt, and puts salt and IV together to the nonce.
    fn aead_key_and_nonce(&self, iv: &[u8]) -> Result<(&[u8], [u8; 12]), CryptoError> {
        let (key, salt) = self.encryption.split_last_chunk::<4>().ok_or(CryptoError::Library)?;
        let mut nonce = [0; 12];
        let (head, tail) = nonce.split_at_mut(4);
        head.copy_from_slice(salt);
        if iv.len() != tail.len() {
            return Err(CryptoError::Malformed);
        }
        tail.copy_from_slice(iv);
        Ok((key, nonce))
    }

    fn cbc(&self, mode: Mode, cipher: Cipher, iv: &[u8], text: &[u8]) -> Result<Secret, CryptoError> {
        let mut crypter = Crypter::new(cipher, mode, &self.encryption, Some(iv))?;
        crypter.pad(false);
        let mut out = Zeroizing::new(vec![0; text.len() + AES_BLOCK]);
        let n = crypter.update(text, &mut out)?;
        let rest = out.get_mut(n..).ok_or(CryptoError::Library)?;
        let n = n + crypter.finalize(rest)?;
        out.truncate(n);
        Ok(out)
    }
}
