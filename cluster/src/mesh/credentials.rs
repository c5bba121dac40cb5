//! What a node proves its name with: certificates that are derived from the key of the cluster's secrets, or given as files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::md::Md;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::pkey_ctx::PkeyCtx;
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509Ref};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use zeroize::Zeroizing;

/// What the name of a node ends with in its certificate. It is looked up nowhere.
const DOMAIN: &str = "nodes.culvert";
/// What the authority's key is derived with, so that it is no other key of the same secret.
const LABEL: &[u8] = b"culvert nodes authority 1";
/// The same for what connections are reset with, before the node's name.
const RESET_LABEL: &[u8] = b"culvert nodes reset 1 ";
/// As much as a block of SHA-256.
const RESET: usize = 64;
/// A derived certificate begins as much before now, for other clocks are behind ours.
const BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
/// A derived certificate is made anew when the process starts, and whoever has the key of the secrets can make one that never ends.
const AFTER: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// The authority has neither beginning nor end, as RFC 5280 section 4.1.2.5 writes it, so that it is the same everywhere.
const AUTHORITY_FROM: &str = "20200101000000Z";
const AUTHORITY_UNTIL: &str = "99991231235959Z";

/// The name of a node in its certificate.
pub fn certified_name(node: &str) -> String {
    format!("{node}.{DOMAIN}")
}

/// Files in PEM, in place of what is derived.
#[derive(Clone, Debug)]
pub struct CredentialFiles {
    /// Authorities that nodes are certified by.
    pub ca: PathBuf,
    /// Our certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why a node has nothing to prove its name with.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The name cannot stand in a certificate.
    #[error("node {0:?} has no name that a certificate may have; expected one such as node-1")]
    Name(String),
    /// The library.
    #[error("certificate of this node: {0}")]
    Library(#[from] ErrorStack),
}

/// What a node proves its name with, and what it lets others prove theirs with.
pub struct Credentials {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    /// What resets of connections are made with, by all processes of this node.
    pub(super) reset: Zeroizing<[u8; RESET]>,
}

impl Credentials {
    /// Of a node whose cluster has this key of its secrets. Each process has a key and a certificate of its own, by an authority that is
    /// the same at all nodes that have the same key of the secrets.
    ///
    /// # Errors
    /// If the name cannot stand in a certificate.
    pub fn derive(node: &str, secret: &[u8]) -> Result<Self, CredentialError> {
        begin()?;
        named(node)?;
        let (authority_key, authority) = derive_authority(secret)?;
        let key = PKey::generate_ed25519()?;
        let leaf = certify(node, &key, &authority, &authority_key)?;
        Self::made(&[authority], &[leaf], &key, node, secret)
    }

    /// The same, with the key in a file.
    ///
    /// # Errors
    /// If the name cannot stand in a certificate, or the file cannot be read.
    pub fn shared(node: &str, key_file: &Path) -> Result<Self, CredentialError> {
        Self::derive(node, &contents(key_file)?)
    }

    /// Of files. The certificate has to name the node, as [`certified_name`].
    ///
    /// # Errors
    /// With the file that cannot be used.
    pub fn read(node: &str, files: &CredentialFiles) -> Result<Self, CredentialError> {
        begin()?;
        let CredentialFiles { ca, certificate, key } = files;
        let authorities = certificates(ca)?;
        let chain = certificates(certificate)?;
        let wrong = |path: &Path, reason: String| CredentialError::File { path: path.to_owned(), reason };
        let read = PKey::private_key_from_pem(&contents(key)?);
        let private = read.map_err(|_| wrong(key, "has no private key in PEM".to_owned()))?;
        let Some(own) = chain.first() else {
            return Err(wrong(certificate, "has no certificate in PEM".to_owned()));
        };
        if !own.public_key()?.public_eq(&private) {
            let reason = format!("is not the key of the certificate in {}", certificate.display());
            return Err(wrong(key, reason));
        }
        let secret = Zeroizing::new(private.private_key_to_pkcs8()?);
        let this = Self::made(&authorities, &chain, &private, node, &secret)?;
        let leaf = this.chain.first().ok_or_else(|| wrong(certificate, String::new()))?;
        if !carries(leaf, node) {
            let reason =
                format!("does not name this node; expected {} among its names", certified_name(node));
            return Err(wrong(certificate, reason));
        }
        if let Some(reason) = out_of_time(own)? {
            return Err(wrong(certificate, reason));
        }
        Ok(this)
    }

    pub(super) fn made(
        authorities: &[X509],
        chain: &[X509],
        key: &PKeyRef<Private>,
        node: &str,
        secret: &[u8],
    ) -> Result<Self, CredentialError> {
        let der =
            |all: &[X509]| all.iter().map(|one| Ok(one.to_der()?.into())).collect::<Result<_, ErrorStack>>();
        let key = Zeroizing::new(key.private_key_to_pkcs8()?);
        let reset = expand(secret, &[RESET_LABEL, node.as_bytes()].concat())?;
        Ok(Self { authorities: der(authorities)?, chain: der(chain)?, key, reset })
    }

    /// When the certificate ends to be valid; of one that is derived never is close.
    pub fn expires(&self) -> Option<SystemTime> {
        certificates::not_after(&*X509::from_der(self.chain.first()?).ok()?)
    }

