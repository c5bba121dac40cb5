//! An authority of one's own, for tests and load: certificates for many peers that never existed. It is none to be used for anybody who does.

use ike::Identity;
use ike::wire::numbers::IdType;
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{
    X509, X509Builder, X509CrlBuilder, X509Extension, X509Name, X509NameBuilder, X509RevokedBuilder,
};

use crate::pem::{self, PemFault};

/// Of which kind a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA by this curve.
    Ec(Nid),
    /// RSA with so many bits.
    Rsa(u32),
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// ECDSA by P-256, the cheapest to make and to sign with.
    pub const P256: Self = Self::Ec(Nid::X9_62_PRIME256V1);
    /// ECDSA by P-384.
    pub const P384: Self = Self::Ec(Nid::SECP384R1);
    /// ECDSA by P-521.
    pub const P521: Self = Self::Ec(Nid::SECP521R1);

    fn make(self) -> Result<PKey<Private>, ErrorStack> {
        match self {
            Self::Ec(curve) => PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve)?)?),
            Self::Rsa(bits) => PKey::from_rsa(Rsa::generate(bits)?),
            Self::Ed25519 => PKey::generate_ed25519(),
        }
    }
}

/// Who issues certificates.
#[derive(Debug)]
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate that was issued, with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    certificate: X509,
    key: PKey<Private>,
}

/// When a certificate is valid, in days from today.
const DAYS: (i64, i64) = (-1, 365);

impl Authority {
    /// A new one with a root.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn new(name: &str) -> Result<Self, ErrorStack> {
        let key = KeyKind::P256.make()?;
        let certificate = certificate(&subject(name)?, &key, &subject(name)?, &key, Kind::Authority, DAYS)?;
        Ok(Self { certificate, key })
    }

    /// That of a text with its certificate and key.
    ///
    /// # Errors
    /// What is missing in it.
    pub fn from_pem(text: &[u8]) -> Result<Self, PemFault> {
        let key = crate::ours::read_key(text)?;
        let mut certificates = pem::certificates(text)?.into_iter();
        let is_its = |certificate: &X509| certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        let certificate = certificates.find(is_its).ok_or(PemFault::AnotherKey)?;
        Ok(Self { certificate, key })
    }

    /// One below it.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn below(&self, name: &str) -> Result<Self, ErrorStack> {
        let key = KeyKind::P256.make()?;
        let ours = self.certificate.subject_name();
        let certificate =
            certificate(&subject(name)?, &key, &ours.to_owned()?, &self.key, Kind::Authority, DAYS)?;
        Ok(Self { certificate, key })
    }

    /// A certificate for somebody of these identities, valid between these days from now. A distinguished name is its subject.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn issue_for(&self, ids: &[Identity], kind: KeyKind, days: (i64, i64)) -> Result<Issued, ErrorStack> {
        let key = kind.make()?;
        let distinguished = ids.iter().find(|id| id.kind == IdType::ID_DER_ASN1_DN);
        let name = match distinguished {
            Some(name) => X509Name::from_der(&name.data)?,
            None => subject(&ids.first().map(ToString::to_string).unwrap_or_default())?,
        };
        let ours = self.certificate.subject_name().to_owned()?;
        let certificate = certificate(&name, &key, &ours, &self.key, Kind::Gateway(ids), days)?;
        Ok(Issued { certificate, key })
    }

    /// A certificate for somebody of this identity.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn issue(&self, id: &Identity, kind: KeyKind) -> Result<Issued, ErrorStack> {
        self.issue_for(std::slice::from_ref(id), kind, DAYS)
    }

    /// Its own certificate.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn to_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    /// Its certificate and its key.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn to_pem_with_key(&self) -> Result<Vec<u8>, ErrorStack> {
        Ok([self.certificate.to_pem()?, self.key.private_key_to_pem_pkcs8()?].concat())
    }

    /// A revocation list with this certificate.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn revoke(&self, issued: &Issued) -> Result<Vec<u8>, ErrorStack> {
        let mut list = X509CrlBuilder::new()?;
        let now = Asn1Time::days_from_now(0)?;
        list.set_issuer_name(self.certificate.subject_name())?;
        list.set_last_update(&now)?;
        list.set_next_update(Asn1Time::days_from_now(30)?.as_ref())?;
        let mut revoked = X509RevokedBuilder::new()?;
        revoked.set_serial_number(issued.certificate.serial_number())?;
        revoked.set_revocation_date(&now)?;
        list.add_revoked(revoked.build())?;
        // A list has to have both (RFC 5280 section 5.2); a context for them is had of a certificate alone.
        let certificate = X509Builder::new()?;
        let of_issuer = certificate.x509v3_context(Some(&self.certificate), None);
        list.append_extension(AuthorityKeyIdentifier::new().keyid(true).build(&of_issuer)?)?;
        let number = Asn1OctetString::new_from_bytes(&[0x02, 0x01, 0x01])?;
        let kind = Asn1Object::from_str("2.5.29.20")?;
        list.append_extension(X509Extension::new_from_der(&kind, false, &number)?)?;
        list.sign(&self.key, MessageDigest::sha256())?;
        list.build()?.to_pem()
    }
}

impl Issued {
    /// The certificate, the key behind it.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn to_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        Ok([self.certificate.to_pem()?, self.key.private_key_to_pem_pkcs8()?].concat())
    }
}

fn subject(name: &str) -> Result<X509Name, ErrorStack> {
    let mut subject = X509NameBuilder::new()?;
    // The field has 64 characters (RFC 5280 appendix A.1).
    let name: String = name.chars().take(64).collect();
    subject.append_entry_by_nid(Nid::COMMONNAME, &name)?;
    Ok(subject.build())
}

enum Kind<'a> {
    Authority,
    Gateway(&'a [Identity]),
}

fn certificate(
    name: &X509Name,
    key: &PKey<Private>,
    issuer: &X509Name,
    issuer_key: &PKey<Private>,
    kind: Kind<'_>,
    (from, to): (i64, i64),
) -> Result<X509, ErrorStack> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::ONE, false)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(name)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    // A day is longer than any clock of a test is off.
    let day = |days: i64| Asn1Time::from_unix(now() + days * 86_400);
    builder.set_not_before(day(from)?.as_ref())?;
    builder.set_not_after(day(to)?.as_ref())?;
    match kind {
        Kind::Authority => {
            builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
            builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
            let id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
            builder.append_extension(id)?;
        }
        Kind::Gateway(ids) => {
            builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
            let mut names = SubjectAlternativeName::new();
            let others = || ids.iter().filter(|id| id.kind != IdType::ID_DER_ASN1_DN);
            for id in others() {
                let text = id.to_string();
                match id.kind {
                    IdType::ID_RFC822_ADDR => names.email(&text),
                    IdType::ID_IPV4_ADDR | IdType::ID_IPV6_ADDR => names.ip(&text),
                    _ => names.dns(&text),
                };
            }
            if others().next().is_some() {
                let names = names.build(&builder.x509v3_context(None, None))?;
                builder.append_extension(names)?;
            }
        }
    }
    // Ed25519 hashes by itself.
    let digest = match issuer_key.id() {
        openssl::pkey::Id::ED25519 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    };
    builder.sign(issuer_key, digest)?;
    Ok(builder.build())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or_default()
}
