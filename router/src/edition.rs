//! Which edition of a tenant's routes there is.
//!
//! Whoever keeps what a look-up found keeps the edition with it, read before the look-up, and looks again once it is another. So a
//! packet that is like the one before costs a load from memory in place of a look-up, and a change of routes counts from the next
//! packet on, as it does without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::prefetch::fetch;

/// Counts the changes of what decides where a tenant's packets go: its routes, its policy, and which tunnels have a pair.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edition(Arc<AtomicU64>);

impl Edition {
    /// The edition there is. What is read after this is at least as new.
    pub(crate) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Fetches what [`Edition::current`] reads.
    pub(crate) fn fetch(&self) {
        fetch(&*self.0);
    }

    /// Something has changed. Called after the change: who reads between the two keeps the new under the old number, which
    /// costs a look-up and no more.
    pub(crate) fn next(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}