    pub(super) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Whether the certificate is one of this node.
pub(super) fn carries(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let Ok(name) = named(node) else { return false };
    let parsed = rustls::server::ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

/// The first use of OpenSSL decides whether it tidies up when the process ends, which threads that still use it do not survive. By way of
/// most types it does not, by way of those for deriving keys it would.
fn begin() -> Result<(), ErrorStack> {
    BigNum::new().map(drop)
}

fn named(node: &str) -> Result<ServerName<'static>, CredentialError> {
    ServerName::try_from(certified_name(node)).map_err(|_| CredentialError::Name(node.to_owned()))
}

/// The authority of all nodes that have this secret. Ed25519 signs without randomness, so the certificate is the same as well.
fn derive_authority(secret: &[u8]) -> Result<(PKey<Private>, X509), ErrorStack> {
    let seed = expand::<32>(secret, LABEL)?;
    let key = PKey::private_key_from_raw_bytes(&*seed, Id::ED25519)?;
    let mut builder = builder("nodes", 1, &key)?;
    let name = common_name("nodes")?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(Asn1Time::from_str(AUTHORITY_FROM)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_str(AUTHORITY_UNTIL)?.as_ref())?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
    // Ed25519 hashes itself.
    builder.sign(&key, MessageDigest::null())?;
    Ok((key, builder.build()))
}

/// HKDF with SHA-256 (RFC 5869).
fn expand<const N: usize>(secret: &[u8], label: &[u8]) -> Result<Zeroizing<[u8; N]>, ErrorStack> {
    let mut out = Zeroizing::new([0; N]);
    let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
    hkdf.derive_init()?;
    hkdf.set_hkdf_md(Md::sha256())?;
    hkdf.set_hkdf_key(secret)?;
    hkdf.add_hkdf_info(label)?;
    hkdf.derive(Some(&mut *out))?;
    Ok(out)
}

fn certify(
    node: &str,
    key: &PKeyRef<Private>,
    authority: &X509Ref,
    authority_key: &PKeyRef<Private>,
) -> Result<X509, ErrorStack> {
    let (from, until) = (SystemTime::now() - BEFORE, SystemTime::now() + AFTER);
    let mut builder = builder("node", rand::random::<u32>(), key)?;
    builder.set_issuer_name(authority.subject_name())?;
    builder.set_not_before(time(from)?.as_ref())?;
    builder.set_not_after(time(until)?.as_ref())?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    let mut names = SubjectAlternativeName::new();
    names.dns(&certified_name(node));
    let names = names.build(&builder.x509v3_context(Some(authority), None))?;
    builder.append_extension(names)?;
    builder.sign(authority_key, MessageDigest::null())?;
    Ok(builder.build())
}

/// What both kinds of certificate begin with.
fn builder(name: &str, serial: u32, key: &PKeyRef<Private>) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    // Version 3 is written as 2 (RFC 5280 section 4.1.2.1).
    builder.set_version(2)?;
    builder.set_serial_number(BigNum::from_u32(serial)?.to_asn1_integer()?.as_ref())?;
    let name = common_name(name)?;
    builder.set_subject_name(&name)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut common = X509Name::builder()?;
    common.append_entry_by_text("CN", &format!("culvert {name}"))?;
    Ok(common.build())
}

fn time(at: SystemTime) -> Result<Asn1Time, ErrorStack> {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Asn1Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn contents(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let wrong =
        |error: std::io::Error| CredentialError::File { path: path.to_owned(), reason: error.to_string() };
    std::fs::read(path).map(Zeroizing::new).map_err(wrong)
}

fn certificates(path: &Path) -> Result<Vec<X509>, CredentialError> {
    let wrong =
        || CredentialError::File { path: path.to_owned(), reason: "has no certificate in PEM".to_owned() };
    let all = X509::stack_from_pem(&contents(path)?).map_err(|_| wrong())?;
    if all.is_empty() { Err(wrong()) } else { Ok(all) }
}

/// What is wrong with the time that a certificate is for, if anything.
fn out_of_time(certificate: &X509Ref) -> Result<Option<String>, ErrorStack> {
    let now = time(SystemTime::now())?;
    let now: &Asn1TimeRef = now.as_ref();
    let (from, until): (&Asn1TimeRef, &Asn1TimeRef) = (certificate.not_before(), certificate.not_after());
    if until < now {
        return Ok(Some(format!("has expired on {until}; the clock of this node says {now}")));
    }
    if from > now {
        return Ok(Some(format!("is valid from {from} on only; the clock of this node says {now}")));
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_same_everywhere_and_the_certificates_are_not() {
        let (a, b) =
            (Credentials::derive("a", &[7; 32]).unwrap(), Credentials::derive("b", &[7; 32]).unwrap());
        let other = Credentials::derive("a", &[8; 32]).unwrap();
        assert_eq!(a.authorities, b.authorities);
        assert_ne!(a.authorities, other.authorities);
        assert!(carries(&a.chain[0], "a") && !carries(&a.chain[0], "b"));
        let of_other = Credentials::derive("a", &[7; 32]).unwrap();
        assert_ne!(a.chain, of_other.chain, "a process has a key of its own");
    }

    #[test]
    fn a_name_that_no_certificate_may_have_is_refused_with_itself() {
        assert!(Credentials::derive("a..b", &[7; 32]).unwrap_err().to_string().contains("a..b"));
        assert!(Credentials::derive("node-1.rack.4", &[7; 32]).is_ok());
    }
}
