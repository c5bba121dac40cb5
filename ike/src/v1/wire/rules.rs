//! Which payloads a message of IKEv1 may carry, how often and where: one table per message (RFC 2409 section 5). Vendor IDs
//! may stand anywhere, and what is unknown in phase 1.

use super::numbers::{Exchange, PayloadType};
use super::payload::{Payload, Payloads};
use crate::wire::error::WireError;

/// How often a payload may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    /// Exactly once.
    One,
    /// At most once.
    Maybe,
    /// Not at all or twice: one for each end.
    Pair,
    /// As often as wanted.
    Any,
}

use PayloadType as P;
use Times::{Any, Maybe, One, Pair};

type Rules = &'static [(P, Times)];

const MAIN_SA: Rules = &[(P::SA, One)];
const MAIN_KE: Rules =
    &[(P::KE, One), (P::NONCE, One), (P::NAT_D, Any), (P::NAT_D_DRAFT, Any), (P::CERT_REQUEST, Any)];
const MAIN_ID: Rules =
    &[(P::ID, One), (P::HASH, One), (P::NOTIFY, Any), (P::CERT, Any), (P::CERT_REQUEST, Any)];
const AGGRESSIVE_1: Rules =
    &[(P::SA, One), (P::KE, One), (P::NONCE, One), (P::ID, One), (P::CERT_REQUEST, Any)];
const AGGRESSIVE_2: Rules = &[
    (P::SA, One),
    (P::KE, One),
    (P::NONCE, One),
    (P::ID, One),
    (P::HASH, One),
    (P::NAT_D, Any),
    (P::NAT_D_DRAFT, Any),
    (P::CERT, Any),
    (P::CERT_REQUEST, Any),
];
const AGGRESSIVE_3: Rules = &[
    (P::HASH, One),
    (P::NAT_D, Any),
    (P::NAT_D_DRAFT, Any),
    (P::NOTIFY, Any),
    (P::CERT, Any),
    (P::CERT_REQUEST, Any),
];
const QUICK_SA: Rules = &[
    (P::HASH, One),
    (P::SA, One),
    (P::NONCE, One),
    (P::KE, Maybe),
    (P::ID, Pair),
    // Two by RFC 3947 section 5.2, one by the drafts.
    (P::NAT_OA, Any),
    (P::NAT_OA_DRAFT, Any),
    (P::NOTIFY, Any),
];
const QUICK_3: Rules = &[(P::HASH, One), (P::NOTIFY, Any)];
const INFORMATIONAL: Rules = &[(P::HASH, Maybe), (P::NOTIFY, Any), (P::DELETE, Any)];

/// Checks the payloads of a message, which is the `message`-th of its exchange, counted from 1. An Informational may be in
/// clear and without HASH; for an encrypted one there is [`hash_is_first`] besides.
pub(crate) fn check(exchange: Exchange, message: u8, payloads: &[Payload]) -> Result<(), WireError> {
    let (rules, first) = match (exchange, message) {
        (Exchange::MAIN, 1 | 2) => (MAIN_SA, Some(P::SA)),
        (Exchange::MAIN, 3 | 4) => (MAIN_KE, None),
        (Exchange::MAIN, 5 | 6) => (MAIN_ID, None),
        (Exchange::AGGRESSIVE, 1) => (AGGRESSIVE_1, Some(P::SA)),
        (Exchange::AGGRESSIVE, 2) => (AGGRESSIVE_2, Some(P::SA)),
        (Exchange::AGGRESSIVE, 3) => (AGGRESSIVE_3, None),
        (Exchange::QUICK, 1 | 2) => (QUICK_SA, Some(P::HASH)),
        (Exchange::QUICK, 3 | 4) => (QUICK_3, Some(P::HASH)),
        (Exchange::INFORMATIONAL, _) => (INFORMATIONAL, None),
        _ => return Err(WireError::BadField("exchange type")),
    };
    for (kind, times) in rules {
        let wrong = |what| Err(WireError::Payload(kind.told(), what));
        match (times, Payloads(payloads).count(*kind)) {
            (One, 0) => return wrong("is missing"),
            (One | Maybe, 2..) => return wrong("occurs more than once"),
            (Pair, 1 | 3..) => return wrong("does not occur once for each end"),
            _ => {}
        }
    }
    let phase_1 = matches!(exchange, Exchange::MAIN | Exchange::AGGRESSIVE);
    let known = |p: &&Payload| {
        let kind = p.kind();
        kind == P::VENDOR || rules.iter().any(|(k, _)| *k == kind) || (phase_1 && kind.name().is_none())
    };
    if let Some(p) = payloads.iter().find(|p| !known(p)) {
        return Err(WireError::Payload(p.kind().told(), "does not belong into this exchange"));
    }
    // The SA comes first in phase 1, HASH and SA in phase 2 (RFC 2409 sections 5 and 5.5).
    let mut kinds = payloads.iter().map(Payload::kind);
    if let Some(first) = first.filter(|first| kinds.next() != Some(*first)) {
        return Err(WireError::Payload(first.told(), "is not the first"));
    }
    if rules == QUICK_SA && kinds.next() != Some(P::SA) {
        return Err(WireError::Payload(P::SA.told(), "does not follow HASH"));
    }
    if payloads.iter().skip(1).any(|p| p.kind() == P::HASH) && exchange == Exchange::INFORMATIONAL {
        return Err(WireError::Payload(P::HASH.told(), "is not the first"));
    }
    Ok(())
}

