//! AES-GCM (RFC 4106) and ChaCha20-Poly1305 (RFC 7634): one nonce and one AAD layout for both.

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use zeroize::Zeroizing;

use super::{Direction, PacketCrypto, TransformError};
use crate::error::SaError;
use crate::suite::{Encryption, Suite};
use crate::wire::ESP_HEADER_LEN;

// In this order, so that what a packet needs is in front of what only a snapshot does.
#[repr(C)]
pub(crate) struct Aead {
    context: CipherCtx,
    salt: Zeroizing<[u8; SALT_LEN]>,
    esn: bool,
    key_len: u8,
    /// The context does not give it out again. Inside, for an allocation would take more room than is left over here.
    key: Zeroizing<[u8; MAX_KEY]>,
}

impl Aead {
    pub(super) fn new(suite: &Suite, key_and_salt: &[u8], direction: Direction) -> Result<Self, SaError> {
        let (key, salt) = key_and_salt.split_last_chunk::<SALT_LEN>().ok_or(SaError::Crypto)?;
        let cipher: &CipherRef = match suite.encryption {
            Encryption::AesGcm16_128 => Cipher::aes_128_gcm(),
            Encryption::AesGcm16_192 => Cipher::aes_192_gcm(),
            Encryption::AesGcm16_256 => Cipher::aes_256_gcm(),
            Encryption::ChaCha20Poly1305 => Cipher::chacha20_poly1305(),
            Encryption::AesCbc128
            | Encryption::AesCbc192
            | Encryption::AesCbc256
            | Encryption::TripleDesCbc => return Err(SaError::Crypto),
        };
        let mut context = CipherCtx::new().map_err(|_| SaError::Crypto)?;
        match direction {
            Direction::Seal => context.encrypt_init(Some(cipher), Some(key), None),
            Direction::Open => context.decrypt_init(Some(cipher), Some(key), None),
        }
        .map_err(|_| SaError::Crypto)?;
        let mut kept = Zeroizing::new([0; MAX_KEY]);
        kept.get_mut(..key.len()).ok_or(SaError::Crypto)?.copy_from_slice(key);
        let key_len = key.len() as u8;
        Ok(Self { context, salt: Zeroizing::new(*salt), esn: suite.esn, key_len, key: kept })
    }

    /// Key and salt, as they were given.
    pub(super) fn key_and_salt(&self) -> Zeroizing<Vec<u8>> {
        let key = self.key.get(..usize::from(self.key_len)).unwrap_or_default();
        Zeroizing::new([key, self.salt.as_slice()].concat())
    }

    pub(super) fn seal(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        let nonce = self.nonce(packet)?;
        let (aad, aad_len) = self.aad(packet, at.sequence)?;
        let aad = aad.get(..aad_len).ok_or(TransformError::Library)?;
        let ciphertext_and_icv = packet.get_mut(at.payload..).ok_or(TransformError::Library)?;
        let (text, icv) =
            ciphertext_and_icv.split_at_mut_checked(at.icv - at.payload).ok_or(TransformError::Library)?;
        let context = &mut self.context;
        context.encrypt_init(None, None, Some(&nonce)).map_err(library)?;
        context.cipher_update(aad, None).map_err(library)?;
        let len = text.len();
        context.cipher_update_inplace(text, len).map_err(library)?;
        context.cipher_final(&mut []).map_err(library)?;
        context.tag(icv).map_err(library)
    }

    pub(super) fn open(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        let nonce = self.nonce(packet)?;
        let (aad, aad_len) = self.aad(packet, at.sequence)?;
        let aad = aad.get(..aad_len).ok_or(TransformError::Library)?;
        let ciphertext_and_icv = packet.get_mut(at.payload..).ok_or(TransformError::Library)?;
        let (text, icv) =
            ciphertext_and_icv.split_at_mut_checked(at.icv - at.payload).ok_or(TransformError::Library)?;
        let context = &mut self.context;
        context.decrypt_init(None, None, Some(&nonce)).map_err(library)?;
        context.set_tag(icv).map_err(library)?;
        context.cipher_update(aad, None).map_err(library)?;
        let len = text.len();
        context.cipher_update_inplace(text, len).map_err(library)?;
        context.cipher_final(&mut []).map(drop).map_err(|_| TransformError::Icv)
    }

    /// Salt, then the IV of the packet (RFC 4106 section 4, RFC 7634 section 2).
    fn nonce(&self, packet: &[u8]) -> Result<[u8; SALT_LEN + IV_LEN], TransformError> {
        let iv = packet.get(ESP_HEADER_LEN..).and_then(|rest| rest.first_chunk::<IV_LEN>());
        let [a, b, c, d, e, f, g, h] = *iv.ok_or(TransformError::Library)?;
        let [s, a1, l, t] = *self.salt;
        Ok([s, a1, l, t, a, b, c, d, e, f, g, h])
    }

    /// SPI and sequence number; the latter with its high half when it has 64 bits (RFC 4106 section 5).
    fn aad(&self, packet: &[u8], sequence: u64) -> Result<([u8; 12], usize), TransformError> {
        let [a, b, c, d, low @ ..] =
            *packet.first_chunk::<ESP_HEADER_LEN>().ok_or(TransformError::Library)?;
        let [l0, l1, l2, l3] = low;
        if self.esn {
            let [h0, h1, h2, h3] = ((sequence >> 32) as u32).to_be_bytes();
            Ok(([a, b, c, d, h0, h1, h2, h3, l0, l1, l2, l3], 12))
        } else {
            Ok(([a, b, c, d, l0, l1, l2, l3, 0, 0, 0, 0], 8))
        }
    }
}

/// Octets of the longest key.
const MAX_KEY: usize = 32;
const SALT_LEN: usize = 4;
const IV_LEN: usize = 8;

fn library<E>(_: E) -> TransformError {
    TransformError::Library
}
