//! Which payloads a message may carry, how often, and that they are encrypted: one table per exchange and direction
//! (RFC 7296 appendix C). Notify, Vendor ID and unknown payloads may stand anywhere.

use super::error::WireError;
use super::header::Header;
use super::numbers::{ExchangeType, NotifyType, PayloadType};
use super::payload::Payload;

/// How often a payload may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    /// Exactly once, unless the message reports an error.
    One,
    /// At most once.
    Maybe,
    /// As often as wanted.
    Any,
}

use PayloadType as P;
use Times::{Any, Maybe, One};

const SA_INIT: &[(P, Times)] = &[(P::SA, One), (P::KE, One), (P::NONCE, One), (P::CERTREQ, Any)];
const AUTH_REQUEST: &[(P, Times)] = &[
    (P::IDi, One),
    (P::IDr, Maybe),
    (P::AUTH, Maybe),
    (P::SA, Maybe),
    (P::TSi, Maybe),
    (P::TSr, Maybe),
    (P::CERT, Any),
    (P::CERTREQ, Any),
    (P::CP, Maybe),
    (P::EAP, Maybe),
];
const AUTH_RESPONSE: &[(P, Times)] = &[
    (P::IDr, One),
    (P::AUTH, One),
    (P::SA, Maybe),
    (P::TSi, Maybe),
    (P::TSr, Maybe),
    (P::CERT, Any),
    (P::CP, Maybe),
    (P::EAP, Maybe),
];
const CREATE_CHILD: &[(P, Times)] =
    &[(P::SA, One), (P::NONCE, One), (P::KE, Maybe), (P::TSi, Maybe), (P::TSr, Maybe), (P::CP, Maybe)];
const INFORMATIONAL: &[(P, Times)] = &[(P::DELETE, Any), (P::CP, Maybe)];

/// Checks the payloads of a message. A message that reports an error by a Notify may lack what its exchange demands.
pub fn check(header: &Header, payloads: &[Payload]) -> Result<(), WireError> {
    let rules = match (header.exchange, header.response) {
        (ExchangeType::IKE_SA_INIT, _) => SA_INIT,
        (ExchangeType::IKE_AUTH, false) => AUTH_REQUEST,
        (ExchangeType::IKE_AUTH, true) => AUTH_RESPONSE,
        (ExchangeType::CREATE_CHILD_SA, _) => CREATE_CHILD,
        (ExchangeType::INFORMATIONAL, _) => INFORMATIONAL,
        _ => return Err(WireError::BadField("exchange type")),
    };
    // A cookie takes the place of an answer to IKE_SA_INIT (RFC 7296 section 2.6), and of no other.
    let challenge = |kind| header.exchange == ExchangeType::IKE_SA_INIT && kind == NotifyType::COOKIE;
    let notified = header.response
        && payloads.iter().any(|p| matches!(p, Payload::Notify(n) if n.kind.is_error() || challenge(n.kind)));
    for (kind, times) in rules {
        let count = payloads.iter().filter(|p| p.kind() == *kind).count();
        match times {
            One if count == 0 && !notified => return Err(WireError::Rule(*kind, "is missing")),
            One | Maybe if count > 1 => return Err(WireError::Rule(*kind, "occurs more than once")),
            _ => {}
        }
    }
    // A Child SA is asked for with all of these or, by a request without one (RFC 6023 section 3), with none.
    let child = [P::SA, P::TSi, P::TSr];
    if (header.exchange, header.response) == (ExchangeType::IKE_AUTH, false)
        && let Some(missing) = child.iter().find(|kind| !payloads.iter().any(|p| p.kind() == **kind))
        && payloads.iter().any(|p| child.contains(&p.kind()))
    {
        return Err(WireError::Rule(*missing, "is missing"));
    }
    let known = |p: &Payload| {
        let kind = p.kind();
        matches!(kind, P::NOTIFY | P::VENDOR_ID)
            || rules.iter().any(|(k, _)| *k == kind)
            || kind.name().is_none()
    };
    match payloads.iter().find(|p| !known(p)) {
        Some(p) => Err(WireError::Rule(p.kind(), "does not belong into this exchange")),
        None => Ok(()),
    }
}
