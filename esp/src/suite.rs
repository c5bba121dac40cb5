//! Which algorithms protect an SA, and how long their keys, IVs and check values are.

use std::fmt;

use thiserror::Error;

/// An encryption transform, with its key size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// AES-GCM with a 16-octet ICV and a 128-bit key (RFC 4106).
    AesGcm16_128,
    /// AES-GCM with a 16-octet ICV and a 192-bit key (RFC 4106).
    AesGcm16_192,
    /// AES-GCM with a 16-octet ICV and a 256-bit key (RFC 4106).
    AesGcm16_256,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
    /// AES-CBC with a 128-bit key (RFC 3602).
    AesCbc128,
    /// AES-CBC with a 192-bit key (RFC 3602).
    AesCbc192,
    /// AES-CBC with a 256-bit key (RFC 3602).
    AesCbc256,
    /// 3DES-CBC (RFC 2451). Legacy: its blocks of 64 bits begin to repeat after some 32 GiB under one key.
    TripleDesCbc,
}

impl Encryption {
    /// Every transform, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::AesGcm16_128,
        Self::AesGcm16_192,
        Self::AesGcm16_256,
        Self::ChaCha20Poly1305,
        Self::AesCbc128,
        Self::AesCbc192,
        Self::AesCbc256,
        Self::TripleDesCbc,
    ];

    /// Whether encryption and integrity are one operation.
    pub fn is_aead(self) -> bool {
        self.salt_len() != 0
    }

    /// Octets of the cipher key alone.
    pub fn cipher_key_len(self) -> usize {
        match self {
            Self::AesGcm16_128 | Self::AesCbc128 => 16,
            Self::AesGcm16_192 | Self::AesCbc192 | Self::TripleDesCbc => 24,
            Self::AesGcm16_256 | Self::ChaCha20Poly1305 | Self::AesCbc256 => 32,
        }
    }

    /// Octets of salt that IKE appends to the key (RFC 4106 section 8.1, RFC 7634 section 2).
    pub fn salt_len(self) -> usize {
        match self {
            Self::AesGcm16_128 | Self::AesGcm16_192 | Self::AesGcm16_256 | Self::ChaCha20Poly1305 => 4,
            Self::AesCbc128 | Self::AesCbc192 | Self::AesCbc256 | Self::TripleDesCbc => 0,
        }
    }

    /// Octets of the IV that every packet carries.
    pub fn iv_len(self) -> usize {
        match self {
            Self::AesCbc128 | Self::AesCbc192 | Self::AesCbc256 => 16,
            Self::AesGcm16_128
            | Self::AesGcm16_192
            | Self::AesGcm16_256
            | Self::ChaCha20Poly1305
            | Self::TripleDesCbc => 8,
        }
    }

    /// Payload and trailer are padded to a multiple of this (RFC 4303 section 2.4).
    pub fn alignment(self) -> usize {
        // CBC takes whole blocks, and its IV is one.
        if self.is_aead() { 4 } else { self.iv_len() }
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesGcm16_128 => "aes128gcm16",
            Self::AesGcm16_192 => "aes192gcm16",
            Self::AesGcm16_256 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
            Self::AesCbc128 => "aes128",
            Self::AesCbc192 => "aes192",
            Self::AesCbc256 => "aes256",
            Self::TripleDesCbc => "3des",
        })
    }
}

impl Encryption {
    /// What [`Suite::from_transforms`] takes: the transform's IKEv2 number, and the length of the key where that is told.
    pub(crate) fn transform(self) -> (u16, Option<u16>) {
        match self {
            Self::AesGcm16_128 => (20, Some(128)),
            Self::AesGcm16_192 => (20, Some(192)),
            Self::AesGcm16_256 => (20, Some(256)),
            Self::ChaCha20Poly1305 => (28, None),
            Self::AesCbc128 => (12, Some(128)),
            Self::AesCbc192 => (12, Some(192)),
            Self::AesCbc256 => (12, Some(256)),
            Self::TripleDesCbc => (3, None),
        }
    }
}

