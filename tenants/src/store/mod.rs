//! Where the rows of the catalog are kept.
//!
//! A row is a resource name and an encoded object. The trait is as small as that because a store of a cluster
//! (etcd) has to be able to serve it too. The catalog is the only writer and holds everything in memory, so a
//! store is read once, at the start.

mod memory;
mod record;
mod redb;
mod vault;

use std::path::PathBuf;

pub use memory::MemoryStore;
pub(crate) use record::{COUNTERS, Counters, Row, encode};
pub use redb::RedbStore;
pub use vault::Vault;

/// Rows to write and to remove, all of them or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows to write: key and value.
    pub put: Vec<(String, Vec<u8>)>,
    /// Keys of rows to remove.
    pub delete: Vec<String>,
}

/// Keeps rows.
pub trait Store: Send + Sync + 'static {
    /// All rows.
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Writes a batch. When it returns `Ok` the batch survives a crash of the machine.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        (**self).load()
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        (**self).commit(batch)
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{0} is in use by another process; is another culvertd running with this state directory?")]
    InUse(PathBuf),
    /// A file of the state directory cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A row does not mean what it did when it was written.
    #[error("stored row {key}: {reason}")]
    Corrupt {
        /// The row.
        key: String,
        /// Why.
        reason: String,
    },
    /// The database failed.
    #[error("store: {0}")]
    Backend(String),
}

impl StoreError {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    pub(crate) fn corrupt(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { key: key.to_owned(), reason: reason.to_string() }
    }
}
