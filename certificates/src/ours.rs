//! Our certificate, and signing with its key.

use std::fmt;

use ike::Identity;
use ike::crypto::signature::{Hash, Scheme};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use openssl::x509::{X509, X509Ref};

use crate::names;
use crate::pem::{self, PemFault};

/// With fewer, RSA is weaker than anything else that is negotiated here (RFC 8247 section 3.1.1).
const MIN_RSA_BITS: u32 = 2048;

/// Our certificate, those that lead from it to an authority, and its private key.
pub struct Ours {
    certificate: X509,
    /// In DER, as it is sent.
    chain: Vec<Vec<u8>>,
    key: PKey<Private>,
    schemes: Vec<Scheme>,
}

impl Ours {
    /// Of a text with a private key, its certificate and those that lead from there to an authority, in any order.
    ///
    /// # Errors
    /// What of it is missing or does not fit.
    pub fn from_pem(text: &[u8]) -> Result<Self, PemFault> {
        let key = read_key(text)?;
        let schemes = schemes(&key)?;
        let mut certificates = pem::certificates(text)?;
        let is_its = |certificate: &X509| certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        let own = certificates.iter().position(is_its).ok_or(PemFault::AnotherKey)?;
        let certificate = certificates.remove(own);
        if !signs(&certificate) {
            return Err(PemFault::Usage);
        }
        // Whoever trusts a root has it.
        certificates.retain(|other| !is_root(other));
        let all = std::iter::once(&certificate).chain(&certificates);
        let chain = all.map(|certificate| certificate.to_der());
        let chain = chain.collect::<Result<_, _>>().map_err(|_| PemFault::Damaged)?;
        Ok(Self { certificate, chain, key, schemes })
    }

    /// Whether the certificate is for somebody of this name (RFC 4945 section 3.1).
    pub fn is_for(&self, id: &Identity) -> bool {
        names::is_for(&self.certificate, id)
    }

    /// Whom it is for that an identity like `id` could name, as a line.
    pub fn names_like(&self, id: &Identity) -> String {
        names::like(&self.certificate, id)
    }

    /// An identity that it is for, in the octets that the certificate has: a distinguished name may be written in several ways, and not
    /// everybody compares more than octets.
    #[must_use]
    pub fn written(&self, id: &Identity) -> Identity {
        names::subject(self.certificate.subject_name())
            .filter(|subject| subject == id)
            .unwrap_or_else(|| id.clone())
    }

    pub(crate) fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    pub(crate) fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    pub(crate) fn sign(&self, scheme: Scheme, octets: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let mut signer = match digest(scheme) {
            None => Signer::new_without_digest(&self.key)?,
            Some(digest) => Signer::new(digest, &self.key)?,
        };
        if let Scheme::RsaPss(_) = scheme {
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        signer.sign_oneshot_to_vec(octets)
    }
}

/// Without the key.
impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ours({})", names::all(&self.certificate))
    }
}

pub(crate) fn read_key(text: &[u8]) -> Result<PKey<Private>, PemFault> {
    if !pem::blocks(text, "ENCRYPTED PRIVATE KEY").is_empty() {
        return Err(PemFault::Encrypted);
    }
    let kinds = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    let block = kinds.iter().find_map(|kind| pem::blocks(text, kind).first().copied());
    // Asked for a passphrase, it is not to ask at a terminal.
    PKey::private_key_from_pem_callback(block.ok_or(PemFault::NoKey)?, |_| Err(ErrorStack::get()))
        .map_err(|_| PemFault::Encrypted)
}

/// What a key can sign by, the best first. RSASSA-PSS is what everybody has who has RFC 7427 (RFC 8247 section 3.2).
fn schemes(key: &PKey<Private>) -> Result<Vec<Scheme>, PemFault> {
    let with = |form: fn(Hash) -> Scheme| Hash::ALL.map(form).to_vec();
    match key.id() {
        Id::RSA if key.bits() >= MIN_RSA_BITS => Ok([with(Scheme::RsaPss), with(Scheme::RsaPkcs1)].concat()),
        Id::RSA => Err(PemFault::Key(format!("RSA of {} bits", key.bits()))),
        Id::ED25519 => Ok(vec![Scheme::Ed25519]),
        Id::EC => {
            let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
            let hash = match curve {
                Some(Nid::X9_62_PRIME256V1) => Hash::Sha256,
                Some(Nid::SECP384R1) => Hash::Sha384,
                Some(Nid::SECP521R1) => Hash::Sha512,
                _ => return Err(PemFault::Key("ECDSA by another curve".to_owned())),
            };
            // That of its length first.
            let mut hashes = Hash::ALL.to_vec();
            hashes.sort_by_key(|other| *other != hash);
            Ok(hashes.into_iter().map(Scheme::Ecdsa).collect())
        }
        other => {
            let name = Nid::from_raw(other.as_raw()).long_name().unwrap_or("of an unknown kind");
            Err(PemFault::Key(name.to_owned()))
        }
    }
}

/// How OpenSSL has the hash of a scheme.
pub(crate) fn digest(scheme: Scheme) -> Option<MessageDigest> {
    let of = |hash| match hash {
        Hash::Sha256 => MessageDigest::sha256(),
        Hash::Sha384 => MessageDigest::sha384(),
        Hash::Sha512 => MessageDigest::sha512(),
    };
    match scheme {
        Scheme::Ed25519 => None,
        Scheme::Ecdsa(hash) | Scheme::RsaPss(hash) | Scheme::RsaPkcs1(hash) => Some(of(hash)),
    }
}

/// Whether a certificate is for signatures in IKE (RFC 4945 section 5.1.3.2): where it says what it is for, one of these has to be among it.
pub(crate) fn signs(certificate: &X509Ref) -> bool {
    use openssl::x509::X509KeyUsage;
    let wanted = X509KeyUsage::DIGITAL_SIGNATURE | X509KeyUsage::NON_REPUDIATION;
    certificate.key_usage().is_none_or(|usage| usage.intersects(wanted))
}

fn is_root(certificate: &X509Ref) -> bool {
    let same = certificate.subject_name().try_cmp(certificate.issuer_name());
    same.is_ok_and(std::cmp::Ordering::is_eq)
}
