//! How long certificates are valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::x509::X509Ref;

use crate::pem;

/// When a certificate ends to be valid; nothing where that is no time, or one before 1970.
pub fn not_after(certificate: &X509Ref) -> Option<SystemTime> {
    let since = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after()).ok()?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// When the first certificate of a text ends to be valid; nothing where it has none, as a pre-shared key, or one that cannot be read.
pub fn first_end(text: &[u8]) -> Option<SystemTime> {
    pem::certificates(text).ok()?.iter().filter_map(|certificate| not_after(certificate)).min()
}
