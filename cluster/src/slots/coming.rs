//! Slots that come to this node, for as long as what is in them does not go on here yet.
//!
//! Nobody can be told of such a slot: whoever asks what is in it hears of what has begun by then. So it gets no standby, and is neither given
//! on nor put away, before it has come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long one is waited for: more than twice of what a node with ten thousand tunnels is given to begin with them (`BEGUN` of `actors`).
const LONGEST: Duration = Duration::from_secs(5);

/// Those that come now.
#[derive(Default)]
pub(super) struct Comings {
    /// By number: one may come by two ways at once.
    slots: Mutex<Vec<u8>>,
    /// One has come, or does not.
    ended: Notify,
}

/// That a slot comes, until this is dropped.
pub(super) struct Coming {
    of: Arc<Comings>,
    slot: u8,
}

impl Comings {
    /// A slot comes, or may: to be called before it is this node's.
    pub(super) fn begin(self: &Arc<Self>, slot: u8) -> Coming {
        self.slots().push(slot);
        Coming { of: Arc::clone(self), slot }
    }

    pub(super) fn has(&self, slot: u8) -> bool {
        self.slots().contains(&slot)
    }

    /// Waits until a slot has come: false if that takes too long.
    pub(super) async fn until_come(&self, slot: u8) -> bool {
        let come = self.until(|slots| !slots.contains(&slot));
        tokio::time::timeout(LONGEST, come).await.is_ok()
    }

    /// Waits until none comes any more.
    pub(super) async fn until_none(&self) {
        self.until(<[u8]>::is_empty).await;
    }

    async fn until(&self, holds: impl Fn(&[u8]) -> bool) {
        loop {
            let ended = self.ended.notified();
            if holds(&self.slots()) {
                return;
            }
            ended.await;
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<u8>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coming {
    pub(super) const fn slot(&self) -> u8 {
        self.slot
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut slots = self.of.slots();
        if let Some(at) = slots.iter().position(|slot| *slot == self.slot) {
            slots.swap_remove(at);
        }
        drop(slots);
        self.of.ended.notify_waiters();
    }
}
