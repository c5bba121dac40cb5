//! Whom a certificate is for (RFC 4945 section 3.1): an identity of IKE has to be in it.

use ike::Identity;
use ike::wire::numbers::IdType;
use openssl::x509::{GeneralNameRef, X509NameRef, X509Ref};

/// Names of a certificate that are told. Some have hundreds.
const SHOWN: usize = 4;

/// Whether it is for somebody of this identity. A common name is none: it says nothing of what kind it is.
pub(crate) fn is_for(certificate: &X509Ref, id: &Identity) -> bool {
    if id.kind == IdType::ID_DER_ASN1_DN {
        return subject(certificate.subject_name()).is_some_and(|subject| subject == *id);
    }
    let names = certificate.subject_alt_names();
    names.iter().flatten().filter_map(identity).any(|name| name == *id)
}

/// One name as IKE has it.
fn identity(name: &GeneralNameRef) -> Option<Identity> {
    let of = |kind, octets: &[u8]| Some(Identity { kind, data: octets.to_vec() });
    if let Some(host) = name.dnsname() {
        return of(IdType::ID_FQDN, host.as_bytes());
    }
    if let Some(mail) = name.email() {
        return of(IdType::ID_RFC822_ADDR, mail.as_bytes());
    }
    match name.ipaddress() {
        Some(octets) if octets.len() == 4 => of(IdType::ID_IPV4_ADDR, octets),
        Some(octets) if octets.len() == 16 => of(IdType::ID_IPV6_ADDR, octets),
        _ => None,
    }
}

/// The names that it has of the kind of `id`, as a line: those of subjectAltName, or the subject, as where there are no others.
pub(crate) fn like(certificate: &X509Ref, id: &Identity) -> String {
    match id.kind {
        IdType::ID_DER_ASN1_DN => line(certificate.subject_name()),
        _ => all(certificate),
    }
}

/// The names of subjectAltName as a line, or the subject if there are none.
pub(crate) fn all(certificate: &X509Ref) -> String {
    let names = certificate.subject_alt_names();
    let names: Vec<String> =
        names.iter().flatten().filter_map(identity).map(|name| name.to_string()).collect();
    match names.as_slice() {
        [] => line(certificate.subject_name()),
        [shown @ .., _] if names.len() > SHOWN => {
            let shown = shown.get(..SHOWN).unwrap_or(shown);
            format!("{}, {} more", shown.join(", "), names.len() - shown.len())
        }
        all => all.join(", "),
    }
}

/// A distinguished name as IKE has it.
pub(crate) fn subject(name: &X509NameRef) -> Option<Identity> {
    Some(Identity { kind: IdType::ID_DER_ASN1_DN, data: name.to_der().ok()? })
}

/// A distinguished name as a line.
pub(crate) fn line(name: &X509NameRef) -> String {
    subject(name).map(|name| name.to_string()).unwrap_or_default()
}
