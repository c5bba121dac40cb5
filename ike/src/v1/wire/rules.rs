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
    (P::NAT_OA, Pair),
    (P::NAT_OA_DRAFT, Pair),
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
        (Exchange::QUICK, 3) => (QUICK_3, Some(P::HASH)),
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
