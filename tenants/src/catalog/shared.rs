//! A catalog whose store other nodes write to as well.
//!
//! What is in memory may be behind the store. So a write is taken by the store only if it follows on the last change there, and is
//! staged again if it does not, from what has come meanwhile; an etag is as exact as on one node. Whoever wants to see what others
//! were told asks first how far the store is ([`Catalog::catch_up`]) and waits until the changes up to there have come. Where it was waited
//! for them in vain, and the store says that they do not come, nobody waits again until something does.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latest::Follow as _;
use tokio::sync::watch;

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
    far: Mutex<Far>,
    /// For who waits on a thread.
    moved: Condvar,
    /// The revision once more, for who waits without.
    told: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Far {
    revision: u64,
    /// The greatest that was waited for in vain.
    missed: u64,
}

impl Reached {
    pub(crate) fn note(&self, revision: u64) {
        let mut far = self.far();
        far.revision = revision.max(far.revision);
        self.told.send_replace(far.revision);
        self.moved.notify_all();
    }

    /// Whether this revision is there, and `None` if it may come. `is_behind` is what the store says: alone it means little, as what has
    /// broken off for a moment begins again within the time that is waited.
    fn is_there(&self, revision: u64, is_behind: bool) -> Option<bool> {
        let far = self.far();
        match (far.revision >= revision, is_behind && far.missed > far.revision) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// Waits until this revision is there; false when it does not come.
    fn wait(&self, revision: u64, patience: Duration) -> bool {
        let waited = self.moved.wait_timeout_while(self.far(), patience, |far| far.revision < revision);
        let (mut far, _) = waited.unwrap_or_else(PoisonError::into_inner);
        far.settle(revision)
    }

    /// The same, without a thread.
    async fn until(&self, revision: u64, patience: Duration) -> bool {
        let mut told = self.told.subscribe();
        // Whether it came in time is seen below.
        let _ = tokio::time::timeout(patience, told.until(|reached| *reached >= revision)).await;
        self.far().settle(revision)
    }

    fn far(&self) -> MutexGuard<'_, Far> {
        self.far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Far {
    /// Whether a revision is there that was waited for.
    fn settle(&mut self, revision: u64) -> bool {
        let there = self.revision >= revision;
        if !there {
            self.missed = self.missed.max(revision);
        }
        there
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
        self.wait_for(self.last_revision()?)
    }

    /// Revision of the last change that anybody, at whatever node, has been told was made. May block. Asked of shared stores alone.
    pub fn last_revision(&self) -> Result<u64, StoreError> {
        self.store.last_revision()
    }

    /// Waits until this revision is there, as [`Self::catch_up`] does, and takes no thread for it.
    pub async fn reach(&self, revision: u64) -> Result<(), StoreError> {
        let there = self.reached.is_there(revision, self.is_behind());
        let there = match there {
            Some(there) => there,
            None => self.reached.until(revision, PATIENCE).await,
        };
        if there { Ok(()) } else { Err(missing(revision)) }
    }

    fn wait_for(&self, revision: u64) -> Result<(), StoreError> {
        let there = self.reached.is_there(revision, self.is_behind());
        let there = there.unwrap_or_else(|| self.reached.wait(revision, PATIENCE));
        if there { Ok(()) } else { Err(missing(revision)) }
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

/// Others were told of it, and it does not come.
fn missing(revision: u64) -> StoreError {
    StoreError::Away {
        place: "the cluster's store".to_owned(),
        reason: format!("revision {revision} is there, but does not come to this node"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Or every read is as late as the first for as long as a node does not follow, and each of those on a thread has that as long.
    #[tokio::test(start_paused = true)]
    async fn what_was_waited_for_in_vain_is_not_waited_for_again_until_something_comes() {
        let reached = Reached::default();
        reached.note(3);
        assert_eq!(reached.is_there(3, true), Some(true));
        // What has broken off may begin again: nobody has waited yet.
        assert_eq!(reached.is_there(4, true), None);
        let begun = Instant::now();
        assert!(!reached.until(4, PATIENCE).await);
        assert_eq!(begun.elapsed(), PATIENCE);
        for revision in [4, 9] {
            assert_eq!(reached.is_there(revision, true), Some(false));
            assert_eq!(reached.is_there(revision, false), None, "it comes in again");
        }
        reached.note(4);
        assert_eq!(reached.is_there(4, true), Some(true));
        assert_eq!(reached.is_there(5, true), None);
        assert!(!reached.wait(5, Duration::ZERO));
        assert_eq!(reached.is_there(5, true), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_is_told_to_all_who_wait() {
        let reached = Reached::default();
        let begun = Instant::now();
        let (one, other, ()) = tokio::join!(reached.until(1, PATIENCE), reached.until(2, PATIENCE), async {
            reached.note(2);
        });
        assert!(one && other && begun.elapsed().is_zero());
    }
}
