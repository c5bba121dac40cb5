//! Whether a peer's certificate leads to one of our authorities, and its signature is by it.

use std::cmp::Ordering;
use std::fmt;

use ike::credentials::{CertificateFault, KeyHash, Signed};
use ike::crypto::signature::Scheme;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{CrlStatus, X509, X509Crl, X509StoreContext};

use crate::names;
use crate::ours::{digest, signs};
use crate::pem::{self, PemFault};

/// Of OpenSSL's levels that which wants 112 bits of security: no SHA-1, no RSA below 2048 bits.
const LEVEL: i32 = 2;

/// The authorities that a peer's certificate has to be of, and what they have revoked.
pub struct Trust {
    store: X509Store,
    hashes: Vec<KeyHash>,
    lists: Vec<X509Crl>,
    names: String,
}

impl Trust {
    /// Of a text with certificates of authorities, roots or any below, and their revocation lists if there are some. A certificate that
    /// is no authority is trusted as such: that of one peer.
    ///
    /// # Errors
    /// What of it is missing or cannot be read.
    pub fn from_pem(text: &[u8]) -> Result<Self, PemFault> {
        let (certificates, lists) = (pem::certificates(text)?, pem::lists(text)?);
        let names = certificates.iter().map(|c| names::line(c.subject_name())).collect::<Vec<_>>().join("; ");
        let (store, hashes) = read(certificates).map_err(|_| PemFault::Damaged)?;
        Ok(Self { store, hashes, lists, names })
    }

    /// The authorities, as they are named to a peer.
    pub fn hashes(&self) -> &[KeyHash] {
        &self.hashes
    }

    pub(crate) fn verify(&self, signed: &Signed<'_>) -> Result<(), CertificateFault> {
        let read = |der: &&[u8]| X509::from_der(der).map_err(|_| CertificateFault::Unreadable);
        let sent = signed.chain.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let own = sent.first().ok_or(CertificateFault::Missing)?;
        // The signature first: whoever has no key at all is not to have chains built.
        let key = own.public_key().map_err(|_| CertificateFault::Unreadable)?;
        if !fits(signed.scheme, &key) {
            return Err(CertificateFault::AnotherKey(signed.scheme));
        }
        if !is_by(&key, signed).unwrap_or(false) {
            return Err(CertificateFault::Forged);
        }
        self.trusts(own, sent.get(1..).unwrap_or_default())?;
        if !signs(own) {
            return Err(CertificateFault::Untrusted("its key usage is not digitalSignature".to_owned()));
        }
        if !names::is_for(own, signed.id) {
            return Err(CertificateFault::AnotherName(names::like(own, signed.id)));
        }
        Ok(())
    }

    /// Whether `own` leads to an authority, by whatever of `between` helps.
    fn trusts(&self, own: &X509, between: &[X509]) -> Result<(), CertificateFault> {
        let library = |_: ErrorStack| CertificateFault::Untrusted("it cannot be verified".to_owned());
        let mut helpful = Stack::new().map_err(library)?;
        for certificate in between {
            helpful.push(certificate.clone()).map_err(library)?;
        }
        let mut context = X509StoreContext::new().map_err(library)?;
        let path = context.init(&self.store, own, &helpful, |context| {
            if !context.verify_cert()? {
                return Ok(Err(context.error().error_string()));
            }
            let chain = context.chain().into_iter().flatten();
            Ok(Ok(chain.map(|certificate| certificate.to_owned()).collect::<Vec<X509>>()))
        });
        let path = path.map_err(library)?.map_err(|why| CertificateFault::Untrusted(why.to_owned()))?;
        let pairs = path.iter().zip(path.iter().skip(1));
        let revoked = pairs.into_iter().find(|(certificate, issuer)| self.is_revoked(certificate, issuer));
        match revoked {
            Some((_, issuer)) => Err(CertificateFault::Revoked(names::line(issuer.subject_name()))),
            None => Ok(()),
        }
    }

    /// Whether a list of the issuer has it. A list whose time is over counts still: what was revoked stays so.
    fn is_revoked(&self, certificate: &X509, issuer: &X509) -> bool {
        let Ok(key) = issuer.public_key() else { return true };
        let of_issuer = |list: &&X509Crl| {
            list.issuer_name().try_cmp(issuer.subject_name()).is_ok_and(Ordering::is_eq)
                && list.verify(&key).unwrap_or(false)
        };
        let mut lists = self.lists.iter().filter(of_issuer);
        lists.any(|list| matches!(list.get_by_cert(certificate), CrlStatus::Revoked(_)))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({})", self.names)
    }
}

fn read(certificates: Vec<X509>) -> Result<(X509Store, Vec<KeyHash>), ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    // Whichever is given is trusted, a root or not.
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    param.set_auth_level(LEVEL);
    let mut store = X509StoreBuilder::new()?;
    store.set_param(&param)?;
    let mut hashes = Vec::new();
    for certificate in certificates {
        let key = certificate.public_key()?.public_key_to_der()?;
        let name = hash(MessageDigest::sha1(), &key)?;
        hashes.extend(KeyHash::try_from(&*name));
        store.add_cert(certificate)?;
    }
    Ok((store.build(), hashes))
}

/// Whether a key is of the kind that signs so.
fn fits(scheme: Scheme, key: &PKey<Public>) -> bool {
    let wanted = match scheme {
        Scheme::Ed25519 => Id::ED25519,
        Scheme::Ecdsa(_) => Id::EC,
        Scheme::RsaPss(_) | Scheme::RsaPkcs1(_) => Id::RSA,
    };
    key.id() == wanted
}

fn is_by(key: &PKey<Public>, signed: &Signed<'_>) -> Result<bool, ErrorStack> {
    let mut verifier = match digest(signed.scheme) {
        None => Verifier::new_without_digest(key)?,
        Some(digest) => Verifier::new(digest, key)?,
    };
    if let Scheme::RsaPss(_) = signed.scheme {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
    }
    verifier.verify_oneshot(signed.signature, signed.octets)
}
