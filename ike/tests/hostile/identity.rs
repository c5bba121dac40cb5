//! Identities as few peers have them (RFC 7296 section 3.5).

use ike::Identity;
use ike::wire::numbers::{AuthMethod, ExchangeType, IdType, NotifyType};
use ike::wire::payload::{Identification, Payload};

use crate::auth::{auth_over, half_open};
use crate::kit::A;
use crate::peer::errors;

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;

/// AUTH covers the octets that mean nothing as they were sent (section 2.15).
#[test]
fn a_peer_that_sends_reserved_octets_is_authenticated_with_them() {
    let with = |name: &str, reserved| Identification { id: name.parse().unwrap(), reserved };
    for (sent, covered) in [([1, 2, 3], [1, 2, 3]), ([0, 0, 0x80], [0, 0, 0x80]), ([0, 0, 1], [0; 3])] {
        let (mut h, init) = half_open();
        let over = (&*init.messages[0], &*init.nonces[1]);
        let auth = auth_over(&mut h, b"secret", over, true, &with("left.example", covered).body());
        let answer = h.ask(A, AUTH, &[Payload::IdI(with("left.example", sent)), auth]).unwrap();
        assert_eq!(errors(&answer).is_empty(), sent == covered, "{sent:?}: {answer:?}");
        assert_eq!(h.pair.b.conn.as_ref().unwrap().is_up(), sent == covered, "{sent:?}");
        let (mut h, init) = half_open();
        let over = (&*init.messages[1], &*init.nonces[0]);
        let auth = auth_over(&mut h, b"secret", over, false, &with("right.example", covered).body());
        h.answer(A, &[Payload::IdR(with("right.example", sent)), auth]);
        assert_eq!(h.pair.a.conn.as_ref().unwrap().is_up(), sent == covered, "{sent:?}");
    }
}

/// Nobody here is called so, and that is what is answered and told: no part of it is more than a stranger's name.
#[test]
fn an_identity_of_any_length_is_that_of_a_stranger() {
    for (kind, length, words) in [
        (IdType::ID_NULL, 0, "ID_NULL:[]"),
        (IdType::ID_FQDN, 0, "ID_FQDN:[]"),
        (IdType::ID_FQDN, 513, "aaaa"),
        (IdType::ID_DER_ASN1_DN, 10_000, "ID_DER_ASN1_DN:[61, 61"),
    ] {
        let theirs = Identification::from(Identity { kind, data: vec![b'a'; length] });
        let (mut h, init) = half_open();
        let over = (&*init.messages[0], &*init.nonces[1]);
        let auth = auth_over(&mut h, b"secret", over, true, &theirs.body());
        let answer = h.ask(A, AUTH, &[Payload::IdI(theirs.clone()), auth]).unwrap();
        assert_eq!(errors(&answer), [NotifyType::AUTHENTICATION_FAILED], "{words}");
        let log = h.pair.b.log.last().unwrap();
        assert!(log.contains("no peer is configured") && log.contains(words), "{log}");
        assert!(log.len() < 3_000, "{log}");
        let (mut h, init) = half_open();
        let over = (&*init.messages[1], &*init.nonces[0]);
        let auth = auth_over(&mut h, b"secret", over, false, &theirs.body());
        h.answer(A, &[Payload::IdR(theirs), auth]);
        let log = h.pair.a.log.last().unwrap();
        assert!(log.contains("configured is right.example") && log.contains(words), "{log}");
        assert!(log.len() < 3_000, "{log}");
        assert_eq!(errors(&h.asked(A).expect("it is told")), [NotifyType::AUTHENTICATION_FAILED]);
    }
}

/// RFC 7619: who it is, nobody is to know. The way it proves that it is somebody is none of ours.
#[test]
fn a_peer_without_a_name_is_told_by_how_it_authenticates() {
    let (mut h, _) = half_open();
    let nobody = Identification::from(Identity { kind: IdType::ID_NULL, data: vec![] });
    let auth = Payload::Auth { method: AuthMethod::NULL, data: vec![7; 32].into() };
    let answer = h.ask(A, AUTH, &[Payload::IdI(nobody), auth]).unwrap();
    assert_eq!(errors(&answer), [NotifyType::AUTHENTICATION_FAILED]);
    let log = h.pair.b.log.last().unwrap();
    assert!(log.contains("ID_NULL") && log.contains("AUTH method NULL"), "{log}");
}
