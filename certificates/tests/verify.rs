//! Who is believed, and why others are not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certificates::issue::{Authority, Issued, KeyKind};
use certificates::{Credentials, Ours, PemFault, Trust};
use ike::Identity;
use ike::credentials::{CertificateFault, Certificates, Signed};
use ike::crypto::signature::{Hash, Scheme};
use openssl::nid::Nid;

fn id(text: &str) -> Identity {
    text.parse().unwrap()
}

fn authority() -> Authority {
    Authority::new("authority").unwrap()
}

/// What somebody has who shows `pem` and trusts `trusted`.
fn credentials(pem: &[u8], trusted: &[u8]) -> Credentials {
    Credentials::new(Arc::new(Ours::from_pem(pem).unwrap()), Arc::new(Trust::from_pem(trusted).unwrap()))
}

/// Whether one who trusts `trusted` takes `pem` for that of `who`, who signs by `scheme` or the best that there is.
fn taken(pem: &[u8], trusted: &[u8], who: &str, scheme: Option<Scheme>) -> Result<(), CertificateFault> {
    let theirs = credentials(pem, trusted);
    let scheme = scheme.unwrap_or(theirs.schemes()[0]);
    let signature = theirs.sign(scheme, b"octets").unwrap();
    let chain: Vec<&[u8]> = theirs.chain().iter().map(Vec::as_slice).collect();
    let signed = Signed { chain: &chain, id: &id(who), scheme, octets: b"octets", signature: &signature };
    theirs.verify(&signed)
}

fn gateway(authority: &Authority) -> Issued {
    authority.issue(&id("gw.example"), KeyKind::P256).unwrap()
}

#[test]
fn every_kind_of_key_signs_what_the_other_side_verifies() {
    let authority = authority();
    let trusted = authority.to_pem().unwrap();
    for (kind, best) in [
        (KeyKind::P256, Scheme::Ecdsa(Hash::Sha256)),
        (KeyKind::Ec(Nid::SECP384R1), Scheme::Ecdsa(Hash::Sha384)),
        (KeyKind::Ec(Nid::SECP521R1), Scheme::Ecdsa(Hash::Sha512)),
        (KeyKind::Rsa(2048), Scheme::RsaPss(Hash::Sha256)),
        (KeyKind::Ed25519, Scheme::Ed25519),
    ] {
        let pem = authority.issue(&id("gw.example"), kind).unwrap().to_pem().unwrap();
        let schemes = Ours::from_pem(&pem).unwrap();
        let all = credentials(&pem, &trusted).schemes().to_vec();
        assert_eq!(all[0], best, "{schemes:?}");
        for scheme in all {
            assert_eq!(taken(&pem, &trusted, "gw.example", Some(scheme)), Ok(()), "{scheme}");
        }
    }
}

#[test]
fn somebody_is_who_is_in_the_certificate_and_nobody_else() {
    let authority = authority();
    let ids = ["gw.example", "10.0.0.1", "2001:db8::1", "alice@acme.example"].map(id);
    let pem = authority.issue_for(&ids, KeyKind::P256, (-1, 1)).unwrap().to_pem().unwrap();
    let trusted = authority.to_pem().unwrap();
    for who in ["gw.example", "GW.Example", "10.0.0.1", "2001:db8::1", "alice@ACME.example"] {
        assert_eq!(taken(&pem, &trusted, who, None), Ok(()), "{who}");
    }
    let names = "gw.example, 10.0.0.1, 2001:db8::1, alice@acme.example";
    for who in ["example", "x.gw.example", "10.0.0.2", "@10.0.0.1", "bob@acme.example", "keyid:gw.example"] {
        let fault = CertificateFault::AnotherName(names.to_owned());
        assert_eq!(taken(&pem, &trusted, who, None), Err(fault), "{who}");
    }
}

#[test]
fn only_what_leads_to_an_authority_and_is_valid_now_is_trusted() {
    let root = authority();
    let trusted = root.to_pem().unwrap();
    let other = Authority::new("authority").unwrap();
    let untrusted = |fault| matches!(fault, Err(CertificateFault::Untrusted(_)));
    assert!(untrusted(taken(&gateway(&other).to_pem().unwrap(), &trusted, "gw.example", None)));
    for (days, said) in [((-3, -1), "expired"), ((1, 3), "not yet valid")] {
        let pem = root.issue_for(&[id("gw.example")], KeyKind::P256, days).unwrap().to_pem().unwrap();
        let fault = taken(&pem, &trusted, "gw.example", None).unwrap_err().to_string();
        assert!(fault.contains(said), "{fault}");
    }
    // One that another gateway has signed is of no authority.
    let signer = Authority::from_pem(&gateway(&root).to_pem().unwrap()).unwrap();
    let forged = [gateway(&signer).to_pem().unwrap(), gateway(&root).to_pem().unwrap()].concat();
    assert!(untrusted(taken(&forged, &trusted, "gw.example", None)));
}

