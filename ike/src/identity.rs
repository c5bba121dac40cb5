//! Identities (RFC 7296 section 3.5) as users write them and as the wire has them.

mod der;
mod distinguished;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::str::FromStr;

use crate::wire::numbers::IdType;

/// The longest identity that can be configured, and so what is kept and told of those of others. Names of hosts end at 253 octets,
/// distinguished names in the field below 500.
pub const MAX_IDENTITY: usize = 512;

/// Who a peer says it is.
///
/// Names of hosts are the same whatever their case (RFC 4343), and so is the domain of a mail address, but not what stands
/// before its `@` (RFC 5321 section 2.4). Distinguished names are the same whatever the kind and case of their text (RFC 5280
/// section 7.1). Comparison, order and hash agree on that; the octets stay as they were written, for AUTH covers them.
#[derive(Clone)]
pub struct Identity {
    /// The kind of identity.
    pub kind: IdType,
    /// The octets after the type and the reserved field.
    pub data: Vec<u8>,
}

/// Text that is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing there.
    #[error(
        "empty identity; expected a host name, an IP address, user@host, a distinguished name, or keyid:TEXT"
    )]
    Empty,
    /// Over [`MAX_IDENTITY`].
    #[error("identity of {0} octets; at most {MAX_IDENTITY} are allowed")]
    TooLong(usize),
    /// A character no host name has.
    #[error("{0:?} is not a host name, an IP address or user@host; for other text write keyid:{0}")]
    BadCharacter(String),
    /// What is wrong with one that has equals signs.
    #[error("distinguished name: {0}")]
    Name(String),
}

impl Identity {
    /// A host name.
    pub fn fqdn(name: &str) -> Self {
        Self { kind: IdType::ID_FQDN, data: name.as_bytes().to_vec() }
    }

    /// An address.
    pub fn address(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self { kind: IdType::ID_IPV4_ADDR, data: ip.octets().to_vec() },
            IpAddr::V6(ip) => Self { kind: IdType::ID_IPV6_ADDR, data: ip.octets().to_vec() },
        }
    }

    /// The text that is read as it. A host name that looks like an address needs its kind put in front.
    pub fn text(&self) -> String {
        let text = self.to_string();
        if text.parse::<Self>().is_ok_and(|parsed| parsed == *self) { text } else { format!("fqdn:{text}") }
    }

    /// Whether the octets are the same too, which AUTH covers and the peer is shown.
    pub fn is_written_as(&self, other: &Self) -> bool {
        (self.kind, &self.data) == (other.kind, &other.data)
    }

    /// As much of it as is kept: a stranger may send some thousand octets.
    #[must_use]
    pub fn cut(&self) -> Self {
        Self { kind: self.kind, data: self.shown().to_vec() }
    }

    /// As much of it as is told.
    fn shown(&self) -> &[u8] {
        self.data.get(..MAX_IDENTITY).unwrap_or(&self.data)
    }

    /// What two that are the same have alike, of those of their kind.
    fn canonical(&self) -> Cow<'_, [u8]> {
        let data = self.data.as_slice();
        let exact = match self.kind {
            IdType::ID_FQDN => 0,
            IdType::ID_RFC822_ADDR => data.iter().rposition(|&b| b == b'@').unwrap_or(data.len()),
            // What is no name is like no name, whatever its octets are.
            IdType::ID_DER_ASN1_DN => {
                let name = distinguished::canonical(data).map(|name| [&[1], &*name].concat());
                return Cow::Owned(name.unwrap_or_else(|| [&[0], data].concat()));
            }
            _ => return Cow::Borrowed(data),
        };
        let (exact, folded) = data.split_at_checked(exact).unwrap_or((data, &[]));
        if folded.iter().any(u8::is_ascii_uppercase) {
            Cow::Owned([exact, &folded.to_ascii_lowercase()].concat())
        } else {
            Cow::Borrowed(data)
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.is_written_as(other) || (self.kind == other.kind && self.canonical() == other.canonical())
    }
}

