//! How much of requests the node holds at a time, over all who ask: what has come of them so far, and what is made of it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::access::lanes::Lanes;
use crate::access::ledger::{Entry, Ledger};

/// Octets of a request that count for nothing, as HTTP/2 holds as many for every one; and what it may be worth in memory without
/// waiting for others. What people and programs ask all the time is less.
const SMALL: usize = 64 << 10;
/// Octets of all requests that are still coming or are being served: four batches of the largest kind.
const MAX_RECEIVED: usize = 256 << 20;
/// Those of one caller, or one tenant: a batch of the largest kind, and what else it asks meanwhile.
const MAX_RECEIVED_OF_ONE: usize = 80 << 20;
/// What is worth more in memory is served one at a time.
const LARGE: usize = 16 << 20;
/// What all others are worth together that are being served: four that are just not large.
const MAX_SERVED: usize = 4 * LARGE;
/// In this many octets it is counted, as a semaphore counts to 2^32 and no further.
const UNIT: usize = 1 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    received: Arc<Ledger>,
    large: Lanes,
    served: Lanes,
}

/// What has come of a request, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    octets: usize,
    /// Of them, those that count.
    counted: Entry,
}

impl Default for Budget {
    fn default() -> Self {
        let received = Ledger::new(MAX_RECEIVED, MAX_RECEIVED_OF_ONE);
        Self { received, large: Lanes::new(1), served: Lanes::new(MAX_SERVED / UNIT) }
    }
}

impl Budget {
    /// For a request of this caller.
    pub(crate) fn share(&self, caller: String) -> Share {
        Share { octets: 0, counted: Arc::clone(&self.received).entry(caller) }
    }

    /// Waits until what is worth so much in memory may be made for this caller. `None` if it takes too long.
    pub(crate) async fn turn(&self, caller: &str, weight: usize) -> Option<Option<OwnedSemaphorePermit>> {
        if weight <= SMALL {
            return Some(None);
        }
        let (of, units) =
            if weight > LARGE { (&self.large, 1) } else { (&self.served, weight.div_ceil(UNIT)) };
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        of.turn(caller, units).await.map(Some)
    }
}

impl Share {
    /// Whose it is.
    pub(crate) fn caller(&self) -> &str {
        self.counted.caller()
    }

    /// So many more have come. False if there is no room for them.
    pub(crate) fn grow(&mut self, octets: usize) -> bool {
        self.octets += octets;
        let more = self.octets.saturating_sub(SMALL + self.counted.count());
        self.counted.grow(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_more_than_a_share_and_all_together_no_more_than_there_is() {
        let budget = Arc::new(Budget::default());
        let mut one = budget.share("a".to_owned());
        assert!(one.grow(64 << 20));
        let mut other = budget.share("a".to_owned());
        assert!(other.grow(SMALL) && !other.grow(64 << 20), "its share is used up");
        let mut rest: Vec<_> = ["b", "c", "d", "e"].map(|who| budget.share(who.to_owned())).into();
        let room = rest.iter_mut().filter_map(|share| share.grow(64 << 20).then_some(())).count();
        assert_eq!(room, 3);
        assert!(budget.share("f".to_owned()).grow(SMALL), "what is small is always taken");
    }

    #[tokio::test(start_paused = true)]
    async fn large_ones_are_served_one_at_a_time_and_small_ones_at_once() {
        let budget = Arc::new(Budget::default());
        let large = budget.turn("a", 1 << 30).await.unwrap();
        assert!(budget.turn("a", LARGE + 1).await.is_none(), "it waits, and not for ever");
        let some: Vec<_> = [budget.turn("a", LARGE).await, budget.turn("a", LARGE).await].into();
        assert!(some.iter().all(Option::is_some) && budget.turn("a", SMALL).await.is_some());
        drop(large);
        assert!(budget.turn("a", LARGE + 1).await.is_some());
    }
}
