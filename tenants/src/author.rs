//! Who writes, and on whose behalf: goes with every change, into the audit log, and to those who follow the catalog.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use culvert_proto::v1;

use crate::name::TenantName;

/// What a caller may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Moves tunnels.
    Operator,
    /// Changes what is configured.
    Admin,
}

impl Role {
    /// Of the API; `None` for a number that is none.
    pub fn from_proto(role: i32) -> Option<Self> {
        match v1::Role::try_from(role).ok()? {
            v1::Role::Unspecified => None,
            v1::Role::Viewer => Some(Self::Viewer),
            v1::Role::Operator => Some(Self::Operator),
            v1::Role::Admin => Some(Self::Admin),
        }
    }

    /// As in the API.
    pub const fn to_proto(self) -> v1::Role {
        match self {
            Self::Viewer => v1::Role::Viewer,
            Self::Operator => v1::Role::Operator,
            Self::Admin => v1::Role::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no role; expected viewer, operator or admin"))
    }
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// `token tokens/ops`, `user 1000`; `culvertd` for the node itself.
    pub principal: String,
    /// Where the call came from.
    pub from: String,
    /// Full name of the method: `culvert.v1.PeerService/UpdatePeer`. Empty for the node itself.
    pub method: String,
    /// What it may do.
    pub role: Role,
    /// The only tenant whose objects it may touch; `None` for the whole node.
    pub tenant: Option<TenantName>,
    /// W3C trace context of the call, as in the header `traceparent`.
    pub traceparent: Option<String>,
}

thread_local! {
    /// Who writes on this thread. A write of the catalog is one call that stays on its thread, so this is an argument that
    /// need not be handed through each of its operations, and cannot be forgotten by a new one.
    static ACTING: RefCell<Option<Arc<Author>>> = const { RefCell::new(None) };
}

impl Author {
    /// The node itself, which may do everything.
    pub fn node() -> Arc<Self> {
        Arc::new(Self {
            principal: "culvertd".to_owned(),
            from: "local".to_owned(),
            method: String::new(),
            role: Role::Admin,
            tenant: None,
            traceparent: None,
        })
    }

    /// Another node of the cluster, whose audit log says who it was.
    pub fn elsewhere() -> Arc<Self> {
        Arc::new(Self { principal: "another node".to_owned(), ..(*Self::node()).clone() })
    }

    /// The trace ID of the call: 32 hexadecimal digits; empty if it has none.
    pub fn trace_id(&self) -> &str {
        self.of_context(1, 32)
    }

    /// The span ID of the call: 16 hexadecimal digits; empty if it has none.
    pub fn span_id(&self) -> &str {
        self.of_context(2, 16)
    }

    /// A part of the context with so many digits. Anybody may write anything there.
    fn of_context(&self, part: usize, digits: usize) -> &str {
        let id = self.traceparent.as_deref().and_then(|context| context.split('-').nth(part));
        id.filter(|id| id.len() == digits && id.bytes().all(|c| c.is_ascii_hexdigit())).unwrap_or_default()
    }

    /// Calls `write`, whose writes of catalogs are this author's.
    pub fn acting<T>(self: &Arc<Self>, write: impl FnOnce() -> T) -> T {
        /// Puts back who was acting before, after a panic too.
        struct Back(Option<Arc<Author>>);
        impl Drop for Back {
            fn drop(&mut self) {
                let before = self.0.take();
                ACTING.with(|acting| *acting.borrow_mut() = before);
            }
        }
        let before = ACTING.with(|acting| acting.borrow_mut().replace(Arc::clone(self)));
        let _back = Back(before);
        write()
    }

    /// Who writes on this thread: the node itself, if nobody has said otherwise.
    pub(crate) fn current() -> Arc<Self> {
        ACTING.with(|acting| acting.borrow().clone()).unwrap_or_else(Self::node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_that_of_the_innermost_call_and_goes_with_it() {
        let of =
            |principal: &str| Arc::new(Author { principal: principal.into(), ..(*Author::node()).clone() });
        assert_eq!(Author::current().principal, "culvertd");
        of("a").acting(|| {
            of("b").acting(|| assert_eq!(Author::current().principal, "b"));
            let failed = std::panic::catch_unwind(|| of("c").acting(|| panic!("on purpose")));
            assert!(failed.is_err());
            assert_eq!(Author::current().principal, "a");
        });
        assert_eq!(Author::current().principal, "culvertd");
    }

    #[test]
    fn roles_are_a_ladder() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        assert_eq!("operator".parse(), Ok(Role::Operator));
        assert!("root".parse::<Role>().unwrap_err().contains("expected viewer"));
        assert_eq!(Role::from_proto(0), None);
        assert_eq!(Role::from_proto(Role::Admin.to_proto().into()), Some(Role::Admin));
    }

    #[test]
    fn trace_and_span_are_told_by_their_ids() {
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let author = Author { traceparent: Some(context.into()), ..(*Author::node()).clone() };
        assert_eq!(author.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(author.span_id(), "00f067aa0ba902b7");
        assert_eq!((Author::node().trace_id(), Author::node().span_id()), ("", ""));
    }
}
