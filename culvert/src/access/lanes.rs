//! One queue for all who ask, in which each caller or tenant stands once: what it asks besides waits behind its own, and not before others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long one waits for those before it: a batch of a hundred thousand peers takes some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Lanes {
    all: Arc<Semaphore>,
    /// Of those who wait: each for one of them at a time.
    own: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Lanes {
    /// To so many units of something.
    pub(crate) fn new(units: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(units)), own: Mutex::default() }
    }

    /// Waits until so many units are there for this caller. `None` if it takes too long.
    pub(crate) async fn turn(&self, caller: &str, units: u32) -> Option<OwnedSemaphorePermit> {
        let lane = self.lane(caller);
        let turn = async {
            // Never closed, so there is no other error than the time.
            let _place = lane.acquire().await;
            Arc::clone(&self.all).acquire_many_owned(units).await
        };
        timeout(PATIENCE, turn).await.ok()?.ok()
    }

    fn lane(&self, caller: &str) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = own.get(caller).and_then(Weak::upgrade) {
            return lane;
        }
        // There are no more than those who wait.
        own.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Semaphore::new(1));
        own.insert(caller.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(turn: &mut (impl Future + Unpin)) -> bool {
        tokio::select! {
            biased;
            _ = turn => false,
            () = std::future::ready(()) => true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_much_waits_behind_itself_and_nobody_waits_for_ever() {
        let lanes = Lanes::new(1);
        let first = lanes.turn("a", 1).await.unwrap();
        assert!(lanes.turn("b", 1).await.is_none());
        let [mut second, mut third, mut other] = ["a", "a", "b"].map(|who| Box::pin(lanes.turn(who, 1)));
        assert!(waits(&mut second).await && waits(&mut third).await && waits(&mut other).await);
        drop(first);
        let second = second.await.unwrap();
        assert!(waits(&mut third).await && waits(&mut other).await);
        drop(second);
        assert!(waits(&mut third).await, "the other one has asked before it was its turn to");
        let other = other.await.unwrap();
        assert!(waits(&mut third).await);
        drop(other);
        drop(third.await.unwrap());
        assert!(lanes.turn("c", 1).await.is_some());
        assert_eq!(lanes.own.lock().unwrap().len(), 1, "of those who wait no more nothing is kept");
    }
}
