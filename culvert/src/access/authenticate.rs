//! Who calls: a bearer token first, then a certificate, then the user of the Unix socket.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tenants::{Role, TokenHash, TokenRefused};

use crate::access::Access;
use crate::access::caller::{Caller, Credential};
use crate::access::connection::{Holder, Origin};

/// Octets of a token at most, so that nobody has us hash more.
const MAX_TOKEN: usize = 512;

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) reason: String,
    /// A credential was shown. Who shows none has only forgotten it.
    pub(crate) shown: bool,
    /// It was a token, and there is none of that value.
    pub(crate) unknown: bool,
}

impl Stranger {
    /// Whose token is not there any more.
    pub(crate) fn revoked() -> Self {
        Self { reason: TokenRefused::Unknown.to_string(), shown: true, unknown: true }
    }
}

impl Access {
    /// Who calls.
    pub(crate) fn authenticate(
        &self,
        holder: &Holder,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Caller, Stranger> {
        let caller =
            |credential, role, tenant| Caller { credential, role, tenant, from: holder.origin.to_string() };
        let stranger = |reason: String, shown| Err(Stranger { reason, shown, unknown: false });
        if let Some(token) = bearer(headers)? {
            let hash = TokenHash::of(token);
            if let Some(known) = self.tokens.holder(hash) {
                return Ok(caller(Credential::TokenFile(known.name, hash), known.role, known.tenant));
            }
            return match self.catalog.verify_token(token, now) {
                Ok(token) => {
                    let (role, tenant) = (token.role, token.name.tenant().cloned());
                    Ok(caller(Credential::Token(token), role, tenant))
                }
                // A clock that is wrong ends all of them, and only the node can see it.
                Err(error @ TokenRefused::Expired) => {
                    let clock = humantime::format_rfc3339_seconds(now);
                    stranger(format!("{error}; by the clock of the node it is {clock}"), true)
                }
                Err(TokenRefused::Unknown) => Err(Stranger::revoked()),
            };
        }
        if let Some(certificate) = &holder.certificate {
            if certificate.expires <= now {
                let clock = humantime::format_rfc3339_seconds(now);
                let reason = format!("the certificate has expired; by the clock of the node it is {clock}");
                return stranger(reason, true);
            }
            let known = self.clients.iter().find_map(|rule| Some((rule, certificate.matching(&rule.name)?)));
            let Some((rule, name)) = known else {
                let names = certificate.names.join(", ");
                return stranger(format!("no name of the certificate ({names}) is in grpc.clients"), true);
            };
            let credential = Credential::Certificate(name.to_owned(), certificate.expires);
            return Ok(caller(credential, rule.role, rule.tenant.clone()));
        }
        match (&holder.origin, self.anonymous) {
            (Origin::Unix(Some(uid)), _) if *uid == 0 || Some(*uid) == own_uid() => {
                Ok(caller(Credential::User(*uid), Role::Admin, None))
            }
            (Origin::Unix(Some(uid)), _) => match self.users.iter().find(|rule| rule.uid == *uid) {
                Some(rule) => Ok(caller(Credential::User(*uid), rule.role, rule.tenant.clone())),
                None => stranger(format!("user {uid} is not in grpc.users, and has shown no token"), false),
            },
            (Origin::Unix(None), _) => stranger("the system does not say which user this is".to_owned(), false),
            (Origin::Tcp(_), Some(role)) => Ok(caller(Credential::Anonymous, role, None)),
            (Origin::Tcp(_), None) => stranger(
                "neither a token nor a certificate was shown; expected the header authorization: Bearer TOKEN"
                    .to_owned(),
                false,
            ),
        }
    }
}

/// The token of the request, if it has one (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Stranger> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let malformed = |reason: &str| Stranger { reason: reason.to_owned(), shown: true, unknown: false };
    if given.next().is_some() {
        return Err(malformed("there is more than one header authorization"));
    }
    let value = value.as_bytes();
    let (scheme, token) = value.split_at_checked(7).unwrap_or((value, &[]));
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"Bearer ") || token.is_empty() || token.len() > MAX_TOKEN {
        return Err(malformed("the header authorization is not of the form Bearer TOKEN"));
    }
    Ok(Some(token))
}

/// The user of this process.
fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn tokens_are_found_and_what_is_none_is_refused() {
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        for given in ["Bearer abc", "bearer abc ", "BEARER   abc"] {
            assert_eq!(bearer(&headers(&[given])), Ok(Some(&b"abc"[..])), "{given}");
        }
        let long = format!("Bearer {}", "x".repeat(513));
        for given in ["", "Bearer", "Bearer ", "Basic abc", "abc", long.as_str()] {
            assert!(bearer(&headers(&[given])).is_err(), "{given}");
        }
        assert!(bearer(&headers(&["Bearer a", "Bearer b"])).is_err());
    }
}
