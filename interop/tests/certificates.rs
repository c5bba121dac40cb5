//! strongSwan and Culvert prove themselves by certificates, whoever begins, with each kind of key.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use certificates::issue::{Authority, Issued, KeyKind};
use common::{LEFT, Pair, RIGHT};
use interop::charon::{Connection, swanctl_conf};
use interop::daemon::Peer;
use interop::traffic::ping;
use interop::wait::until;

const KINDS: [KeyKind; 3] = [KeyKind::P256, KeyKind::Rsa(2048), KeyKind::Ed25519];

fn text(pem: Vec<u8>) -> String {
    String::from_utf8(pem).unwrap()
}

fn issue(authority: &Authority, name: &str, kind: KeyKind) -> Issued {
    authority.issue(&name.parse().unwrap(), kind).unwrap()
}

/// charon's side, with further lines of the connection.
fn charon_text(options: &str) -> String {
    let usual = swanctl_conf(&[Connection { options: options.into(), ..Connection::usual() }]);
    let by = |text: String, id: &str, more: &str| {
        text.replace(&format!("auth = psk\n id = {id}"), &format!("auth = pubkey\n {more}\n id = {id}"))
    };
    by(by(usual, "left.example", "certs = own.pem"), "right.example", "cacerts = peers.pem")
}

/// Culvert's side of what `ours` has, where `trusted` is whom it believes.
fn peer(ours: &Issued, trusted: String) -> Peer {
    Peer { certificates: Some((text(ours.to_pem().unwrap()), trusted)), ..Peer::usual() }
}

fn carries(pair: &Pair) {
    pair.settled();
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3, "{}", pair.charon.sas());
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 3).received, 3, "{}", pair.charon.sas());
    let status = pair.culvertd.status("acme/left");
    assert_eq!(status["state"], "ESTABLISHED", "{status:#}");
}

#[test]
fn each_kind_of_key_is_believed_on_either_side_whoever_begins() {
    for kind in KINDS {
        for we_begin in [false, true] {
            let Some(pair) = Pair::open() else { return };
            let authority = Authority::new("authority").unwrap();
            let trusted = text(authority.to_pem().unwrap());
            let theirs = text(issue(&authority, "left.example", kind).to_pem().unwrap());
            pair.charon.holds(&theirs, &trusted);
            pair.charon.load_text(&charon_text(""));
            let ours = peer(&issue(&authority, "right.example", kind), trusted);
            pair.culvertd.peer(&Peer { start: we_begin, ..ours });
            if !we_begin {
                let said = pair.charon.initiate(&Connection::usual().child());
                assert!(said.ok, "{kind:?}: {}\n{}", said.text, pair.charon.log());
            }
            carries(&pair);
        }
    }
}

/// charon neither makes nor takes signatures that name their form: by ECDSA there is what went before, and of RSA nothing is taken.
#[test]
fn a_peer_from_before_rfc_7427_has_signatures_of_ecdsa() {
    for (kind, we_begin) in [
        (KeyKind::P256, false),
        (KeyKind::P384, true),
        (KeyKind::P521, false),
        (KeyKind::P521, true),
        (KeyKind::Rsa(2048), false),
    ] {
        let Some(pair) = Pair::open_with("signature_authentication = no") else { return };
        let authority = Authority::new("authority").unwrap();
        let trusted = text(authority.to_pem().unwrap());
        pair.charon.holds(&text(issue(&authority, "left.example", kind).to_pem().unwrap()), &trusted);
        pair.charon.load_text(&charon_text(""));
        let ours = peer(&issue(&authority, "right.example", kind), trusted);
        pair.culvertd.peer(&Peer { start: we_begin, ..ours });
        if let KeyKind::Rsa(_) = kind {
            assert!(!pair.charon.initiate(&Connection::usual().child()).ok);
            let told = || pair.culvertd.json(&["explain", "acme/left"])["attempts"].to_string();
            until("it is told", told, |told| told.contains("RSA_SIGNATURE"));
            continue;
        }
        if !we_begin {
            let said = pair.charon.initiate(&Connection::usual().child());
            assert!(said.ok, "{kind:?}: {}\n{}", said.text, pair.charon.log());
        }
        carries(&pair);
        assert!(pair.charon.log().contains("with ECDSA"), "{}", pair.charon.log());
    }
}

