//! Identities as few peers have them (RFC 7296 section 3.5).

use ike::wire::numbers::ExchangeType;
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
