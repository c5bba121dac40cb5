//! The cryptographic half of an SA: encrypt and authenticate, or verify and decrypt, one packet in place.
//!
//! An AEAD keeps its key and borrows a context of its thread ([`contexts`]); CBC and HMAC, which are for peers that have nothing
//! better, are keyed once per SA. `openssl` wipes its contexts when they are freed, the HMAC states wipe themselves.

mod aead;
mod cbc;
mod contexts;
mod iv;
mod mac;

use aead::Aead;
use cbc::Cbc;
pub(crate) use iv::IvSource;
use mac::Mac;

use crate::error::SaError;
use crate::keys::SaKeys;
use crate::suite::Suite;

/// Which way the contexts are keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Seal,
    Open,
}

/// What the transform needs to know of a packet besides its octets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketCrypto {
    /// The 64-bit sequence number, of which the packet carries the low half.
    pub(crate) sequence: u64,
    /// Where the ciphertext begins: header and IV lie before it.
    pub(crate) payload: usize,
    /// Where the ciphertext ends and the ICV begins; the ICV reaches to the end of the packet.
    pub(crate) icv: usize,
}

/// The packet does not verify, or the library failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransformError {
    Icv,
    Library,
}

/// One direction's algorithms with their keys.
pub(crate) enum Transform {
    Aead(Aead),
    /// Boxed, so that the common AEAD does not carry the size of two hash states, and of keys that only a snapshot needs.
    CbcHmac(Box<(Cbc, Mac, SaKeys)>),
}

impl Transform {
    pub(crate) fn new(suite: &Suite, keys: &SaKeys, direction: Direction) -> Result<Self, SaError> {
        // A suite can be written as a literal, so it is checked here once more.
        let suite = Suite::new(suite.encryption, suite.integrity, suite.esn)?;
        if keys.encryption.len() != suite.key_len() {
            return Err(SaError::KeyLength { got: keys.encryption.len(), want: suite.key_len() });
        }
        if keys.integrity.len() != suite.integrity_key_len() {
            return Err(SaError::IntegrityKeyLength {
                got: keys.integrity.len(),
                want: suite.integrity_key_len(),
            });
        }
        match suite.integrity {
            None => Ok(Self::Aead(Aead::new(&suite, &keys.encryption, direction)?)),
            Some(integrity) => {
                let cbc = Cbc::new(suite.encryption, &keys.encryption, direction)?;
                let mac = Mac::new(integrity, suite.esn, &keys.integrity)?;
                Ok(Self::CbcHmac(Box::new((cbc, mac, keys.clone()))))
            }
        }
    }

    /// The keys that it was made with.
    pub(crate) fn keys(&self) -> SaKeys {
        match self {
            Self::Aead(aead) => SaKeys::new(std::mem::take(&mut *aead.key_and_salt()), Vec::new()),
            Self::CbcHmac(both) => both.2.clone(),
        }
    }

    /// Has this thread keep nothing of the keys, which another is going to use or drop.
    pub(crate) fn leave_thread(&self) {
        match self {
            Self::Aead(aead) => aead.leave_thread(),
            // Everything that it has goes with it.
            Self::CbcHmac(_) => {}
        }
    }

    /// Encrypts the payload of `packet` in place and writes the ICV. Header and IV are already there.
    pub(crate) fn seal(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        match self {
            Self::Aead(aead) => aead.seal(packet, at),
            Self::CbcHmac(both) => {
                let (cbc, mac, _) = both.as_mut();
                cbc.encrypt(packet, at)?;
                let (signed, icv) = packet.split_at_mut_checked(at.icv).ok_or(TransformError::Library)?;
                mac.sign(signed, at.sequence, icv);
                Ok(())
            }
        }
    }

    /// Verifies the ICV of `packet`, then decrypts its payload in place. After an error the payload is garbage.
    pub(crate) fn open(&mut self, packet: &mut [u8], at: PacketCrypto) -> Result<(), TransformError> {
        match self {
            Self::Aead(aead) => aead.open(packet, at),
            Self::CbcHmac(both) => {
                let (cbc, mac, _) = both.as_mut();
                let (signed, icv) = packet.split_at_checked(at.icv).ok_or(TransformError::Library)?;
                if !mac.verify(signed, at.sequence, icv) {
                    return Err(TransformError::Icv);
                }
                cbc.decrypt(packet, at)
            }
        }
    }
}
