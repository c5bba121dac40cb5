//! How a write goes: the checks that all kinds of objects share, the commit, the announcement.

use std::sync::{MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::catalog::Catalog;
use crate::catalog::object::{Change, ChangeKind, Object};
use crate::error::Error;
use crate::limits::MAX_REQUEST_ID;
use crate::meta::{Meta, etag};
use crate::store::{Batch, Counters};
use crate::violation::Violations;

/// Shows that the caller is the one who writes. Nothing changes between its checks and its commit.
pub(crate) struct Writer<'a> {
    _guard: MutexGuard<'a, ()>,
    /// The counters with this write: its revision, and numbers it gives out.
    pub(crate) counters: Counters,
}

impl Writer<'_> {
    /// Version and times of an object that this write creates.
    pub(crate) fn created(&self, request_id: &str) -> Meta {
        let now = SystemTime::now();
        Meta {
            revision: self.counters.revision,
            created: now,
            updated: now,
            request_id: request_id.to_owned(),
        }
    }

    /// Version and times of an object that this write changes.
    pub(crate) fn updated(&self, old: &Meta) -> Meta {
        Meta { revision: self.counters.revision, updated: SystemTime::now(), ..old.clone() }
    }
}

impl Catalog {
    /// Waits for the writers before and becomes the one who writes.
    pub(crate) fn writer(&self) -> Writer<'_> {
        let guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counters = self.read().counters;
        counters.revision += 1;
        Writer { _guard: guard, counters }
    }

    /// Commits changes to the store, then to memory, then tells them.
    pub(crate) fn commit(&self, writer: Writer<'_>, changes: Vec<(ChangeKind, Object)>) -> Result<(), Error> {
        use prost::Message as _;
        let mut batch = Batch::default();
        batch.put.push((crate::store::COUNTERS.to_owned(), writer.counters.encode_to_vec()));
        for (kind, object) in &changes {
            match kind {
                ChangeKind::Deleted => batch.delete.push(object.name()),
                ChangeKind::Created | ChangeKind::Updated => batch.put.push(crate::store::encode(object)),
            }
        }
        self.store.commit(&batch)?;

        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.counters = writer.counters;
        for (kind, object) in changes {
            tracing::info!(change = ?kind, name = object.name(), revision = writer.counters.revision, "catalog");
            match kind {
                ChangeKind::Deleted => state.remove(&object),
                ChangeKind::Created | ChangeKind::Updated => state.put(object.clone()),
            }
            // Told under the lock, so that a snapshot and the changes after it fit together. No receiver is no fault.
            let _ = self.changes.send(Change { revision: writer.counters.revision, kind, object });
        }
        Ok(())
    }
}

/// Refuses a stale etag; an empty one fits always.
pub(crate) fn check_etag(given: &str, object: &Meta, name: impl ToString) -> Result<(), Error> {
    if given.is_empty() || given == object.etag() {
        return Ok(());
    }
    Err(Error::StaleEtag { name: name.to_string(), given: given.to_owned(), current: etag(object.revision) })
}

/// Refuses an update or deletion by etag of what is not there, even if missing objects are allowed.
pub(crate) fn check_missing(allow_missing: bool, etag: &str, name: impl ToString) -> Result<(), Error> {
    if allow_missing && etag.is_empty() { Ok(()) } else { Err(Error::NotFound(name.to_string())) }
}

/// True if the object is what this very request has created before.
pub(crate) fn is_repeated(request_id: &str, object: &Meta) -> bool {
    !request_id.is_empty() && object.request_id == request_id
}

pub(crate) fn check_request_id(request_id: &str, faults: &mut Violations) {
    if request_id.len() > MAX_REQUEST_ID {
        faults.add("request_id", format!("{} octets; at most {MAX_REQUEST_ID}", request_id.len()));
    }
}

/// Refuses one more of what there are `count` of.
pub(crate) fn check_quota(
    count: usize,
    limit: u64,
    what: &'static str,
    name: impl ToString,
) -> Result<(), Error> {
    if (count as u64) < limit {
        Ok(())
    } else {
        Err(Error::Exhausted { name: name.to_string(), what, limit })
    }
}
