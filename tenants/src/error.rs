//! Why an operation on the catalog was refused: a closed set, each with one gRPC code.

use crate::store::StoreError;
use crate::violation::Violations;

/// Why an operation on the catalog was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong by itself. gRPC `INVALID_ARGUMENT`.
    #[error("{0}")]
    Invalid(#[from] Violations),
    /// The name is taken. gRPC `ALREADY_EXISTS`.
    #[error("{0} already exists")]
    AlreadyExists(String),
    /// There is nothing of that name. gRPC `NOT_FOUND`.
    #[error("{0} not found")]
    NotFound(String),
    /// The object was changed since it was read. gRPC `ABORTED`.
    #[error("{name} was changed meanwhile: its etag is {current}, not {given}; read it again")]
    StaleEtag {
        /// The object.
        name: String,
        /// The etag of the request.
        given: String,
        /// The etag it has.
        current: String,
    },
    /// The state of other objects forbids it. gRPC `FAILED_PRECONDITION`.
    #[error("{name}: {reason}")]
    FailedPrecondition {
        /// The object.
        name: String,
        /// What stands in the way.
        reason: String,
    },
    /// It is not for the author to do. gRPC `PERMISSION_DENIED`.
    #[error("{name}: {reason}")]
    Denied {
        /// The object.
        name: String,
        /// Whose it is to do.
        reason: String,
    },
    /// A bound is reached. gRPC `RESOURCE_EXHAUSTED`.
    #[error("{name}: at most {limit} {what}")]
    Exhausted {
        /// Whose bound it is.
        name: String,
        /// What it bounds.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The store failed. gRPC `INTERNAL`, and `RESOURCE_EXHAUSTED` if the disk is full. Says no more than its caller is to know.
    #[error("{}", .0.told())]
    Store(StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            // That is the fault of who asks.
            StoreError::TooLarge { limit } => {
                Self::Exhausted { name: "one change".to_owned(), what: "MiB", limit }
            }
            other => Self::Store(other),
        }
    }
}

impl Error {
    /// The request is wrong in one field.
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(Violations::one(field, description))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_store_is_that_nodes_share_is_not_told_to_callers() {
        let (place, reason) = ("etcd at https://10.9.8.7:2379".to_owned(), "no space".to_owned());
        let refused = StoreError::Refused { place: place.clone(), reason };
        assert!(refused.to_string().contains(&place), "the log has it");
        let refused = Error::from(refused).to_string();
        assert!(refused.contains("no space") && !refused.contains("10.9.8.7"), "{refused}");
        let away =
            Error::from(StoreError::Away { place: "etcd".to_owned(), reason: format!("{place}: reset") });
        let away = away.to_string();
        assert!(away.contains("tunnels go on") && !away.contains("10.9.8.7"), "{away}");
        assert!(matches!(
            Error::from(StoreError::TooLarge { limit: 100 }),
            Error::Exhausted { limit: 100, .. }
        ));
    }
}
