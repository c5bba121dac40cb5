//! Who calls.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tenants::{Author, Catalog, Role, TenantName, Token, TokenHash};

use crate::access::files::TokenFiles;

/// Who calls, and what that may do.
#[derive(Clone, Debug)]
pub struct Caller {
    /// By what it is known.
    pub(crate) credential: Credential,
    /// What it may do.
    pub role: Role,
    /// The only tenant that there is for it; `None` for the whole node.
    pub tenant: Option<TenantName>,
    /// Where it comes from.
    pub from: String,
}

/// By what a caller is known.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// It has shown nothing.
    Anonymous,
    /// A user of this host, by its number.
    User(u32),
    /// Name of the certificate, and when that ends.
    Certificate(String, SystemTime),
    Token(Arc<Token>),
    /// Name of a token whose value is in a file.
    TokenFile(String, TokenHash),
    /// Somebody who was let in at another node, by what was shown there.
    Elsewhere(String),
}

impl fmt::Display for Credential {
    /// Who it is, as logs and the API have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Certificate(name, _) => write!(f, "certificate {name}"),
            Self::Token(token) => write!(f, "token {}", token.name),
            Self::TokenFile(name, _) => write!(f, "token {name} (file)"),
            Self::Elsewhere(principal) => f.write_str(principal),
        }
    }
}

impl Credential {
    /// Whether the caller has shown who it is.
    pub(crate) const fn is_shown(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }

    /// Whether the catalog says that it is good, to which other nodes may write.
    pub(crate) const fn is_of_catalog(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// When it ends.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        match self {
            Self::Certificate(_, expires) => Some(*expires),
            Self::Token(token) => Some(token.expires),
            Self::Anonymous | Self::User(_) | Self::TokenFile(..) | Self::Elsewhere(_) => None,
        }
    }

    /// Whether it still is what it was.
    pub(crate) fn is_good(&self, catalog: &Catalog, files: &TokenFiles, now: SystemTime) -> bool {
        match self {
            // What it has shown is looked after where it was shown.
            Self::Anonymous | Self::User(_) | Self::Elsewhere(_) => true,
            Self::Certificate(_, expires) => now < *expires,
            Self::Token(token) => catalog.is_token_good(token, now),
            Self::TokenFile(name, hash) => files.knows(name, *hash),
        }
    }
}

impl Caller {
    /// Who it is: `token tokens/ops`, `certificate spiffe://example.org/ops`, `user 1000`, `anonymous`.
    pub fn principal(&self) -> String {
        self.credential.to_string()
    }

    /// Whose share of the node it uses: a tenant's callers have one, however many they are.
    pub(crate) fn share(&self) -> String {
        self.tenant.as_ref().map_or_else(|| self.principal(), ToString::to_string)
    }

    /// When its credential ends.
    pub fn expires(&self) -> Option<SystemTime> {
        self.credential.expires()
    }

    /// Somebody whose rights another node has looked into, and who asks by that node.
    pub(crate) const fn behind(principal: String, node: String) -> Self {
        Self { credential: Credential::Elsewhere(principal), role: Role::Admin, tenant: None, from: node }
    }

    /// As the one who writes.
    pub(crate) fn author(&self, method: &str, traceparent: Option<String>) -> Author {
        Author {
            principal: self.principal(),
            from: self.from.clone(),
            method: method.to_owned(),
            role: self.role,
            tenant: self.tenant.clone(),
            traceparent,
        }
    }
}

tokio::task_local! {
    /// The call that is being served, for as long as it is: no service can forget to hand it on.
    static CALL: Call;
}

#[derive(Clone)]
struct Call {
    caller: Arc<Caller>,
    author: Arc<Author>,
}

/// Serves a call of this caller.
pub(crate) async fn serving<T>(caller: Arc<Caller>, author: Arc<Author>, call: impl Future<Output = T>) -> T {
    CALL.scope(Call { caller, author }, call).await
}

/// Whose call is being served; `None` outside of one.
pub fn current() -> Option<Arc<Caller>> {
    CALL.try_with(|call| Arc::clone(&call.caller)).ok()
}

/// On whose behalf the call that is being served writes: the node's own, outside of one.
pub fn author() -> Arc<Author> {
    CALL.try_with(|call| Arc::clone(&call.author)).unwrap_or_else(|_| Author::node())
}