/// An integrity transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Integrity {
    /// HMAC-SHA-256 truncated to 128 bits.
    HmacSha256_128,
    /// HMAC-SHA-384 truncated to 192 bits.
    HmacSha384_192,
    /// HMAC-SHA-512 truncated to 256 bits.
    HmacSha512_256,
    /// AES-XCBC-MAC truncated to 96 bits (RFC 3566).
    AesXcbc96,
    /// AES-CMAC truncated to 96 bits (RFC 4494).
    AesCmac96,
    /// HMAC-MD5 truncated to 96 bits (RFC 2403). Legacy.
    HmacMd5_96,
    /// HMAC-SHA-1 truncated to 96 bits (RFC 2404). Legacy.
    HmacSha1_96,
    /// HMAC-SHA-256 truncated to 96 bits, as a draft had it before RFC 4868.
    HmacSha256_96,
}

impl Integrity {
    /// Every transform, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::HmacSha256_128,
        Self::HmacSha384_192,
        Self::HmacSha512_256,
        Self::AesXcbc96,
        Self::AesCmac96,
        Self::HmacMd5_96,
        Self::HmacSha1_96,
        Self::HmacSha256_96,
    ];

    /// Octets of key (RFC 4868 section 2.1.1: the output of the hash), or that of AES-128.
    pub fn key_len(self) -> usize {
        match self {
            Self::HmacSha256_128 | Self::HmacSha256_96 => 32,
            Self::HmacSha384_192 => 48,
            Self::HmacSha512_256 => 64,
            Self::HmacSha1_96 => 20,
            Self::AesXcbc96 | Self::AesCmac96 | Self::HmacMd5_96 => 16,
        }
    }

    /// Octets of the integrity check value in a packet.
    pub fn icv_len(self) -> usize {
        match self {
            Self::HmacSha256_128 | Self::HmacSha384_192 | Self::HmacSha512_256 => self.key_len() / 2,
            Self::AesXcbc96
            | Self::AesCmac96
            | Self::HmacMd5_96
            | Self::HmacSha1_96
            | Self::HmacSha256_96 => 12,
        }
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha256_128 => "sha256",
            Self::HmacSha384_192 => "sha384",
            Self::HmacSha512_256 => "sha512",
            Self::AesXcbc96 => "aesxcbc",
            Self::AesCmac96 => "aescmac",
            Self::HmacMd5_96 => "md5",
            Self::HmacSha1_96 => "sha1",
            Self::HmacSha256_96 => "sha256_96",
        })
    }
}

impl Integrity {
    /// What [`Suite::from_transforms`] takes.
    pub(crate) fn transform(self) -> u16 {
        match self {
            Self::HmacMd5_96 => 1,
            Self::HmacSha1_96 => 2,
            Self::AesXcbc96 => 5,
            Self::AesCmac96 => 8,
            Self::HmacSha256_128 => 12,
            Self::HmacSha384_192 => 13,
            Self::HmacSha512_256 => 14,
            Self::HmacSha256_96 => SHA256_96,
        }
    }
}

/// The algorithms of one SA. [`Suite::new`] is the checked way to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suite {
    /// The encryption transform.
    pub encryption: Encryption,
    /// The integrity transform; `None` exactly when `encryption` is an AEAD.
    pub integrity: Option<Integrity>,
    /// Whether sequence numbers have 64 bits (RFC 4303 section 2.2.1).
    pub esn: bool,
}

impl Suite {
    /// Checks that the transforms go together: an AEAD takes no integrity transform (RFC 7296 section 3.3.3), any other
    /// cipher needs one, because encryption without integrity is not safe (RFC 8221 section 4).
    pub fn new(encryption: Encryption, integrity: Option<Integrity>, esn: bool) -> Result<Self, SuiteError> {
        match (encryption.is_aead(), integrity) {
            (true, Some(integrity)) => Err(SuiteError::AeadWithIntegrity { encryption, integrity }),
            (false, None) => Err(SuiteError::MissingIntegrity { encryption }),
            _ => Ok(Self { encryption, integrity, esn }),
        }
    }

