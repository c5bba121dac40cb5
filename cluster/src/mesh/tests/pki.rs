//! An authority of somebody's own, whose certificates may be wrong.

use std::path::Path;
use std::slice::from_ref;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

use crate::mesh::{CredentialFiles, Credentials};

/// Days from now that a certificate is valid from and until.
pub(super) const NOW: (i64, i64) = (-1, 10);

pub(super) struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// A certificate and its key.
pub(super) struct Issued {
    authority: X509,
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = key();
        let mut builder = begin(name, &key, (-10, 100));
        builder.set_issuer_name(&common_name(name)).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { key, certificate: builder.build() }
    }

    pub(super) fn issue(&self, names: &[&str], days: (i64, i64)) -> Issued {
        let key = key();
        let mut builder = begin("a node", &key, days);
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        let mut alternative = SubjectAlternativeName::new();
        for name in names {
            alternative.dns(name);
        }
        let names = alternative.build(&builder.x509v3_context(Some(&self.certificate), None)).unwrap();
        builder.append_extension(names).unwrap();
        let uses = ExtendedKeyUsage::new().server_auth().client_auth().build().unwrap();
        builder.append_extension(uses).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        Issued { authority: self.certificate.clone(), certificate: builder.build(), key }
    }
}

impl Issued {
    /// As they are, whatever is wrong with them.
    pub(super) fn unchecked(&self) -> Credentials {
        Credentials::made(from_ref(&self.authority), from_ref(&self.certificate), &self.key, "x", b"x")
            .unwrap()
    }

    /// As files in this directory.
    pub(super) fn write(&self, directory: &Path) -> CredentialFiles {
        let place = |name: &str, contents: Vec<u8>| {
            let path = directory.join(name);
            std::fs::write(&path, contents).unwrap();
            path
        };
        CredentialFiles {
            ca: place("ca.pem", self.authority.to_pem().unwrap()),
            certificate: place("cert.pem", self.certificate.to_pem().unwrap()),
            key: place("key.pem", self.key.private_key_to_pem_pkcs8().unwrap()),
        }
    }
}

/// Of another kind than those that are derived.
fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn begin(name: &str, key: &PKey<Private>, days: (i64, i64)) -> X509Builder {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let time = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&common_name(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&time(days.0)).unwrap();
    builder.set_not_after(&time(days.1)).unwrap();
    builder
}

fn common_name(name: &str) -> X509Name {
    let mut builder = X509Name::builder().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}
