//! What happens at the doors, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use tenants::audit::AuditLog;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal),* $(,)?) => {
        /// One number per thing that can happen.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* $field: AtomicU64,)*
        }

        impl Counters {
            $(pub(crate) fn $field(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            })*

            /// All of them, by name, and what the audit log has lost.
            pub fn all(&self, audit: &AuditLog) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed)),)* ("audit_lost", audit.lost())]
            }
        }
    };
}

counters! {
    /// Requests that were let in.
    admitted => "api_admitted",
    /// Requests without a credential, or with one that is not good.
    unauthenticated => "api_unauthenticated",
    /// Requests that were not the caller's to make.
    denied => "api_denied",
    /// Requests of callers who made too many.
    limited => "api_limited",
    /// Requests with a wrong credential, refused unseen as their source had shown too many.
    login_limited => "api_login_limited",
    /// Requests with a token that is not known here, refused without a look for it at other nodes, as there were too many of them.
    look_limited => "api_look_limited",
    /// Connections that were closed because of that.
    closed => "api_connections_closed",
    /// Connections that came to nothing in TLS.
    handshake_failed => "api_handshake_failed",
    /// Connections that were not taken as there are too many, in all, of their source or in their handshake.
    connection_limited => "api_connection_limited",
    /// Connections without a credential that gave way to new ones, as there were too many.
    connection_displaced => "api_connection_displaced",
    /// Lists of SAs that were refused, as those that are still read hold all the memory that there is for them.
    lists_limited => "api_lists_limited",
    /// Answers that were refused, as those that their callers have not read hold all the memory that there is for them.
    answers_limited => "api_answers_limited",
    /// Streams that ended with the credential of their caller.
    revoked => "api_streams_revoked",
    /// Times that a file of the API's could not be read again; the one before stays.
    reload_failed => "api_reload_failed",
}
