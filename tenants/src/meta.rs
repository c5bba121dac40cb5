//! What every stored object has besides its own values.

use std::time::SystemTime;

/// Version and times of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Revision of the catalog that wrote the object last.
    pub revision: u64,
    /// When it was created.
    pub created: SystemTime,
    /// When it was last changed.
    pub updated: SystemTime,
    /// `request_id` of the request that created it; empty if it had none.
    pub request_id: String,
}

impl Meta {
    /// The etag: the revision is unique in the catalog, so it is enough.
    pub fn etag(&self) -> String {
        etag(self.revision)
    }
}

/// The etag of an object last written at `revision`.
pub(crate) fn etag(revision: u64) -> String {
    format!("r{revision}")
}
