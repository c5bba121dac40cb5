//! Where the rows of the catalog are kept.
//!
//! A row is a resource name and an encoded object. The catalog holds everything in memory, so a store is read once, at the
//! start. One that nodes share ([`Store::is_shared`]) takes a change only from whoever knows the one before it, and what others
//! write comes to the catalog by [`Catalog::follow`](crate::Catalog::follow).

mod backup;
mod batch;
mod check;
mod contain;
mod disk;
#[cfg(test)]
mod faults;
mod memory;
mod record;
mod redb;
mod succeed;
mod vault;

use std::path::{Path, PathBuf};

pub use backup::write_backup;
pub use batch::Batch;
pub use check::{Report, check, read};
pub use memory::MemoryStore;
pub(crate) use record::{COUNTERS, Counters, KEY_CHECK, Row, audit_key, encode, is_known, is_use, used_key};
pub use record::{audit_folder, audit_node, is_audit};
pub use redb::RedbStore;
pub use succeed::{revision_with_tenants, succeed};
pub use vault::Vault;

/// Name of the store in the state directory.
pub const STORE_FILE: &str = "catalog.redb";
/// Name of the file with the key of the secrets in the state directory.
pub const KEY_FILE: &str = "secrets.key";

/// Keeps rows.
pub trait Store: Send + Sync + 'static {
    /// All rows. A store that is shared may leave out audit entries, which are of use to one node each.
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// The rows of audit entries of a node. Asked of shared stores alone.
    fn load_audit(&self, node: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut rows = self.load()?;
        rows.retain(|(key, _)| audit_node(key) == Some(node));
        Ok(rows)
    }

    /// Writes a batch. When it returns `Ok` the batch survives a crash of the machine. A store that is shared refuses one that
    /// does not follow on its last change ([`StoreError::Outrun`]).
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Whether other nodes write to it.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether what other nodes write to it does not come in.
    fn is_behind(&self) -> bool {
        false
    }

    /// Revision of the last change that anybody has been told was made. Asked of shared stores alone.
    fn last_revision(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        (**self).load()
    }

    fn load_audit(&self, node: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        (**self).load_audit(node)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        (**self).commit(batch)
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }

    fn is_behind(&self) -> bool {
        (**self).is_behind()
    }

    fn last_revision(&self) -> Result<u64, StoreError> {
        (**self).last_revision()
    }
}

/// Why a store cannot be used, or a write was not kept.
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
        /// Why, and what to do.
        reason: String,
    },
    /// The disk refused, being full for instance. Nothing was changed, and the next write tries again.
    #[error("{path}: {reason}; nothing was changed, and it works again when the disk does")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Somebody else wrote first: the last change is of this revision. Nothing was changed.
    #[error("another node wrote meanwhile: the catalog is at revision {0}")]
    Outrun(u64),
    /// A store that is reached by the network is not. Whether a write was made is unknown, and shows once it is back.
    #[error("{place}: {reason}; tunnels go on, and changes are taken again when it is back")]
    Away {
        /// Where it is looked for.
        place: String,
        /// What came of that.
        reason: String,
    },
    /// A store that is reached by the network took the request and refused it. Nothing was changed.
    #[error("{place} refuses: {reason}")]
    Refused {
        /// Who refused it.
        place: String,
        /// Why.
        reason: String,
    },
    /// One change is larger than the store takes. Nothing was changed, and others are taken.
    #[error("the change is larger than the {limit} MiB that the store takes at once")]
    TooLarge {
        /// How much it takes.
        limit: u64,
    },
    /// The file is not what was written.
    #[error(
        "{path} is damaged: {reason}; `culvertd check-store` says more; restore the file from a copy that \
         `culvertd backup` made"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
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
    /// The key at hand is not the one that the row was sealed with.
    #[error("stored row {0} does not open with the key")]
    WrongKey(String),
    /// The cryptography failed.
    #[error("store: {0}")]
    Backend(String),
}

impl StoreError {
    /// What is told to who asked for a write: where the parts of a cluster are is for its log alone.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Away { place, .. } => {
                format!("{place} is away; tunnels go on, and changes are taken again when it is back")
            }
            Self::Refused { reason, .. } => format!("the cluster's store refuses: {reason}"),
            other => other.to_string(),
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    pub(crate) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        // Some of the reasons of the library go on for lines.
        let reason = reason.to_string().lines().next().unwrap_or_default().to_owned();
        Self::Damaged { path: path.to_owned(), reason }
    }

    pub(crate) fn corrupt(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { key: key.to_owned(), reason: reason.to_string() }
    }

    /// A key that does not fit a shared store as a fault of the file that it is in.
    pub(crate) fn of_key(self, key: &Path) -> Self {
        match self {
            Self::WrongKey(_) => {
                let reason =
                    format!("not the key that the other nodes have: {self}; give this node the same file");
                Self::file(key, reason)
            }
            other => other,
        }
    }

    /// A fault of a row as one of the file that it is in, or of the key in the file `key`.
    pub(crate) fn within(self, directory: &Path, key: &Path) -> Self {
        match self {
            Self::Corrupt { .. } => Self::damaged(&directory.join(STORE_FILE), &self),
            Self::WrongKey(_) => {
                let store = directory.join(STORE_FILE);
                let store = if key.parent() == Some(directory) {
                    format!("{STORE_FILE} beside it")
                } else {
                    store.display().to_string()
                };
                let reason = format!("not the key of {store}: {self}; restore the one it was made with");
                Self::file(key, reason)
            }
            other => other,
        }
    }
}