impl Eq for Identity {}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.kind.cmp(&other.kind).then_with(|| self.canonical().cmp(&other.canonical()))
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.canonical().hash(state);
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_IDENTITY {
            return Err(IdentityError::TooLong(text.len()));
        }
        if let Some(key) = text.strip_prefix("keyid:") {
            return match key {
                "" => Err(IdentityError::Empty),
                key => Ok(Self { kind: IdType::ID_KEY_ID, data: key.as_bytes().to_vec() }),
            };
        }
        // `@name` forces a host name, as elsewhere in the field.
        let (text, forced) = match text.strip_prefix("fqdn:").or_else(|| text.strip_prefix('@')) {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if text.is_empty() {
            return Err(IdentityError::Empty);
        }
        if let (false, Ok(ip)) = (forced, text.parse()) {
            return Ok(Self::address(ip));
        }
        let digits = text.strip_prefix("asn1dn:#");
        if !forced && (digits.is_some() || distinguished::is_meant(text)) {
            let data = digits.map_or_else(|| distinguished::read(text), distinguished::of_digits);
            let data = data.map_err(IdentityError::Name)?;
            return match data.len() {
                0..=MAX_IDENTITY => Ok(Self { kind: IdType::ID_DER_ASN1_DN, data }),
                long => Err(IdentityError::TooLong(long)),
            };
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@+*".contains(&b)) {
            return Err(IdentityError::BadCharacter(text.to_owned()));
        }
        let kind = if text.contains('@') { IdType::ID_RFC822_ADDR } else { IdType::ID_FQDN };
        Ok(Self { kind, data: text.as_bytes().to_vec() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.shown();
        let is_text = |t: &&str| !t.is_empty() && t.chars().all(|c| !c.is_control());
        let text = || std::str::from_utf8(data).ok().filter(is_text);
        match self.kind {
            IdType::ID_IPV4_ADDR => match <[u8; 4]>::try_from(self.data.as_slice()) {
                Ok(octets) => IpAddr::from(octets).fmt(f),
                Err(_) => write!(f, "{}:{data:02x?}", self.kind),
            },
            IdType::ID_IPV6_ADDR => match <[u8; 16]>::try_from(self.data.as_slice()) {
                Ok(octets) => IpAddr::from(octets).fmt(f),
                Err(_) => write!(f, "{}:{data:02x?}", self.kind),
            },
            IdType::ID_FQDN | IdType::ID_RFC822_ADDR if text().is_some() => {
                f.write_str(text().unwrap_or_default())
            }
            IdType::ID_DER_ASN1_DN => match distinguished::text(&self.data) {
                Some(text) => text.chars().take(MAX_IDENTITY).try_for_each(|c| f.write_char(c)),
                None => write!(f, "{}:{data:02x?}", self.kind),
            },
            IdType::ID_KEY_ID if text().is_some() => write!(f, "keyid:{}", text().unwrap_or_default()),
            kind => write!(f, "{kind}:{data:02x?}"),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_are_the_same_whatever_their_case() {
        let hash = |id: &Identity| {
            let mut state = std::hash::DefaultHasher::new();
            id.hash(&mut state);
            state.finish()
        };
        for (a, b, same) in [
            ("Branch-1.ACME.example", "branch-1.acme.EXAMPLE", true),
            ("alice@ACME.example", "alice@acme.example", true),
            ("Alice@acme.example", "alice@acme.example", false),
            ("keyid:Group", "keyid:group", false),
            ("acme.example", "acme-example", false),
            ("a@b", "@a@b", true),
        ] {
            let (a, b): (Identity, Identity) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a == b, same, "{a} {b}");
            assert!(!same || hash(&a) == hash(&b), "{a} {b}");
            assert_eq!(a.cmp(&b).is_eq(), same, "{a} {b}");
        }
        // No octet is taken for a letter of another case, and none of the name is lost on the way.
        let id = |kind, data: &[u8]| Identity { kind, data: data.to_vec() };
        assert_ne!(id(IdType::ID_FQDN, b"a\xe4"), id(IdType::ID_FQDN, b"a\xc4"));
        assert_eq!(id(IdType::ID_FQDN, b"A.B").data, *b"A.B");
        assert_ne!(id(IdType::ID_FQDN, b"a.b"), id(IdType::ID_KEY_ID, b"a.b"));
        assert_eq!(id(IdType::ID_RFC822_ADDR, b"Odd"), id(IdType::ID_RFC822_ADDR, b"Odd"));
        assert_ne!(id(IdType::ID_RFC822_ADDR, b"Odd"), id(IdType::ID_RFC822_ADDR, b"odd"));
    }

    #[test]
    fn identities_of_any_length_print() {
        let id = |kind, data: &[u8]| Identity { kind, data: data.to_vec() };
        assert_eq!(id(IdType::ID_FQDN, b"").to_string(), "ID_FQDN:[]");
        assert_eq!(id(IdType::ID_NULL, b"").to_string(), "ID_NULL:[]");
        let long = id(IdType::ID_FQDN, &[b'a'; 60_000]);
        assert_eq!(long.to_string(), "a".repeat(MAX_IDENTITY));
        assert!(id(IdType::ID_KEY_ID, &[0; 60_000]).to_string().len() < 8 * MAX_IDENTITY);
        assert_eq!(long.cut().data.len(), MAX_IDENTITY);
        assert_ne!(long.cut(), long);
        let short = id(IdType::ID_KEY_ID, b"group");
        assert_eq!(short.cut(), short);
    }

    #[test]
    fn identities_read_and_print() {
        for (text, kind) in [
            ("branch-1.acme.example", IdType::ID_FQDN),
            ("10.0.0.1", IdType::ID_IPV4_ADDR),
            ("2001:db8::1", IdType::ID_IPV6_ADDR),
            ("alice@acme.example", IdType::ID_RFC822_ADDR),
            ("keyid:group 7", IdType::ID_KEY_ID),
        ] {
            let id: Identity = text.parse().unwrap();
            assert_eq!((id.kind, id.to_string().as_str()), (kind, text));
            assert_eq!(id.text(), text);
        }
        assert_eq!("@10.0.0.1".parse::<Identity>().unwrap().text(), "fqdn:10.0.0.1");
        assert_eq!("@10.0.0.1".parse::<Identity>().unwrap().kind, IdType::ID_FQDN);
        assert_eq!("".parse::<Identity>(), Err(IdentityError::Empty));
        assert!(matches!("two words".parse::<Identity>(), Err(IdentityError::BadCharacter(_))));
        assert!(matches!("x".repeat(600).parse::<Identity>(), Err(IdentityError::TooLong(600))));
    }
}
