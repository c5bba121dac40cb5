//! Certificates as tests need them.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name, X509NameBuilder};

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) cert: X509,
    pub(crate) key: PKey<Private>,
}

/// Names of a certificate besides its common one.
pub(crate) enum Alternative<'a> {
    None,
    Host(&'a str),
    Uri(&'a str),
}

fn name(common: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    builder.build()
}

/// So many days from now, or before.
fn at(days: i64) -> Asn1Time {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    Asn1Time::from_unix(i64::try_from(now).unwrap() + days * 86_400).unwrap()
}

fn make(common: &str, alternative: &Alternative<'_>, days: i64, by: Option<&Identity>) -> Identity {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = [0; 8];
    openssl::rand::rand_bytes(&mut serial).unwrap();
    let serial = BigNum::from_slice(&serial).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name(common)).unwrap();
    builder.set_issuer_name(by.map_or(&*name(common), |by| by.cert.subject_name())).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&at(days.min(0) - 1)).unwrap();
    builder.set_not_after(&at(days)).unwrap();
    if by.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    let mut names = SubjectAlternativeName::new();
    match alternative {
        Alternative::None => {}
        Alternative::Host(host) if host.parse::<std::net::IpAddr>().is_ok() => {
            names.ip(host);
        }
        Alternative::Host(host) => {
            names.dns(host);
        }
        Alternative::Uri(uri) => {
            names.uri(uri);
        }
    }
    if !matches!(alternative, Alternative::None) {
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(by.map_or(&key, |by| &by.key), MessageDigest::sha256()).unwrap();
    Identity { cert: builder.build(), key }
}

impl Identity {
    pub(crate) fn ca(common: &str) -> Self {
        make(common, &Alternative::None, 30, None)
    }

    pub(crate) fn issue(&self, common: &str, alternative: &Alternative<'_>) -> Self {
        make(common, alternative, 30, Some(self))
    }

    /// One that has ended.
    pub(crate) fn expired(&self, common: &str) -> Self {
        make(common, &Alternative::None, -1, Some(self))
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        std::fs::write(&cert, self.cert.to_pem().unwrap()).unwrap();
        std::fs::write(&key, self.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        (cert, key)
    }
}
