//! How the two sides of an IKE_SA prove who they are: by a key that both have, or by certificates.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::signature::Scheme;
use crate::crypto::{CryptoError, ecdsa};
use crate::identity::Identity;
use crate::wire::numbers::AuthMethod;

/// The SHA-1 hash of an authority's public key, by which it is named to a peer (RFC 7296 section 3.7). Nothing is proved by it.
pub type KeyHash = [u8; 20];

/// What is configured for a peer: both sides prove themselves in the same way.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A key that both have.
    Psk(Psk),
    /// A certificate on each side. IKEv2 alone.
    Certificates(Arc<dyn Certificates>),
}

impl Auth {
    /// The pre-shared key, where that is the way.
    pub(crate) fn psk(&self) -> Option<&[u8]> {
        match self {
            Self::Psk(psk) => Some(psk.octets()),
            Self::Certificates(_) => None,
        }
    }

    /// The certificates, where that is the way.
    pub fn certificates(&self) -> Option<&dyn Certificates> {
        match self {
            Self::Psk(_) => None,
            Self::Certificates(with) => Some(&**with),
        }
    }

    /// Whether somebody may prove itself by this.
    pub(crate) fn takes(&self, method: AuthMethod) -> bool {
        Way::of(method) == Some(self.way())
    }

    /// Which way it is.
    pub const fn way(&self) -> Way {
        match self {
            Self::Psk(_) => Way::Psk,
            Self::Certificates(_) => Way::Certificate,
        }
    }
}

/// How somebody proves who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a pre-shared key.
    Psk,
    /// By a certificate.
    Certificate,
}

impl Way {
    /// That of a method of AUTH, if it is one of them. The methods of RSA and DSS that sign without saying how are not: what most have of them is
    /// SHA-1. Those of ECDSA have a hash each.
    pub(crate) const fn of(method: AuthMethod) -> Option<Self> {
        match method {
            AuthMethod::SHARED_KEY => Some(Self::Psk),
            AuthMethod::DIGITAL_SIGNATURE => Some(Self::Certificate),
            _ if ecdsa::scheme_of(method).is_some() => Some(Self::Certificate),
            _ => None,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Psk => "a pre-shared key",
            Self::Certificate => "a certificate",
        })
    }
}

/// Our certificate and key, and the authorities that a peer's certificate has to be of. Whoever supplies it knows the time, and has
/// randomness for signatures that need some: the core has neither.
pub trait Certificates: fmt::Debug + Send + Sync {
    /// Our certificate, and those between it and an authority, in DER.
    fn chain(&self) -> &[Vec<u8>];

    /// The authorities.
    fn authorities(&self) -> &[KeyHash];

    /// How our key can sign, the best first.
    fn schemes(&self) -> &[Scheme];

    /// Our signature of `octets`.
    ///
    /// # Errors
    /// When the library refuses it.
    fn sign(&self, scheme: Scheme, octets: &[u8]) -> Result<Vec<u8>, CryptoError>;

    /// Whether the peer is who it says.
    ///
    /// # Errors
    /// Why it is not, or has not proved it.
    fn verify(&self, signed: &Signed<'_>) -> Result<(), CertificateFault>;
}

/// What a peer has proved itself with.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Its certificates in DER, its own first. At least one.
    pub chain: &'a [&'a [u8]],
    /// Who it says it is.
    pub id: &'a Identity,
    /// How it has signed.
    pub scheme: Scheme,
    /// What.
    pub octets: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// Why a certificate, or what was signed with it, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// There is none.
    #[error("it sent none")]
    Missing,
    /// One of another kind, or damaged.
    #[error("it cannot be read")]
    Unreadable,
    /// It leads to none of the authorities, or is not valid now.
    #[error("it is not trusted: {0}")]
    Untrusted(String),
    /// An authority has taken it back.
    #[error("it was revoked by {0}")]
    Revoked(String),
    /// It is for somebody else.
    #[error("it is for [{0}]")]
    AnotherName(String),
    /// Its key is none that signs so.
    #[error("its key does not sign by {0}")]
    AnotherKey(Scheme),
    /// Signed by another key, or something else was signed.
    #[error("the signature is not by its key")]
    Forged,
    /// Signed in a way that is not known, or too weak.
    #[error("it signs by what is none of {}", Scheme::list())]
    Scheme,
}

/// A pre-shared key: zeroized when dropped, never printed.
#[derive(Clone)]
pub struct Psk(Zeroizing<Vec<u8>>);

impl Psk {
    /// Takes over the octets.
    pub const fn new(octets: Zeroizing<Vec<u8>>) -> Self {
        Self(octets)
    }

    /// The key of a file with these octets. Whoever writes a file with an editor has an end of the line in it, on some systems of two octets;
    /// any other octet may be meant.
    pub fn in_file(octets: &[u8]) -> &[u8] {
        let Some(line) = octets.strip_suffix(b"\n") else { return octets };
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_key_and_all_else_is() {
        for (file, key) in [
            ("key", "key"),
            ("key\n", "key"),
            ("key\r\n", "key"),
            ("key \n", "key "),
            ("key\n\n", "key\n"),
            ("key\r", "key\r"),
            ("\n", ""),
        ] {
            assert_eq!(Psk::in_file(file.as_bytes()), key.as_bytes(), "{file:?}");
        }
    }

    #[test]
    fn a_key_does_not_print() {
        let psk = Psk::new(Zeroizing::new(b"hunter2".to_vec()));
        assert_eq!(format!("{psk:?}"), "Psk(..)");
        assert_eq!(format!("{:?}", Auth::Psk(psk)), "Psk(Psk(..))");
    }
}
