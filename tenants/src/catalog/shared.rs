//! A catalog whose store other nodes write to as well.
//!
//! What is in memory may be behind the store. So a write is taken by the store only if it follows on the last change there, and is
//! staged again if it does not, from what has come meanwhile; an etag is as exact as on one node. Whoever wants to see what others
//! were told asks first how far the store is ([`Catalog::catch_up`]) and waits until the changes up to there have come.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::catalog::{BatchError, Catalog};
use crate::error::Error;
use crate::store::StoreError;

/// How often a write is staged anew. Each time somebody else has written, so it is not for nothing; with ten writers all the
/// time at it one in a thousand fails.
const ATTEMPTS: usize = 32;
/// How long changes take that are in the store already; longer is a fault of the way to it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far the catalog in memory is.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    revision: Mutex<u64>,
    moved: Condvar,
}

impl Reached {
    pub(crate) fn note(&self, revision: u64) {
        let mut reached = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        *reached = revision.max(*reached);
        self.moved.notify_all();
    }

    /// Waits until this revision is there; false when it does not come.
    fn wait(&self, revision: u64, patience: Duration) -> bool {
        let reached = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.moved.wait_timeout_while(reached, patience, |reached| *reached < revision);
        let (reached, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *reached >= revision
    }
}

/// Errors that may say that another node wrote first.
pub(crate) trait Outrun {
    /// The revision that has to be there before it is tried again.
    fn outrun(&self) -> Option<u64>;

    /// Whether the store has refused, and not the catalog in view of what is there.
    fn is_of_store(&self) -> bool;
}

impl Outrun for Error {
    fn outrun(&self) -> Option<u64> {
        match self {
            Self::Store(StoreError::Outrun(revision)) => Some(*revision),
            _ => None,
        }
    }

    fn is_of_store(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

impl Outrun for BatchError {
    fn outrun(&self) -> Option<u64> {
        match self {
            Self::Whole(error) => error.outrun(),
            Self::Objects(_) => None,
        }
    }

    fn is_of_store(&self) -> bool {
        matches!(self, Self::Whole(Error::Store(_)))
    }
}

impl Catalog {
    /// Whether other nodes write to its store.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Whether what other nodes write to the store does not come in: what is here is as it was.
    pub fn is_behind(&self) -> bool {
        self.store.is_behind()
    }

    /// Waits until all is there that anybody, at whatever node, has been told was written. May block; returns at once where the
    /// store is this node's own.
    pub fn catch_up(&self) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        self.wait_for(self.store.last_revision()?)
    }

    fn wait_for(&self, revision: u64) -> Result<(), StoreError> {
        if self.reached.wait(revision, PATIENCE) {
            return Ok(());
        }
        Err(StoreError::Away {
            place: "the cluster's store".to_owned(),
            reason: format!("revision {revision} is there, but has not come within {} s", PATIENCE.as_secs()),
        })
    }

    /// Makes a write, and makes it again while others are faster.
    pub(crate) fn attempt<T, E: Outrun + From<Error>>(
        &self,
        mut write: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        // Or what was written elsewhere a moment ago would be refused as missing here. That it cannot be said whether something was
        // does not refuse a write: the store itself takes it or does not.
        let behind = self.catch_up().err();
        for _ in 1..ATTEMPTS {
            let done = write();
            let Err(error) = &done else { return done };
            match (error.outrun(), error.is_of_store(), &behind) {
                (Some(revision), ..) => self.wait_for(revision).map_err(Error::from)?,
                // Who knows whether it is refused for something that is so no more.
                (None, false, Some(StoreError::Away { place, reason })) => {
                    let (place, reason) = (place.clone(), reason.clone());
                    return Err(Error::from(StoreError::Away { place, reason }).into());
                }
                _ => return done,
            }
        }
        write()
    }
}