#[test]
fn authorities_between_are_sent_and_any_of_them_may_be_the_one_that_is_trusted() {
    let root = authority();
    let between = root.below("between").unwrap();
    let own = gateway(&between).to_pem().unwrap();
    let whole = [own.clone(), between.to_pem().unwrap(), root.to_pem().unwrap()].concat();
    let trusted = root.to_pem().unwrap();
    assert_eq!(taken(&whole, &trusted, "gw.example", None), Ok(()));
    assert_eq!(credentials(&whole, &trusted).chain().len(), 2, "the root is not sent");
    assert!(taken(&own, &trusted, "gw.example", None).is_err(), "a link is missing");
    assert_eq!(taken(&own, &between.to_pem().unwrap(), "gw.example", None), Ok(()));
    // That of the one peer alone.
    assert_eq!(taken(&own, &own, "gw.example", None), Ok(()));
    assert!(taken(&gateway(&between).to_pem().unwrap(), &own, "gw.example", None).is_err());
}

#[test]
fn what_an_authority_has_revoked_is_not_taken() {
    let authority = authority();
    let (gone, stays) = (gateway(&authority), gateway(&authority));
    let list = authority.revoke(&gone).unwrap();
    let trusted = [authority.to_pem().unwrap(), list.clone()].concat();
    let fault = taken(&gone.to_pem().unwrap(), &trusted, "gw.example", None);
    assert_eq!(fault, Err(CertificateFault::Revoked("CN=authority".to_owned())));
    assert_eq!(taken(&stays.to_pem().unwrap(), &trusted, "gw.example", None), Ok(()));
    // A list that is signed by somebody else of the same name says nothing.
    let other = Authority::new("authority").unwrap();
    let trusted = [authority.to_pem().unwrap(), other.revoke(&gone).unwrap()].concat();
    assert_eq!(taken(&gone.to_pem().unwrap(), &trusted, "gw.example", None), Ok(()));
}

#[test]
fn a_signature_of_another_key_or_of_something_else_is_forged() {
    let authority = authority();
    let (one, two) = (gateway(&authority).to_pem().unwrap(), gateway(&authority).to_pem().unwrap());
    let trusted = authority.to_pem().unwrap();
    let (one, two) = (credentials(&one, &trusted), credentials(&two, &trusted));
    let (scheme, chain) = (one.schemes()[0], [one.chain()[0].as_slice()]);
    let signature = one.sign(scheme, b"octets").unwrap();
    let who = id("gw.example");
    let good = Signed { chain: &chain, id: &who, scheme, octets: b"octets", signature: &signature };
    assert_eq!(one.verify(&good), Ok(()));
    assert_eq!(one.verify(&Signed { octets: b"other", ..good }), Err(CertificateFault::Forged));
    let others = two.sign(scheme, b"octets").unwrap();
    assert_eq!(one.verify(&Signed { signature: &others, ..good }), Err(CertificateFault::Forged));
    assert_eq!(one.verify(&Signed { signature: &[], ..good }), Err(CertificateFault::Forged));
    let another = Signed { scheme: Scheme::Ed25519, ..good };
    assert_eq!(one.verify(&another), Err(CertificateFault::AnotherKey(Scheme::Ed25519)));
    assert_eq!(one.verify(&Signed { chain: &[&[1, 2, 3]], ..good }), Err(CertificateFault::Unreadable));
}

