//! Cryptography of the IKE_SA: PRF, Diffie-Hellman, key schedule, and the protection of the SK payload.
//!
//! Randomness comes from [`crate::Host`]; nothing here asks the operating system for any.

pub mod auth;
#[cfg(not(culvert_fuzz))]
pub mod dh;
#[cfg(culvert_fuzz)]
#[path = "toy_dh.rs"]
pub mod dh;
pub(crate) mod ecdsa;
pub mod keys;
pub mod prf;
pub mod signature;
pub mod sk;
#[cfg(culvert_fuzz)]
mod toy_aead;

/// Why a cryptographic step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A transform that the table does not map to an algorithm.
    #[error("algorithm is not implemented")]
    Unsupported,
    /// The peer's public value is not a valid one for the group.
    #[error("invalid public value")]
    BadPublicValue,
    /// The integrity check failed: damaged, forged, or another key.
    #[error("integrity check failed")]
    Integrity,
    /// A protected payload too short, or its padding wrong.
    #[error("malformed encrypted payload")]
    Malformed,
    /// The library refused an operation.
    #[error("cryptographic library failed")]
    Library,
}

impl From<openssl::error::ErrorStack> for CryptoError {
    fn from(_: openssl::error::ErrorStack) -> Self {
        Self::Library
    }
}
