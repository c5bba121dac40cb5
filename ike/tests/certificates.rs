//! IKE_AUTH between two who prove themselves by certificates (RFC 7296 section 2.15, RFC 7427).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::sync::Arc;

use certificates::issue::{Authority, KeyKind};
use certificates::{Credentials, Ours, Trust};
use ike::Connection;
use ike::config::Auth;
use kit::{A, B, Pair, Spec};

/// What somebody has who calls itself `name`. Each message of a test is made twice, by a connection and by its copy at another node,
/// so keys sign the same in the same way each time.
fn auth(of: &Authority, trusts: &Authority, name: &str) -> Option<Auth> {
    let issued = of.issue(&name.parse().unwrap(), KeyKind::Ed25519).unwrap();
    auth_with(&issued.to_pem().unwrap(), &trusts.to_pem().unwrap())
}

fn auth_with(own: &[u8], trusted: &[u8]) -> Option<Auth> {
    let (ours, trust) = (Ours::from_pem(own).unwrap(), Trust::from_pem(trusted).unwrap());
    Some(Auth::Certificates(Arc::new(Credentials::new(Arc::new(ours), Arc::new(trust)))))
}

fn authority() -> Authority {
    Authority::new("authority").unwrap()
}

/// Two of one authority.
fn specs(authority: &Authority) -> (Spec, Spec) {
    let with = |spec: Spec| Spec { auth: auth(authority, authority, spec.local_id), ..spec };
    (with(Spec::left()), with(Spec::right()))
}

/// That no tunnel is there, and what each side says of it in the end.
fn refused(pair: &mut Pair, told: &str, known: &str) {
    pair.run(60);
    let has = |log: &[String], text: &str| log.iter().any(|line| line.contains(text));
    assert!(has(&pair.a.log, told), "{told}: {:?}", pair.a.log);
    assert!(has(&pair.b.log, known), "{known}: {:?}", pair.b.log);
    pair.assert_children(0);
    for who in [A, B] {
        assert!(pair.side(who).conn.as_deref().is_none_or(Connection::is_finished), "{who:?}");
    }
}

#[test]
fn two_of_one_authority_come_up_and_go_on() {
    let authority = authority();
    let (left, right) = specs(&authority);
    let mut pair = Pair::up(&left, &right);
    pair.assert_children(1);
    pair.assert_ike(1);
    pair.assert_alive();
    for who in [A, B] {
        pair.command(who, ike::Command::RekeyIke);
        pair.settle();
        pair.rekey(who);
        pair.settle();
        pair.assert_children(1);
        pair.assert_ike(1);
    }
}

#[test]
fn each_side_may_have_an_authority_of_its_own_and_any_kind_of_key_that_signs_the_same_each_time() {
    let (ours, theirs) = (authority(), Authority::new("other").unwrap());
    let left = Spec { auth: auth(&ours, &theirs, "left.example"), ..Spec::left() };
    let right = Spec { auth: auth(&theirs, &ours, "right.example"), ..Spec::right() };
    Pair::up(&left, &right).assert_children(1);
    let long = ours.below("between").unwrap().below("below").unwrap();
    let own = long.issue(&"left.example".parse().unwrap(), KeyKind::Ed25519).unwrap().to_pem().unwrap();
    let left = Spec { auth: auth_with(&own, &theirs.to_pem().unwrap()), ..left };
    let right = Spec { auth: auth(&theirs, &long, "right.example"), ..right };
    Pair::up(&left, &right).assert_children(1);
}

#[test]
fn a_certificate_of_another_authority_is_refused_on_either_side() {
    let (authority, other) = (authority(), Authority::new("other").unwrap());
    let (left, right) = specs(&authority);
    let stranger = Spec { auth: auth(&other, &authority, "left.example"), ..left.clone() };
    let mut pair = Pair::up(&stranger, &right);
    refused(
        &mut pair,
        "we are left.example with a certificate",
        "certificate of left.example was refused: it is not trusted",
    );
    let stranger = Spec { auth: auth(&other, &authority, "right.example"), ..right };
    let mut pair = Pair::up(&left, &stranger);
    refused(&mut pair, "certificate of right.example was refused: it is not trusted", "established");
}

#[test]
fn a_certificate_for_somebody_else_is_refused() {
    let authority = authority();
    let (left, right) = specs(&authority);
    let other = Spec { auth: auth(&authority, &authority, "other.example"), ..left };
    let mut pair = Pair::up(&other, &right);
    refused(
        &mut pair,
        "AUTHENTICATION_FAILED",
        "certificate of left.example was refused: it is for [other.example]",
    );
}

#[test]
fn who_proves_itself_in_another_way_than_is_configured_is_told_so() {
    let authority = authority();
    let (left, right) = specs(&authority);
    let mut pair = Pair::up(&Spec { auth: None, ..left.clone() }, &right);
    refused(
        &mut pair,
        "we are left.example with a pre-shared key, asked for right.example, and the peer had asked for a certificate",
        "left.example authenticates by a pre-shared key, configured is a certificate",
    );
    let mut pair = Pair::up(&left, &Spec { auth: None, ..right });
    // Who has no peer with a certificate does not know signatures.
    refused(
        &mut pair,
        "does not know signatures that name their hash (RFC 7427), our key signs by ed25519",
        "",
    );
}

/// A key fits whoever has it; of certificates that fit, one is looked for by its authority.
#[test]
fn of_several_peers_of_one_name_the_one_is_found_whose_authority_it_is() {
    let (authority, other) = (authority(), Authority::new("other").unwrap());
    let (left, right) = specs(&authority);
    let mut pair = Pair::new(&left, &right);
    let named = |auth| Arc::new(ike::config::PeerConfig { name: "to another".into(), auth, ..plain(&right) });
    let second = auth(&other, &other, "right.example").unwrap();
    pair.b.host.others = vec![named(second), named(plain(&Spec::right()).auth)];
    pair.initiate();
    pair.settle();
    pair.assert_children(1);
    // Two that trust the same one are not told apart.
    let mut pair = Pair::new(&left, &right);
    pair.b.host.others = vec![named(right.auth.clone().unwrap())];
    pair.initiate();
    pair.settle();
    refused(&mut pair, "AUTHENTICATION_FAILED", "with the same authorities");
}

/// The values of a configuration, to change some of them.
fn plain(spec: &Spec) -> ike::config::PeerConfig {
    let config = Arc::into_inner(spec.config()).unwrap();
    ike::config::PeerConfig { ..config }
}

/// Certificates are seen by nobody but who is asked to show his.
#[test]
fn who_shows_no_certificate_says_nothing_of_them() {
    let mut plain = Pair::new(&Spec::left(), &Spec::right());
    plain.initiate();
    let request = plain.take(A);
    plain.put(A, &request);
    let answer = plain.take(B);
    let authority = authority();
    let (left, right) = specs(&authority);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    let with = pair.take(A);
    // SIGNATURE_HASH_ALGORITHMS, and CERTREQ with the one authority.
    assert_eq!(with.bytes.len(), request.bytes.len() + 16);
    pair.put(A, &with);
    assert_eq!(pair.take(B).bytes.len(), answer.bytes.len() + 16 + 25);
}