#[test]
fn a_text_that_is_not_what_it_should_be_says_what_is_missing() {
    let authority = authority();
    let (one, two) = (gateway(&authority).to_pem().unwrap(), gateway(&authority).to_pem().unwrap());
    let text = String::from_utf8(one.clone()).unwrap();
    let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE").unwrap());
    let fault = |text: &[u8]| Ours::from_pem(text).unwrap_err();
    assert_eq!(fault(b""), PemFault::NoKey);
    assert_eq!(fault(b"secret"), PemFault::NoKey);
    assert_eq!(fault(certificate.as_bytes()), PemFault::NoKey);
    assert_eq!(fault(key.as_bytes()), PemFault::NoCertificate);
    assert_eq!(fault([&two[..two.len() / 3], key.as_bytes()].concat().as_slice()), PemFault::Damaged);
    let other = String::from_utf8(two).unwrap();
    let other = &other[..other.find("-----BEGIN PRIVATE").unwrap()];
    assert_eq!(fault([other, key].concat().as_bytes()), PemFault::AnotherKey);
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(fault([certificate, &locked].concat().as_bytes()), PemFault::Encrypted);
    let weak = authority.issue(&id("gw.example"), KeyKind::Rsa(1024)).unwrap().to_pem().unwrap();
    assert_eq!(fault(&weak), PemFault::Key("RSA of 1024 bits".to_owned()));
    let root = authority.to_pem_with_key().unwrap();
    assert_eq!(fault(&root), PemFault::Usage, "an authority's own certificate signs certificates");
    assert_eq!(Trust::from_pem(key.as_bytes()).unwrap_err(), PemFault::NoCertificate);
    assert_eq!(fault(&[certificate.repeat(9), key.to_owned()].concat().into_bytes()), PemFault::TooMany(9));
    // One that is left out would be one whose certificates are taken although they were revoked.
    let list = authority.revoke(&gateway(&authority)).unwrap();
    let listed = |times: usize| Trust::from_pem(&[authority.to_pem().unwrap(), list.repeat(times)].concat());
    assert!(listed(16).is_ok());
    assert_eq!(listed(17).unwrap_err(), PemFault::TooManyLists(17));
    // The order is no matter, nor what is between the blocks; the key is not shown.
    let turned = format!("{key}# of the gateway\r\n{certificate}");
    let ours = Ours::from_pem(turned.as_bytes()).unwrap();
    assert_eq!(format!("{ours:?}"), "Ours(gw.example)");
    assert!(ours.is_for(&id("gw.example")) && !ours.is_for(&id("example")));
}

#[test]
fn a_text_ends_with_the_first_of_its_certificates() {
    let authority = authority();
    let until = |days| authority.issue_for(&[id("gw.example")], KeyKind::P256, (-2, days)).unwrap().to_pem();
    let day = Duration::from_secs(24 * 60 * 60);
    let ends = |text: &[u8]| certificates::first_end(text);
    let (long, short, over) = (until(30).unwrap(), until(5).unwrap(), until(-1).unwrap());
    let left = |text: &[u8]| ends(text).unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left(&long) <= 30 * day && left(&long) > 29 * day);
    for text in [[&*long, &*short].concat(), [&*short, &*long].concat()] {
        assert_eq!(ends(&text), ends(&short));
    }
    assert!(ends(&[over, long].concat()).unwrap() < SystemTime::now());
    assert_eq!(ends(b"a pre-shared key"), None);
    assert_eq!(ends(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None);
}

#[test]
fn the_subject_is_a_distinguished_name_and_nothing_else() {
    let authority = authority();
    let issue = |ids: &[&str]| {
        let ids: Vec<Identity> = ids.iter().map(|text| id(text)).collect();
        authority.issue_for(&ids, KeyKind::P256, (-1, 1)).unwrap().to_pem().unwrap()
    };
    let trusted = authority.to_pem().unwrap();
    let pem = issue(&["C=CH, O=Acme, CN=gw.example"]);
    for name in ["C=CH, O=Acme, CN=gw.example", "c=ch,o=ACME,cn=GW.example"] {
        assert_eq!(taken(&pem, &trusted, name, None), Ok(()), "{name}");
    }
    for name in ["gw.example", "CN=gw.example", "O=Acme, C=CH, CN=gw.example", "keyid:gw.example"] {
        let refused = taken(&pem, &trusted, name, None);
        assert_eq!(
            refused,
            Err(CertificateFault::AnotherName("C=CH, O=Acme, CN=gw.example".to_owned())),
            "{name}"
        );
    }
    // What somebody is told has the names that he could have meant.
    let both = issue(&["gw.example", "O=Acme, CN=gw"]);
    for (name, has) in [("other.example", "gw.example"), ("CN=gw", "O=Acme, CN=gw")] {
        let refused = taken(&both, &trusted, name, None);
        assert_eq!(refused, Err(CertificateFault::AnotherName(has.to_owned())), "{name}");
    }
    assert_eq!(taken(&both, &trusted, "gw.example", None), Ok(()));
    // Ours is sent as the certificate has it.
    let utf8 = "O=#0c0441636d65, CN=gw";
    let ours = Ours::from_pem(&issue(&[utf8])).unwrap();
    let asked = id("o=acme, cn=gw");
    assert!(ours.is_for(&asked) && !id(utf8).is_written_as(&asked));
    assert!(ours.written(&asked).is_written_as(&id(utf8)));
    assert!(ours.written(&id("gw.example")).is_written_as(&id("gw.example")));
}
