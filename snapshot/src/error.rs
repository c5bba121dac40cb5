//! Why a snapshot cannot be read.

use thiserror::Error;

/// Octets that are no snapshot, or one that means nothing here. Nothing of it was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// It does not begin as one.
    #[error("these octets are no snapshot: they begin with another mark")]
    NoSnapshot,
    /// It is of something else.
    #[error("a snapshot of {wanted} was wanted, this one is of kind {got}")]
    Kind {
        /// What it was to be of.
        wanted: &'static str,
        /// The number of what it is of.
        got: u8,
    },
    /// Another version of Culvert has made it.
    #[error(
        "the snapshot of {of} has form {got}, and this node reads form {reads}: \
         nodes that take over from each other must run versions of Culvert with the same form"
    )]
    Version {
        /// What it is of.
        of: &'static str,
        /// Its form.
        got: u16,
        /// The form that is known here.
        reads: u16,
    },
    /// It has fewer octets than it says, or more.
    #[error("the snapshot of {of} was cut: {got} octets are there, it says {want}")]
    Length {
        /// What it is of.
        of: &'static str,
        /// Octets that are there.
        got: usize,
        /// Octets that there should be.
        want: usize,
    },
    /// The checksum is another.
    #[error("the snapshot of {of} was altered: its checksum is wrong")]
    Altered {
        /// What it is of.
        of: &'static str,
    },
    /// The checksum is right, but the message is none.
    #[error("the snapshot of {of} cannot be decoded: {reason}")]
    Undecodable {
        /// What it is of.
        of: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// A field that has to be there is not.
    #[error("the snapshot lacks {0}")]
    Missing(&'static str),
    /// A field with a value that it cannot have.
    #[error("the snapshot has an impossible value for {field}: {reason}")]
    Value {
        /// Which one.
        field: &'static str,
        /// What is wrong with it. Never the value of a key.
        reason: String,
    },
}

impl SnapshotError {
    /// A field with a value that it cannot have.
    pub fn value(field: &'static str, reason: impl ToString) -> Self {
        Self::Value { field, reason: reason.to_string() }
    }
}
