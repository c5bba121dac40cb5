//! AES-CBC (RFC 3602) and 3DES-CBC (RFC 2451), in place and without the library's own padding: ESP brings its own.

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use zeroize::Zeroize;

use super::{Direction, PacketCrypto, TransformError};
use crate::error::SaError;
use crate::suite::Encryption;
use crate::wire::ESP_HEADER_LEN;

pub(crate) struct Cbc {
    context: CipherCtx,
    /// Octets of a block, and of the IV.
    block: usize,
}

impl Cbc {
    pub(super) fn new(encryption: Encryption, key: &[u8], direction: Direction) -> Result<Self, SaError> {
        let cipher: &CipherRef = match encryption {
            Encryption::AesCbc128 => Cipher::aes_128_cbc(),
            Encryption::AesCbc192 => Cipher::aes_192_cbc(),
            Encryption::AesCbc256 => Cipher::aes_256_cbc(),
            Encryption::TripleDesCbc => Cipher::des_ede3_cbc(),
            Encryption::AesGcm16_128
            | Encryption::AesGcm16_192
            | Encryption::AesGcm16_256
            | Encryption::ChaCha20Poly1305 => return Err(SaError::Crypto),
        };
        let mut context = CipherCtx::new().map_err(|_| SaError::Crypto)?;
        match direction {
            Direction::Seal => context.encrypt_init(Some(cipher), Some(key), None),
            Direction::Open => context.decrypt_init(Some(cipher), Some(key), None),
        }
        .map_err(|_| SaError::Crypto)?;
        context.set_padding(false);
        Ok(Self { context, block: encryption.iv_len() })
    }

    pub(super) fn encrypt(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        let iv = iv(packet, self.block)?;
        self.context.encrypt_init(None, None, Some(iv)).map_err(library)?;
        self.update(packet, at)
    }

    pub(super) fn decrypt(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        let iv = iv(packet, self.block)?;
        self.context.decrypt_init(None, None, Some(iv)).map_err(library)?;
        self.update(packet, at)
    }

    /// Whole blocks in, the same number of octets out. The binding wants one spare block after the text: the ICV is
    /// there and stays as it is, but one of 12 octets is too short for a block of AES: the last block then goes by itself.
    fn update(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        let text = packet.get_mut(at.payload..).ok_or(TransformError::Library)?;
        let len = at.icv - at.payload;
        if text.len() < len || !len.is_multiple_of(self.block) {
            return Err(TransformError::Library);
        }
        if text.len() >= len + self.block {
            return self.blocks(text, len);
        }
        let before = len.checked_sub(self.block).ok_or(TransformError::Library)?;
        self.blocks(text, before)?;
        let last = text.get_mut(before..len).ok_or(TransformError::Library)?;
        let mut roomy = [0; 2 * MAX_BLOCK];
        roomy.iter_mut().zip(last.iter()).for_each(|(to, from)| *to = *from);
        self.blocks(&mut roomy, self.block)?;
        last.iter_mut().zip(roomy).for_each(|(to, from)| *to = from);
        roomy.zeroize();
        Ok(())
    }

    fn blocks(&mut self, text: &mut [u8], len: usize) -> Result<(), TransformError> {
        let written = self.context.cipher_update_inplace(text, len).map_err(library)?;
        if written == len { Ok(()) } else { Err(TransformError::Library) }
    }
}

/// That of AES.
const MAX_BLOCK: usize = 16;

fn iv(packet: &[u8], len: usize) -> Result<&[u8], TransformError> {
    packet.get(ESP_HEADER_LEN..ESP_HEADER_LEN + len).ok_or(TransformError::Library)
}

fn library<E>(_: E) -> TransformError {
    TransformError::Library
}
