//! Tokens: what callers of the API show who they are with.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use culvert_proto::v1;
use zeroize::Zeroizing;

use crate::author::Role;
use crate::limits::{DEFAULT_TOKEN_LIFE, MAX_TOKEN_LIFE};
use crate::meta::Meta;
use crate::name::TokenName;
use crate::store::StoreError;
use crate::tenant::display_name;
use crate::violation::Violations;

/// What a value begins with, so that whoever finds one in a place where it should not be knows what it is.
const PREFIX: &str = "cvt_";
/// Octets of randomness: nobody guesses them, so their hash needs neither salt nor slowness.
const RANDOM: usize = 32;

/// Hash of a value, by which a token is found. The value itself is known to its holder alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub(crate) [u8; 32]);

impl TokenHash {
    /// Of a value: SHA-256.
    pub fn of(value: &[u8]) -> Self {
        Self(openssl::sha::sha256(value))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// A token as it is kept.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its name, which says whose it is.
    pub name: TokenName,
    /// A name for people.
    pub display_name: String,
    /// What its holder may do.
    pub role: Role,
    /// When it ends.
    pub expires: SystemTime,
    /// Version and times.
    pub meta: Meta,
    /// Finds it.
    pub(crate) hash: TokenHash,
    /// Shared by all copies, for it is no part of what is written.
    pub(crate) used: Arc<Use>,
}

/// When a token was shown last, in seconds of Unix time; zero: never.
#[derive(Debug, Default)]
pub(crate) struct Use {
    shown: AtomicU64,
    /// As far as it is in the store.
    kept: AtomicU64,
}

impl Token {
    /// When it was shown last, as it was kept. What is from before the token was made is of another that had its name: a node may write
    /// that down in the moment in which another deletes the token.
    pub(crate) fn restore_use(&self, seconds: u64) {
        let second_after = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.saturating_add(1)));
        if second_after.is_none_or(|after| after > self.meta.created) {
            self.used.restore(seconds);
        }
    }
}

impl Use {
    /// As it was kept.
    fn restore(&self, seconds: u64) {
        self.shown.fetch_max(seconds, Ordering::Relaxed);
        self.kept.store(seconds, Ordering::Relaxed);
    }

    /// When it was, if that is not kept yet.
    pub(crate) fn news(&self) -> Option<u64> {
        let shown = self.shown.load(Ordering::Relaxed);
        Some(shown).filter(|shown| *shown > self.kept.load(Ordering::Relaxed))
    }

    /// It is in the store.
    pub(crate) fn note_kept(&self, seconds: u64) {
        self.kept.fetch_max(seconds, Ordering::Relaxed);
    }
}

/// The values of a token that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct TokenSpec {
    pub(crate) display_name: String,
    pub(crate) role: Role,
    pub(crate) expires: SystemTime,
}

impl TokenSpec {
    /// The values of a message, or all that is wrong with it.
    pub(crate) fn parse(token: &v1::Token, now: SystemTime) -> Result<Self, Violations> {
        let mut faults = Violations::new();
        let display_name = display_name(&token.display_name, &mut faults);
        let role = Role::from_proto(token.role);
        if role.is_none() {
            faults.add("role", format!("{} is none; expected VIEWER, OPERATOR or ADMIN", token.role));
        }
        let expires = match token.expire_time.map(SystemTime::try_from) {
            None => Some(now + DEFAULT_TOKEN_LIFE),
            Some(Err(error)) => faults.note("expire_time", Err(error)),
            Some(Ok(time)) if time <= now => {
                faults.add("expire_time", "is in the past");
                None
            }
            Some(Ok(time)) if time > now + MAX_TOKEN_LIFE => {
                faults.add("expire_time", "is more than 10 years away");
                None
            }
            Some(Ok(time)) => Some(time),
        };
        let spec = role.zip(expires).map(|(role, expires)| Self { display_name, role, expires });
        faults.finish(spec)
    }
}

impl Token {
    /// A new value.
    pub(crate) fn value() -> Result<Zeroizing<String>, StoreError> {
        let mut random = Zeroizing::new([0; RANDOM]);
        openssl::rand::rand_bytes(&mut *random).map_err(|error| StoreError::Backend(error.to_string()))?;
        let mut value = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM * 4 / 3 + 2));
        value.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(*random, &mut value);
        Ok(value)
    }

    /// Whether it has ended.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires <= now
    }

    /// It was shown.
    pub(crate) fn note_use(&self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.used.shown.fetch_max(seconds, Ordering::Relaxed);
    }

    /// When it was shown last.
    pub fn last_use(&self) -> Option<SystemTime> {
        let seconds = Some(self.used.shown.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)?;
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    /// As a message, without the value.
    pub fn to_proto(&self) -> v1::Token {
        v1::Token {
            name: self.name.to_string(),
            display_name: self.display_name.clone(),
            role: self.role.to_proto().into(),
            expire_time: Some(self.expires.into()),
            value: String::new(),
            etag: self.meta.etag(),
            create_time: Some(self.meta.created.into()),
            last_use_time: self.last_use().map(Into::into),
        }
    }

    /// What is configured of it.
    pub(crate) fn spec_to_proto(&self) -> v1::Token {
        let (etag, create_time, last_use_time) = (String::new(), None, None);
        v1::Token { etag, create_time, last_use_time, ..self.to_proto() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unlike_each_other_and_found_by_their_hash() {
        let (a, b) = (Token::value().unwrap(), Token::value().unwrap());
        assert!(a.starts_with(PREFIX) && a.len() == 47, "{} characters", a.len());
        assert_ne!(*a, *b);
        assert!(TokenHash::of(a.as_bytes()) == TokenHash::of(a.as_bytes()));
        assert!(TokenHash::of(a.as_bytes()) != TokenHash::of(b.as_bytes()));
        assert_eq!(format!("{:?}", TokenHash::of(a.as_bytes())), "TokenHash");
    }

    #[test]
    fn faults_are_named() {
        let now = SystemTime::now();
        let parse = |token: &v1::Token| TokenSpec::parse(token, now).map_err(|faults| faults.to_string());
        assert!(parse(&v1::Token::default()).unwrap_err().contains("role"));
        let viewer = v1::Token { role: v1::Role::Viewer.into(), ..Default::default() };
        assert_eq!(parse(&viewer).unwrap().expires, now + DEFAULT_TOKEN_LIFE);
        let until = |time: SystemTime| v1::Token { expire_time: Some(time.into()), ..viewer.clone() };
        assert!(parse(&until(now)).unwrap_err().contains("is in the past"));
        assert!(parse(&until(now + MAX_TOKEN_LIFE * 2)).unwrap_err().contains("10 years"));
        assert!(parse(&until(now + Duration::from_secs(5))).is_ok());
    }
}
