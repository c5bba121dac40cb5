//! Who calls.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tenants::{Author, Catalog, Role, TenantName, Token, TokenHash};
use tokio::task::JoinError;

use crate::access::files::TokenFiles;
use crate::access::request::Held;

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
    /// What its request holds of the node.
    held: Option<Arc<Held>>,
}

/// Serves a call of this caller.
pub(crate) async fn serving<T>(caller: Arc<Caller>, author: Arc<Author>, call: impl Future<Output = T>) -> T {
    serving_held(caller, author, None, call).await
}

/// The same, where the request holds something of the node.
pub(super) async fn serving_held<T>(
    caller: Arc<Caller>,
    author: Arc<Author>,
    held: Option<Arc<Held>>,
    call: impl Future<Output = T>,
) -> T {
    CALL.scope(Call { caller, author, held }, call).await
}

/// Does on a thread that may wait what the call that is being served asks for, on behalf of its author. It goes on though the caller
/// goes away, and so does what the request holds: what was decoded of it is there until then.
///
/// # Errors
/// If it panics.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let (author, held) = (author(), CALL.try_with(|call| call.held.clone()).ok().flatten());
    let work = move || {
        let _held = held;
        author.acting(work)
    };
    tokio::task::spawn_blocking(work).await
}

/// Whose call is being served; `None` outside of one.
pub fn current() -> Option<Arc<Caller>> {
    CALL.try_with(|call| Arc::clone(&call.caller)).ok()
}

/// Whose share of what all callers use the call that is being served takes of: a tenant's, a caller's, or nobody's outside of one.
pub(crate) fn share() -> String {
    current().map(|caller| caller.share()).unwrap_or_default()
}

/// On whose behalf the call that is being served writes: the node's own, outside of one.
pub fn author() -> Arc<Author> {
    CALL.try_with(|call| Arc::clone(&call.author)).unwrap_or_else(|_| Author::node())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::access::budget::Budget;

    #[tokio::test]
    async fn what_a_request_holds_it_holds_until_its_work_is_done_whoever_waits() {
        const LARGE: usize = 1 << 30;
        let budget = Budget::default();
        let turn = budget.turn("a", LARGE).await.unwrap();
        let held = Arc::new(Held::new(budget.share("a".to_owned()), turn));
        let caller = Arc::new(Caller::behind("a".to_owned(), "here".to_owned()));
        let author = Arc::new(caller.author("", None));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        let work = apart(move || {
            begun.send(()).unwrap();
            // An error is as good: the test is over.
            let _ = ends.recv();
        });
        let mut call = Box::pin(serving_held(caller, author, Some(held), work));
        tokio::select! {
            _ = &mut call => panic!("nobody has ended it"),
            told = has_begun => told.unwrap(),
        }
        // Its caller has gone away.
        drop(call);
        let mut next = Box::pin(budget.turn("a", LARGE));
        tokio::select! {
            biased;
            _ = &mut next => panic!("the work goes on, and its memory with it"),
            () = std::future::ready(()) => {}
        }
        end.send(()).unwrap();
        assert!(next.await.is_some());
    }
}
