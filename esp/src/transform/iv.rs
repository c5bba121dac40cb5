//! IVs without a random source.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use zeroize::Zeroizing;

use super::TransformError;
use crate::error::SaError;
use crate::suite::Encryption;

/// Makes the IV of each outbound packet from its sequence number, which never repeats under one key.
pub(crate) enum IvSource {
    /// AEADs need uniqueness only, so the number itself will do (RFC 4106 section 3.1, RFC 7634 section 2).
    Counter,
    /// CBC needs an IV that nobody can predict (RFC 3602 section 3): the number, encrypted under a key of its own
    /// (NIST SP 800-38A appendix C, first method). For 3DES that is cut to a block of it: no less hard to predict, and as
    /// seldom the same twice as random ones are.
    Encrypted(Box<Encrypted>),
}

/// The cipher, and the key of it, which it does not give out again.
pub(crate) struct Encrypted {
    context: CipherCtx,
    seed: Zeroizing<[u8; 32]>,
}

impl IvSource {
    /// `seed` must come from a random source and be secret; it is used by CBC alone.
    pub(crate) fn new(encryption: Encryption, seed: &[u8; 32]) -> Result<Self, SaError> {
        if encryption.is_aead() {
            return Ok(Self::Counter);
        }
        let mut context = CipherCtx::new().map_err(|_| SaError::Crypto)?;
        context.encrypt_init(Some(Cipher::aes_256_ecb()), Some(seed), None).map_err(|_| SaError::Crypto)?;
        context.set_padding(false);
        Ok(Self::Encrypted(Box::new(Encrypted { context, seed: Zeroizing::new(*seed) })))
    }

    /// What it was made with; nothing if that is of no matter.
    pub(crate) fn seed(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Counter => None,
            Self::Encrypted(encrypted) => Some(&encrypted.seed),
        }
    }

    /// Writes the IV for `sequence`; `iv` has the length that the algorithm asks for.
    pub(crate) fn write(&mut self, sequence: u64, iv: &mut [u8]) -> Result<(), TransformError> {
        match self {
            Self::Counter => iv.copy_from_slice(&sequence.to_be_bytes()),
            Self::Encrypted(encrypted) => {
                let mut block = [0; 16];
                let [.., a, b, c, d, e, f, g, h] = &mut block;
                for (to, from) in [a, b, c, d, e, f, g, h].into_iter().zip(sequence.to_be_bytes()) {
                    *to = from;
                }
                // The binding asks for one spare block.
                let mut output = [0; 32];
                encrypted
                    .context
                    .cipher_update(&block, Some(&mut output))
                    .map_err(|_| TransformError::Library)?;
                iv.copy_from_slice(output.get(..iv.len()).ok_or(TransformError::Library)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn cbc_ivs_differ_by_packet_and_by_seed() {
        let mut first = IvSource::new(Encryption::AesCbc128, &[1; 32]).unwrap();
        let mut second = IvSource::new(Encryption::AesCbc128, &[2; 32]).unwrap();
        let mut seen = std::collections::HashSet::new();
        for sequence in 0..500 {
            for source in [&mut first, &mut second] {
                let mut iv = [0; 16];
                source.write(sequence, &mut iv).unwrap();
                assert!(seen.insert(iv));
            }
        }
    }

    #[test]
    fn the_iv_of_3des_is_a_block_of_it() {
        let mut source = IvSource::new(Encryption::TripleDesCbc, &[1; 32]).unwrap();
        let mut seen = std::collections::HashSet::new();
        for sequence in 0..500 {
            let mut iv = [0; 8];
            source.write(sequence, &mut iv).unwrap();
            assert!(seen.insert(iv) && iv != sequence.to_be_bytes());
        }
    }

    #[test]
    fn aead_iv_is_the_sequence_number() {
        let mut source = IvSource::new(Encryption::AesGcm16_128, &[1; 32]).unwrap();
        let mut iv = [0; 8];
        source.write(0x1_0000_0002, &mut iv).unwrap();
        assert_eq!(iv, 0x1_0000_0002u64.to_be_bytes());
    }
}
