//! AES-GCM (RFC 4106) and ChaCha20-Poly1305 (RFC 7634): one nonce and one AAD layout for both.

use openssl::cipher_ctx::CipherCtx;
use zeroize::Zeroizing;

use super::contexts::Keyed;
use super::{Direction, PacketCrypto, TransformError};
use crate::error::SaError;
use crate::suite::Suite;
use crate::wire::ESP_HEADER_LEN;

pub(crate) struct Aead {
    keyed: Keyed,
    salt: Zeroizing<[u8; SALT_LEN]>,
    esn: bool,
}

impl Aead {
    pub(super) fn new(suite: &Suite, key_and_salt: &[u8], direction: Direction) -> Result<Self, SaError> {
        let (key, salt) = key_and_salt.split_last_chunk::<SALT_LEN>().ok_or(SaError::Crypto)?;
        let keyed = Keyed::new(suite.encryption, key, direction)?;
        Ok(Self { keyed, salt: Zeroizing::new(*salt), esn: suite.esn })
    }

    /// Key and salt, as they were given.
    pub(super) fn key_and_salt(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([self.keyed.key(), self.salt.as_slice()].concat())
    }

    /// Takes the key out of the contexts of this thread, which does not use it any more.
    pub(super) fn leave_thread(&self) {
        self.keyed.forget();
    }

    pub(super) fn seal(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        self.with(Direction::Seal, packet, at, |context, aad, text, icv| {
            context.cipher_update(aad, None).map_err(library)?;
            let len = text.len();
            context.cipher_update_inplace(text, len).map_err(library)?;
            context.cipher_final(&mut []).map_err(library)?;
            context.tag(icv).map_err(library)
        })
    }

    pub(super) fn open(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        self.with(Direction::Open, packet, at, |context, aad, text, icv| {
            context.set_tag(icv).map_err(library)?;
            context.cipher_update(aad, None).map_err(library)?;
            let len = text.len();
            context.cipher_update_inplace(text, len).map_err(library)?;
            context.cipher_final(&mut []).map(drop).map_err(|_| TransformError::Icv)
        })
    }

    /// Does something with a context that is ready for the packet, its AAD, its text and its ICV.
    #[inline(always)]
    fn with(
        &self,
        direction: Direction,
        packet: &mut [u8],
        at: PacketCrypto,
        then: impl FnOnce(&mut CipherCtx, &[u8], &mut [u8], &mut [u8]) -> Result<(), TransformError>,
    ) -> Result<(), TransformError> {
        let nonce = self.nonce(packet)?;
        let (aad, aad_len) = self.aad(packet, at.sequence)?;
        let aad = aad.get(..aad_len).ok_or(TransformError::Library)?;
        let (&[_, _, _, number], _) = packet.split_first_chunk().ok_or(TransformError::Library)?;
        let ciphertext_and_icv = packet.get_mut(at.payload..).ok_or(TransformError::Library)?;
        let (text, icv) =
            ciphertext_and_icv.split_at_mut_checked(at.icv - at.payload).ok_or(TransformError::Library)?;
        self.keyed.with(direction, number, &nonce, |context| then(context, aad, text, icv))
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

const SALT_LEN: usize = 4;
const IV_LEN: usize = 8;

fn library<E>(_: E) -> TransformError {
    TransformError::Library
}