    /// The suite of negotiated transforms, by their IKEv2 numbers (RFC 7296 section 3.3.2); `None` for what ESP does
    /// not have here.
    pub fn from_transforms(
        encryption: u16,
        key_bits: Option<u16>,
        integrity: Option<u16>,
        esn: bool,
    ) -> Option<Self> {
        let wanted = |known: &Encryption| known.transform() == (encryption, key_bits);
        let encryption = Encryption::ALL.into_iter().find(wanted)?;
        let integrity = match integrity {
            None => None,
            Some(number) => Some(Integrity::ALL.into_iter().find(|known| known.transform() == number)?),
        };
        Self::new(encryption, integrity, esn).ok()
    }

    /// Octets of encryption key that IKE must derive, the salt included.
    pub fn key_len(&self) -> usize {
        self.encryption.cipher_key_len() + self.encryption.salt_len()
    }

    /// Octets of integrity key that IKE must derive; 0 for an AEAD.
    pub fn integrity_key_len(&self) -> usize {
        self.integrity.map_or(0, Integrity::key_len)
    }

    /// Octets of the integrity check value in a packet.
    pub fn icv_len(&self) -> usize {
        self.integrity.map_or(AEAD_ICV_LEN, Integrity::icv_len)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.encryption)?;
        if let Some(integrity) = self.integrity {
            write!(f, "-{integrity}")?;
        }
        if self.esn { f.write_str("-esn") } else { Ok(()) }
    }
}

/// Transforms that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SuiteError {
    /// An AEAD protects integrity itself.
    #[error("{encryption} protects integrity itself and takes no {integrity}")]
    AeadWithIntegrity {
        /// The AEAD.
        encryption: Encryption,
        /// What was given with it.
        integrity: Integrity,
    },
    /// A plain cipher needs an integrity transform.
    #[error("{encryption} needs an integrity algorithm")]
    MissingIntegrity {
        /// The cipher.
        encryption: Encryption,
    },
}

const AEAD_ICV_LEN: usize = 16;
/// HMAC-SHA-256 cut to 96 bits has no number in IKEv2. This one, of the range for private use, is what the configuration says.
const SHA256_96: u16 = 1_025;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn transforms_must_go_together() {
        assert!(Suite::new(Encryption::AesGcm16_128, Some(Integrity::HmacSha256_128), false).is_err());
        assert!(Suite::new(Encryption::AesCbc128, None, false).is_err());
        assert!(Suite::new(Encryption::AesCbc128, Some(Integrity::HmacSha256_128), true).is_ok());
    }

    #[test]
    fn prints_like_a_proposal() {
        let gcm = Suite::new(Encryption::AesGcm16_128, None, false).unwrap();
        assert_eq!(gcm.to_string(), "aes128gcm16");
        let cbc = Suite::new(Encryption::AesCbc256, Some(Integrity::HmacSha512_256), true).unwrap();
        assert_eq!(cbc.to_string(), "aes256-sha512-esn");
        assert_eq!((cbc.key_len(), cbc.integrity_key_len(), cbc.icv_len()), (32, 64, 32));
        assert_eq!((gcm.key_len(), gcm.integrity_key_len(), gcm.icv_len()), (20, 0, 16));
    }

    #[test]
    fn legacy_transforms_have_their_suites() {
        for (integrity, lengths, text) in [
            (1, (24, 16, 12), "3des-md5"),
            (2, (24, 20, 12), "3des-sha1"),
            (12, (24, 32, 16), "3des-sha256"),
            (1_025, (24, 32, 12), "3des-sha256_96"),
        ] {
            let suite = Suite::from_transforms(3, None, Some(integrity), false).unwrap();
            assert_eq!((suite.key_len(), suite.integrity_key_len(), suite.icv_len()), lengths, "{text}");
            assert_eq!((suite.encryption.iv_len(), suite.encryption.alignment()), (8, 8));
            assert_eq!(suite.to_string(), text);
        }
        assert!(Suite::from_transforms(3, Some(192), Some(2), false).is_none(), "3DES has no key length");
    }
}