/// Chains on both sides that only together with what is sent lead to the root, in messages that take fragments, and by RSASSA-PSS.
#[test]
fn what_is_between_a_certificate_and_the_root_is_sent() {
    let Some(pair) = Pair::open_with("rsa_pss = yes") else { return };
    let root = Authority::new("root").unwrap();
    let (between, other) = (root.below("between").unwrap(), root.below("other").unwrap());
    let trusted = text(root.to_pem().unwrap());
    let kind = KeyKind::Rsa(4096);
    pair.charon.holds(&text(issue(&between, "left.example", kind).to_pem().unwrap()), &trusted);
    // charon sends what it knows to be between.
    pair.charon.also_trusts(&text(between.to_pem().unwrap()));
    pair.charon.load_text(&charon_text("send_cert = always"));
    let own = [issue(&other, "right.example", kind).to_pem().unwrap(), other.to_pem().unwrap()].concat();
    pair.culvertd.peer(&Peer { certificates: Some((text(own), trusted)), ..Peer::usual() });
    let said = pair.charon.initiate(&Connection::usual().child());
    assert!(said.ok, "{}\n{}", said.text, pair.charon.log());
    carries(&pair);
}

/// Why there is no tunnel is told, and a certificate that is put in its place is used from then on.
#[test]
fn what_is_not_believed_is_told_until_it_is_mended() {
    let Some(pair) = Pair::open() else { return };
    let (authority, other) = (Authority::new("authority").unwrap(), Authority::new("other").unwrap());
    let trusted = text(authority.to_pem().unwrap());
    let gone = issue(&authority, "left.example", KeyKind::P256);
    let ours = peer(&issue(&authority, "right.example", KeyKind::P256), trusted.clone());
    let refused = |theirs: &Issued, list: &str, words: &str| {
        pair.charon.holds(&text(theirs.to_pem().unwrap()), &trusted);
        pair.charon.load_text(&charon_text(""));
        let (own, _) = ours.certificates.clone().unwrap();
        pair.culvertd.peer(&Peer { certificates: Some((own, format!("{trusted}{list}"))), ..ours.clone() });
        assert!(!pair.charon.initiate(&Connection::usual().child()).ok, "{words}");
        let told = || pair.culvertd.json(&["explain", "acme/left"])["attempts"].to_string();
        until(words, told, |told| told.contains(words) && told.contains("\"certificate\""));
    };
    refused(&issue(&other, "left.example", KeyKind::P256), "", "it is not trusted");
    refused(&issue(&authority, "other.example", KeyKind::P256), "", "it is for [other.example]");
    let list = text(authority.revoke(&gone).unwrap());
    refused(&gone, &list, "it was revoked by CN=authority");
    pair.charon.holds(&text(issue(&authority, "left.example", KeyKind::P256).to_pem().unwrap()), &trusted);
    pair.charon.load_text(&charon_text(""));
    let said = pair.charon.initiate(&Connection::usual().child());
    assert!(said.ok, "{}\n{}", said.text, pair.charon.log());
    carries(&pair);
}

/// A peer that nobody gives a name says the subject of its certificate, and ours is known by its subject, whatever kind of text either has.
#[test]
fn subjects_are_names_whoever_begins() {
    for we_begin in [false, true] {
        let Some(pair) = Pair::open() else { return };
        let authority = Authority::new("authority").unwrap();
        let trusted = text(authority.to_pem().unwrap());
        let theirs = issue(&authority, "C=CH, O=Acme, OU=Z\u{fc}rich, CN=left", KeyKind::P256);
        pair.charon.holds(&text(theirs.to_pem().unwrap()), &trusted);
        let named = charon_text("")
            .replace(" id = left.example\n", "")
            .replace("id = right.example", "id = \"C=CH, O=Acme, CN=right\"");
        pair.charon.load_text(&named);
        // UTF8String, as many authorities have it.
        let own = issue(&authority, "C=CH, O=#0c0441636d65, CN=#0c057269676874", KeyKind::P256);
        let names = ("C=CH, O=Acme, CN=right".to_owned(), "c=ch, o=acme, ou=Z\u{fc}rich, cn=Left".to_owned());
        let ours = Peer { identities: names, ..peer(&own, trusted) };
        pair.culvertd.peer(&Peer { start: we_begin, ..ours });
        if !we_begin {
            let said = pair.charon.initiate(&Connection::usual().child());
            assert!(said.ok, "{}\n{}", said.text, pair.charon.log());
        }
        carries(&pair);
    }
}
