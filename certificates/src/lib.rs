//! The certificates that both ends of an IKE_SA prove themselves by (RFC 7296 section 2.15, RFC 7427, RFC 4945).
//!
//! It is what `ike` asks for by [`ike::credentials::Certificates`]: `ike` itself has no clock to tell whether a certificate is valid, and no
//! randomness to sign with. It fetches nothing: certificates, keys and revocation lists come in as PEM, and nobody is asked about them.
//! What nodes and the API show each other is no matter of this crate, see `cluster` and `culvert`, which have from here only how long a
//! certificate is valid.
//!
//! Start with [`Credentials`]: it is made of [`Ours`], our certificate and key, and [`Trust`], whom the peer's has to be of.
#![forbid(unsafe_code)]

#[cfg(feature = "issue")]
pub mod issue;
mod names;
mod ours;
mod pem;
mod trust;
mod validity;

use std::sync::Arc;

use ike::credentials::{CertificateFault, Certificates, KeyHash, Signed};
use ike::crypto::CryptoError;
use ike::crypto::signature::Scheme;

pub use ours::Ours;
pub use pem::PemFault;
pub use trust::Trust;
pub use validity::{first_end, not_after};

/// What one peer is configured with. Many share their two parts.
#[derive(Clone, Debug)]
pub struct Credentials {
    ours: Arc<Ours>,
    trust: Arc<Trust>,
}

impl Credentials {
    /// Of these two.
    pub const fn new(ours: Arc<Ours>, trust: Arc<Trust>) -> Self {
        Self { ours, trust }
    }

    /// Ours of the two.
    pub fn ours(&self) -> &Ours {
        &self.ours
    }
}

impl Certificates for Credentials {
    fn chain(&self) -> &[Vec<u8>] {
        self.ours.chain()
    }

    fn authorities(&self) -> &[KeyHash] {
        self.trust.hashes()
    }

    fn schemes(&self) -> &[Scheme] {
        self.ours.schemes()
    }

    fn sign(&self, scheme: Scheme, octets: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Ok(self.ours.sign(scheme, octets)?)
    }

    fn verify(&self, signed: &Signed<'_>) -> Result<(), CertificateFault> {
        self.trust.verify(signed)
    }
}