/// Checks that a message of phase 2 starts with the HASH that covers the rest of it, as all encrypted ones do (RFC 2409
/// section 5.7).
pub(crate) fn hash_is_first(payloads: &[Payload]) -> Result<(), WireError> {
    match payloads.first() {
        Some(Payload::Hash(_)) => Ok(()),
        _ => Err(WireError::Payload(P::HASH.told(), "is not the first")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload of this type, whatever is in it.
    fn of(kind: P) -> Payload {
        match kind {
            P::HASH => Payload::Hash(vec![1]),
            kind => Payload::Opaque(kind, Vec::new()),
        }
    }

    fn checked(exchange: Exchange, message: u8, kinds: &[P]) -> Result<(), WireError> {
        check(exchange, message, &kinds.iter().map(|&kind| of(kind)).collect::<Vec<_>>())
    }

    /// Every message with just what it must have.
    const LEAST: [(Exchange, u8, &[P]); 14] = [
        (Exchange::MAIN, 1, &[P::SA]),
        (Exchange::MAIN, 2, &[P::SA]),
        (Exchange::MAIN, 3, &[P::KE, P::NONCE]),
        (Exchange::MAIN, 4, &[P::KE, P::NONCE]),
        (Exchange::MAIN, 5, &[P::ID, P::HASH]),
        (Exchange::MAIN, 6, &[P::ID, P::HASH]),
        (Exchange::AGGRESSIVE, 1, &[P::SA, P::KE, P::NONCE, P::ID]),
        (Exchange::AGGRESSIVE, 2, &[P::SA, P::KE, P::NONCE, P::ID, P::HASH]),
        (Exchange::AGGRESSIVE, 3, &[P::HASH]),
        (Exchange::QUICK, 1, &[P::HASH, P::SA, P::NONCE]),
        (Exchange::QUICK, 2, &[P::HASH, P::SA, P::NONCE]),
        (Exchange::QUICK, 3, &[P::HASH]),
        (Exchange::QUICK, 4, &[P::HASH]),
        (Exchange::INFORMATIONAL, 1, &[]),
    ];

    #[test]
    fn each_message_needs_all_of_its_least_and_each_once() {
        for (exchange, message, kinds) in LEAST {
            assert_eq!(checked(exchange, message, kinds), Ok(()), "{exchange} {message}");
            for at in 0..kinds.len() {
                let mut fewer = kinds.to_vec();
                let kind = fewer.remove(at);
                let missing = Err(WireError::Payload(kind.told(), "is missing"));
                assert_eq!(checked(exchange, message, &fewer), missing, "{exchange} {message}");
                let more = [kinds, &[kind]].concat();
                let twice = Err(WireError::Payload(kind.told(), "occurs more than once"));
                assert_eq!(checked(exchange, message, &more), twice, "{exchange} {message}");
            }
        }
    }

    #[test]
    fn each_message_may_have_what_belongs_there() {
        let more = |exchange, message, kinds: &[P]| {
            let (.., least) = LEAST.iter().find(|(e, m, _)| (*e, *m) == (exchange, message)).unwrap();
            checked(exchange, message, &[least, kinds].concat())
        };
        let foreign = |kind: P| Err(WireError::Payload(kind.told(), "does not belong into this exchange"));
        for (exchange, message, _) in LEAST {
            let phase_1 = exchange == Exchange::MAIN || exchange == Exchange::AGGRESSIVE;
            assert_eq!(more(exchange, message, &[P::VENDOR; 9]), Ok(()));
            let unknown = P(200);
            let expected = if phase_1 { Ok(()) } else { foreign(unknown) };
            assert_eq!(more(exchange, message, &[unknown]), expected, "{exchange} {message}");
            let nat = matches!((exchange, message), (Exchange::MAIN, 3 | 4) | (Exchange::AGGRESSIVE, 2 | 3));
            for kind in [P::NAT_D, P::NAT_D_DRAFT] {
                let expected = if nat { Ok(()) } else { foreign(kind) };
                assert_eq!(more(exchange, message, &[kind; 3]), expected, "{exchange} {message}");
            }
            let clear = matches!((exchange, message), (Exchange::MAIN, 1..5) | (Exchange::AGGRESSIVE, 1 | 2));
            let expected = if clear { foreign(P::NOTIFY) } else { Ok(()) };
            assert_eq!(more(exchange, message, &[P::NOTIFY]), expected, "{exchange} {message}");
            let deletes = exchange == Exchange::INFORMATIONAL;
            let expected = if deletes { Ok(()) } else { foreign(P::DELETE) };
            assert_eq!(more(exchange, message, &[P::DELETE]), expected, "{exchange} {message}");
            assert_eq!(more(exchange, message, &[P::FRAGMENT]), foreign(P::FRAGMENT));
        }
        assert_eq!(more(Exchange::MAIN, 3, &[P::CERT_REQUEST; 2]), Ok(()));
        assert_eq!(more(Exchange::QUICK, 1, &[P::KE, P::ID, P::ID, P::NAT_OA, P::NAT_OA]), Ok(()));
        assert_eq!(more(Exchange::QUICK, 2, &[P::NAT_OA_DRAFT]), Ok(()));
        assert_eq!(more(Exchange::QUICK, 3, &[P::SA]), foreign(P::SA));
        let twice = Err(WireError::Payload("KE", "occurs more than once"));
        assert_eq!(more(Exchange::QUICK, 2, &[P::KE, P::KE]), twice);
        for ids in [1, 3] {
            let odd = Err(WireError::Payload("ID", "does not occur once for each end"));
            assert_eq!(more(Exchange::QUICK, 1, &vec![P::ID; ids]), odd);
        }
    }

    #[test]
    fn what_has_to_be_first_is() {
        let first = |kind: P| Err(WireError::Payload(kind.told(), "is not the first"));
        assert_eq!(checked(Exchange::MAIN, 1, &[P::VENDOR, P::SA]), first(P::SA));
        assert_eq!(checked(Exchange::AGGRESSIVE, 2, &[P::KE, P::SA, P::NONCE, P::ID, P::HASH]), first(P::SA));
        assert_eq!(checked(Exchange::QUICK, 1, &[P::SA, P::HASH, P::NONCE]), first(P::HASH));
        assert_eq!(checked(Exchange::QUICK, 3, &[P::NOTIFY, P::HASH]), first(P::HASH));
        assert_eq!(checked(Exchange::INFORMATIONAL, 1, &[P::NOTIFY, P::HASH]), first(P::HASH));
        let second = Err(WireError::Payload("SA", "does not follow HASH"));
        assert_eq!(checked(Exchange::QUICK, 2, &[P::HASH, P::NONCE, P::SA]), second);
    }

    /// The HASH of an Informational went unchecked in libreswan (CVE-2019-10155).
    #[test]
    fn an_encrypted_informational_has_its_hash_first() {
        for (kinds, ok) in [
            (&[P::HASH, P::DELETE][..], true),
            (&[P::HASH][..], true),
            (&[P::DELETE], false),
            (&[P::NOTIFY, P::HASH], false),
            (&[], false),
        ] {
            let payloads: Vec<Payload> = kinds.iter().map(|&kind| of(kind)).collect();
            assert_eq!(hash_is_first(&payloads).is_ok(), ok, "{kinds:?}");
        }
    }

    #[test]
    fn no_other_exchange_has_rules() {
        for (exchange, message) in
            [(2, 0), (2, 7), (4, 4), (32, 0), (32, 5), (1, 1), (3, 1), (6, 1), (33, 1), (34, 1)]
        {
            let none = Err(WireError::BadField("exchange type"));
            assert_eq!(checked(Exchange(exchange), message, &[P::HASH, P::SA, P::NONCE]), none);
        }
    }
}
